"""Small made-up recordings, and lakes that ingest them from a replay server at a time that stands still."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.ingest import Ingested, ingest_fear_greed, ingest_prices
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.replay.answers import Request
from cryptolake.replay.recordings import Recordings, Series
from cryptolake.replay.server import ReplayServer
from cryptolake.sources.alternative_me.client import AlternativeMe
from cryptolake.sources.coingecko.client import CoinGecko
from cryptolake.sources.records import IndexValue
from tests.histories import sentiment_class

DAY_MS = 86_400_000
NOON = datetime(2024, 3, 16, 12, tzinfo=UTC)
COINS = ("bitcoin", "ethereum", "solana")
KNOWN_DAYS, DAYS_TO_COME = 120, 30
POINTS = KNOWN_DAYS + 1
"""What an answer at `NOON` has of a coin: a point a day, and the intraday one."""


def milliseconds(moment: datetime) -> int:
    """Return *moment* as unix milliseconds."""
    return int(moment.timestamp()) * 1000


def midnights(days: int, until: datetime = NOON) -> list[int]:
    """Return the last *days* midnights up to *until*, oldest first, in unix milliseconds."""
    last = milliseconds(until) - milliseconds(until) % DAY_MS
    return [last - n * DAY_MS for n in reversed(range(days))]


def series(seed: object, times_ms: Sequence[int]) -> Series:
    """Return a coin's walk over *times_ms*; the same *seed* walks the same way."""
    steps = random.Random(str(seed))
    prices = [100.0]
    for _ in times_ms[1:]:
        prices.append(prices[-1] * (1 + steps.uniform(-0.05, 0.05)))
    return Series(list(times_ms), prices, [p * 1e6 for p in prices], [p * 1e4 for p in prices])


def index_values(times_ms: Sequence[int]) -> list[IndexValue]:
    """Return a value of the index for every one of *times_ms*."""
    values = [20 + ms // DAY_MS * 7 % 60 for ms in times_ms]
    return [IndexValue(v, sentiment_class(v), ms // 1000) for v, ms in zip(values, times_ms, strict=True)]


def recordings(
    coins: Sequence[str] = COINS, days: int = KNOWN_DAYS, days_to_come: int = DAYS_TO_COME
) -> Recordings:
    """Return the *days* days up to `NOON` and some after it, of *coins* and of the index."""
    ends_at = NOON + timedelta(days=days_to_come)
    times = midnights(days + days_to_come, ends_at)
    return Recordings("made-up", ends_at, {coin: series(coin, times) for coin in coins}, index_values(times))


def with_coin(recorded: Recordings, coin: str, points: Series) -> Recordings:
    """Return *recorded* with *points* as the history of *coin*."""
    return replace(recorded, coins={**recorded.coins, coin: points})


def restated(points: Series, timestamp_ms: int, price: float | None) -> Series:
    """Return *points* with another *price* at *timestamp_ms*."""
    prices = [
        price if t == timestamp_ms else p for t, p in zip(points.timestamps_ms, points.prices, strict=True)
    ]
    return replace(points, prices=prices)


@dataclass
class Town:
    """
    A replay server, a lake beside it, and the time at both; nothing in it waits.

    *monotonic* is what the clock measures waiting with; *slept* are the waits it was asked for, in seconds.
    """

    server: ReplayServer
    lake: Lake
    at: datetime
    slept: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    runs: int = 0

    @classmethod
    @contextmanager
    def opened(cls, home: Path, recorded: Recordings | None = None) -> Iterator[Town]:
        """Open a server over *recorded*, and an empty lake under *home*, both at `NOON`."""
        with ReplayServer.open(recorded or recordings(), as_of=NOON) as server:
            here = cls(server, None, NOON)  # type: ignore[arg-type]
            with Lake.open(local_catalog(home), load_contracts(), here.clock) as here.lake:
                yield here

    @property
    def clock(self) -> Clock:
        """Return the clock of this town."""
        return Clock(
            now=lambda: self.at, monotonic=lambda: self.elapsed + sum(self.slept), sleep=self.slept.append
        )

    def go_to(self, at: datetime) -> None:
        """Make it *at*, here and at the vendors."""
        self.at = self.server.as_of = at

    def next_day(self, days: int = 1) -> None:
        """Let *days* days pass."""
        self.go_to(self.at + timedelta(days=days))

    def ingest(self, *coins: str, **options: Any) -> Ingested:
        """Ingest the prices of *coins*, or of all there are."""
        self.runs += 1
        with CoinGecko.open(self.server.coingecko_url, None, None, self.clock, random.Random(1)) as source:
            return ingest_prices(
                self.lake,
                source,
                coins=coins or tuple(self.server.recordings.coins),
                clock=self.clock,
                run_id=f"run-{self.runs}",
                **options,
            )

    def ingest_index(self, **options: Any) -> Ingested:
        """Ingest the index."""
        self.runs += 1
        with AlternativeMe.open(self.server.alternative_me_url, None, self.clock, random.Random(1)) as source:
            return ingest_fear_greed(
                self.lake, source, clock=self.clock, run_id=f"run-{self.runs}", **options
            )

    def asked(self) -> list[tuple[str, Mapping[str, str]]]:
        """Return what the vendors were asked since the last time, as the resource and what is particular about it."""
        requests, self.server.requests[:] = list(self.server.requests), []
        return [
            (_resource(r), {k: v for k, v in r.query.items() if k in {"days", "from", "to", "limit"}})
            for r in requests
        ]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the lake."""
        with self.lake.reader() as reader:
            return reader.rows(sql)


def _resource(request: Request) -> str:
    return request.path.removeprefix("/api/v3/coins/").strip("/")
