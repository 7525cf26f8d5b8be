"""
OKX's frames and answers (v5), byte by byte: pure functions, no clock, no socket.

Wire formats: https://www.okx.com/docs-v5/en/ (all trades channel, trades history)
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cryptolake.errors import BadRecordError
from cryptolake.sources import tape
from cryptolake.sources.instants import microseconds
from cryptolake.sources.records import Control, Kline, Trade, TradePage, VendorError
from cryptolake.sources.tape import TradeId

SOURCE = "okx"

TRADES = frozenset({"trades", "trades-all"})

_DONE = "1"  # the last field of a candle that is over
_OVER = 8


class _Item(msgspec.Struct, gc=False):
    """A trade; *side* is that of the order that took, numbers are strings, so reading them takes `strict=False`."""

    instId: str  # noqa: N815 (the vendor's name)
    tradeId: TradeId  # noqa: N815 (the vendor's name)
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: int


class _Subscribed(msgspec.Struct, gc=False):
    channel: Literal["trades", "trades-all"]


class _Push(msgspec.Struct, gc=False):
    arg: _Subscribed
    data: list[_Item]


class _Answer(msgspec.Struct):
    code: Literal["0"]
    data: list[msgspec.Raw]


_frame = msgspec.json.Decoder(_Push, strict=False).decode
_record = msgspec.json.Decoder(_Item, strict=False).decode


def decode(frame: bytes) -> list[Trade] | Control:
    """
    Read a frame of the channel `trades-all`.

    Raises:
        BadRecordError: if a trade of it cannot be read, or it is nothing that OKX sends.

    >>> decode(b"pong").kind
    'heartbeat'

    """
    try:
        return tape.trades_of(_frame(frame).data, _trade)
    except tape.UNREADABLE as reason:
        return _uncommon(frame, str(reason))


def trade_page(body: bytes, *, symbol: str, received_at_us: int) -> TradePage:
    """
    Read an answer of `trades` or `history-trades`.

    Raises:
        BadRecordError: if it is no such answer.

    """
    answer: _Answer = tape.unwrapped(SOURCE, body, _Answer)

    def parse(record: bytes) -> Trade:
        return _trade(_record(record))

    return tape.page(SOURCE, symbol, answer.data, parse, id_key="tradeId", received_at_us=received_at_us)


def klines(body: bytes) -> list[Kline]:
    """
    Read an answer of `history-candles` about spot, oldest first, without the one that still grows.

    Raises:
        BadRecordError: if it is no such answer.

    """
    answer: _Answer = tape.unwrapped(SOURCE, body, _Answer)
    try:
        rows = [msgspec.json.decode(row, type=list[str]) for row in answer.data]
        bars = [
            Kline(microseconds(tape.whole_number(row[0])), row[1], row[2], row[3], row[4], row[5], row[7])
            for row in rows
            if row[_OVER] == _DONE
        ]
    except (*tape.UNREADABLE, IndexError) as nonsense:
        raise BadRecordError(SOURCE, f"the answer is not candles: {nonsense}", body) from nonsense
    return sorted(bars, key=lambda bar: bar.start_us)


def vendor_error(body: bytes) -> VendorError:
    """
    Return what an answer says went wrong; OKX reports many errors with HTTP 200. Code 0 means nothing did.

    >>> vendor_error(b'{"code":"51001","data":[],"msg":"Instrument ID does not exist"}')
    VendorError(code=51001, message='Instrument ID does not exist')

    """
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except tape.UNREADABLE:
        return VendorError(None, "")
    code = str(said.get("code"))
    return VendorError(int(code) if code.isdecimal() else None, str(said.get("msg", ""))[:300])


def _trade(item: _Item) -> Trade:
    return Trade(item.instId, item.tradeId, item.px, item.sz, item.side == "sell", microseconds(item.ts))


def _uncommon(frame: bytes, reason: str) -> Control:
    """Read a frame that has no trades, or not good ones."""
    if frame == b"pong":
        return Control("heartbeat")
    try:
        said = msgspec.json.decode(frame, type=dict[str, Any])
    except tape.UNREADABLE as nonsense:
        raise BadRecordError(SOURCE, f"the frame is not a JSON object: {nonsense}", frame) from nonsense
    event, asked = said.get("event"), said.get("arg")
    if event == "error":
        return Control("refused", reason=f"{said.get('msg', '')} ({said.get('code', '')})"[:300])
    if event == "notice":  # a connection that will be closed for an upgrade of the service
        return Control("shutdown", reason=str(said.get("msg", ""))[:300])
    if event == "subscribe":
        return Control("ack")
    channel = asked.get("channel") if isinstance(asked, dict) else None
    if isinstance(event, str) or (isinstance(channel, str) and channel not in TRADES):
        return Control("other")
    symbol = asked.get("instId") if isinstance(asked, dict) else None
    raise BadRecordError(
        SOURCE,
        reason,
        frame,
        symbol=symbol if isinstance(symbol, str) else None,
        trade_id=_only_id(said.get("data")),
    )


def _only_id(items: Any) -> int | None:
    """Return the readable id of the trade of a frame that has but one."""
    if not isinstance(items, list) or len(items) != 1:
        return None
    return tape.readable_id(msgspec.json.encode(items[0]), "tradeId")
