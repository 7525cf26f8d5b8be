"""The rows that a merge changes, and the files that hold them, found by DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptolake.errors import ContractError
from cryptolake.lake.scan import FILE_COLUMN, local_path, quoted, relation, text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.table import FileScanTask

    from cryptolake.contracts import Column, Contract


@dataclass(frozen=True)
class Delta:
    """The *rows* that differ from what is stored; *replaced* of them have a stored row of their key, in *files*."""

    rows: pa.Table
    replaced: int
    files: Sequence[FileScanTask]


def delta_to(
    cursor: duckdb.DuckDBPyConnection,
    contract: Contract,
    expose_stored: Callable[[str | None], Sequence[FileScanTask]],
) -> Delta:
    """
    Return how the relation `incoming` differs from the rows that are stored.

    Args:
        cursor: DuckDB, with `incoming` registered.
        contract: names the key and the columns that are compared.
        expose_stored: makes the relation `stored` from the files within a row filter, and returns them.

    Raises:
        ContractError: a key of `incoming` is null or comes twice.
    """
    refuse_bad_keys(cursor, contract)
    tasks = expose_stored(_partition_bounds(cursor, contract))
    same = " and ".join(_same(c) for c in contract.compared_columns)
    rows = cursor.sql(
        f"select s.* from incoming s anti join stored t on {on_key(contract)}{' and ' + same if same else ''}"
    ).to_arrow_table()
    cursor.register("delta", rows)
    hits = cursor.execute(
        f"select t.{FILE_COLUMN}, count(*) from stored t semi join delta s on {on_key(contract)} group by 1"
    ).fetchall()
    hit = {path for path, _ in hits}
    return Delta(rows, sum(n for _, n in hits), [t for t in tasks if local_path(t.file.file_path) in hit])


def rows_to_write(
    cursor: duckdb.DuckDBPyConnection, contract: Contract, delta: Delta, schema: Schema
) -> tuple[Sequence[FileScanTask], pa.Table]:
    """Return the files to replace, and the rows to put in their place, sorted as the contract says."""
    rest = ""
    if delta.files:
        rest = f"union all by name select t.* from {relation(delta.files, schema)} t anti join delta s on {on_key(contract)}"
    order = ", ".join(map(quoted, contract.sort_order or contract.key))
    return delta.files, cursor.sql(
        f"select * from (select * from delta {rest}) order by {order}"
    ).to_arrow_table()


def on_key(contract: Contract) -> str:
    """Return the SQL condition that `s` and `t` have the same key."""
    return " and ".join(f"s.{quoted(k)} = t.{quoted(k)}" for k in contract.key)


def _same(column: Column) -> str:
    s, t = f"s.{quoted(column.name)}", f"t.{quoted(column.name)}"
    if column.relative_tolerance is None:
        return f"{s} is not distinct from {t}"
    near = f"abs({s} - {t}) <= {column.relative_tolerance!r} * greatest(abs({s}), abs({t}))"
    return f"({s} is not distinct from {t} or (isfinite({s}) and isfinite({t}) and {near}))"


def refuse_bad_keys(cursor: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Raise `ContractError` where a key of the relation `incoming` is null or comes twice."""
    keys = ", ".join(map(quoted, contract.key))
    null = " or ".join(f"{quoted(k)} is null" for k in contract.key)
    bad = cursor.execute(
        f"select {keys}, count(*) from incoming group by {keys} having count(*) > 1 or bool_or({null}) limit 1"
    ).fetchone()
    if bad:
        raise ContractError(
            f"{contract.name}: the key ({keys}) = {bad[:-1]} is null or comes {bad[-1]} times; every row needs its own"
        )


def _partition_bounds(cursor: duckdb.DuckDBPyConnection, contract: Contract) -> str | None:
    """Return the range of `incoming` in the partitioned column as a row filter, where that is part of the key."""
    column = next((p.column for p in contract.partitions if p.column in contract.key), None)
    if column is None:
        return None
    low, high = cursor.execute(
        f"select min({quoted(column)}), max({quoted(column)}) from incoming"
    ).fetchone() or (None, None)
    if low is None:
        return None
    return f"{column} >= {_literal(low)} and {column} <= {_literal(high)}"


def _literal(value: Any) -> str:
    """Return a key as a literal of a row filter: a number as it is, text, dates and times in quotes."""
    return (
        str(value)
        if isinstance(value, int)
        else text(str(value) if isinstance(value, str) else value.isoformat())
    )
