"""
Hold a table against its contract, and apply what may change without breaking anyone.

Additive changes are a new nullable column, a wider type and another description; they are applied
by field id. Everything else is a difference that a person must decide about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from cryptolake.contracts.schemas import iceberg_schema, partition_spec
from cryptolake.errors import ContractError

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType, NestedField

    from cryptolake.contracts import Contract

VERSION = "cryptolake.contract-version"

log = structlog.get_logger(__name__)


def differences(table: Table, contract: Contract) -> list[str]:
    """Return where the shape of *table* is not that of *contract*, one sentence each; none is good."""
    held = {f.field_id: f for f in table.schema().fields}
    is_newer = _is_newer(table, contract)
    found = [
        _difference(held.get(f.field_id), f, may_be_wider=is_newer) for f in iceberg_schema(contract).fields
    ]
    if not is_newer:
        found += _undeclared(table, contract)
    return [difference for difference in found if difference] + _partitioning(table, contract)


def evolve(table: Table, contract: Contract) -> Table:
    """
    Apply the additive changes that *contract* asks of *table*, and return it.

    Raises:
        ContractError: they differ in any other way; the message names each difference and the way out.
        CommitFailedException: another process changed the table meanwhile.
    """
    is_older = table.properties.get(VERSION) != contract.version and not _is_newer(table, contract)
    if found := _refusals(table, contract) if is_older else differences(table, contract):
        raise ContractError(_message(table, contract, found))
    if is_older:
        _apply(table, contract)
    return table


def _difference(column: NestedField | None, promised: NestedField, *, may_be_wider: bool) -> str | None:
    if column is None:
        return f"column {promised.name} (field {promised.field_id}) is missing"
    if column.name != promised.name:
        return f"field {promised.field_id} is named {column.name}, not {promised.name}"
    if column.field_type == promised.field_type or (
        may_be_wider and _widens(promised.field_type, column.field_type)
    ):
        return None
    return f"column {promised.name} is {column.field_type}, not {promised.field_type}"


def _refusals(table: Table, contract: Contract) -> list[str]:
    """Return what keeps additive changes from bringing *table* up to *contract*."""
    held = {f.field_id: f for f in table.schema().fields}
    next_id = table.metadata.last_column_id + 1
    found = []
    for column, promised in zip(contract.columns, iceberg_schema(contract).fields, strict=True):
        field = held.get(column.field_id)
        if field is None:
            if column.required:
                found.append(f"new column {column.name} is required, which older rows cannot be")
            elif column.field_id != next_id:
                found.append(
                    f"new column {column.name} has field {column.field_id}, but the next free one is {next_id}"
                )
            next_id += 1
        elif field.name != column.name:
            found.append(f"field {field.field_id} is named {field.name}, not {column.name}")
        elif not _widens(field.field_type, promised.field_type):
            found.append(f"column {column.name} is {field.field_type}, which {column.type} does not widen")
    return found + _undeclared(table, contract) + _partitioning(table, contract)


def _widens(narrow: IcebergType, wide: IcebergType) -> bool:
    from pyiceberg.exceptions import ResolveError
    from pyiceberg.schema import promote
    from pyiceberg.types import DecimalType

    if narrow == wide:
        return True
    if isinstance(narrow, DecimalType) and isinstance(wide, DecimalType) and narrow.scale != wide.scale:
        return False  # `promote` does not look at the scale
    try:
        promote(narrow, wide)
    except ResolveError:
        return False
    return True


def _undeclared(table: Table, contract: Contract) -> list[str]:
    promised = {c.field_id for c in contract.columns}
    return [
        f"column {f.name} is not in the contract" for f in table.schema().fields if f.field_id not in promised
    ]


def _partitioning(table: Table, contract: Contract) -> list[str]:
    held = [(f.source_id, str(f.transform)) for f in table.spec().fields]
    promised = [(f.source_id, str(f.transform)) for f in partition_spec(contract).fields]
    if held == promised:
        return []
    names = {f.field_id: f.name for f in [*iceberg_schema(contract).fields, *table.schema().fields]}
    shown = [
        ", ".join(f"{transform}({names.get(i, i)})" for i, transform in spec) or "nothing"
        for spec in (held, promised)
    ]
    return [f"it is partitioned by {shown[0]}, not {shown[1]}"]


def _apply(table: Table, contract: Contract) -> None:
    wanted = {f.field_id: f for f in iceberg_schema(contract).fields}
    held = {f.field_id: f for f in table.schema().fields}
    with table.transaction() as tx:
        with tx.update_schema() as schema:
            for field_id, field in wanted.items():
                if field_id not in held:
                    schema.add_column(field.name, field.field_type, doc=field.doc)
                    log.info("contract.column_added", table=contract.name, column=field.name)
                elif (held[field_id].field_type, held[field_id].doc) != (field.field_type, field.doc):
                    schema.update_column(field.name, field_type=field.field_type, doc=field.doc)
                    log.info(
                        "contract.column_changed",
                        table=contract.name,
                        column=field.name,
                        type=str(field.field_type),
                    )
        tx.set_properties({VERSION: contract.version})


def _is_newer(table: Table, contract: Contract) -> bool:
    """Say whether *table* was last shaped by a later release than this one."""
    held = table.properties.get(VERSION, "0")
    return _number(held) > _number(contract.version)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _message(table: Table, contract: Contract, found: list[str]) -> str:
    held = table.properties.get(VERSION, "none")
    way_out = (
        "install the release that wrote it, or restore the table as the contract says"
        if contract.layer in {"bronze", "quality"}
        else f"install the release that wrote it, or drop {contract.name} and run `cryptolake transform --full-refresh`"
    )
    return (
        f"{contract.name} does not follow its contract (table: version {held}, this release: {contract.version}): "
        f"{'; '.join(found)}. Nothing was written. To go on, {way_out}."
    )
