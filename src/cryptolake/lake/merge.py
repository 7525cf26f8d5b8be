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
    """
    How incoming rows differ from the stored ones.

    The relation `delta` has the *added* new rows and the *replaced* changed ones; *removed* stored
    rows go without a successor. *files* hold a stored row that is replaced or removed.
    """

    added: int
    replaced: int
    removed: int
    files: Sequence[FileScanTask]


def delta_to(
    cursor: duckdb.DuckDBPyConnection,
    contract: Contract,
    expose_stored: Callable[[str | None], Sequence[FileScanTask]],
) -> Delta:
    """
    Make the relations `delta` and `touched` (keys) on *cursor*, and say how many rows there are.

    Args:
        cursor: DuckDB, with the relations `incoming` (rows) and `gone` (keys).
        contract: names the key and the columns that are compared.
        expose_stored: makes the relation `stored` from the files within a row filter, and returns them.

    Raises:
        ContractError: a key of `incoming` is null or comes twice.
    """
    refuse_bad_keys(cursor, contract)
    tasks = expose_stored(_partition_bounds(cursor, contract))
    keys = ", ".join(map(quoted, contract.key))
    if not tasks:
        cursor.execute("create or replace temp view delta as select * from incoming")
        [(rows,)] = cursor.execute("select count(*) from delta").fetchall()
        return Delta(rows, 0, 0, ())
    same = " and ".join([on_key(contract), *(_same(c) for c in contract.compared_columns)])
    cursor.register(
        "delta", cursor.sql(f"select s.* from incoming s anti join stored t on {same}").to_arrow_table()
    )
    cursor.execute(
        f"create or replace temp table touched as select {keys}, false as is_gone from delta union all select {keys}, true from gone"
    )
    hits = cursor.execute(
        f"""
        select t.{FILE_COLUMN}, count(*) filter (where not s.is_gone), count(*) filter (where s.is_gone)
        from stored t join touched s on {on_key(contract)} group by 1
        """
    ).fetchall()
    [(rows,)] = cursor.execute("select count(*) from delta").fetchall()
    replaced = sum(n for _, n, _ in hits)
    hit = {path for path, _, _ in hits}
    files = [t for t in tasks if local_path(t.file.file_path) in hit]
    return Delta(rows - replaced, replaced, sum(n for _, _, n in hits), files)


def rows_to_write(
    cursor: duckdb.DuckDBPyConnection, contract: Contract, delta: Delta, schema: Schema
) -> pa.Table:
    """Return the rows to put in place of the files of *delta*, sorted as the contract says."""
    rest = ""
    if delta.files:
        rest = f"union all by name select t.* from {relation(delta.files, schema)} t anti join touched s on {on_key(contract)}"
    order = ", ".join(map(quoted, contract.sort_order or contract.key))
    return cursor.sql(f"select * from (select * from delta {rest}) order by {order}").to_arrow_table()


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
    """Return the range of `incoming` and `gone` in the partitioned column as a row filter, where that is part of the key."""
    column = next((p.column for p in contract.partitions if p.column in contract.key), None)
    if column is None:
        return None
    low, high = cursor.execute(
        f"select min(k), max(k) from (select {quoted(column)} as k from incoming union all select {quoted(column)} from gone)"
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
