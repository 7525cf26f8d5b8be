"""The trading venues that trades are captured from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cryptolake.sources import binance, coinbase, kraken, okx
from cryptolake.sources.venue import Venue

VENUES: Mapping[str, Venue] = MappingProxyType(
    {venue.name: venue for venue in (binance.VENUE, coinbase.VENUE, kraken.VENUE, okx.VENUE)}
)
"""Every venue by its name, which is also its folder and its group in the settings."""
