"""From frames to what is durable: decoded, counted and kept by one thread."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from cryptolake.capture.arrivals import SEEN_FRAMES
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.writer import Writer
from cryptolake.errors import BadRecordError, OperatorError
from cryptolake.sources.records import Control, TradePage
from cryptolake.sources.venue import ArchivePiece, Hole
from tests.capture.homes import Home
from tests.capture.ledgers import BTC, ETH, at_us, frame, ids_of, recent_frame, trade, trades
from tests.cli.venues import until

SECONDS = 20


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path)


def hole(first: int, last: int) -> Hole:
    """Return the ids that are asked for."""
    return Hole("BTC", first, last)


def durable(writer: Writer) -> None:
    """Wait until everything that was given to *writer* so far is durable."""
    instrument = writer.stats()[0].instrument
    writer.head(instrument, 0, "tail").result(SECONDS)
    while writer.backlog and writer.failure is None:
        writer.head(instrument, 0, "tail").result(SECONDS)


def test_frames_of_two_connections_are_stored_once(home):
    """The twin's copies are duplicates, what it alone has is not; order among symbols does not matter."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1, 2, 3]), frame([7], "ETH"), frame([5])])
        writer.frames("toy", 2, [frame([1]), frame([2, 3]), frame([4]), frame([5, 6])])
        durable(writer)
        stats = {s.instrument: s for s in writer.stats()}
        home.land(books)
    assert (home.ids(), home.ids("ETH")) == ([1, 2, 3, 4, 5, 6], [7])
    assert home.open_ids() == set()
    btc = stats[BTC]
    assert (btc.received, btc.new, btc.duplicates, btc.rejected) == (10, 6, 4, 0)
    assert (btc.mark, btc.traded_at_us, btc.lag_us, btc.open_gaps) == (6, at_us(6), 0, 0)


def test_the_bytes_of_a_twin_s_frame_are_compared_with_few_frames_and_counted_with_all(home):
    """A long capture remembers no more for it; copies that come late are duplicates all the same."""
    ids = range(3 * SEEN_FRAMES)
    frames = [frame([n]) for n in ids]
    with home.capturing() as (books, writer):
        for connection in (1, 2):
            for start in range(0, len(frames), 1000):
                writer.frames("toy", connection, frames[start : start + 1000])
            durable(writer)
        stats = next(s for s in writer.stats() if s.instrument == BTC)
        assert (stats.received, stats.new, stats.duplicates) == (2 * len(ids), len(ids), len(ids))
        seen = writer._seen["toy"]
        assert 0 < len(seen.young) + len(seen.old) <= 2 * SEEN_FRAMES + 1000
        home.land(books)
    assert home.ids() == [*ids]


def test_a_trade_is_stored_as_it_was_printed(home):
    """Decimals, times and the way it came stand in the row."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [(frame([5], price="1E-7")[0], at_us(9))])
        durable(writer)
        home.land(books)
    with home.lake.reader() as reader:
        (row,) = reader.table("select * from bronze.realtime_trades").to_pylist()
    moment = datetime(1970, 1, 1, tzinfo=UTC)
    assert (row["venue"], row["symbol"], row["trade_id"], row["received_via"]) == (
        "toy",
        "BTC",
        5,
        "websocket",
    )
    assert (row["price"], row["quantity"]) == (Decimal("0.0000001"), Decimal("1.5"))
    assert row["traded_at"] == moment + timedelta(microseconds=at_us(5))
    assert row["received_at"] == moment + timedelta(microseconds=at_us(9))
    assert (row["event_at"], row["_run_id"], row["_kafka_offset"]) == (None, "run", None)


def test_an_alias_is_where_the_trades_of_a_new_listing_go(home):
    """An id that was held under the old symbol is new under the alias."""
    with home.capturing([BTC]) as (_, writer):
        writer.frames("toy", 1, [frame([500, 501])])
        durable(writer)
        writer.frames("toy", 1, [frame([1])])
        durable(writer)
        assert writer.stats()[0].rejected == 1
    with home.capturing([Instrument("toy", "BTC", "BTC#2")]) as (books, writer):
        writer.frames("toy", 1, [frame([1, 2])])
        durable(writer)
        home.land(books)
    assert (home.ids("BTC"), home.ids("BTC#2")) == ([500, 501], [1, 2])
    ((source, symbol, trade_id, reason, payload),) = home.rejects()
    assert (source, symbol, trade_id, payload) == ("toy", "BTC", 1, frame([1])[0])
    assert "id_reset" in reason
    assert "capture.aliases = {'toy:BTC': 'BTC#2'}" in reason


@pytest.mark.parametrize("at_once", [True, False])
def test_every_copy_of_a_trade_that_is_refused_is_kept(home, at_once):
    """Whether its twin comes in the same batch or later, and whether it is a bad price or an id that was reset."""
    free, reset = frame([2], price="0"), frame([1], price="7")
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1])])
        durable(writer)
        for connection in (1, 2):
            writer.frames("toy", connection, [free, reset])
            if not at_once:
                durable(writer)
        durable(writer)
        stats = next(s for s in writer.stats() if s.instrument == BTC)
        home.land(books)
    assert [payload for *_, payload in home.rejects()] == [reset[0], reset[0], free[0], free[0]]
    assert (home.ids(), stats.received, stats.new, stats.duplicates, stats.rejected) == ([1], 5, 1, 0, 4)


def test_a_frame_that_cannot_be_read_is_kept_with_its_bytes(home):
    """It closes nothing: the trade in it is a gap until another copy comes."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1]), (b"\xff{", at_us(2)), frame([3])])
        durable(writer)
        assert [hole.first_id for _, hole in writer.holes("toy")] == [2]
        home.land(books)
    ((source, symbol, trade_id, reason, payload),) = home.rejects()
    assert (source, symbol, trade_id, payload) == ("toy", None, None, b"\xff{")
    assert reason
    assert home.open_ids() == {2}


def test_a_trade_that_cannot_be_trusted_leaves_a_gap_for_a_better_copy(home):
    """The twin's good copy is taken, also where both come in one batch."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1]), frame([2], price="-5"), frame([3])])
        writer.frames("toy", 2, [frame([1, 2, 3])])
        durable(writer)
        home.land(books)
    assert home.ids() == [1, 2, 3]
    ((_, _, trade_id, reason, payload),) = home.rejects()
    assert (trade_id, reason) == (2, "the price -5 is not above zero")
    assert payload == frame([2], price="-5")[0]


def test_what_was_not_asked_for_is_ignored(home):
    """A venue may send more than was subscribed to."""
    with home.capturing([BTC]) as (books, writer):
        writer.frames("toy", 1, [frame([7], "ETH"), recent_frame([5], "ETH"), frame([1])])
        durable(writer)
        home.land(books)
    assert (home.ids(), home.ids("ETH"), home.rejects()) == ([1], [], [])


def test_control_frames_are_told_with_their_connection(home):
    """Heartbeats and shutdowns are for those who hold the connections."""
    with home.capturing() as (_, writer):
        writer.frames("toy", 7, [(b'{"heads":{"BTC":5}}', 0)])
        durable(writer)
    assert home.controls == [("toy", 7, Control("heartbeat"))]


def test_the_slower_twin_may_begin_earlier(home):
    """Until every connection has delivered once, ids below the first are accepted; then they are resets."""
    with home.capturing() as (books, writer):
        writer.expects("toy", ["BTC", "ETH"], [1, 2])
        writer.frames("toy", 1, [frame([10, 11])])
        durable(writer)
        writer.frames("toy", 2, [recent_frame([8]), frame([9, 10])])
        durable(writer)
        writer.frames("toy", 1, [recent_frame([6, 7])])
        writer.frames("toy", 2, [frame([5])])
        durable(writer)
        home.land(books)
    assert home.ids() == [8, 9, 10, 11]
    assert [row[2] for row in home.rejects()] == [5]


def test_a_page_heals_a_hole_and_says_what_it_did(home):
    """Only missing ids are written; neighbours prove absence; what stays open is told."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1]), frame([10])])
        bad = BadRecordError("toy", "no price", b"{}", symbol="BTC", trade_id=5)
        page = TradePage(trades([1, 2, 3, 6, 7]), at_us(99), [bad])
        outcome = writer.heal(BTC, page, "rest", hole(2, 9)).result(SECONDS)
        assert (outcome.filled, outcome.absent, outcome.rejected, outcome.remaining) == (4, 1, 1, 2)
        home.land(books)
        again = writer.heal(BTC, page, "rest", hole(2, 9)).result(SECONDS)
        assert (again.filled, again.absent, again.rejected) == (0, 0, 0)
    assert (home.ids(), home.open_ids()) == ([1, 2, 3, 6, 7, 10], {8, 9})
    with home.lake.reader() as reader:
        assert reader.rows("select distinct received_via from bronze.realtime_trades order by 1") == [
            ("rest",),
            ("websocket",),
        ]


def test_an_untrusted_trade_of_a_page_is_rejected_under_its_id(home):
    """It is not fetched again, and its record is kept."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1]), frame([4])])
        page = TradePage([trade(1), trade(2, price="0"), trade(3)], at_us(9))
        outcome = writer.heal(BTC, page, "rest", hole(2, 3)).result(SECONDS)
        assert (outcome.filled, outcome.rejected, outcome.remaining) == (1, 1, 0)
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([1, 3, 4], set())
    assert home.rejects()[0][2:4] == (2, "the price 0 is not above zero")


def piece(ids: list[int], *rejects: BadRecordError) -> ArchivePiece:
    """Return a piece of an archive file."""
    rows = pa.table(
        {
            "trade_id": pa.array(ids, pa.int64()),
            "price": pa.array([Decimal(1)] * len(ids), pa.decimal128(28, 12)),
            "quantity": pa.array([Decimal(2)] * len(ids), pa.decimal128(28, 12)),
            "is_buyer_maker": pa.array([True] * len(ids)),
            "traded_at": pa.array([at_us(i) for i in ids], pa.timestamp("us", "UTC")),
        }
    )
    return ArchivePiece(rows, rejects)


def test_pieces_of_a_file_heal_as_one_answer(home):
    """Ids that lie between two pieces are proven absent, unless a line without an id lies there."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1]), frame([20])])
        asked = hole(2, 19)
        first = writer.heal(BTC, piece([0, 1, 2, 4]), "archive", asked).result(SECONDS)
        assert (first.filled, first.absent, first.last_id) == (2, 1, 4)
        second = writer.heal(BTC, piece([7, 8]), "archive", asked, after=first.last_id).result(SECONDS)
        assert (second.filled, second.absent) == (2, 2)
        unread = BadRecordError("toy", "a torn line", b"9,1.")
        third = writer.heal(BTC, piece([11, 12], unread), "archive", asked, after=second.last_id).result(
            SECONDS
        )
        assert (third.filled, third.absent, third.last_id) == (2, 0, None)
        home.land(books)
    assert home.ids() == [1, 2, 4, 7, 8, 11, 12, 20]
    assert home.open_ids() == {9, 10, *range(13, 20)}
    assert home.rejects()[0][2:] == (None, "a torn line", b"9,1.")


def test_a_head_opens_the_tail_and_a_restart_remembers_it(home):
    """What the venue has and we do not is a hole, durable at once."""
    with home.capturing() as (_, writer):
        writer.frames("toy", 1, [frame([1, 2])])
        durable(writer)
        assert writer.head(BTC, 6, "tail").result(SECONDS) == 4
        assert writer.head(ETH, 6, "tail").result(SECONDS) == 0
    with home.capturing() as (books, writer):
        assert [(h.first_id, h.last_id, h.after_us) for _, h in writer.holes("toy")] == [(3, 6, at_us(2))]
        home.land(books)
    assert home.open_ids() == {3, 4, 5, 6}


def test_holes_come_newest_first(home):
    """What is asked for most is near the present."""
    with home.capturing() as (_, writer):
        writer.frames("toy", 1, [frame([1]), frame([5]), frame([4], "ETH"), frame([9]), frame([12], "ETH")])
        durable(writer)
        assert [(i.symbol, h.first_id) for i, h in writer.holes("toy")] == [
            ("ETH", 5),
            ("BTC", 6),
            ("BTC", 2),
        ]
        assert writer.holes("elsewhere") == []


def test_a_spool_that_fails_stops_everything(home):
    """Nothing is acknowledged any more, whoever waits is told, and what was acknowledged is there after a restart."""
    with home.capturing() as (books, writer), capture_logs() as logged:
        writer.frames("toy", 1, [frame([1, 2])])
        durable(writer)
        books.spool._write.execute("pragma query_only = on")
        answer = writer.heal(BTC, TradePage(trades([0]), 0), "rest", hole(0, 0))
        writer.frames("toy", 1, [frame([3, 4])])
        head = writer.head(BTC, 100, "tail")
        with pytest.raises(OperatorError):
            head.result(SECONDS)
        writer.close()
        assert isinstance(writer.failure, OperatorError)
        assert home.failures == [writer.failure]
        [told] = [event for event in logged if event["event"] == "writer.failed"]
        assert (told["reason"], told["exc_info"]) == (str(writer.failure), False)
        assert isinstance(answer, Future)
        with pytest.raises(OperatorError, match="has ended"):
            writer.head(BTC, 100, "tail").result(SECONDS)
        books.spool._write.execute("pragma query_only = off")
    with home.capturing() as (books, writer):
        assert ids_of((h.first_id, h.last_id) for _, h in writer.holes("toy")) == set()
        home.land(books)
    assert home.ids() == [1, 2]


def test_a_spool_over_its_quota_says_so_until_there_is_room(home):
    """Only then may more be read."""
    books = home.books()
    with books.spool:
        writer = home.writer(books, spool_max_bytes=400_000)
        n = 0
        while not writer.is_full:
            writer.frames("toy", 1, [frame(range(n, n + 2000))])
            durable(writer)
            n += 2000
        home.land(books)
        until(lambda: not writer.is_full)
        writer.close()
    assert home.ids() == list(range(n))


def test_closing_makes_durable_what_was_taken(home):
    """What comes later is not taken."""
    with home.capturing() as (_, writer):
        writer.frames("toy", 1, [frame(range(100))])
        writer.close()
        writer.frames("toy", 1, [frame([100])])
        assert writer.backlog == 0
    with home.capturing() as (books, _):
        home.land(books)
    assert home.ids() == list(range(100))
