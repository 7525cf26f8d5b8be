"""The only module that asks what time it is; everything else is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """
    Where "now" and waiting come from.

    *now* is the data's present (`--as-of` fixes it); *wall* is the time that file systems know;
    *monotonic* and *sleep* measure real waiting.

    >>> Clock.fixed(datetime(2024, 3, 16, tzinfo=UTC)).now().isoformat()
    '2024-03-16T00:00:00+00:00'
    """

    now: Callable[[], datetime] = _utc_now
    wall: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def fixed(cls, at: datetime) -> Clock:
        """Return a clock whose data time stands still at *at* (a zoned datetime)."""
        moment = at.astimezone(UTC)
        return cls(now=lambda: moment)
