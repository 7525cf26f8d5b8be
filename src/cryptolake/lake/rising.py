"""
The greatest key that a table holds, by group, so that newer rows need no look at older ones.

The last column of a rising key (a trade id) rises with the rows that come, within the other columns of the
key (venue, symbol). What a group holds at most stands in a table property, written in the same transaction
as the rows, together with the sequence number of that commit: where another engine has committed since,
the property does not count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cryptolake.lake.scan import plan, quoted, relation, text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.table import Table

    from cryptolake.contracts import Contract

NEWEST = "cryptolake.newest"
MOST_GROUPS = 20
"""Bounds of more groups than these are taken together: a filter is evaluated for every file."""

Newest = Mapping[tuple[str, ...], int]
"""The greatest id that each group holds."""


def newest_of(table: Table) -> Newest | None:
    """Return the greatest id of each group of *table*; None where its properties do not know."""
    if table.metadata.current_snapshot_id is None:
        return {}
    told = json.loads(table.properties.get(NEWEST, "null"))
    if told is None or told["at"] != _commits(table):
        return None
    return {tuple(group): greatest for *group, greatest in told["of"]}


def newest_property(table: Table, newest: Newest | None) -> dict[str, str]:
    """Return the property of the next commit to *table*, after which groups hold *newest*."""
    if newest is None:
        return {}
    of = [[*group, greatest] for group, greatest in sorted(newest.items())]
    return {NEWEST: json.dumps({"at": _commits(table) + 1, "of": of})}


def _commits(table: Table) -> int:
    return getattr(table.metadata, "last_sequence_number", 0)  # tables of format version 1 have none


def after_merge(
    cursor: duckdb.DuckDBPyConnection, table: Table, contract: Contract, newest: Newest | None
) -> Newest:
    """Return what groups hold once the relation `incoming` is in *table*, which held *newest* (None: look)."""
    if newest is None:
        newest = _greatest(cursor, contract, relation(plan(table), table.schema()))
    incoming = _greatest(cursor, contract, "incoming")
    return {group: max(incoming.get(group, -1), newest.get(group, -1)) for group in {**newest, **incoming}}


def bounds(cursor: duckdb.DuckDBPyConnection, contract: Contract, newest: Newest | None) -> str | None:
    """
    Return the row filter of the stored rows that `incoming` and `gone` may meet; None where they meet none.

    Rows above what their group holds at most meet none.
    """
    *group, key = map(quoted, contract.key)
    groups = ", ".join(group)
    only_held = ""
    if newest is not None:
        cursor.register("newest", _as_table(contract, newest))
        on = " and ".join(f"n.{g} = i.{g}" for g in group)
        only_held = f"join newest n on {on} and i.{key} <= n.{key}"
    found = cursor.execute(
        f"""
        select {groups}, min({key}), max({key}) from (
            select {", ".join(f"i.{k}" for k in (*group, key))} from incoming i {only_held}
            union all
            select {groups}, {key} from gone
        ) group by {groups}
        """
    ).fetchall()
    return _filter(contract, found)


def _as_table(contract: Contract, newest: Newest) -> pa.Table:
    import pyarrow as pa

    *group, key = contract.key
    columns = {name: pa.array([parts[i] for parts in newest], pa.string()) for i, name in enumerate(group)}
    return pa.table({**columns, key: pa.array(list(newest.values()), pa.int64())})


def _filter(contract: Contract, found: list[tuple[Any, ...]]) -> str | None:
    *group, key = contract.key
    if not found:
        return None
    if len(found) > MOST_GROUPS:
        low, high = min(row[-2] for row in found), max(row[-1] for row in found)
        return f"{key} >= {low} and {key} <= {high}"
    return " or ".join(
        "("
        + " and ".join(f"{name} = {text(part)}" for name, part in zip(group, row, strict=False))
        + f" and {key} >= {row[-2]} and {key} <= {row[-1]})"
        for row in found
    )


def _greatest(cursor: duckdb.DuckDBPyConnection, contract: Contract, rows: str) -> dict[tuple[str, ...], int]:
    *group, key = map(quoted, contract.key)
    groups = ", ".join(group)
    found = cursor.execute(f"select {groups}, max({key}) from {rows} group by {groups}").fetchall()
    return {tuple(parts): greatest for *parts, greatest in found}
