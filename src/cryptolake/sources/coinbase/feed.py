"""How Coinbase Exchange's trades are subscribed to: one message, within five seconds of connecting."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cryptolake.sources.coinbase import wire
from cryptolake.sources.venue import Keepalive


class CoinbaseFeed:
    """The channels `matches`, and `heartbeat` for a sign of life each second."""

    keepalive: Keepalive | None = None

    def url(self, base: str, symbols: Sequence[str]) -> str:  # noqa: ARG002 (the greeting names them)
        """Return *base*: the greeting names the symbols."""
        return base

    def greetings(self, symbols: Sequence[str]) -> Sequence[bytes]:
        """Return the one subscription."""
        said = {"type": "subscribe", "product_ids": list(symbols), "channels": ["matches", "heartbeat"]}
        return (msgspec.json.encode(said),)

    decode = staticmethod(wire.decode)
