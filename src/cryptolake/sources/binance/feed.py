"""How Binance's spot trades are subscribed to: the URL names the streams, nothing is sent."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from cryptolake.sources.binance import wire
from cryptolake.sources.venue import Keepalive


class BinanceFeed:
    """Combined `@trade` streams, times in microseconds. Pings are WebSocket's own, the connection answers them."""

    keepalive: Keepalive | None = None

    def url(self, base: str, symbols: Sequence[str]) -> str:
        """Return the URL of the streams of *symbols*, which Binance spells in lower case there."""
        streams = "/".join(f"{quote(symbol.lower())}@trade" for symbol in symbols)
        return f"{base.rstrip('/')}/stream?streams={streams}&timeUnit=MICROSECOND"

    def greetings(self, symbols: Sequence[str]) -> Sequence[bytes]:  # noqa: ARG002 (the URL says it all)
        """Return nothing: the URL says it all."""
        return ()

    decode = staticmethod(wire.decode)
