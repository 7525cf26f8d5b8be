"""The thread that brings bars up to date after trades have landed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING

import structlog

from cryptolake.errors import CryptoLakeError, DiskFullError

if TYPE_CHECKING:
    from cryptolake.capture.lander import Lander
    from cryptolake.clock import Clock

log = structlog.get_logger(__name__)


class Refresher:
    """
    Calls *refresh* with *stop*, then *compact*, every *seconds* if anything has landed since, until that is set.

    What it raises is logged, and stands in *problem* until it works again; trades land all the same. But a full disk
    is for a person.
    """

    def __init__(
        self,
        refresh: Callable[[Event], object] | None,
        compact: Callable[[], object],
        lander: Lander,
        seconds: float,
        clock: Clock,
        stop: Event,
    ) -> None:
        self.problem = ""
        self._refresh, self._compact, self._lander, self._seconds = refresh, compact, lander, seconds
        self._clock, self._stop = clock, stop
        self._seen = -1  # what an earlier capture landed may not be in the bars yet

    def run(self) -> None:
        """Refresh until stopped; without anything to refresh, end at once."""
        while self._refresh is not None and not self._stop.wait(self._seconds):
            self._refresh_if_due()

    def finish(self) -> None:
        """Refresh a last time."""
        self._refresh_if_due()

    def _refresh_if_due(self) -> None:
        commits = self._lander.state.commits
        if self._refresh is None or (commits == self._seen and not self.problem):
            return
        started = self._clock.monotonic()
        try:
            self._refresh(self._stop)
        except DiskFullError:  # nothing will land either
            raise
        except Exception as e:
            problem = str(e) or type(e).__name__
            if problem != self.problem:
                is_expected = isinstance(e, CryptoLakeError)
                log.warning("refresh.failed", reason=problem, exc_info=not is_expected)
            self.problem = problem
            return
        self.problem, self._seen = "", commits
        self._compact()
        log.debug("refresh.done", seconds=round(self._clock.monotonic() - started, 2))
