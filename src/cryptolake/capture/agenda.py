"""Which hole to ask a venue for next, and when to ask again for one that it did not close. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from cryptolake.capture.instruments import Instrument
from cryptolake.sources.venue import Hole

TWIN_SECONDS = 0.5
"""How long the twin connection may take to fill a hole before its venue is asked."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 600.0
UNPUBLISHED_SECONDS = 1_800.0
"""How long a file that the archive does not have is not asked for again."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[str, int, int]


@dataclass
class _Try:
    due_at: float
    tries: int = 0


class Agenda:
    """
    The open holes of one venue, and when each may be asked for, in monotonic seconds.

    A new one waits for the twin; what is left of one that got smaller is due at once; one that was asked for
    in vain waits longer each time.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._tries: dict[Key, _Try] = {}
        self._files: dict[tuple[str, date], float] = {}

    def due(self, holes: Iterable[tuple[Instrument, Hole]], now: float) -> tuple[Instrument, Hole] | None:
        """Return the first of *holes* that may be asked for, of those that were least often asked for in vain."""
        firsts = {(symbol, first) for symbol, first, _ in self._tries}
        lasts = {(symbol, last) for symbol, _, last in self._tries}
        known = self._tries
        self._tries = dict[Key, _Try]()
        chosen, fewest = None, 0
        for instrument, hole in holes:
            is_remainder = (hole.symbol, hole.first_id) in firsts or (hole.symbol, hole.last_id) in lasts
            tried = known.get(key(hole)) or _Try(now + (0.0 if is_remainder else TWIN_SECONDS))
            self._tries[key(hole)] = tried
            if tried.due_at <= now and (chosen is None or tried.tries < fewest):
                chosen, fewest = (instrument, hole), tried.tries
        return chosen

    def left_open(self, hole: Hole, now: float) -> float:
        """Note that *hole* was asked for in vain; return the seconds until it is due again."""
        tried = self._tries.setdefault(key(hole), _Try(now))
        longest = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(tried.tries, 20))
        wait = self._rng.uniform(longest / 2, longest)
        tried.tries += 1
        tried.due_at = now + wait
        return wait

    def tries(self, hole: Hole) -> int:
        """Return how often *hole* was asked for in vain."""
        return self._tries[key(hole)].tries if key(hole) in self._tries else 0

    def files(self, hole: Hole, days: Iterable[date], now: float) -> Iterator[date]:
        """Yield those of *days* whose file of the archive may be asked for now."""
        return (day for day in days if self._files.get((hole.symbol, day), now) <= now)

    def unpublished(self, hole: Hole, day: date, now: float) -> None:
        """Note that the archive does not have the file of *day*, or nothing in it that is missing."""
        self._files[hole.symbol, day] = now + UNPUBLISHED_SECONDS


def key(hole: Hole) -> Key:
    """Return what tells *hole* from others of its venue."""
    return hole.symbol, hole.first_id, hole.last_id


def joined(hole: Hole, holes: Iterable[Hole], near: int) -> Hole:
    """
    Return *hole* with those of *holes* below it in one, as far as *near* ids below its last: one answer has them all.

    >>> holes = [Hole("X", 90, 90), Hole("X", 50, 52, after_us=7), Hole("X", 3, 4)]
    >>> joined(holes[0], holes, 60)
    Hole(symbol='X', first_id=50, last_id=90, after_us=7, before_us=None)

    """
    lowest = min(
        (
            other
            for other in holes
            if other.symbol == hole.symbol and hole.last_id - near < other.first_id <= hole.first_id
        ),
        key=lambda other: other.first_id,
        default=hole,
    )
    return replace(hole, first_id=lowest.first_id, after_us=lowest.after_us)


def utc_day(at_us: int) -> date:
    """Return the UTC day of a time in microseconds."""
    return (EPOCH + timedelta(microseconds=at_us)).date()


def days_of(hole: Hole, newest_us: int | None) -> tuple[list[date], list[date]]:
    """
    Return the UTC days that lie wholly within *hole*, and those at its edges; each newest first.

    Args:
        hole: its neighbours say when it begins and ends.
        newest_us: the time of the newest trade that the venue has, for a hole without a neighbour above.

    >>> from cryptolake.sources.venue import Hole
    >>> days_of(Hole("X", 2, 9, after_us=80_000_000_000, before_us=260_000_000_000), None)
    ([datetime.date(1970, 1, 3), datetime.date(1970, 1, 2)], [datetime.date(1970, 1, 4), datetime.date(1970, 1, 1)])

    """
    until_us = hole.before_us if hole.before_us is not None else newest_us
    if hole.after_us is None or until_us is None:
        return [], []
    first, last = utc_day(hole.after_us), utc_day(until_us)
    whole = [last - timedelta(days=n) for n in range(1, (last - first).days)]
    return whole, [last] if first == last else [last, first]
