"""Contracts and rows that the tests of the lake share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from cryptolake.clock import Clock
from cryptolake.contracts import Contract, parse_contract
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
FIRST_DAY = date(2024, 1, 1)


def contract(
    name: str,
    columns: Mapping[str, str | Mapping[str, Any]],
    *,
    version: str = "1.0.0",
    key: Sequence[str] = (),
    partitions: Mapping[str, str] | None = None,
    sort_order: Sequence[str] = (),
    retention: str = "30d",
    resolution: str | None = None,
    daily_tags: int = 0,
) -> Contract:
    """Return the contract of a table; *columns* are Iceberg types, or ODCS properties with a `type`."""
    partitions = partitions or {}
    properties = []
    for column, given in columns.items():
        more = {"type": given} if isinstance(given, str) else dict(given)
        custom = (
            [{"property": "relativeTolerance", "value": more.pop("tolerance")}] if "tolerance" in more else []
        )
        said: dict[str, Any] = {
            "name": column,
            "physicalType": more.pop("type"),
            "description": f"The {column}.",
            **more,
        }
        if column in key:
            said |= {"primaryKey": True, "primaryKeyPosition": 1 + list(key).index(column)}
        if column in partitions:
            said |= {"partitioned": True, "partitionKeyPosition": 1 + list(partitions).index(column)}
            custom.append({"property": "partitionTransform", "value": partitions[column]})
        properties.append({**said, "customProperties": custom})
    promised = {
        "sortOrder": list(sort_order),
        "snapshotRetention": retention,
        "snapshotResolution": resolution,
        "dailyTags": daily_tags,
    }
    table = {
        "name": name.split(".")[1],
        "customProperties": [{"property": k, "value": v} for k, v in promised.items() if v],
        "properties": properties,
    }
    document = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": name,
        "name": name,
        "version": version,
        "status": "active",
    }
    return parse_contract(yaml.safe_dump({**document, "schema": [table]}, sort_keys=False))


PRICES = contract(
    "silver.prices",
    {
        "coin_id": "string",
        "day": "date",
        "price": "double",
        "log_return": {"type": "double", "tolerance": 1e-12},
        "_processed_at": "timestamptz",
    },
    key=["coin_id", "day"],
    partitions={"day": "year"},
    sort_order=["coin_id", "day"],
)
"""A table that rows are merged into, by coin and day, partitioned by year."""

TRADES = contract(
    "bronze.trades",
    {"trade_id": "long", "price": "decimal(28, 12)", "_loaded_at": "timestamptz"},
    key=["trade_id"],
    sort_order=["trade_id"],
    retention="1h",
    resolution="5m",
    daily_tags=7,
)
"""A table that a stream appends to."""

CONTRACTS = {c.name: c for c in (PRICES, TRADES)}


def open_lake(home: Path, contracts: Mapping[str, Contract] = CONTRACTS, clock: Clock | None = None) -> Lake:
    """Open the lake under *home*; its clock stands at noon unless told."""
    return Lake.open(local_catalog(home), contracts, clock or Clock.fixed(NOON))


def prices(coin: str, days: Sequence[int], price: float = 1.0, **columns: Any) -> pa.Table:
    """Return one row of `silver.prices` a day, counted from 2024-01-01."""
    rows = [
        {"coin_id": coin, "day": FIRST_DAY + timedelta(days=n), "price": price, "log_return": 0.5, **columns}
        for n in days
    ]
    schema = pa.schema(
        [
            ("coin_id", pa.string()),
            ("day", pa.date32()),
            ("price", pa.float64()),
            ("log_return", pa.float64()),
        ]
    )
    return pa.Table.from_pylist(rows, schema)


def trades(ids: Sequence[int]) -> pa.Table:
    """Return one row of `bronze.trades` an id."""
    return pa.table({"trade_id": pa.array(ids, pa.int64())})


def held(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query over *lake* as it is now."""
    with lake.reader() as reader:
        return reader.rows(sql)


def files_of(lake: Lake, name: str) -> set[str]:
    """Return the locations of the data files that the table *name* holds now."""
    return {task.file.file_path for task in lake.table(name).scan().plan_files()}


def snapshots_of(lake: Lake, name: str) -> list[int]:
    """Return the ids of the kept snapshots of the table *name*, oldest first."""
    return [s.snapshot_id for s in lake.table(name).snapshots()]


class Calendar:
    """The time that Iceberg stamps snapshots with; every snapshot comes a millisecond after the one before."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def time(self) -> float:
        """Return the time in seconds, as `time.time` does."""
        self.at += timedelta(milliseconds=1)
        return self.at.timestamp()
