"""
Coinbase Exchange's frames and answers, byte by byte: pure functions, no clock, no socket.

Wire formats: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cryptolake.errors import BadRecordError
from cryptolake.sources import tape
from cryptolake.sources.instants import microseconds, microseconds_of_iso
from cryptolake.sources.records import Control, Kline, Recent, Trade, TradePage, VendorError
from cryptolake.sources.tape import TradeId

SOURCE = "coinbase"

Side = Literal["buy", "sell"]


class _Match(msgspec.Struct, gc=False, tag_field="type", tag="match"):
    """A trade; *side* is that of the order that rested."""

    product_id: str
    trade_id: TradeId
    price: str
    size: str
    side: Side
    time: str


class _LastMatch(_Match, gc=False, tag_field="type", tag="last_match"):
    """The newest trade from before the subscription."""


class _RestTrade(msgspec.Struct, gc=False):
    trade_id: TradeId
    price: str
    size: str
    side: Side
    time: str


_frame = msgspec.json.Decoder(_Match | _LastMatch).decode
_rest_trade = msgspec.json.Decoder(_RestTrade).decode


def decode(frame: bytes) -> list[Trade] | Recent | Control:
    """
    Read a frame of the channels `matches` and `heartbeat`; a frame holds one trade at most.

    Raises:
        BadRecordError: if it is a trade that cannot be read, or nothing that Coinbase sends.

    >>> decode(b'{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD"}').kind
    'heartbeat'

    """
    try:
        said = _frame(frame)
        trade = Trade(
            said.product_id,
            said.trade_id,
            said.price,
            said.size,
            said.side == "buy",
            microseconds_of_iso(said.time),
        )
    except tape.UNREADABLE as reason:
        return _uncommon(frame, str(reason))
    return Recent([trade]) if isinstance(said, _LastMatch) else [trade]


def trade_page(body: bytes, *, symbol: str, received_at_us: int) -> TradePage:
    """
    Read an answer of `/products/<id>/trades`.

    Raises:
        BadRecordError: if it is no list of records.

    """
    records = tape.unwrapped(SOURCE, body, list[msgspec.Raw])

    def parse(record: bytes) -> Trade:
        trade = _rest_trade(record)
        time = microseconds_of_iso(trade.time)
        return Trade(symbol, trade.trade_id, trade.price, trade.size, trade.side == "buy", time)

    return tape.page(SOURCE, symbol, records, parse, id_key="trade_id", received_at_us=received_at_us)


def klines(body: bytes) -> list[Kline]:
    """
    Read an answer of `/products/<id>/candles`, oldest first.

    Raises:
        BadRecordError: if it is no such answer.

    """
    raw, printed = msgspec.Raw, tape.printed_number
    try:
        rows = msgspec.json.decode(body, type=list[tuple[int, raw, raw, raw, raw, raw]])
        bars = [
            Kline(
                microseconds(start * 1000),
                printed(first),
                printed(high),
                printed(low),
                printed(last),
                printed(volume),
            )
            for start, low, high, first, last, volume in rows
        ]
    except tape.UNREADABLE as nonsense:
        raise BadRecordError(SOURCE, f"the answer is not candles: {nonsense}", body) from nonsense
    return sorted(bars, key=lambda bar: bar.start_us)


def vendor_error(body: bytes) -> VendorError:
    """
    Return what an error body says.

    >>> vendor_error(b'{"message":"NotFound"}')
    VendorError(code=None, message='NotFound')

    """
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except tape.UNREADABLE:
        return VendorError(None, "")
    return VendorError(None, str(said.get("message", ""))[:300])


def _uncommon(frame: bytes, reason: str) -> Control:
    """Read a frame that is no trade, or not a good one."""
    try:
        said = msgspec.json.decode(frame, type=dict[str, Any])
    except tape.UNREADABLE as nonsense:
        raise BadRecordError(SOURCE, f"the frame is not a JSON object: {nonsense}", frame) from nonsense
    kind, symbol = said.get("type"), said.get("product_id")
    if kind == "error":
        return Control("refused", reason=f"{said.get('message', '')}: {said.get('reason', '')}"[:300])
    if kind == "subscriptions":
        return Control("ack")
    if kind == "heartbeat":
        return Control("heartbeat")
    if isinstance(kind, str) and kind not in {"match", "last_match"}:
        return Control("other")
    raise BadRecordError(
        SOURCE,
        reason,
        frame,
        symbol=symbol if isinstance(symbol, str) else None,
        trade_id=tape.readable_id(frame, "trade_id"),
    )
