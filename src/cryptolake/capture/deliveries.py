"""Write what a venue's archive and REST answered into the lake: only the ids not held, and what the answers prove."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cryptolake.capture.batch import (
    EventRow,
    RejectRow,
    archive_rows,
    check,
    event_table,
    reject_table,
    trade_rows,
    trade_schema,
)
from cryptolake.capture.landing import GAPS, REJECTS, TRADES
from cryptolake.capture.ranges import Range, Ranges
from cryptolake.errors import BadRecordError

if TYPE_CHECKING:
    from cryptolake.capture.entries import Event
    from cryptolake.capture.holdings import Holdings
    from cryptolake.capture.instruments import Instrument
    from cryptolake.clock import Clock
    from cryptolake.lake import Lake
    from cryptolake.sources.records import TradePage
    from cryptolake.sources.venue import ArchivePiece

ROWS_PER_COMMIT = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_MILLISECOND = timedelta(milliseconds=1)
"""The unit of the times in older archive files."""

NEW_TRADES = """
    select i.* from (select distinct on (trade_id) * from incoming order by trade_id, received_via desc) i
    anti join stored s on i.venue = s.venue and i.symbol = s.symbol and i.trade_id = s.trade_id
"""
NEW_EVENTS = """
    select i.* from (select distinct on (first_id, last_id, event) * from incoming) i
    anti join stored s on i.venue = s.venue and i.symbol = s.symbol
        and i.first_id = s.first_id and i.last_id = s.last_id and i.event = s.event
"""
NEW_REJECTS = """
    select i.* from incoming i
    anti join stored s on i.source = s.source and i.venue is not distinct from s.venue
        and i.symbol is not distinct from s.symbol and i.payload = s.payload
"""

Via = Literal["rest", "archive"]


@dataclass
class Counts:
    """What was read and written: trades *read*, those that were *added*, ids proven *absent*, and *rejected* records."""

    read: int = 0
    added: int = 0
    absent: int = 0
    rejected: int = 0


@dataclass
class _Waiting:
    trades: list[pa.Table] = field(default_factory=list[pa.Table])
    events: list[EventRow] = field(default_factory=list[EventRow])
    rejects: list[RejectRow] = field(default_factory=list[RejectRow])
    rows: int = 0


class Deliveries:
    """
    Takes answers about one *instrument* and writes them to *lake*, at most a million rows at a time.

    An answer closes the ids that are missing by an event, as *holdings* knows them. Call `begin` before every
    archive file: what lies between two ids of one answer does not exist.
    """

    def __init__(
        self,
        lake: Lake,
        instrument: Instrument,
        holdings: Holdings,
        *,
        has_coverage: bool,
        clock: Clock,
        run_id: str,
    ) -> None:
        self.counts = Counts()
        self._lake, self._instrument, self._holdings = lake, instrument, holdings
        self._has_coverage, self._clock, self._run_id = has_coverage, clock, run_id
        self._waiting = _Waiting()
        self._last_id: int | None = None
        self._bad_ids: set[int] = set()

    def begin(self) -> None:
        """Begin a new answer."""
        self._last_id, self._bad_ids = None, set()

    def take_piece(self, piece: ArchivePiece) -> None:
        """Take the next piece of an archive file."""
        name = self._instrument
        rows = archive_rows(name.venue, name.stored_as, piece.rows, self._now_us())
        self._take(rows, piece.rejects, "archive", self._now_us())

    def take_page(self, page: TradePage) -> None:
        """Take an answer of the REST. Pages share a trade where they adjoin, so each proves enough by itself."""
        self.begin()
        name, trades = self._instrument, page.trades
        checked = check(trades)
        good = [trades[n] for n in checked.good]
        bad = [
            BadRecordError(
                f"{name.venue} REST",
                why,
                msgspec.json.encode(trades[n]),
                symbol=trades[n].symbol,
                trade_id=trades[n].trade_id,
            )
            for n, why in checked.bad
        ]
        rows = trade_rows(
            [(name.venue, name.stored_as, len(good))],
            good,
            (checked.prices, checked.quantities),
            [page.received_at_us] * len(good),
            "rest",
        )
        table = pa.Table.from_batches([rows], trade_schema())
        self._take(table, [*page.rejects, *bad], "rest", page.received_at_us)

    def note(
        self, event: Event, ranges: Iterable[Range], reason: str, resolved_by: str | None = None
    ) -> None:
        """Write down what became of ids, with what was taken so far."""
        name, now_us = self._instrument, self._now_us()
        self._waiting.events += [
            EventRow(name.venue, name.stored_as, r.first, r.last, event, reason, resolved_by, now_us)
            for r in ranges
        ]

    def flush(self) -> None:
        """Commit what was taken: the trades, then what they close, then what cannot be trusted."""
        waiting, self._waiting = self._waiting, _Waiting()
        if waiting.rows:
            rows = pa.concat_tables(waiting.trades)
            done = self._lake.append(TRADES, self._ours(rows), new=NEW_TRADES, within=_same_trades(rows))
            self.counts.added += done.rows_added
        if waiting.events:
            events = self._ours(event_table(waiting.events))
            self._lake.append(GAPS, events, new=NEW_EVENTS, within=_same_ids(events, "first_id"))
        if waiting.rejects:
            done = self._lake.append(REJECTS, self._ours(reject_table(waiting.rejects)), new=NEW_REJECTS)
            self.counts.rejected += done.rows_added

    def _take(self, rows: pa.Table, rejects: Sequence[BadRecordError], via: Via, received_at_us: int) -> None:
        ids: list[int] = rows["trade_id"].to_pylist()
        self.counts.read += len(ids)
        if ids:
            self._waiting.trades.append(rows)
            self._waiting.rows += len(ids)
        self._reject(rejects, set(ids), via, received_at_us)
        is_proof = all(bad.trade_id is not None for bad in rejects)
        if self._has_coverage:
            self._close(ids, via, is_proof=is_proof)
        if not is_proof:
            self.begin()
        elif ids:
            self._last_id = ids[-1]
        if self._waiting.rows >= ROWS_PER_COMMIT:
            self.flush()

    def _reject(
        self, rejects: Sequence[BadRecordError], good_ids: set[int], via: Via, received_at_us: int
    ) -> None:
        name = self._instrument
        self._waiting.rejects += [
            RejectRow(
                bad.source, name.venue, name.stored_as, bad.trade_id, received_at_us, bad.reason, bad.payload
            )
            for bad in rejects
        ]
        bad_ids = {bad.trade_id for bad in rejects if bad.trade_id is not None} - good_ids
        self._bad_ids |= bad_ids
        if self._has_coverage:
            ranges = (Range(n, n) for n in sorted(bad_ids))
            self.note("rejected", ranges, "its record cannot be trusted", via)

    def _close(self, ids: Sequence[int], via: Via, *, is_proof: bool) -> None:
        """Note which open ids the answer has, and which ids it proves absent."""
        steps = _steps(ids, self._last_id)
        for first, last in _runs(ids, steps):
            filled = self._holdings.open.remove(first, last)
            self.note("filled", (Range(a, b) for a, b in filled), "received", via)
        if not is_proof:
            return
        for below, above in steps:
            absent = Ranges([Range(below + 1, above - 1)])
            for bad in self._bad_ids:
                absent.remove(bad, bad)
            self.counts.absent += absent.ids
            self.note("absent", absent, "its neighbours are adjacent", via)
            for gone in absent:
                self._holdings.open.remove(gone.first, gone.last)

    def _ours(self, rows: pa.Table) -> pa.Table:
        return rows.append_column("_run_id", pa.repeat(pa.scalar(self._run_id), rows.num_rows))

    def _now_us(self) -> int:
        return (self._clock.now() - EPOCH) // timedelta(microseconds=1)


def _steps(ids: Sequence[int], last_id: int | None) -> list[tuple[int, int]]:
    """Return the neighbours in *ids*, *last_id* before them, that are no successors."""
    joined = ids if last_id is None else [last_id, *ids]
    return [(below, above) for below, above in pairwise(joined) if above > below + 1]


def _runs(ids: Sequence[int], steps: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the stretches of *ids* without a step, as first and last."""
    if not ids:
        return []
    inner = [step for step in steps if step[0] >= ids[0]]
    firsts = [ids[0], *(above for _, above in inner)]
    return list(zip(firsts, [*(below for below, _ in inner), ids[-1]], strict=True))


def _same_trades(rows: pa.Table) -> str:
    """Return the PyIceberg filter that holds every stored copy of *rows*: to the millisecond a copy was made at the same time."""
    times = pc.call_function("min_max", [rows["traded_at"]]).as_py()
    first, last = times["min"] - ONE_MILLISECOND, times["max"] + ONE_MILLISECOND
    at_that_time = f"traded_at >= '{first.isoformat()}' and traded_at <= '{last.isoformat()}'"
    return f"{at_that_time} and {_same_ids(rows, 'trade_id')}"


def _same_ids(rows: pa.Table, column: str) -> str:
    """Return the PyIceberg filter of the ids that *column* spans in *rows*."""
    ids = pc.call_function("min_max", [rows[column]]).as_py()
    return f"{column} >= {ids['min']} and {column} <= {ids['max']}"
