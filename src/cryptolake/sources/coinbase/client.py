"""Ask Coinbase Exchange for trades that were missed, by id."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

from cryptolake.clock import Clock
from cryptolake.errors import NotPublishedError, OperatorError, SourceRefusedError, UnknownSymbolError
from cryptolake.sources import paging
from cryptolake.sources.coinbase import wire
from cryptolake.sources.http import PoliteClient, Vendor
from cryptolake.sources.records import Head, Kline, TradePage
from cryptolake.sources.venue import ArchivePiece, Hole, Places

REQUESTS_PER_MINUTE = 300  # five in any second, of ten
LONGEST_PAGE = 1000
MOST_CANDLES = 300
MINUTE_US = 60_000_000

_UNKNOWN_PRODUCT = 404


@dataclass(frozen=True)
class CoinbaseHistory:
    """Coinbase Exchange's REST; it pages by trade id, newest first."""

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
        return paging.heads(lambda symbol: self._trades(symbol, None, 1), symbols)

    def klines(self, symbol: str, start_us: int, end_us: int) -> list[Kline]:
        """Return Coinbase's bars, which have no quote volume and no counts; as `TradeHistory.klines`."""
        bars: list[Kline] = []
        for at in range(start_us, end_us, MOST_CANDLES * MINUTE_US):
            until = min(end_us, at + MOST_CANDLES * MINUTE_US)
            query = {"granularity": 60, "start": _iso(at), "end": _iso(until - MINUTE_US)}
            path = f"/products/{quote(symbol, safe='')}/candles"
            page = self.rest.get(path, query, lambda body, _: wire.klines(body))
            bars += [bar for bar in page if at <= bar.start_us < until]
        return bars

    def archived_day(self, symbol: str, day: date) -> Iterator[ArchivePiece]:
        """Raise NotPublishedError: there is no archive."""
        raise NotPublishedError(f"coinbase has no archive, so none of {symbol} on {day}")

    def archived_month(self, symbol: str, month: date) -> Iterator[ArchivePiece]:
        """Raise NotPublishedError: there is no archive."""
        raise NotPublishedError(f"coinbase has no archive, so none of {symbol} in {month:%Y-%m}")

    def _trades(self, symbol: str, below_id: int | None, limit: int) -> TradePage:
        def parse(body: bytes, received_at_ms: int) -> TradePage:
            return wire.trade_page(body, symbol=symbol, received_at_us=received_at_ms * 1000)

        query = {"limit": limit} if below_id is None else {"limit": limit, "after": below_id}
        return self.rest.get(f"/products/{quote(symbol, safe='')}/trades", query, parse)


@contextmanager
def open_history(places: Places, clock: Clock, rng: random.Random) -> Iterator[CoinbaseHistory]:
    """
    Open Coinbase's REST at *places*.

    Raises:
        ConfigError: if its URL can never be used.

    """
    vendor = Vendor(wire.SOURCE, places.rest_url, refusal)
    with PoliteClient.open(
        vendor, requests_per_minute=REQUESTS_PER_MINUTE, window_seconds=1, clock=clock, rng=rng
    ) as client:
        yield CoinbaseHistory(client)


def refusal(status: int, path: str, body: bytes) -> OperatorError:
    """Turn Coinbase's "no" into the error that says what to do about it."""
    quoted = f" (HTTP {status}: {wire.vendor_error(body).message or 'no reason given'})"
    if status == _UNKNOWN_PRODUCT:
        return UnknownSymbolError(
            f"coinbase refuses {path}: there is no such product; fix `capture.instruments` in the settings{quoted}"
        )
    return SourceRefusedError(f"coinbase refuses {path}: check sources.coinbase.rest_url{quoted}")


def _iso(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
