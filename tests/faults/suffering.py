"""One schedule from its beginning to its end: the venues, the capture, the kills, and what is then in the lake."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake, Reader
from cryptolake.lake.catalog import local_catalog
from cryptolake.replay.venues.server import VenueServer
from cryptolake.transform.run import Transform
from tests.faults import plans
from tests.faults.capturing import Capturing, LateError
from tests.faults.judging import COMPARED, Key, Landed, Truth, is_whole, landed
from tests.faults.plans import Kill, Plan, Reel

TRADES, GAPS = "bronze.realtime_trades", "bronze.trade_gaps"
READY_SECONDS, WHOLE_SECONDS = 60.0, 150.0
MODELS = ("+fact_ohlcv", "+coverage_daily", "dim_instruments")
PACE = {
    "CRYPTOLAKE_CAPTURE__COMMIT_SECONDS": "0.5",
    "CRYPTOLAKE_CAPTURE__AUDIT_SECONDS": "3",
    "CRYPTOLAKE_CAPTURE__STALL_SECONDS": "0.6",
}


@dataclass
class Suffered:
    """What came of a schedule: bronze by instrument, the *truth*, all refined *tables*, and what was done to it."""

    bronze: dict[Key, Landed]
    truth: dict[Key, Truth]
    tables: dict[str, pa.Table]
    trades: int
    kills: int
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def silver_ids(self) -> dict[Key, list[int]]:
        """Return the ids in `silver.trades` by instrument, as often as they are there."""
        nothing = self.tables["silver.trade_gaps"].slice(0, 0)
        return {key: of.ids for key, of in landed(self.tables["silver.trades"], nothing).items()}


def suffer(plan: Plan, home: Path, transform: Transform) -> Suffered:
    """Publish, spoil, kill and start again as *plan* says, in *home*; stop when all that can be had has landed."""
    began, reel = time.monotonic(), plans.reel(plan.tape, plan.trades)
    faults = plans.Counted(plan)
    with VenueServer.open(
        reel.tape,
        venues=reel.tape.venues,
        trades_per_second=plan.trades_per_second,
        faults=faults,
        unavailable=reel.gone,
        waits_for=None,
    ) as server:
        server.publish(plans.BEFORE)
        variables = PACE | {"CRYPTOLAKE_CAPTURE__REFRESH_SECONDS": str(plan.refresh_seconds)}
        capturing = Capturing(home, server.settings() | variables, reel.instruments)
        try:
            capturing.start()
            starts = _begin(reel, server, capturing, home)
            for kill in plan.kills:
                _kill(kill, server, capturing, len(reel.tape))
            capturing.until(server.finished.is_set, "everything is published", READY_SECONDS)
            truth = truth_of(server, starts)
            _until_whole(truth, capturing, home)
            capturing.stop()
        finally:
            capturing.close()
        bronze = bronze_of(home)
    tables = refined(home, transform)
    return Suffered(
        bronze, truth, tables, len(reel.tape), len(plan.kills), faults.counts, time.monotonic() - began
    )


def _begin(reel: Reel, server: VenueServer, capturing: Capturing, home: Path) -> dict[Key, int]:
    """Publish a little once all connections stand, and go on when it has landed; return the lowest id of each instrument."""
    tracks = server.tape.tracks
    capturing.until(
        lambda: server.connections() >= 2 * len(server.venues), "all connections stand", READY_SECONDS
    )
    for venue, calm in reel.calm.items():
        server.publish(calm - plans.BEFORE, venue)
    newest = {(t.venue, t.symbol): server.published(t.venue, t.symbol)[-1].trade_id for t in tracks}

    def has_begun() -> bool:
        if not capturing.landed.is_set():
            return False
        capturing.landed.clear()
        found = bronze_of(home)
        return all(key in found and newest[key] in found[key].ids for key in newest)

    capturing.until(has_begun, "the first trades have landed", READY_SECONDS)
    server.start()
    return {key: min(of.ids) for key, of in bronze_of(home).items()}


def _kill(kill: Kill, server: VenueServer, capturing: Capturing, trades: int) -> None:
    """Kill the capture when it is time, and start it again when that is."""
    capturing.until(
        lambda: server.published_count() >= kill.at * trades, "trades are published", READY_SECONDS
    )
    due_at = time.monotonic() + kill.delay_seconds
    capturing.until(lambda: time.monotonic() >= due_at, "the delay is over", READY_SECONDS)
    capturing.kill()
    while server.published_count() < kill.back_at * trades and not server.finished.wait(0.01):
        pass
    capturing.start()


def truth_of(server: VenueServer, starts: Mapping[Key, int]) -> dict[Key, Truth]:
    """Return what is true of every instrument, now that all is published."""
    return {
        (track.venue, track.symbol): Truth(
            track.ids,
            frozenset(server.unavailable.get((track.venue, track.symbol), ())),
            starts[track.venue, track.symbol],
            track.ids[-1],
        )
        for track in server.tape.tracks
    }


def _until_whole(truth: Mapping[Key, Truth], capturing: Capturing, home: Path) -> None:
    """Wait until all that can be had has landed, and all else is said to be missing; whatever is wrong is found later."""
    wanted = sum(len(of.available) for of in truth.values())
    with open_lake(home) as lake, lake.reader(only=[TRADES, GAPS]) as reader:

        def has_all() -> bool:
            if not capturing.landed.is_set():
                return False
            capturing.landed.clear()
            reader.refresh()
            if reader.rows(f"select count(*) from {TRADES}")[0][0] < wanted:
                return False
            found = _bronze(reader)
            return all(key in found and is_whole(found[key], of) for key, of in truth.items())

        capturing.landed.set()
        with suppress(LateError):
            capturing.until(has_all, "all that can be had has landed", WHOLE_SECONDS)


def bronze_of(home: Path) -> dict[Key, Landed]:
    """Return what bronze has, by instrument."""
    with open_lake(home) as lake, lake.reader(only=[TRADES, GAPS]) as reader:
        return _bronze(reader)


def _bronze(reader: Reader) -> dict[Key, Landed]:
    return landed(
        reader.table(f"select venue, symbol, trade_id from {TRADES}"),
        reader.table(f"select venue, symbol, first_id, last_id, event from {GAPS}"),
    )


def refined(home: Path, transform: Transform) -> dict[str, pa.Table]:
    """Bring silver and gold up to date, and return them."""
    with open_lake(home) as lake:
        transform.run(lake, now=lake.clock.now(), select=MODELS)
        with lake.reader() as reader:
            names = [name for name in (*COMPARED, "silver.trade_gaps") if name in reader.names]
            return {name: reader.table(f"select * from {name}") for name in names}


def open_lake(home: Path) -> Lake:
    """Open the lake of a capture."""
    return Lake.open(local_catalog(home), load_contracts(), Clock())
