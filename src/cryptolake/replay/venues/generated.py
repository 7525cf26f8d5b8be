"""Trades that never happened, from a seed: for tests and measurements, and labelled as generated."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate

from cryptolake.replay.venues.tape import Tape, Track, track

STARTS_AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
INSTRUMENTS: Mapping[str, Sequence[str]] = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "okx": ("BTC-USDT", "ETH-USDT"),
}
CONTIGUOUS = frozenset({"binance"})

_PRICE_DIGITS = {"binance": 8, "coinbase": 2, "kraken": 1, "okx": 1}
_CENTS = 100
_TRADES_IN_A_BURST = 3


def generate(
    trades: int,
    *,
    seed: int = 0,
    instruments: Mapping[str, Sequence[str]] = INSTRUMENTS,
    starts_at: datetime = STARTS_AT,
    trades_per_second: float = 1000.0,
    absent: float = 0.0,
) -> Tape:
    """
    Return about *trades* made-up trades, spread evenly over the *instruments* (symbols by venue).

    *trades_per_second* is the rate of all together by their own times. *absent* is the share of ids
    that do not exist, at venues whose ids have holes. The same arguments give the same trades.

    >>> generate(8, seed=7).of("okx")[0].trades(0, 1)[0].symbol
    'BTC-USDT'

    """
    pairs = [(venue, symbol) for venue, symbols in instruments.items() for symbol in symbols]
    each = -(-trades // len(pairs))
    pause_us = len(pairs) / trades_per_second * 1_000_000
    tracks = []
    for venue, symbol in pairs:
        chance = random.Random(f"{seed}/{venue}/{symbol}")  # noqa: S311  # repeatable on purpose
        holes = 0.0 if venue in CONTIGUOUS else absent
        tracks.append(_track(venue, symbol, each, chance, starts_at, (pause_us, holes)))
    return Tape(f"generated (seed {seed})", tracks, is_generated=True)


def _track(
    venue: str,
    symbol: str,
    trades: int,
    chance: random.Random,
    starts_at: datetime,
    shape: tuple[float, float],
) -> Track:
    pause_us, absent = shape
    first_id = chance.randrange(1_000_000, 5_000_000_000)
    steps = (1 + (chance.random() < absent) * chance.randrange(1, 4) for _ in range(trades - 1))
    cents = accumulate((chance.randrange(-250, 251) for _ in range(trades - 1)), initial=6_000_000)
    digits = _PRICE_DIGITS[venue]
    start_us = int(starts_at.timestamp()) * 1_000_000
    unit_us = 1000 if venue == "okx" else 1
    times_us = [start_us + us // unit_us * unit_us for us in _instants(trades, pause_us, chance)]
    events_us = [us + chance.randrange(200, 3000) for us in times_us] if venue == "binance" else None
    published_us = list(accumulate(events_us, max)) if events_us else times_us
    return track(
        venue,
        symbol,
        (
            list(accumulate(steps, initial=first_id)),
            [_price(max(n, 1), digits) for n in cents],
            [f"{chance.randrange(1, 500_000_000) / 1e8:.8f}" for _ in range(trades)],
            [chance.random() < 0.5 for _ in range(trades)],  # noqa: PLR2004  # a coin's
            times_us,
            events_us or [None] * trades,
            [us * 1000 for us in published_us],
        ),
    )


def _price(cents: int, digits: int) -> str:
    return f"{cents // _CENTS}.{cents % _CENTS:02d}".ljust(len(str(cents // _CENTS)) + 1 + digits, "0")[
        : len(str(cents // _CENTS)) + 1 + digits
    ]


def _instants(trades: int, pause_us: float, chance: random.Random) -> list[int]:
    """Return rising instants from 0, *pause_us* apart in the mean; trades come in bursts of one instant."""
    gaps = (
        0
        if chance.randrange(_TRADES_IN_A_BURST)
        else int(chance.expovariate(1 / pause_us) * _TRADES_IN_A_BURST)
        for _ in range(trades)
    )
    return list(accumulate(gaps))
