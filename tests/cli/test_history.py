"""`backfill` loads past days and goes on where it was; `coverage` says what is held, and exits accordingly."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cryptolake.replay import faults
from cryptolake.replay.answers import Request
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.server import VenueServer
from tests.capture.streams import written
from tests.cli.commands import Shell
from tests.cli.test_stopping import STOPPED, on_a_terminal, shown_on

pytestmark = pytest.mark.slow

BTC = "binance:BTCUSDT"
A_DAY, DAYS = 60, 4
BEGINS = datetime(2024, 8, 1, tzinfo=UTC)
COUNT = """
    select count(*) as copies, count(distinct trade_id) as trades
    from bronze.realtime_trades where venue = 'binance'
"""


def opened() -> VenueServer:
    """Open a venue with about 60 trades of an instrument on each of four days, all of them published."""
    tape = generate(
        A_DAY * DAYS,
        seed=1,
        instruments={"binance": ["BTCUSDT"]},
        starts_at=BEGINS,
        trades_per_second=A_DAY / 86_400,
    )
    server = VenueServer.open(tape)
    server.publish(len(tape))
    return server


@pytest.fixture
def venues() -> Iterator[VenueServer]:
    """A venue of this test alone."""
    with opened() as server:
        yield server


@pytest.fixture
def shell(tmp_path, venues, capfd) -> Shell:
    """A shell whose home does not exist yet."""
    return Shell(tmp_path / "home", None, capfd, venues)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Iterator[Shell]:
    """A shell with the second and the third day."""
    with opened() as server:
        shell = Shell(tmp_path_factory.mktemp("filled"), None, None, server)
        assert backfill(shell, 2, 3).status == 0
        yield shell


@pytest.fixture
def filled_shell(filled, capfd) -> Shell:
    """A shell with trades that the command must not change."""
    return Shell(filled.home, None, capfd, filled.venues)


def backfill(shell: Shell, first: int, last: int, *arguments: str, instrument: str = BTC):
    """Backfill from the *first* to the *last* day of August 2024."""
    span = ["--from", f"2024-08-{first:02}", "--to", f"2024-08-{last:02}"]
    return shell("backfill", "--instrument", instrument, *span, *arguments)


def coverage(shell: Shell, first: int, last: int, *arguments: str):
    """Ask for the coverage from the *first* to the *last* day of August 2024."""
    return shell("coverage", "--from", f"2024-08-{first:02}", "--to", f"2024-08-{last:02}", *arguments)


def made(venues: VenueServer, *days: int) -> int:
    """Return how many trades of BTCUSDT were made on *days* of August 2024."""
    track = venues.tape.of("binance")[0]
    dates = [(BEGINS + timedelta(microseconds=us - BEGINS.timestamp() * 1e6)).day
             for us in track.rows["traded_at_us"].to_pylist()]  # fmt: skip
    return sum(date in days for date in dates)


def trades(shell: Shell) -> tuple[int, int]:
    """Return how many copies and how many trades are in bronze."""
    [row] = shell("query", COUNT, "-f", "json").json
    return row["copies"], row["trades"]


def test_days_that_are_backfilled_are_complete(filled_shell):
    """Their neighbours are fetched too; `coverage` builds its tables itself; asking again adds nothing."""
    days = made(filled_shell.venues, 2), made(filled_shell.venues, 3)
    said = coverage(filled_shell, 2, 3, "--instrument", BTC)
    assert said.status == 0, said.out + said.err
    for day, count in enumerate(days, start=2):
        assert re.search(rf"{BTC} +2024-08-0{day} +{count} +\d+–\d+ +0 +0 +0 +yes", said.out)
    again = backfill(filled_shell, 2, 3, "--json")
    assert (again.status, again.json["trades_added"], again.json["skipped"]) == (0, 0, 2)
    assert trades(filled_shell) == (sum(days) + 2,) * 2


def test_a_day_that_is_over_and_was_not_backfilled_is_incomplete(filled_shell):
    """The days are inclusive, and the exit status is 1 for the first one, of which one neighbour is held."""
    days = made(filled_shell.venues, 2), made(filled_shell.venues, 3)
    said = coverage(filled_shell, 1, 3, "--json", "--instrument", BTC)
    [instrument] = said.json["instruments"]
    told = {d["traded_date"]: (d["trade_count"], d["is_complete"], d["why"]) for d in instrument["days"]}
    assert (said.status, said.json["exit_status"]) == (1, 1)
    assert told == {
        "2024-08-01": (1, False, "the trade before its first is not held"),
        "2024-08-02": (days[0], True, ""),
        "2024-08-03": (days[1], True, ""),
    }
    assert "1 day over and not complete" in coverage(filled_shell, 1, 3, "--instrument", BTC).out
    assert filled_shell("coverage").status == 0


def test_an_instrument_that_was_never_captured_is_said(shell, filled_shell):
    """Exit status 1, by name; where there are no trades at all, what to run first."""
    nothing = shell("coverage")
    assert (nothing.status, "`cryptolake stream` captures them" in nothing.out) == (1, True)
    assert not shell.home.exists()
    assert shell("coverage", "--json").json == {"instruments": [], "exit_status": 1}
    said = filled_shell("coverage", "--instrument", "okx:BTC-USDT")
    assert (said.status, said.out) == (1, "okx:BTC-USDT: nothing captured\n")


def test_bars_are_held_against_those_of_the_venue(filled_shell):
    """`check --with-venue` says how many minutes agree; only the result is kept."""
    assert filled_shell("transform").status == 0
    said = filled_shell("check", "--with-venue", "--layer", "silver", "--json")
    [result] = [r for r in said.json if r["check_name"] == "bars_equal_venue_klines"]
    assert (result["status"], result["metric_value"]) == ("passed", 0.0), result
    assert re.search(rf"{BTC}: \d+ minutes compared, 2024-08-0", result["message"])
    shown = filled_shell("check", "--with-venue", "--layer", "silver").out
    assert result["message"] in shown


def test_a_venue_that_does_not_answer_is_an_error_of_the_check(filled_shell):
    """It is not said that bars agree where nobody could be asked, nor that they differ."""
    assert filled_shell("transform").status == 0
    nobody = {"CRYPTOLAKE_SOURCES__BINANCE__REST_URL": f"{filled_shell.venues.rest_url('binance')}/nowhere"}
    said = filled_shell("check", "--with-venue", "--layer", "silver", "--json", env=nobody)
    [result] = [r for r in said.json if r["check_name"] == "bars_equal_venue_klines"]
    assert (said.status, result["status"]) == (1, "error"), result


@pytest.mark.parametrize(
    ("unreadable", "status", "incomplete"), [((), 0, []), ((4,), 1, ["2024-08-03", "2024-08-04"])]
)
def test_a_backfill_and_coverage_agree_on_every_run(tmp_path, capfd, unreadable, status, incomplete):
    """A quiet day is complete, and one with a record that cannot be read is not; neither is asked for again."""
    moments = [BEGINS + timedelta(days=n, hours=hour) for n in (0, 2, 3, 4) for hour in (1, 2)]
    with VenueServer.open(written(moments, unreadable=unreadable)) as venues:
        venues.publish(len(moments))
        shell = Shell(tmp_path / "home", None, capfd, venues)
        once, again = (backfill(shell, 2, 4, "--json") for _ in range(2))
        said = backfill(shell, 2, 4)
        covered = coverage(shell, 2, 4, "--instrument", BTC, "--json")
    assert [r.json["incomplete"] for r in (once, again)] == [incomplete] * 2
    assert (again.json["skipped"], again.json["trades_read"], again.json["without"]) == (3, 0, [])
    [instrument] = covered.json["instruments"]
    assert [d["traded_date"] for d in instrument["days"] if not d["is_complete"]] == incomplete
    assert {r.status for r in (once, again, said, covered)} == {status}
    assert all(day in said.out for day in incomplete)


def test_the_status_shows_what_was_captured(filled_shell):
    """Trades, the newest one, and open gaps, per instrument."""
    coverage(filled_shell, 2, 2)
    count = made(filled_shell.venues, 2, 3) + 2
    said = filled_shell("status")
    assert re.search(rf"{BTC} +{count} +2024-08-04 00:\d\d:\d\d +0 +0", said.out)


def test_a_backfill_that_is_stopped_goes_on(shell, venues):
    """Ctrl-C ends it at once; the next one loads the rest, and nothing twice."""
    asked, released = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if "2024-08-03" in request.path:
            asked.set()
            assert released.wait(15)

    venues.inject(hold)
    process = shell.start("backfill", "--instrument", BTC, "--from", "2024-08-02", "--to", "2024-08-03")
    try:
        assert asked.wait(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        released.set()
    assert (process.returncode, out, err.splitlines()[-1] + "\n") == (130, "", STOPPED)
    venues.inject(())
    assert backfill(shell, 2, 3).status == 0
    assert trades(shell) == (made(venues, 2, 3) + 2,) * 2


def test_a_terminal_shows_how_far_a_backfill_is(shell, venues):
    """A bar with days done, trades and a rate; then the summary alone."""
    asked, released = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if "2024-08-03" in request.path:
            asked.set()
            assert released.wait(15)

    venues.inject(hold)
    arguments = ("--instrument", BTC, "--from", "2024-08-02", "--to", "2024-08-03")
    bar = r"2024-08-02 .* 1/2 days +\d+ trades +[\d,]+ a second"
    process, terminal = on_a_terminal(shell, "backfill", *arguments)
    screens = shown_on(terminal)
    assert asked.wait(30)
    assert any(re.search(bar, screen) for screen in screens)
    released.set()
    last = list(screens)[-1]
    assert process.wait() == 0
    assert f"{BTC}: {made(venues, 2, 3) + 2} new trades" in last


def test_a_checksum_that_stays_wrong_is_refused(shell, venues):
    """It is fetched once more, then refused with the file's name; nothing of it lands."""
    venues.inject(lambda request: faults.html(200) if request.path.endswith(".CHECKSUM") else None)
    said = backfill(shell, 2, 2)
    assert (said.status, said.out) == (2, ""), said.err
    assert "BTCUSDT-trades-2024-08-02.zip" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--instrument", "bitstamp:BTCUSD"], "venues are binance, coinbase, kraken, okx"),
        (["--instrument", "binance:NOPE"], "binance knows no trades of 'NOPE'"),
        (["--to", "2024-08-01"], "--from 2024-08-02 is after --to 2024-08-01"),
        (["--from", "August"], "not a day: 'August'"),
        (["--to", "2030-01-01"], "2030-01-01 is not there yet"),
    ],
)
def test_what_cannot_be_backfilled_is_said(shell, arguments, said):
    """A wrong option is one clear message and exit status 2."""
    given = {"--instrument": BTC, "--from": "2024-08-02", "--to": "2024-08-02"}
    given |= dict([arguments])
    heard = shell("backfill", *(word for pair in given.items() for word in pair))
    lines = heard.err.splitlines()
    assert (heard.status, heard.out, said in lines[-1]) == (2, "", True), heard.err
    assert not any("Traceback" in line or "not expected" in line for line in lines)


@pytest.mark.parametrize(
    ("instrument", "said"),
    [
        ("bitstamp:BTCUSD", "venues are binance, coinbase, kraken, okx"),
        ("", "'' is not an instrument"),
        (f"{BTC},binance:ETHUSDT", "takes one instrument"),
    ],
)
def test_wrong_questions_about_coverage_are_explained(shell, instrument, said):
    """Unknown venues, no instrument or several, and days that are none."""
    unknown = shell("coverage", "--instrument", instrument)
    assert (unknown.status, said in unknown.err) == (2, True), unknown.err
    assert shell("coverage", "--from", "2024-08-02", "--to", "2024-08-01").status == 2


def test_an_instrument_that_nobody_declared_is_captured_with_a_warning(tmp_path, capfd):
    """Its trades are kept, and it has no coin."""
    tape = generate(60, instruments={"binance": ["PEPEUSDT"]}, starts_at=BEGINS, trades_per_second=10)
    with VenueServer.open(tape) as venues:
        venues.publish(60)
        shell = Shell(tmp_path / "home", None, capfd, venues)
        said = backfill(shell, 1, 1, instrument="binance:PEPEUSDT")
    events = [json.loads(line) for line in said.err.splitlines()]
    [warning] = [e for e in events if e["event"] == "instrument.undeclared"]
    assert (said.status, warning["instrument"], warning["level"]) == (0, "binance:PEPEUSDT", "warning")
    assert trades(shell) == (60, 60)


def test_a_lake_of_trades_alone_passes_its_checks(shell):
    """Tables of prices and index that nobody ever ingested are asked for no rows; the checks left out are not told as passed."""
    assert backfill(shell, 2, 3).status == 0
    assert shell("transform").status == 0
    said = shell("check", "--json")
    assert said.status == 0, [c for c in said.json if c["status"] != "passed"]
    names = {(c["table_name"], c["check_name"]) for c in said.json}
    assert ("bronze.fear_greed", "exists") in names
    assert not {("bronze.fear_greed", "row_count"), ("bronze.fear_greed", "freshness")} & names
