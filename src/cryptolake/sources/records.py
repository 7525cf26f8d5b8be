"""What vendors deliver, once it is parsed: one frozen struct a fact."""

from __future__ import annotations

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
