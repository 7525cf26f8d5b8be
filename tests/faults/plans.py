"""Schedules of faults and kills: what is published, what goes wrong and when, each a pure function of its seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from cryptolake.replay.faults import Fault
from cryptolake.replay.venues.dialect import Dialect
from cryptolake.replay.venues.faults import Happening, Schedule
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.tape import Tape, Track
from tests.faults.judging import Key

SYMBOLS = {
    "binance": ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    "coinbase": ("BTC-USD", "ETH-USD", "SOL-USD"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "okx": ("BTC-USDT", "ETH-USDT", "SOL-USDT"),
}
BEFORE = 60
"""Trades of each venue that are published before a capture connects: what it gets of them is its start."""
EDGE = 20
"""Rows at the end of a track that can all be had."""
MIDNIGHT = datetime(2026, 1, 16, tzinfo=UTC)

HIGHEST_RATES = {
    "lost": 0.03,
    "duplicated": 0.03,
    "reordered": 0.03,
    "damaged": 0.004,
    "disconnect": 0.001,
    "shutdown": 0.001,
    "stall": 0.0006,
    "429": 0.04,
    "418": 0.02,
    "slow": 0.15,
    "500": 0.04,
    "reset": 0.03,
    "cut-off": 0.03,
    "html": 0.02,
}
"""The share of trades on a connection, or of requests, that a fault hits at the most."""


@dataclass(frozen=True)
class Reel:
    """
    A tape, and by instrument the ids on it that nobody can have.

    *calm* is how many trades of each venue, those before included, meet no fault: every instrument has
    one after the connections stand, so that every capture has the same start.
    """

    tape: Tape
    gone: Mapping[Key, frozenset[int]]
    calm: Mapping[str, int]

    @property
    def instruments(self) -> list[str]:
        """Return what the setting `capture.instruments` is."""
        return [f"{track.venue}:{track.symbol}" for track in self.tape.tracks]


@dataclass(frozen=True)
class Kill:
    """A SIGKILL *delay_seconds* after the share *at* of all trades is published; the next start is at the share *back_at*."""

    at: float
    delay_seconds: float
    back_at: float


@dataclass(frozen=True)
class Plan:
    """
    What befalls one capture: which *tape* is published how fast, the *rates* of faults, the *kills*.

    *refresh_seconds* is that of the capture: 0 where silver and gold are built at the end only.
    """

    seed: int
    tape: int
    trades: int
    trades_per_second: float
    rates: Mapping[str, float]
    arguments: Mapping[str, float]
    kills: Sequence[Kill]
    refresh_seconds: float


class Counted(Schedule):
    """The faults of a plan: they spare the calm trades of each venue, and *counts* has how many happened of each kind."""

    calm: Mapping[str, int]
    counts: Counter[str]

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.seed, plan.rates, plan.arguments)
        object.__setattr__(self, "calm", reel(plan.tape, plan.trades).calm)
        object.__setattr__(self, "counts", Counter())

    def on_block(self, venue: str, host: int, block: int, size: int) -> dict[int, list[Happening]]:
        """Return what happens in a block, but for the calm at the beginning."""
        drawn = super().on_block(venue, host, block, size)
        calm = self.calm[venue] - block * size
        return Happenings(self.counts, {place: what for place, what in drawn.items() if place >= calm})

    def _request_fault(self, kind: str, dialect: Dialect) -> Fault:
        self.counts[kind] += 1
        return super()._request_fault(kind, dialect)


class Happenings(dict[int, list[Happening]]):
    """What happens in a block to one connection, by place; what it comes upon is counted in *counts*, once."""

    def __init__(self, counts: Counter[str], drawn: Mapping[int, list[Happening]]) -> None:
        super().__init__(drawn)
        self._counts, self._to_come = counts, dict(drawn)

    def get(self, place: int, default: Any = None) -> Any:
        """Return what happens at *place*: the connection has come there."""
        self._counts.update(happening.kind for happening in self._to_come.pop(place, ()))
        return super().get(place, default)


def plan(seed: int, tape: int, trades: int) -> Plan:
    """Return the schedule of *seed* over tape number *tape* with about *trades* trades."""
    chance = Random(f"plan/{seed}")
    kinds = [kind for kind in HIGHEST_RATES if chance.random() < 0.7]
    rates = {kind: HIGHEST_RATES[kind] * chance.uniform(0.2, 1) for kind in kinds}
    arguments = {
        "429": 1.0,
        "418": 1.0,
        "slow": chance.uniform(0.05, 0.5),
        "shutdown": 100.0,
        "reordered": 8.0,
    }
    return Plan(
        seed,
        tape,
        trades,
        trades_per_second=trades / chance.uniform(2.5, 4.5),
        rates=rates,
        arguments={kind: number for kind, number in arguments.items() if kind in rates},
        kills=_kills(chance, chance.choice((0, 1, 1, 1, 2, 2))),
        refresh_seconds=chance.choice((0, 0, 0, 1.5)),
    )


def undisturbed(of: Plan) -> Plan:
    """Return the plan over the same tape in which nothing happens."""
    return Plan(of.seed, of.tape, of.trades, of.trades_per_second, {}, {}, (), 0)


@cache
def reel(tape: int, trades: int) -> Reel:
    """Return tape number *tape* with about *trades* trades of two to four venues, around midnight."""
    chance = Random(f"tape/{tape}")
    venues = chance.sample(sorted(SYMBOLS), chance.choice((2, 3, 4)))
    instruments = {
        venue: SYMBOLS[venue][: chance.randint(1, len(SYMBOLS[venue]))] for venue in sorted(venues)
    }
    rate = chance.choice((5.0, 20.0, 60.0))
    until_midnight = trades / rate * chance.uniform(0.3, 0.8)
    made = generate(
        trades,
        seed=tape,
        instruments=instruments,
        starts_at=datetime.fromtimestamp(int(MIDNIGHT.timestamp() - until_midnight), UTC),
        trades_per_second=rate,
        absent=chance.choice((0.0, 0.002, 0.002 if "kraken" in venues else 0.02)),
    )
    share = chance.choice((0.0, 0.0005, 0.002))
    calm = {venue: _calm(made.of(venue)) for venue in made.venues}
    gone = {
        (track.venue, track.symbol): _gone(track, calm[track.venue], share, chance) for track in made.tracks
    }
    return Reel(made, {key: ids for key, ids in gone.items() if ids}, calm)


def _calm(tracks: Sequence[Track]) -> int:
    """Return how many trades of a venue are published until each instrument had one after `BEFORE`."""
    order = sorted((moment, number) for number, track in enumerate(tracks) for moment in track.moments_ns)
    numbers = [number for _, number in order]
    return 1 + max(numbers.index(number, BEFORE) for number in range(len(tracks)))


def _gone(track: Track, calm: int, share: float, chance: Random) -> frozenset[int]:
    """
    Draw stretches of ids of a track that nobody can have, away from both of its ends.

    They are all trades of their instants: a venue that answers by time cannot be asked for what
    comes after one of several trades of one instant.
    """
    rows = range(calm, len(track) - EDGE)
    times = track.rows.column("traded_at_us").to_pylist()
    struck = {times[row] for row in rows if chance.random() < share}
    return frozenset(track.ids[row] for row in rows if times[row] in struck)


def _kills(chance: Random, count: int) -> list[Kill]:
    """Draw *count* moments to kill at, while it starts, streams or heals, each with a time to come back."""
    at, kills = 0.1, []
    for _ in range(count):
        at = min(1.0, at + chance.uniform(0.0, 0.6))
        back_at = at if chance.random() < 0.6 else min(1.0, at + chance.uniform(0.0, 0.3))
        kills.append(Kill(at, chance.uniform(0, 1.5 if at == 1.0 or chance.random() < 0.3 else 0.4), back_at))
        at = back_at
    return kills
