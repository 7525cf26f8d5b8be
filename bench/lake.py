"""
Measure the lake: rows a second of append and merge, and the latency of small commits as they add up.

    python bench/lake.py [--quick]

Prints JSON. Throughputs are the best of three runs; latencies are percentiles.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import machine
import pyarrow as pa
import pyiceberg.table.snapshots
import structlog

from cryptolake.clock import Clock
from cryptolake.contracts import Contract, Retention, load_contracts
from cryptolake.lake import Committed, Lake
from cryptolake.lake.catalog import local_catalog

APPENDED, MERGED = "bronze.historical_prices", "silver.daily_prices"
STREAMED, NEW = "bronze.streamed_prices", "bronze.new_prices"
FIRST_DAY = date(2016, 1, 1)
COINS = 350

T = TypeVar("T")


def main() -> None:
    """Run every measurement and print them as one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the rows and of the commits")
    scale = 10 if arguments.parse_args().quick else 1
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    figures = {
        "machine": machine.describe(),
        "append": append(1_000_000 // scale),
        "merge": [merge(1_000_000 // scale, changed // scale) for changed in (14_000, 100_000)],
        "commit_latency": commit_latency(1_000 // scale, rows=500),
    }
    print(json.dumps(figures, indent=2))


def append(rows: int, runs: int = 3) -> dict[str, Any]:
    """Append *rows* price observations in one commit."""
    observations = bronze_rows(rows)
    best = min(
        _fresh(APPENDED, lambda lake: _timed(lambda: lake.append(APPENDED, observations)))
        for _ in range(runs)
    )
    return {"rows": rows, "seconds": round(best, 3), "rows_per_second": round(rows / best)}


def merge(rows: int, changed: int, runs: int = 3) -> dict[str, Any]:
    """Merge *changed* restated prices of the newest days into *rows* daily prices, partitioned by year."""

    def measure(lake: Lake) -> tuple[float, Committed]:
        lake.merge(MERGED, silver_rows(0, rows, price=1.0))
        done: list[Committed] = []
        restated = silver_rows(rows - changed, rows, price=2.0)
        seconds = _timed(lambda: done.append(lake.merge(MERGED, restated)))
        return seconds, done[0]

    best, done = min((_fresh(MERGED, measure) for _ in range(runs)), key=lambda measured: measured[0])
    assert done.rows_replaced == changed
    return {
        "rows": changed,
        "into_rows": rows,
        "files_rewritten": done.files_rewritten,
        "seconds": round(best, 3),
        "rows_per_second": round(changed / best),
    }


def commit_latency(commits: int, rows: int, window: int = 20) -> dict[str, Any]:
    """
    Append *rows* rows at a time to a streamed table, and compare commits about the 10th with the last.

    Iceberg is told that 5 seconds pass between commits, as they do in a stream, so that the table keeps
    as many snapshots as it would then. The commits compared take turns, on a table that is new and on
    one that has had all the commits before, so that other work on the machine disturbs both alike.
    Beside the time on the wall stands the processor's.
    """
    now = itertools.count(time.time(), 5)
    pyiceberg.table.snapshots.time = SimpleNamespace(time=lambda: next(now))

    def measure(lake: Lake) -> dict[str, Any]:
        batch = bronze_rows(rows)
        lake.ensure(NEW)
        to_old, to_new = (partial(lake.append, name, batch) for name in (STREAMED, NEW))
        before = [_timed(to_old) for _ in range(commits - window // 2)]
        turns = [(_timed_twice(to_new), _timed_twice(to_old)) for _ in range(window)]
        ends = {
            kind: [1_000 * statistics.median(turn[table][n] for turn in turns) for table in range(2)]
            for n, kind in enumerate(("p50_ms", "cpu_p50_ms"))
        }
        return {
            "commits": commits,
            "rows_per_commit": rows,
            **{f"{kind}_at_commit_{window // 2}": round(new, 1) for kind, (new, _) in ends.items()},
            **{f"{kind}_at_commit_{commits}": round(old, 1) for kind, (_, old) in ends.items()},
            **{f"{kind}_ratio": round(old / new, 2) for kind, (new, old) in ends.items()},
            "p99_ms_on_the_way": round(1_000 * statistics.quantiles(before, n=100)[98], 1),
            "snapshots_kept": len(lake.table(STREAMED).snapshots()),
        }

    return _fresh(STREAMED, measure)


def bronze_rows(count: int) -> pa.Table:
    """Return *count* price observations as CoinGecko delivers them."""
    day_ms = 86_400_000
    prices = pa.array([1e-3 * (1 + abs(math.sin(n))) for n in range(count)], pa.float64())
    return pa.table(
        {
            "coin_id": [f"coin-{n % COINS}" for n in range(count)],
            "timestamp_ms": pa.array(
                [1_451_606_400_000 + n // COINS * day_ms for n in range(count)], pa.int64()
            ),
            "price_usd": prices,
            "market_cap_usd": prices,
            "volume_24h_usd": prices,
        }
    )


def silver_rows(start: int, end: int, *, price: float) -> pa.Table:
    """Return daily prices *start* to *end*, all coins of a day after one another."""
    days = [FIRST_DAY + timedelta(days=n // COINS) for n in range(start, end)]
    return pa.table(
        {
            "coin_id": [f"coin-{n % COINS}" for n in range(start, end)],
            "price_date": pa.array(days, pa.date32()),
            "price_usd": pa.repeat(price, end - start),
            "market_cap_usd": pa.array([float(n) for n in range(start, end)]),
        }
    )


def contracts() -> dict[str, Contract]:
    """Return the tables measured; the streamed ones are kept as trades are."""
    bundled = load_contracts()
    kept = Retention(timedelta(hours=1), timedelta(minutes=5), daily_tags=7)
    streamed = [replace(bundled[APPENDED], name=name, retention=kept) for name in (STREAMED, NEW)]
    return {c.name: c for c in (bundled[APPENDED], bundled[MERGED], *streamed)}


def _fresh(name: str, measure: Callable[[Lake], T]) -> T:
    """Return what *measure* finds in a new lake with the table *name*."""
    clock = Clock.fixed(datetime(2024, 6, 1, tzinfo=UTC))
    with (
        tempfile.TemporaryDirectory() as home,
        Lake.open(local_catalog(Path(home)), contracts(), clock) as lake,
    ):
        lake.ensure(name)
        return measure(lake)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _timed_twice(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that *work* took on the wall and of the processor."""
    began = time.process_time()
    wall = _timed(work)
    return wall, time.process_time() - began


if __name__ == "__main__":
    main()
