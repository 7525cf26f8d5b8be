"""
How fast trades become bars: the model `bars_1m` over silver.trades, merge into Iceberg included, and pandas beside it.

    python bench/bars.py [--quick]

The trades are generated (seeded; 4 instruments, ids without holes, prices and quantities as exact decimals); they
stand for no real market. pandas resamples the same trades as floats, from the same files, and writes the bars to
Parquet; it is no dependency: without it (`uv run --with pandas`) the figure is missing, and said to be. Both use one
thread, and whichever runs first alternates. Prints JSON; figures are the best of the runs, per second of the
processor and of the wall.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the command line does

import machine
import pyarrow as pa
import structlog

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.transform.run import Transform

TRADES, BARS, RANGES = "silver.trades", "silver.bars_1m", "silver.held_ranges"
RAW = "bronze.realtime_trades"
NOW = datetime(2024, 8, 9, tzinfo=UTC)
ROWS, FILES = 16_000_000, 8
RUNS = 3
MINUTE_US = 60_000_000

GENERATED = """
    select
        'binance' as venue,
        case i % 4 when 0 then 'BTCUSDT' when 1 then 'ETHUSDT' when 2 then 'SOLUSDT' else 'LINKUSDT' end as symbol,
        (i // 4)::bigint as trade_id,
        cast(60000 + (hash(i // 7) % 1000) / 100.0 as decimal(28, 12)) as price,
        cast((hash(i) % 100000 + 1) / 100000.0 as decimal(28, 12)) as quantity,
        hash(i * 3) % 2 = 0 as is_buyer_maker,
        make_timestamptz((1723075200000000 + i * (86400000000 / {rows}))::bigint) as traded_at,
        make_timestamptz((1723075200000000 + i * (86400000000 / {rows}) + hash(i) % 50000)::bigint) as received_at,
        'websocket' as received_via,
        date '2024-08-08' as traded_date
    from range({start}, {end}) as numbers (i)
"""


def main() -> None:
    """Measure, and print JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a quarter of the trades")
    rows = ROWS // (4 if arguments.parse_args().quick else 1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with (
        tempfile.TemporaryDirectory() as home,
        Lake.open(local_catalog(Path(home)), load_contracts(), Clock.fixed(NOW)) as lake,
    ):
        fill(lake, rows)
        transform = Transform(Path(home) / "dbt")
        transform.run(lake, now=NOW, select=["bars_1m"], full_refresh=True)  # dbt is loaded, files are cached
        ours, theirs = [], []
        for _ in range(RUNS):
            ours.append(timed(lambda: build(lake, transform)))
            if importlib.util.find_spec("pandas"):
                theirs.append(timed(lambda: resample(lake, Path(home) / "resampled.parquet")))
        print(json.dumps(report(rows, ours, theirs), indent=2))


def fill(lake: Lake, rows: int) -> None:
    """Put *rows* trades of a day into silver.trades, and mark the ids as held."""
    import duckdb

    for name in (RAW, TRADES, RANGES):
        lake.ensure(name)
    lake.append(RAW, pa.table({"venue": ["binance"], "symbol": ["BTCUSDT"], "trade_id": [0]}))
    connection = duckdb.connect()
    connection.execute("set global TimeZone = 'UTC'")
    step = rows // FILES
    for start in range(0, rows, step):
        made = connection.sql(GENERATED.format(rows=rows, start=start, end=start + step))
        lake.append(TRADES, made.to_arrow_table())
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "LINKUSDT"]
    ends = {"first_id": pa.array([0] * 4, pa.int64()), "last_id": pa.array([rows // 4 - 1] * 4, pa.int64())}
    lake.merge(RANGES, pa.table({"venue": ["binance"] * 4, "symbol": symbols, **ends}))


def build(lake: Lake, transform: Transform) -> int:
    """Build all bars from all trades; return how many trades they hold."""
    [done] = transform.run(lake, now=NOW, select=["bars_1m"], full_refresh=True)
    return done.rows_added


def resample(lake: Lake, path: Path) -> int:
    """Do the same with pandas in floats: read the trades, group them by instrument and minute, write the bars."""
    import pyarrow.parquet as pq

    columns = ["venue", "symbol", "trade_id", "price", "quantity", "is_buyer_maker", "traded_at"]
    files = [task.file.file_path.removeprefix("file://") for task in lake.table(TRADES).scan().plan_files()]
    table = pa.concat_tables([pq.read_table(f, columns=columns) for f in files], promote_options="permissive")
    for name in ("price", "quantity"):
        as_float = table[name].cast(pa.float64())
        table = table.set_column(table.schema.get_field_index(name), name, as_float)
    for name in ("venue", "symbol"):
        coded = table[name].dictionary_encode()
        table = table.set_column(table.schema.get_field_index(name), name, coded)
    frame: Any = table.to_pandas()
    frame["quote"] = frame["price"] * frame["quantity"]
    frame["taker"] = frame["quantity"].where(~frame["is_buyer_maker"], 0.0)
    frame["taker_quote"] = frame["quote"].where(~frame["is_buyer_maker"], 0.0)
    frame = frame.sort_values(["venue", "symbol", "trade_id"])
    minutes = frame.groupby(
        ["venue", "symbol", frame["traded_at"].dt.floor("min")], observed=True, sort=False
    )
    bars = minutes.agg(
        open=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        close=("price", "last"),
        volume=("quantity", "sum"),
        quote_volume=("quote", "sum"),
        trade_count=("price", "size"),
        taker_buy_volume=("taker", "sum"),
        taker_buy_quote_volume=("taker_quote", "sum"),
        first_trade_id=("trade_id", "first"),
        last_trade_id=("trade_id", "last"),
    ).reset_index()
    bars["vwap"] = bars["quote_volume"] / bars["volume"]
    pq.write_table(pa.Table.from_pandas(bars), path, compression="zstd")
    return len(bars)


def timed(work: Callable[[], int]) -> tuple[float, float, int]:
    """Return the seconds of the wall and of the processor that *work* took, and its result."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return time.perf_counter() - wall, time.process_time() - cpu, made


def report(
    rows: int, ours: list[tuple[float, float, int]], theirs: list[tuple[float, float, int]]
) -> dict[str, Any]:
    """Return the figures of both."""

    def best(runs: list[tuple[float, float, int]]) -> dict[str, Any]:
        wall, cpu = min(w for w, _, _ in runs), min(c for _, c, _ in runs)
        return {
            "bars": runs[0][2],
            "seconds": round(wall, 2),
            "cpu_seconds": round(cpu, 2),
            "trades_per_second": round(rows / wall),
            "trades_per_cpu_second": round(rows / cpu),
        }

    missing = f"pandas is not installed in {sys.prefix}: run with `uv run --with pandas`"
    result: dict[str, Any] = {"machine": machine.describe(), "trades": rows, "bars_1m": best(ours)}
    result["pandas_floats"] = best(theirs) if theirs else missing
    if theirs:
        ratio = result["pandas_floats"]["cpu_seconds"] / result["bars_1m"]["cpu_seconds"]
        result["times_as_fast_as_pandas"] = round(ratio, 2)
    return result


if __name__ == "__main__":
    main()
