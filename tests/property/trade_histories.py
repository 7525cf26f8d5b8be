"""
Random histories of trades: what a capture, its healing and backfills landed in bronze, in whatever order.

`random_trades(seed)` gives the same history every time. Instruments are independent of each other, so one lake of
many tests as many histories.

What happens in them: ids that are missed, and filled, absent, rejected, several of these, or nothing at all; trades
that come for an absent or rejected id; events told twice, in pieces, or before what they close, and some that reach
over others; neighbours of which the same is told, by one event or apart; copies by several ways, a better one later,
and copies that differ in price, or lie in another minute or day; times that disagree with ids across minutes; minutes
and hours without trades; days that end in between; history from before the first captured trade, with a hole that is
no gap. No event says of an absent id that it is filled: bars that it completed would stay so while its trade is out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa

from cryptolake.contracts import load_contracts
from cryptolake.contracts.schemas import arrow_schema

TRADES, GAPS = "bronze.realtime_trades", "bronze.trade_gaps"
START = datetime(2024, 8, 8, 22, 10, tzinfo=UTC)
FATES = (
    "held",
    "open",
    "filled",
    "absent",
    "rejected",
    "held though absent",
    "held though rejected",
    "silent",
)
WEIGHTS = (30, 4, 6, 6, 3, 2, 2, 1)
SMALL, LARGE = Decimal("0.000000000001"), Decimal("9999999.999999999999")


@dataclass(frozen=True)
class TradeHistory:
    """What landed, run after run: rows of bronze trades and gap events, without `_loaded_at`."""

    seed: int
    runs: tuple[tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]], ...]

    def upto(self, run: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the trades and events of the runs before *run*."""
        trades = [t for landed, _ in self.runs[:run] for t in landed]
        return trades, [e for _, landed in self.runs[:run] for e in landed]


def arrow(table: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return *rows* in the columns of *table*; what they lack is null."""
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(load_contracts()[table]))


def random_trades(seed: int, *, instruments: int = 2, ids: int = 150, runs: int = 4) -> TradeHistory:
    """Return the history number *seed* of so many *instruments*, each with about *ids* ids, landed in *runs* runs."""
    trades: list[list[dict[str, Any]]] = [[] for _ in range(runs)]
    events: list[list[dict[str, Any]]] = [[] for _ in range(runs)]
    for n in range(instruments):
        random = Random(f"{seed}/{n}")
        venue = ("binance", "coinbase")[n % 2]
        head = {"venue": venue, "symbol": f"{'BTC' if venue == 'coinbase' else 'COIN'}-{seed}-{n}"}
        spread = random.choice([0.0, 0.3, 1.0])  # how much lands in another run than its neighbours
        told, said = _instrument(random, ids)
        for rows, of_runs in ((told, trades), (said, events)):
            for place, row in enumerate(rows):
                run = random.randrange(runs) if random.random() < spread else place * runs // len(rows)
                of_runs[run].append({**head, **row, "_run_id": f"run-{run}"})
    for rows in (*trades, *events):
        Random(seed).shuffle(rows)
    return TradeHistory(seed, tuple(zip(trades, events, strict=True)))


def _instrument(random: Random, ids: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the copies of trades and the events of one instrument, about as they happened."""
    base, at = random.randrange(1, 10**9), START + timedelta(seconds=random.randrange(3600))
    busy = random.choice([0.2, 5.0, 40.0])
    copies: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    told_at = at if random.random() < 0.5 else None  # all events at once, so that neighbours are alike
    i = base
    while i < base + ids:
        fate = random.choices(FATES, WEIGHTS)[0]
        length = random.randint(1, 25 if fate == "held" else 6)
        if fate == "silent" and i > base:
            i += random.choice([0, 0, 1000])  # what lies before is history from before the capture
            fate = "held"
        for trade_id in range(i, i + length):
            at += timedelta(microseconds=int(random.expovariate(1 / busy) * 1e6))
            at += random.choice([timedelta()] * 60 + [timedelta(minutes=20), timedelta(hours=5)])
            if fate in {"held", "filled"} or fate.startswith("held"):
                copies += _copies(random, trade_id, at)
        if fate != "held":
            events += _events(random, i, i + length - 1, fate.rpartition(" ")[2], at, told_at)
        i += length
    for _ in range(random.randrange(6)):
        a, length = random.randrange(base, i), random.choice([1, 2, 3, 10, 40])
        kind = random.choice(["missing", "rejected"])
        events.insert(random.randint(0, len(events)), _event(random, kind, a, a + length - 1, at, told_at))
    return copies, events


def _copies(random: Random, trade_id: int, at: datetime) -> list[dict[str, Any]]:
    """Return one copy of a trade, or several, some of which differ."""
    at += timedelta(seconds=random.choice([0] * 15 + [-70, 70, 3]))
    price = random.choice([Decimal(random.randrange(1, 10**7)).scaleb(-2), SMALL, Decimal(61_837)])
    quantity = random.choice([Decimal(random.randrange(1, 10**9)).scaleb(-8)] * 9 + [SMALL, LARGE])
    trade = {
        "trade_id": trade_id,
        "price": price,
        "quantity": quantity,
        "is_buyer_maker": random.random() < 0.5,
        "traded_at": at,
        "event_at": at + timedelta(milliseconds=1) if random.random() < 0.9 else None,
        "received_at": at + timedelta(milliseconds=random.randrange(5, 500)),
        "received_via": random.choices(("websocket", "rest", "archive"), (8, 3, 2))[0],
    }
    copies = [trade]
    while random.random() < 0.15:
        differing = random.choice(
            [
                {},
                {},
                {"price": price + 1},
                {"traded_at": at - timedelta(minutes=1)},
                {"traded_at": at + timedelta(days=9)},
            ]
        )
        via = random.choice(("websocket", "rest", "archive"))
        late = timedelta(milliseconds=random.randrange(900))
        copies.append({**trade, **differing, "received_via": via, "received_at": at + late})
    return copies


def _events(
    random: Random, first: int, last: int, fate: str, at: datetime, told_at: datetime | None
) -> list[dict[str, Any]]:
    """Return what was said of a range: that it is missing, mostly, and what became of it, in pieces or at once."""

    def event(kind: str, a: int, b: int) -> dict[str, Any]:
        return _event(random, kind, a, b, at, told_at)

    said = [event("missing", first, last)] if random.random() < 0.9 or fate == "open" else []
    if fate != "open":
        cut = random.randint(first, last)
        pieces = [(first, cut), (cut + 1, last)] if random.random() < 0.4 else [(first, last)]
        said += [event(fate, a, b) for a, b in pieces if a <= b]
        if random.random() < 0.1:
            also = {"absent": ["absent", "rejected"], "filled": ["rejected", "filled"]}
            said.append(event(random.choice(also.get(fate, ["absent", "rejected", "filled"])), first, cut))
    if said and random.random() < 0.2:
        said.append(dict(random.choice(said)))
    return said


def _event(
    random: Random, kind: str, first: int, last: int, at: datetime, told_at: datetime | None
) -> dict[str, Any]:
    """Return an event soon after *at*; or one of *told_at*, which differs from others of its kind by its ids alone."""
    by = "rest" if told_at else random.choice(["twin", "rest", "archive"])
    return {
        "first_id": first,
        "last_id": last,
        "event": kind,
        "reason": "stall" if told_at else random.choice(["disconnect", "stall", None]),
        "resolved_by": None if kind == "missing" else by,
        "occurred_at": told_at or at + timedelta(seconds=random.randrange(90)),
    }
