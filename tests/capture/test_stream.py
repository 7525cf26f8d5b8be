"""A capture over real sockets: what is delivered lands once, what is missed is found and fetched."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from cryptolake.clock import Clock
from cryptolake.errors import DiskFullError, OperatorError
from cryptolake.replay import faults
from cryptolake.replay.venues.server import VenueServer
from cryptolake.replay.venues.tape import Tape
from cryptolake.sources.venue import Places
from tests.capture.streams import QUICK, Streaming, gap_events, held, landed_ids, open_ids, places, rows, tape

UNHEALING = replace(QUICK, audit_seconds=60.0)
PAIRS = {"binance": ["BTCUSDT"], "coinbase": ["BTC-USD"], "kraken": ["BTC/USD"], "okx": ["BTC-USDT"]}


def ids(server, symbol="BTCUSDT"):
    """Return the ids of all trades of *symbol* on the tape."""
    return next(list(track.ids) for track in server.tape.tracks if track.symbol == symbol)


def beginning(made, trades):
    """Return a tape of one symbol cut off after so many *trades*."""
    [track] = made.tracks
    return Tape("beginning", [replace(track, rows=track.rows.slice(0, trades))], is_generated=True)


def is_steady(snapshot, replaced):
    """Say whether every line is open, and as many connections were *replaced*."""
    return {line.state for line in snapshot.lines} == {"open"} and sum(
        line.replaced for line in snapshot.lines
    ) == replaced


def test_every_trade_of_every_venue_lands_once(tmp_path):
    """Two connections deliver everything twice; bronze has it once, and there is no gap."""
    with VenueServer.open(tape(2_000, instruments=PAIRS, trades_per_second=4_000), waits_for=8) as server:
        with Streaming(tmp_path, server) as streaming:
            streaming.until_complete()
        for symbols in PAIRS.values():
            assert landed_ids(tmp_path, symbols[0]) == ids(server, symbols[0])
    assert streaming.last is not None
    assert {(line.name, line.problem) for line in streaming.last.lines} == {
        (f"{venue}/0{seat}", "") for venue in PAIRS for seat in "ab"
    }
    assert sum(pace.stats.duplicates for pace in streaming.last.instruments) > 0
    assert gap_events(tmp_path) == []


def test_a_connection_that_drops_is_covered_by_its_twin(tmp_path):
    """One connection may end at any moment: the other has its trades, so no gap opens."""
    with VenueServer.open(tape(3_000), trades_per_second=2_500, waits_for=2) as server:
        with Streaming(tmp_path, server, UNHEALING) as streaming:
            for times, host in enumerate((0, 1, 0)):
                streaming.until(lambda s, n=times: is_steady(s, replaced=n), "connected")
                before = server.published_count()
                streaming.until(lambda _, n=before: server.published_count() > n + 200, "published")
                server.disconnect_all(host=host, abruptly=True)
            streaming.until_complete()
        assert landed_ids(tmp_path) == ids(server)
    assert gap_events(tmp_path) == []


def test_a_venue_that_shuts_down_is_left_before_it_ends(tmp_path):
    """A successor is connected before its predecessor is ended by the venue, on both places at once: no gap."""
    with VenueServer.open(tape(3_000), trades_per_second=1_500, waits_for=2) as server:
        with Streaming(tmp_path, server, UNHEALING) as streaming:
            streaming.until_connected()
            server.shutdown_notice(grace_seconds=0.7)
            streaming.until(lambda s: all(line.replaced for line in s.lines), "replaced")
            streaming.until_complete()
        assert landed_ids(tmp_path) == ids(server)
    assert gap_events(tmp_path) == []


@pytest.mark.slow
def test_a_connection_that_stalls_is_replaced(tmp_path):
    """One that stays open and says nothing while its twin delivers is found out, and replaced."""
    with VenueServer.open(tape(3_000), trades_per_second=1_000, waits_for=2) as server:
        with Streaming(tmp_path, server, replace(UNHEALING, stall_seconds=0.4)) as streaming:
            streaming.until_connected()
            server.stall(host=0)
            streaming.until(lambda s: s.lines[0].replaced == 1, "replaced")
            streaming.until_complete()
        assert landed_ids(tmp_path) == ids(server)
    assert gap_events(tmp_path) == []


def test_a_tail_that_nobody_delivered_is_found_by_the_audit(tmp_path):
    """Where all connections are silent no later trade shows what is missing; the venue's head does."""
    with VenueServer.open(tape(600), waits_for=None) as server:
        with Streaming(tmp_path, server) as streaming:
            streaming.until_connected()
            server.publish(300)
            streaming.until_complete(300)
            server.stall()
            server.publish(300)
            streaming.until_complete()
        assert landed_ids(tmp_path) == ids(server)
    events = gap_events(tmp_path)
    assert events[0] == ("missing", "tail", None, 300)
    assert {event[:3] for event in events[1:]} == {("filled", "received", "rest")}
    assert open_ids(tmp_path) == set()


def test_what_was_traded_while_nothing_ran_is_fetched_at_the_start(tmp_path):
    """From the mark to the venue's head everything is a gap at a restart, though no live trade comes."""
    with VenueServer.open(tape(900), waits_for=None) as server:
        with Streaming(tmp_path, server) as streaming:
            streaming.until_connected()
            server.publish(300)
            streaming.until_complete(300)
        server.publish(600)
        with Streaming(tmp_path, server) as streaming:
            streaming.until(lambda s: s.healing[0].filled == 600, "healed")
        assert landed_ids(tmp_path) == ids(server)
    assert gap_events(tmp_path)[0] == ("missing", "restart", None, 600)
    assert open_ids(tmp_path) == set()


def test_whole_days_that_were_missed_come_from_the_archive_and_the_rest_by_rest(tmp_path):
    """What is over by the venue's own time is in a file; a file is asked for before ids are, the newest day first."""
    made = tape(4_000, trades_per_second=1_000 / 86_400)
    with VenueServer.open(made, waits_for=None) as server:
        with Streaming(tmp_path, server) as streaming:
            streaming.until_connected()
            server.publish(200)
            streaming.until_complete(200)
        server.publish(3_800)
        asked = len(server.requests)
        with Streaming(tmp_path, server) as streaming:
            streaming.until(lambda s: s.healing[0].filled == 3_800, "healed")
        assert landed_ids(tmp_path) == ids(server)
        files = [request.path[-14:-4] for request in server.requests[asked:] if request.path.endswith(".zip")]
    assert len(files) >= 2
    assert files == sorted(files, reverse=True)
    via = dict(rows(tmp_path, "select received_via, count(*) from bronze.realtime_trades group by all"))
    assert via["archive"] > via["rest"] > 0
    assert open_ids(tmp_path) == set()


def test_a_venue_that_asks_to_slow_down_is_left_alone_as_long_as_it_says(tmp_path):
    """After a 429 the next request comes when Retry-After is over; then the gap is healed."""
    asked_at = []

    def refuse_once(_):
        asked_at.append(time.monotonic())
        return faults.too_many_requests("1") if len(asked_at) == 1 else None

    with VenueServer.open(tape(400), waits_for=None) as server:
        with Streaming(tmp_path, server, replace(QUICK, audit_seconds=0.2)) as streaming:
            streaming.until_connected()
            server.publish(200)
            streaming.until_complete(200)
            server.inject(refuse_once)
            server.stall()
            server.publish(200)
            streaming.until(lambda _: len(asked_at) > 1, "refused, and asked again")
            streaming.until_complete()
        assert asked_at[1] - asked_at[0] >= 1.0
        assert landed_ids(tmp_path) == ids(server)


@pytest.mark.slow
def test_what_cannot_be_had_stays_an_open_gap_and_the_rest_is_healed(tmp_path):
    """An id that no answer has is asked for again, ever less often, and keeps nothing else from being healed."""
    made = tape(600)
    every = list(made.tracks[0].ids)
    gone = {every[310], every[350]}
    with VenueServer.open(made, waits_for=None, unavailable={("binance", "BTCUSDT"): gone}) as server:
        with Streaming(tmp_path, server) as streaming:
            streaming.until_connected()
            server.publish(300)
            streaming.until_complete(300)
            server.stall()
            server.publish(300)
            last = streaming.until(
                lambda s: s.open_ids == 2 and s.instruments[0].stats.mark == every[-1], "healed"
            )
        assert landed_ids(tmp_path) == [i for i in every if i not in gone]
    assert last.open_gaps == 2
    assert open_ids(tmp_path) == gone


@pytest.mark.slow
def test_at_its_quota_the_spool_stops_the_reading_and_nothing_is_lost(tmp_path):
    """With a full spool no connection is held; once it has landed, reading goes on, and what was missed is a gap that heals."""
    options = replace(QUICK, spool_max_bytes=60_000, commit_seconds=1.0)
    with VenueServer.open(tape(6_000), trades_per_second=3_000, waits_for=2) as server:
        with Streaming(tmp_path, server, options) as streaming:
            streaming.until(lambda s: s.is_full and {x.state for x in s.lines} == {"shut"}, "shut")
            assert server.finished.wait(10)
            streaming.until(lambda s: held(s) == 6_000 and not s.open_ids, "complete")
        assert landed_ids(tmp_path) == ids(server)
    assert gap_events(tmp_path)[0][:2] in {("missing", "tail"), ("missing", "sequence gap")}


def test_a_lake_that_is_down_is_waited_for(tmp_path):
    """While another process holds the catalog, trades wait in the spool; when it lets go, all of them land."""
    with VenueServer.open(tape(1_500), trades_per_second=1_500, waits_for=2) as server:
        with Streaming(tmp_path, server) as streaming:
            streaming.until(lambda s: s.landing.rows_landed > 0, "landed")
            catalog = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
            catalog.execute("begin exclusive")
            streaming.until_complete()
            landed = streaming.capture.snapshot().landing.rows_landed
            assert landed < 1_500
            catalog.execute("rollback")
            catalog.close()
            streaming.until(lambda s: s.landing.rows_landed == 1_500, "landed after all", 30)
        assert landed_ids(tmp_path) == ids(server)


def test_a_refresh_follows_what_lands_and_may_fail(tmp_path):
    """Bars are brought up to date after trades have landed and at the end; an error of theirs stops no trade."""
    seen = []

    def refresh(_: Event):
        seen.append(len(landed_ids(tmp_path)))
        raise ZeroDivisionError("a model is broken")

    with VenueServer.open(tape(600), trades_per_second=1_000, waits_for=2) as server:
        with Streaming(tmp_path, server, refresh=refresh) as streaming:
            streaming.until_complete()
            streaming.until(lambda s: s.refresh_problem != "", "refreshed")
        assert landed_ids(tmp_path) == ids(server)
    assert seen[-1] == 600
    assert streaming.last is not None
    assert streaming.last.refresh_problem == "a model is broken"


def test_a_disk_that_is_full_for_bars_ends_a_capture(tmp_path):
    """Trades would be next; a person is told while there is still room for them."""

    def refresh(_: Event):
        raise DiskFullError("the disk is full: /somewhere has 0 bytes free")

    with VenueServer.open(tape(600), trades_per_second=1_000, waits_for=2) as server:
        with (
            pytest.raises(DiskFullError, match="disk is full"),
            Streaming(tmp_path, server, refresh=refresh) as streaming,
        ):
            streaming.until(lambda _: streaming.failure is not None, "ended")
        assert set(landed_ids(tmp_path)) <= set(ids(server))


def test_what_an_earlier_capture_landed_is_refreshed_also_where_nothing_new_comes(tmp_path):
    """It may have been killed before its bars were made."""
    asked = []
    with (
        VenueServer.open(tape(10), waits_for=None) as server,
        Streaming(tmp_path, server, refresh=asked.append),
    ):
        pass
    assert len(asked) > 0
    assert all(stop.is_set() for stop in asked)


def test_a_venue_that_cannot_be_reached_is_tried_again_and_shown(tmp_path):
    """A capture without its venue runs on, says so, and ends when it is told to."""
    with VenueServer.open(tape(10), waits_for=None) as server:
        venue, where = places(server)["binance"]
        nowhere = Places(("ws://127.0.0.1:9",), where.rest_url, None)
        with Streaming(tmp_path, server, venues={"binance": (venue, nowhere)}) as streaming:
            streaming.until(lambda s: all("127.0.0.1:9" in line.problem for line in s.lines), "shown")
    assert streaming.last is not None
    assert {line.state for line in streaming.last.lines} == {"connecting"}


def test_a_capture_ends_by_itself_after_its_seconds(tmp_path):
    """A scheduler says how long; everything that was received by then has landed."""
    with VenueServer.open(tape(500), trades_per_second=2_500, waits_for=2) as server:
        with Streaming(tmp_path, server, seconds=1.0) as streaming:
            streaming._thread.join(10)
            assert not streaming.stop.is_set()
            assert streaming.last is not None
        assert landed_ids(tmp_path) == ids(server)


def test_a_spool_that_cannot_be_written_ends_the_capture(tmp_path):
    """Nothing may be acknowledged any more: the capture ends with the error, and nothing of the batch is kept."""
    with (
        VenueServer.open(tape(200), waits_for=None) as server,
        pytest.raises(OperatorError, match=r"cannot be written|readonly"),
    ):
        _capture_into_a_spool_without_room(tmp_path, server)
    assert landed_ids(tmp_path) == []


def _capture_into_a_spool_without_room(home, server):
    with Streaming(home, server) as streaming:
        streaming.until_connected()
        streaming.capture._books.spool._write.execute("pragma query_only = on")
        server.publish(200)
        streaming._thread.join(10)


@pytest.mark.parametrize("off_seconds", [-2, 2])
def test_a_clock_that_is_off_opens_no_hole(tmp_path, off_seconds):
    """What is complete and what is missing is told by ids: also for trades that seem to come from the future."""
    off = timedelta(seconds=off_seconds)
    clock = Clock(now=lambda: datetime.now(UTC) + off)
    made = tape(1_000, starts_at=datetime.now(UTC))
    for part in (beginning(made, 500), made):  # the second capture begins where the first ended
        with (
            VenueServer.open(part, waits_for=2) as server,
            Streaming(tmp_path, server, clock=clock) as streaming,
        ):
            streaming.until(lambda s: s.instruments[0].stats.mark == ids(server)[-1], "up to date")
            streaming.until(lambda s: not s.open_ids, "whole")
    assert landed_ids(tmp_path) == ids(server)
    assert {event[:2] for event in gap_events(tmp_path)} <= {("missing", "restart"), ("filled", "received")}
    assert open_ids(tmp_path) == set()


def test_a_venue_that_renames_a_field_costs_no_trade(tmp_path):
    """Frames that cannot be read are kept with their bytes; their trades are missed, found by the audit, and fetched."""
    made = tape(900)
    with VenueServer.open(beginning(made, 600), waits_for=2) as server:
        with Streaming(tmp_path, server) as streaming:
            streaming.until_complete()
        assert landed_ids(tmp_path) == ids(server)
    with VenueServer.open(made, waits_for=2) as server:
        venue, where = places(server)["binance"]
        renamed = replace(venue, feed=Renaming(venue.feed))
        with Streaming(tmp_path, server, venues={"binance": (renamed, where)}) as streaming:
            streaming.until(lambda s: s.instruments[0].stats.mark == ids(server)[-1], "found")
            streaming.until(lambda s: not s.open_ids, "healed")
    assert landed_ids(tmp_path) == ids(server)
    kept = rows(tmp_path, "select reason, payload from bronze.rejects")
    assert len(kept) >= 300
    assert all("missing required field `p`" in reason for reason, _ in kept)
    assert all(b'"price":' in payload for _, payload in kept)
    assert streaming.last is not None
    assert streaming.last.unreadable + streaming.last.instruments[0].stats.rejected == len(kept)


class Renaming:
    """A feed whose venue calls the price something else from now on."""

    def __init__(self, feed):
        self._feed = feed

    def __getattr__(self, name):
        return getattr(self._feed, name)

    def decode(self, frame):
        return self._feed.decode(frame.replace(b'"p":', b'"price":'))
