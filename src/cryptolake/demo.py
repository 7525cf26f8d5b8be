"""The whole lake offline: the daily run against recorded data, in a home of its own."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptolake.clock import Clock
from cryptolake.wiring import open_lake, open_run

if TYPE_CHECKING:
    from cryptolake.config import Settings
    from cryptolake.pipeline import Outcome
    from cryptolake.replay.server import ReplayServer
    from cryptolake.serving.status import Status

FOLDER = "demo"
SPARKLINE_DAYS = 30
UNLIMITED = 60_000
"""Requests a minute: the replay server is ours."""
KIB = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Coin:
    """The newest gold row of a coin, with its last prices, oldest first."""

    coin_id: str
    price_date: datetime
    price_usd: float
    price_change_pct_1d: float | None
    volatility_30d: float | None
    drawdown_pct: float
    ma30_signal: str | None
    prices: Sequence[float]


@dataclass(frozen=True)
class Played:
    """What the demo built: *seconds* since it began, *peak_bytes* the most memory of this process."""

    home: Path
    as_of: datetime
    recording: str
    status: Status
    outcomes: Sequence[Outcome]
    coins: Sequence[Coin]
    sentiment: tuple[datetime, int, str] | None
    seconds: float
    peak_bytes: int

    @property
    def exit_status(self) -> int:
        """Return 1 where something failed or is missing."""
        return int(any(o.problems for o in self.outcomes))


def play(
    settings: Settings,
    recordings: Path | None,
    on_outcome: Callable[[Outcome], None],
    on_progress: Callable[[int, int, int], None],
) -> Played:
    """
    Run the daily run against a replay server, into `demo` under the home, and look at what it built.

    The clock stands at the recording's end. Nothing but that folder is touched.
    """
    from cryptolake.ingest.landing import Span
    from cryptolake.pipeline import STEPS, follow
    from cryptolake.serving.status import status

    began = Clock().monotonic()
    with open_replay(recordings) as server:
        ours = demo_settings(settings, server)
        clock = Clock.fixed(server.as_of)
        with open_lake(ours, clock) as lake:
            outcomes = []
            for outcome in follow(STEPS, open_run(ours, clock, lake, Span(), on_progress)):
                outcomes.append(outcome)
                on_outcome(outcome)
            state = status(lake)
            with lake.reader() as reader:
                coins = [Coin(*row) for row in reader.rows(NEWEST_COINS)]
                sentiment = reader.rows(
                    "select * exclude (_processed_at) from silver.fear_greed order by index_date desc limit 1"
                )
        name = server.recordings.name
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    return Played(
        ours.home,
        clock.now(),
        name,
        state,
        outcomes,
        coins,
        sentiment[0] if sentiment else None,  # type: ignore[arg-type]
        Clock().monotonic() - began,
        peak,
    )


NEWEST_COINS = f"""
    select coin_id, max(price_date) as price_date,
        arg_max(price_usd, price_date), arg_max(price_change_pct_1d, price_date), arg_max(volatility_30d, price_date),
        arg_max(drawdown_pct, price_date), arg_max(ma30_signal, price_date),
        list(price_usd order by price_date) filter (where price_date > last_date - {SPARKLINE_DAYS})
    from (select *, max(price_date) over (partition by coin_id) as last_date from gold.fact_market_daily)
    group by coin_id
    order by max(market_cap_usd) filter (where price_date > last_date - 7) desc nulls last, coin_id
"""


def demo_settings(settings: Settings, server: ReplayServer) -> Settings:
    """Return *settings* for a lake under `<home>/demo` that asks *server* for all the coins it has."""
    from cryptolake.config import Settings

    return Settings(
        home=settings.home / FOLDER,
        coins=tuple(server.recordings.coins),
        sources={
            "coingecko": {"base_url": server.coingecko_url, "requests_per_minute": UNLIMITED},
            "alternative_me": {"base_url": server.alternative_me_url, "requests_per_minute": UNLIMITED},
        },
        ingest=settings.ingest,
    )


def open_replay(
    recordings: Path | None = None,
    as_of: datetime | None = None,
    port: int = 0,
    history_days: int | None = None,
    requests_per_minute: int | None = None,
) -> ReplayServer:
    """Start a replay of the bundled *recordings*, or of a folder of them; see `ReplayServer`."""
    from cryptolake.replay.recordings import Recordings
    from cryptolake.replay.server import ReplayServer

    return ReplayServer.open(
        Recordings.read(recordings) if recordings else Recordings.bundled(),
        as_of=as_of,
        history_days=history_days,
        requests_per_minute=requests_per_minute,
        port=port,
    )


def replay_variables(server: ReplayServer) -> dict[str, str]:
    """Return the environment variables that point CryptoLake to *server*."""
    return {
        "CRYPTOLAKE_SOURCES__COINGECKO__BASE_URL": server.coingecko_url,
        "CRYPTOLAKE_SOURCES__COINGECKO__REQUESTS_PER_MINUTE": str(UNLIMITED),
        "CRYPTOLAKE_SOURCES__ALTERNATIVE_ME__BASE_URL": server.alternative_me_url,
        "CRYPTOLAKE_COINS": ",".join(server.recordings.coins),
    }
