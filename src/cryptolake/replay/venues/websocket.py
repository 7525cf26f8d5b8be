"""A venue's WebSocket: its connections, and what is sent on each of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest

from cryptolake.replay.venues.dialect import Session
from cryptolake.replay.venues.faults import Happening, Schedule, damaged
from cryptolake.replay.venues.playback import Publication
from cryptolake.replay.venues.reel import BLOCK, framed, payload_of

LEAD = 8 * BLOCK
"""Trades that an unbounded pace publishes ahead of the slowest connection."""

PATIENCE_SECONDS = 30.0
"""How long a connection may take nothing before it is ended."""

_BLOCKS_A_TURN = 8
_WRITE_BUFFER = 1 << 18

log = structlog.get_logger(__name__)


class Stage:
    """
    One venue's connections, all on one event loop.

    *rewrite*, where there is one, changes the payload of every trade that is sent.
    """

    def __init__(self, publication: Publication, schedule: Schedule, wake: Callable[[], None]) -> None:
        self.publication = publication
        self.schedule = schedule
        self.wake = wake
        self.connections: list[Connection] = []
        self.rewrite: Callable[[bytes], bytes] | None = None
        self.subscribed = 0
        """Connections that have ever subscribed."""

    @property
    def slowest(self) -> int | None:
        """The position of the connection that lags most; None without one that follows."""
        return min((c.cursor for c in self.connections if c.follows), default=None)

    def accept(self, host: int, request: WSUpgradeRequest) -> Connection | None:
        """Return the listener of a new connection; None where nothing is served at its path."""
        reel = self.publication.reel
        session = Session()
        greetings = reel.dialect.opened(request.path.decode(), reel.market, session)
        return None if greetings is None else Connection(self, host, session, greetings)

    def go_on_with(self, publication: Publication) -> None:
        """Publish another reel, on the connections that are there."""
        self.publication = publication
        for connection in self.connections:
            connection.begin_again()

    def pump(self) -> bool:
        """Send what is published; return whether a connection could take more at once."""
        can_take_more = [connection.pump() for connection in list(self.connections)]
        return any(can_take_more)

    def beat(self) -> None:
        """Do what is done each second."""
        for connection in list(self.connections):
            connection.beat()


class Connection(WSListener):
    """One client's connection to one *host* of a venue: from *cursor* on it gets what is published."""

    def __init__(self, stage: Stage, host: int, session: Session, greetings: list[bytes]) -> None:
        super().__init__()
        self.stage = stage
        self.host = host
        self.session = session
        self.cursor = stage.publication.published
        self.is_stalled = False
        self.is_over = False
        self._greetings = greetings
        self._transport: WSTransport
        self._since: dict[int, int] = {}
        self._paused_at: float | None = None
        self._beats_stall_too = False
        self._has_counted = False
        self._late: list[tuple[int, bytes]] = []
        self._ends_at: int | None = None
        self._happenings: tuple[int, Mapping[int, list[Happening]]] = (-1, {})
        self._opened_at = self._active_at = self._pinged_at = asyncio.get_running_loop().time()
        self._heard_at: deque[float] = deque()

    @property
    def follows(self) -> bool:
        """Say whether it gets trades, so that an unbounded pace waits for it."""
        return bool(self._since) and not self.is_stalled and not self.is_over

    @property
    def is_subscribed(self) -> bool:
        """Say whether it has asked for trades that there are."""
        return bool(self._since)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet the client."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self.stage.connections.append(self)
        log.debug("replay.connected", venue=self.stage.publication.reel.dialect.name, host=self.host)
        self.say(self._greetings)
        self._follow()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002  # the listener's signature
        """Forget the client."""
        self.is_over = True
        if self in self.stage.connections:
            self.stage.connections.remove(self)
        self.stage.wake()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a message of the client."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        reel = self.stage.publication.reel
        if self._is_one_too_many(reel.dialect.manners.messages_per_second):
            self.end(WSCloseCode.POLICY_VIOLATION, b"Too many requests")
        elif frame.msg_type == WSMsgType.TEXT:
            self.say(reel.dialect.received(frame.get_payload_as_bytes(), reel.market, self.session))
            self._follow()
            if self.session.is_refused:
                self.end(WSCloseCode.POLICY_VIOLATION)

    def pause_writing(self) -> None:
        """Stop: the client does not read as fast as is written."""
        self._paused_at = asyncio.get_running_loop().time()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._paused_at = None
        self.stage.wake()

    def say(self, messages: list[bytes]) -> None:
        """Send text frames."""
        for message in messages:
            self._transport.send(WSMsgType.TEXT, message)
        if messages:
            self._active_at = asyncio.get_running_loop().time()

    def end(self, code: WSCloseCode | None = WSCloseCode.GOING_AWAY, reason: bytes = b"") -> None:
        """End the connection after what was sent; without a *code* also without a goodbye."""
        if not self.is_over:
            self.is_over = True
            if code is not None:
                self._transport.send_close(code, reason)
            self._transport.disconnect()

    def cut(self) -> None:
        """Reset the connection; what was not received yet may be lost."""
        self.is_over = True
        self._transport.disconnect(graceful=False)

    def stall(self, *, beats_too: bool = True) -> None:
        """Say nothing any more, but stay open; heartbeats go on where they are not to stall too."""
        self.is_stalled = True
        self._beats_stall_too = beats_too

    def end_after(self, seconds: float) -> None:
        """Send the venue's notice that it will close the connection, where it has one, and close it later."""
        reel = self.stage.publication.reel
        notice = reel.dialect.shutdown_notice(reel.market, self.session)
        self.say([notice] if notice is not None and not self.is_stalled else [])
        asyncio.get_running_loop().call_later(seconds, self.end)

    def begin_again(self) -> None:
        """Follow the reel that the stage publishes now, from its beginning."""
        self._since.clear()
        self._late.clear()
        self._happenings = -1, {}
        self._follow()

    def beat(self) -> None:
        """Send heartbeats, ping, and end a connection that has no manners."""
        now = asyncio.get_running_loop().time()
        reel = self.stage.publication.reel
        manners = reel.dialect.manners
        if self._paused_at is not None and now - self._paused_at > PATIENCE_SECONDS:
            self.cut()
        elif (
            manners.subscribe_seconds
            and not self._since
            and now - self._opened_at > manners.subscribe_seconds
        ):
            self.end(WSCloseCode.POLICY_VIOLATION, b"nothing subscribed")
        elif manners.idle_seconds and now - self._active_at > manners.idle_seconds:
            self.end(WSCloseCode.POLICY_VIOLATION, b"nothing received")
        elif not self.is_over and self._paused_at is None:
            if manners.ping_seconds and now - self._pinged_at > manners.ping_seconds:
                self._pinged_at = now
                self._transport.send_ping(b"1")
            if not (self.is_stalled and self._beats_stall_too):
                self.say(reel.dialect.heartbeats(reel.market, self.session))

    def pump(self) -> bool:
        """Send some of what is published and not sent; return whether there is more that it can take."""
        publication = self.stage.publication
        if self.is_stalled or not self._since:
            self.cursor = publication.published
        for _ in range(_BLOCKS_A_TURN):
            if self.is_over or self._paused_at is not None or self.cursor >= publication.published:
                break
            self._send_some()
        if self._late and publication.is_over and self.cursor >= publication.published:
            self._write([frame for _, frame in self._late])
            self._late.clear()
        return not self.is_over and self._paused_at is None and self.cursor < publication.published

    def _send_some(self) -> None:
        """Send what is published of the block at the cursor."""
        reel = self.stage.publication.reel
        block, place = divmod(self.cursor, BLOCK)
        count = min(self.stage.publication.published - self.cursor, BLOCK - place)
        frames = reel.encoded(self.session.style, block)[place : place + count]
        if self._happenings[0] != block:
            drawn = self.stage.schedule.on_block(reel.dialect.name, self.host, block, BLOCK)
            self._happenings = block, drawn
        is_plain = not (self._happenings[1] or self._late or self.stage.rewrite or self._ends_at is not None)
        if is_plain and self._hears_all():
            self.cursor += count
            self._write(list(frames))
            return
        sent: list[bytes] = []
        ending: Happening | None = None
        for frame in frames:
            happened = self._happenings[1].get(self.cursor % BLOCK, [])
            ending = self._meet(happened, sent)
            if ending is not None or self.is_stalled:
                break
            self._add(frame if self._hears(self.cursor) else b"", happened, sent)
            self.cursor += 1
        self._write(sent)
        if ending is not None:
            self.end(WSCloseCode.GOING_AWAY if ending.draw < 0.5 else None)  # noqa: PLR2004  # half of them

    def _meet(self, happened: list[Happening], sent: list[bytes]) -> Happening | None:
        """Let what concerns the whole connection happen; return what ends it."""
        for happening in happened:
            match happening.kind:
                case "disconnect":
                    return happening
                case "stall":
                    self.stall(beats_too=happening.draw < 0.5)  # noqa: PLR2004  # half of them
                case "shutdown" if self._ends_at is None:
                    reel = self.stage.publication.reel
                    notice = reel.dialect.shutdown_notice(reel.market, self.session)
                    sent += [framed(notice)] if notice is not None else []
                    self._ends_at = self.cursor + int(self.stage.schedule.argument("shutdown"))
        return Happening("shutdown", 0.0) if self.cursor == self._ends_at else None

    def _add(self, frame: bytes, happened: list[Happening], sent: list[bytes]) -> None:
        """Add the frame of the trade at the cursor to what is *sent*, as it arrives, and late ones that are due."""
        if frame and self.stage.rewrite is not None:
            frame = framed(self.stage.rewrite(payload_of(frame)))
        for kind, draw in happened:
            match kind:
                case "lost":
                    frame = b""
                case "duplicated":
                    frame += frame
                case "damaged" if frame:
                    frame = framed(damaged(payload_of(frame), draw))
                case "reordered":
                    late_by = 1 + int(draw * self.stage.schedule.argument("reordered"))
                    self._late.append((self.cursor + late_by, frame))
                    frame = b""
        sent.append(frame)
        if self._late:
            sent += [late for due, late in self._late if due <= self.cursor]
            self._late = [late for late in self._late if late[0] > self.cursor]

    def _write(self, frames: list[bytes]) -> None:
        block = b"".join(frames)
        if block:
            self._transport.underlying_transport.write(block)
            self._active_at = asyncio.get_running_loop().time()

    def _follow(self) -> None:
        """Bring the tracks that it gets, and from which position on, up to date with its subscriptions."""
        publication = self.stage.publication
        wanted = {
            number
            for number, track in enumerate(publication.reel.tracks)
            if track.symbol in self.session.symbols
        }
        if wanted and not self._since:
            self.cursor = publication.published
            self.stage.subscribed += not self._has_counted
            self._has_counted = True
        self._since = {number: self._since.get(number, publication.published) for number in wanted}
        self.stage.wake()

    def _hears_all(self) -> bool:
        return len(self._since) == len(self.stage.publication.reel.tracks) and all(
            since <= self.cursor for since in self._since.values()
        )

    def _hears(self, position: int) -> bool:
        since: Any = self._since.get(self.stage.publication.reel.order[position])
        return since is not None and since <= position

    def _is_one_too_many(self, allowed: int | None) -> bool:
        """Count a message; say whether it is one more in a second than *allowed*."""
        now = asyncio.get_running_loop().time()
        self._active_at = now
        self._heard_at.append(now)
        while self._heard_at[0] <= now - 1:
            self._heard_at.popleft()
        return allowed is not None and len(self._heard_at) > allowed
