"""OKX spot: trades by WebSocket and REST."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager

from cryptolake.clock import Clock
from cryptolake.sources.okx.feed import OkxFeed
from cryptolake.sources.venue import Capabilities, Places, Rate, TradeHistory, Venue

CAPABILITIES = Capabilities(
    id_kind="sequential",
    evidence=(
        "Ids rise from trade to trade of an instrument, and REST pages by them; OKX nowhere promises that each "
        "exists. The channel `trades` may merge several trades into one with a count, so `trades-all` is read."
    ),
    order_in_frame="any",
    heals_by="id",
    tells_maker_side=False,
    streams_per_connection=100,  # a subscription may be 64 KiB long; 480 subscriptions an hour
    connections=Rate(3, 1),
    messages_per_second=None,
)


def _open_history(places: Places, clock: Clock, rng: random.Random) -> AbstractContextManager[TradeHistory]:
    from cryptolake.sources.okx.client import open_history

    return open_history(places, clock, rng)


VENUE = Venue("okx", CAPABILITIES, OkxFeed(), _open_history)
