"""`Writer`: the one thread that decodes frames and keeps the books."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from cryptolake.capture.answers import take_answer
from cryptolake.capture.arrivals import Arrivals, Frame, Seen
from cryptolake.capture.batch import EventRow
from cryptolake.capture.entries import Changes
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.spool import Block, Spool
from cryptolake.clock import Clock
from cryptolake.errors import CryptoLakeError, OperatorError
from cryptolake.sources.records import Control, TradePage
from cryptolake.sources.venue import ArchivePiece, Hole, Venue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_FRAMES = 20_000
"""The most frames of a batch: one `fsync` for at most a tenth of a second of the heaviest load."""

FEW_FRAMES, LINGER_SECONDS = 500, 0.02
"""After a batch of so few frames there is time to wait for more, so that a quiet market costs few `fsync`s."""

QUOTA_SECONDS, FULL_LOOK_SECONDS = 0.1, 0.5
ROOM_AGAIN = 0.9

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HealOutcome:
    """
    What an answer did for a hole, in ids; *remaining* are still open in the hole that was asked about.

    *last_id* is where the answer ended, for `heal(after=)` of the next piece of the same file; None where
    what follows cannot be joined to it.
    """

    filled: int
    absent: int
    rejected: int
    remaining: int
    last_id: int | None


@dataclass(frozen=True)
class InstrumentStats:
    """Counts since the start of the process, and where the instrument stands; times in microseconds."""

    instrument: Instrument
    received: int
    """Live trades, from all connections."""
    new: int
    """Live and healed trades that were not held."""
    duplicates: int
    rejected: int
    """Records of it that went to the rejects, live or from an answer."""
    gaps_opened: int
    gaps_closed: int
    open_gaps: int
    open_ids: int
    mark: int | None
    traded_at_us: int | None
    """When the newest trade was made."""
    lag_us: int | None
    """How long after that it was received."""


@dataclass
class _Counts:
    received: int = 0
    new: int = 0
    refused: int = 0
    healed: int = 0
    traded_at_us: int | None = None
    lag_us: int | None = None

    def heal(self, block: Block) -> None:
        """Count the trades of *block*, which an answer brought."""
        self.healed += block.trade_count
        for batch in block.trades:
            newest = pc.call_function("max", [batch["traded_at"].cast(pa.int64())]).as_py()
            self.traded_at_us = max(newest, self.traded_at_us or newest)


@dataclass(frozen=True)
class _Task:
    """What the thread does for an instrument between batches; *work* returns what to make durable, and the answer."""

    instrument: Instrument
    work: Callable[[], tuple[Block, object]]
    answer: Future[Any]


class Writer:
    """
    Decodes what connections read, keeps the books, and makes both durable; one thread of its own.

    A batch is what has come since the last one: under load it grows, so that one `fsync` serves many frames.
    """

    def __init__(
        self, spool: Spool, ledgers: Mapping[Instrument, Ledger], venues: Mapping[str, Venue], clock: Clock
    ) -> None:
        self._spool, self._venues, self._clock = spool, venues, clock
        self._ledgers = dict(ledgers)
        self._by_symbol = {(i.venue, i.symbol): ledger for i, ledger in ledgers.items()}
        self._counts = {i: _Counts() for i in ledgers}
        self._seen = {name: Seen() for name in venues}
        self._rejects = Counter[tuple[str | None, str | None]]()
        self._on_control: Callable[[str, int, Control], None] = lambda *_: None
        self._on_failure: Callable[[BaseException], None] = lambda _: None
        self._spool_max_bytes = 0
        self.failure: BaseException | None = None
        """Why it stopped; once set, nothing is acknowledged any more."""
        self._chunks: deque[tuple[str, int, Sequence[Frame]]] = deque()
        self._tasks: deque[_Task] = deque()
        self._arrived = self._durable = 0
        self._is_full, self._look_at = False, 0.0
        self._wake, self._closing, self._has_ended = threading.Event(), threading.Event(), threading.Event()
        self._books = threading.Lock()
        """Held while ledgers change."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    @classmethod
    def open(
        cls,
        spool: Spool,
        ledgers: Mapping[Instrument, Ledger],
        venues: Mapping[str, Venue],
        clock: Clock,
        *,
        on_control: Callable[[str, int, Control], None],
        on_failure: Callable[[BaseException], None],
        spool_max_bytes: int,
    ) -> Self:
        """
        Start the thread.

        Args:
            spool: where batches are made durable.
            ledgers: the books of every instrument that is captured; see `recovery.open_books`.
            venues: by name.
            clock: stamps events.
            on_control: called in the writer's thread with venue, connection and what the frame says.
            on_failure: called once, in the writer's thread, when it cannot go on.
            spool_max_bytes: the quota; see `is_full`.
        """
        writer = cls(spool, ledgers, venues, clock)
        writer._on_control, writer._on_failure = on_control, on_failure
        writer._spool_max_bytes = spool_max_bytes
        writer._thread.start()
        return writer

    def frames(self, venue: str, connection: int, frames: Sequence[Frame]) -> None:
        """Take *frames* as read by a *connection* of *venue*, in their order; never blocks. One thread only."""
        if not self._closing.is_set() and self.failure is None:
            self._arrived += len(frames)
            self._chunks.append((venue, connection, frames))
            self._wake.set()

    @property
    def backlog(self) -> int:
        """Return how many frames were taken and are not yet durable."""
        return self._arrived - self._durable

    @property
    def is_full(self) -> bool:
        """Say whether the spool is over its quota, so that nothing more should be read."""
        return self._is_full

    @property
    def unreadable(self) -> int:
        """Return how many frames and records went to the rejects that do not say what they are of."""
        known = {(i.venue, i.stored_as) for i in self._ledgers}
        return sum(count for name, count in list(self._rejects.items()) if name not in known)

    def expects(self, venue: str, symbols: Collection[str], connections: Collection[int]) -> None:
        """
        Say which *connections* will deliver *symbols* of *venue*.

        Until each has delivered once, trades below the first are accepted too. Call it again when they change.
        Without a call, the first trade is the start.
        """
        for symbol in symbols:
            if ledger := self._by_symbol.get((venue, symbol)):
                ledger.expects(connections)

    def heal(
        self,
        instrument: Instrument,
        answer: TradePage | ArchivePiece,
        via: Literal["rest", "archive"],
        hole: Hole,
        *,
        after: int | None = None,
    ) -> Future[HealOutcome]:
        """
        Take from *answer* what is not held; done only when no live frame waits. Resolves once it is durable.

        Args:
            instrument: whose trades they are.
            answer: one page, or one piece of an archive file.
            via: how it was asked.
            hole: what was asked for; other holes that the answer covers are healed as well.
            after: `last_id` of the piece before, of the same file.
        """
        ledger = self._ledgers[instrument]

        def work() -> tuple[Block, HealOutcome]:
            block, healed, last_id = take_answer(ledger, answer, via, after, self._now_us())
            self._counts[instrument].heal(block)
            remaining = sum(
                min(hole.last_id, r.last) - max(hole.first_id, r.first) + 1
                for r in ledger.open.within(hole.first_id, hole.last_id)
            )
            return block, HealOutcome(healed.filled, healed.absent, healed.rejected, remaining, last_id)

        return self._later(instrument, work)

    def head(self, instrument: Instrument, head_id: int, reason: str) -> Future[int]:
        """
        Note that the venue has trades up to *head_id*: what is above the mark becomes a hole for *reason*.

        Resolves to the number of ids, once that is durable; 0 where nothing was captured yet.
        """
        ledger = self._ledgers[instrument]
        return self._later(instrument, lambda: (Block(), ledger.expect_up_to(head_id, reason)))

    def holes(self, venue: str) -> list[tuple[Instrument, Hole]]:
        """Return the open holes of *venue*, newest first. May wait for a batch: not for the event loop."""
        with self._books:
            found = [
                (i, hole)
                for i, ledger in self._ledgers.items()
                if i.venue == venue
                for hole in ledger.holes()
            ]
        return sorted(found, key=lambda each: each[1].before_us or each[1].after_us or 0, reverse=True)

    def stats(self) -> list[InstrumentStats]:
        """Return where every instrument stands. Never waits."""
        return [self._stats(instrument, ledger) for instrument, ledger in self._ledgers.items()]

    def close(self) -> None:
        """Make durable what was taken, and end the thread. Frames that come later are ignored."""
        self._closing.set()
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not (self._closing.is_set() and not self._chunks and not self._tasks):
                self._wake.wait(FULL_LOOK_SECONDS if self._is_full else None)
                self._wake.clear()
                frames = self._batch()
                if self._tasks and frames < MOST_FRAMES:
                    self._do(self._tasks.popleft())
                self._look()
                if self._chunks or self._tasks:
                    self._wake.set()
                if frames < FEW_FRAMES:
                    self._closing.wait(LINGER_SECONDS)
        except Exception as e:  # whatever it was: nothing more may be acknowledged
            self.failure = e
            is_expected = isinstance(e, CryptoLakeError)
            log.exception("writer.failed", reason=str(e) or type(e).__name__, exc_info=not is_expected)
            self._on_failure(e)
        self._has_ended.set()
        self._abandon()

    def _batch(self) -> int:
        """Make durable what has come, up to a limit; return how many frames."""
        if not self._chunks:
            return 0
        arrivals = Arrivals(self._by_symbol, self._seen)
        while self._chunks and arrivals.frame_count < MOST_FRAMES:
            venue, connection, frames = self._chunks.popleft()
            arrivals.read(self._venues[venue], connection, frames, self._on_control)
        with self._books:
            rows, taken = arrivals.take()
            changes = self._changes({t.ledger.instrument for t in taken})
        self._append(Block(rows, [], arrivals.rejects), changes)
        for t in taken:
            counts = self._counts[t.ledger.instrument]
            counts.received += t.received
            counts.new += t.new
            counts.refused += t.refused
            counts.traded_at_us, counts.lag_us = t.last.traded_at_us, t.received_at_us - t.last.traded_at_us
        for ledger, copies in arrivals.copies.items():
            self._counts[ledger.instrument].received += copies
        self._durable += arrivals.frame_count
        return arrivals.frame_count

    def _do(self, task: _Task) -> None:
        try:
            with self._books:
                block, result = task.work()
                changes = self._changes({task.instrument})
            self._append(block, changes)
        except BaseException as e:
            task.answer.set_exception(e)
            raise
        task.answer.set_result(result)

    def _changes(self, instruments: Collection[Instrument]) -> list[tuple[Instrument, Changes]]:
        return [(instrument, self._ledgers[instrument].changes()) for instrument in instruments]

    def _append(self, block: Block, changes: Sequence[tuple[Instrument, Changes]]) -> None:
        now_us = self._now_us()
        events = [EventRow(i.venue, i.stored_as, *event, now_us) for i, c in changes for event in c.events]
        self._spool.append(Block(block.trades, events, block.rejects), changes)
        self._rejects.update((r.venue, r.symbol) for r in block.rejects)

    def _look(self) -> None:
        """See, now and then, whether the spool has room; once full, it has to become a good deal emptier."""
        if (now := self._clock.monotonic()) < self._look_at:
            return
        self._look_at = now + QUOTA_SECONDS
        limit = self._spool_max_bytes * (ROOM_AGAIN if self._is_full else 1)
        self._is_full = self._spool.used_bytes() >= limit

    def _later(self, instrument: Instrument, work: Callable[[], tuple[Block, T]]) -> Future[T]:
        answer: Future[T] = Future()
        self._tasks.append(_Task(instrument, work, answer))
        self._wake.set()
        if self._has_ended.is_set():
            self._abandon()
        return answer

    def _abandon(self) -> None:
        while self._tasks:
            self._tasks.popleft().answer.set_exception(OperatorError("the capture has ended"))

    def _now_us(self) -> int:
        return (self._clock.now() - EPOCH) // timedelta(microseconds=1)

    def _stats(self, instrument: Instrument, ledger: Ledger) -> InstrumentStats:
        counts = self._counts[instrument]
        return InstrumentStats(
            instrument=instrument,
            received=counts.received,
            new=counts.new + counts.healed,
            duplicates=counts.received - counts.new - counts.refused,
            rejected=self._rejects[instrument.venue, instrument.stored_as],
            gaps_opened=ledger.holes_opened,
            gaps_closed=ledger.holes_closed,
            open_gaps=len(ledger.open),
            open_ids=ledger.open.ids,
            mark=ledger.mark,
            traded_at_us=counts.traded_at_us,
            lag_us=counts.lag_us,
        )
