"""The rows that a merge changes, and the files that hold them, found by DuckDB, and committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptolake.errors import CommitConflictError, ContractError
from cryptolake.lake.commit import (
    MOVED_AT,
    Committed,
    commit_properties,
    commit_rows,
    microseconds,
    next_loaded_at,
    processed_properties,
)
from cryptolake.lake.conform import conformed, order_by, stamped
from cryptolake.lake.rising import Newest, after_merge, bounds, newest_of, newest_property
from cryptolake.lake.scan import (
    FILE_COLUMN,
    expose_stored,
    local_path,
    plan,
    quoted,
    refuse_deletes,
    relation,
    text,
)

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.table import FileScanTask, Table

    from cryptolake.contracts import Column, Contract


@dataclass(frozen=True)
class Merge:
    """
    One attempt to bring *table* to hold the relation `incoming` of *cursor*, and to lose the keys of `gone`.

    *now* stamps the rows written, where the contract has a stamp. *inputs* are the newest stamps of what
    the rows were made from; they are committed even where no row differs.
    """

    cursor: duckdb.DuckDBPyConnection
    table: Table
    contract: Contract
    now: datetime
    inputs: Mapping[str, int]

    def change(self) -> Committed:
        """Commit what differs; files that hold no changed row stay."""
        contract, cursor = self.contract, self.cursor
        refuse_bad_keys(cursor, contract)
        newest = newest_of(self.table) if contract.has_rising_key else None
        delta = _delta(cursor, contract, self._expose_stored(newest))
        if not delta.added + delta.replaced + delta.removed:
            commit_properties(self.table, processed_properties(self.inputs))
            return Committed()
        loaded_at = self._loaded_at()
        written = _rows_to_write(cursor, self.table, contract, delta, loaded_at)
        has_moved = bool(delta.removed) or _has_moved(cursor, contract, delta)
        snapshot_id = self._commit(written, delta.files, loaded_at, newest, has_moved=has_moved)
        return Committed(delta.added, delta.replaced, delta.removed, len(delta.files), snapshot_id)

    def replace(self) -> Committed:
        """Commit the rows in place of all that *table* holds."""
        refuse_bad_keys(self.cursor, self.contract)
        old = plan(self.table)
        refuse_deletes(self.table, old)
        chosen = self.cursor.sql(f"select * from incoming{order_by(self.contract)}").to_arrow_table()
        if not chosen.num_rows and not old:
            commit_properties(self.table, processed_properties(self.inputs))
            return Committed()
        loaded_at = self._loaded_at()
        written = stamped(conformed(chosen, self.table), self.contract.commit_stamp, loaded_at)
        snapshot_id = self._commit(written, old, loaded_at, {}, has_moved=bool(old))
        removed = sum(task.file.record_count for task in old)
        return Committed(written.num_rows, 0, removed, len(old), snapshot_id)

    def _loaded_at(self) -> datetime:
        return next_loaded_at(self.table, self.now)

    def _expose_stored(self, newest: Newest | None) -> Sequence[FileScanTask]:
        """Make the relation `stored` from the files that may hold a key of `incoming` or `gone`."""
        if not self.contract.has_rising_key:
            within = _partition_bounds(self.cursor, self.contract)
            return expose_stored(self.cursor, self.table, plan(self.table, within=within))
        within = bounds(self.cursor, self.contract, newest)
        tasks = [] if within is None else plan(self.table, within=within)
        return expose_stored(self.cursor, self.table, tasks)

    def _commit(
        self,
        written: pa.Table,
        replaced: Sequence[FileScanTask],
        loaded_at: datetime,
        newest: Newest | None,
        *,
        has_moved: bool,
    ) -> int | None:
        properties = processed_properties(self.inputs)
        if self.contract.has_rising_key:
            properties |= newest_property(
                self.table, after_merge(self.cursor, self.table, self.contract, newest)
            )
        if self.contract.commit_stamp and has_moved:
            properties[MOVED_AT] = str(microseconds(loaded_at))
        done = commit_rows(
            self.table,
            written,
            retention=self.contract.retention,
            replaced=replaced,
            loaded_at=loaded_at if self.contract.commit_stamp else None,
            properties=properties,
        )
        return done.metadata.current_snapshot_id


def refuse_moved(table: Table, based_on: Table | None) -> None:
    """Raise `CommitConflictError` where *table* has other rows than *based_on* had."""
    if based_on is not None and based_on.metadata.current_snapshot_id != table.metadata.current_snapshot_id:
        raise CommitConflictError(
            f"{'.'.join(table.name())} was changed by another process meanwhile; nothing was written, run again"
        )


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


def _delta(cursor: duckdb.DuckDBPyConnection, contract: Contract, tasks: Sequence[FileScanTask]) -> Delta:
    """Make the relations `delta` and `touched` (keys), from `incoming`, `gone` and `stored`; say how many rows there are."""
    keys = ", ".join(map(quoted, contract.key))
    if not tasks:
        cursor.execute("create or replace temp view delta as select * from incoming")
        [(rows,)] = cursor.execute("select count(*) from delta").fetchall()
        return Delta(rows, 0, 0, ())
    cursor.register(
        "delta",
        cursor.sql(f"select s.* from incoming s anti join stored t on {_keeps(contract)}").to_arrow_table(),
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


def _rows_to_write(
    cursor: duckdb.DuckDBPyConnection, table: Table, contract: Contract, delta: Delta, loaded_at: datetime
) -> pa.Table:
    """Return the rows to put in place of the files of *delta*, the new ones stamped, sorted as the contract says."""
    changed = "*"
    if stamp := contract.commit_stamp:
        changed = f"* replace (make_timestamptz({microseconds(loaded_at)}) as {quoted(stamp)})"
    rest = ""
    if delta.files:
        rest = f"union all by name select t.* from {relation(delta.files, table.schema())} t anti join touched s on {on_key(contract)}"
    order = ", ".join(map(quoted, contract.sort_order or contract.key))
    written = cursor.sql(f"select * from (select {changed} from delta {rest}) order by {order}")
    return conformed(written.to_arrow_table(), table)


def _has_moved(cursor: duckdb.DuckDBPyConnection, contract: Contract, delta: Delta) -> bool:
    """Say whether a replaced row lies in another partition than before."""
    columns = [quoted(p.column) for p in contract.partitions if p.column not in contract.key]
    if not (columns and delta.replaced):
        return False
    differs = " or ".join(f"s.{c} is distinct from t.{c}" for c in columns)
    return bool(
        cursor.execute(
            f"select 1 from delta s join stored t on {on_key(contract)} where {differs} limit 1"
        ).fetchone()
    )


def on_key(contract: Contract) -> str:
    """Return the SQL condition that `s` and `t` have the same key."""
    return " and ".join(f"s.{quoted(k)} = t.{quoted(k)}" for k in contract.key)


def _keeps(contract: Contract) -> str:
    """Return the SQL condition that the stored row `t` stays in spite of the incoming row `s`."""
    if contract.preferred:
        columns = {c.name: c for c in contract.columns}
        s, t = (", ".join(_rank(columns[name], side) for name in contract.preferred) for side in "st")
        return f"{on_key(contract)} and not (({s}) < ({t}))"
    return " and ".join([on_key(contract), *(_same(c) for c in contract.compared_columns)])


def _rank(column: Column, side: str) -> str:
    """Return the SQL of a value's rank: the place in its enum, where it has one, or the value itself."""
    value = f"{side}.{quoted(column.name)}"
    if not column.odcs.enum:
        return value
    places = " ".join(f"when {text(str(e.value))} then {i}" for i, e in enumerate(column.odcs.enum))
    return f"case {value} {places} else {len(column.odcs.enum)} end"


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
