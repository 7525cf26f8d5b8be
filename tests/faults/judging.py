"""
What has to be true of a lake after a capture, however it was disturbed.

`Truth` is what the venues published and what of it can still be had; `faults_of` compares one instrument
with it, by an independent fold of the events in `bronze.trade_gaps`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow as pa

from cryptolake.contracts import load_contracts
from tests.equality import differences

Key = tuple[str, str]
"""Venue and stored symbol."""

COMPARED = (
    "silver.trades",
    "silver.bars_1m",
    "silver.held_ranges",
    "gold.fact_ohlcv",
    "gold.dim_instruments",
    "gold.coverage_daily",
)
HOW_A_ROW_CAME = ("received_at", "event_at", "received_via")
SHOWN = 8


@dataclass(frozen=True)
class Truth:
    """
    The ids of one instrument: those that *exist*, rising, and of these the *gone*, which nobody gives any more.

    *start* is the lowest id that the capture answers for, *head* the newest published.
    """

    exist: Sequence[int]
    gone: frozenset[int]
    start: int
    head: int

    @property
    def available(self) -> list[int]:
        """Return the ids from *start* to *head* that can be had, rising."""
        wanted = self.exist[bisect_left(self.exist, self.start) : bisect_right(self.exist, self.head)]
        return [trade_id for trade_id in wanted if trade_id not in self.gone]

    def not_held(self) -> tuple[set[int], set[int]]:
        """
        Return the ids that have to be open, and those that have to be absent.

        What lies between two neighbours that can be had is open, if any of it exists: nothing can
        prove the rest of it absent. Otherwise it is absent.
        """
        is_open: set[int] = set()
        absent: set[int] = set()
        gone = sorted(self.gone)
        for below, above in pairwise(self.available):
            if above - below > 1:
                has_gone = bisect_left(gone, above) > bisect_right(gone, below)
                (is_open if has_gone else absent).update(range(below + 1, above))
        return is_open, absent


@dataclass
class Folded:
    """The ids of one instrument by what the events say of them."""

    open: set[int] = field(default_factory=set)
    absent: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]]) -> Folded:
        """Fold *events*, rows of `bronze.trade_gaps`: open is what was missing and was not closed; received closes all."""
        ids: dict[str, set[int]] = {"missing": set(), "filled": set(), "absent": set(), "rejected": set()}
        for event in events:
            ids[event["event"]].update(range(event["first_id"], event["last_id"] + 1))
        absent = ids["absent"] - ids["filled"]
        rejected = ids["rejected"] - ids["filled"] - absent
        return cls(ids["missing"] - ids["filled"] - absent - rejected, absent, rejected)


@dataclass
class Landed:
    """What bronze has of one instrument: the ids of its rows, and its events."""

    ids: list[int] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)


def landed(trades: pa.Table, events: pa.Table) -> dict[Key, Landed]:
    """Sort rows of `bronze.realtime_trades` and `bronze.trade_gaps` by instrument."""
    found: dict[Key, Landed] = {}
    columns = (trades[name].to_pylist() for name in ("venue", "symbol", "trade_id"))
    for venue, symbol, trade_id in zip(*columns, strict=True):
        found.setdefault((venue, symbol), Landed()).ids.append(trade_id)
    for event in events.to_pylist():
        found.setdefault((event["venue"], event["symbol"]), Landed()).events.append(event)
    return found


def is_whole(found: Landed, truth: Truth) -> bool:
    """Say whether all that can be had is held, and what is not held has the state that it must have."""
    folded = Folded.of(found.events)
    return set(found.ids) >= set(truth.available) and (folded.open, folded.absent) == truth.not_held()


def faults_of(found: Landed, truth: Truth) -> list[str]:
    """Return what is wrong with one instrument, a sentence each; nothing where all is as it has to be."""
    held, folded = set(found.ids), Folded.of(found.events)
    is_open, absent = truth.not_held()
    everything = set(range(truth.start, truth.head + 1))
    twice = [trade_id for trade_id, times in Counter(found.ids).items() if times > 1]
    disclosed = folded.open | folded.absent | folded.rejected
    return [
        f"{what}: {_some(ids)}"
        for what, ids in (
            ("ids that REST can give are not in bronze", set(truth.available) - held),
            ("ids that nobody published are in bronze", held - set(truth.exist)),
            ("ids are written twice", twice),
            ("ids below the start or above the head are in bronze", held - everything),
            ("ids are neither held nor disclosed", everything - held - disclosed),
            ("ids are held and yet said to be missing, absent or rejected", held & disclosed),
            ("ids that cannot be had are not open", is_open - folded.open),
            ("ids are open and should not be", folded.open - is_open),
            ("ids that do not exist are not absent", absent - folded.absent),
            ("ids are absent and should not be", folded.absent - absent),
            ("ids are rejected and should not be", folded.rejected),
        )
        if ids
    ]


def table_faults(found: Mapping[str, pa.Table], expected: Mapping[str, pa.Table]) -> list[str]:
    """Return how refined tables differ from those of an undisturbed capture; all of `COMPARED` have to be there."""
    faults = [f"{name} is not there" for name in COMPARED if name not in found]
    for name in (name for name in COMPARED if name in found):
        key = load_contracts()[name].key
        ours, theirs = (_compared(tables[name], key) for tables in (found, expected))
        if not ours.equals(theirs):
            faults += [f"{name}: {what}" for what in differences(ours, theirs, key=key)]
    ours, theirs = _gap_states(found), _gap_states(expected)
    return faults + [
        f"silver.trade_gaps: {' '.join(key)} has other {state} ids: {_some(ids)}"
        for key, state in sorted(ours.keys() | theirs.keys())
        if (ids := ours.get((key, state), set()) ^ theirs.get((key, state), set()))
    ]


def _gap_states(tables: Mapping[str, pa.Table]) -> dict[tuple[Key, str], set[int]]:
    """Return the ids that are not held, by instrument and state; how ranges are cut and why is of no matter."""
    ids: dict[tuple[Key, str], set[int]] = {}
    for row in tables["silver.trade_gaps"].to_pylist():
        if row["state"] != "filled":
            of = ids.setdefault(((row["venue"], row["symbol"]), row["state"]), set())
            of.update(range(row["first_id"], row["last_id"] + 1))
    return ids


def _compared(table: pa.Table, key: Sequence[str]) -> pa.Table:
    names = sorted(n for n in table.column_names if not n.startswith("_") and n not in HOW_A_ROW_CAME)
    return table.select(names).sort_by([(name, "ascending") for name in key]).combine_chunks()


def _some(ids: Collection[int]) -> str:
    shown = ", ".join(str(trade_id) for trade_id in sorted(ids)[:SHOWN])
    return f"{len(ids)} ({shown}{', …' if len(ids) > SHOWN else ''})"
