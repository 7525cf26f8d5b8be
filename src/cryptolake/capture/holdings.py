"""What the lake holds of one instrument, day by day: which ids are there, which are proven not to be, which are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Self

from cryptolake.capture.landing import GAPS, TRADES
from cryptolake.capture.ranges import Range, Ranges

if TYPE_CHECKING:
    from cryptolake.capture.instruments import Instrument
    from cryptolake.lake import Lake, Reader

REACHES = tuple(timedelta(days=10**n) for n in range(6))
"""How far from days their neighbours are looked for: near, and farther only where there is none, until all is seen."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

IDS = f"""
    select trade_id, min(epoch_us(traded_at)) as at_us from {TRADES}
    where venue = ? and symbol = ? and traded_at >= ? and traded_at < ? group by trade_id
"""
STEPS = f"""
    with ids as ({IDS}),
    steps as (select trade_id, at_us, lead(trade_id) over w as next_id, lead(at_us) over w as next_us
              from ids window w as (order by trade_id))
    select trade_id + 1, next_id - 1, at_us, next_us from steps where next_id > trade_id + 1
"""
ENDS = f"""
    select min(trade_id), max(trade_id), arg_min(at_us, trade_id), arg_max(at_us, trade_id), count(*) from ({IDS})
"""
NEAREST = f"""
    select min(trade_id), max(trade_id), arg_min(epoch_us(traded_at), trade_id), arg_max(epoch_us(traded_at), trade_id)
    from {TRADES} where venue = ? and symbol = ? and traded_at >= ? and traded_at < ?
"""
EVENTS = f"select distinct first_id, last_id, event from {GAPS} where venue = ? and symbol = ?"


@dataclass(frozen=True)
class DayHeld:
    """The ids held of a day: the *first* and the *last* (None where there is none), and the *holes* between."""

    first: Range | None
    last: Range | None
    holes: Sequence[Range]


@dataclass(frozen=True)
class DayKnown:
    """
    What is known of a day.

    *is_settled*: nothing is left to ask for, as every id between the nearest trades held below the day and above it is
    held, absent or rejected. *is_rejected*: one of them was rejected, and is not held.
    """

    is_settled: bool
    is_rejected: bool

    @property
    def is_complete(self) -> bool:
        """Say whether every id between the neighbours is held or absent, as for `gold.coverage_daily`."""
        return self.is_settled and not self.is_rejected


class Holdings:
    """The ids of *instrument* in the lake of *reader*, as of the last `refresh`."""

    def __init__(self, reader: Reader, instrument: Instrument) -> None:
        self._reader = reader
        self._name = (instrument.venue, instrument.stored_as)
        self.open, self.closed = Ranges(), Ranges()
        """Ids that are missing by an event and not closed; and those that are absent or rejected."""
        self._absent, self._rejected = Ranges(), Ranges()
        self._read_events()

    @classmethod
    @contextmanager
    def look(cls, lake: Lake, instrument: Instrument) -> Iterator[Self]:
        """Look into *lake*."""
        with lake.reader(only=(TRADES, GAPS)) as reader:
            yield cls(reader, instrument)

    def refresh(self) -> None:
        """Look again."""
        self._reader.refresh()
        self._read_events()

    def _read_events(self) -> None:
        events = self._reader.rows(EVENTS, self._name)

        def told(*names: str) -> Ranges:
            return union((first, last) for first, last, event in events if event in names)

        self.open, self.closed = told("missing"), told("absent", "rejected")
        self._absent, self._rejected = told("absent"), told("rejected")
        for first, last, event in events:
            if event != "missing":
                self.open.remove(first, last)

    def day(self, day: date) -> DayHeld:
        """Return what is held of *day*; holes are ids about which nothing is known."""
        start, end = midnight(day), midnight(day) + timedelta(days=1)
        first, last, first_us, last_us, count = self._reader.rows(ENDS, [*self._name, start, end])[0]
        if first is None:
            return DayHeld(None, None, [])
        is_full = count == last - first + 1
        steps = () if is_full else self._reader.rows(STEPS, [*self._name, start, end])
        holes = self.unknown(Range(*step) for step in steps)
        return DayHeld(Range(first, first, first_us, first_us), Range(last, last, last_us, last_us), holes)

    def known(self, first: date, last: date) -> dict[date, DayKnown]:
        """Return what is known of the days *first* to *last*, both inclusive; outside them two neighbours are looked for."""
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        held = [self.day(day) for day in days]
        below = _passed((day.last for day in held), self._nearest(first, is_below=True))
        above = list(_passed((day.first for day in reversed(held)), self._nearest(last, is_below=False)))
        around = zip(days, held, below, reversed(above), strict=True)
        return {day: self._judged(of_day, low, high) for day, of_day, low, high in around}

    def _judged(self, held: DayHeld, below: Range | None, above: Range | None) -> DayKnown:
        """Return what is known of a day with the nearest trades held *below* and *above* it."""
        is_rejected = self._has_rejected(below.last if below else -1, above.first if above else sys.maxsize)
        if below is None or above is None or held.holes:
            return DayKnown(is_settled=False, is_rejected=is_rejected)
        if held.first and held.last:
            beside = [*between(below, held.first), *between(held.last, above)]
        else:
            beside = between(below, above)
        return DayKnown(is_settled=not self.unknown(beside), is_rejected=is_rejected)

    def _has_rejected(self, below: int, above: int) -> bool:
        """Say whether an id between two was rejected, and came in no other way."""
        return any(
            self._not_held([Range(max(below + 1, bad.first), min(above - 1, bad.last))], self._absent)
            for bad in self._rejected.within(below + 1, above - 1)
        )

    def _nearest(self, day: date, *, is_below: bool) -> Range | None:
        """Return the last trade held of the days before *day*, or the first of those after it."""
        start, end = midnight(day), midnight(day) + timedelta(days=1)
        for reach in REACHES:
            span = (start - reach, start) if is_below else (end, end + reach)
            first, last, first_us, last_us = self._reader.rows(NEAREST, [*self._name, *span])[0]
            at, at_us = (last, last_us) if is_below else (first, first_us)
            if at is not None:
                return Range(at, at, at_us, at_us)
        return None

    def unknown(self, holes: Iterable[Range]) -> list[Range]:
        """Return what of *holes* is neither held nor absent nor rejected, looking around their own times."""
        return self._not_held(holes, self.closed)

    def _not_held(self, holes: Iterable[Range], closed: Ranges) -> list[Range]:
        """Return what of *holes* is neither held nor in *closed*."""
        found: list[Range] = []
        for hole in holes:
            left = Ranges([hole])
            for known in closed.within(hole.first, hole.last):
                left.remove(known.first, known.last)
            if left.ids:
                for first, last in self._held_within(hole):
                    left.remove(first, last)
                found += left
        return found

    def held_of(self, gaps: Iterable[Range]) -> list[tuple[int, int, str]]:
        """Return the stretches of ids of *gaps* that are held, as first id, last id and how they were received."""
        asked = list(gaps)
        if not asked:
            return []
        sql = f"""
            with asked as (select unnest(?) as first_id, unnest(?) as last_id),
            held as (
                select t.trade_id, min(t.received_via) as via from {TRADES} t join asked a
                    on t.trade_id between a.first_id and a.last_id
                where t.venue = ? and t.symbol = ? group by all
            ),
            numbered as (
                select *, trade_id - row_number() over (partition by via order by trade_id) as island from held
            )
            select min(trade_id), max(trade_id), via from numbered group by via, island order by 1
        """
        spans = [[gap.first for gap in asked], [gap.last for gap in asked]]
        return [(first, last, via) for first, last, via in self._reader.rows(sql, [*spans, *self._name])]

    def _held_within(self, hole: Range) -> list[tuple[int, int]]:
        after_us, before_us = hole.after_us, hole.before_us
        if after_us is not None and before_us is not None:
            since = EPOCH + timedelta(microseconds=after_us) - timedelta(days=1)
            until = EPOCH + timedelta(microseconds=before_us) + timedelta(days=1)
        else:
            since, until = EPOCH, midnight(date.max)
        sql = f"""
            with held as (select distinct trade_id from ({IDS}) where trade_id between ? and ?),
            numbered as (select trade_id, trade_id - row_number() over (order by trade_id) as island from held)
            select min(trade_id), max(trade_id) from numbered group by island
        """
        parameters = [*self._name, since, until, hole.first, hole.last]
        return [(a, b) for a, b in self._reader.rows(sql, parameters)]


def between(below: Range, above: Range) -> list[Range]:
    """Return the ids between two held ones, where there are any."""
    if above.first <= below.last + 1:
        return []
    return [Range(below.last + 1, above.first - 1, below.after_us, above.before_us)]


def _passed(found: Iterable[Range | None], newest: Range | None) -> Iterator[Range | None]:
    """Yield for each place in *found* the newest one before it, *newest* before the first."""
    for here in found:
        yield newest
        newest = here or newest


def midnight(day: date) -> datetime:
    """Return when a UTC *day* begins."""
    return datetime.combine(day, time(), UTC)


def midnight_us(day: date) -> int:
    """Return when a UTC *day* begins, in microseconds."""
    return (midnight(day) - EPOCH) // timedelta(microseconds=1)


def union(pieces: Iterable[tuple[int, int]]) -> Ranges:
    """Return all ids of *pieces*, which may overlap."""
    joined: list[Range] = []
    for first, last in sorted(pieces):
        if joined and first <= joined[-1].last + 1:
            joined[-1] = Range(joined[-1].first, max(last, joined[-1].last))
        else:
            joined.append(Range(first, last))
    return Ranges(joined)
