"""A reader sees every table by field id, in UTC, as it is or as it became."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from cryptolake.errors import LakeError
from cryptolake.lake import Lake
from tests.lake.shapes import PRICES, TRADES, held, prices, trades

ELSEWHERE = "other.things"


def foreign_table(lake: Lake, *columns: tuple[str, Any], partition: str | None = None) -> Table:
    """Create a table without a contract, as another program does through PyIceberg."""
    schema = Schema(
        *(NestedField(i, name, kind, required=False) for i, (name, kind) in enumerate(columns, start=1))
    )
    source = schema.find_field(partition).field_id if partition else 0
    spec = PartitionSpec(
        *([PartitionField(source, 1000, IdentityTransform(), partition)] if partition else [])
    )
    lake.catalog.create_namespace_if_not_exists("other")
    return lake.catalog.create_table(ELSEWHERE, schema, partition_spec=spec)


def add(table: Table, **row: Any) -> None:
    """Append one row with PyIceberg."""
    table.append(pa.Table.from_pylist([row], table.schema().as_arrow()))


def test_renamed_dropped_added_and_widened_columns_read_right_across_files(lake: Lake) -> None:
    """A name says nothing about older files: values follow the field id, and a re-added column starts empty."""
    table = foreign_table(
        lake, ("id", IntegerType()), ("a", StringType()), ("b", FloatType()), ("c", DecimalType(9, 2))
    )
    add(table, id=1, a="first a", b=0.5, c=Decimal("1.25"))
    with table.update_schema() as schema:
        schema.rename_column("a", "renamed")
        schema.delete_column("b")
        schema.update_column("id", LongType())
        schema.update_column("c", DecimalType(28, 2))
    add(table, id=2**40, renamed="second", c=Decimal("12345678901234567890.25"))
    with table.update_schema() as schema:
        schema.add_column("b", StringType())
        schema.add_column("a", IntegerType())
    add(table, id=3, renamed="third", c=None, b="b again", a=7)

    assert held(lake, f"select id, renamed, c, b, a from {ELSEWHERE} order by length(renamed), renamed") == [
        (3, "third", None, "b again", 7),
        (2**40, "second", Decimal("12345678901234567890.25"), None, None),
        (1, "first a", Decimal("1.25"), None, None),
    ]


def test_swapped_names_read_right(lake: Lake) -> None:
    """Two columns that exchange their names keep their own values."""
    table = foreign_table(lake, ("x", IntegerType()), ("y", IntegerType()))
    add(table, x=1, y=2)
    for old, new in (("x", "z"), ("y", "x"), ("z", "y")):
        with table.update_schema() as schema:
            schema.rename_column(old, new)

    assert held(lake, f"select x, y from {ELSEWHERE}") == [(2, 1)]


def test_every_primitive_type_reads_as_it_was_written(lake: Lake) -> None:
    """Values survive the way through Parquet into DuckDB; times are UTC."""
    row: dict[str, Any] = {
        "boolean": True,
        "int": -5,
        "long": 2**62,
        "float": 0.25,
        "double": 5.7e-11,
        "decimal": Decimal("0.000000000001"),
        "date": datetime(2024, 2, 29, tzinfo=UTC).date(),
        "time": datetime(2024, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC).time(),
        "timestamp": datetime(2024, 1, 1, 12, 30, 0, 1),
        "timestamptz": datetime(2024, 1, 1, 12, 30, 0, 1, tzinfo=UTC),
        "string": "naïve ' \" 😀",
        "binary": b"\x00\xff",
    }
    kinds = [
        BooleanType(),
        IntegerType(),
        LongType(),
        FloatType(),
        DoubleType(),
        DecimalType(28, 12),
        DateType(),
    ]
    kinds += [TimeType(), TimestampType(), TimestamptzType(), StringType(), BinaryType()]
    table = foreign_table(lake, *zip(row, kinds, strict=True))
    add(table, **row)
    add(table, **dict.fromkeys(row))

    [read, nothing] = held(lake, f"select * from {ELSEWHERE} order by long")
    assert dict(zip(row, read, strict=True)) == row
    assert nothing == (None,) * len(row)
    assert held(lake, f"select timestamptz::varchar from {ELSEWHERE} where long > 0") == [
        ("2024-01-01 12:30:00.000001+00",)
    ]


def test_a_uuid_column_reads(lake: Lake) -> None:
    """A type that Arrow extends reads like the others."""
    foreign_table(lake, ("u", UUIDType()))

    assert held(lake, f"select u from {ELSEWHERE}") == []


def test_a_table_partitioned_by_a_column_reads_that_column_from_its_files(lake: Lake) -> None:
    """Folders named like `a=…` are not mistaken for columns, whatever they are called."""
    table = foreign_table(lake, ("id", IntegerType()), ("a", StringType()), partition="a")
    for n, value in enumerate(["x/y z%", "007", "[b]*?", None]):
        add(table, id=n, a=value)

    assert held(lake, f"select * from {ELSEWHERE} order by id") == [
        (0, "x/y z%"),
        (1, "007"),
        (2, "[b]*?"),
        (3, None),
    ]


def test_a_table_that_cannot_be_read_says_so_and_the_others_can(lake: Lake) -> None:
    """A nested type is refused by name when it is asked for, not before."""
    foreign_table(lake, ("many", ListType(2, IntegerType(), element_required=False)))
    lake.ensure(TRADES.name)

    with lake.reader() as reader:
        assert reader.rows("select * from bronze.trades") == []
        with pytest.raises(LakeError, match="columns of type list<int> cannot be read here"):
            reader.rows(f"select * from {ELSEWHERE}")


def test_an_empty_table_has_its_columns_and_no_rows(lake: Lake) -> None:
    """Before the first commit a table can be asked already."""
    lake.ensure(PRICES.name)

    with lake.reader() as reader:
        assert reader.table("select * from silver.prices").schema.names == list(PRICES.column_names)
        assert reader.rows("select count(*), max(price) from silver.prices") == [(0, None)]


def test_a_reader_stands_still_until_it_is_refreshed(lake: Lake) -> None:
    """Later commits, new tables and dropped tables show after refresh, and not before."""
    lake.ensure(TRADES.name)
    lake.append(TRADES.name, trades([1]))
    with lake.reader() as reader:
        lake.append(TRADES.name, trades([2]))
        lake.ensure(PRICES.name)
        assert reader.rows("select count(*) from bronze.trades") == [(1,)]
        reader.refresh()
        assert reader.rows("select count(*) from bronze.trades, silver.prices") == [(0,)]
        assert reader.rows("select count(*) from bronze.trades") == [(2,)]
        lake.catalog.drop_table(PRICES.name)
        reader.refresh()
        with pytest.raises(duckdb.CatalogException):
            reader.rows("select * from silver.prices")


def test_a_reader_sees_columns_that_came_after_it_opened(lake: Lake) -> None:
    """A changed schema is a change like any other."""
    table = foreign_table(lake, ("id", IntegerType()))
    add(table, id=1)
    with lake.reader() as reader:
        with table.update_schema() as schema:
            schema.add_column("note", StringType())
        reader.refresh()
        assert reader.rows(f"select id, note from {ELSEWHERE}") == [(1, None)]


def test_a_reader_of_a_merged_table_reads_every_row_once(lake: Lake) -> None:
    """Rewritten files replace the old ones in the view."""
    lake.ensure(PRICES.name)
    lake.merge(PRICES.name, prices("bitcoin", range(10)))
    lake.merge(PRICES.name, prices("bitcoin", range(5, 15), price=2.0))

    assert held(lake, "select price, count(*) from silver.prices group by 1 order by 1") == [
        (1.0, 5),
        (2.0, 10),
    ]
