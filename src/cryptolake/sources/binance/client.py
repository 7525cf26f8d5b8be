"""Ask Binance for trades that were missed: by id, by time, and from the archive."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import msgspec

from cryptolake.clock import Clock
from cryptolake.errors import (
    NotPublishedError,
    OperatorError,
    SourceRefusedError,
    UnknownSymbolError,
)
from cryptolake.sources import paging
from cryptolake.sources.binance import archive, wire
from cryptolake.sources.http import PoliteClient, Vendor
from cryptolake.sources.records import Head, Kline, TradePage
from cryptolake.sources.venue import ArchivePiece, Hole, Places

WEIGHT_PER_MINUTE = 4800  # of 6000 that an address has
LONGEST_PAGE = 1000
MINUTE_US = 60_000_000

_TRADES, _AGGREGATES, _KLINES, _ALL_TICKERS, _FEW_TICKERS = 25, 4, 2, 80, 2  # weights
_FEW = 20  # symbols of one request at the weight of one
_UNKNOWN_SYMBOL = -1121
_HEADERS = {"X-MBX-TIME-UNIT": "MICROSECOND"}


@dataclass(frozen=True)
class BinanceHistory:
    """Binance's REST and archive; its weight limit is shared by all that asks from one address."""

    rest: PoliteClient
    files: PoliteClient | None

    def pages(self, hole: Hole) -> Iterator[TradePage]:
        """Yield the trades from below a hole to above it, lowest ids first; as `TradeHistory.pages`."""

        def ask(first_id: int) -> TradePage:
            span = hole.last_id + 2 - first_id
            return self._trades(hole.symbol, first_id, min(LONGEST_PAGE, max(2, span)))

        return paging.upwards(ask, hole.first_id - 1, paging.reaches_up_to(hole.last_id + 1))

    def between(self, symbol: str, start_us: int, end_us: int) -> Iterator[TradePage]:
        """Yield the trades of a span of time and one on each side; as `TradeHistory.between`."""
        query = {"symbol": symbol, "startTime": start_us // 1000, "limit": 1}
        first = self.rest.get(
            "/api/v3/aggTrades", query, lambda body, _: wire.first_trade_id(body), weight=_AGGREGATES
        )
        if first is not None:
            yield from paging.upwards(
                lambda first_id: self._trades(symbol, first_id, LONGEST_PAGE),
                first - 1,
                paging.reaches_time(end_us),
            )

    def heads(self, symbols: Sequence[str]) -> Mapping[str, Head]:
        """Return the newest ids; as `TradeHistory.heads`. Their times are not told."""
        if not symbols:
            return {}
        found: dict[str, Head]
        if len(symbols) <= _FEW:
            few = {"symbols": msgspec.json.encode(list(symbols)).decode(), "type": "MINI"}
            try:
                found = self._tickers(few, _FEW_TICKERS)
            except UnknownSymbolError:  # one of them; the answer does not say which
                found = self._tickers({"type": "MINI"}, _ALL_TICKERS)
        else:
            found = self._tickers({"type": "MINI"}, _ALL_TICKERS)
        return {symbol: found[symbol] for symbol in symbols if symbol in found}

    def klines(self, symbol: str, start_us: int, end_us: int) -> list[Kline]:
        """Return Binance's bars; as `TradeHistory.klines`."""
        bars: list[Kline] = []
        at = start_us
        while at < end_us:
            span = {"startTime": at // 1000, "endTime": end_us // 1000 - 1, "limit": LONGEST_PAGE}
            query = {"symbol": symbol, "interval": "1m", **span}
            page = self.rest.get("/api/v3/klines", query, lambda body, _: wire.klines(body), weight=_KLINES)
            fresh = [bar for bar in page if at <= bar.start_us < end_us]
            if not fresh:
                break
            bars += fresh
            at = fresh[-1].start_us + MINUTE_US
        return bars

    def archived_day(self, symbol: str, day: date) -> Iterator[ArchivePiece]:
        """Yield the trades of a daily file; as `TradeHistory.archived_day`."""
        return self._archived(f"/data/spot/daily/trades/{symbol}/{symbol}-trades-{day:%Y-%m-%d}.zip", symbol)

    def archived_month(self, symbol: str, month: date) -> Iterator[ArchivePiece]:
        """Yield the trades of a monthly file; as `TradeHistory.archived_month`."""
        return self._archived(f"/data/spot/monthly/trades/{symbol}/{symbol}-trades-{month:%Y-%m}.zip", symbol)

    def _archived(self, path: str, symbol: str) -> Iterator[ArchivePiece]:
        if self.files is None:
            raise NotPublishedError("binance has no archive here: sources.binance.archive_url is not set")
        return archive.pieces(self.files, path, symbol)

    def _trades(self, symbol: str, first_id: int, limit: int) -> TradePage:
        def parse(body: bytes, received_at_ms: int) -> TradePage:
            return wire.trade_page(body, symbol=symbol, received_at_us=received_at_ms * 1000)

        query = {"symbol": symbol, "fromId": first_id, "limit": limit}
        return self.rest.get("/api/v3/historicalTrades", query, parse, weight=_TRADES)

    def _tickers(self, query: Mapping[str, str], weight: int) -> dict[str, Head]:
        return self.rest.get("/api/v3/ticker/24hr", query, lambda body, _: wire.heads(body), weight=weight)


@contextmanager
def open_history(places: Places, clock: Clock, rng: random.Random) -> Iterator[BinanceHistory]:
    """
    Open Binance's REST and archive at *places*.

    Raises:
        ConfigError: if a URL can never be used.

    """
    rest = Vendor(
        wire.SOURCE, places.rest_url, refusal, headers=_HEADERS, usage_header="x-mbx-used-weight-1m"
    )
    with PoliteClient.open(rest, requests_per_minute=WEIGHT_PER_MINUTE, clock=clock, rng=rng) as client:
        if places.archive_url is None:
            yield BinanceHistory(client, None)
            return
        with archive.opened(places.archive_url, clock, rng) as files:
            yield BinanceHistory(client, files)


def refusal(status: int, path: str, body: bytes) -> OperatorError:
    """Turn Binance's "no" into the error that says what to do about it."""
    said = wire.vendor_error(body)
    quoted = f" (HTTP {status}, code {said.code}: {said.message or 'no reason given'})"
    if said.code == _UNKNOWN_SYMBOL:
        return UnknownSymbolError(
            f"binance refuses {path}: there is no such symbol; fix `capture.instruments` in the settings{quoted}"
        )
    advice = {
        403: "its firewall blocks this address; wait a while",
        451: "it does not serve this country; set sources.binance.rest_url to a host that does",
    }.get(status, "it does not understand the request; check sources.binance.rest_url")
    return SourceRefusedError(f"binance refuses {path}: {advice}{quoted}")
