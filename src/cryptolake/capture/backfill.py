"""
`backfill`: the trades of whole UTC days, from the venue's archive and its REST.

Only ids that the lake does not hold are written, so it may be killed and run again, and beside a capture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import msgspec
import structlog

from cryptolake.capture.agenda import utc_day
from cryptolake.capture.deliveries import GAPS, REJECTS, TRADES, Deliveries
from cryptolake.capture.holdings import DayKnown, Holdings, between, midnight_us
from cryptolake.capture.ranges import Range
from cryptolake.errors import ConfigError, NotPublishedError, SourceRefusedError, UnknownSymbolError
from cryptolake.sources.records import TradePage
from cryptolake.sources.venue import ArchivePiece, Hole, Places, TradeHistory, Venue

if TYPE_CHECKING:
    from cryptolake.capture.instruments import Instrument
    from cryptolake.clock import Clock
    from cryptolake.lake import Lake

ONE_DAY = timedelta(days=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a backfill is: *days_done* of *days*, *trades* read so far, and which *day* it is at."""

    days_done: int
    days: int
    trades: int
    day: date


@dataclass(frozen=True)
class Backfilled:
    """
    What a backfill did.

    *skipped* days had nothing to ask for; of *trades_read* as many were new as *trades_added* says. *missing_ids*
    could not be had and are open gaps. *incomplete* days are over, and not complete all the same, or have a rejected
    id, and never will be; *without* are days that neither archive nor REST has anything of, though they may have had
    trades; *open_day* is the last day where it is not over by the venue's own time: it cannot be complete yet.
    """

    instrument: Instrument
    days: int
    skipped: int
    trades_read: int
    trades_added: int
    absent_ids: int
    rejected: int
    missing_ids: int
    incomplete: Sequence[date]
    without: Sequence[date]
    open_day: date | None


def backfill(
    lake: Lake,
    venue: Venue,
    places: Places,
    instrument: Instrument,
    days: tuple[date, date],
    *,
    clock: Clock,
    run_id: str,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Backfilled:
    """
    Load the trades of *instrument* of *days*, the first and the last, both inclusive, and one neighbour on each side.

    Args:
        lake: where they go.
        venue: whose instrument it is.
        places: where its REST and its archive are.
        instrument: its symbol as the venue spells it, and as it is stored.
        days: UTC days.
        clock: the time, and waiting.
        run_id: stands in every row.
        on_progress: told after every answer.

    Raises:
        ConfigError: the days are the wrong way round, not there yet by the venue's own time, or all of them
            before its first trade.
        UnknownSymbolError: the venue has no such instrument.
        SourceRefusedError: a checksum is wrong twice, or the venue refuses to answer.
        SourceDownError: the venue does not answer; run it again, and it goes on from here.
    """
    if days[0] > days[1]:
        raise ConfigError(f"the days end ({days[1]}) before they begin ({days[0]})")
    for name in (TRADES, GAPS, REJECTS):
        lake.ensure(name)
    rng = random.Random()  # noqa: S311 (jitter)
    with venue.open_history(places, clock, rng) as history, Holdings.look(lake, instrument) as holdings:
        newest = _newest_day(history, instrument)
        if days[1] > newest:
            raise ConfigError(
                f"{days[1]} is not there yet: the newest trade that {instrument.venue} has of {instrument.symbol} "
                f"was made on {newest}; ask for days up to that one"
            )
        has_coverage = venue.capabilities.id_kind != "opaque"
        taken = Deliveries(lake, instrument, holdings, has_coverage=has_coverage, clock=clock, run_id=run_id)
        return _Backfill(venue, history, instrument, holdings, taken, on_progress).run(days, newest)


def _newest_day(history: TradeHistory, instrument: Instrument) -> date:
    """Return the UTC day of the newest trade that the venue has."""
    head = history.heads([instrument.symbol]).get(instrument.symbol)
    if head is None:
        raise UnknownSymbolError(
            f"{instrument.venue} knows no trades of {instrument.symbol!r}; write it as the venue spells it"
        )
    if head.traded_at_us is not None:
        return utc_day(head.traded_at_us)
    for page in history.pages(Hole(instrument.symbol, head.trade_id, head.trade_id)):
        if page.trades:
            return utc_day(page.trades[-1].traded_at_us)
    raise SourceRefusedError(
        f"{instrument.venue} names trade {head.trade_id} as the newest of {instrument.symbol}, and does not have it; "
        "run again later"
    )


class _Backfill:
    """One backfill: what it is given by *history* it writes by *taken*."""

    def __init__(
        self,
        venue: Venue,
        history: TradeHistory,
        instrument: Instrument,
        holdings: Holdings,
        taken: Deliveries,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._venue, self._history, self._instrument = venue, history, instrument
        self._symbol = instrument.symbol
        self._has_coverage = venue.capabilities.id_kind != "opaque"
        self._holdings, self._taken = holdings, taken
        self._on_progress = on_progress
        self._days = self._days_done = 0

    def run(self, asked: tuple[date, date], newest: date) -> Backfilled:
        """Load the days, then what is missing between them, then say what became of the gaps."""
        first, last = asked
        days = [first + n * ONE_DAY for n in range((last - first).days + 1)]
        self._days = len(days)
        self._settle_known()
        known = self._known(days)
        wanted = [day for day in days if not known[day].is_settled]
        skipped = self._days_done = len(days) - len(wanted)
        if first in wanted:  # before all else, so that a day is whole as soon as the next is there
            pages = self._edge(first)
            self._refuse_before_first_trade(pages, last)
            self._load_edge(pages, first - ONE_DAY, is_below=True)
        unread = self._load(wanted)
        if last in wanted and last < newest:
            self._load_edge(self._edge(last + ONE_DAY), last + ONE_DAY, is_below=False)
        self._taken.flush()
        missing = self._close_holes(days) if wanted and self._has_coverage else 0
        known |= self._known([day for day in days if not known[day].is_complete])
        without = [day for day in unread if not known[day].is_settled]
        counts = self._taken.counts
        done = Backfilled(
            instrument=self._instrument,
            days=len(days),
            skipped=skipped,
            trades_read=counts.read,
            trades_added=counts.added,
            absent_ids=counts.absent,
            rejected=counts.rejected,
            missing_ids=missing,
            incomplete=[day for day in self._incomplete(known, newest) if day not in without],
            without=without,
            open_day=last if last == newest else None,
        )
        log.info(
            "backfill.done",
            instrument=self._instrument.name,
            days=done.days,
            skipped=skipped,
            trades=done.trades_added,
            missing_ids=missing,
        )
        return done

    def _settle_known(self) -> None:
        """Close gaps whose trades are in the lake already: an earlier run may have been killed just before it said so."""
        for first, last, via in self._holdings.held_of(self._holdings.open):
            filled = self._holdings.open.remove(first, last)
            resolved_by = via if via in {"rest", "archive"} else "twin"
            self._taken.note("filled", (Range(a, b) for a, b in filled), "received", resolved_by)
        self._taken.flush()

    def _load(self, wanted: Sequence[date]) -> list[date]:
        """Load the days, whole months at once; return those that nobody has anything of."""
        without: list[date] = []
        for unit in units(wanted):
            if len(unit) > 1 and self._load_file(unit):
                self._taken.flush()
                self._days_done += len(unit)
                self._tell(unit[-1])
                continue
            for day in unit:
                before = self._taken.counts.read
                if not self._load_file([day]):
                    self._load_pages(day)
                if self._taken.counts.read == before:
                    without.append(day)
                    log.warning("backfill.nothing", instrument=self._instrument.name, day=str(day))
                self._taken.flush()
                self._days_done += 1
                self._tell(day)
        return without

    def _load_file(self, unit: Sequence[date]) -> bool:
        """Load the archive file of a day, or of all days of a month; say whether there is one."""
        whole = self._history.archived_month if len(unit) > 1 else self._history.archived_day
        self._taken.begin()
        try:
            for piece in whole(self._symbol, unit[0]):
                self._taken.take_piece(piece)
                self._tell(_day_of(piece, unit[-1]))
        except NotPublishedError:
            return False
        return True

    def _load_pages(self, day: date) -> None:
        for page in spanned(self._history, self._symbol, midnight_us(day), midnight_us(day + ONE_DAY)):
            self._taken.take_page(page)
            self._tell(day)

    def _edge(self, day: date) -> list[TradePage]:
        """Return the answers with the last trade before *day* begins and the first one after, as far as REST has them."""
        at_us = midnight_us(day)
        pages: list[TradePage] = []
        try:
            pages.extend(
                spanned(self._history, self._symbol, at_us, at_us)
            )  # what came before a refusal stays
        except SourceRefusedError as e:
            log.info("backfill.edge", instrument=self._instrument.name, day=str(day), reason=str(e))
        return pages

    def _load_edge(self, pages: Sequence[TradePage], neighbour: date, *, is_below: bool) -> None:
        """Load the *pages* of an edge; where they lack a trade, the nearest one from the archive of the day *neighbour*."""
        for page in pages:
            self._taken.take_page(page)
        is_whole = sum(len(page.trades) for page in pages) > 1
        if not is_whole and (piece := self._nearest(neighbour, is_below=is_below)) is not None:
            self._taken.begin()
            self._taken.take_piece(piece)

    def _refuse_before_first_trade(self, pages: Sequence[TradePage], last: date) -> None:
        """Raise `ConfigError` where the oldest trade of the first day's edge is later than *last*, of which the archive has none."""
        if not pages or pages[0].rejects:
            return
        oldest = utc_day(pages[0].trades[0].traded_at_us)
        if oldest > last and self._nearest(last, is_below=True) is None:
            raise ConfigError(
                f"{self._instrument.venue} gives no trade of {self._symbol} before {oldest}; ask for days from that one on"
            )

    def _nearest(self, neighbour: date, *, is_below: bool) -> ArchivePiece | None:
        """Return the last trade of the archive file of *neighbour*, or the first."""
        nearest = None
        try:
            for piece in self._history.archived_day(self._symbol, neighbour):
                if piece.rows.num_rows:
                    at = piece.rows.num_rows - 1 if is_below else 0
                    nearest = ArchivePiece(piece.rows.slice(at, 1))
                    if not is_below:
                        break
        except (NotPublishedError, SourceRefusedError) as e:
            log.info("backfill.edge", instrument=self._instrument.name, day=str(neighbour), reason=str(e))
        return nearest

    def _close_holes(self, days: Sequence[date]) -> int:
        """Ask by id for what is still unknown on *days* and between them; return how many ids nobody can give."""
        holes = self._unknown(days)
        if holes and self._venue.capabilities.heals_by is not None:
            for hole in holes:
                asked = Hole(self._symbol, hole.first, hole.last, hole.after_us, hole.before_us)
                try:
                    for page in self._history.pages(asked):
                        self._taken.take_page(_within(page, asked))
                except SourceRefusedError as e:
                    log.warning(
                        "backfill.hole", instrument=self._instrument.name, first_id=hole.first, reason=str(e)
                    )
            self._taken.flush()
            self._holdings.refresh()
            holes = self._holdings.unknown(holes)
        open_ids = self._holdings.open
        new = [part for hole in holes for part in _without(hole, open_ids.within(hole.first, hole.last))]
        self._taken.note("missing", new, "backfill")
        self._taken.flush()
        return sum(hole.last - hole.first + 1 for hole in holes)

    def _known(self, days: Sequence[date]) -> dict[date, DayKnown]:
        """Return what the lake knows of *days*, which rise, and of those between them; nothing where ids prove nothing."""
        if not (days and self._has_coverage):
            return dict.fromkeys(days, DayKnown(is_settled=False, is_rejected=False))
        self._holdings.refresh()
        return self._holdings.known(days[0], days[-1])

    def _incomplete(self, known: Mapping[date, DayKnown], newest: date) -> list[date]:
        """Return the days that are over and not complete, and those that a rejected id keeps from it."""
        if not self._has_coverage:
            return []
        return [day for day, of in known.items() if of.is_rejected or (day < newest and not of.is_complete)]

    def _unknown(self, days: Sequence[date]) -> list[Range]:
        """Return the ids about which nothing is known, on *days*, between them, and up to their neighbours."""
        self._holdings.refresh()
        found: list[Range] = []
        below: Range | None = None
        for day in [days[0] - ONE_DAY, *days, days[-1] + ONE_DAY]:
            held = self._holdings.day(day)
            if held.first is None or held.last is None:
                continue
            is_asked = days[0] <= day <= days[-1]
            found += held.holes if is_asked else []
            if below is not None:
                found += self._holdings.unknown(between(below, held.first))
            below = held.last
        return found

    def _tell(self, day: date) -> None:
        self._on_progress(Progress(self._days_done, self._days, self._taken.counts.read, day))


def units(days: Sequence[date]) -> Iterator[list[date]]:
    """
    Yield *days*, which rise, a whole month at a time where all of it is there, else a day at a time.

    >>> [len(unit) for unit in units([date(2024, 1, 31) + n * ONE_DAY for n in range(31)])]
    [1, 29, 1]

    """
    by_month: dict[date, list[date]] = {}
    for day in days:
        by_month.setdefault(day.replace(day=1), []).append(day)
    for month, its_days in by_month.items():
        following = (month + timedelta(days=31)).replace(day=1)
        if len(its_days) == (following - month).days:
            yield its_days
        else:
            yield from ([day] for day in its_days)


def spanned(history: TradeHistory, symbol: str, start_us: int, end_us: int) -> Iterator[TradePage]:
    """Yield the pages of a span of time, cut to one trade before it and one after."""
    for page in history.between(symbol, start_us, end_us):
        trades = page.trades
        begins = next((n for n, trade in enumerate(trades) if trade.traded_at_us >= start_us), len(trades))
        ends = next(
            (n for n, trade in enumerate(trades) if trade.traded_at_us >= end_us and n >= begins), len(trades)
        )
        kept = trades[max(0, begins - 1) : ends + 1]
        if kept or page.rejects:
            yield msgspec.structs.replace(page, trades=kept)
        if ends < len(trades):
            return


def _within(page: TradePage, hole: Hole) -> TradePage:
    """Cut *page* to the ids of *hole* and one on each side."""
    below = [trade for trade in page.trades if trade.trade_id < hole.first_id][-1:]
    above = [trade for trade in page.trades if trade.trade_id > hole.last_id][:1]
    inside = [trade for trade in page.trades if hole.first_id <= trade.trade_id <= hole.last_id]
    return msgspec.structs.replace(page, trades=[*below, *inside, *above])


def _without(hole: Range, known: Sequence[Range]) -> Iterator[Range]:
    """Yield the parts of *hole* that are not in *known*, which rises."""
    at = hole.first
    for part in known:
        if part.first > at:
            yield Range(at, part.first - 1)
        at = max(at, part.last + 1)
    if at <= hole.last:
        yield Range(at, hole.last)


def _day_of(piece: ArchivePiece, otherwise: date) -> date:
    """Return the day of the last trade of *piece*."""
    return piece.rows["traded_at"][-1].as_py().date() if piece.rows.num_rows else otherwise
