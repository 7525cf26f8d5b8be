"""What vendors deliver, once it is parsed: one frozen struct a fact."""

from __future__ import annotations

from typing import Literal

import msgspec

from cryptolake.errors import BadRecordError


class Observation(msgspec.Struct, frozen=True, gc=False):
    """One coin at one instant; None where the vendor gave no value, 0 where it printed 0."""

    timestamp_ms: int
    price_usd: float
    market_cap_usd: float | None
    volume_24h_usd: float | None


class IndexValue(msgspec.Struct, frozen=True, gc=False):
    """The Fear & Greed Index of the day that begins at *timestamp* (unix seconds, 00:00 UTC)."""

    value: int
    classification: str
    timestamp: int


class MarketChart(msgspec.Struct, frozen=True):
    """One answer about one coin: its observations, oldest first, and the points nobody can trust."""

    coin_id: str
    received_at_ms: int
    observations: list[Observation]
    rejects: list[BadRecordError]


class IndexHistory(msgspec.Struct, frozen=True):
    """One answer about the index: its values, oldest first, and the entries nobody can trust."""

    received_at_ms: int
    values: list[IndexValue]
    rejects: list[BadRecordError]


class VendorError(msgspec.Struct, frozen=True):
    """What a vendor says went wrong: its own *code* (None where it has none) and words."""

    code: int | None
    message: str


class Trade(msgspec.Struct, gc=False):
    """
    One trade as its venue printed it.

    *symbol* in the venue's own spelling; *price* and *quantity* are the decimal digits as printed;
    times are microseconds since 1970-01-01 UTC by the venue's clock, *event_at_us* None where it sends none.
    """

    symbol: str
    trade_id: int
    price: str
    quantity: str
    is_buyer_maker: bool
    """True: the buyer's order was resting, so the taker sold."""
    traded_at_us: int
    event_at_us: int | None = None


class Recent(msgspec.Struct, frozen=True):
    """Trades from before a subscription that a venue sends once it begins (Coinbase's `last_match`, Kraken's snapshot)."""

    trades: list[Trade]


class Control(msgspec.Struct, frozen=True):
    """
    A frame that is not trades.

    *kind*: `ack` of a subscription, `heartbeat`, `shutdown` (the venue is about to close the connection), `refused`
    (it will not serve a subscription; *reason* says why) or `other`.
    """

    kind: Literal["ack", "heartbeat", "shutdown", "refused", "other"]
    reason: str = ""


class TradePage(msgspec.Struct, frozen=True):
    """
    One answer of a venue's REST.

    *trades* are of one symbol by strictly rising id. *rejects* are its records that nobody can trust. Ids between two neighbours
    of *trades* do not exist, unless a reject has one of them or has no readable id.
    """

    trades: list[Trade]
    received_at_us: int
    rejects: list[BadRecordError] = []


class Head(msgspec.Struct, frozen=True):
    """The newest trade that a venue knows of a symbol; *traded_at_us* None where the answer does not say."""

    trade_id: int
    traded_at_us: int | None = None


class Kline(msgspec.Struct, frozen=True):
    """
    A venue's own bar of one minute that begins at *start_us*; decimals as printed.

    None where the venue does not give a figure.
    """

    start_us: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str | None = None
    trade_count: int | None = None
    taker_buy_volume: str | None = None
    taker_buy_quote_volume: str | None = None
