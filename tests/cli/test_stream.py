"""`stream` captures what the venues publish, ends when it is told to, and says what it came to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from cryptolake.capture.instruments import Instrument
from cryptolake.capture.lander import LandingState
from cryptolake.capture.snapshot import Pace, Snapshot
from cryptolake.capture.writer import InstrumentStats
from cryptolake.cli.live import summary
from cryptolake.demo import open_venues
from cryptolake.replay import faults
from cryptolake.replay.venues.server import VenueServer
from tests.cli.commands import SCRIPT, Shell, redirected, with_mounts
from tests.cli.test_stopping import on_a_terminal, shown_on
from tests.cli.venues import ROWS, short_tape, until

pytestmark = pytest.mark.slow

QUICKLY = {
    "CRYPTOLAKE_CAPTURE__COMMIT_SECONDS": "0.2",
    "CRYPTOLAKE_CAPTURE__AUDIT_SECONDS": "0.5",
    "CRYPTOLAKE_CAPTURE__REFRESH_SECONDS": "0",
}
BTC = "binance:BTCUSDT"
COUNTS = """
    select symbol, count(*) as copies, count(distinct trade_id) as trades
    from bronze.realtime_trades group by 1 order by 1
"""


@pytest.fixture
def venues() -> Iterator[VenueServer]:
    """Two instruments of 400 trades each, published as fast as two connections take them."""
    with open_venues(short_tape(), faults="", waits_for=2) as opened:
        yield opened


@pytest.fixture
def shell(tmp_path, venues, capfd) -> Shell:
    """A shell whose home does not exist yet, where trades are committed at once and bars are not made."""
    return Shell(tmp_path / "home", None, capfd, venues, QUICKLY)


def captured(shell: Shell) -> dict[str, tuple[int, int]]:
    """Return by symbol how many copies and how many trades are in bronze."""
    rows = shell("query", COUNTS, "-f", "json").json
    return {row["symbol"]: (row["copies"], row["trades"]) for row in rows}


def landing(process: subprocess.Popen[str]) -> list[str]:
    """Wait until a capture has landed something; return what it logged until then."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if json.loads(line)["event"] == "spool.landed":
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stream_that_is_told_to_stop_commits_what_it_has(shell, venues, number):
    """Ctrl-C, SIGTERM and SIGHUP drain and commit: the exit status is 0, and every trade is in the lake once."""
    process = shell.start("stream", "--json")
    assert venues.finished.wait(60)
    landing(process)
    process.send_signal(number)
    out, err = process.communicate()
    said = json.loads(out)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    assert [i["instrument"] for i in said["instruments"]] == [BTC, "binance:ETHUSDT"]
    assert (said["rows_landed"], said["in_spool"], said["open_ids"]) == (2 * ROWS, 0, 0)
    assert captured(shell) == {"BTCUSDT": (ROWS, ROWS), "ETHUSDT": (ROWS, ROWS)}


def test_a_stream_ends_after_a_while(shell):
    """`--for` is for schedulers; what is shown at the end is a line an instrument; a second one adds nothing."""
    said = shell("stream", "--for", "1s")
    assert said.status == 0, said.err
    assert re.search(rf"{BTC} +400 +2024-08-09 00:00:0\d", said.out)
    assert "800 trades landed in " in said.out
    assert {json.loads(line)["level"] for line in said.err.splitlines()} == {"info"}
    again = shell("stream", "--for", "1s", "--instruments", BTC, "--json")
    assert (again.status, [i["new"] for i in again.json["instruments"]]) == (0, [0])
    assert captured(shell) == {"BTCUSDT": (ROWS, ROWS), "ETHUSDT": (ROWS, ROWS)}


def test_before_any_check_the_status_says_so_once(shell):
    """A lake that only streams has no run and no check."""
    assert shell("stream", "--for", "1s").status == 0
    said = shell("status").out
    assert said.endswith("\nno check has run yet\n")
    assert "last run" not in said


def test_an_instrument_whose_trades_were_all_healed_is_not_silent(capfd):
    """Nothing came from its connections, and its trades are in the lake all the same."""
    counts = dict.fromkeys(InstrumentStats.__annotations__, 0)
    healed, silent = (
        InstrumentStats(**{**counts, "instrument": Instrument("binance", symbol, symbol), "new": new})
        for symbol, new in (("BTCUSDT", 5_000), ("NOPEUSDT", 0))
    )
    landing = LandingState(rows_landed=5_000, commits=1)
    summary(
        Snapshot(1.0, [Pace(healed, 0.0), Pace(silent, 0.0)], [], [], landing, 0, is_full=False),
        as_json=False,
    )
    assert "nothing was received of binance:NOPEUSDT\n" in capfd.readouterr().out


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_stream_that_cannot_log_captures_all_the_same(shell, redirection):
    """A standard error that is closed or full loses what is logged and nothing else; the status is the stream's own."""
    said = redirected(shell, redirection, "stream", "--for", "1s", "--json")
    assert (said.status, said.err, said.json["rows_landed"]) == (0, "", 2 * ROWS)


def test_a_stream_whose_log_nobody_reads_goes_on_until_it_is_told_to_stop(shell, venues):
    """As after `2>&1 >summary | head -1`: it captures, drains when it is told to, and prints its summary."""
    theirs, ours = os.pipe()
    process = shell.start("stream", "--json", stderr=ours)
    os.close(ours)
    assert os.read(theirs, 1)
    os.close(theirs)
    assert venues.finished.wait(60)
    until(
        lambda: (
            process.poll() is not None or sum(copies for copies, _ in captured(shell).values()) == 2 * ROWS
        )
    )
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert (process.returncode, json.loads(out)["rows_landed"]) == (0, 2 * ROWS)


def test_open_gaps_are_no_failure_of_a_stream(tmp_path, capfd):
    """An id that neither connection had and REST does not give is an open gap; the capture says so, and did its part."""
    tape = short_tape()
    gone = tape.tracks[0].ids[200]
    with VenueServer.open(tape, waits_for=2, unavailable={("binance", "BTCUSDT"): {gone}}) as venues:
        venues.inject(lambda _: faults.server_error())
        shell = Shell(tmp_path / "home", None, capfd, venues, QUICKLY)
        said = shell("stream", "--for", "1s")
    assert (said.status, "missing: 1 id in 1 gap, see `cryptolake coverage`" in said.out) == (0, True)


def test_a_second_stream_on_a_home_is_refused(shell, venues):
    """One capture owns the spool; the message names who has it. Other commands go on meanwhile."""
    process = shell.start("stream")
    assert venues.finished.wait(60)
    landing(process)
    said = shell("stream", "--for", "1s", "--json")
    assert (said.status, said.out) == (2, "")
    assert f"another capture (process {process.pid}) is running on {shell.home}" in said.err
    assert shell("status").status == 0
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0


def test_a_stream_tells_prometheus(shell, venues):
    """`--metrics-port` serves counts per instrument, the spool, commits and connections, on this machine alone."""
    process = shell.start("stream", "--metrics-port", "0")
    assert venues.finished.wait(60)
    [url] = [e["url"] for line in landing(process) if (e := json.loads(line))["event"] == "metrics.served"]
    assert url.startswith("http://127.0.0.1:")

    def metrics() -> str:
        return httpx2.get(url, trust_env=False).text

    counted = f'cryptolake_trades_new_total{{symbol="BTCUSDT",venue="binance"}} {float(ROWS)}'
    until(lambda: counted in metrics() and f"cryptolake_landed_rows_total {float(2 * ROWS)}" in metrics())
    told = metrics()
    for name in (
        "trades_received_total",
        "trades_duplicate_total",
        "trades_rejected_total",
        "trade_lag_seconds",
        "gaps_opened_total",
        "gaps_closed_total",
        "gaps_open",
        "spool_rows",
        "spool_bytes",
        "commit_seconds_count",
        "reconnects_total",
    ):
        assert re.search(rf"^cryptolake_{name}(\{{[^}}]*\}})? ", told, re.MULTILINE), name
    assert 'cryptolake_connections{state="open",venue="binance"} 2.0' in told
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0


def test_a_terminal_shows_a_capture_as_it_goes(shell):
    """Rate, lag and gaps an instrument; connections; the spool; the last commit; then the summary alone."""
    process, terminal = on_a_terminal(shell, "stream", "--for", "3s", env={"COLUMNS": "130"})
    screens = list(shown_on(terminal))
    assert process.wait() == 0, screens[-1]
    seen = screens[-1]
    assert re.search(rf"{BTC} +400 +\d+ +\d+ d \d+ h +00:00:0\d +400 +0 +0 +0 +0", seen)
    assert re.search(r"connection binance/0a to 127\.0\.0\.1:\d+: open for \d", seen)
    assert re.search(r"spool: 0 trades \(.*\), landed 800, last commit \d\d:\d\d:\d\d in ", seen)
    assert "healing binance: watching" in seen
    assert "800 trades landed in" in seen


def test_a_narrow_terminal_has_fewer_columns_and_cuts_no_number(shell):
    """What matters most stays: the name, the trades, and the ids that are missing."""
    process, terminal = on_a_terminal(shell, "stream", "--for", "3s", env={"COLUMNS": "60"})
    seen = list(shown_on(terminal))[-1]
    assert process.wait() == 0, seen
    rows = re.findall(rf"^ ?{BTC} .*$", seen, re.MULTILINE)
    assert rows
    assert all(re.fullmatch(r"\d[\d,.]*", cell) for row in rows for cell in row.split()[1:]), rows
    assert re.search(r"ids missing *\r?$", seen, re.MULTILINE)


def test_a_stream_on_a_terminal_says_that_it_stops(shell, venues):
    """Ctrl-C: the view goes on until everything is committed, and ends with the summary."""
    process, terminal = on_a_terminal(shell, "stream")
    screens = shown_on(terminal)
    assert any("landed 800" in screen for screen in screens)
    os.write(terminal, b"\x03")
    last = list(screens)[-1]
    assert process.wait() == 0
    assert "stopping: what was received is being committed; once more to stop at once" in last
    assert "800 trades landed in" in last


def test_a_stream_whose_terminal_is_closed_commits_what_it_has(shell):
    """As when an SSH session ends: what is drawn after that goes nowhere, and the exit status is 0."""
    process, terminal = on_a_terminal(shell, "stream")
    assert any("landed 800" in screen for screen in shown_on(terminal))
    os.close(terminal)
    assert process.wait(60) == 0
    assert captured(shell) == {"BTCUSDT": (ROWS, ROWS), "ETHUSDT": (ROWS, ROWS)}


def test_a_stream_under_nohup_outlives_its_session(shell, venues):
    """A SIGHUP that is ignored stops nothing: the SIGTERM after it is the first signal, not the second."""
    process = shell.start("stream", "--json", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert venues.finished.wait(60)
    landing(process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert (process.returncode, json.loads(out)["rows_landed"]) == (0, 2 * ROWS), err


def test_an_alias_of_an_instrument_that_is_left_out_does_not_matter(shell):
    """The settings have it for all; `--instruments` chooses some for once. In the settings themselves it is a slip."""
    relisted = {"CRYPTOLAKE_CAPTURE__ALIASES": "binance:LUNAUSDT=LUNAUSDT#2"}
    said = shell("stream", "--for", "0s", "--instruments", BTC, env=relisted)
    assert said.status == 0, said.err
    refused = shell("stream", "--for", "0s", env=relisted)
    assert (refused.status, "'binance:LUNAUSDT', which is not captured" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--instruments", "bitstamp:BTCUSD"], "venues are binance, coinbase, kraken, okx"),
        (["--instruments", "binanc:BTCUSDT"], "did you mean binance:BTCUSDT?"),
        (["--instruments", "BTCUSDT"], "instruments look like binance:BTCUSDT"),
        (["--for", "a while"], "not a length of time: 'a while'"),
        (["--for", ""], "not a length of time: ''"),
        (["--metrics-port", "99999"], "choose another port"),
    ],
)
def test_what_cannot_be_streamed_is_said(shell, arguments, said):
    """A wrong option is one clear message and exit status 2."""
    heard = shell("stream", *arguments)
    assert (heard.status, heard.out, said in heard.err) == (2, "", True), heard.err
    assert ("Traceback" in heard.err, "not expected" in heard.err) == (False, False)


def test_what_was_captured_can_be_replayed(shell, tmp_path, capfd):
    """`replay --from-lake` plays any captured range as its venue would; who captures that has the same trades."""
    shell("stream", "--for", "1s")
    process = shell.start(
        *("replay", "--port", "0", "--from-lake", shell.home, "--instrument", BTC),
        *("--from", "2024-08-08", "--to", "2024-08-08", "--speed", "max"),
    )
    lines = list(iter(process.stdout.readline, "  cryptolake stream\n"))
    variables = dict(line.split()[1].split("=", 1) for line in lines if line.startswith("  export "))
    assert lines[1].startswith("and 381 trades of the lake at")
    another = Shell(tmp_path / "another", None, capfd, None, {**QUICKLY, **variables})
    assert another("stream", "--for", "1s").status == 0
    process.send_signal(signal.SIGINT)
    process.communicate()
    columns = "trade_id, price, quantity, is_buyer_maker, traded_at"
    sql = f"select {columns} from bronze.realtime_trades where symbol = 'BTCUSDT' and traded_at < '2024-08-09' order by 1"
    assert len(another("query", sql, "-f", "json").json) == 381
    assert another("query", sql, "-f", "json").out == shell("query", sql, "-f", "json").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2024-08-08"], "add --from-lake FOLDER"),
        (["--from-lake", "nowhere"], "--from-lake needs at least one --instrument"),
        (["--from-lake", "nowhere", "--instrument", BTC], "there is no lake at"),
        (["--port", "99999"], "less than or equal to 65525"),
        (["--speed", "fast"], "not a speed: 'fast'; write a number, as in 1 or 10, or max"),
        (["--faults", "earthquake:1"], "there is no fault 'earthquake:1'"),
    ],
)
def test_what_cannot_be_replayed_is_said(shell, arguments, said):
    """A wrong option is one clear message and exit status 2."""
    heard = shell("replay", "--port", "0", *arguments)
    assert (heard.status, said in heard.err) == (2, True), heard.err


READ_ONLY = """
mount -t tmpfs tmpfs "$PLACE" && mount -o remount,ro "$PLACE" || exit 77
exec "$@"
"""


def test_a_home_that_cannot_be_written_is_refused(shell):
    """Nothing can be made durable there, so nothing is captured."""
    env = {**shell.variables, "PLACE": str(shell.home.parent)}
    said = with_mounts(READ_ONLY, SCRIPT, "stream", "--for", "1s", env=env)
    assert (said.status, said.out) == (2, ""), said.err
    assert "cannot be written" in said.err
    assert "set another `home`" in said.err


FILL_UP_THEN_MAKE_ROOM = """
mount -t tmpfs -o size=16384k tmpfs "$CRYPTOLAKE_HOME" || exit 77
head -c "$((16384 - FREE_KB))k" /dev/zero > "$CRYPTOLAKE_HOME/in-the-way"
"$1" stream --for 20s --json 2>"$CRYPTOLAKE_HOME/../said" ; echo "status $?"
rm "$CRYPTOLAKE_HOME/in-the-way"
"$1" stream --for 8s --json 2>/dev/null || exit 1
"$1" query -f jsonl "$2"
"""
A_SECOND_A_MINUTE = 60


def assert_expected(said: Path) -> None:
    """Demand of what was logged that the end of the writer has its reason, and no stack."""
    events = [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{")]
    for event in events:
        assert not {"exc_info", "exception"} & set(event), event
        assert event["event"] != "writer.failed" or "the disk is full" in event["reason"], event


@pytest.mark.parametrize("free_kb", [150, pytest.param(400, marks=pytest.mark.deep)])
def test_a_full_disk_ends_a_stream_and_loses_nothing(tmp_path, free_kb):
    """Exit status 2 and a message with the path and the free space; the next one has every trade, once."""
    home = tmp_path / "home"
    home.mkdir()
    with open_venues(faults="", waits_for=2, speed=A_SECOND_A_MINUTE) as venues:
        shell = Shell(home, None, None, venues, QUICKLY)
        said = with_mounts(
            FILL_UP_THEN_MAKE_ROOM, SCRIPT, COUNTS, env={**shell.variables, "FREE_KB": str(free_kb)}
        )
        sizes = {track.symbol: len(track) for track in venues.tape.tracks}
    first = (tmp_path / "said").read_text().splitlines()[-1]
    assert said.out.splitlines()[0] == "status 2", said.out + first
    assert re.search(rf"the disk is full: {home}.* has [\d,]+ bytes free", first), first
    assert_expected(tmp_path / "said")
    assert said.status == 0, said.out
    counts = [json.loads(line) for line in said.out.splitlines()[-2:]]
    assert {row["symbol"]: row["trades"] for row in counts} == sizes
