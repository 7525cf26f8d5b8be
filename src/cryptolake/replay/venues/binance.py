"""
Binance spot's side of the protocol: combined and raw `@trade` streams, and the REST that heals them.

Source: github.com/binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md. A recorded frame
is sent byte by byte as it was recorded, with its times in milliseconds whatever the URL asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.venues.binance_archive import Archive, ArchiveStyle, kline, quote_quantity
from cryptolake.replay.venues.dialect import Manners, Session, asked_integer
from cryptolake.replay.venues.market import Market
from cryptolake.replay.venues.minutes import at_least, minutes, printed
from cryptolake.replay.venues.tape import Track
from cryptolake.sources.records import Trade

TRADES_LIMIT = 1000
DIGITS = 8

_DAY_US = 86_400_000_000
_WEIGHTS = {
    "historicalTrades": 25,
    "trades": 25,
    "aggTrades": 4,
    "klines": 2,
    "exchangeInfo": 20,
    "time": 1,
    "ping": 1,
}
_TICKER_WEIGHT, _TICKERS_WEIGHT, _SYMBOLS_OF_ONE_TICKER = 2, 80, 20


class _Control(msgspec.Struct):
    method: str
    params: list[Any] = []
    id: int | str | None = None


class Binance:
    """Binance spot, as its public documentation says it speaks."""

    name = "binance"
    path = ""
    manners = Manners(messages_per_second=5, ping_seconds=20)

    def __init__(self, archive: ArchiveStyle | None = None) -> None:
        self._archive = Archive(archive or ArchiveStyle())

    def opened(self, url: str, market: Market, session: Session) -> list[bytes] | None:  # noqa: ARG002
        """Subscribe to the streams that the URL names; unknown ones stay silent, as they do there."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        combined = parts.path == "/stream"
        if not combined and not (parts.path == "/ws" or parts.path.startswith("/ws/")):
            return None
        named = query.get("streams", [""])[0] if combined else parts.path.removeprefix("/ws").lstrip("/")
        unit = query.get("timeUnit", ["MILLISECOND"])[0].upper()
        session.style = f"{'combined' if combined else 'raw'}-{'us' if unit == 'MICROSECOND' else 'ms'}"
        session.symbols |= _symbols(unquote(named).split("/"))
        return []

    def received(self, message: bytes, market: Market, session: Session) -> list[bytes]:  # noqa: ARG002
        """Answer SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY and GET_PROPERTY."""
        try:
            control = msgspec.json.decode(message, type=_Control)
        except msgspec.ValidationError:
            return [_encode({"code": 2, "msg": "Invalid request: missing field `method`", "id": None})]
        except msgspec.DecodeError:
            wrong = {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
            return [_encode(wrong)]
        result: Any = None
        match control.method:
            case "SUBSCRIBE":
                session.symbols |= _symbols(control.params)
            case "UNSUBSCRIBE":
                session.symbols -= _symbols(control.params)
            case "LIST_SUBSCRIPTIONS":
                result = [f"{symbol.lower()}@trade" for symbol in sorted(session.symbols)]
            case "SET_PROPERTY":
                unit = session.style.partition("-")[2]
                session.style = f"{'combined' if control.params[1] else 'raw'}-{unit}"
            case "GET_PROPERTY":
                result = session.style.startswith("combined")
            case unknown:
                wrong = {"code": 2, "msg": f"Invalid request: unknown variant `{unknown}`", "id": control.id}
                return [_encode(wrong)]
        return [_encode({"result": result, "id": control.id})]

    def frames(self, track: Track, start: int, stop: int, style: str) -> list[bytes]:
        """Return the recorded frames where there are any, else those of the trades."""
        kind, _, unit = style.partition("-")
        if track.is_as_recorded:
            recorded = track.frames(start, stop)
            return recorded if kind == "combined" else [_unwrapped(frame) for frame in recorded]
        scale = 1 if unit == "us" else 1000
        before = f'{{"stream":"{track.symbol.lower()}@trade","data":' if kind == "combined" else ""
        after = "}" if before else ""
        return [
            f'{before}{{"e":"trade","E":{(trade.event_at_us or trade.traded_at_us) // scale},"s":"{track.symbol}",'
            f'"t":{trade.trade_id},"p":"{at_least(trade.price, DIGITS)}","q":"{at_least(trade.quantity, DIGITS)}",'
            f'"T":{trade.traded_at_us // scale},"m":{"true" if trade.is_buyer_maker else "false"},"M":true}}{after}'.encode()
            for trade in track.trades(start, stop)
        ]

    def heartbeats(self, market: Market, session: Session) -> list[bytes]:  # noqa: ARG002
        """Return none: Binance pings instead."""
        return []

    def shutdown_notice(self, market: Market, session: Session) -> bytes | None:
        """Return the `serverShutdown` event."""
        event = {"e": "serverShutdown", "E": market.time_us // (1 if session.style.endswith("us") else 1000)}
        combined = session.style.startswith("combined")
        return _encode({"stream": "!serverShutdown", "data": event} if combined else event)

    def answer(self, request: Request, market: Market) -> Answer | None:
        """Answer `/api/v3/…` and the archive's `/data/…`."""
        if request.path.startswith("/data/"):
            return self._archive.answer(request.path, market)
        if not request.path.startswith("/api/v3/"):
            return None
        call = _CALLS.get(request.path.removeprefix("/api/v3/"))
        if call is None:
            return Answer.json({"error": "Not Found"}, 404)
        unit = request.headers.get("x-mbx-time-unit", "MILLISECOND").upper()
        try:
            return Answer.json(call(request, market, 1 if unit == "MICROSECOND" else 1000))
        except KeyError as missing:
            code, name = -1102, missing.args[0]
            text = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        except _UnknownSymbolError:
            code, text = -1121, "Invalid symbol."
        except ValueError:
            code, text = -1100, "Illegal characters found in a parameter."
        return Answer.json({"code": code, "msg": text}, 400)

    def weight(self, request: Request) -> int:
        """Return the weight of a request; the archive costs nothing."""
        called = request.path.removeprefix("/api/v3/")
        if called == "ticker/24hr":
            if "symbol" in request.query:
                return _TICKER_WEIGHT
            few = len(_listed(request.query.get("symbols", ""))) in range(1, _SYMBOLS_OF_ONE_TICKER + 1)
            return _TICKER_WEIGHT if few else _TICKERS_WEIGHT
        return _WEIGHTS.get(called, 0)

    def refusal(self, status: int, retry_after: float) -> Answer:
        """Return code -1003, as a warning (429) or as a ban (418)."""
        text = (
            "Way too much request weight used; IP banned until 1735689600000. "
            "Please use WebSocket Streams for live updates to avoid bans."
            if status == 418  # noqa: PLR2004  # the status of a ban
            else "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        return Answer.json({"code": -1003, "msg": text}, status, retry_after=f"{retry_after:g}")


class _UnknownSymbolError(Exception):
    """The request names a symbol that does not trade here."""


def _historical(request: Request, market: Market, scale: int) -> list[dict[str, Any]]:
    symbol, limit = _symbol(request, market), _limit(request)
    from_id = asked_integer(request, "fromId")
    page = (
        market.recent(symbol, limit)
        if from_id is None
        else market.page(symbol, market.tracks[symbol].row_of(from_id), limit)
    )
    return [_historical_trade(trade, scale) for trade in page]


def _recent(request: Request, market: Market, scale: int) -> list[dict[str, Any]]:
    page = market.recent(_symbol(request, market), _limit(request))
    return [_historical_trade(trade, scale) for trade in page]


def _historical_trade(trade: Trade, scale: int) -> dict[str, Any]:
    return {
        "id": trade.trade_id,
        "price": at_least(trade.price, DIGITS),
        "qty": at_least(trade.quantity, DIGITS),
        "quoteQty": quote_quantity(trade),
        "time": trade.traded_at_us // scale,
        "isBuyerMaker": trade.is_buyer_maker,
        "isBestMatch": True,
    }


def _aggregated(request: Request, market: Market, scale: int) -> list[dict[str, Any]]:
    """One aggregate a trade; their ids are another space than the trades' own."""
    symbol, limit = _symbol(request, market), _limit(request)
    track = market.tracks[symbol]
    start_us, end_us = _instant(request, "startTime"), _instant(request, "endTime")
    from_id = asked_integer(request, "fromId")
    if from_id is not None:
        page = market.page(symbol, from_id - 1, limit)
    elif start_us is not None:
        page = market.page(symbol, track.row_after(start_us - 1), limit)
    else:
        page = market.recent(symbol, limit)
    return [
        {
            "a": track.row_of(trade.trade_id) + 1,
            "p": at_least(trade.price, DIGITS),
            "q": at_least(trade.quantity, DIGITS),
            "f": trade.trade_id,
            "l": trade.trade_id,
            "T": trade.traded_at_us // scale,
            "m": trade.is_buyer_maker,
            "M": True,
        }
        for trade in page
        if end_us is None or trade.traded_at_us <= end_us
    ]


def _tickers(request: Request, market: Market, scale: int) -> Any:
    if "symbol" in request.query:
        return _ticker(market, _symbol(request, market), scale)
    asked = _listed(request.query.get("symbols", ""))
    if not set(asked) <= market.tracks.keys():
        raise _UnknownSymbolError
    return [_ticker(market, symbol, scale) for symbol in asked or market.symbols]


def _ticker(market: Market, symbol: str, scale: int) -> dict[str, Any]:
    """Return the fields of type MINI whose figures are true: the ids and the count of the last 24 hours."""
    track, count = market.tracks[symbol], market.counts[symbol]
    closes_us = market.time_us
    first = min(track.row_after(closes_us - _DAY_US), count)
    price = at_least(track.trades(count - 1, count)[0].price, DIGITS) if count else printed("0", DIGITS)
    return {
        "symbol": symbol,
        "lastPrice": price,
        "openTime": (closes_us - _DAY_US) // scale,
        "closeTime": closes_us // scale,
        "firstId": track.ids[first] if first < count else -1,
        "lastId": track.ids[count - 1] if first < count else -1,
        "count": count - first,
    }


def _klines(request: Request, market: Market, scale: int) -> list[list[Any]]:
    symbol, limit = _symbol(request, market), _limit(request)
    if request.query["interval"] != "1m":
        raise ValueError("only minutes are replayed")
    start_us, end_us = _instant(request, "startTime"), _instant(request, "endTime")
    now_us = market.time_us + 1
    bars = minutes(market, symbol, start_us or 0, now_us if end_us is None else min(end_us + 1, now_us))
    asked = bars[:limit] if start_us is not None else bars[-limit:]
    return [kline(bar, scale) for bar in asked]


def _server_time(request: Request, market: Market, scale: int) -> dict[str, int]:  # noqa: ARG001
    return {"serverTime": market.time_us // scale}


def _ping(request: Request, market: Market, scale: int) -> dict[str, Any]:  # noqa: ARG001
    return {}


def _exchange_info(request: Request, market: Market, scale: int) -> dict[str, Any]:  # noqa: ARG001
    symbols = [{"symbol": symbol, "status": "TRADING"} for symbol in market.symbols]
    return {"timezone": "UTC", "serverTime": market.time_us // scale, "symbols": symbols}


_CALLS: dict[str, Callable[[Request, Market, int], Any]] = {
    "historicalTrades": _historical,
    "trades": _recent,
    "aggTrades": _aggregated,
    "ticker/24hr": _tickers,
    "klines": _klines,
    "time": _server_time,
    "ping": _ping,
    "exchangeInfo": _exchange_info,
}


def _symbol(request: Request, market: Market) -> str:
    symbol = request.query["symbol"]
    if symbol not in market.tracks:
        raise _UnknownSymbolError
    return symbol


def _limit(request: Request) -> int:
    limit = asked_integer(request, "limit", 500) or 500
    return min(limit, TRADES_LIMIT)


def _instant(request: Request, name: str) -> int | None:
    """Return a time that was asked for in microseconds: in a request it is either those or milliseconds."""
    given = asked_integer(request, name)
    return given * 1000 if given is not None and given < 10**14 else given


def _listed(names: str) -> list[str]:
    return msgspec.json.decode(names, type=list[str]) if names else []


def _symbols(streams: Iterable[Any]) -> set[str]:
    """Return the symbols whose trades the *streams* carry; other streams are not replayed."""
    named = (str(stream).partition("@") for stream in streams)
    return {symbol.upper() for symbol, _, kind in named if kind == "trade"}


def _unwrapped(frame: bytes) -> bytes:
    """Return the event within a frame of a combined stream, byte by byte."""
    return frame[frame.index(b'"data":') + len(b'"data":') : -1]


def _encode(content: Any) -> bytes:
    return msgspec.json.encode(content)
