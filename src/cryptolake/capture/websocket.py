"""One WebSocket connection to a venue: greeted, kept alive, and its frames handed on in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ssl import SSLContext

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from cryptolake.capture.arrivals import Frame
from cryptolake.clock import Clock
from cryptolake.sources.venue import Keepalive

CONNECT_SECONDS = 10.0
BATCH_SECONDS = 0.05
BATCH_FRAMES = 1_000
LARGEST_FRAME_BYTES = 16 * 1024 * 1024
"""Also of a message that comes in several frames."""

Deliver = Callable[[int, list[Frame]], None]
"""Takes the number of a connection and a batch of its frames; returns at once."""

_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION})


class Connection(WSListener):
    """
    The connection *number*, which no other to the same venue has had.

    Frames go to *deliver* in batches: after 50 ms, or 1,000 of them. The times are monotonic seconds:
    *opened_at*, *seen_at* (anything at all, pongs too) and *told_at* (the *newest* frame).
    """

    def __init__(self, number: int, deliver: Deliver, clock: Clock) -> None:
        self.number = number
        self.newest = b""
        self.opened_at = self.seen_at = self.told_at = clock.monotonic()
        self.frames = 0
        self.farewell = ""
        self.ended = asyncio.Event()
        self._deliver, self._clock = deliver, clock
        self._batch: list[Frame] = []
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._received_us = 0
        self._transport: WSTransport | None = None
        self._sent_at = self.opened_at
        self._pinged_at = self.opened_at
        self._tasks: list[asyncio.Task[None]] = []
        self._is_paused = False

    @classmethod
    async def open(
        cls, number: int, url: str, deliver: Deliver, clock: Clock, ssl_context: SSLContext | None = None
    ) -> Connection:
        """
        Connect to *url*.

        Raises:
            OSError: nobody answers there, or not in time.
            WSError: whoever answers speaks no WebSocket, or nobody can be asked at such an address.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):  # its TimeoutError is an OSError
                _, connection = await ws_connect(
                    lambda: cls(number, deliver, clock),
                    url,
                    ssl_context=ssl_context,
                    websocket_handshake_timeout=CONNECT_SECONDS,
                    enable_auto_pong=False,  # a ping is a sign of life, so it has to be seen
                    max_frame_size=LARGEST_FRAME_BYTES,
                )
        except ValueError as e:  # of a host or a port, be it that of a redirect
            raise WSError(f"the address cannot be connected to: {e}") from e
        if not isinstance(connection, Connection):  # picows then has no listener
            raise WSError("the server hung up during the handshake")
        return connection

    async def greet(
        self, greetings: Sequence[bytes], keepalive: Keepalive | None, messages_per_second: float | None
    ) -> None:
        """Send *greetings*, no faster than the venue allows, and the *keepalive* from then on."""
        for n, greeting in enumerate(greetings):
            if n and messages_per_second:
                await asyncio.sleep(1 / messages_per_second)
            self.send(greeting)
        if keepalive is not None:
            self._tasks.append(asyncio.create_task(self._keep_alive(keepalive)))

    @property
    def is_open(self) -> bool:
        """Say whether the connection still stands."""
        return not self.ended.is_set()

    def send(self, message: bytes) -> None:
        """Send a text frame, if the connection still stands."""
        if self._transport is not None and self.is_open:
            self._sent_at = self._clock.monotonic()
            self._transport.send(WSMsgType.TEXT, message)

    def ping(self, silent_seconds: float) -> None:
        """Ask for a sign of life, if there was none for *silent_seconds*; not more often than that."""
        now = self._clock.monotonic()
        if (
            self._transport is not None
            and self.is_open
            and now - max(self.seen_at, self._pinged_at) > silent_seconds
        ):
            self._pinged_at = now
            self._transport.send_ping()

    @property
    def is_paused(self) -> bool:
        """Say whether nothing is read."""
        return self._is_paused

    def pause(self, is_paused: bool) -> None:
        """Stop reading, so that the venue has to wait, or go on."""
        if self._transport is None or not self.is_open or is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        if is_paused:
            self._transport.underlying_transport.pause_reading()
        else:
            self.seen_at = self.told_at = self._clock.monotonic()
            self._transport.underlying_transport.resume_reading()

    def close(self) -> None:
        """End the connection; what was received is delivered."""
        self._flush()
        if self._transport is not None and self.is_open:
            self._transport.send_close()
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the connection over (called by picows)."""
        self._transport = transport
        self.opened_at = self.seen_at = self.told_at = self._clock.monotonic()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 (the signature is picows')
        """Deliver what is left (called by picows)."""
        for task in self._tasks:
            task.cancel()
        self._parts.clear()
        self._flush()
        self.ended.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame (called by picows)."""
        if not self._received_us:  # frames of one buffer arrived together, so they have one time
            self.seen_at = self._clock.monotonic()
            self._received_us = round(self._clock.now().timestamp() * 1_000_000)
        if frame.msg_type in _DATA:
            self._take(transport, frame)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            self.farewell = f"{frame.get_close_code()} {frame.get_close_reason() or ''}".strip()
            transport.send_close()
            transport.disconnect()
        if frame.last_in_buffer:
            self._received_us = 0

    def _take(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if self._parts or not frame.fin:
            self._parts.append(payload)
            self._parts_bytes += len(payload)
            if self._parts_bytes > LARGEST_FRAME_BYTES:
                # What was received stays, so that no later frame of the buffer is taken for the message's end.
                self.farewell = f"by us: a message of more than {LARGEST_FRAME_BYTES:,} bytes"
                transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
                transport.disconnect(graceful=False)
                return
            if not frame.fin:
                return
            payload = b"".join(self._parts)
            self._parts.clear()
            self._parts_bytes = 0
        batch = self._batch
        batch.append((payload, self._received_us))
        if len(batch) == 1:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush)
        elif len(batch) >= BATCH_FRAMES:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            batch = self._batch
            self._batch = list[Frame]()
            self.told_at, self.newest = self.seen_at, batch[-1][0]
            self.frames += len(batch)
            self._deliver(self.number, batch)

    async def _keep_alive(self, keepalive: Keepalive) -> None:
        while True:
            quiet = self._clock.monotonic() - self._sent_at
            if quiet >= keepalive.seconds:
                self.send(keepalive.message)
                quiet = 0.0
            await asyncio.sleep(keepalive.seconds - quiet)
