"""A clock for tests: it moves only when something sleeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptolake.clock import Clock


@dataclass
class Sleeps:
    """The seconds slept, in order, and the clock that they move."""

    at: datetime
    seconds: list[float] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        """Return the clock; its data time stands still, as with `--as-of`."""
        return Clock(now=lambda: self.at, monotonic=lambda: sum(self.seconds), sleep=self.seconds.append)
