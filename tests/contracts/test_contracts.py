"""The contracts: each follows the standard, is whole in itself, and fits the others."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from jsonschema.validators import validator_for
from open_data_contract_standard.model import OpenDataContractStandard

import cryptolake.contracts
from cryptolake.contracts import load_contracts, parse_contract
from cryptolake.contracts.schemas import arrow_schema, iceberg_schema, partition_spec, sort_order
from cryptolake.errors import ContractError

DOCUMENTS = sorted((Path(cryptolake.contracts.__file__).parent / "tables").glob("*.yaml"))
CONTRACTS = load_contracts()
LOGICAL = {
    "string": {"string", "binary"},
    "integer": {"int", "long"},
    "number": {"double", "float", "decimal"},
    "date": {"date"},
    "timestamp": {"timestamptz"},
    "boolean": {"boolean"},
}
COLUMN = {"name": "id", "logicalType": "integer", "physicalType": "long", "description": "An id."}

every_contract = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda c: c.name)


def document(*columns: dict, **changes) -> str:
    """Return the YAML of a small contract, with *changes* to its top level."""
    tree = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "urn:cryptolake:silver.things",
        "name": "silver.things",
        "version": "1.0.0",
        "status": "active",
        "schema": [{"name": "things", "properties": list(columns) or [COLUMN]}],
        **changes,
    }
    return yaml.safe_dump({k: v for k, v in tree.items() if v is not None})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_a_contract_follows_the_published_standard(path):
    """Any tool that reads the Open Data Contract Standard reads ours."""
    schema = json.loads(OpenDataContractStandard.json_schema())
    found = validator_for(schema)(schema).iter_errors(yaml.safe_load(path.read_text()))
    assert [f"{error.json_path}: {error.message}" for error in found] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_a_contract_is_named_like_its_file_and_its_table(path):
    """File, document, id and physical table have one name."""
    tree = yaml.safe_load(path.read_text())
    name = path.name.removesuffix(".yaml")
    assert (tree["name"], tree["id"]) == (name, f"urn:cryptolake:{name}")
    assert tree["schema"][0]["physicalName"] == name
    assert tree["schema"][0]["name"] == name.split(".")[1]
    assert CONTRACTS[name].layer in {"bronze", "silver", "gold", "quality"}


@every_contract
def test_field_ids_count_the_columns(contract):
    """A column's Iceberg field id is its position, so a new column goes last and no id is used twice."""
    assert [c.field_id for c in contract.columns] == list(range(1, len(contract.columns) + 1))
    assert len(set(contract.column_names)) == len(contract.columns)


@every_contract
def test_a_contract_says_what_a_row_is_and_what_for(contract):
    """Purpose and grain are said of every table, a unit or a proper description of every column."""
    [table] = contract.odcs.schema_
    assert contract.purpose.endswith(".")
    assert table.dataGranularityDescription.startswith("One row ")
    assert all(len(c.description) > 5 for c in contract.columns)


@every_contract
def test_keys_partitions_and_order_are_columns(contract):
    """What a table is keyed, partitioned and sorted by is among its columns, and a key is never null."""
    columns = {c.name: c for c in contract.columns}
    assert {*contract.key, *contract.sort_order, *(p.column for p in contract.partitions)} <= columns.keys()
    assert all(columns[k].required for k in contract.key)
    assert len(set(contract.key)) == len(contract.key)


@every_contract
def test_key_positions_count_from_one(contract):
    """The order of a key of several columns is said, without gaps."""
    keyed = [p for p in contract.odcs.schema_[0].properties if p.primaryKey]
    assert sorted(p.primaryKeyPosition for p in keyed) == list(range(1, len(keyed) + 1))


@every_contract
def test_logical_and_physical_types_agree(contract):
    """The type that a person reads is the type that is stored."""
    for column in contract.columns:
        assert column.type.split("(")[0] in LOGICAL[column.odcs.logicalType], column.name


@every_contract
def test_references_lead_to_key_columns(contract):
    """A foreign key points at a column of a table that has a contract, of the same type, and its whole key."""
    for column in contract.columns:
        for relationship in column.odcs.relationships or []:
            table, _, name = relationship.to.rpartition(".")
            target = CONTRACTS[table]
            assert target.key == (name,)
            assert {c.name: c.type for c in target.columns}[name] == column.type


@every_contract
def test_checks_have_names_of_their_own(contract):
    """A check is known by its name in its table; each says what it measures and how bad a breach is."""
    rules = [
        r
        for place in (contract.odcs.schema_[0], *(c.odcs for c in contract.columns))
        for r in place.quality or []
    ]
    assert len({r.id for r in rules}) == len(rules)
    for rule in rules:
        assert rule.severity in {"error", "warning"}
        assert rule.dimension in {
            "accuracy",
            "completeness",
            "conformity",
            "consistency",
            "timeliness",
            "uniqueness",
        }
        assert rule.description or rule.metric


@every_contract
def test_freshness_is_about_a_column_of_the_data(contract):
    """How old the data is, is told by its own time, not by when it was loaded."""
    for sla in contract.odcs.slaProperties or []:
        table, column = sla.element.split(".")
        assert f"{contract.layer}.{table}" == contract.name
        assert column in contract.column_names
        assert not column.startswith("_")
        assert 0 < sla.value < sla.valueExt


@every_contract
def test_lineage_never_makes_rows_differ(contract):
    """Compared are all columns but the key and those that tell how a row came here."""
    compared = {c.name for c in contract.compared_columns}
    told = {"received_at", "event_at", "received_via"} if contract.name == "silver.trades" else set()
    assert not compared & set(contract.key)
    assert {c for c in contract.column_names if not c.startswith("_")} == compared | told | {
        k for k in contract.key if not k.startswith("_")
    }


@every_contract
def test_what_a_merge_goes_by_is_among_the_columns(contract):
    """A stamp is a lineage time, what is preferred is a column, and a rising key ends with an integer."""
    columns = {c.name: c for c in contract.columns}
    if contract.commit_stamp:
        assert columns[contract.commit_stamp].is_lineage
        assert columns[contract.commit_stamp].type == "timestamptz"
    assert set(contract.preferred) <= columns.keys()
    assert not contract.has_rising_key or columns[contract.key[-1]].type == "long"
    assert all(c.type in {"long", "timestamptz"} for c in contract.columns if c.is_rising)


@every_contract
def test_the_arrow_schema_is_the_iceberg_schema(contract):
    """Rows that are written with the Arrow schema are what the table takes, column by column and back."""
    from pyiceberg.io.pyarrow import pyarrow_to_schema
    from pyiceberg.table.name_mapping import MappedField, NameMapping

    arrow, iceberg = arrow_schema(contract), iceberg_schema(contract)
    mapping = NameMapping([MappedField(field_id=c.field_id, names=[c.name]) for c in contract.columns])
    assert arrow.names == list(contract.column_names)
    assert [(f.field_id, f.name) for f in iceberg.fields] == [(c.field_id, c.name) for c in contract.columns]
    assert [str(f.field_type).replace(" ", "") for f in iceberg.fields] == [
        c.type.replace(" ", "") for c in contract.columns
    ]
    assert [f.doc for f in iceberg.fields] == [c.description for c in contract.columns]
    back = pyarrow_to_schema(arrow, name_mapping=mapping)
    assert [(f.field_id, f.name, f.field_type) for f in back.fields] == [
        (f.field_id, f.name, f.field_type) for f in iceberg.fields
    ]


@every_contract
def test_nothing_is_required_in_storage(contract):
    """A missing value can land, so that its check can find it."""
    assert not any(f.required for f in iceberg_schema(contract).fields)
    assert all(f.nullable for f in arrow_schema(contract))


@every_contract
def test_partitioning_and_order_bind_to_the_schema(contract):
    """Every transform can be applied to its column, and partition names are unique."""
    schema, spec, order = iceberg_schema(contract), partition_spec(contract), sort_order(contract)
    for field in spec.fields:
        assert field.transform.can_transform(schema.find_type(field.source_id))
    assert len({f.name for f in spec.fields}) == len(contract.partitions)
    assert [schema.find_column_name(f.source_id) for f in order.fields] == list(contract.sort_order)


def test_a_small_contract_is_enough():
    """Name, version and described columns are all that a contract needs."""
    contract = parse_contract(document())
    assert (contract.name, contract.layer, contract.key, contract.partitions) == (
        "silver.things",
        "silver",
        (),
        (),
    )
    assert contract.retention.age == timedelta(days=30)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not an ODCS v3 contract"),
        ("", "not an ODCS v3 contract"),
        ("- a\n- b", "not an ODCS v3 contract"),
        ("just text", "not an ODCS v3 contract"),
        (document(nonsense=1), "not an ODCS v3 contract"),
        (document(schema=[]), "needs a name, a version and one table"),
        (document(schema=[{"name": "a"}, {"name": "b"}]), "needs a name, a version and one table"),
        (document(version=None), "needs a name, a version and one table|not an ODCS v3 contract"),
        (document({**COLUMN, "description": None}), "column id needs name, physicalType and description"),
        (document({**COLUMN, "physicalType": None}), "column id needs name, physicalType and description"),
        (document({**COLUMN, "name": None}), "column 1 needs name, physicalType and description"),
    ],
)
def test_what_is_no_contract_is_refused(text, message):
    """A contract that cannot be trusted stops at the door, with what is wrong."""
    with pytest.raises(ContractError, match=message):
        parse_contract(text)


@pytest.mark.parametrize("text", ["30", "d30", "a day", "30 days", "-1d"])
def test_a_retention_that_is_no_duration_is_refused(text):
    """Durations are a number and a unit."""
    kept = [{"property": "snapshotRetention", "value": text}]
    table = {"name": "things", "properties": [COLUMN], "customProperties": kept}
    with pytest.raises(ContractError, match="not a duration"):
        parse_contract(document(schema=[table]))


def test_contracts_are_read_once_and_cannot_be_changed():
    """The tables of a release are the same for everyone in the process."""
    assert load_contracts() is load_contracts()
    with pytest.raises(TypeError):
        load_contracts()["x.y"] = None
