"""Trades as Arrow columns of `bronze.realtime_trades`, a batch at a time, and what of a batch cannot be trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cryptolake.capture.entries import Event
from cryptolake.sources.records import Trade
from cryptolake.sources.tape import LARGEST_ID

DECIMAL = pa.decimal128(28, 12)
TIMESTAMP = pa.timestamp("us", "UTC")
LATEST_US = 253_402_300_799_999_999
"""The last microsecond of the year 9999; no engine that reads the lake goes further."""

PRINTED = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
EXACT = Context(prec=28, traps=[Inexact, InvalidOperation])
SMALLEST = Decimal("1E-12")


class EventRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of `bronze.trade_gaps`; *symbol* as stored."""

    venue: str
    symbol: str
    first_id: int
    last_id: int
    event: Event
    reason: str
    resolved_by: str | None
    occurred_at_us: int


class RejectRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of `bronze.rejects`."""

    source: str
    venue: str | None
    symbol: str | None
    trade_id: int | None
    received_at_us: int
    reason: str
    payload: bytes


class Checked(NamedTuple):
    """
    The decimals of trades that can be trusted, exactly, in their order; *good* are the positions of those trades.

    *bad* are the positions of the others, with the reason.
    """

    prices: pa.Array
    quantities: pa.Array
    good: Sequence[int]
    bad: list[tuple[int, str]]


@cache
def trade_schema() -> pa.Schema:
    """Return the columns of a spooled trade: those of `bronze.realtime_trades` without lineage."""
    return pa.schema(
        [
            ("venue", pa.string()),
            ("symbol", pa.string()),
            ("trade_id", pa.int64()),
            ("price", DECIMAL),
            ("quantity", DECIMAL),
            ("is_buyer_maker", pa.bool_()),
            ("traded_at", TIMESTAMP),
            ("event_at", TIMESTAMP),
            ("received_at", TIMESTAMP),
            ("received_via", pa.string()),
        ]
    )


def check(trades: Sequence[Trade]) -> Checked:
    """
    Read the decimals of *trades*, and find those that cannot be trusted.

    Trusted is a trade whose price and quantity are above zero and fit decimal(28, 12) without rounding,
    whose id is a whole number from 0 to `LARGEST_ID`, and whose times lie between 1970 and 9999.
    """
    try:
        prices = pa.array([t.price for t in trades], pa.string()).cast(DECIMAL)
        quantities = pa.array([t.quantity for t in trades], pa.string()).cast(DECIMAL)
        if _all_fit(trades, prices, quantities):
            return Checked(prices, quantities, range(len(trades)), [])
    except (ValueError, TypeError):  # what Arrow says of text that is no decimal, or does not fit
        pass
    return _check_each(trades)


def _all_fit(trades: Sequence[Trade], prices: pa.Array, quantities: pa.Array) -> bool:
    if not trades:
        return True
    ids, times = [t.trade_id for t in trades], [t.traded_at_us for t in trades]
    events = [t.event_at_us for t in trades if t.event_at_us is not None]
    return (
        min(ids) >= 0
        and max(ids) <= LARGEST_ID
        and min(times) >= 0
        and max(times) <= LATEST_US
        and min(events, default=0) >= 0
        and max(events, default=0) <= LATEST_US
        and not prices.null_count + quantities.null_count
        and pc.call_function("min", [prices]).as_py() > 0
        and pc.call_function("min", [quantities]).as_py() > 0
    )


def _check_each(trades: Sequence[Trade]) -> Checked:
    prices: list[Decimal] = []
    quantities: list[Decimal] = []
    good: list[int] = []
    bad: list[tuple[int, str]] = []
    for n, trade in enumerate(trades):
        price, quantity = _exact(trade.price), _exact(trade.quantity)
        if reason := _distrust(trade, price, quantity):
            bad.append((n, reason))
        elif price is not None and quantity is not None:
            prices.append(price)
            quantities.append(quantity)
            good.append(n)
    return Checked(pa.array(prices, DECIMAL), pa.array(quantities, DECIMAL), good, bad)


def _distrust(trade: Trade, price: Decimal | None, quantity: Decimal | None) -> str:
    for name, text, value in (("price", trade.price, price), ("quantity", trade.quantity, quantity)):
        if value is None:
            return f"the {name} {text!r} is not a number that fits decimal(28, 12)"
        if value <= 0:
            return f"the {name} {text} is not above zero"
    if not 0 <= trade.trade_id <= LARGEST_ID:
        return f"the trade id {trade.trade_id} is not a whole number from 0 to {LARGEST_ID}"
    for at_us in (trade.traded_at_us, trade.event_at_us):
        if at_us is not None and not 0 <= at_us <= LATEST_US:
            return f"the time {at_us} µs is not between 1970 and 9999"
    return ""


def _exact(text: str) -> Decimal | None:
    """Return *text* as a decimal(28, 12), or None where it is none or would have to be rounded."""
    if not isinstance(text, str) or not PRINTED.fullmatch(text):
        return None
    try:
        value = Decimal(text).quantize(SMALLEST, context=EXACT)
    except ArithmeticError:  # too many digits on either side of the point
        return None
    return value


def trade_rows(
    names: Sequence[tuple[str, str, int]],
    trades: Sequence[Trade],
    decimals: tuple[pa.Array, pa.Array],
    received_at_us: Sequence[int],
    via: str,
) -> pa.RecordBatch:
    """
    Return *trades* as rows.

    Args:
        names: venue and symbol as stored, and how many trades in turn are theirs.
        trades: trusted ones.
        decimals: their prices and quantities; see `check`.
        received_at_us: when each was received, microseconds.
        via: `websocket`, `rest` or `archive`.
    """
    columns = [
        _repeated((venue, count) for venue, _, count in names),
        _repeated((symbol, count) for _, symbol, count in names),
        pa.array([t.trade_id for t in trades], pa.int64()),
        *decimals,
        pa.array([t.is_buyer_maker for t in trades], pa.bool_()),
        pa.array([t.traded_at_us for t in trades], pa.int64()).view(TIMESTAMP),
        pa.array([t.event_at_us for t in trades], pa.int64()).view(TIMESTAMP),
        pa.array(received_at_us, pa.int64()).view(TIMESTAMP),
        _repeated([(via, len(trades))]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=trade_schema())


def _repeated(texts: Iterable[tuple[str, int]]) -> pa.Array:
    """Return texts in turn, each as often as said."""
    return pa.concat_arrays([pa.repeat(pa.scalar(text, pa.string()), count) for text, count in texts])


def archive_rows(venue: str, symbol: str, rows: pa.Table, received_at_us: int) -> pa.Table:
    """Return the *rows* of an archive file (see `ArchivePiece`) as rows; *symbol* as stored."""
    count = rows.num_rows
    received = pa.scalar(received_at_us, pa.int64()).cast(TIMESTAMP)
    columns = {
        "venue": pa.repeat(pa.scalar(venue), count),
        "symbol": pa.repeat(pa.scalar(symbol), count),
        **{name: rows[name] for name in ("trade_id", "price", "quantity", "is_buyer_maker", "traded_at")},
        "event_at": pa.nulls(count, TIMESTAMP),
        "received_at": pa.repeat(received, count),
        "received_via": pa.repeat(pa.scalar("archive"), count),
    }
    return pa.table(columns).cast(trade_schema())


def event_table(rows: Sequence[EventRow]) -> pa.Table:
    """Return *rows* in the columns of `bronze.trade_gaps`, without lineage."""
    return pa.table(
        {
            "venue": pa.array([r.venue for r in rows], pa.string()),
            "symbol": pa.array([r.symbol for r in rows], pa.string()),
            "first_id": pa.array([r.first_id for r in rows], pa.int64()),
            "last_id": pa.array([r.last_id for r in rows], pa.int64()),
            "event": pa.array([r.event for r in rows], pa.string()),
            "reason": pa.array([r.reason for r in rows], pa.string()),
            "resolved_by": pa.array([r.resolved_by for r in rows], pa.string()),
            "occurred_at": pa.array([r.occurred_at_us for r in rows], pa.int64()).view(TIMESTAMP),
        }
    )


def reject_table(rows: Sequence[RejectRow]) -> pa.Table:
    """Return *rows* in the columns of `bronze.rejects`, without lineage."""
    return pa.table(
        {
            "source": pa.array([r.source for r in rows], pa.string()),
            "venue": pa.array([r.venue for r in rows], pa.string()),
            "symbol": pa.array([r.symbol for r in rows], pa.string()),
            "trade_id": pa.array([r.trade_id for r in rows], pa.int64()),
            "received_at": pa.array([r.received_at_us for r in rows], pa.int64()).view(TIMESTAMP),
            "reason": pa.array([r.reason for r in rows], pa.string()),
            "payload": pa.array([r.payload for r in rows], pa.binary()),
        }
    )
