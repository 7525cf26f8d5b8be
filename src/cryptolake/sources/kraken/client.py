"""Ask Kraken for trades that were missed. It pages by time only, oldest first."""

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
from cryptolake.sources.kraken import wire
from cryptolake.sources.records import Head, Kline, TradePage
from cryptolake.sources.venue import ArchivePiece, Hole, Places

T = TypeVar("T")

REQUESTS_PER_MINUTE = 60  # one in any second
LONGEST_PAGE = 1000
MINUTE_US = 60_000_000

JUST_BEFORE_US = 1000
"""How far before a trade to begin, so that it is among the answer: REST prints more digits than WebSocket."""

_PASSING = ("EAPI:Rate limit", "EGeneral:Too many requests", "EService:", "EGeneral:Temporary lockout")
_UNKNOWN_PAIR = "EQuery:Unknown asset pair"


@dataclass(frozen=True)
class KrakenHistory:
    """Kraken's REST; pairs may be spelled as by WebSocket (`BTC/USD`)."""

    rest: PoliteClient

    def pages(self, hole: Hole) -> Iterator[TradePage]:
        """Yield the trades from before a hole to after it, by time; as `TradeHistory.pages`."""
        if hole.after_us is not None:
            start_us = hole.after_us - JUST_BEFORE_US
        else:
            start_us = self._reach_back(
                hole.symbol, hole.before_us, paging.reaches_down_to(hole.first_id - 1)
            )
        return self._onwards(hole.symbol, start_us, paging.reaches_up_to(hole.last_id + 1))

    def between(self, symbol: str, start_us: int, end_us: int) -> Iterator[TradePage]:
        """Yield the trades of a span of time and one on each side; as `TradeHistory.between`."""

        def begins_before(page: TradePage) -> bool:
            return bool(page.trades) and page.trades[0].traded_at_us < start_us

        return self._onwards(
            symbol, self._reach_back(symbol, start_us, begins_before), paging.reaches_time(end_us)
        )

    def heads(self, symbols: Sequence[str]) -> Mapping[str, Head]:
        """Return the newest trades; as `TradeHistory.heads`."""
        return paging.heads(lambda symbol: self._trades(symbol, None), symbols)

    def klines(self, symbol: str, start_us: int, end_us: int) -> list[Kline]:
        """Return Kraken's bars, of the newest minutes only (`klines_reach_minutes`); as `TradeHistory.klines`."""
        query = {"pair": symbol, "interval": 1, "since": start_us // 1_000_000 - 60}
        found = self._get("/0/public/OHLC", query, lambda body, _: wire.klines(body))
        return [bar for bar in found if start_us <= bar.start_us < end_us]

    def archived_day(self, symbol: str, day: date) -> Iterator[ArchivePiece]:
        """Raise NotPublishedError: there is no archive by day."""
        raise NotPublishedError(f"kraken has no archive by day, so none of {symbol} on {day}")

    def archived_month(self, symbol: str, month: date) -> Iterator[ArchivePiece]:
        """Raise NotPublishedError: there is no archive by month."""
        raise NotPublishedError(f"kraken has no archive by month, so none of {symbol} in {month:%Y-%m}")

    def _onwards(self, symbol: str, start_us: int, is_enough: paging.IsEnough) -> Iterator[TradePage]:
        """
        Yield the pages from *start_us* on until one is enough, each from just before the end of the last.

        After a short page the next begins just after its end: there may be trades behind some that Kraken lacks.
        """
        at_us = max(0, start_us)
        while True:
            page = self._trades(symbol, at_us)
            if not page.trades and not page.rejects:
                return
            yield page
            if is_enough(page) or not page.trades:
                return
            ends_us = max(trade.traded_at_us for trade in page.trades)
            is_full = len(page.trades) + len(page.rejects) >= LONGEST_PAGE
            following = ends_us - 1 if is_full and ends_us - 1 > at_us else ends_us + 1
            if following <= at_us:
                return
            at_us = following

    def _reach_back(self, symbol: str, before_us: int | None, is_early: paging.IsEnough) -> int:
        """Return a time from which the first page is early enough, going back ever further from *before_us*."""
        if before_us is None:
            newest = self.heads([symbol]).get(symbol)
            before_us = newest.traded_at_us if newest else None
        if before_us is None:
            return 0
        back_us = MINUTE_US
        while (start_us := before_us - back_us) > 0 and not is_early(self._trades(symbol, start_us)):
            back_us *= 4
        return start_us

    def _trades(self, symbol: str, since_us: int | None) -> TradePage:
        def parse(body: bytes, received_at_ms: int) -> TradePage:
            return wire.trade_page(body, symbol=symbol, received_at_us=received_at_ms * 1000)

        query: dict[str, str | int] = {"pair": symbol, "count": LONGEST_PAGE}
        if since_us is not None:
            query["since"] = max(0, since_us * 1000 - 1)
        return self._get("/0/public/Trades", query, parse)

    def _get(self, path: str, query: Mapping[str, str | int], parse: Parse[T]) -> T:
        """Ask, and raise what an answer of HTTP 200 says went wrong."""

        def checked(body: bytes, received_at_ms: int) -> T:
            complaints = wire.complaints(body)
            if any(said.startswith(_PASSING) for said in complaints):
                raise SourceDownError(f"kraken asks for patience: {', '.join(complaints)}")
            if complaints:
                raise refusal(200, path, body)
            return parse(body, received_at_ms)

        return self.rest.get(path, query, checked)


@contextmanager
def open_history(places: Places, clock: Clock, rng: random.Random) -> Iterator[KrakenHistory]:
    """
    Open Kraken's REST at *places*.

    Raises:
        ConfigError: if its URL can never be used.

    """
    vendor = Vendor(wire.SOURCE, places.rest_url, refusal)
    with PoliteClient.open(
        vendor, requests_per_minute=REQUESTS_PER_MINUTE, window_seconds=1, clock=clock, rng=rng
    ) as client:
        yield KrakenHistory(client)


def refusal(status: int, path: str, body: bytes) -> OperatorError:
    """Turn Kraken's "no" into the error that says what to do about it."""
    complaints = wire.complaints(body)
    quoted = f" (HTTP {status}: {', '.join(complaints) or 'no reason given'})"
    if _UNKNOWN_PAIR in complaints:
        return UnknownSymbolError(
            f"kraken refuses {path}: there is no such pair; fix `capture.instruments` in the settings{quoted}"
        )
    return SourceRefusedError(f"kraken refuses {path}: check sources.kraken.rest_url{quoted}")
