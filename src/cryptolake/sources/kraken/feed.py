"""How Kraken's trades are subscribed to: one message; the venue answers for each symbol."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cryptolake.sources.kraken import wire
from cryptolake.sources.venue import Keepalive


class KrakenFeed:
    """The channel `trade` of WebSocket v2, with its snapshot; the venue sends a heartbeat each second."""

    keepalive: Keepalive | None = None

    def url(self, base: str, symbols: Sequence[str]) -> str:  # noqa: ARG002 (the greeting names them)
        """Return *base*: the greeting names the symbols."""
        return base

    def greetings(self, symbols: Sequence[str]) -> Sequence[bytes]:
        """Return the one subscription."""
        params = {"channel": "trade", "symbol": list(symbols), "snapshot": True}
        return (msgspec.json.encode({"method": "subscribe", "params": params}),)

    decode = staticmethod(wire.decode)
