"""
Binance's spot frames and answers, byte by byte: pure functions, no clock, no socket.

Wire formats: https://github.com/binance/binance-spot-api-docs (web-socket-streams.md, rest-api.md)
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from cryptolake.errors import BadRecordError
from cryptolake.sources import tape
from cryptolake.sources.instants import microseconds
from cryptolake.sources.records import Control, Head, Kline, Trade, TradePage, VendorError
from cryptolake.sources.tape import TradeId

SOURCE = "binance"

# `instants.microseconds`, spelled out where every trade passes.
_LEAST_MS, _MOST_MS = 10**12, 10**13
_LEAST_US, _MOST_US = 10**15, 10**16
_SHUTDOWN = "serverShutdown"


class _Event(msgspec.Struct, gc=False, tag_field="e", tag="trade"):
    """The payload of `<symbol>@trade`; fields that are not listed do not matter."""

    s: str
    t: TradeId
    p: str
    q: str
    m: bool
    T: int
    E: int


class _Combined(msgspec.Struct, gc=False):
    data: _Event


class _RestTrade(msgspec.Struct, gc=False):
    id: TradeId
    price: str
    qty: str
    time: int
    isBuyerMaker: bool  # noqa: N815 (the vendor's name)


class _AggregateTrade(msgspec.Struct, gc=False):
    f: TradeId


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    lastId: int  # noqa: N815 (the vendor's name)


_combined = msgspec.json.Decoder(_Combined).decode
_event = msgspec.json.Decoder(_Event).decode
_rest_trade = msgspec.json.Decoder(_RestTrade).decode


def decode(frame: bytes) -> list[Trade] | Control:
    """
    Read a frame of a combined or a raw stream; a frame holds one trade at most.

    Raises:
        BadRecordError: if it is a trade that cannot be read, or nothing that Binance sends.

    >>> decode(b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}').kind
    'shutdown'

    """
    try:
        event = _combined(frame).data
        traded, sent = event.T, event.E
        if _LEAST_MS <= traded < _MOST_MS and _LEAST_MS <= sent < _MOST_MS:
            traded, sent = traded * 1000, sent * 1000
        elif not (_LEAST_US <= traded < _MOST_US and _LEAST_US <= sent < _MOST_US):
            traded, sent = microseconds(traded), microseconds(sent)
        return [Trade(event.s, event.t, event.p, event.q, event.m, traded, sent)]
    except tape.UNREADABLE as reason:
        return _uncommon(frame, str(reason))


def trade_page(body: bytes, *, symbol: str, received_at_us: int) -> TradePage:
    """
    Read an answer of `historicalTrades`.

    Raises:
        BadRecordError: if it is no list of records.

    """
    records = tape.unwrapped(SOURCE, body, list[msgspec.Raw])

    def parse(record: bytes) -> Trade:
        trade = _rest_trade(record)
        return Trade(symbol, trade.id, trade.price, trade.qty, trade.isBuyerMaker, microseconds(trade.time))

    return tape.page(SOURCE, symbol, records, parse, id_key="id", received_at_us=received_at_us)


def first_trade_id(body: bytes) -> int | None:
    """
    Return the id of the first trade in an answer of `aggTrades`, None where it is empty.

    Raises:
        BadRecordError: if it is no such answer.

    """
    found: list[_AggregateTrade] = tape.unwrapped(SOURCE, body, list[_AggregateTrade])
    return found[0].f if found else None


def heads(body: bytes) -> dict[str, Head]:
    """
    Return the newest trade of each symbol in an answer of `ticker/24hr`; without trades in 24 hours it has none (-1).

    An id that cannot be is left out too, as if the symbol had none.

    Raises:
        BadRecordError: if it is no such answer.

    """
    tickers: list[_Ticker] = tape.unwrapped(SOURCE, body, list[_Ticker])
    return {t.symbol: Head(t.lastId) for t in tickers if 0 <= t.lastId <= tape.LARGEST_ID}


def klines(body: bytes) -> list[Kline]:
    """
    Read an answer of `klines`.

    Raises:
        BadRecordError: if it is no such answer.

    """
    try:
        rows = msgspec.json.decode(
            body, type=list[tuple[int, str, str, str, str, str, int, str, int, str, str, Any]]
        )
        return [
            Kline(microseconds(start), first, high, low, last, volume, quote, count, taker, taker_quote)
            for start, first, high, low, last, volume, _, quote, count, taker, taker_quote, _ in rows
        ]
    except tape.UNREADABLE as nonsense:
        raise BadRecordError(SOURCE, f"the answer is not klines: {nonsense}", body) from nonsense


def vendor_error(body: bytes) -> VendorError:
    """
    Return what an error body says.

    >>> vendor_error(b'{"code":-1121,"msg":"Invalid symbol."}')
    VendorError(code=-1121, message='Invalid symbol.')

    """
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except tape.UNREADABLE:
        return VendorError(None, "")
    code = said.get("code")
    return VendorError(code if isinstance(code, int) else None, str(said.get("msg", ""))[:300])


def _uncommon(frame: bytes, reason: str) -> list[Trade] | Control:
    """Read a frame that is not one trade of a combined stream."""
    try:
        said = msgspec.json.decode(frame, type=dict[str, Any])
    except tape.UNREADABLE as nonsense:
        raise BadRecordError(SOURCE, f"the frame is not a JSON object: {nonsense}", frame) from nonsense
    stream, event = said.get("stream"), said.get("data", said)
    kind = event.get("e") if isinstance(event, dict) else None
    if kind == _SHUTDOWN:
        return Control("shutdown", reason="the server is about to shut down")
    if kind == "trade" or (isinstance(stream, str) and stream.endswith("@trade")):
        return [_raw_trade(frame)] if stream is None else _refuse(frame, event, reason)
    if isinstance(kind, str) or isinstance(stream, str):
        return Control("other")
    if "error" in said or "code" in said:
        failure = said.get("error", said)
        return Control("refused", reason=vendor_error(msgspec.json.encode(failure)).message or str(failure))
    if "result" in said:
        return Control("ack")
    return _refuse(frame, event, "the frame is neither an event nor an answer")


def _raw_trade(frame: bytes) -> Trade:
    """Read a trade of a raw stream, which nothing is wrapped around."""
    try:
        event = _event(frame)
        return Trade(
            event.s, event.t, event.p, event.q, event.m, microseconds(event.T), microseconds(event.E)
        )
    except tape.UNREADABLE as reason:
        _refuse(frame, msgspec.json.decode(frame), str(reason))


def _refuse(frame: bytes, event: Any, reason: str) -> NoReturn:
    symbol = event.get("s") if isinstance(event, dict) else None
    raise BadRecordError(
        SOURCE,
        reason,
        frame,
        symbol=symbol if isinstance(symbol, str) else None,
        trade_id=tape.readable_id(msgspec.json.encode(event), "t"),
    )
