"""A venue's own bars of one minute, with true figures: computed exactly from the trades published by now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import ROUND_DOWN, Context, Decimal, localcontext

from cryptolake.replay.venues.market import Market
from cryptolake.sources.records import Trade

MINUTE_US = 60_000_000

_EXACT = Context(prec=100)


@dataclass(frozen=True)
class Minute:
    """The bar that begins at *start_us*; *first_id* and *last_id* are of its trades."""

    start_us: int
    open: str
    high: str
    low: str
    close: str
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    taker_buy_volume: Decimal
    taker_buy_quote_volume: Decimal
    first_id: int
    last_id: int


def minutes(market: Market, symbol: str, start_us: int, end_us: int) -> list[Minute]:
    """Return the bars that begin from *start_us* to *end_us* (excluded) and have trades, oldest first."""
    first_us = -(-start_us // MINUTE_US) * MINUTE_US
    after_us = -(-end_us // MINUTE_US) * MINUTE_US
    track = market.tracks[symbol]
    start, stop = track.rows_between(first_us, after_us)
    by_minute: dict[int, list[Trade]] = defaultdict(list)
    for trade in track.trades(start, min(stop, market.counts[symbol])):
        if first_us <= trade.traded_at_us < after_us:
            by_minute[trade.traded_at_us // MINUTE_US * MINUTE_US].append(trade)
    with localcontext(_EXACT):
        return [_minute(minute_us, trades) for minute_us, trades in sorted(by_minute.items())]


def _minute(start_us: int, trades: list[Trade]) -> Minute:
    sizes = [Decimal(trade.quantity) for trade in trades]
    quotes = [Decimal(trade.price) * size for trade, size in zip(trades, sizes, strict=True)]
    taker_bought = [not trade.is_buyer_maker for trade in trades]
    return Minute(
        start_us=start_us,
        open=trades[0].price,
        high=max((trade.price for trade in trades), key=Decimal),
        low=min((trade.price for trade in trades), key=Decimal),
        close=trades[-1].price,
        volume=sum(sizes, Decimal(0)),
        quote_volume=sum(quotes, Decimal(0)),
        trade_count=len(trades),
        taker_buy_volume=sum((s for s, buys in zip(sizes, taker_bought, strict=True) if buys), Decimal(0)),
        taker_buy_quote_volume=sum(
            (q for q, buys in zip(quotes, taker_bought, strict=True) if buys), Decimal(0)
        ),
        first_id=trades[0].trade_id,
        last_id=trades[-1].trade_id,
    )


def printed(value: Decimal | str, digits: int) -> str:
    """
    Return *value* with *digits* places; what is beyond them is cut off.

    >>> printed("1.5", 3)
    '1.500'

    """
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_DOWN, _EXACT):f}"


def at_least(text: str, digits: int) -> str:
    """
    Return a decimal as it stands, with zeros up to *digits* places.

    >>> at_least("61837.63", 8)
    '61837.63000000'

    """
    whole, _, places = text.partition(".")
    return text if len(places) >= digits else f"{whole}.{places:0<{digits}}"
