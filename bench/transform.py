"""
How long the models and the checks take: 300,000 bronze rows cold and warm, and a day's work on a short and a long history.

The rows are generated (random walks, seeded); they stand for no real prices. Prints JSON.

    python bench/transform.py [--quick]
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the command line does

import machine
import structlog

from cryptolake.clock import Clock
from cryptolake.config import Settings, load_settings
from cryptolake.ingest.landing import Span
from cryptolake.pipeline import INGEST, Run, check_step, follow, transform_step
from cryptolake.replay.recordings import Recordings, Series
from cryptolake.replay.server import ReplayServer
from cryptolake.sources.records import IndexValue
from cryptolake.wiring import open_lake, open_run, open_transform

END = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY_MS = 86_400_000
COINS, YEARS_8, MONTH = 50, 8 * 365, 30
ROWS = 300_000
UNLIMITED = 60_000
CLASSES = ("Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed")


def recording(coins: int, days: int) -> Recordings:
    """Return generated histories of *days* days that end at noon of END's day."""
    rng = random.Random(20260101)
    last = int(END.timestamp()) * 1000 // DAY_MS * DAY_MS
    stamps = [last - DAY_MS * i for i in reversed(range(days))]
    walks = {}
    for i in range(coins):
        price, prices = 100.0, []
        for _ in stamps:
            price *= math.exp(rng.gauss(0, 0.03))
            prices.append(price)
        walks[f"generated-{i:03}"] = Series(
            stamps, prices, [p * 1e7 for p in prices], [p * 1e5 for p in prices]
        )
    index = [
        IndexValue(v, CLASSES[min(v // 20, 4)], ms // 1000) for ms in stamps for v in [rng.randrange(101)]
    ]
    return Recordings("generated", END, walks, index)


class Bench:
    """A lake in a scratch folder, fed by a replay of generated histories."""

    def __init__(self, home: Path, recordings: Recordings, first_day: datetime) -> None:
        self.server = ReplayServer.open(recordings, as_of=first_day)
        self.settings: Settings = load_settings(
            home=home,
            coins=",".join(recordings.coins),
            sources={
                "coingecko": {"base_url": self.server.coingecko_url, "requests_per_minute": UNLIMITED},
                "alternative_me": {
                    "base_url": self.server.alternative_me_url,
                    "requests_per_minute": UNLIMITED,
                },
            },
        )
        self.transform = open_transform(self.settings)

    def run(
        self, now: datetime, *steps: Callable[[Run], Any], ingest: bool = True, full_refresh: bool = False
    ) -> float:
        """Do the steps at *now*; return the seconds they took."""
        self.server.as_of = now
        clock = Clock.fixed(now)
        began = time.perf_counter()
        with open_lake(self.settings, clock) as lake:
            this = open_run(self.settings, clock, lake, Span())
            for outcome in follow(INGEST if ingest else (), this):
                assert not outcome.problems, outcome.problems
            for step in steps:
                if step is transform_step:
                    self.transform.run(lake, now=now, full_refresh=full_refresh)
                else:
                    step(this)
        return time.perf_counter() - began


CHECK = check_step("bronze", "silver", "gold")


def one_day(days: int, repeats: int) -> dict[str, float]:
    """Return the seconds that a new day of 50 coins takes on a history of *days* days, in a warm process."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), recording(COINS, days + repeats + 1), END)
        first = END - timedelta(days=repeats + 1)
        bench.run(first, transform_step, CHECK)
        bench.run(first + timedelta(days=1), transform_step, CHECK)
        took = [bench.run(first + timedelta(days=2 + i), transform_step, CHECK) for i in range(repeats)]
        bench.server.close()
    return {"history_days": days, "seconds": round(statistics.median(took), 3), "repeats": repeats}


def cold(home: Path) -> dict[str, float]:
    """Return what a fresh process takes to transform and check what lies in bronze under *home*."""
    code = "import transform, sys; transform.cold_child(sys.argv[1])"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return {"process_seconds": round(time.perf_counter() - began, 2), **json.loads(done.stdout)}


def cold_child(home: str) -> None:
    """Transform and check, and print the seconds without the start of Python."""
    _quiet()
    settings, clock = load_settings(home=home), Clock.fixed(END)
    began = time.perf_counter()
    with open_lake(settings, clock) as lake:
        open_transform(settings).run(lake, now=END)
        CHECK(open_run(settings, clock, lake, Span()))
    print(json.dumps({"seconds": round(time.perf_counter() - began, 2)}))


def three_hundred_thousand(rows: int) -> dict[str, Any]:
    """Return the seconds of transform and check over *rows* bronze rows, cold and warm."""
    days = YEARS_8
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        bench = Bench(home, recording(-(-rows // days), days), END)
        bench.run(END)
        with open_lake(bench.settings, Clock()) as lake, lake.reader() as reader:
            [(stored,)] = reader.rows("select count(*) from bronze.historical_prices")
        fresh = cold(home)
        bench.run(END, transform_step, CHECK, ingest=False)
        unchanged = [bench.run(END, transform_step, CHECK, ingest=False) for _ in range(3)]
        rebuilt = [bench.run(END, transform_step, CHECK, ingest=False, full_refresh=True) for _ in range(3)]
        bench.server.close()
    return {
        "bronze_rows": stored,
        "cold": fresh,
        "warm_nothing_new_seconds": round(statistics.median(unchanged), 2),
        "warm_full_refresh_seconds": round(statistics.median(rebuilt), 2),
    }


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main() -> None:
    """Measure, and print JSON."""
    _quiet()
    quick = "--quick" in sys.argv
    repeats = 3 if quick else 7
    short, long = one_day(MONTH, repeats), one_day(YEARS_8, repeats)
    result = {
        "machine": machine.describe(),
        "transform_and_check": three_hundred_thousand(ROWS // 10 if quick else ROWS),
        "daily_increment": {
            "coins": COINS,
            "short": short,
            "long": long,
            "ratio": round(long["seconds"] / short["seconds"], 2),
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
