"""What a table promises, in the terms that the rest of the package uses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_data_contract_standard.model import OpenDataContractStandard, SchemaProperty


@dataclass(frozen=True)
class Column:
    """
    One promised column.

    *field_id* is its Iceberg field id: its position in the contract, so new columns go last.
    *type* is an Iceberg type (`string`, `long`, `timestamptz`, `decimal(28, 12)`, …).
    *relative_tolerance* is how far two values may lie apart and still be equal. Where it is not *compared*, it
    says how the row reached us and makes no rows differ. *is_rising*: neighbours differ little, so that files
    hold the differences.
    """

    field_id: int
    name: str
    type: str
    description: str
    unit: str | None
    required: bool
    relative_tolerance: float | None
    odcs: SchemaProperty
    compared: bool = True
    is_rising: bool = False

    @property
    def is_lineage(self) -> bool:
        """Say whether the column tells how the row came here; such columns never make rows differ."""
        return self.name.startswith("_")


@dataclass(frozen=True)
class Partition:
    """A partition field: an Iceberg *transform* (`year`, `truncate[100]`, …) of *column*."""

    column: str
    transform: str


@dataclass(frozen=True)
class Retention:
    """
    Which snapshots stay readable.

    All of the last *age*; where *resolution* is set, only the last of every *resolution* once
    they are not among the newest 20; and with *daily_tags* one a day for that many days.
    """

    age: timedelta
    resolution: timedelta | None = None
    daily_tags: int = 0


@dataclass(frozen=True)
class Contract:
    """
    The promise of one table, `layer.table`, parsed from its ODCS document *odcs*.

    *commit_stamp* is the column that a merge stamps with the time of its commit. Of two rows with one key the
    one that comes first by the columns *preferred* is kept. *has_rising_key*: the last column of the key rises
    with the rows that come, within the others. A table that *is_optional* may be missing, or have no rows yet.
    """

    name: str
    version: str
    purpose: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partitions: tuple[Partition, ...]
    sort_order: tuple[str, ...]
    retention: Retention
    odcs: OpenDataContractStandard
    commit_stamp: str | None = None
    preferred: tuple[str, ...] = ()
    has_rising_key: bool = False
    is_optional: bool = False

    @property
    def layer(self) -> str:
        """Return the namespace: bronze, silver, gold or quality."""
        return self.name.split(".")[0]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the names of all columns, in the order of their field ids."""
        return tuple(c.name for c in self.columns)

    @property
    def compared_columns(self) -> tuple[Column, ...]:
        """Return the columns that decide whether two rows are equal: all but the key and those that say how a row came."""
        return tuple(c for c in self.columns if c.compared and not c.is_lineage and c.name not in self.key)
