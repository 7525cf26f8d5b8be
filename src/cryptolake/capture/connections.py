"""
The connections to one venue: two for every group of instruments, each replaced before it fails where that can be.

Everything here runs in one event loop, and nothing in it is heavy: frames are handed on as they came.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from ssl import SSLContext, create_default_context
from typing import Protocol

import structlog

from cryptolake.capture.arrivals import Frame
from cryptolake.capture.line import Line, LineState
from cryptolake.capture.watch import Quiet
from cryptolake.clock import Clock
from cryptolake.sources.records import Control
from cryptolake.sources.venue import Places, Rate, Venue

log = structlog.get_logger(__name__)


class Reader(Protocol):
    """Who reads the frames: the writer."""

    def frames(self, venue: str, connection: int, frames: Sequence[Frame]) -> None:
        """Take frames; returns at once."""
        ...

    def expects(self, venue: str, symbols: Collection[str], connections: Collection[int]) -> None:
        """Learn which connections will deliver the symbols."""
        ...


class Allowance:
    """Lets connections be tried no faster than the *rate*."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._clock, self._seconds = clock, rate.seconds
        self._taken = deque[float](maxlen=rate.count)

    def take(self) -> float:
        """Take the next try, and return the seconds until it may be made."""
        at = now = self._clock.monotonic()
        if len(self._taken) == self._taken.maxlen:
            at = max(now, self._taken[0] + self._seconds)
        self._taken.append(at)
        return at - now


@dataclass
class Group:
    """Instruments that share connections: their *symbols*, and what its lines have in common."""

    number: int
    symbols: Sequence[str]
    quiet: Quiet
    lines: list[Line] = field(default_factory=list)


class Connections:
    """All connections to one *venue* for *symbols*; `run` holds them until it is cancelled."""

    def __init__(
        self,
        venue: Venue,
        places: Places,
        symbols: Sequence[str],
        reader: Reader,
        clock: Clock,
        rng: random.Random,
        *,
        stall_seconds: float,
    ) -> None:
        self.venue, self.places = venue, places
        self.clock, self.rng, self.stall_seconds = clock, rng, stall_seconds
        self.allowance = Allowance(venue.capabilities.connections, clock)
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.is_paused = False
        self.ssl_context: SSLContext | None = None
        self._reader = reader
        self._numbers = count(1)
        self.groups = []
        size = venue.capabilities.streams_per_connection
        for number, start in enumerate(range(0, len(symbols), size)):
            quiet = Quiet(stall_seconds, clock.monotonic())
            group = Group(number, symbols[start : start + size], quiet)
            group.lines = [Line(self, group, seat) for seat in (0, 1)]
            self.groups.append(group)

    async def run(self) -> None:
        """Connect, and keep connected; when cancelled, close everything and deliver what was received."""
        if any(url.startswith("wss:") for url in self.places.websocket_urls):
            self.ssl_context = await asyncio.to_thread(create_default_context)
        for group in self.groups:
            self.expect(group)
        try:
            async with asyncio.TaskGroup() as tasks:
                for line in self._lines():
                    tasks.create_task(line.keep())
        finally:
            for line in self._lines():
                line.close()

    def heed(self, connection: int, control: Control) -> None:
        """Act on what the venue said on the *connection* of that number."""
        for line in self._lines():
            if line.live is None or line.live.number != connection:
                continue
            if control.kind == "shutdown":
                line.replace("the venue shuts it down")
            elif control.kind == "refused":
                line.problem = f"subscription refused: {control.reason}"
                log.error("subscription.refused", connection=line.name, reason=control.reason)

    def suspect(self, symbols: Collection[str]) -> None:
        """Replace the older connection of each group of *symbols*: the venue has trades that neither delivered."""
        for group in self.groups:
            if not set(symbols).isdisjoint(group.symbols):
                older = min(group.lines, key=lambda line: line.live.opened_at if line.live else float("inf"))
                older.replace("trades are missing")

    def pause(self, is_paused: bool) -> None:
        """Stop reading, or go on; connections made meanwhile follow."""
        if is_paused == self.is_paused:
            return
        self.is_paused = is_paused
        for line in self._lines():
            line.pause(is_paused)

    def shut(self, is_shut: bool) -> None:
        """Close all connections and make no new ones, or go on."""
        if not is_shut:
            self.may_connect.set()
        elif self.may_connect.is_set():
            self.may_connect.clear()
            for line in self._lines():
                line.close()

    def states(self) -> list[LineState]:
        """Return how every line stands."""
        return [line.state() for line in self._lines()]

    def deliver(self, connection: int, frames: list[Frame]) -> None:
        """Hand *frames* on."""
        self._reader.frames(self.venue.name, connection, frames)

    def expect(self, group: Group) -> None:
        """Say which connections will deliver the symbols of *group*."""
        numbers = [line.number for line in group.lines if line.number is not None]
        self._reader.expects(self.venue.name, group.symbols, numbers)

    def next_number(self) -> int:
        """Return a number that no connection to this venue has had."""
        return next(self._numbers)

    def _lines(self) -> list[Line]:
        return [line for group in self.groups for line in group.lines]
