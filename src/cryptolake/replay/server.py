"""Serve recordings over HTTP as the vendors serve the real thing."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from cryptolake.clock import Clock
from cryptolake.replay import alternative_me, coingecko
from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.faults import Fault
from cryptolake.replay.listener import LOOPBACK, Listener
from cryptolake.replay.recordings import Recordings

Script = Callable[[Request], Fault | None]

_MINUTE_SECONDS = 60.0


class ReplayServer:
    """
    CoinGecko and Alternative.me on a port of this machine, answering from recordings.

    Nothing newer than *as_of* is served. *history_days* and *requests_per_minute* are limits that
    CoinGecko's plans have (None: without limit). *requests* lists what was asked, in order.
    All public attributes may be changed while the server runs; a changed *as_of* is a later day.
    """

    def __init__(
        self,
        recordings: Recordings,
        *,
        as_of: datetime,
        history_days: int | None,
        requests_per_minute: int | None,
        clock: Clock,
    ) -> None:
        self.recordings = recordings
        self.as_of = as_of
        self.history_days = history_days
        self.requests_per_minute = requests_per_minute
        self.requests: list[Request] = []
        self._listener: Listener
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: deque[Fault | None] = deque()
        self._script: Script | None = None
        self._limited_at: deque[float] = deque()

    @classmethod
    def open(  # options of one server, all by name
        cls,
        recordings: Recordings,
        *,
        as_of: datetime | None = None,
        history_days: int | None = None,
        requests_per_minute: int | None = None,
        faults: Iterable[Fault | None] | Script = (),
        clock: Clock | None = None,
        host: str = LOOPBACK,
        port: int = 0,
    ) -> ReplayServer:
        """
        Start serving *recordings* in the background; use as a context manager, or `close` it.

        *as_of* defaults to the recording's end; port 0 takes a free one. *faults* spoils the next
        answers, one each (None: a true answer), or is asked for each request.

        Raises:
            OperatorError: if the port cannot be taken.

        """
        server = cls(
            recordings,
            as_of=as_of or recordings.ends_at,
            history_days=history_days,
            requests_per_minute=requests_per_minute,
            clock=clock or Clock(),
        )
        server.inject(faults)
        server._listener = Listener.open(host, port, server)
        return server

    @property
    def url(self) -> str:
        """Return the server's root, without a slash at its end."""
        return self._listener.url

    @property
    def coingecko_url(self) -> str:
        """Return what `sources.coingecko.base_url` is set to."""
        return f"{self.url}{coingecko.ROOT}"

    @property
    def alternative_me_url(self) -> str:
        """Return what `sources.alternative_me.base_url` is set to."""
        return self.url

    def inject(self, faults: Iterable[Fault | None] | Script) -> None:
        """Spoil the answers to the next requests, one each; or ask *faults* for every request from now on."""
        if callable(faults):
            self._script = faults
        else:
            self._faults.extend(faults)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._listener.close()

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def exchange(self, request: Request) -> tuple[Answer, Fault | None]:
        """Return the true answer to *request*, and what is to spoil it."""
        with self._lock:
            self.requests.append(request)
            fault = self._faults.popleft() if self._faults else None
            after_seconds = self._over_limit() if request.path.startswith(f"{coingecko.ROOT}/") else None
        if fault is None and self._script is not None:
            fault = self._script(request)
        if after_seconds is not None:
            return coingecko.rate_limit(after_seconds), fault
        as_of = self.as_of.astimezone(UTC)
        answer = coingecko.answer(request, self.recordings, as_of, self.history_days)
        answer = answer or alternative_me.answer(request, self.recordings, as_of)
        return answer or Answer.json({"error": f"nothing is replayed at {request.path}"}, 404), fault

    def _over_limit(self) -> int | None:
        """Count a request; return the seconds to wait if it is one too many."""
        if self.requests_per_minute is None:
            return None
        now = self._clock.monotonic()
        while self._limited_at and self._limited_at[0] <= now - _MINUTE_SECONDS:
            self._limited_at.popleft()
        if len(self._limited_at) >= self.requests_per_minute:
            return math.ceil(self._limited_at[0] + _MINUTE_SECONDS - now)
        self._limited_at.append(now)
        return None
