"""The whole lake offline: recorded trades and the daily run against recorded data, in a home of its own."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from cryptolake.clock import Clock
from cryptolake.wiring import (
    TRADES,
    instruments_of,
    open_capture,
    open_existing_lake,
    open_lake,
    open_run,
)

if TYPE_CHECKING:
    from cryptolake.capture.snapshot import Snapshot
    from cryptolake.config import Settings
    from cryptolake.pipeline import Outcome
    from cryptolake.replay.server import ReplayServer
    from cryptolake.replay.venues.server import VenueServer
    from cryptolake.replay.venues.tape import Tape
    from cryptolake.serving.coverage import InstrumentCoverage
    from cryptolake.serving.status import Status

FOLDER = "demo"
MISHAPS = "lost:0.003,disconnect:0.0001,shutdown:0.0001,seed:1"
"""What goes wrong while the demo streams; twins have mishaps of their own."""
TWINS = 2
LONGEST_STREAM_SECONDS, LOOK_SECONDS, AUDIT_SECONDS = 20.0, 0.05, 1.0
SHOWN_BARS = 3
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
class Bar:
    """A bar of one minute of trades."""

    venue: str
    symbol: str
    bar_start_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trade_count: int
    is_complete: bool | None


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
    bars: Sequence[Bar]
    coverage: Sequence[InstrumentCoverage]
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
    from cryptolake.serving.coverage import Days, coverage
    from cryptolake.serving.status import status

    began = Clock().monotonic()
    with open_replay(recordings) as server, open_venues(waits_for=TWINS) as venues:
        ours = demo_settings(settings, server, venues)
        clock = Clock.fixed(server.as_of)
        outcomes = []
        for outcome in _outcomes(ours, clock, venues, on_progress):
            outcomes.append(outcome)
            on_outcome(outcome)
        with open_lake(ours, clock) as lake, lake.reader() as reader:
            return Played(
                home=ours.home,
                as_of=clock.now(),
                recording=server.recordings.name,
                status=status(lake),
                outcomes=outcomes,
                coins=[Coin(*row) for row in reader.rows(NEWEST_COINS)],  # type: ignore[arg-type]
                sentiment=next(iter(reader.rows(NEWEST_SENTIMENT)), None),  # type: ignore[arg-type]
                bars=[Bar(*row) for row in reader.rows(NEWEST_BARS)],  # type: ignore[arg-type]
                coverage=coverage(reader, None, Days(), Clock().now()),
                seconds=Clock().monotonic() - began,
                peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB,
            )


def _outcomes(
    ours: Settings, clock: Clock, venues: VenueServer, on_progress: Callable[[int, int, int], None]
) -> Iterator[Outcome]:
    """Do the daily run, and beside its first steps stream the recorded trades; yield what each part did."""
    from cryptolake.ingest.landing import Span
    from cryptolake.pipeline import INGEST, STEPS, Outcome, follow

    with open_lake(ours, clock) as lake, ThreadPoolExecutor(1, "demo-stream") as beside:
        stop = Event()
        streaming = beside.submit(_stream, ours, venues, stop)
        try:
            for outcome in follow(STEPS, open_run(ours, clock, lake, Span(), on_progress)):
                yield outcome
                if outcome.step == INGEST[-1].name:
                    yield Outcome("stream", streaming.result())
        finally:
            stop.set()


def _stream(ours: Settings, venues: VenueServer, stop: Event) -> Snapshot:
    """
    Capture all that *venues* publish, as fast as they can, until nothing is missing or *stop* is set.

    By the real clock: these trades are received now, whenever they were made.
    """
    clock = Clock()
    with open_lake(ours, clock) as lake, open_capture(ours, clock, lake, instruments_of(ours)) as capture:

        def end_when_complete() -> None:
            newest = {track.symbol: track.ids[-1] for track in venues.tape.tracks}
            while not stop.wait(LOOK_SECONDS):
                if not venues.finished.is_set():
                    continue
                seen = [pace.stats for pace in capture.snapshot().instruments]
                if all(s.mark == newest[s.instrument.symbol] and not s.open_ids for s in seen):
                    stop.set()

        watcher = Thread(target=end_when_complete, name="demo-end", daemon=True)
        watcher.start()
        last = capture.run(stop, LONGEST_STREAM_SECONDS)
        stop.set()
        watcher.join()
    return last


NEWEST_SENTIMENT = "select * exclude (_processed_at) from silver.fear_greed order by index_date desc limit 1"
NEWEST_BARS = f"""
    select venue, symbol, bar_start_at, open, high, low, close, volume, trade_count, is_complete
    from gold.fact_ohlcv where interval = '1m'
    qualify row_number() over (partition by venue, symbol order by bar_start_at desc) <= {SHOWN_BARS}
    order by venue, symbol, bar_start_at
"""
NEWEST_COINS = f"""
    select coin_id, max(price_date) as price_date,
        arg_max(price_usd, price_date), arg_max(price_change_pct_1d, price_date), arg_max(volatility_30d, price_date),
        arg_max(drawdown_pct, price_date), arg_max(ma30_signal, price_date),
        list(price_usd order by price_date) filter (where price_date > last_date - {SPARKLINE_DAYS})
    from (select *, max(price_date) over (partition by coin_id) as last_date from gold.fact_market_daily)
    group by coin_id
    order by max(market_cap_usd) filter (where price_date > last_date - 7) desc nulls last, coin_id
"""


def demo_settings(settings: Settings, server: ReplayServer, venues: VenueServer) -> Settings:
    """Return *settings* for a lake under `<home>/demo` that asks *server* for all the coins it has, and *venues* for trades."""
    from cryptolake.config import Settings

    return Settings(
        home=settings.home / FOLDER,
        coins=tuple(server.recordings.coins),
        sources={
            "coingecko": {"base_url": server.coingecko_url, "requests_per_minute": UNLIMITED},
            "alternative_me": {"base_url": server.alternative_me_url, "requests_per_minute": UNLIMITED},
            **{venue: _places(venues, venue) for venue in venues.venues},
        },
        ingest=settings.ingest,
        capture={
            "instruments": instruments_on(venues.tape),
            "refresh_seconds": 0,  # the run refines them
            "audit_seconds": AUDIT_SECONDS,
        },
    )


def _places(venues: VenueServer, venue: str) -> dict[str, object]:
    places: dict[str, object] = {
        "websocket_url": venues.websocket_url(venue),
        "rest_url": venues.rest_url(venue),
    }
    return {**places, "archive_url": venues.archive_url} if venue == "binance" else places


def instruments_on(tape: Tape) -> tuple[str, ...]:
    """Return the instruments that *tape* has trades of, as the settings name them."""
    return tuple(f"{track.venue}:{track.symbol}" for track in tape.tracks)


def open_venues(
    tape: Tape | None = None,
    *,
    speed: float = math.inf,
    faults: str = MISHAPS,
    waits_for: int = 1,
    port: int = 0,
) -> VenueServer:
    """Start a replay of the bundled trades, or of a *tape*, as their venues speak; see `VenueServer`."""
    from cryptolake.replay.venues.server import VenueServer
    from cryptolake.replay.venues.tape import Tape

    return VenueServer.open(
        tape or Tape.recorded(), speed=speed, faults=faults, waits_for=waits_for, port=port
    )


def lake_tape(
    settings: Settings, instruments: Sequence[str], first: date | None = None, last: date | None = None
) -> Tape:
    """
    Return the trades of *instruments* (`venue:SYMBOL`) in the lake on the days from *first* to *last*, inclusive.

    Raises:
        LakeError: there is no lake.
        OperatorError: it has no such trades.
    """
    from cryptolake.replay.venues.tape import Tape

    conditions = [f"({' or '.join('(venue = ? and symbol = ?)' for _ in instruments)})"]
    values: list[object] = [part for name in instruments for part in name.split(":", 1)]
    for bound, day in ((">= ?", first), ("< ?::date + 1", last)):
        if day is not None:
            conditions.append(f"traded_at {bound}")
            values.append(day)
    columns = "venue, symbol, trade_id, price, quantity, is_buyer_maker, traded_at, event_at"
    sql = f"select {columns} from {TRADES} where {' and '.join(conditions)}"
    with open_existing_lake(settings, Clock()) as lake, lake.reader() as reader:
        return Tape.from_rows(reader.table(sql, values), f"the lake at {settings.home}")


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


def venue_variables(venues: VenueServer) -> dict[str, str]:
    """Return the environment variables that let CryptoLake capture what *venues* play."""
    return {
        **venues.settings(),
        "CRYPTOLAKE_CAPTURE__INSTRUMENTS": ",".join(instruments_on(venues.tape)),
    }
