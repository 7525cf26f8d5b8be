"""Read the contracts: Open Data Contract Standard v3 documents, one a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cryptolake.contracts.contract import Column, Contract, Partition, Retention
from cryptolake.errors import ContractError

if TYPE_CHECKING:
    from open_data_contract_standard.model import CustomProperty, SchemaProperty

DURATION = re.compile(r"(\d+)([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@cache
def load_contracts() -> Mapping[str, Contract]:
    """
    Return the contract of every table of this release, by `layer.table`.

    Raises:
        ContractError: a bundled document does not follow the standard.
    """
    documents = sorted((files("cryptolake.contracts") / "tables").iterdir(), key=lambda p: p.name)
    parsed = [parse_contract(d.read_text(encoding="utf-8")) for d in documents]
    return MappingProxyType({c.name: c for c in parsed})


def parse_contract(document: str) -> Contract:
    """
    Return the contract in an ODCS v3 *document* (YAML with exactly one table).

    Raises:
        ContractError: it is not one, or a column lacks its type or description.
    """
    import yaml
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        odcs = OpenDataContractStandard(**yaml.load(document, loader))
    except (yaml.YAMLError, ValidationError, TypeError) as e:
        raise ContractError(f"not an ODCS v3 contract: {e}") from e
    if not odcs.name or not odcs.version or len(odcs.schema_ or []) != 1:
        raise ContractError(f"contract {odcs.name or odcs.id}: needs a name, a version and one table")
    [table] = odcs.schema_ or []
    properties = list(table.properties or [])
    columns = tuple(_column(odcs.name, i, p) for i, p in enumerate(properties, start=1))
    keyed = [p for p in properties if p.primaryKey]
    partitioned = [p for p in properties if p.partitioned]
    custom = _custom(table.customProperties)
    return Contract(
        name=odcs.name,
        version=odcs.version,
        purpose=(odcs.description.purpose if odcs.description else None) or "",
        columns=columns,
        key=tuple(str(p.name) for p in sorted(keyed, key=lambda p: p.primaryKeyPosition or 0)),
        partitions=tuple(
            Partition(str(p.name), _custom(p.customProperties).get("partitionTransform", "identity"))
            for p in sorted(partitioned, key=lambda p: p.partitionKeyPosition or 0)
        ),
        sort_order=tuple(custom.get("sortOrder", ())),
        retention=Retention(
            age=_duration(custom.get("snapshotRetention", "30d")),
            resolution=_duration(r) if (r := custom.get("snapshotResolution")) else None,
            daily_tags=int(custom.get("dailyTags", 0)),
        ),
        odcs=odcs,
        commit_stamp=custom.get("commitStamp"),
        preferred=tuple(custom.get("preferred", ())),
        has_rising_key=bool(custom.get("risingKey", False)),
        is_optional=bool(custom.get("optional", False)),
    )


def _column(table: str, position: int, p: SchemaProperty) -> Column:
    if not (p.name and p.physicalType and p.description):
        raise ContractError(
            f"contract {table}: column {p.name or position} needs name, physicalType and description"
        )
    custom = _custom(p.customProperties)
    return Column(
        field_id=position,
        name=p.name,
        type=p.physicalType,
        description=p.description,
        unit=custom.get("unit"),
        required=bool(p.required),
        relative_tolerance=custom.get("relativeTolerance"),
        odcs=p,
        compared=bool(custom.get("compared", True)),
        is_rising=bool(custom.get("rising", False)),
    )


def _custom(properties: Sequence[CustomProperty] | None) -> dict[str, Any]:
    return {str(p.property): p.value for p in properties or []}


def _duration(text: str) -> timedelta:
    if not (m := DURATION.fullmatch(text)):
        raise ContractError(f"not a duration: {text!r}; write a number and s, m, h or d, as in 30d")
    return timedelta(seconds=int(m[1]) * SECONDS[m[2]])
