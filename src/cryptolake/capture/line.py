"""One of the two places of a group of instruments, in which there is always a connection, or an attempt at one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from picows import WSError

from cryptolake.capture.watch import Signs, Watchdog
from cryptolake.capture.websocket import Connection
from cryptolake.errors import BadRecordError

if TYPE_CHECKING:
    from cryptolake.capture.connections import Connections, Group

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 30.0
STEADY_SECONDS = 2.0
"""A connection that stood so long makes earlier failures forgotten."""
OVERLAP_SECONDS, LONGEST_OVERLAP_SECONDS = 1.0, 5.0
"""How long a predecessor stays beside a successor that delivers, and beside one that does not."""
HANDOVER_SHARES = (0.91, 23 / 24)
"""A connection is replaced after a share of its longest life that is drawn from this range."""
LOOK_SECONDS = 0.1

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LineState:
    """
    How one of the connections to a venue stands.

    *state* is `open`, `paused`, `connecting` or `shut`; *seconds* is how long an open one has stood.
    """

    name: str
    host: str
    state: str
    seconds: float
    frames: int
    replaced: int
    problem: str


class Line:
    """
    A place for a connection: the *live* one, and for a moment the one that is *leaving* after it.

    The successor is connected before its predecessor goes, where that is still alive. *number* is that of the
    live connection, or of the one that is being tried; None where the last try failed.
    """

    def __init__(self, owner: Connections, group: Group, seat: int) -> None:
        self.name = f"{owner.venue.name}/{group.number}{'ab'[seat]}"
        self.live: Connection | None = None
        self.leaving: Connection | None = None
        self.number: int | None = owner.next_number()
        self.problem = ""
        self._owner, self._group, self._seat = owner, group, seat
        self._failures = self._refusals = self._replaced = 0
        """Connections that did not come about, or not for long; tries since the last connection; connections that ended."""
        self._asked = self._host = ""
        self._logged: set[str] = set()
        """What was logged since the last connection; hosts take turns, so each reason is new but once."""
        self._traded_at, self._looked_at = float("-inf"), 0.0

    async def keep(self) -> None:
        """Have a live connection, for ever."""
        while True:
            fresh = await self._connected()
            if self.leaving is not None:
                self.leaving.close()
            self.leaving, self.live, self._asked = self.live, fresh, ""
            self._traded_at, self._looked_at = float("-inf"), fresh.opened_at
            why = await self._outlived(fresh)
            self._replaced += 1
            self.number = self._owner.next_number()
            stood = self._owner.clock.monotonic() - fresh.opened_at
            self._failures = 0 if stood >= STEADY_SECONDS else self._failures + 1
            log.info("connection.replaced", connection=self.name, reason=why, seconds=round(stood, 1))

    def replace(self, why: str) -> None:
        """Ask for a successor of the live connection."""
        self._asked = self._asked or why

    def pause(self, is_paused: bool) -> None:
        """Stop reading, or go on."""
        for one in (self.live, self.leaving):
            if one is not None:
                one.pause(is_paused)

    def close(self) -> None:
        """Close what is open."""
        for one in (self.live, self.leaving):
            if one is not None:
                one.close()

    def signs(self) -> Signs | None:
        """Return the signs of life of the live connection, None where there is none."""
        one = self.live
        if one is None or not one.is_open:
            return None
        if one.told_at > self._looked_at:
            self._looked_at = one.told_at
            # The newest frame of every look tells enough: a connection that trades is seen to.
            with suppress(BadRecordError):
                if isinstance(self._owner.venue.feed.decode(one.newest), list):
                    self._traded_at = one.told_at
        return Signs(one.opened_at, one.seen_at, one.told_at, self._traded_at)

    def state(self) -> LineState:
        """Return how the line stands."""
        owner, one = self._owner, self.live
        state, seconds = "connecting" if owner.may_connect.is_set() else "shut", 0.0
        if one is not None and one.is_open:
            state, seconds = "paused" if one.is_paused else "open", owner.clock.monotonic() - one.opened_at
        frames = one.frames if one is not None else 0
        return LineState(self.name, self._host, state, seconds, frames, self._replaced, self.problem)

    async def _connected(self) -> Connection:
        """Return a new connection, trying until there is one."""
        owner = self._owner
        while True:
            if self._failures:
                longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 20))
                await asyncio.sleep(owner.rng.uniform(0, longest))
            await asyncio.sleep(owner.allowance.take())
            await owner.may_connect.wait()
            try:
                fresh = await self._try()
            except (OSError, WSError) as e:
                self._failures += 1
                self._refusals += 1
                self.number = None
                self._note_failure(f"{self._host}: {e or type(e).__name__}")
                owner.expect(self._group)
            else:
                self._refusals = 0
                self._logged.clear()
                if owner.may_connect.is_set():
                    return fresh
                fresh.close()  # there was room when it was begun

    def _note_failure(self, problem: str) -> None:
        """Keep *problem*; log it where it is new, and of the same one the 2nd, 4th, 8th and so on of the tries."""
        is_power_of_two = not self._refusals & (self._refusals - 1)
        if problem not in self._logged or is_power_of_two:
            log.warning("connection.failed", connection=self.name, reason=problem, tries=self._refusals)
        self._logged.add(problem)
        self.problem = problem

    async def _try(self) -> Connection:
        owner, symbols = self._owner, self._group.symbols
        feed, hosts = owner.venue.feed, owner.places.websocket_urls
        host = hosts[(self._seat + self._refusals) % len(hosts)]  # not the twin's, if its own answers
        url = feed.url(host, symbols)
        self._host = urlsplit(url).netloc
        self.number = self.number or owner.next_number()
        owner.expect(self._group)
        fresh = await Connection.open(self.number, url, owner.deliver, owner.clock, owner.ssl_context)
        try:
            pace = owner.venue.capabilities.messages_per_second
            await fresh.greet(feed.greetings(symbols), feed.keepalive, pace)
        except BaseException:
            fresh.close()
            raise
        fresh.pause(owner.is_paused)
        self.problem = ""
        log.info("connection.opened", connection=self.name, host=self._host, symbols=len(symbols))
        return fresh

    async def _outlived(self, fresh: Connection) -> str:
        """Wait until *fresh* has to be replaced, and return why; let its predecessor go meanwhile."""
        owner = self._owner
        longest = owner.venue.capabilities.longest_connection_seconds or float("inf")
        due = fresh.opened_at + longest * owner.rng.uniform(*HANDOVER_SHARES)
        watchdog = Watchdog(owner.stall_seconds)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await fresh.ended.wait()
            now = owner.clock.monotonic()
            if not fresh.is_open:
                return f"closed {fresh.farewell}".rstrip()
            self._let_go(now, fresh)
            if self._asked:
                return self._asked
            if now >= due:
                return "old age"
            if not fresh.is_paused and (why := self._stalled(now, fresh, watchdog)):
                return why

    def _stalled(self, now: float, fresh: Connection, watchdog: Watchdog) -> str | None:
        own = self.signs()
        if own is None:
            return None
        if fresh.frames:
            self._group.quiet.broken(own.told_at)
        fresh.ping(self._owner.stall_seconds / 2)
        twin = next(line for line in self._group.lines if line is not self)
        return watchdog.stalled(now, own, twin.signs(), self._group.quiet)

    def _let_go(self, now: float, successor: Connection) -> None:
        """Close the predecessor of *successor* once that delivers, or could have."""
        if self.leaving is None:
            return
        overlap = OVERLAP_SECONDS if successor.frames else LONGEST_OVERLAP_SECONDS
        if now - successor.opened_at >= overlap or not self.leaving.is_open:
            self.leaving.close()
            self.leaving = None
