"""Build a spool anew from the lake and from the blocks of a damaged one that can still be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cryptolake.capture import held
from cryptolake.capture.batch import EventRow
from cryptolake.capture.entries import Mark
from cryptolake.capture.folder import explained
from cryptolake.capture.held import Name
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.landing import REJECTS, parts, position
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.ranges import Range, Ranges
from cryptolake.capture.spool import FILE, Block, Spool, salvaged_blocks, salvaged_identity, salvaged_marks
from cryptolake.clock import Clock

if TYPE_CHECKING:
    from cryptolake.lake import Lake, Reader

REBUILT = "trades.db.rebuilt"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rebuild(
    folder: Path, lake: Lake, reader: Reader, new_ledger: Callable[[Instrument], Ledger], clock: Clock
) -> str:
    """
    Put a new spool in the place of the one in *folder*, and say what was done.

    What the lake holds and what can be read of the old blocks is held; what lies between, or was held by the marks
    of the old spool, is missing. The old file and its log stay as they are until the new one is whole; after a crash
    the next run begins again, or does what is left to do (see `finish`).
    """
    path = folder / FILE
    with explained(path):
        for leftover in folder.glob(f"{REBUILT}*"):
            leftover.unlink()
    salvaged = _held_by_blocks(salvaged_blocks(path))
    marks = salvaged_marks(path)
    in_lake = _held_by_lake(reader, salvaged, marks)
    new = {name: _without(its, in_lake.get(name, ())) for name, its in salvaged.items()}
    landed = _rejects_landed(lake, path)
    ledgers: dict[Name, Ledger] = {}
    for name in {**salvaged, **in_lake, **marks}:
        ledgers[name] = new_ledger(Instrument(name[0], name[1], name[1]))
        for island in _merged([*salvaged.get(name, ()), *in_lake.get(name, ())]):
            ledgers[name].learn(island, "spool lost")
        if name in marks:
            ledgers[name].answer_for(marks[name], "spool lost")
    trades = 0
    with Spool.open(folder, REBUILT) as spool:
        for seq, block in salvaged_blocks(path):
            closing = [event for event in block.events if event.event != "missing"]
            for e in closing:
                ledgers.setdefault((e.venue, e.symbol), new_ledger(Instrument(e.venue, e.symbol, e.symbol)))
                ledgers[e.venue, e.symbol].apply(e.first_id, e.last_id, e.event)
            kept = Block(_only(block, new), closing, block.rejects if seq > landed else [])
            spool.append(kept)
            trades += kept.trade_count
        for name, first, last, event in held.closings(
            reader, {n: ledger.open for n, ledger in ledgers.items()}
        ):
            ledgers[name].apply(first, last, event)
        for ledger in ledgers.values():
            ledger.announce("spool lost")
        save(spool, {ledger.instrument: ledger for ledger in ledgers.values()}, clock)
        spool.settle()
    aside = path.with_name(f"{FILE}.damaged-{clock.wall():%Y%m%dT%H%M%S%fZ}")
    _swap(path, aside)
    return (
        f"It was set aside as {aside}; {trades:,} trades were saved from it, what is missing is fetched again"
    )


def save(spool: Spool, ledgers: Mapping[Instrument, Ledger], clock: Clock) -> None:
    """Make durable in *spool* what has changed in *ledgers*."""
    changes = [(instrument, ledger.changes()) for instrument, ledger in ledgers.items()]
    now_us = (clock.now() - EPOCH) // timedelta(microseconds=1)
    events = [EventRow(i.venue, i.stored_as, *event, now_us) for i, c in changes for event in c.events]
    spool.append(Block((), events), changes)


def by_name(block: Block) -> Iterator[tuple[Name, pa.Table]]:
    """Yield the trades of *block* by venue and symbol."""
    if not block.trade_count:
        return
    rows = pa.Table.from_batches(block.trades)
    for name in rows.select(["venue", "symbol"]).group_by(["venue", "symbol"]).aggregate([]).to_pylist():
        venue, symbol = name["venue"], name["symbol"]
        yield (venue, symbol), rows.filter((pc.field("venue") == venue) & (pc.field("symbol") == symbol))


def _held_by_blocks(blocks: Iterable[tuple[int, Block]]) -> dict[Name, Ranges]:
    held_ids: dict[Name, Ranges] = {}
    for _, block in blocks:
        for name, rows in by_name(block):
            ids = rows["trade_id"].to_pylist()
            times = rows["traded_at"].cast(pa.int64()).to_pylist()
            ranges = held_ids.setdefault(name, Ranges())
            for trade_id, at_us in sorted(zip(ids, times, strict=True)):
                if not ranges.around(trade_id):
                    ranges.add(Range(trade_id, trade_id, at_us, at_us))
    return held_ids


def _held_by_lake(
    reader: Reader, salvaged: Mapping[Name, Ranges], marks: Mapping[Name, Mark]
) -> dict[Name, list[Range]]:
    """Return what the lake holds from the first trade captured live, or from the first one that the spool knows."""
    above = {name: (first - 1, EPOCH) for name, first in held.starts(reader).items()}
    firsts = [(name, next(iter(ranges)).first) for name, ranges in salvaged.items()]
    for name, first in [*firsts, *((name, mark.start) for name, mark in marks.items())]:
        lowest = first - 1
        above[name] = (min(lowest, above.get(name, (lowest, EPOCH))[0]), EPOCH)
    return held.islands(reader, above)


def _without(ranges: Ranges, others: Iterable[Range]) -> Ranges:
    left = Ranges(list(ranges))
    for other in others:
        left.remove(other.first, other.last)
    return left


def _merged(ranges: Sequence[Range]) -> list[Range]:
    """Return the union of *ranges*, lowest first; each has the times of its own first and last trade."""
    merged: list[Range] = []
    for new in sorted(ranges, key=lambda r: r.first):
        if not merged or new.first > merged[-1].last:
            merged.append(new)
        elif new.last > merged[-1].last:
            merged[-1] = merged[-1]._replace(last=new.last, before_us=new.before_us)
    return merged


def _rejects_landed(lake: Lake, path: Path) -> int:
    """Return up to which block the rejects of the damaged spool are in the lake; 0 where nobody knows."""
    identity = salvaged_identity(path)
    return (
        max((position(lake, p) for p in parts(identity) if p.table == REJECTS), default=0) if identity else 0
    )


def _only(block: Block, new: Mapping[Name, Ranges]) -> list[pa.RecordBatch]:
    """Return the trades of *block* whose ids are in *new*, and take them out of it."""
    kept: list[pa.RecordBatch] = []
    for name, rows in by_name(block):
        wanted = [bool(new[name].remove(i, i)) for i in rows["trade_id"].to_pylist()]
        kept += rows.filter(pa.array(wanted)).to_batches()
    return kept


def finish(folder: Path) -> None:
    """Put the rebuilt spool in its place, where a crash came after the damaged file had been set aside."""
    path = folder / FILE
    with explained(path):
        if not path.exists() and (folder / REBUILT).exists():
            _swap(path, max(folder.glob(f"{FILE}.damaged-*Z"), default=path.with_name(f"{FILE}.damaged")))


def _swap(path: Path, aside: Path) -> None:
    """
    Set the damaged file and its log aside, then put the rebuilt one in its place.

    The file goes first, for without its log it may pass for a sound one; and the new one never meets the old log.
    """
    with explained(path):
        for ending in ("", "-wal", "-shm"):
            old = path.with_name(path.name + ending)
            if old.exists():
                _move(old, aside.with_name(aside.name + ending))
        _move(path.with_name(REBUILT), path)


def _move(old: Path, new: Path) -> None:
    """Rename *old* in its folder, durably before anything else is renamed."""
    from cryptolake.lake.durable_io import sync

    old.rename(new)
    sync(new.parent)
