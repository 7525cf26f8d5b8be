"""Decimals are exact or the trade is not taken; a batch with a bad trade keeps the others."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptolake.capture.batch import LATEST_US, check, trade_rows, trade_schema
from tests.capture.ledgers import at_us, trade, trades

LARGEST = "9999999999999999.999999999999"
EXACT = {
    "1.5": "1.5",
    "1E-7": "0.0000001",
    "2.5e-7": "0.00000025",
    "1E+3": "1000",
    "+1": "1",
    ".5": "0.5",
    "5.": "5",
    "0.1234567890120": "0.123456789012",
    "1." + "0" * 60: "1",
    "0000000000000000000000000000000001": "1",
    LARGEST: LARGEST,
}
NOT_A_NUMBER = ["", "abc", " 1", "1 ", "1\n", "1_000", "0x10", "NaN", "Infinity", "1e", "１", "1,5"]
DOES_NOT_FIT = ["1E-13", "0.0000000000001", "10000000000000000", "1e30", "1e400", "1e-400", "9" * 60]


@pytest.mark.parametrize("printed", EXACT)
def test_a_decimal_is_taken_exactly_as_it_is_printed(printed):
    """Exponents and zeros are other ways to print the same number."""
    for batch in ([trade(1, price=printed)], [trade(1, price=printed), trade(2, price="bad")]):
        assert check(batch).prices.to_pylist() == [Decimal(EXACT[printed])]


@pytest.mark.parametrize("printed", [*NOT_A_NUMBER, *DOES_NOT_FIT])
@pytest.mark.parametrize("column", ["price", "quantity"])
def test_what_is_no_decimal_or_would_be_rounded_is_not_taken(printed, column):
    """It is never null and never rounded; the reason says which value."""
    bad = trade(2)
    setattr(bad, column, printed)
    checked = check([trade(1), bad, trade(3)])
    assert list(checked.good) == [0, 2]
    assert checked.bad == [(1, f"the {column} {printed!r} is not a number that fits decimal(28, 12)")]


@pytest.mark.parametrize("printed", ["0", "0.000", "-1", "-0.0000001", "0E-20"])
def test_a_price_or_quantity_that_is_not_above_zero_is_not_taken(printed):
    """No trade is made for nothing."""
    checked = check([trade(1, quantity=printed)])
    assert checked.bad == [(0, f"the quantity {printed} is not above zero")]


@pytest.mark.parametrize("traded_at_us", [-1, LATEST_US + 1, 2**63, 10**30])
def test_a_time_that_no_engine_can_hold_is_not_taken(traded_at_us):
    """Neither before 1970 nor after 9999."""
    late = trade(1)
    late.traded_at_us = traded_at_us
    assert "is not between 1970 and 9999" in check([late]).bad[0][1]
    late = trade(1)
    late.event_at_us = traded_at_us
    assert "is not between 1970 and 9999" in check([late]).bad[0][1]


@pytest.mark.parametrize("trade_id", [-1, 2**61 + 1, 2**63])
def test_an_id_that_cannot_be_is_not_taken(trade_id):
    """A trade id counts up from zero, and leaves room for the sums that are made of it in 64 bits."""
    odd = trade(1)
    odd.trade_id = trade_id
    assert check([odd]).bad == [(0, f"the trade id {trade_id} is not a whole number from 0 to {2**61}")]


def test_the_last_moment_and_the_largest_id_are_taken():
    """The limits themselves are inside."""
    last = trade(1)
    last.trade_id, last.traded_at_us, last.event_at_us = 2**61, LATEST_US, 0
    checked = check([last])
    rows = trade_rows(
        [("toy", "BTC", 1)], [last], (checked.prices, checked.quantities), [LATEST_US], "websocket"
    )
    assert rows["traded_at"].to_pylist()[0].year == 9999


def test_rows_have_the_columns_of_the_table():
    """Venue, stored symbol, times and decimals stand where the contract wants them; no event time is null."""
    both = [*trades([1, 2]), *trades([7], "ETH")]
    checked = check(both)
    rows = trade_rows(
        [("toy", "BTC#2", 2), ("toy", "ETH", 1)],
        both,
        (checked.prices, checked.quantities),
        [at_us(9)] * 3,
        "websocket",
    )
    assert rows.schema == trade_schema()
    assert rows["symbol"].to_pylist() == ["BTC#2", "BTC#2", "ETH"]
    assert rows["trade_id"].to_pylist() == [1, 2, 7]
    assert rows["is_buyer_maker"].to_pylist() == [False, True, False]
    assert rows["event_at"].to_pylist() == [None] * 3
    assert [t.timestamp() for t in rows["traded_at"].to_pylist()] == [at_us(i) / 1e6 for i in (1, 2, 7)]


decimals = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=Decimal("1e-14"), max_value=Decimal("1e17")
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(decimals, st.sampled_from(["{:f}", "{:E}", "{}"])), min_size=1, max_size=8))
def test_a_batch_and_its_trades_one_by_one_say_the_same(printed):
    """The fast path takes what the slow one takes, with the same value."""
    batch = [trade(n, price=how.format(value)) for n, (value, how) in enumerate(printed)]
    whole = check(batch)
    ones = [check([each]) for each in batch]
    assert list(whole.good) == [n for n, one in enumerate(ones) if not one.bad]
    assert whole.prices.to_pylist() == [p for one in ones for p in one.prices.to_pylist()]
    assert whole.prices.to_pylist() == [printed[n][0] for n in whole.good]
