"""What goes wrong around a capture is said clearly, and costs no trade."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from cryptolake.capture.landing import GAPS, REJECTS, TRADES
from cryptolake.capture.spool import FILE
from cryptolake.replay.venues.generated import STARTS_AT, generate
from cryptolake.replay.venues.server import VenueServer
from cryptolake.replay.venues.tape import Tape, Track
from tests.capture.streams import open_lake as open_local
from tests.cli.commands import Shell
from tests.cli.test_stopping import STOPPED, on_a_terminal, plain, shown_raw
from tests.cli.test_stream import BTC, QUICKLY
from tests.cli.venues import until

pytestmark = pytest.mark.slow

COUNT = 6_000
HELD = """
    select count(*) as copies, count(distinct trade_id) as trades, min(trade_id) as first, max(trade_id) as last
    from bronze.realtime_trades where symbol = '{}'
"""


def tape(starts_at=STARTS_AT, first_id: int | None = None) -> Tape:
    """Return made-up trades of BTCUSDT; their ids begin with *first_id*, where it is given."""
    made = generate(COUNT, instruments={"binance": ["BTCUSDT"]}, starts_at=starts_at)
    if first_id is None:
        return made
    [track] = made.tracks
    place = track.rows.schema.get_field_index("trade_id")
    ids = pa.array(range(first_id, first_id + COUNT), pa.int64())
    rows = track.rows.set_column(place, track.rows.schema.field(place), ids)
    return Tape("relisted", [Track(track.venue, track.symbol, rows)], is_generated=True)


def shell_at(home: Path, capfd, venues: VenueServer, **others: str) -> Shell:
    """Return a shell whose trades come from *venues*."""
    return Shell(home, None, capfd, venues, {**QUICKLY, **others})


def held(shell: Shell, symbol: str = "BTCUSDT") -> dict[str, int]:
    """Return what bronze has of *symbol*."""
    [row] = shell("query", HELD.format(symbol), "-f", "json").json
    return row


def is_whole(shell: Shell, venues: VenueServer, symbol: str = "BTCUSDT") -> bool:
    """Say whether every trade of *venues* is in bronze, once."""
    ids = venues.tape.tracks[0].ids
    return held(shell, symbol) == {"copies": COUNT, "trades": COUNT, "first": ids[0], "last": ids[-1]}


def warnings(err: str) -> list[dict[str, str]]:
    """Return what was logged as a warning or an error."""
    said = [json.loads(line) for line in err.splitlines()]
    return [event for event in said if event["level"] in {"warning", "error"}]


def lock(home: Path) -> sqlite3.Connection:
    """Lock the catalog of *home*, until the connection is closed."""
    catalog = sqlite3.connect(home / "catalog.db", isolation_level=None)
    catalog.execute("begin immediate")
    return catalog


def impatient(home: Path) -> dict[str, str]:
    """Return settings of the same lake that do not wait long for a lock of its catalog."""
    return {
        "CRYPTOLAKE_CATALOG__TYPE": "sql",
        "CRYPTOLAKE_CATALOG__URI": f"sqlite:///{home}/catalog.db?timeout=0.2",
        "CRYPTOLAKE_CATALOG__WAREHOUSE": f"file://{home}/warehouse",
    }


def killed_while_nothing_lands(shell: Shell, venues: VenueServer) -> None:
    """Leave a spool whose trades have not landed: the catalog is locked while they come, and then the capture is killed."""
    make_lake(shell.home)
    with closing(lock(shell.home)):
        process = shell.start("stream", "--json")
        assert venues.finished.wait(60)
        until(lambda: spooled(shell.home) >= COUNT)
        process.send_signal(signal.SIGKILL)
        process.communicate()


def make_lake(home: Path) -> None:
    """Make a lake with empty tables at *home*."""
    with open_local(home) as lake:
        for table in (TRADES, GAPS, REJECTS):
            lake.ensure(table)


def spooled(home: Path) -> int:
    """Return how many trades wait in the spool."""
    with closing(sqlite3.connect(home / "spool" / FILE)) as spool:
        return spool.execute("select coalesce(sum(trades), 0) from block").fetchone()[0]


def spoil(spool: Path, chance: random.Random) -> None:
    """Overwrite half a page of a spool, wherever that is."""
    with closing(sqlite3.connect(spool)) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    content = bytearray(spool.read_bytes())
    at = chance.randrange(0, len(content) - 2048)
    content[at : at + 2048] = chance.randbytes(2048)
    spool.write_bytes(content)


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.deep)])
def test_a_spool_that_is_damaged_is_set_aside_and_no_trade_is_lost(tmp_path, capfd, seed):
    """It is said what was saved; what cannot be read any more is fetched, and every trade is in the lake once."""
    with VenueServer.open(tape(), waits_for=2) as venues:
        shell = shell_at(tmp_path / "home", capfd, venues)
        killed_while_nothing_lands(shell, venues)
        spool = shell.home / "spool" / FILE
        spoil(spool, random.Random(seed))
        said = shell("stream", "--for", "3s")
        assert said.status == 0, said.err
        assert is_whole(shell, venues)
        [told] = [event for event in warnings(said.err) if event["event"] == "spool.rebuilt"]
        assert f"the spool {spool} is damaged" in told["reason"]
        assert "was set aside as" in told["done"]


def test_a_catalog_that_another_process_has_locked_costs_no_trade(tmp_path, capfd):
    """They wait in the spool, the capture says so and ends with 1; the next one brings them in."""
    with VenueServer.open(tape(), waits_for=2) as venues:
        home = tmp_path / "home"
        shell = shell_at(home, capfd, venues, **impatient(home))
        make_lake(home)
        with closing(lock(home)):
            said = shell("stream", "--for", "2s")
        assert said.status == 1, said.err
        assert (
            "not yet in the lake: 6,000 trades, kept in the spool for the next `cryptolake stream`"
            in said.out
        )
        first, *_, last = warnings(said.err)
        assert (first["event"], "database is locked" in first["reason"]) == ("lake.down", True)
        assert (last["event"], last["path"]) == ("spool.kept", str(shell.home / "spool" / FILE))
        assert shell("stream", "--for", "1s").status == 0
        assert is_whole(shell, venues)


def test_a_second_ctrl_c_ends_a_stream_that_drains(tmp_path, capfd):
    """At once, with the status of the signal and the cursor back; what was acknowledged is there for the next one."""
    with VenueServer.open(tape(), waits_for=2) as venues:
        shell = shell_at(tmp_path / "home", capfd, venues)
        make_lake(shell.home)
        with closing(lock(shell.home)):
            process, terminal = on_a_terminal(shell, "stream")
            screens = shown_raw(terminal)
            assert venues.finished.wait(60)
            until(lambda: spooled(shell.home) >= COUNT)
            os.write(terminal, b"\x03")
            assert any(b"once more to stop at once" in screen for screen in screens)
            os.write(terminal, b"\x03")
            *_, last = screens
            assert process.wait() == 130
        assert plain(last).endswith(STOPPED.replace("\n", "\r\n"))
        assert last.rfind(b"\x1b[?25h") > last.rfind(b"\x1b[?25l")
        assert shell("stream", "--for", "1s").status == 0
        assert is_whole(shell, venues)


def test_a_stream_that_nobody_reads_ends_with_its_own_status(tmp_path, capfd):
    """A summary that cannot be printed hides neither that the lake was down, nor ends the capture before its time."""
    with VenueServer.open(tape(), waits_for=2) as venues:
        home = tmp_path / "home"
        shell = shell_at(home, capfd, venues, **impatient(home))
        make_lake(shell.home)
        with closing(lock(shell.home)):
            process = shell.start("stream")
            process.stdout.close()
            assert venues.finished.wait(60)
            until(lambda: spooled(shell.home) >= COUNT)
            process.send_signal(signal.SIGTERM)
            with process.stderr as errors:
                said = errors.read()
            assert process.wait() == 1, said
        assert "BrokenPipe" not in said
        assert {event["event"] for event in warnings(said)} == {"lake.down", "spool.kept"}


def test_a_symbol_that_is_listed_anew_is_refused_until_it_has_a_name_of_its_own(tmp_path, capfd):
    """Its ids begin again: the message says what to set, nothing is mixed, and with the alias every trade is taken."""
    home, alias = tmp_path / "home", {"CRYPTOLAKE_CAPTURE__ALIASES": f"{BTC}=BTCUSDT#2"}
    with VenueServer.open(tape(), waits_for=2) as old:
        before = shell_at(home, capfd, old)
        assert before("stream", "--for", "1s").status == 0
        assert is_whole(before, old)
    relisted = tape(STARTS_AT + timedelta(days=30), first_id=1)
    with VenueServer.open(relisted, waits_for=2) as new:
        shell = shell_at(home, capfd, new)
        said = shell("stream", "--for", "1s")
        refused = [event for event in warnings(said.err) if event["event"] == "trades.rejected"]
        assert (said.status, bool(refused)) == (0, True), said.err
        assert "capture.aliases = {'binance:BTCUSDT': 'BTCUSDT#2'}" in refused[0]["reason"]
        assert is_whole(shell, old)
        kept = shell(
            "query", "select distinct trade_id from bronze.rejects where symbol = 'BTCUSDT'", "-f", "csv"
        )
        assert len(kept.out.split()) == 1 + COUNT
    with VenueServer.open(relisted, waits_for=2) as new:
        shell = shell_at(home, capfd, new, **alias)
        said = shell("stream", "--for", "1s")
        assert (said.status, f" {BTC}#2 " in said.out, f" {BTC} " in said.out) == (0, True, False)
        assert shell("coverage", "--instrument", f"{BTC}#2", "--json").json["instruments"][0]["is_captured"]
        assert is_whole(shell, new, "BTCUSDT#2")
        assert is_whole(shell, old)


def test_a_symbol_that_the_venue_does_not_have_is_warned_of(tmp_path, capfd):
    """The others are captured all the same, and the summary says of which one nothing came."""
    with VenueServer.open(tape(), waits_for=2) as venues:
        shell = shell_at(tmp_path / "home", capfd, venues)
        said = shell("stream", "--for", "2s", "--instruments", f"{BTC},binance:NOPEUSDT")
        assert said.status == 0, said.err
        assert is_whole(shell, venues)
    [told] = [event for event in warnings(said.err) if event["event"] == "instrument.unknown"]
    assert (told["instrument"], "as the venue spells it" in told["reason"]) == ("binance:NOPEUSDT", True)
    assert "nothing was received of binance:NOPEUSDT\n" in said.out
    assert "the venue knows no trade of binance:NOPEUSDT; write it as the venue spells it\n" in said.out


def test_a_capture_that_got_nothing_is_no_coverage(tmp_path, capfd):
    """The tables are there, and empty: `coverage` says that nothing was captured, and exits with 1."""
    with VenueServer.open(tape(), waits_for=None) as silent:
        shell = shell_at(tmp_path / "home", capfd, silent)
        assert shell("stream", "--for", "1s").status == 0
        said = shell("coverage")
    assert said.status == 1
    assert "nothing captured" in said.out + said.err
