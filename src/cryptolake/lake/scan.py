"""
A snapshot of an Iceberg table as DuckDB SQL.

DuckDB reads the Parquet files itself, in parallel and with pruning; columns are resolved by
Iceberg field id, so renamed, re-added and widened columns read right in every file.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from cryptolake.errors import LakeError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.table import FileScanTask, Table
    from pyiceberg.types import IcebergType

FILE_COLUMN = "_file"
REWRITTEN = "_without_deletes"
PLANS_REMEMBERED = 100
DUCKDB_TYPES = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "string": "VARCHAR",
    "binary": "BLOB",
    "uuid": "UUID",
}


def plan(table: Table, *, snapshot_id: int | None = None, within: str | None = None) -> list[FileScanTask]:
    """
    Return the files of a snapshot of *table* (default: the current one) that may hold rows *within* a filter.

    Raises:
        LakeError: rows were deleted in a way that PyIceberg does not know (equality deletes).
    """
    scan = (
        table.scan(snapshot_id=snapshot_id)
        if within is None
        else table.scan(row_filter=within, snapshot_id=snapshot_id)
    )
    with _deletes_explained(table):
        return list(scan.plan_files())


def schema_at(table: Table, snapshot_id: int | None) -> Schema:
    """Return the schema that *table* had at a snapshot."""
    if snapshot_id is None:
        return table.schema()
    snapshot = table.snapshot_by_id(snapshot_id)
    schema_id = snapshot.schema_id if snapshot else None
    return table.schema() if schema_id is None else table.schemas()[schema_id]


def relation(tasks: Sequence[FileScanTask], schema: Schema, *, with_file: bool = False) -> str:
    """
    Return the SQL of a relation over the rows of *tasks*, in the columns of *schema*.

    Args:
        tasks: planned files; none of them may have merge-on-read deletes (see `has_deletes`).
        schema: the columns wanted, with their field ids.
        with_file: add the column `_file`, the path that a row came from.
    """
    columns = [(f.field_id, f.name, duckdb_type(f.field_type)) for f in schema.fields]
    if not tasks:
        typed = [(n, t) for _, n, t in columns] + ([(FILE_COLUMN, "VARCHAR")] if with_file else [])
        nulls = ", ".join(f"cast(null as {t}) as {quoted(n)}" for n, t in typed)
        return f"(select {nulls} where false)"
    ids = ", ".join(
        f"{i}: {{'name': {text(n)}, 'type': '{t}', 'default_value': NULL}}" for i, n, t in columns
    )
    files = ", ".join(text(local_path(task.file.file_path)) for task in tasks)
    filename = f", filename = '{FILE_COLUMN}'" if with_file else ""
    return f"read_parquet([{files}], schema = MAP {{{ids}}}{filename})"


def has_deletes(tasks: Sequence[FileScanTask]) -> bool:
    """Say whether rows of *tasks* were deleted by merge-on-read, which DuckDB would not see."""
    return any(task.delete_files for task in tasks)


def expose_stored(
    cursor: duckdb.DuckDBPyConnection, table: Table, tasks: Sequence[FileScanTask]
) -> Sequence[FileScanTask]:
    """
    Make the relation `stored` on *cursor* from the rows of *tasks*, with their `_file`, and return the tasks.

    Raises:
        LakeError: rows of them were deleted by merge-on-read.
    """
    refuse_deletes(table, tasks)
    cursor.execute(
        f"create or replace temp view stored as select * from {relation(tasks, table.schema(), with_file=True)}"
    )
    return tasks


def refuse_deletes(table: Table, tasks: Sequence[FileScanTask]) -> None:
    """Raise `LakeError` where rows of *tasks* were deleted by merge-on-read."""
    if has_deletes(tasks):
        raise LakeError(
            f"{'.'.join(table.name())} has merge-on-read deletes, which cannot be written over here; "
            "rewrite its files with the engine that wrote them (in Spark: call system.rewrite_data_files)."
        )


def create_view(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    planned: MutableMapping[str, str],
    *,
    snapshot_id: int | None = None,
    empty: bool = False,
) -> None:
    """
    Make `layer.table` on *connection* a view of a snapshot of *table* (default: the current one), or an *empty* one.

    A snapshot with merge-on-read deletes (another engine wrote it) is read through PyIceberg,
    which honours them, or refuses those that it does not know.

    *planned* remembers the SQL of snapshots that were planned before.
    """
    namespace, name = table.name()
    view = f"{quoted(namespace)}.{quoted(name)}"
    key = f"{table.metadata_location} {snapshot_id} {empty}"
    source = planned.get(key) or _source(table, snapshot_id, empty=empty)
    if source is not None:
        planned[key] = source
        if len(planned) > PLANS_REMEMBERED:
            del planned[next(iter(planned))]
    else:
        rows = _rows_less_deletes(table, snapshot_id)  # noqa: F841 (DuckDB finds it by its name)
        source = f"{quoted(REWRITTEN)}.{quoted(f'{namespace}.{name}')}"
        connection.execute(f"create schema if not exists {quoted(REWRITTEN)}")
        connection.execute(f"create or replace table {source} as select * from rows")
    connection.execute(f"create schema if not exists {quoted(namespace)}")
    connection.execute(f"create or replace view {view} as select * from {source}")


def create_narrow_view(
    connection: duckdb.DuckDBPyConnection, table: Table, view: str, within: str | None
) -> None:
    """
    Make *view* on *connection*, unseen by others, from the files of *table* that may hold rows *within* a filter.

    The rows themselves are not filtered; without a filter all of them are there.
    """
    tasks = plan(table, within=within)
    namespace, name = table.name()
    source = relation(tasks, schema_at(table, None))
    if has_deletes(tasks):
        source = f"{quoted(namespace)}.{quoted(name)}"
    connection.execute(f"create or replace temp view {quoted(view)} as select * from {source}")


def stamp_after(table: Table, column: str, after: datetime, rows: int) -> int | None:
    """
    Return the stamp in *column*, microseconds, up to which about *rows* rows of *table* came *after* another one.

    None where no more came. Whole files count, by the bounds that Iceberg keeps of them.
    """
    from pyiceberg.conversions import from_bytes

    field = table.schema().find_field(column)
    tasks = plan(table, within=f"{column} > '{after.isoformat()}'")
    held = sorted(
        (int(from_bytes(field.field_type, t.file.upper_bounds[field.field_id])), t.file.record_count)
        for t in tasks
        if field.field_id in (t.file.upper_bounds or {})
    )
    taken = 0
    for stamp_us, count in held:
        taken += count
        if taken >= rows:
            return stamp_us if stamp_us < held[-1][0] else None
    return None


def _source(table: Table, snapshot_id: int | None, *, empty: bool) -> str | None:
    """Return the SQL of a snapshot's rows; None where it has merge-on-read deletes."""
    tasks: list[FileScanTask] = [] if empty else plan(table, snapshot_id=snapshot_id)
    return None if has_deletes(tasks) else relation(tasks, schema_at(table, snapshot_id))


def _rows_less_deletes(table: Table, snapshot_id: int | None) -> pa.Table:
    with _deletes_explained(table):
        return table.scan(snapshot_id=snapshot_id).to_arrow()


@contextmanager
def _deletes_explained(table: Table) -> Iterator[None]:
    try:
        yield
    except (ValueError, NotImplementedError) as e:
        if "deletes" not in str(e):
            raise
        name = ".".join(table.name())
        raise LakeError(
            f"{name} has deletes that cannot be read here ({e}); rewrite its files with the engine that wrote them."
        ) from e


def duckdb_type(iceberg_type: IcebergType) -> str:
    """Return DuckDB's name of a primitive Iceberg type."""
    from pyiceberg.types import DecimalType

    if isinstance(iceberg_type, DecimalType):
        return f"DECIMAL({iceberg_type.precision}, {iceberg_type.scale})"
    if str(iceberg_type) not in DUCKDB_TYPES:
        raise LakeError(f"columns of type {iceberg_type} cannot be read here")
    return DUCKDB_TYPES[str(iceberg_type)]


def local_path(location: str) -> str:
    """Return the path of a file location; PyIceberg writes `file:///x`, Spark `file:/x`."""
    return "/" + location.removeprefix("file:").lstrip("/") if location.startswith("file:") else location


def quoted(name: str) -> str:
    """Return *name* as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return *value* as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"
