"""
A small lake in which nothing is wrong, and copies of it to break.

Three coins and the index over 60 days up to `NOW`; silver and gold are what the oracle makes of bronze. A
copy has a catalog of its own over the same immutable files, so that what one test commits no other sees.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.contracts.schemas import arrow_schema
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.quality import CheckResult, run_checks
from tests.oracle.market import market_tables

NOW = datetime(2024, 3, 16, 9, 30, tzinfo=UTC)
COINS = ("bitcoin", "ethereum", "solana")
DAYS = 60
LAYER_BEFORE = {"bronze": "bronze", "silver": "bronze", "gold": "silver"}
DAY_MS = 86_400_000
TODAY_MS = int(datetime(NOW.year, NOW.month, NOW.day, tzinfo=UTC).timestamp()) * 1000
FAST_STORAGE = {
    "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"
}  # these lakes need not survive a power cut
SHARED_FILES = {"write.metadata.delete-after-commit.enabled": "false"}  # other copies still read them
LINEAGE = {"_ingested_at": NOW, "_run_id": "clean"}

Rows = Sequence[Mapping[str, Any]]


def price_rows() -> list[dict[str, Any]]:
    """Return the rows of bronze.historical_prices: a midnight point a day, and one intraday point at the end."""
    points = [TODAY_MS - n * DAY_MS for n in range(DAYS)] + [TODAY_MS + 9 * 3_600_000]
    return [
        {
            "coin_id": coin,
            "timestamp_ms": ms,
            "price_usd": 10.0 ** (3 - i) * (1 + ms // DAY_MS % 7 / 100),
            "market_cap_usd": 1e9 + i,
            "volume_24h_usd": 1e6 + i,
            "_source": "coingecko",
            **LINEAGE,
        }
        for i, coin in enumerate(COINS)
        for ms in points
    ]


def index_rows() -> list[dict[str, Any]]:
    """Return the rows of bronze.fear_greed: a value a day."""
    return [
        {
            "value": 60 + n % 10,
            "classification": "Greed",
            "timestamp": (TODAY_MS - n * DAY_MS) // 1000,
            "_source": "alternative.me",
            **LINEAGE,
        }
        for n in range(DAYS)
    ]


def arrow(table: str, rows: Rows) -> pa.Table:
    """Return *rows* in the columns of *table*; what they lack is null."""
    return pa.Table.from_pylist([dict(r) for r in rows], schema=arrow_schema(load_contracts()[table]))


def build(home: Path) -> None:
    """Make the clean lake under *home*, which exists."""
    with opened(home) as lake:
        for name in lake.contracts:
            with lake.ensure(name).transaction() as tx:
                tx.set_properties(SHARED_FILES)
        lake.append("bronze.historical_prices", arrow("bronze.historical_prices", price_rows()))
        lake.append("bronze.fear_greed", arrow("bronze.fear_greed", index_rows()))
        refine(lake)


def refine(lake: Lake) -> None:
    """Make silver and gold what the oracle says of bronze."""
    bronze = [
        lake.table(f"bronze.{name}").scan().to_arrow().to_pylist()
        for name in ("historical_prices", "fear_greed")
    ]
    for name, rows in market_tables(*bronze).items():
        columns = lake.contracts[name].column_names
        stamps = {c: NOW for c in ("_loaded_at", "_processed_at") if c in columns}
        lake.merge(name, arrow(name, [{**row, **stamps} for row in rows]), full=True)


@contextmanager
def opened(home: Path, *, catalog: Path | None = None) -> Iterator[Lake]:
    """Open the lake under *home*, or the copy of it whose catalog is in the folder *catalog*; its clock stands at `NOW`."""
    place = {**local_catalog(home), **FAST_STORAGE}
    with Lake.open(
        {**place, "uri": local_catalog(catalog or home)["uri"]}, load_contracts(), Clock.fixed(NOW)
    ) as lake:
        yield lake


@contextmanager
def copied(home: Path, folder: Path) -> Iterator[Lake]:
    """Open a copy of the lake under *home*, with its catalog in *folder*."""
    shutil.copy(home / "catalog.db", folder)
    with opened(home, catalog=folder) as lake:
        yield lake


def check(
    lake: Lake,
    *,
    layers: Sequence[str] = ("bronze", "silver", "gold"),
    coins: Sequence[str] = COINS,
    run_id: str = "checked",
    now: datetime = NOW,
) -> dict[str, CheckResult]:
    """Run the checks of *layers* and return their results by `layer.table.check`."""
    seen = {"quality", *layers, *(LAYER_BEFORE[layer] for layer in layers)}
    with lake.reader(only=[n for n, c in lake.contracts.items() if c.layer in seen]) as reader:
        results = run_checks(lake, reader, layers=layers, coins=coins, run_id=run_id, now=now)
    return {f"{r.table_name}.{r.check_name}": r for r in results}


def breaches(results: Mapping[str, CheckResult]) -> dict[str, str]:
    """Return the status of every check that did not pass."""
    return {name: r.status.value for name, r in results.items() if r.status != "passed"}
