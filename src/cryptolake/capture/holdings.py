"""What the lake holds of one instrument, day by day: which ids are there, which are proven not to be, which are asked for."""

from __future__ import annotations

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

NEARBY = timedelta(days=7)
"""How far from a day its neighbours are looked for; farther ones are asked for again."""
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
EVENTS = f"select distinct first_id, last_id, event from {GAPS} where venue = ? and symbol = ?"


@dataclass(frozen=True)
class DayHeld:
    """The ids held of a day: the *first* and the *last* (None where there is none), and the *holes* between."""

    first: Range | None
    last: Range | None
    holes: Sequence[Range]


class Holdings:
    """The ids of *instrument* in the lake of *reader*, as of the last `refresh`."""

    def __init__(self, reader: Reader, instrument: Instrument) -> None:
        self._reader = reader
        self._name = (instrument.venue, instrument.stored_as)
        self.open, self.closed = Ranges(), Ranges()
        """Ids that are missing by an event and not closed; and those that are absent or rejected."""
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
        self.open = union((first, last) for first, last, event in events if event == "missing")
        self.closed = union((first, last) for first, last, event in events if event in {"absent", "rejected"})
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

    def is_whole(self, day: date) -> bool:
        """Say whether every id of *day* and the ones beside it are known, so that nothing has to be asked for."""
        held = self.day(day)
        if held.first is None or held.last is None or held.holes:
            return False
        beside = [
            Range(held.first.first - 1, held.first.first - 1),
            Range(held.last.last + 1, held.last.last + 1),
        ]
        return not self.unknown(beside, around=day)

    def unknown(self, holes: Iterable[Range], *, around: date | None = None) -> list[Range]:
        """Return what of *holes* is neither held nor absent nor rejected, looking *around* a day or their own times."""
        found: list[Range] = []
        for hole in holes:
            left = Ranges([hole])
            for known in self.closed.within(hole.first, hole.last):
                left.remove(known.first, known.last)
            if left.ids:
                for first, last in self._held_within(hole, around):
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

    def _held_within(self, hole: Range, around: date | None) -> list[tuple[int, int]]:
        after_us, before_us = hole.after_us, hole.before_us
        if around is not None:
            since, until = midnight(around) - NEARBY, midnight(around) + NEARBY
        elif after_us is not None and before_us is not None:
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
