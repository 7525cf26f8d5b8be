"""A plain WebSocket client that keeps what it hears, and a plain HTTP one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from cryptolake.replay.venues.server import VenueServer

LIMIT_SECONDS = 20
BINANCE = "/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND"

OPEN: list[Client] = []


class Client(WSListener):
    """One connection: *heard* has the text frames in order, *closed_with* the code of a goodbye."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []
        self.closed_with: int | None = None
        self.is_closed = False
        self._changed = asyncio.Event()

    @classmethod
    async def connect(cls, url: str) -> Client:
        _, client = await ws_connect(cls, url)
        OPEN.append(client)
        return client

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.heard.append(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            self.closed_with = frame.get_close_code().value
            transport.disconnect()
        self._changed.set()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.is_closed = True
        self._changed.set()

    def say(self, content: Any) -> None:
        message = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.transport.send(WSMsgType.TEXT, message)

    async def until(self, holds: Callable[[Client], bool]) -> None:
        """Wait until *holds* says that it does."""
        while not holds(self):
            self._changed.clear()
            async with asyncio.timeout(LIMIT_SECONDS):
                await self._changed.wait()

    async def hear(self, count: int) -> list[bytes]:
        """Wait for *count* frames in all, and return them."""
        await self.until(lambda client: len(client.heard) >= count)
        return self.heard[:count]

    async def hear_out(self) -> list[bytes]:
        """Return all frames until the connection ended."""
        await self.until(lambda client: client.is_closed)
        return self.heard


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    """Return what *scenario* returns, and end the connections that it left open."""

    async def whole() -> Any:
        try:
            return await scenario
        finally:
            while OPEN:
                client = OPEN.pop()
                client.transport.disconnect(graceful=False)
                await client.transport.wait_disconnected()

    return asyncio.run(whole())


def told(server: VenueServer, host: int = 0, query: str = BINANCE) -> list[bytes]:
    """Return what one connection to Binance hears of a whole tape, from before its beginning until its end."""

    async def scenario() -> list[bytes]:
        client = await Client.connect(server.websocket_url("binance")[host] + query)
        server.start()
        await asyncio.to_thread(server.delivered.wait, LIMIT_SECONDS)
        server.disconnect_all()
        return await client.hear_out()

    return run(scenario())


def get(
    server: VenueServer, path: str, headers: dict[str, str] | None = None, **query: Any
) -> httpx2.Response:
    root = server.rest_url("binance")
    return httpx2.get(f"{root}{path}", params=query, headers=headers, trust_env=False, verify=False)
