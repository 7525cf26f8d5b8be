"""
Kraken's side of the protocol: `trade` of WebSocket v2, and the REST that heals it by time.

Source: docs.kraken.com/api. Prices and quantities are JSON numbers on the WebSocket and strings in REST.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import msgspec

from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.venues.dialect import Manners, Session
from cryptolake.replay.venues.market import Market, iso
from cryptolake.replay.venues.minutes import MINUTE_US, Minute, at_least, minutes, printed
from cryptolake.replay.venues.tape import Track
from cryptolake.sources.records import Trade

TRADES_LIMIT = 1000
CANDLES_LIMIT = 720
SNAPSHOT = 50

_ROOT = "/0/public/"
_PRICE_DIGITS, _VOLUME_DIGITS = 5, 8
_NS_A_US = 1000
_OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_LETTERED = frozenset({"XBT", "ETH", "LTC", "XRP", "XDG", "XLM", "ETC", "XMR", "ZEC", "MLN", "REP"})
_LETTERED_QUOTES = frozenset({"USD", "EUR", "GBP", "CAD", "JPY"})


class _Parameters(msgspec.Struct):
    channel: str = ""
    symbol: list[str] = []
    snapshot: bool = True


class _Command(msgspec.Struct):
    method: str
    params: _Parameters = msgspec.field(default_factory=_Parameters)
    req_id: int | None = None


class Kraken:
    """Kraken, as its public documentation says it speaks."""

    name = "kraken"
    path = "/v2"
    manners = Manners()

    def opened(self, url: str, market: Market, session: Session) -> list[bytes] | None:  # noqa: ARG002
        """Return the status that greets a connection; only version 2 is served."""
        if url.partition("?")[0].rstrip("/") != self.path:
            return None
        status = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": 13_834_774_380_200_032_777,
        }
        return [_encode({"channel": "status", "type": "update", "data": [status]})]

    def received(self, message: bytes, market: Market, session: Session) -> list[bytes]:
        """Answer `subscribe` with an acknowledgement and a snapshot a symbol, `unsubscribe` and `ping`."""
        told = {"time_in": iso(market.time_us), "time_out": iso(market.time_us)}
        try:
            command = msgspec.json.decode(message, type=_Command)
        except msgspec.DecodeError:
            return [_encode({"error": "Malformed request", "success": False, **told})]
        numbered = {"req_id": command.req_id} if command.req_id is not None else {}
        if command.method == "ping":
            return [_encode({"method": "pong", **numbered, **told})]
        replies = []
        for symbol in command.params.symbol:
            about = {"method": command.method, **numbered, **told}
            if symbol not in market.tracks or command.params.channel != "trade":
                why = f"Currency pair not supported {symbol}"
                replies.append(_encode({"error": why, "success": False, "symbol": symbol, **about}))
                continue
            result: dict[str, Any] = {"channel": "trade", "symbol": symbol}
            if command.method == "subscribe":
                session.symbols.add(symbol)
                result["snapshot"] = command.params.snapshot
            else:
                session.symbols.discard(symbol)
            replies.append(_encode({"result": result, "success": True, **about}))
            if command.method == "subscribe" and command.params.snapshot:
                replies.append(_frame(market.recent(symbol, SNAPSHOT), "snapshot"))
        return replies

    def frames(self, track: Track, start: int, stop: int, style: str) -> list[bytes]:  # noqa: ARG002
        """Return one `update` a trade."""
        return [_frame([trade], "update") for trade in track.trades(start, stop)]

    def heartbeats(self, market: Market, session: Session) -> list[bytes]:  # noqa: ARG002
        """Return the heartbeat, which says nothing of trades."""
        return [b'{"channel":"heartbeat"}'] if session.symbols else []

    def shutdown_notice(self, market: Market, session: Session) -> bytes | None:  # noqa: ARG002
        """Return the status of a venue that goes into maintenance."""
        status = {"version": "2.0.10", "system": "maintenance", "api_version": "v2"}
        return _encode({"channel": "status", "type": "update", "data": [status]})

    def answer(self, request: Request, market: Market) -> Answer | None:
        """Answer `Trades`, `OHLC` and `Time`."""
        if not request.path.startswith(_ROOT):
            return None
        called = request.path.removeprefix(_ROOT)
        if called == "Time":
            return Answer.json({"error": [], "result": {"unixtime": market.time_us // 1_000_000}})
        call = {"Trades": _trades, "OHLC": _candles}.get(called)
        if call is None:
            return Answer.json({"error": ["EGeneral:Unknown method"]})
        pairs = {name: symbol for symbol in market.symbols for name in _names(symbol)}
        asked = request.query.get("pair", "")
        symbol = pairs.get(asked)
        if symbol is None:
            return Answer.json({"error": ["EQuery:Unknown asset pair"]})
        key = symbol if request.query.get("assetVersion") == "1" else _names(symbol)[-1]
        try:
            return call(request, market, symbol, key)
        except ValueError:
            return Answer.json({"error": ["EGeneral:Invalid arguments"]})

    def weight(self, request: Request) -> int:  # noqa: ARG002
        """Return 0: requests are not weighed."""
        return 0

    def refusal(self, status: int, retry_after: float) -> Answer:
        """Return the words of a rate limit."""
        said = "EGeneral:Too many requests" if status == 429 else "EGeneral:Temporary lockout"  # noqa: PLR2004
        return Answer.json({"error": [said]}, status, retry_after=f"{retry_after:g}")


def _frame(trades: list[Trade], kind: str) -> bytes:
    """Return a frame of the channel; a snapshot is oldest first, like an update."""
    told = ",".join(
        f'{{"symbol":"{trade.symbol}","side":"{_taker_side(trade)}","price":{trade.price},"qty":{trade.quantity},'
        f'"ord_type":"limit","trade_id":{trade.trade_id},"timestamp":"{iso(trade.traded_at_us)}"}}'
        for trade in trades
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{told}]}}'.encode()


def _taker_side(trade: Trade) -> str:
    return "sell" if trade.is_buyer_maker else "buy"


def _names(symbol: str) -> list[str]:
    """
    Return what REST calls a pair; the last is the name in its answers.

    >>> _names("BTC/USD")
    ['BTC/USD', 'BTCUSD', 'XBT/USD', 'XBTUSD', 'XXBTZUSD']

    """
    base, _, quote = symbol.partition("/")
    old = _OLD_NAMES.get(base, base)
    lettered = old in _LETTERED and quote in _LETTERED_QUOTES
    legacy = f"X{old}Z{quote}" if lettered else f"{old}{quote}"
    return [symbol, f"{base}{quote}", f"{old}/{quote}", f"{old}{quote}", legacy]


def _trades(request: Request, market: Market, symbol: str, key: str) -> Answer:
    """Return trades oldest first: those later than *since* (nanoseconds or seconds), else the newest."""
    count = min(int(request.query.get("count") or TRADES_LIMIT), TRADES_LIMIT)
    since = request.query.get("since", "")
    if since:
        since_ns = _nanoseconds(since)
        page = market.page(symbol, market.tracks[symbol].row_after(since_ns // _NS_A_US), count)
    else:
        since_ns = market.time_us * _NS_A_US
        page = market.recent(symbol, count)
    last = page[-1].traded_at_us * _NS_A_US if page else since_ns
    told = ",".join(
        f'["{at_least(trade.price, _PRICE_DIGITS)}","{at_least(trade.quantity, _VOLUME_DIGITS)}",'
        f'{trade.traded_at_us // 1_000_000}.{trade.traded_at_us % 1_000_000:06d},"{_taker_side(trade)[0]}","l","",'
        f"{trade.trade_id}]"
        for trade in page
    )
    return Answer(200, f'{{"error":[],"result":{{"{key}":[{told}],"last":"{last}"}}}}'.encode())


def _candles(request: Request, market: Market, symbol: str, key: str) -> Answer:
    """Return the newest bars of a minute that begin at or after *since* (seconds); the last is not over."""
    if request.query.get("interval", "1") != "1":
        raise ValueError("only minutes are replayed")
    since_us = int(request.query.get("since") or 0) * 1_000_000
    now_us = market.time_us
    start_us = max(since_us, now_us - CANDLES_LIMIT * MINUTE_US)
    bars = minutes(market, symbol, start_us, now_us + 1)
    last = (bars[-2].start_us if len(bars) > 1 else start_us) // 1_000_000
    return Answer.json({"error": [], "result": {key: [_candle(bar) for bar in bars], "last": last}})


def _candle(bar: Minute) -> list[Any]:
    with localcontext(prec=60):
        average = bar.quote_volume / bar.volume if bar.volume else Decimal(0)
    return [
        bar.start_us // 1_000_000,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        printed(average, _PRICE_DIGITS),
        printed(bar.volume, _VOLUME_DIGITS),
        bar.trade_count,
    ]


def _nanoseconds(since: str) -> int:
    """Return a `since` in nanoseconds; a small one is seconds."""
    value = Decimal(since)
    return int(value * 10**9 if value < 10**12 else value)


def _encode(content: Any) -> bytes:
    return msgspec.json.encode(content)
