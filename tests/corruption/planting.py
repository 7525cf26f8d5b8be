"""Ways to break a lake through PyIceberg, as a bug or another engine would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, NestedField

from cryptolake.contracts.schemas import iceberg_schema
from cryptolake.lake import Lake
from tests.quality.clean_lake import DAY_MS, NOW, TODAY_MS, arrow

Row = dict[str, Any]
Plant = Callable[[Lake], None]
Which = Callable[[Mapping[str, Any]], bool]

TIME_COLUMNS = {
    "bronze.historical_prices": "timestamp_ms",
    "bronze.fear_greed": "timestamp",
    "silver.daily_prices": "price_date",
    "silver.fear_greed": "index_date",
    "gold.fact_market_daily": "price_date",
    "gold.dim_dates": "date_day",
}


def changed(table: str, **values: Any) -> Plant:
    """Give one row in the middle of *table* other *values*."""

    def plant(lake: Lake) -> None:
        rows = _rows(lake, table)
        rows[len(rows) // 2] |= values
        _overwrite(lake, table, rows)

    return plant


def added(table: str, **values: Any) -> Plant:
    """Append a copy of a row of *table*, with other *values*."""

    def plant(lake: Lake) -> None:
        row = _rows(lake, table)[0] | values
        lake.table(table).append(arrow(table, [row]))

    return plant


def removed(table: str, which: Which) -> Plant:
    """Take the rows out of *table* of which *which* is true."""
    return lambda lake: _overwrite(lake, table, [row for row in _rows(lake, table) if not which(row)])


def kept(table: str, rows: int) -> Plant:
    """Leave only the first *rows* of *table*."""
    return lambda lake: _overwrite(lake, table, _rows(lake, table)[:rows])


def doubled(table: str, **values: Any) -> Plant:
    """Append every row of *table* once more, with other *values*."""
    return lambda lake: lake.table(table).append(arrow(table, [row | values for row in _rows(lake, table)]))


def dropped(table: str) -> Plant:
    """Drop *table*."""
    return lambda lake: lake.catalog.drop_table(table)


def renamed(table: str, **names: str) -> Plant:
    """Rename columns of *table*: old to new."""

    def plant(lake: Lake) -> None:
        for old, new in names.items():
            with lake.table(table).update_schema() as schema:
                schema.rename_column(old, new)

    return plant


def without_column(table: str, column: str) -> Plant:
    """Drop *column* of *table*."""

    def plant(lake: Lake) -> None:
        with lake.table(table).update_schema() as schema:
            schema.delete_column(column)

    return plant


def with_column(table: str, column: str) -> Plant:
    """Add a text *column* to *table*."""

    def plant(lake: Lake) -> None:
        with lake.table(table).update_schema() as schema:
            schema.add_column(column, IcebergType.handle_primitive_type("string", None))

    return plant


def retyped(table: str, column: str, to: str) -> Plant:
    """Make *table* anew with *column* of the type *to*, and with its rows."""

    def plant(lake: Lake) -> None:
        rows = _rows(lake, table)
        kind = IcebergType.handle_primitive_type(to, None)
        fields = [
            NestedField(f.field_id, f.name, kind if f.name == column else f.field_type, required=False)
            for f in iceberg_schema(lake.contracts[table]).fields
        ]
        lake.catalog.drop_table(table)
        made = lake.catalog.create_table(table, Schema(*fields))
        texts = [{**row, column: str(row[column]) if to == "string" else row[column]} for row in rows]
        made.append(pa.Table.from_pylist(texts, schema=made.schema().as_arrow()))

    return plant


def rejected(source: str, venue: str | None = None) -> Plant:
    """Land a record of *source* in bronze.rejects."""
    row = {
        "venue": venue,
        "source": source,
        "reason": "price is -1",
        "received_at": NOW,
        "payload": b"[]",
        "_loaded_at": NOW,
        "_run_id": "r",
    }
    return lambda lake: lake.table("bronze.rejects").append(arrow("bronze.rejects", [row]))


def together(*plants: Plant) -> Plant:
    """Plant all of *plants*."""

    def plant(lake: Lake) -> None:
        for each in plants:
            each(lake)

    return plant


def newer_than(days: float, table: str) -> Which:
    """Tell rows of *table* apart whose own time is less than *days* ago."""
    return lambda row: _ms(row[TIME_COLUMNS[table]], table) > NOW.timestamp() * 1000 - days * DAY_MS


def of_day(days_ago: int, table: str) -> Which:
    """Tell rows of *table* apart that are of the day so many *days_ago*."""
    return lambda row: _ms(row[TIME_COLUMNS[table]], table) // DAY_MS == TODAY_MS // DAY_MS - days_ago


def _ms(time: int | date, table: str) -> float:
    if isinstance(time, date):
        return datetime(time.year, time.month, time.day, tzinfo=NOW.tzinfo).timestamp() * 1000
    return time * 1000 if table == "bronze.fear_greed" else time


def _rows(lake: Lake, table: str) -> list[Row]:
    rows = lake.table(table).scan().to_arrow()
    order = [(c, "ascending") for c in lake.contracts[table].sort_order]
    return rows.sort_by(order).to_pylist()


def _overwrite(lake: Lake, table: str, rows: list[Row]) -> None:
    lake.table(table).overwrite(arrow(table, rows))
