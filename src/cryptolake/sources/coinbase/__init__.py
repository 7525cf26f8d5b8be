"""Coinbase Exchange: trades by WebSocket and REST."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager

from cryptolake.clock import Clock
from cryptolake.sources.coinbase.feed import CoinbaseFeed
from cryptolake.sources.venue import Capabilities, Places, Rate, TradeHistory, Venue

CAPABILITIES = Capabilities(
    id_kind="sequential",
    evidence=(
        "Ids rise by one from trade to trade of a product in every recording at hand, but Coinbase nowhere promises "
        "that each exists; its documents say that the feed may drop messages."
    ),
    order_in_frame="rising",
    heals_by="id",
    tells_maker_side=True,
    streams_per_connection=100,  # Coinbase names no limit; a connection takes 100 messages a second
    connections=Rate(8, 1),
    messages_per_second=100,
)


def _open_history(places: Places, clock: Clock, rng: random.Random) -> AbstractContextManager[TradeHistory]:
    from cryptolake.sources.coinbase.client import open_history

    return open_history(places, clock, rng)


VENUE = Venue("coinbase", CAPABILITIES, CoinbaseFeed(), _open_history)
