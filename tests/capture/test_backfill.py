"""Loading history: whole days from the archive and by REST, once, and complete."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from cryptolake.capture.backfill import Backfilled, backfill
from cryptolake.capture.instruments import Instrument
from cryptolake.clock import Clock
from cryptolake.errors import ConfigError, SourceDownError, SourceRefusedError, UnknownSymbolError
from cryptolake.replay import faults
from cryptolake.replay.venues.binance_archive import ArchiveStyle
from cryptolake.replay.venues.server import VenueServer
from tests.capture.streams import (
    BTC,
    gap_events,
    landed_ids,
    open_ids,
    open_lake,
    places,
    rows,
    tape,
    written,
)

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
DAYS = [date(2026, 1, 15) + timedelta(days=n) for n in range(6)]
PATIENT = Clock(sleep=lambda _: None)


def history(trades=4_000, *, days=5, **options):
    """Serve made-up trades of *days*, beginning at noon of the first, all of them published."""
    shape = {name: options.pop(name) for name in ("instruments", "absent", "starts_at") if name in options}
    made = tape(trades, trades_per_second=trades / (days * 86_400), **{"starts_at": NOON, **shape})
    server = VenueServer.open(made, waits_for=None, **options)
    for venue in made.venues:
        server.publish(trades, venue)
    return server


def traded(*days, unreadable=()):
    """Serve two trades of each of *days*, counted from the first, with the ids 1, 2, …, all of them published."""
    moments = [NOON + timedelta(days=n, hours=hour) for n in days for hour in (0, 1)]
    server = VenueServer.open(written(moments, unreadable=unreadable), waits_for=None)
    server.publish(len(moments))
    return server


def filled_twice(home, server, first, last) -> tuple[Backfilled, Backfilled]:
    """Backfill days *first* to *last*, counted from the first, two times; the second one asks for no more than the newest trade."""
    days = DAYS[0] + timedelta(days=first), DAYS[0] + timedelta(days=last)
    once, asked = fill(home, server, *days), len(server.requests)
    again = fill(home, server, *days)
    paths = [r.path for r in server.requests[asked:]]
    assert paths == ["/api/v3/ticker/24hr", "/api/v3/historicalTrades"]
    return once, again


def fill(home, server, first, last, instrument=BTC, **options) -> Backfilled:
    """Backfill days of *server* into the lake of *home*."""
    venue, where = places(server)[instrument.venue]
    with open_lake(home) as lake:
        return backfill(
            lake, venue, where, instrument, (first, last), clock=PATIENT, run_id="test", **options
        )


def truth(server, first, last, instrument=BTC):
    """Return the ids of the days *first* to *last*, and the one id before and after them."""
    trades = server.published(instrument.venue, instrument.symbol)
    inside = [
        n
        for n, t in enumerate(trades)
        if first <= datetime.fromtimestamp(t.traded_at_us / 1e6, UTC).date() <= last
    ]
    return [t.trade_id for t in trades[max(0, inside[0] - 1) : inside[-1] + 2]]


def test_whole_days_come_from_the_archive_with_a_neighbour_on_each_side(tmp_path):
    """A day that is over has every trade exactly once, and the nearest ids outside it are held, so it is complete."""
    with history() as server:
        done = fill(tmp_path, server, DAYS[1], DAYS[2])
        assert landed_ids(tmp_path) == truth(server, DAYS[1], DAYS[2])
    assert (done.days, done.skipped, done.missing_ids, done.open_day) == (2, 0, 0, None)
    by = dict(rows(tmp_path, "select received_via, count(*) from bronze.realtime_trades group by all"))
    assert by == {
        "rest": 3,
        "archive": done.trades_added - 3,
    }  # at each end, and the first trade beside the lower one


def test_a_month_is_one_file(tmp_path):
    """All days of a month are asked for in one file, where the archive has it."""
    with history(2_000, days=40, starts_at=datetime(2026, 1, 31, 12, tzinfo=UTC)) as server:
        done = fill(tmp_path, server, date(2026, 2, 1), date(2026, 2, 28))
        assert landed_ids(tmp_path) == truth(server, date(2026, 2, 1), date(2026, 2, 28))
        files = [r.path for r in server.requests if r.path.endswith(".zip")]
    assert files == ["/data/spot/monthly/trades/BTCUSDT/BTCUSDT-trades-2026-02.zip"]
    assert done.days == 28


def test_a_second_run_asks_for_nothing_and_doubles_nothing(tmp_path):
    """A day whose ids are all known is skipped without a request for its trades."""
    with history() as server:
        fill(tmp_path, server, DAYS[1], DAYS[3])
        before, asked = landed_ids(tmp_path), len(server.requests)
        done = fill(tmp_path, server, DAYS[1], DAYS[3])
        assert not [r for r in server.requests[asked:] if r.path.endswith(".zip")]
    assert (done.skipped, done.trades_added) == (3, 0)
    assert landed_ids(tmp_path) == before


def test_a_run_that_died_half_way_goes_on(tmp_path):
    """What was committed before a failure is kept; the next run loads the rest, and nothing twice."""
    with history() as server:
        server.inject(lambda request: faults.server_error() if "2026-01-18" in request.path else None)
        with pytest.raises(SourceDownError):
            fill(tmp_path, server, DAYS[1], DAYS[4])
        half = landed_ids(tmp_path)
        server.inject(lambda _: None)
        done = fill(tmp_path, server, DAYS[1], DAYS[4])
        assert landed_ids(tmp_path) == truth(server, DAYS[1], DAYS[4])
    assert 0 < len(half) < len(landed_ids(tmp_path))
    assert done.skipped >= 1


def test_a_wrong_checksum_is_fetched_again(tmp_path):
    """One wrong checksum costs another request, no trade."""
    with history(archive=ArchiveStyle(wrong_checksums=1)) as server:
        fill(tmp_path, server, DAYS[1], DAYS[1])
        assert landed_ids(tmp_path) == truth(server, DAYS[1], DAYS[1])


def test_a_checksum_that_is_wrong_twice_is_refused(tmp_path):
    """A file that never matches its checksum is not believed: nothing of it lands, and the message says so."""
    with history(archive=ArchiveStyle(wrong_checksums=2)) as server:
        with pytest.raises(SourceRefusedError, match="checksum"):
            fill(tmp_path, server, DAYS[1], DAYS[1])
        assert landed_ids(tmp_path) == []


def test_the_current_day_gives_what_is_there_and_says_that_it_is_not_over(tmp_path):
    """Whether a day is over is judged by the venue's newest trade."""
    with history() as server:
        newest = datetime.fromtimestamp(
            server.published("binance", "BTCUSDT")[-1].traded_at_us / 1e6, UTC
        ).date()
        done = fill(tmp_path, server, newest, newest)
        assert landed_ids(tmp_path) == truth(server, newest, newest)
    assert done.open_day == newest


def test_days_that_are_not_there_yet_are_refused(tmp_path):
    """The message names the newest day that there is, by the venue's trades and not by our clock."""
    with (
        history() as server,
        pytest.raises(ConfigError, match=r"2026-02-01 is not there yet: .* made on 2026-01-"),
    ):
        fill(tmp_path, server, DAYS[1], date(2026, 2, 1))


def test_days_before_the_first_trade_are_refused_and_write_nothing(tmp_path):
    """The message names the day of the first trade that the venue has; of a later day nothing is taken."""
    with history() as server:
        with pytest.raises(
            ConfigError, match=r"binance gives no trade of BTCUSDT before 2026-01-15; ask for days from"
        ):
            fill(tmp_path, server, date(2009, 1, 1), date(2009, 1, 2))
        assert landed_ids(tmp_path) == []


def test_of_days_around_the_first_trade_those_that_have_trades_are_loaded(tmp_path):
    """A day before the first trade keeps no other from being loaded; it is told as one that is not complete."""
    with history() as server:
        done = fill(tmp_path, server, DAYS[0] - timedelta(days=1), DAYS[1])
        assert landed_ids(tmp_path) == truth(server, DAYS[0], DAYS[1])
    assert DAYS[0] - timedelta(days=1) in [*done.without, *done.incomplete]


def test_days_the_wrong_way_round_are_refused(tmp_path):
    """A span that ends before it begins is a mistake, and nobody is asked."""
    with history(10) as server:
        with pytest.raises(ConfigError, match="before they begin"):
            fill(tmp_path, server, DAYS[2], DAYS[1])
        assert not server.requests


def test_an_instrument_that_the_venue_does_not_have_is_refused(tmp_path):
    """The message names the symbol."""
    with history(10) as server, pytest.raises(UnknownSymbolError, match="NOPE"):
        fill(tmp_path, server, DAYS[0], DAYS[0], Instrument("binance", "NOPE", "NOPE"))


@pytest.mark.parametrize("venue", ["coinbase", "kraken", "okx"])
def test_a_venue_without_an_archive_is_asked_by_rest_and_its_holes_are_proven_absent(tmp_path, venue):
    """Ids that lie between two neighbours of one answer do not exist, and an event says so."""
    symbol = {"coinbase": "BTC-USD", "kraken": "BTC/USD", "okx": "BTC-USDT"}[venue]
    instrument = Instrument(venue, symbol, symbol)
    with history(600, days=3, instruments={venue: [symbol]}, absent=0.05) as server:
        done = fill(tmp_path, server, DAYS[1], DAYS[1], instrument)
        expected = truth(server, DAYS[1], DAYS[1], instrument)
    assert landed_ids(tmp_path, symbol) == expected
    assert done.absent_ids == expected[-1] - expected[0] + 1 - len(expected) > 0
    assert {(event, by) for event, _, by, _ in gap_events(tmp_path)} == {("absent", "rest")}
    assert done.missing_ids == 0


def test_a_day_whose_neighbour_nobody_has_is_not_complete(tmp_path):
    """The first day begins at noon, with the venue's first trade; the next one has neighbours."""
    with history() as server:
        done = fill(tmp_path, server, DAYS[0], DAYS[1])
    assert (done.missing_ids, done.incomplete, done.without) == (0, [DAYS[0]], [])


def test_a_day_without_trades_between_neighbours_is_complete(tmp_path):
    """Nobody has anything of it, as there is nothing: that is known, and is not asked for again."""
    with traded(0, 1, 3, 4) as server:
        once, again = filled_twice(tmp_path, server, 1, 3)
    assert (once.incomplete, once.without) == (again.incomplete, again.without) == ([], [])
    assert (once.trades_added, once.skipped, again.skipped) == (6, 0, 3)


def test_a_day_without_trades_is_complete_also_where_its_neighbours_were_held_before(tmp_path):
    """Its own answers bring nothing that is new, and what is held proves that there is nothing to be had."""
    with traded(0, 1, 3, 4) as server:
        fill(tmp_path, server, DAYS[0], DAYS[1])
        fill(tmp_path, server, DAYS[3], DAYS[3])
        once, _ = filled_twice(tmp_path, server, 2, 2)
    assert (once.skipped, once.incomplete, once.without) == (1, [], [])


def test_a_day_with_a_record_that_cannot_be_read_is_not_complete_and_not_asked_for_again(tmp_path):
    """The id is closed as rejected, and every run says that the day is not complete."""
    with traded(0, 1, 2, 3, unreadable={4}) as server:
        once, again = filled_twice(tmp_path, server, 1, 2)
    assert (once.rejected > 0, once.skipped) == (True, 0)
    assert (again.rejected, again.skipped) == (0, 2)
    assert (
        once.incomplete == again.incomplete == [DAYS[1], DAYS[2]]
    )  # the last of the one is beside the other
    assert once.without == again.without == []


def test_a_day_of_which_no_record_can_be_read_is_not_complete(tmp_path):
    """Something was traded on it, so it is not a day that nobody has anything of."""
    with traded(0, 1, 2, unreadable={3, 4}) as server:
        once, again = filled_twice(tmp_path, server, 1, 1)
    assert (once.rejected > 0, again.rejected) == (True, 0)
    assert (once.incomplete, once.without) == (again.incomplete, again.without) == ([DAYS[1]], [])


def test_a_record_that_cannot_be_read_is_told_of_the_current_day_too(tmp_path):
    """That day is asked for again as it is not over, and will not be complete when it is."""
    with traded(0, 1, 2, unreadable={5}) as server:
        once, again = (fill(tmp_path, server, DAYS[2], DAYS[2]) for _ in range(2))
    assert (once.rejected > 0, again.rejected) == (True, 0)
    assert (once.incomplete, once.open_day) == (again.incomplete, again.open_day) == ([DAYS[2]], DAYS[2])


def test_a_day_is_complete_however_far_its_neighbours_are(tmp_path):
    """Where an instrument is traded every tenth day, the trades before and after a day are its neighbours all the same."""
    with traded(0, 10, 20, 30) as server:
        once, again = filled_twice(tmp_path, server, 5, 25)
    assert (once.incomplete, once.without) == (again.incomplete, again.without) == ([], [])
    assert (once.trades_added, again.skipped) == (6, 21)


def test_what_nobody_can_give_is_an_open_gap(tmp_path):
    """An id that neither archive nor REST has is missing by an event, and not taken for absent."""
    made = tape(600, trades_per_second=600 / 259_200, starts_at=NOON, instruments={"okx": ["BTC-USDT"]})
    ids = made.tracks[0].ids
    gone = ids[250]
    okx = Instrument("okx", "BTC-USDT", "BTC-USDT")
    with VenueServer.open(made, waits_for=None, unavailable={("okx", "BTC-USDT"): [gone]}) as server:
        server.publish(600)
        done = fill(tmp_path, server, DAYS[1], DAYS[1], okx)
        expected = [i for i in truth(server, DAYS[1], DAYS[1], okx) if i != gone]
        assert landed_ids(tmp_path, "BTC-USDT") == expected
        again = fill(tmp_path, server, DAYS[1], DAYS[1], okx)
    assert done.missing_ids == again.missing_ids == 1
    assert open_ids(tmp_path) == {gone}
    assert len(gap_events(tmp_path)) == 1


def test_trades_are_stored_under_an_alias(tmp_path):
    """The venue is asked by its own spelling; the rows have the symbol of the settings."""
    with history(600, days=2) as server:
        fill(tmp_path, server, DAYS[1], DAYS[1], Instrument("binance", "BTCUSDT", "BTCUSDT#2"))
    assert {s for (s,) in rows(tmp_path, "select distinct symbol from bronze.realtime_trades")} == {
        "BTCUSDT#2"
    }


def test_progress_ends_with_all_days_done(tmp_path):
    """Whoever watches sees days and trades grow up to the end."""
    seen = []
    with history(900, days=3) as server:
        done = fill(tmp_path, server, DAYS[0], DAYS[2], on_progress=seen.append)
    assert [p.days_done for p in seen] == sorted(p.days_done for p in seen)
    assert (seen[-1].days_done, seen[-1].days) == (3, 3)
    assert seen[-1].trades <= done.trades_read
