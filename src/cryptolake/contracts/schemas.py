"""The Arrow and Iceberg schemas, partitioning and sort order that follow from a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table.sorting import SortOrder

    from cryptolake.contracts.contract import Contract


def iceberg_schema(contract: Contract) -> Schema:
    """
    Return the Iceberg schema of *contract*, field ids and column docs included.

    Columns are nullable in storage, so that a missing value can land and be found by its check;
    what must be present is said by `required` in the contract.
    """
    from pyiceberg.schema import Schema
    from pyiceberg.types import IcebergType, NestedField

    return Schema(
        *(
            NestedField(
                c.field_id,
                c.name,
                IcebergType.model_validate(c.type),
                required=False,
                doc=c.description,
            )
            for c in contract.columns
        )
    )


def arrow_schema(contract: Contract) -> pa.Schema:
    """Return the PyArrow schema that rows of *contract* are written with."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    return schema_to_pyarrow(iceberg_schema(contract), include_field_ids=False)


def partition_spec(contract: Contract) -> PartitionSpec:
    """Return the Iceberg partitioning of *contract*."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import parse_transform

    ids = {c.name: c.field_id for c in contract.columns}
    return PartitionSpec(
        *(
            PartitionField(
                ids[p.column],
                1000 + i,
                parse_transform(p.transform),
                f"{p.column}_{p.transform.split('[')[0]}",
            )
            for i, p in enumerate(contract.partitions)
        )
    )


def sort_order(contract: Contract) -> SortOrder:
    """Return the Iceberg sort order of *contract*: ascending, nulls first."""
    from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
    from pyiceberg.transforms import IdentityTransform

    ids = {c.name: c.field_id for c in contract.columns}
    return SortOrder(
        *(
            SortField(ids[c], IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST)
            for c in contract.sort_order
        ),
        order_id=1 if contract.sort_order else 0,
    )
