"""Ask OKX for trades that were missed, by id; it keeps those of the last three months."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from cryptolake.clock import Clock
from cryptolake.errors import (
    NotPublishedError,
    OperatorError,
    SourceDownError,
    SourceRefusedError,
    UnknownSymbolError,
)
from cryptolake.sources import paging
from cryptolake.sources.http import Parse, PoliteClient, Vendor
from cryptolake.sources.okx import wire
from cryptolake.sources.records import Head, Kline, TradePage
from cryptolake.sources.venue import ArchivePiece, Hole, Places

T = TypeVar("T")

REQUESTS_PER_MINUTE = 300  # five in any second, of ten
LONGEST_PAGE = 100
MOST_CANDLES = 100
MINUTE_US = 60_000_000

_PASSING = frozenset({50001, 50004, 50011, 50013, 50026, 50040, 50061})  # busy, late, too many requests
_UNKNOWN_INSTRUMENT = 51001


@dataclass(frozen=True)
class OkxHistory:
    """OKX's REST; it pages by trade id, newest first, a hundred at a time."""

    rest: PoliteClient

    def pages(self, hole: Hole) -> Iterator[TradePage]:
        """Yield the trades from above a hole to below it, highest ids first; as `TradeHistory.pages`."""

        def ask(below_id: int) -> TradePage:
            span = below_id - hole.first_id + 1
            return self._trades(hole.symbol, below_id, min(LONGEST_PAGE, max(2, span)))

        return paging.downwards(ask, hole.last_id + 2, paging.reaches_down_to(hole.first_id - 1))

    def between(self, symbol: str, start_us: int, end_us: int) -> Iterator[TradePage]:
        """Yield the trades of a span of time and one on each side; as `TradeHistory.between`."""

        def ask(below_id: int) -> TradePage:
            return self._trades(symbol, below_id, LONGEST_PAGE)

        newest = self.heads([symbol]).get(symbol)
        if newest is not None:
            yield from paging.between(ask, (start_us, end_us), newest.trade_id, LONGEST_PAGE)

    def heads(self, symbols: Sequence[str]) -> Mapping[str, Head]:
        """Return the newest trades; as `TradeHistory.heads`."""

        def ask(symbol: str) -> TradePage:
            return self._page("/api/v5/market/trades", {"instId": symbol, "limit": 1}, symbol)

        return paging.heads(ask, symbols)

    def klines(self, symbol: str, start_us: int, end_us: int) -> list[Kline]:
        """Return OKX's bars, which have no counts; as `TradeHistory.klines`."""
        bars: list[Kline] = []
        for at in range(start_us, end_us, MOST_CANDLES * MINUTE_US):
            until = min(end_us, at + MOST_CANDLES * MINUTE_US)
            span = {"before": at // 1000 - 1, "after": until // 1000, "limit": MOST_CANDLES}
            query = {"instId": symbol, "bar": "1m", **span}
            page = self._get("/api/v5/market/history-candles", query, lambda body, _: wire.klines(body))
            bars += [bar for bar in page if at <= bar.start_us < until]
        return bars

    def archived_day(self, symbol: str, day: date) -> Iterator[ArchivePiece]:
        """Raise NotPublishedError: no archive of it is read."""
        raise NotPublishedError(f"no archive of okx is read, so none of {symbol} on {day}")

    def archived_month(self, symbol: str, month: date) -> Iterator[ArchivePiece]:
        """Raise NotPublishedError: no archive of it is read."""
        raise NotPublishedError(f"no archive of okx is read, so none of {symbol} in {month:%Y-%m}")

    def _trades(self, symbol: str, below_id: int, limit: int) -> TradePage:
        query = {"instId": symbol, "type": 1, "after": below_id, "limit": limit}
        return self._page("/api/v5/market/history-trades", query, symbol)

    def _page(self, path: str, query: Mapping[str, str | int], symbol: str) -> TradePage:
        def parse(body: bytes, received_at_ms: int) -> TradePage:
            return wire.trade_page(body, symbol=symbol, received_at_us=received_at_ms * 1000)

        return self._get(path, query, parse)

    def _get(self, path: str, query: Mapping[str, str | int], parse: Parse[T]) -> T:
        """Ask, and raise what an answer of HTTP 200 says went wrong."""

        def checked(body: bytes, received_at_ms: int) -> T:
            said = wire.vendor_error(body)
            if said.code in _PASSING:
                raise SourceDownError(f"okx asks for patience: {said.message} ({said.code})")
            if said.code:
                raise refusal(200, path, body)
            return parse(body, received_at_ms)

        return self.rest.get(path, query, checked)


@contextmanager
def open_history(places: Places, clock: Clock, rng: random.Random) -> Iterator[OkxHistory]:
    """
    Open OKX's REST at *places*.

    Raises:
        ConfigError: if its URL can never be used.

    """
    vendor = Vendor(wire.SOURCE, places.rest_url, refusal)
    with PoliteClient.open(
        vendor, requests_per_minute=REQUESTS_PER_MINUTE, window_seconds=1, clock=clock, rng=rng
    ) as client:
        yield OkxHistory(client)


def refusal(status: int, path: str, body: bytes) -> OperatorError:
    """Turn OKX's "no" into the error that says what to do about it."""
    said = wire.vendor_error(body)
    quoted = f" (HTTP {status}, code {said.code}: {said.message or 'no reason given'})"
    if said.code == _UNKNOWN_INSTRUMENT:
        return UnknownSymbolError(
            f"okx refuses {path}: there is no such instrument; fix `capture.instruments` in the settings{quoted}"
        )
    return SourceRefusedError(f"okx refuses {path}: check sources.okx.rest_url{quoted}")
