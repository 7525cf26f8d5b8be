"""
OKX's side of the protocol (API v5): `trades-all` and `trades`, and the REST that heals them.

Source: www.okx.com/docs-v5, and frames recorded by others. Times are milliseconds; all values are strings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.venues.dialect import Manners, Session, asked_integer
from cryptolake.replay.venues.market import Market
from cryptolake.replay.venues.minutes import MINUTE_US, minutes
from cryptolake.replay.venues.tape import Track
from cryptolake.sources.records import Trade

HISTORY_LIMIT = 100
RECENT_LIMIT = 500

_ROOT = "/api/v5/market/"
_BY_TIME = "2"
_CHANNELS = {"/ws/v5/business": "trades-all", "/ws/v5/public": "trades"}


class _Argument(msgspec.Struct):
    channel: str = ""
    instId: str = ""  # noqa: N815  # the venue's own name


class _Command(msgspec.Struct):
    op: str
    args: list[_Argument] = []


class Okx:
    """OKX, as its public documentation says it speaks."""

    name = "okx"
    path = "/ws/v5/business"
    manners = Manners(idle_seconds=30)

    def opened(self, url: str, market: Market, session: Session) -> list[bytes] | None:  # noqa: ARG002
        """Say nothing; `trades-all` is on the business address, `trades` on the public one."""
        session.style = _CHANNELS.get(url.partition("?")[0], "")
        return [] if session.style else None

    def received(self, message: bytes, market: Market, session: Session) -> list[bytes]:
        """Answer `ping` with `pong`, and `subscribe` and `unsubscribe` for each argument."""
        if message == b"ping":
            return [b"pong"]
        try:
            command = msgspec.json.decode(message, type=_Command)
        except msgspec.DecodeError:
            return [_error("60012", f"Invalid request: {message[:200].decode(errors='replace')}")]
        replies = []
        for asked in command.args:
            if asked.channel != session.style or asked.instId not in market.tracks:
                text = f"Wrong URL or channel:{asked.channel},instId:{asked.instId} doesn't exist. Please use the correct URL, channel and parameters referring to API document."
                replies.append(_error("60018", text))
                continue
            change = session.symbols.add if command.op == "subscribe" else session.symbols.discard
            change(asked.instId)
            about = {"event": command.op, "arg": asked, "connId": "a4d3ae55"}
            replies.append(msgspec.json.encode(about))
        return replies

    def frames(self, track: Track, start: int, stop: int, style: str) -> list[bytes]:
        """Return one push a trade; `trades` counts those that it stands for, here always one."""
        last = '"count":"1"' if style == "trades" else '"source":"0"'
        return [
            f'{{"arg":{{"channel":"{style}","instId":"{track.symbol}"}},"data":[{{"instId":"{track.symbol}",'
            f'"tradeId":"{trade.trade_id}","px":"{trade.price}","sz":"{trade.quantity}","side":"{_taker_side(trade)}",'
            f'"ts":"{trade.traded_at_us // 1000}",{last}}}]}}'.encode()
            for trade in track.trades(start, stop)
        ]

    def heartbeats(self, market: Market, session: Session) -> list[bytes]:  # noqa: ARG002
        """Return none: the client is to ping."""
        return []

    def shutdown_notice(self, market: Market, session: Session) -> bytes | None:  # noqa: ARG002
        """Return the notice of a service upgrade."""
        return msgspec.json.encode(
            {
                "event": "notice",
                "code": "64008",
                "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
                "connId": "a4d3ae55",
            }
        )

    def answer(self, request: Request, market: Market) -> Answer | None:
        """Answer `trades`, `history-trades`, `history-candles` and the server's time."""
        if not request.path.startswith("/api/v5/"):
            return None
        if request.path == "/api/v5/public/time":
            return _told([{"ts": str(market.time_us // 1000)}])
        call = _CALLS.get(request.path.removeprefix(_ROOT))
        return _refused("50000", "Bad request path", 404) if call is None else _called(call, request, market)

    def weight(self, request: Request) -> int:  # noqa: ARG002
        """Return 0: requests are not weighed."""
        return 0

    def refusal(self, status: int, retry_after: float) -> Answer:
        """Return code 50011."""
        text = "Rate limit reached. Please refer to API documentation and throttle requests accordingly."
        answer = Answer.json({"code": "50011", "msg": text, "data": []}, status)
        return Answer(status, answer.body, {**answer.headers, "retry-after": f"{retry_after:g}"})


def _taker_side(trade: Trade) -> str:
    return "sell" if trade.is_buyer_maker else "buy"


def _recent(request: Request, market: Market, symbol: str) -> list[dict[str, str]]:
    limit = min(asked_integer(request, "limit", HISTORY_LIMIT) or HISTORY_LIMIT, RECENT_LIMIT)
    return [_trade(trade) for trade in reversed(market.recent(symbol, limit))]


def _history(request: Request, market: Market, symbol: str) -> list[dict[str, str]]:
    """Return a page, newest first: earlier than *after* (an id, or an instant with type 2) and newer than *before*."""
    track = market.tracks[symbol]
    limit = min(asked_integer(request, "limit", HISTORY_LIMIT) or HISTORY_LIMIT, HISTORY_LIMIT)
    after, before = asked_integer(request, "after"), asked_integer(request, "before")
    by_time = request.query.get("type") == _BY_TIME
    if after is None:
        end = market.counts[symbol]
    else:
        end = track.row_after(after * 1000 - 1) if by_time else track.row_of(after)
    page = market.page_before(symbol, end, limit)
    if before is not None and not by_time:
        page = [trade for trade in page if trade.trade_id > before]
    return [_trade(trade) for trade in reversed(page)]


def _trade(trade: Trade) -> dict[str, str]:
    return {
        "instId": trade.symbol,
        "side": _taker_side(trade),
        "sz": trade.quantity,
        "source": "0",
        "px": trade.price,
        "tradeId": str(trade.trade_id),
        "ts": str(trade.traded_at_us // 1000),
    }


def _candles(request: Request, market: Market, symbol: str) -> list[list[str]]:
    """Return bars of a minute, newest first: earlier than *after* and newer than *before*, in milliseconds."""
    if request.query.get("bar", "1m") != "1m":
        raise ValueError("only minutes are replayed")
    limit = min(asked_integer(request, "limit", HISTORY_LIMIT) or HISTORY_LIMIT, HISTORY_LIMIT)
    after, before = asked_integer(request, "after"), asked_integer(request, "before")
    now_us = market.time_us
    end_us = min(after * 1000, now_us + 1) if after is not None else now_us + 1
    bars = minutes(market, symbol, (before * 1000 + 1 if before is not None else 0), end_us)
    return [
        [
            str(bar.start_us // 1000),
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            f"{bar.volume:f}",
            f"{bar.quote_volume:f}",
            f"{bar.quote_volume:f}",
            "1" if bar.start_us + MINUTE_US <= now_us else "0",
        ]
        for bar in reversed(bars[-limit:])
    ]


_CALLS: dict[str, Callable[[Request, Market, str], list[Any]]] = {
    "trades": _recent,
    "history-trades": _history,
    "history-candles": _candles,
}


def _called(call: Callable[[Request, Market, str], list[Any]], request: Request, market: Market) -> Answer:
    symbol = request.query.get("instId")
    if not symbol:
        return _refused("50014", "Parameter instId can not be empty.", 400)
    if symbol not in market.tracks:
        return _refused("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
    try:
        return _told(call(request, market, symbol))
    except ValueError:
        return _refused("51000", "Parameter error", 400)


def _told(content: list[Any]) -> Answer:
    return Answer.json({"code": "0", "msg": "", "data": content})


def _refused(code: str, text: str, status: int = 200) -> Answer:
    return Answer.json({"code": code, "msg": text, "data": []}, status)


def _error(code: str, text: str) -> bytes:
    return msgspec.json.encode({"event": "error", "code": code, "msg": text, "connId": "a4d3ae55"})
