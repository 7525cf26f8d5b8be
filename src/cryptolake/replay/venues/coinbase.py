"""
Coinbase Exchange's side of the protocol: `matches` and `heartbeat`, and the REST that heals them.

Source: docs.cdp.coinbase.com/exchange, and frames recorded by others. The order ids and sequence
numbers of a match, which nobody keeps, are made from its trade id.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.venues.dialect import Manners, Session, asked_integer
from cryptolake.replay.venues.market import EPOCH, Market, iso
from cryptolake.replay.venues.minutes import MINUTE_US, minutes
from cryptolake.replay.venues.tape import Track
from cryptolake.sources.records import Trade

TRADES_LIMIT = 1000
CANDLES_LIMIT = 300

_CHANNELS = frozenset({"matches", "heartbeat"})


class _Channel(msgspec.Struct):
    name: str
    product_ids: list[str] = []


class _Command(msgspec.Struct):
    type: str
    product_ids: list[str] = []
    channels: list[str | _Channel] = []


class Coinbase:
    """Coinbase Exchange, as its public documentation says it speaks."""

    name = "coinbase"
    path = ""
    manners = Manners(messages_per_second=100, subscribe_seconds=5)

    def opened(self, url: str, market: Market, session: Session) -> list[bytes] | None:  # noqa: ARG002
        """Say nothing: a client is to subscribe first."""
        return []

    def received(self, message: bytes, market: Market, session: Session) -> list[bytes]:
        """Answer `subscribe` and `unsubscribe`: first the last match of each new product, then what is subscribed."""
        try:
            command = msgspec.json.decode(message, type=_Command)
        except msgspec.DecodeError:
            return [_error("Malformed JSON", None)]
        asked = list(_asked(command))
        unknown = [product for _, product in asked if product not in market.tracks]
        if unknown:
            return [_error("Failed to subscribe", f"{unknown[0]} is not a valid product")]
        if not asked or not {channel for channel, _ in asked} <= _CHANNELS:
            return [_error("Failed to subscribe", "no such channel is replayed")]
        sets = {"matches": session.symbols, "heartbeat": session.beats}
        if command.type == "unsubscribe":
            for channel, product in asked:
                sets[channel].discard(product)
            return [_subscriptions(session)]
        fresh = {product for channel, product in asked if channel == "matches"} - session.symbols
        for channel, product in asked:
            sets[channel].add(product)
        last = [trade for product in sorted(fresh) for trade in market.recent(product, 1)]
        return [*(_match(trade, "last_match") for trade in last), _subscriptions(session)]

    def frames(self, track: Track, start: int, stop: int, style: str) -> list[bytes]:  # noqa: ARG002
        """Return one `match` a trade."""
        return [_match(trade, "match") for trade in track.trades(start, stop)]

    def heartbeats(self, market: Market, session: Session) -> list[bytes]:
        """Return a heartbeat for each product that has one, with the id of its newest trade."""
        beats = []
        for product in sorted(session.beats):
            row = market.newest_row(product)
            newest = market.tracks[product].ids[row] if row is not None else 0
            beat = {
                "type": "heartbeat",
                "last_trade_id": newest,
                "product_id": product,
                "sequence": _sequence(newest),
                "time": iso(market.time_us),
            }
            beats.append(msgspec.json.encode(beat))
        return beats

    def shutdown_notice(self, market: Market, session: Session) -> bytes | None:  # noqa: ARG002
        """Return None: Coinbase closes without a word."""
        return None

    def answer(self, request: Request, market: Market) -> Answer | None:
        """Answer `/products/<id>/trades` and `/products/<id>/candles`."""
        parts = request.path.strip("/").split("/")
        if parts[0] != "products":
            return None
        call = {"trades": _trades, "candles": _candles}.get(parts[-1])
        if call is None or len(parts) != len(("products", "id", "trades")) or parts[1] not in market.tracks:
            return Answer.json({"message": "NotFound"}, 404)
        try:
            return call(request, market, parts[1])
        except ValueError as wrong:
            return Answer.json({"message": str(wrong)}, 400)

    def weight(self, request: Request) -> int:  # noqa: ARG002
        """Return 0: requests are not weighed."""
        return 0

    def refusal(self, status: int, retry_after: float) -> Answer:
        """Return the words of a rate limit."""
        return Answer.json({"message": "Public rate limit exceeded"}, status, retry_after=f"{retry_after:g}")


def _asked(command: _Command) -> Iterable[tuple[str, str]]:
    """Yield the channel and product of each subscription that a command names."""
    for channel in command.channels:
        named = channel if isinstance(channel, _Channel) else _Channel(channel)
        for product in named.product_ids or command.product_ids:
            yield named.name, product


def _match(trade: Trade, kind: str) -> bytes:
    return (
        f'{{"type":"{kind}","trade_id":{trade.trade_id},"maker_order_id":"{_order(trade.trade_id, 1)}",'
        f'"taker_order_id":"{_order(trade.trade_id, 2)}","side":"{_maker_side(trade)}","size":"{trade.quantity}",'
        f'"price":"{trade.price}","product_id":"{trade.symbol}","sequence":{_sequence(trade.trade_id)},'
        f'"time":"{iso(trade.traded_at_us)}"}}'
    ).encode()


def _maker_side(trade: Trade) -> str:
    return "buy" if trade.is_buyer_maker else "sell"


def _order(trade_id: int, side: int) -> str:
    return f"{trade_id & 0xFFFFFFFF:08x}-0000-4000-8000-{side:012x}"


def _sequence(trade_id: int) -> int:
    return trade_id * 10


def _subscriptions(session: Session) -> bytes:
    channels = [
        {"name": name, "product_ids": sorted(products), "account_ids": None}
        for name, products in (("matches", session.symbols), ("heartbeat", session.beats))
        if products
    ]
    return msgspec.json.encode({"type": "subscriptions", "channels": channels})


def _error(message: str, reason: str | None) -> bytes:
    return msgspec.json.encode({"type": "error", "message": message} | ({"reason": reason} if reason else {}))


def _trades(request: Request, market: Market, product: str) -> Answer:
    """Return a page, newest first: older than *after*, or the newest that are newer than *before*."""
    track = market.tracks[product]
    limit = min(asked_integer(request, "limit", TRADES_LIMIT) or TRADES_LIMIT, TRADES_LIMIT)
    after, before = asked_integer(request, "after"), asked_integer(request, "before")
    end = market.counts[product] if after is None else track.row_of(after)
    page = market.page_before(product, end, limit)
    if before is not None:
        page = [trade for trade in page if trade.trade_id > before]
    body: list[dict[str, Any]] = [
        {
            "trade_id": trade.trade_id,
            "side": _maker_side(trade),
            "size": trade.quantity,
            "price": trade.price,
            "time": iso(trade.traded_at_us),
        }
        for trade in reversed(page)
    ]
    if not page:
        return Answer.json(body)
    return Answer.json(body, cb_before=str(page[-1].trade_id), cb_after=str(page[0].trade_id))


def _candles(request: Request, market: Market, product: str) -> Answer:
    """Return bars of a minute, newest first: time, low, high, open, close, volume, as JSON numbers."""
    if request.query.get("granularity", "60") != "60":
        raise ValueError("Unsupported granularity")
    end_us = _instant(request.query.get("end", ""), market.time_us)
    start_us = _instant(request.query.get("start", ""), end_us - CANDLES_LIMIT * MINUTE_US)
    if end_us - start_us > CANDLES_LIMIT * MINUTE_US:
        raise ValueError(
            "granularity too small for the requested time range. Count of aggregations requested exceeds 300"
        )
    bars = minutes(market, product, start_us, end_us + 1)[-CANDLES_LIMIT:]
    lines = (
        f"[{bar.start_us // 1_000_000},{bar.low},{bar.high},{bar.open},{bar.close},{_number(bar.volume)}]"
        for bar in reversed(bars)
    )
    return Answer(200, f"[{','.join(lines)}]".encode())


def _number(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _instant(text: str, default_us: int) -> int:
    if not text:
        return default_us
    if text.replace(".", "", 1).isdecimal():
        return int(Decimal(text) * 1_000_000)
    moment = datetime.fromisoformat(text)
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (zoned - EPOCH) // timedelta(microseconds=1)
