"""
Kraken's frames (WebSocket v2) and answers, byte by byte: pure functions, no clock, no socket.

Wire formats: https://docs.kraken.com/api/docs/websocket-v2/trade and
https://docs.kraken.com/api/docs/rest-api/get-recent-trades
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cryptolake.errors import BadRecordError
from cryptolake.sources import tape
from cryptolake.sources.instants import microseconds, microseconds_of_iso, microseconds_of_seconds
from cryptolake.sources.records import Control, Kline, Recent, Trade, TradePage
from cryptolake.sources.tape import TradeId

SOURCE = "kraken"

_ID_PLACE = 6  # in a record of REST


class _Item(msgspec.Struct, gc=False):
    """A trade; *side* is that of the order that took, numbers are JSON numbers."""

    symbol: str
    trade_id: TradeId
    price: msgspec.Raw
    qty: msgspec.Raw
    side: Literal["buy", "sell"]
    timestamp: str


class _Channel(msgspec.Struct, gc=False):
    channel: Literal["trade"]
    type: Literal["snapshot", "update"]
    data: list[_Item]


class _Answer(msgspec.Struct):
    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_frame = msgspec.json.Decoder(_Channel).decode
_record = msgspec.json.Decoder(tuple[str, str, msgspec.Raw, Literal["b", "s"], str, str, TradeId]).decode


def decode(frame: bytes) -> list[Trade] | Recent | Control:
    """
    Read a frame of the channel `trade`; several trades of one symbol may share it.

    Raises:
        BadRecordError: if a trade of it cannot be read, or it is nothing that Kraken sends.

    >>> decode(b'{"channel":"heartbeat"}').kind
    'heartbeat'

    """
    try:
        said = _frame(frame)
        trades = tape.trades_of(said.data, _trade)
    except tape.UNREADABLE as reason:
        return _uncommon(frame, str(reason))
    return Recent(trades) if said.type == "snapshot" else trades


def trade_page(body: bytes, *, symbol: str, received_at_us: int) -> TradePage:
    """
    Read an answer of `Trades`: rows of price, volume, time, side, order type, miscellaneous and id.

    Raises:
        BadRecordError: if it is no such answer.

    """
    rows = _rows(body)

    def parse(record: bytes) -> Trade:
        price, quantity, time, side, _, _, trade_id = _record(record)
        seconds = microseconds_of_seconds(tape.printed_number(time))
        return Trade(symbol, trade_id, price, quantity, side == "s", seconds)

    return tape.page(SOURCE, symbol, rows, parse, id_key=_ID_PLACE, received_at_us=received_at_us)


def klines(body: bytes) -> list[Kline]:
    """
    Read an answer of `OHLC`, oldest first.

    Raises:
        BadRecordError: if it is no such answer.

    """
    try:
        rows = [
            msgspec.json.decode(row, type=tuple[int, str, str, str, str, str, str, int])
            for row in _rows(body)
        ]
        return [
            Kline(microseconds(start * 1000), first, high, low, last, volume, trade_count=count)
            for start, first, high, low, last, _, volume, count in rows
        ]
    except tape.UNREADABLE as nonsense:
        raise BadRecordError(SOURCE, f"the answer is not bars: {nonsense}", body) from nonsense


def complaints(body: bytes) -> list[str]:
    """
    Return the errors that an answer lists; Kraken reports them with HTTP 200.

    >>> complaints(b'{"error":["EQuery:Unknown asset pair"]}')
    ['EQuery:Unknown asset pair']

    """
    try:
        return msgspec.json.decode(body, type=_Answer).error
    except tape.UNREADABLE:
        return []


def _rows(body: bytes) -> list[msgspec.Raw]:
    """Return the rows of an answer, whichever way it spells the pair."""
    answer: _Answer = tape.unwrapped(SOURCE, body, _Answer)
    pairs = [name for name in answer.result if name != "last"]
    if answer.error or len(pairs) != 1:
        raise BadRecordError(SOURCE, "the answer has no rows of one pair", body)
    rows: list[msgspec.Raw] = tape.unwrapped(SOURCE, bytes(answer.result[pairs[0]]), list[msgspec.Raw])
    return rows


def _trade(item: _Item) -> Trade:
    return Trade(
        item.symbol,
        item.trade_id,
        tape.printed_number(item.price),
        tape.printed_number(item.qty),
        item.side == "sell",
        microseconds_of_iso(item.timestamp),
    )


def _uncommon(frame: bytes, reason: str) -> Control:
    """Read a frame that has no trades, or not good ones."""
    try:
        said = msgspec.json.decode(frame, type=dict[str, Any])
    except tape.UNREADABLE as nonsense:
        raise BadRecordError(SOURCE, f"the frame is not a JSON object: {nonsense}", frame) from nonsense
    channel = said.get("channel")
    if channel == "heartbeat" or said.get("method") == "pong":
        return Control("heartbeat")
    if said.get("success") is False or (channel is None and "error" in said):
        return Control("refused", reason=f"{said.get('symbol', '')}: {said.get('error', '')}"[:300])
    if "method" in said:
        return Control("ack")
    if isinstance(channel, str) and channel != "trade":
        return Control("other")
    raise BadRecordError(SOURCE, reason, frame, **_named(said.get("data")))


def _named(items: Any) -> dict[str, Any]:
    """Return the symbol that all *items* name, and the id where there is but one of them."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return {}
    symbols = {str(item.get("symbol")) for item in items if isinstance(item.get("symbol"), str)}
    only = msgspec.json.encode(items[0]) if len(items) == 1 else b""
    return {
        "symbol": symbols.pop() if len(symbols) == 1 else None,
        "trade_id": tape.readable_id(only, "trade_id"),
    }
