"""What is held, what is missing, and what follows for the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from cryptolake.contracts import load_contracts
from cryptolake.contracts.schemas import arrow_schema
from cryptolake.lake import Lake
from cryptolake.serving.coverage import Days, InstrumentCoverage, coverage, exit_status

FIRST = date(2024, 8, 1)
NOW = datetime(2024, 8, 10, tzinfo=UTC)
BTC = {"venue": "binance", "symbol": "BTCUSDT"}


def day(n: int) -> date:
    """Return the *n*th day, counted from 0."""
    return FIRST + timedelta(days=n)


def put(lake: Lake, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Append *rows* to *table*, as no model would."""
    lake.ensure(table)
    schema = arrow_schema(load_contracts()[table])
    stamp = next(name for name in schema.names if name in {"_loaded_at", "_processed_at"})
    lake.append(table, pa.Table.from_pylist([{**BTC, **row, stamp: NOW} for row in rows], schema=schema))


def held(n: int, first: int, last: int, **others: Any) -> dict[str, Any]:
    """Return the row of a day with the trades *first* to *last*, complete unless *others* say otherwise."""
    known = {"missing_ids": 0, "absent_ids": 0, "rejected_ids": 0, "is_complete": True}
    return {"traded_date": day(n), "first_trade_id": first, "last_trade_id": last,
            "trade_count": last - first + 1, **known, **others}  # fmt: skip


def known(
    lake: Lake,
    days: Sequence[dict[str, Any]],
    ranges: Sequence[tuple[int, int]],
    gaps: Sequence[dict[str, Any]] = (),
) -> None:
    """Let the lake know *days*, *ranges* of ids and *gaps* of one instrument."""
    put(lake, "gold.coverage_daily", days)
    put(
        lake,
        "silver.held_ranges",
        [{"first_id": a, "last_id": b, "trade_count": b - a + 1} for a, b in ranges],
    )
    put(lake, "silver.trade_gaps", [{"detected_at": NOW - timedelta(hours=1), **gap} for gap in gaps])


def asked(lake: Lake, first: int | None = None, last: int | None = None) -> tuple[InstrumentCoverage, int]:
    """Return the coverage of the instrument from the *first* to the *last* day, and its exit status."""
    days = Days(None if first is None else day(first), None if last is None else day(last))
    with lake.reader() as reader:
        found = coverage(reader, "binance:BTCUSDT", days, NOW)
    return found[0], exit_status(found, days)


def test_complete_days_are_complete(lake):
    """Days whose neighbours are held on both sides are complete, and nothing is to be said."""
    known(
        lake,
        [held(0, 1, 9, is_complete=False), held(1, 10, 19), held(2, 20, 29, is_complete=False)],
        [(1, 29)],
    )
    found, status = asked(lake, 1, 1)
    [only] = found.days
    assert (only.is_complete, only.why, only.is_over, status) == (True, "", True, 0)
    assert [(r.first_id, r.last_id) for r in only.ranges] == [(10, 19)]


def test_a_day_that_is_over_and_incomplete_counts_where_days_are_asked_for(lake):
    """The first day of a capture lacks what was before it: without days that is no failure, with them it is."""
    known(lake, [held(0, 1, 9, is_complete=False), held(1, 10, 19, is_complete=False)], [(1, 19)])
    assert asked(lake)[1] == 0
    found, status = asked(lake, 0, 0)
    assert (found.days[0].why, status) == ("the trade before its first is not held", 1)


def test_a_day_that_is_not_over_does_not_count(lake):
    """A day is over when the venue has trades of a later one, whatever our clock says."""
    known(lake, [held(0, 1, 9), held(1, 10, 19, is_complete=False)], [(0, 19)])
    found, status = asked(lake, 0, 1)
    assert [(d.is_over, d.why) for d in found.days] == [
        (True, ""),
        (False, "the trade after its last is not held"),
    ]
    assert status == 0
    put(lake, "gold.coverage_daily", [{**held(2, 1, 2), "symbol": "ETHUSDT"}])
    assert asked(lake, 0, 1)[1] == 1


@pytest.mark.parametrize(
    ("state", "counts", "why"),
    [
        ("open", {"missing_ids": 3}, "3 ids missing"),
        ("rejected", {"rejected_ids": 1}, "1 id rejected"),
    ],
)
def test_open_and_rejected_ids_count_always(lake, state, counts, why):
    """They are a failure with days and without, and the gap is listed with its reason and age."""
    gap = {"first_id": 15, "last_id": 17, "state": state, "reason": "sequence gap"}
    days = [held(0, 1, 9), held(1, 10, 29, is_complete=False, **counts), held(2, 30, 39)]
    known(lake, days, [(0, 14), (18, 40)], [gap, {**gap, "first_id": 2, "last_id": 3, "state": "filled"}])
    found, status = asked(lake)
    [listed] = found.gaps
    assert (status, found.days[1].why, listed.ids, listed.reason) == (1, why, 3, "sequence gap")
    assert (listed.state, listed.age_seconds) == (state, 3600)
    assert [(r.first_id, r.last_id) for r in found.days[1].ranges] == [(10, 14), (18, 29)]
    assert (asked(lake, 1, 1)[1], asked(lake, 0, 0)[1], asked(lake, 2, 2)[1]) == (1, 0, 0)


def test_a_gap_between_two_days_counts_towards_the_lower_one(lake):
    """It belongs to the day of the next lower held trade."""
    gap = {"first_id": 10, "last_id": 12, "state": "open", "reason": "tail"}
    days = [held(0, 1, 9, is_complete=False, missing_ids=3), held(1, 13, 20, is_complete=False)]
    known(lake, days, [(1, 9), (13, 20)], [gap])
    assert [len(asked(lake, n, n)[0].gaps) for n in (0, 1)] == [1, 0]
    assert asked(lake, 1, 1)[0].days[0].why == (
        "the trade before its first is not held, the trade after its last is not held"
    )


def test_a_day_without_trades_between_neighbours_is_complete(lake):
    """Nothing was traded that day, and that is known: the trades before and after it are neighbours."""
    known(lake, [held(0, 1, 9), held(2, 10, 19), held(4, 30, 39)], [(0, 19), (30, 40)])
    found, status = asked(lake, 1, 1)
    assert ([(d.trade_count, d.is_complete) for d in found.days], status) == ([(0, True)], 0)
    found, status = asked(lake, 3, 3)
    assert ([(d.is_complete, d.why) for d in found.days], status) == ([(False, "no trade of it is held")], 1)


def test_a_day_before_anything_was_captured_is_not_complete(lake):
    """It is over and nothing of it is held; it waits for a backfill."""
    known(lake, [held(1, 10, 19), held(2, 20, 29)], [(9, 30)])
    found, status = asked(lake, 0, 1)
    assert ([d.why for d in found.days], status) == (["no trade of it is held", ""], 1)


def test_an_instrument_that_was_never_captured_is_a_failure(lake):
    """With or without days, and also where there are no tables at all."""
    found, status = asked(lake)
    assert (found.is_captured, found.days, status) == (False, (), 1)
    known(lake, [{**held(0, 1, 9), "symbol": "ETHUSDT"}], [(1, 9)])
    found, status = asked(lake, 0, 5)
    assert (found.is_captured, found.instrument, status) == (False, "binance:BTCUSDT", 1)


def test_days_of_which_nothing_is_known_are_nothing_captured(lake):
    """Days after the newest trade are not over; but where only such are asked for, nothing was captured."""
    known(lake, [held(0, 1, 9), held(1, 10, 19, is_complete=False)], [(0, 19)])
    assert asked(lake, 0, 5)[1] == 0
    found, status = asked(lake, 4, 5)
    assert (found.is_captured, list(found.days), status) == (False, [], 1)


def test_ids_that_prove_nothing_leave_completeness_unknown(lake):
    """Where a venue's ids are opaque nobody can say that a day is complete."""
    known(lake, [held(0, 1, 9, is_complete=None), held(1, 10, 19, is_complete=None)], [(1, 9)])
    found, status = asked(lake, 0, 0)
    assert (found.days[0].why, status) == ("the venue's ids prove nothing", 1)


def test_all_instruments_are_told_of(lake):
    """Without a name, every instrument that was ever captured."""
    known(lake, [held(0, 1, 9), {**held(0, 1, 9), "venue": "okx", "symbol": "BTC-USDT"}], [(1, 9)])
    with lake.reader() as reader:
        found = coverage(reader, None, Days(), NOW)
    assert [i.instrument for i in found] == ["binance:BTCUSDT", "okx:BTC-USDT"]
