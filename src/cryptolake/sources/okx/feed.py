"""How OKX's trades are subscribed to: one message; the venue answers for each instrument."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cryptolake.sources.okx import wire
from cryptolake.sources.venue import Keepalive


class OkxFeed:
    """The channel `trades-all`: every trade, none of them merged. OKX closes what is silent for 30 seconds."""

    keepalive: Keepalive | None = Keepalive(b"ping", 20.0)

    def url(self, base: str, symbols: Sequence[str]) -> str:  # noqa: ARG002 (the greeting names them)
        """Return *base*: the greeting names the symbols."""
        return base

    def greetings(self, symbols: Sequence[str]) -> Sequence[bytes]:
        """Return the one subscription."""
        asked = [{"channel": "trades-all", "instId": symbol} for symbol in symbols]
        return (msgspec.json.encode({"op": "subscribe", "args": asked}),)

    decode = staticmethod(wire.decode)
