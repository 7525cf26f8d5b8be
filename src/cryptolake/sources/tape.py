"""What the wires of the venues share: trades in order, and records set apart that nobody can trust."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec

from cryptolake.errors import BadRecordError
from cryptolake.sources.records import Trade, TradePage

Item = TypeVar("Item")

LARGEST_ID = 2**61
"""No venue counts so far; above it the sums that the models make of ids would leave 64 bits."""

TradeId = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_ID)]

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""What reading JSON of a stranger may raise."""

_MOST_DIGITS = len(str(LARGEST_ID))


def whole_number(text: str) -> int:
    """
    Return the trade id that a venue prints as *text*.

    Raises:
        ValueError: it is no whole number, or above the largest id.

    """
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise ValueError(f"{text[:40]!r} is not a trade id")
    if (number := int(text)) > LARGEST_ID:
        raise ValueError(f"{text!r} is too large for a trade id, which is {LARGEST_ID} at most")
    return number


def printed_number(raw: msgspec.Raw) -> str:
    """
    Return a JSON number exactly as it is printed; msgspec has seen to it that *raw* is JSON.

    Raises:
        ValueError: it is something else.

    """
    text = str(raw, "utf-8")
    if not "-" <= text < ":":  # what else JSON begins with stands before or behind the minus and the digits
        raise ValueError(f"{text[:40]} is not a number")
    return text


def trades_of(items: list[Item], trade: Callable[[Item], Trade]) -> list[Trade]:
    """
    Return what *trade* reads from the *items* of a frame, by symbol and rising id, each once.

    Raises:
        ValueError: two of them have one id and differ.

    """
    if len(items) == 1:
        return [trade(items[0])]
    ordered: list[Trade] = []
    for found in sorted(map(trade, items), key=lambda found: (found.symbol, found.trade_id)):
        if ordered and (ordered[-1].symbol, ordered[-1].trade_id) == (found.symbol, found.trade_id):
            if ordered[-1] != found:
                raise ValueError(f"two different trades have the id {found.trade_id}")
            continue
        ordered.append(found)
    return ordered


def page(
    source: str,
    symbol: str,
    records: Iterable[msgspec.Raw],
    parse: Callable[[bytes], Trade],
    *,
    id_key: str | int,
    received_at_us: int,
) -> TradePage:
    """
    Return *records* as trades of *symbol* by rising id, and those that *parse* refuses as rejects with their bytes.

    *id_key* is where a record has its id, so that a reject can name it.
    """
    trades: dict[int, Trade] = {}
    rejects: list[BadRecordError] = []
    for record in records:
        payload = bytes(record)
        try:
            trade = parse(payload)
            if trade.symbol != symbol:
                raise ValueError(f"the trade is of {trade.symbol!r}, {symbol!r} was asked for")
            if trades.setdefault(trade.trade_id, trade) != trade:
                raise ValueError(f"two different trades have the id {trade.trade_id}")
        except UNREADABLE as reason:
            trade_id = readable_id(payload, id_key)
            rejects.append(BadRecordError(source, str(reason), payload, symbol=symbol, trade_id=trade_id))
    return TradePage([trades[trade_id] for trade_id in sorted(trades)], received_at_us, rejects)


def readable_id(record: bytes, key: str | int) -> int | None:
    """
    Return the id that a JSON *record* has at *key*, None where it has none that can be read.

    >>> readable_id(b'{"id": 7, "price": null}', "id"), readable_id(b'["1.5", 7]', 1), readable_id(b'{"id":-1}', "id")
    (7, 7, None)

    """
    try:
        found: Any = msgspec.json.decode(record)
        value = found[key]
        if isinstance(value, str):
            return whole_number(value)
    except (*UNREADABLE, LookupError, TypeError):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_ID:
        return None
    return value


def unwrapped(source: str, body: bytes, shape: Any) -> Any:
    """
    Return *body* decoded as *shape*.

    Raises:
        BadRecordError: it is nothing of the kind.

    """
    try:
        return msgspec.json.decode(body, type=shape)
    except UNREADABLE as nonsense:
        raise BadRecordError(source, f"the answer is not what was asked for: {nonsense}", body) from nonsense
