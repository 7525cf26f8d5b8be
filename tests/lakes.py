"""Lakes in folders of their own, to land random or recorded rows in and to refine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from tests.equality import table_differences
from tests.histories import Run
from tests.oracle.market import market_tables

BRONZE = ("bronze.historical_prices", "bronze.fear_greed")
REFINED = (
    "silver.daily_prices",
    "silver.fear_greed",
    "gold.dim_coins",
    "gold.dim_dates",
    "gold.fact_market_daily",
)
NOW = datetime(2027, 1, 1, tzinfo=UTC)
ORACLE_TOLERANCE = 1e-9


def new_lake(home: Path) -> Lake:
    """Open a lake under *home*, whose clock stands still at `NOW`, with empty bronze tables."""
    lake = Lake.open(local_catalog(home), load_contracts(), Clock.fixed(NOW))
    for name in BRONZE:
        lake.ensure(name)
    return lake


def land(lake: Lake, run: Run) -> None:
    """Append what a run was answered to bronze, one commit a table."""
    for name in BRONZE:
        lake.append(name, run.rows(name))


def all_rows(lake: Lake, *names: str) -> dict[str, pa.Table]:
    """Return all rows of the tables *names* of *lake*, or of silver and gold."""
    with lake.reader() as reader:
        return {name: reader.table(f"select * from {name}") for name in names or REFINED}


def snapshots(lake: Lake) -> Mapping[str, Any]:
    """Return the current snapshot of every table of *lake*."""
    return {name: lake.table(name).metadata.current_snapshot_id for name in lake.tables()}


def differences_between(
    actual: Mapping[str, pa.Table], expected: Mapping[str, Any], *, relative: float | None = None
) -> dict[str, list[str]]:
    """Return what is different in each of the tables *actual*, by the contracts' tolerances or *relative*."""
    found = {
        name: table_differences(actual[name], rows, load_contracts()[name], relative=relative)
        for name, rows in expected.items()
    }
    return {name: told for name, told in found.items() if told}


def differences_from_the_oracle(lake: Lake) -> dict[str, list[str]]:
    """Return what silver and gold of *lake* hold other than what the oracle makes of its bronze rows."""
    bronze = all_rows(lake, *BRONZE)
    expected = market_tables(*(bronze[name].to_pylist() for name in BRONZE))
    return differences_between(all_rows(lake), expected, relative=ORACLE_TOLERANCE)
