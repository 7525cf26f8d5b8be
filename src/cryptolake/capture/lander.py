"""The thread that lands the spool, every few seconds, and waits for a lake that is down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

import structlog

from cryptolake.errors import TransientError

if TYPE_CHECKING:
    from cryptolake.capture.landing import Landing
    from cryptolake.capture.spool import Spool
    from cryptolake.clock import Clock

LOOK_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 5.0
LAST_TRIES_SECONDS = 10.0
"""How long a capture that ends waits for a lake that is down."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LandingState:
    """
    What has landed and what waits.

    *rows_landed* in as many *commits* since the start; *committed_at* and *commit_seconds* of the last one;
    *spool_blocks* wait, of trades and of what is known about them; *problem* why the lake cannot be written now, empty where it can.
    """

    rows_landed: int = 0
    commits: int = 0
    committed_at: datetime | None = None
    commit_seconds: float = 0.0
    spool_blocks: int = 0
    spool_trades: int = 0
    spool_bytes: int = 0
    problem: str = ""


class Lander:
    """Lands *spool* through *landing* every *commit_seconds* until *stop* is set; `finish` lands the rest."""

    def __init__(
        self, landing: Landing, spool: Spool, clock: Clock, *, commit_seconds: float, stop: Event
    ) -> None:
        self.state = LandingState()
        self._landing, self._spool, self._clock = landing, spool, clock
        self._commit_seconds, self._stop = commit_seconds, stop
        self._failures = 0

    def run(self) -> None:
        """
        Land until stopped.

        Raises:
            OperatorError: the spool or the lake can only be mended by a person.
        """
        due_at = self._clock.monotonic()
        while not self._stop.is_set():
            started = self._clock.monotonic()
            if started >= due_at:
                is_behind = self._land()
                if not is_behind and not self._failures:
                    self._landing.compact_when_due()
                due_at = started if is_behind else started + self._pause()
            self._look()
            self._stop.wait(min(LOOK_SECONDS, max(0.0, due_at - self._clock.monotonic())))

    def finish(self) -> bool:
        """Land what is left, and say whether all of it is in the lake; a lake that is down gets some seconds."""
        until = self._clock.monotonic() + LAST_TRIES_SECONDS
        while True:
            is_behind = self._land()
            if self._failures:
                if self._clock.monotonic() >= until:
                    break
                self._clock.sleep(LOOK_SECONDS)
            elif not is_behind:
                break
        self._look()
        if self._failures:
            waiting = self.state.spool_trades
            log.error("spool.kept", trades=waiting, path=str(self._spool.path), reason=self.state.problem)
        return not self._failures

    def _land(self) -> bool:
        """Bring one portion into the lake; say whether there is more."""
        started = self._clock.monotonic()
        try:
            landed = self._landing.land_once()
        except TransientError as e:
            if not self._failures or str(e) != self.state.problem:
                log.warning("lake.down", reason=str(e))
            self._failures += 1
            self.state = replace(self.state, problem=str(e))
            return False
        if self._failures:
            log.info("lake.back", tries=self._failures)
            self._failures = 0
            self.state = replace(self.state, problem="")
        if landed.trades or landed.events or landed.rejects:
            self.state = replace(
                self.state,
                rows_landed=self.state.rows_landed + landed.trades,
                commits=self.state.commits + 1,
                committed_at=self._clock.now(),
                commit_seconds=self._clock.monotonic() - started,
            )
        return landed.behind

    def _pause(self) -> float:
        if not self._failures:
            return self._commit_seconds
        return min(LONGEST_RETRY_SECONDS, LOOK_SECONDS * 2 ** min(self._failures, 20))

    def _look(self) -> None:
        blocks, trades = self._spool.pending()
        self.state = replace(
            self.state, spool_blocks=blocks, spool_trades=trades, spool_bytes=self._spool.used_bytes()
        )
