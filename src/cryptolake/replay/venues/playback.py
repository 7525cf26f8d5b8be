"""How fast a replay publishes: a pace, and the time that has passed of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cryptolake.replay.venues.reel import Reel


@dataclass(frozen=True)
class Pace:
    """
    *speed* times as fast as the tape was published (infinite: as fast as the connections take it).

    *trades_per_second*, of all venues together, takes its place where it is given.
    """

    speed: float = math.inf
    trades_per_second: float | None = None

    @property
    def is_unbounded(self) -> bool:
        """Say whether only the connections set the pace."""
        return self.trades_per_second is None and math.isinf(self.speed)


class Timeline:
    """
    The seconds for which a replay has been publishing, by a clock that is handed in; it can be held.

    >>> timeline = Timeline(is_held=False)
    >>> timeline.turn(now=10.0), timeline.turn(now=11.5)
    (0.0, 1.5)

    """

    def __init__(self, *, is_held: bool) -> None:
        self.is_held = is_held
        self._elapsed = 0.0
        self._asked_at: float | None = None

    def turn(self, now: float) -> float:
        """Return the seconds of publishing up to *now*; held ones do not count."""
        if self._asked_at is not None and not self.is_held:
            self._elapsed += now - self._asked_at
        self._asked_at = now
        return self._elapsed


class Publication:
    """How far one venue has published its *reel*; *published* counts its trades."""

    def __init__(self, reel: Reel, pace: Pace, begins_at_ns: int, share: float) -> None:
        self.reel = reel
        self.pace = pace
        self.published = 0
        self._begins_at_ns = begins_at_ns
        self._share = share

    @property
    def is_over(self) -> bool:
        """Say whether all trades are published."""
        return self.published >= len(self.reel)

    def due(self, elapsed_seconds: float) -> int:
        """Return how many trades are to be published after *elapsed_seconds*, at a bounded pace."""
        if self.pace.trades_per_second is not None:
            return min(int(elapsed_seconds * self.pace.trades_per_second * self._share), len(self.reel))
        return self.reel.due(self._begins_at_ns + elapsed_seconds * self.pace.speed * 1e9)

    def advance(self, position: int) -> None:
        """Publish all trades before *position*; what is published stays so."""
        position = min(position, len(self.reel))
        if position <= self.published:
            return
        counts = self.reel.market.counts
        for symbol, count in self.reel.counts(self.published, position).items():
            counts[symbol] += count
        self.published = position
