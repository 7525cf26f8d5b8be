"""Rows in the columns, types, order and stamps that a table and its contract ask for."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from cryptolake.errors import ContractError
from cryptolake.lake.scan import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

    from cryptolake.contracts import Contract


def conformed(rows: pa.Table, table: Table) -> pa.Table:
    """
    Return *rows* in the columns, order and types of *table*; what they lack is null.

    Raises:
        ContractError: they have other columns, or values that do not fit.
    """
    import pyarrow as pa

    schema = table.schema().as_arrow()
    if unknown := sorted(set(rows.schema.names) - set(schema.names) - {"_file"}):
        raise ContractError(f"{'.'.join(table.name())} has no columns {', '.join(unknown)}")
    columns = [
        rows[f.name] if f.name in rows.schema.names else pa.nulls(rows.num_rows, f.type) for f in schema
    ]
    try:
        return pa.table(columns, names=schema.names).cast(schema)
    except pa.ArrowInvalid as e:
        raise ContractError(f"rows do not fit the columns of {'.'.join(table.name())}: {e}") from e


def stamped(rows: pa.Table, column: str | None, at: datetime) -> pa.Table:
    """Return *rows* with the time *at* in *column*, where there is one of that name."""
    import pyarrow as pa

    if column not in rows.schema.names:
        return rows
    kind = rows.schema.field(column)
    stamps = pa.repeat(pa.scalar(at, kind.type), rows.num_rows)
    return rows.set_column(rows.schema.get_field_index(column), kind, stamps)


def order_by(contract: Contract) -> str:
    """Return the SQL that sorts rows as *contract* says."""
    return f" order by {', '.join(map(quoted, contract.sort_order))}" if contract.sort_order else ""
