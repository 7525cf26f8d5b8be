"""A tape: recorded, of the lake's rows, or generated; and the figures that are computed from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from cryptolake.errors import OperatorError
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.market import Market
from cryptolake.replay.venues.minutes import at_least, minutes, printed
from cryptolake.replay.venues.tape import Tape, track

MINUTE = 60_000_000


def bronze(*rows: dict) -> pa.Table:
    money = pa.decimal128(28, 12)
    instant = pa.timestamp("us", "UTC")
    schema = pa.schema(
        [
            ("venue", pa.string()),
            ("symbol", pa.string()),
            ("trade_id", pa.int64()),
            ("price", money),
            ("quantity", money),
            ("is_buyer_maker", pa.bool_()),
            ("traded_at", instant),
            ("event_at", instant),
        ]
    )
    return pa.Table.from_pylist(list(rows), schema=schema)


def row(trade_id: int, price: str = "1", quantity: str = "1", seconds: float = 0, event_at=None) -> dict:
    made = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return {
        "venue": "okx",
        "symbol": "BTC-USDT",
        "trade_id": trade_id,
        "price": Decimal(price),
        "quantity": Decimal(quantity),
        "is_buyer_maker": False,
        "traded_at": made,
        "event_at": event_at,
    }


def market_of(*trades: tuple, unavailable=()) -> Market:
    ids, prices, sizes, makers, times = zip(*trades, strict=True)
    columns = (ids, prices, sizes, makers, times, [None] * len(ids), sorted(time * 1000 for time in times))
    market = Market([track("binance", "BTCUSDT", columns)], {"BTCUSDT": unavailable})
    market.counts["BTCUSDT"] = len(ids)
    return market


def test_the_recording_holds_each_frame_once_with_its_trade():
    """15,863 trades of two symbols, their ids without a hole, and their frames decode to what is told."""
    tape = Tape.recorded()
    assert {t.symbol: (len(t), t.ids[0], t.ids[-1]) for t in tape.tracks} == {
        "BTCUSDT": (9757, 3735683259, 3735693015),
        "ETHUSDT": (6106, 1520538925, 1520545030),
    }
    assert not tape.is_generated
    bitcoin = tape.of("binance")[0]
    assert bitcoin.trades(0, 1)[0].price == "61837.63000000"
    assert b'"t":3735683259,"p":"61837.63000000"' in bitcoin.frames(0, 1)[0]


def test_rows_of_the_lake_become_trades_with_their_digits():
    """Decimals are printed without exponent and without zeros at the end; a copy of an id counts once."""
    rows = bronze(row(7, "0.000000001", "1200000000"), row(5, "61837.63", "0.5"), row(5, "61837.63", "0.5"))
    tape = Tape.from_rows(rows)
    assert [(t.trade_id, t.price, t.quantity) for t in tape.tracks[0].trades(0, 9)] == [
        (5, "61837.63", "0.5"),
        (7, "0.000000001", "1200000000"),
    ]


def test_trades_are_published_by_rising_id_even_if_their_times_run_backwards():
    """Ids decide the order; a trade is published no earlier than the one before it."""
    moment = datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC)
    tape = Tape.from_rows(bronze(row(1, seconds=5), row(2, seconds=3), row(3, seconds=4, event_at=moment)))
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert [moment // 10**9 - start for moment in tape.tracks[0].moments_ns] == [5, 5, 9]


def test_no_rows_are_no_tape():
    """A range without trades is refused with what to do."""
    with pytest.raises(OperatorError, match="choose another range"):
        Tape.from_rows(bronze())


def test_a_seed_makes_the_same_trades_again():
    """Generated tapes are labelled, and equal for equal seeds only."""
    one, same, other = generate(400, seed=1), generate(400, seed=1), generate(400, seed=2)
    assert [t.rows for t in one.tracks] == [t.rows for t in same.tracks]
    assert one.tracks[0].rows != other.tracks[0].rows
    assert one.is_generated
    assert one.label == "generated (seed 1)"


def test_ids_are_absent_only_where_a_venue_skips_them():
    """Binance's ids have no holes; those of the others have, where they are asked for."""
    tape = generate(4_000, seed=3, absent=0.1)
    for made in tape.tracks:
        holes = made.ids[-1] - made.ids[0] + 1 - len(made)
        assert (holes == 0) == (made.venue == "binance")
        assert len(made) == 500


def test_a_page_never_reaches_over_an_id_that_cannot_be_had():
    """Up or down, a page ends before such an id or begins after it, so that it proves nothing about it."""
    market = market_of(*((n, "1", "1", True, n) for n in range(10, 20)), unavailable=[3, 4])
    ids = lambda page: [trade.trade_id for trade in page]  # noqa: E731
    assert ids(market.page("BTCUSDT", 0, 9)) == [10, 11, 12]
    assert ids(market.page("BTCUSDT", 3, 9)) == [15, 16, 17, 18, 19]
    assert ids(market.page_before("BTCUSDT", 10, 9)) == [15, 16, 17, 18, 19]
    assert ids(market.page_before("BTCUSDT", 5, 2)) == [11, 12]
    assert market.newest_row("BTCUSDT") == 9


def test_a_minute_has_exact_figures_in_the_order_of_ids():
    """Open and close are by id whatever the times; sums are exact; a trade of another minute is left out."""
    market = market_of(
        (1, "10", "0.1", True, MINUTE + 5),
        (2, "30", "0.2", False, MINUTE + 9),
        (3, "7", "1", True, 2 * MINUTE),
        (4, "20", "0.00000001", False, MINUTE + 7),
    )
    bar, after = minutes(market, "BTCUSDT", 0, 3 * MINUTE)
    assert (bar.open, bar.high, bar.low, bar.close) == ("10", "30", "10", "20")
    assert (bar.volume, bar.quote_volume) == (Decimal("0.30000001"), Decimal("7.00000020"))
    assert (bar.taker_buy_volume, bar.trade_count) == (Decimal("0.20000001"), 3)
    assert (bar.first_id, bar.last_id, after.first_id) == (1, 4, 3)
    assert minutes(market, "BTCUSDT", 1, MINUTE) == []


@pytest.mark.parametrize(
    ("text", "digits", "at_least_so_many", "exactly"),
    [("1.5", 3, "1.500", "1.500"), ("1.23456", 2, "1.23456", "1.23"), ("7", 2, "7.00", "7.00")],
)
def test_digits_are_added_and_never_taken_from_a_price(text, digits, at_least_so_many, exactly):
    """A price keeps all its digits; a venue's own sums are cut off at its scale."""
    assert at_least(text, digits) == at_least_so_many
    assert printed(text, digits) == exactly
