"""Fetch what is missing: one thread a venue, which audits the newest ids and asks for every hole."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass, replace
from datetime import date
from threading import Event
from typing import TYPE_CHECKING, Literal, TypeVar

import structlog

from cryptolake.capture.agenda import Agenda, days_of, joined, key
from cryptolake.clock import Clock
from cryptolake.errors import NotPublishedError, OperatorError, SourceRefusedError, TransientError
from cryptolake.sources.records import Head, TradePage
from cryptolake.sources.venue import ArchivePiece, Hole, Places, TradeHistory, Venue

if TYPE_CHECKING:
    from cryptolake.capture.instruments import Instrument
    from cryptolake.capture.writer import HealOutcome, Writer

START_SECONDS = 2.0
"""How soon after the first audit the second follows: what is missing by then was missed while nothing ran."""
AUDIT_REST = 4
"""An audit that took a while, as where each instrument is a request of its own, lets holes be asked for that much longer."""
LOOK_SECONDS = 0.25
MANY_IDS = 1_000
"""So many may be more than a day, so it is worth asking when the newest of them was traded."""
PART_IDS, PART_PAGES = 20_000, 20
"""How much of a hole is asked for before others get their turn."""
NEAR_IDS = {"id": 100, "time": 900}
"""How many ids an answer has at least, at venues that are asked by id, and by time."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 120.0

T = TypeVar("T")
log = structlog.get_logger(__name__)


class StoppedError(Exception):
    """The capture ends; whatever waits stops waiting."""


def interruptible(clock: Clock, stop: Event) -> Clock:
    """Return *clock* with a sleep that raises `StoppedError` once *stop* is set."""

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    return replace(clock, sleep=sleep)


@dataclass(frozen=True)
class HealingState:
    """
    What the healer of a *venue* does: `watching`, `healing`, `waiting` (until the venue answers again) or `paused`.

    *answers* were used so far, and gave *filled* ids. *unknown* are the instruments that the venue names no trade of.
    """

    venue: str
    state: str
    answers: int
    filled: int
    problem: str
    unknown: Sequence[str] = ()


class Healer:
    """
    Heals the holes of one *venue*, newest first; `run` is its thread, which ends when *stop* is set.

    No answer of the venue ends it: what cannot be had now is asked for again later, and its state says why.
    """

    def __init__(
        self,
        venue: Venue,
        places: Places,
        instruments: Sequence[Instrument],
        writer: Writer,
        clock: Clock,
        rng: random.Random,
        *,
        audit_seconds: float,
        stop: Event,
        on_tail: Callable[[Collection[str]], None],
    ) -> None:
        self.venue, self.places = venue, places
        self._instruments = {instrument.symbol: instrument for instrument in instruments}
        self._writer, self._rng, self._stop = writer, rng, stop
        self._clock = interruptible(clock, stop)
        self._audit_seconds, self._on_tail = audit_seconds, on_tail
        self._agenda = Agenda(rng)
        self._heads: Mapping[str, Head] = {}
        self._unknown: set[str] = set()
        self._audits = self._failures = self._answers = self._filled = 0
        self._audit_at = self._resume_at = 0.0
        self._has_audited = False
        self._state, self._problem = "watching", ""

    def state(self) -> HealingState:
        """Return what it does; any thread may ask."""
        unknown = sorted(self._instruments[symbol].name for symbol in self._unknown)
        return HealingState(self.venue.name, self._state, self._answers, self._filled, self._problem, unknown)

    def run(self) -> None:
        """
        Audit and heal until stopped.

        Raises:
            OperatorError: the venue can never be asked, as its places are set, or the writer has failed.
        """
        try:
            with self.venue.open_history(self.places, self._clock, self._rng) as history:
                while True:
                    self._turn(history)
        except StoppedError:
            return

    def _turn(self, history: TradeHistory) -> None:
        try:
            self._state = self._next(history)
            if self._state != "healing":
                self._clock.sleep(LOOK_SECONDS)
        except SourceRefusedError as e:
            self._note(e, 0.0)
        except (StoppedError, OperatorError):
            raise
        except TransientError as e:
            self._note(e, e.after or 0.0)
        except Exception as e:  # whatever is wrong with one answer, the others must be asked for
            log.exception("healing.failed", venue=self.venue.name, reason=str(e) or type(e).__name__)
            self._note(e, 0.0)

    def _next(self, history: TradeHistory) -> str:
        """Do what is due, and return the state that this was."""
        now = self._clock.monotonic()
        if now < self._resume_at:
            return "waiting"
        is_due = now >= self._audit_at and self.venue.capabilities.id_kind != "opaque"
        self._has_audited = is_due and not self._has_audited  # never twice before a hole had its turn
        if self._has_audited:
            self._audit(history, now)
            return "healing"
        try:
            return self._next_hole(history, now)
        except StoppedError:
            raise
        except Exception:
            self._failures += 1
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 20))
            self._resume_at = self._clock.monotonic() + self._rng.uniform(0, longest)
            raise

    def _next_hole(self, history: TradeHistory, now: float) -> str:
        if self._writer.is_full:
            return "paused"
        found = self._agenda.due(self._writer.holes(self.venue.name), now)
        if found is None:
            return "watching"
        self._state = "healing"
        self._try(history, *found)
        return "healing"

    def _answered(self) -> None:
        self._failures, self._problem = 0, ""

    def _note(self, error: Exception, at_least_seconds: float) -> None:
        now = self._clock.monotonic()
        self._resume_at = max(self._resume_at, now + at_least_seconds)
        self._state = "waiting" if self._resume_at > now else self._state
        if str(error) != self._problem:
            self._problem = str(error) or type(error).__name__
            log.warning(
                "healing.trouble",
                venue=self.venue.name,
                reason=self._problem,
                wait_seconds=round(self._resume_at - now, 1),
            )

    def _audit(self, history: TradeHistory, now: float) -> None:
        """Ask for the newest id of every instrument; what was known last time and is still not here is missing."""
        try:
            heads = history.heads(list(self._instruments))
        finally:  # its own pace, also where it fails: holes need not wait until this can be asked
            ended = self._clock.monotonic()
            self._audit_at = ended + max(self._audit_seconds, AUDIT_REST * (ended - now))
        self._answered()
        marks = {
            stats.instrument.symbol: stats.mark
            for stats in self._writer.stats()
            if stats.instrument.venue == self.venue.name
        }
        if self._audits:  # the first may come before the first trade
            self._warn_of_unknown({symbol for symbol in marks if marks[symbol] is None} - heads.keys())
        reason = "restart" if self._audits <= 1 else "tail"
        missing: list[str] = []
        for symbol, instrument in self._instruments.items():
            mark, known = marks.get(symbol), self._heads.get(symbol)
            if mark is not None and known is not None and known.trade_id > mark:
                ids = self._settled(self._writer.head(instrument, known.trade_id, reason))
                log.warning("audit.missing", instrument=instrument.name, reason=reason, ids=ids)
                missing.append(symbol)
        if missing and reason == "tail":
            self._on_tail(missing)
        if not self._audits:
            self._audit_at = ended + min(START_SECONDS, self._audit_seconds)
        self._heads = heads
        self._audits += 1

    def _warn_of_unknown(self, symbols: set[str]) -> None:
        for symbol in sorted(symbols - self._unknown):
            log.warning(
                "instrument.unknown",
                instrument=self._instruments[symbol].name,
                reason="the venue names no trade of it; write it as the venue spells it",
            )
        self._unknown = symbols

    def _try(self, history: TradeHistory, instrument: Instrument, hole: Hole) -> None:
        """Heal *hole*; where that leaves it as it was, for whatever reason, others go first."""
        try:
            self._heal(history, instrument, hole)
        finally:
            if self._is_open(hole):
                wait = self._agenda.left_open(hole, self._clock.monotonic())
                log.info(
                    "hole.open",
                    instrument=instrument.name,
                    first_id=hole.first_id,
                    last_id=hole.last_id,
                    retry_seconds=round(wait),
                )

    def _heal(self, history: TradeHistory, instrument: Instrument, hole: Hole) -> None:
        """Ask for *hole*: its whole past days from the archive, the rest by REST, and what that lacks from the archive."""
        if hole.before_us is None and hole.last_id - hole.first_id >= MANY_IDS:
            self._date_head(history, hole.symbol)
        whole, edges = days_of(hole, self._newest_us(hole))
        if self._from_archive(history, instrument, hole, whole):
            return
        failure = None
        if self.venue.capabilities.heals_by is not None:
            try:
                self._from_rest(history, instrument, hole)
            except SourceRefusedError as e:
                failure = e
        if not self._is_open(hole) or self._from_archive(history, instrument, hole, edges):
            return
        if failure is not None:
            raise failure

    def _from_rest(self, history: TradeHistory, instrument: Instrument, hole: Hole) -> None:
        """Take the newest part of *hole* from the venue's REST, as much as others can wait for."""
        part = hole
        if self.venue.capabilities.heals_by == "id":
            part = replace(hole, first_id=max(hole.first_id, hole.last_id - PART_IDS + 1))
        if not self._agenda.tries(hole):
            near = NEAR_IDS[self.venue.capabilities.heals_by or "id"]
            part = joined(part, (other for _, other in self._writer.holes(self.venue.name)), near)
        held: list[int] = []
        for n, page in enumerate(history.pages(part), start=1):
            outcome = self._take(instrument, page, "rest", hole)
            held += (page.trades[0].trade_id, page.trades[-1].trade_id) if page.trades else ()
            if not outcome.remaining or n >= PART_PAGES or self._writer.is_full:
                break
        if part.first_id < hole.first_id and held:
            self._leave_open(hole, min(held), max(held))

    def _leave_open(self, hole: Hole, lowest: int, highest: int) -> None:
        """Note that what is open beside *hole*, from *lowest* to *highest*, was asked for along with it."""
        now = self._clock.monotonic()
        for _, other in self._writer.holes(self.venue.name):
            is_within = lowest < other.first_id and other.last_id < min(highest, hole.first_id)
            if other.symbol == hole.symbol and is_within:
                self._agenda.left_open(other, now)

    def _from_archive(
        self, history: TradeHistory, instrument: Instrument, hole: Hole, days: Sequence[date]
    ) -> bool:
        """Take the first of *days* that the archive has; say whether that closed anything of *hole*."""
        now = self._clock.monotonic()
        for day in self._agenda.files(hole, days, now):
            closed, after = 0, None
            try:
                for piece in history.archived_day(hole.symbol, day):
                    outcome = self._take(instrument, piece, "archive", hole, after=after)
                    closed += outcome.filled + outcome.absent + outcome.rejected
                    after = outcome.last_id
            except NotPublishedError as e:
                log.debug("archive.missing", instrument=instrument.name, day=str(day), reason=str(e))
            except (SourceRefusedError, TransientError) as e:  # REST may have what it does not give now
                log.warning("archive.refused", instrument=instrument.name, day=str(day), reason=str(e))
            if closed:
                log.info("archive.healed", instrument=instrument.name, day=str(day), ids=closed)
                return True
            self._agenda.unpublished(hole, day, now)
        return False

    def _take(
        self,
        instrument: Instrument,
        answer: TradePage | ArchivePiece,
        via: Literal["rest", "archive"],
        hole: Hole,
        *,
        after: int | None = None,
    ) -> HealOutcome:
        outcome = self._settled(self._writer.heal(instrument, answer, via, hole, after=after))
        self._answers += 1
        self._filled += outcome.filled
        self._answered()
        return outcome

    def _date_head(self, history: TradeHistory, symbol: str) -> None:
        """Learn when the newest trade of *symbol* was made, where the venue's word of its id does not say."""
        head = self._heads.get(symbol)
        if head is None or head.traded_at_us is not None:
            return
        try:
            for page in history.pages(Hole(symbol, head.trade_id, head.trade_id)):
                if page.trades:
                    made_us = page.trades[-1].traded_at_us
                    self._heads = {**self._heads, symbol: Head(head.trade_id, made_us)}
                    return
        except SourceRefusedError as e:  # the hole itself may be answered
            log.warning("head.refused", venue=self.venue.name, symbol=symbol, reason=str(e))

    def _newest_us(self, hole: Hole) -> int | None:
        head = self._heads.get(hole.symbol)
        return head.traded_at_us if head else None

    def _is_open(self, hole: Hole) -> bool:
        """Say whether *hole* is as it was."""
        return any(key(other) == key(hole) for _, other in self._writer.holes(self.venue.name))

    def _settled(self, future: Future[T]) -> T:
        """Return what the writer made of it, unless the capture ends first."""
        while True:
            if self._stop.is_set():
                raise StoppedError
            try:
                return future.result(LOOK_SECONDS)
            except NotYetError:
                if future.done():  # since then, or its own error is of this class
                    return future.result()
