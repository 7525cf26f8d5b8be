"""The REST of all replayed venues on one port: true answers from what is published, and faults over them."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from cryptolake.clock import Clock
from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.faults import Fault
from cryptolake.replay.venues.dialect import Dialect
from cryptolake.replay.venues.faults import Schedule
from cryptolake.replay.venues.market import Market

Script = Callable[[Request], Fault | None]

ARCHIVE = "/data/"

_MINUTE_SECONDS = 60.0
_BAN_SECONDS = 120.0


class Rest:
    """
    Answers for all *venues* (dialect and market of each); *requests* lists what was asked, in order.

    *weight_limit* is what may be asked of Binance in a minute before it refuses, and bans who goes on (None: without limit).
    """

    def __init__(self, schedule: Schedule, clock: Clock) -> None:
        self.venues: Sequence[tuple[Dialect, Market]] = ()
        self.schedule = schedule
        self.requests: list[Request] = []
        self.weight_limit: int | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: deque[Fault | None] = deque()
        self._script: Script | None = None
        self._numbers: Counter[str] = Counter()
        self._weights: deque[tuple[float, int]] = deque()
        self._banned_until = 0.0

    @property
    def as_of(self) -> datetime:
        """The present of the venue that is furthest."""
        return max(market.time for _, market in self.venues)

    def inject(self, faults: Iterable[Fault | None] | Script) -> None:
        """Spoil the answers to the next requests, one each; or ask *faults* for every request from now on."""
        if callable(faults):
            self._script = faults
        else:
            self._faults.extend(faults)

    def exchange(self, request: Request) -> tuple[Answer, Fault | None]:
        """Return the true answer to *request*, and what is to spoil it."""
        self.requests.append(request)
        for dialect, market in self.venues:
            answer = dialect.answer(request, market)
            if answer is not None:
                with self._lock:
                    return self._with_limits(request, dialect, answer)
        return Answer.json({"error": f"nothing is replayed at {request.path}"}, 404), None

    def _with_limits(self, request: Request, dialect: Dialect, answer: Answer) -> tuple[Answer, Fault | None]:
        """Return *answer*, or a refusal, with what counts the requests; and what is to spoil it."""
        fault = self._fault(request, dialect)
        weight = dialect.weight(request)
        if not weight:
            return answer, fault
        now = self._clock.monotonic()
        while self._weights and self._weights[0][0] <= now - _MINUTE_SECONDS:
            self._weights.popleft()
        self._weights.append((now, weight))
        used = sum(weight for _, weight in self._weights)
        counted = {f"x-mbx-used-weight{interval}": str(used) for interval in ("", "-1m")}
        answer = self._over_limit(dialect, used, now) or answer
        if fault is not None and fault.instead is not None:
            fault = replace(fault, instead=_with_headers(fault.instead, counted))
        return _with_headers(answer, counted), fault

    def _over_limit(self, dialect: Dialect, used: int, now: float) -> Answer | None:
        """Return the refusal of a request that is one too many: a ban for whoever was told to wait."""
        if self.weight_limit is None:
            return None
        if now < self._banned_until:
            self._banned_until = now + _BAN_SECONDS
            return dialect.refusal(418, _BAN_SECONDS)
        if used <= self.weight_limit:
            return None
        wait_seconds = self._weights[0][0] + _MINUTE_SECONDS - now
        self._banned_until = now + wait_seconds
        return dialect.refusal(429, wait_seconds + 1)

    def _fault(self, request: Request, dialect: Dialect) -> Fault | None:
        number = self._numbers[dialect.name]
        self._numbers[dialect.name] += 1
        if self._faults:
            return self._faults.popleft()
        if self._script is not None:
            return self._script(request)
        fault = self.schedule.on_request(dialect, number)
        if fault is not None and request.path.startswith(ARCHIVE) and fault.instead is not None:
            return None  # files are on a host of their own, without these limits
        return fault


def _with_headers(answer: Answer, headers: dict[str, str]) -> Answer:
    return replace(answer, headers={**answer.headers, **headers})
