"""When a connection has to be replaced: what a stall is, and what is only a quiet market. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_QUIET_SECONDS = 600.0
FORGETS_SECONDS = 300.0
"""After so long without a silence, half of what was learnt about the market's quiet is forgotten."""
SKEW_SECONDS = 1.0
"""How much later than its twin a connection may get the same trade."""


@dataclass
class Signs:
    """
    The signs of life of a connection, in monotonic seconds.

    *seen_at*: anything at all; *told_at*: a frame of the venue; *traded_at*: trades, minus infinity before the first.
    """

    opened_at: float
    seen_at: float
    told_at: float
    traded_at: float


class Quiet:
    """
    How long all connections of a group may be silent together before one of them is replaced.

    A market that is only quiet must not be a storm of reconnections, so the *patience* doubles with every
    replacement, and is at least twice the silence that was last broken by a frame.
    """

    def __init__(self, stall_seconds: float, now: float) -> None:
        self.patience = self._least = stall_seconds
        self._broken_at = self._replaced_at = now

    def broken(self, at: float) -> None:
        """Learn that a frame came *at* a time."""
        silence = at - self._broken_at
        if silence <= 0:
            return
        self._broken_at = at
        forgotten = self.patience * 0.5 ** (silence / FORGETS_SECONDS)
        self.patience = min(LONGEST_QUIET_SECONDS, max(self._least, 2 * silence, forgotten))

    def is_over(self, now: float) -> bool:
        """Say whether a connection is to be replaced; if so, the next one has to wait."""
        if now - max(self._broken_at, self._replaced_at) <= self.patience:
            return False
        self._replaced_at = now
        self.patience = min(LONGEST_QUIET_SECONDS, 2 * self.patience)
        return True


class Watchdog:
    """Tells of one connection whether it has stalled; *stall_seconds* is how long it may fail to do what it should."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._behind_since: float | None = None

    def stalled(self, now: float, own: Signs, twin: Signs | None, quiet: Quiet) -> str | None:
        """Return why the connection with the signs *own* is to be replaced, None where it is not."""
        if now - own.seen_at > self._stall_seconds:
            return "no sign of life"
        if twin is not None and self._is_behind(now, own, twin):
            return "its twin has trades, it has none"
        if now - own.told_at > self._stall_seconds and quiet.is_over(now):
            return "silent, like its twin"
        return None

    def _is_behind(self, now: float, own: Signs, twin: Signs) -> bool:
        """Say whether the twin has had trades since the last of this one for longer than a stall."""
        own_at = max(own.opened_at, own.traded_at)
        if twin.traded_at <= own_at + SKEW_SECONDS:
            self._behind_since = None
            return False
        if self._behind_since is None or self._behind_since < own_at:
            self._behind_since = now
        return now - self._behind_since > self._stall_seconds
