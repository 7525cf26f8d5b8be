"""What goes wrong between a replayed venue and us, drawn from a seed: the same seed, the same faults."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptolake.errors import ConfigError
from cryptolake.replay import faults
from cryptolake.replay.faults import Fault
from cryptolake.replay.venues.dialect import Dialect
from cryptolake.replay.venues.tape import Track

ON_STREAMS = ("lost", "duplicated", "reordered", "damaged", "disconnect", "shutdown", "stall")
ON_REQUESTS = ("429", "418", "slow", "500", "reset", "cut-off", "html")
GONE = "gone"
KINDS = (*ON_STREAMS, *ON_REQUESTS, GONE)
"""`gone` trades are lost on every connection, and no answer has them either."""

_DEFAULT_ARGUMENTS = {"429": 1.0, "418": 2.0, "slow": 0.2, "shutdown": 200.0, "reordered": 5.0}


class Happening(NamedTuple):
    """A fault at one trade: its *kind*, and a *draw* from [0, 1) that decides what it looks like."""

    kind: str
    draw: float


@dataclass(frozen=True)
class Schedule:
    """
    Faults by *rates*: of the streams' and `gone` ones the share of trades hit, of the others the share of requests.

    *arguments* are seconds to wait (429, 418, slow), trades until the connection ends (shutdown), or
    trades that a reordered one is late by at the most. Twins have faults of their own; a trade
    has the same faults on every connection to the same host, whenever that connects.
    """

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    arguments: Mapping[str, float] = field(default_factory=dict[str, float])

    def argument(self, kind: str) -> float:
        """Return the argument of a *kind* of fault."""
        return self.arguments.get(kind, _DEFAULT_ARGUMENTS.get(kind, 0.0))

    def on_block(self, venue: str, host: int, block: int, size: int) -> dict[int, list[Happening]]:
        """Return what happens to the trades of a *block* of *size* on connections to a *host*, by place in it."""
        rates = [(kind, self.rates[kind]) for kind in ON_STREAMS if self.rates.get(kind)]
        if not rates:
            return {}
        chance = _chance(self.seed, venue, host, block)
        happenings: dict[int, list[Happening]] = {}
        for kind, rate in rates:
            for place in _places(chance, rate, size):
                happenings.setdefault(place, []).append(Happening(kind, chance.random()))
        return happenings

    def on_request(self, dialect: Dialect, number: int) -> Fault | None:
        """Return what spoils the answer to the *number*th request to a venue, if anything does."""
        chance = _chance(self.seed, dialect.name, "rest", number)
        for kind in ON_REQUESTS:
            if chance.random() < self.rates.get(kind, 0.0):
                return self._request_fault(kind, dialect)
        return None

    def gone(self, track: Track) -> list[int]:
        """Return the rows of *track* that nobody can have; never the first."""
        chance = _chance(self.seed, track.venue, track.symbol, GONE)
        return [row for row in _places(chance, self.rates.get(GONE, 0.0), len(track)) if row]

    def _request_fault(self, kind: str, dialect: Dialect) -> Fault:
        seconds = self.argument(kind)
        if kind in ("429", "418"):
            return Fault(dialect.refusal(int(kind), seconds))
        if kind == "slow":
            return faults.slow(seconds)
        return {
            "500": faults.server_error,
            "reset": faults.reset,
            "cut-off": faults.cut_off,
            "html": faults.html,
        }[kind]()


def parse_schedule(script: str, seed: int = 0) -> Schedule:
    """
    Return the schedule that *script* names: `KIND:RATE` or `KIND:RATE:ARGUMENT`, separated by commas; `seed:N` too.

    Raises:
        ConfigError: a kind is unknown or comes twice, or a number is none or out of its range.

    >>> parse_schedule("lost:0.001,slow:0.1:0.5,seed:7").argument("slow")
    0.5

    """
    rates: dict[str, float] = {}
    arguments: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in script.split(","))):
        kind, _, numbers = part.partition(":")
        rate, _, argument = numbers.partition(":")
        if kind == "seed":
            seed = _seed(part, numbers)
            continue
        if kind not in KINDS:
            raise ConfigError(
                f"there is no fault {part!r}: write KIND:RATE or KIND:RATE:ARGUMENT with a rate from 0 to 1, "
                f"separated by commas; kinds are {', '.join(KINDS)}, and seed:NUMBER"
            )
        if kind in rates:
            raise ConfigError(f"the fault {kind} comes twice ({part!r}); give it one rate")
        rates[kind] = _rate(kind, rate)
        if argument:
            arguments[kind] = _argument(kind, argument)
    return Schedule(seed, rates, arguments)


def _seed(part: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as wrong:
        raise ConfigError(f"the seed must be a whole number, as in seed:7, not {part!r}") from wrong


def _rate(kind: str, text: str) -> float:
    rate = _number(text)
    if not 0 <= rate <= 1:
        raise ConfigError(
            f"the rate of {kind} must be from 0 to 1, not {text or 'nothing'}; write {kind}:0.001"
        )
    return rate


def _argument(kind: str, text: str) -> float:
    if kind not in _DEFAULT_ARGUMENTS:
        raise ConfigError(f"{kind} takes no argument, not {text}; write {kind}:RATE")
    argument = _number(text)
    if not 0 <= argument < math.inf:
        raise ConfigError(f"the argument of {kind} must be a number from 0 on, not {text}")
    return argument


def _number(text: str) -> float:
    """Read a number; what is none becomes one that no range has."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def damaged(frame: bytes, draw: float) -> bytes:
    """Return *frame* so that nobody can take it for whole: cut short, or with a byte that no JSON has."""
    place = 1 + int(draw * 1000) % max(len(frame) - 1, 1)
    if draw < 0.5:  # noqa: PLR2004  # half of them
        return frame[:place]
    return frame[:place] + b"\x00" + frame[place + 1 :]


def _chance(*names: object) -> random.Random:
    return random.Random("/".join(map(str, names)))  # noqa: S311  # repeatable on purpose


def _places(chance: random.Random, rate: float, size: int) -> list[int]:
    """Return the places from 0 to *size* (excluded) that are hit, each with probability *rate*."""
    if rate <= 0:
        return []
    if rate >= 1:
        return list(range(size))
    place = -1
    places: list[int] = []
    while (place := place + 1 + int(chance.expovariate(-math.log1p(-rate)))) < size:
        places.append(place)
    return places
