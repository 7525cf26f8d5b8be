"""
An independent computation of what the trade tables hold, from bronze rows, by the definitions alone.

Ids are looked at one by one, sums are Python decimals, and a bar is judged by walking to its neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

Row = Mapping[str, Any]
Instrument = tuple[str, str]
VIA = ("websocket", "rest", "archive")
STATES = ("filled", "absent", "rejected")
MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXACT = Context(prec=60)


def trade_tables(copies: Sequence[Row], events: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the trade tables, by `layer.table`."""
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    copies_of, events_of = _by_instrument(copies), _by_instrument(events)
    for instrument in copies_of.keys() | events_of.keys():
        trades, said = best_copies(copies_of.get(instrument, [])), events_of.get(instrument, [])
        head = dict(zip(("venue", "symbol"), instrument, strict=True))
        gaps = gap_ids(trades, said)
        tables["silver.trade_gaps"] += [{**head, **row} for row in _gap_ranges(gaps, said)]
        if not trades:
            continue
        fates = {i: gap["state"] for i, gap in gaps.items()}
        absent = {i for i, state in fates.items() if state == "absent"}
        tables["silver.trades"] += [{**t, "traded_date": t["traded_at"].date()} for t in trades.values()]
        tables["silver.held_ids"] += [
            {**head, "first_id": a, "last_id": b, "last_traded_at": trades[b]["traded_at"]}
            for a, b in _stretches(trades)
        ]
        tables["silver.held_ranges"] += [{**head, **r} for r in _ranges(trades.keys(), absent)]
        for interval, minutes in MINUTES.items():
            bars = [{**head, **bar} for bar in make_bars(trades, absent, minutes)]
            tables["gold.fact_ohlcv"] += [{"interval": interval, **bar} for bar in bars]
            if interval == "1m":
                tables["silver.bars_1m"] += bars
            if interval == "1d":
                tables["gold.coverage_daily"] += _coverage(bars, trades, fates)
    return tables


def best_copies(copies: Iterable[Row]) -> dict[int, dict[str, Any]]:
    """Return the best copy of each trade of one instrument, by id."""
    best: dict[int, Any] = {}
    for copy in copies:
        rank = (
            VIA.index(copy["received_via"]),
            copy["received_at"],
            copy["price"],
            copy["quantity"],
            copy["is_buyer_maker"],
            copy["traded_at"],
        )
        held = best.get(copy["trade_id"])
        if held is None or rank < held[0]:
            best[copy["trade_id"]] = (rank, {k: v for k, v in copy.items() if not k.startswith("_")})
    return {i: best[i][1] for i in sorted(best)}


def gap_ids(held: Mapping[int, Any], events: Sequence[Row]) -> dict[int, dict[str, Any]]:
    """Return what is known of every id that an event speaks of, by id."""
    told: dict[int, list[Row]] = defaultdict(list)
    for event in events:
        for i in range(event["first_id"], event["last_id"] + 1):
            told[i].append(event)
    return {i: _fate(i in held, of_id) for i, of_id in told.items()}


def _fate(is_held: bool, events: Sequence[Row]) -> dict[str, Any]:
    kinds = {e["event"] for e in events} | ({"filled"} if is_held else set())
    state = next((s for s in STATES if s in kinds), "open")
    missed = sorted(
        (e for e in events if e["event"] == "missing"), key=lambda e: (e["occurred_at"], e["reason"] or "")
    )
    closed = sorted(
        (e for e in events if e["event"] == state), key=lambda e: (e["occurred_at"], e["resolved_by"] or "")
    )
    others = sorted(events, key=lambda e: (e["event"] != state, e["occurred_at"], e["reason"] or ""))
    return {
        "state": state,
        "reason": (missed or others)[0]["reason"],
        "detected_at": min(e["occurred_at"] for e in events),
        "closed_at": closed[0]["occurred_at"] if closed else None,
        "resolved_by": closed[0]["resolved_by"] if closed else None,
    }


def _gap_ranges(fates: Mapping[int, Row], events: Sequence[Row]) -> list[dict[str, Any]]:
    """Return *fates* as ranges: adjacent ids of one fate are in one, if an event speaks of both."""
    found: list[dict[str, Any]] = []
    for i in sorted(fates):
        is_told_of_both = any(e["first_id"] < i <= e["last_id"] for e in events)
        if is_told_of_both and fates[i] == fates.get(i - 1):
            found[-1]["last_id"] = i
        else:
            found.append({"first_id": i, "last_id": i, **fates[i]})
    return found


def make_bars(trades: Mapping[int, Row], absent: set[int], minutes: int) -> list[dict[str, Any]]:
    """Return the bars of *minutes* minutes of the *trades* of one instrument, by id."""
    length = timedelta(minutes=minutes)
    members: dict[datetime, list[int]] = defaultdict(list)
    for i, trade in trades.items():
        members[EPOCH + (trade["traded_at"] - EPOCH) // length * length].append(i)
    return [
        {"bar_start_at": start, **_bar([trades[i] for i in sorted(ids)], trades.keys(), absent)}
        for start, ids in members.items()
    ]


def _bar(trades: Sequence[Row], held: Any, absent: set[int]) -> dict[str, Any]:
    bought = [t for t in trades if not t["is_buyer_maker"]]
    prices = [t["price"] for t in trades]
    volume, quote_volume = _sum(trades, _quantity), _sum(trades, _quote)
    first, last = trades[0]["trade_id"], trades[-1]["trade_id"]
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": volume,
        "quote_volume": quote_volume,
        "trade_count": len(trades),
        "taker_buy_volume": _sum(bought, _quantity),
        "taker_buy_quote_volume": _sum(bought, _quote),
        "vwap": float(quote_volume) / float(volume),
        "first_trade_id": first,
        "last_trade_id": last,
        "is_complete": all(i in held or i in absent for i in range(first, last + 1))
        and _neighbour(first, -1, absent) in held
        and _neighbour(last, 1, absent) in held,
    }


def _quantity(trade: Row) -> Decimal:
    return trade["quantity"]


def _quote(trade: Row) -> Decimal:
    return EXACT.multiply(trade["price"], trade["quantity"])


def _sum(trades: Iterable[Row], part: Callable[[Row], Decimal]) -> Decimal:
    total = Decimal(0)
    for trade in trades:
        total = EXACT.add(total, part(trade))
    return total


def _neighbour(i: int, step: int, absent: set[int]) -> int:
    i += step
    while i in absent:
        i += step
    return i


def _stretches(ids: Iterable[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for i in sorted(ids):
        if found and found[-1][1] == i - 1:
            found[-1] = (found[-1][0], i)
        else:
            found.append((i, i))
    return found


def _ranges(held: Iterable[int], absent: set[int]) -> Iterable[dict[str, int]]:
    ids = set(held)
    for a, b in _stretches(ids | absent):
        if inside := [i for i in range(a, b + 1) if i in ids]:
            yield {"first_id": inside[0], "last_id": inside[-1], "trade_count": len(inside)}


def _coverage(
    days: Sequence[Row], trades: Mapping[int, Row], fates: Mapping[int, str]
) -> list[dict[str, Any]]:
    counts: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    first_date = min(day["bar_start_at"] for day in days).date()
    for i, state in fates.items():
        below = max((held for held in trades if held < i), default=None)
        counts[first_date if below is None else trades[below]["traded_at"].date()][state] += 1
    return [
        {
            **{k: day[k] for k in ("venue", "symbol", "trade_count", "first_trade_id", "last_trade_id")},
            "traded_date": day["bar_start_at"].date(),
            "missing_ids": counts[day["bar_start_at"].date()]["open"],
            "absent_ids": counts[day["bar_start_at"].date()]["absent"],
            "rejected_ids": counts[day["bar_start_at"].date()]["rejected"],
            "is_complete": day["is_complete"],
        }
        for day in days
    ]


def _by_instrument(rows: Iterable[Row]) -> dict[Instrument, list[Row]]:
    found: dict[Instrument, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["venue"], row["symbol"]].append(row)
    return found
