"""Tables follow their contracts: made from them, brought up to them, or refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from cryptolake.contracts import Contract, load_contracts
from cryptolake.errors import ContractError
from cryptolake.lake import Lake
from cryptolake.lake.evolve import VERSION
from tests.lake.shapes import PRICES, contract, held, open_lake

NAME = "silver.things"
COLUMNS: dict[str, Any] = {"thing_id": "int", "size": "float", "cost": "decimal(9, 2)", "made_on": "date"}
FIRST = contract(NAME, COLUMNS, key=["thing_id"], partitions={"made_on": "year"}, sort_order=["thing_id"])


def changed(
    columns: dict[str, Any], *, version: str = "1.1.0", partitions: dict[str, str] | None = None
) -> Contract:
    """Return a later contract of the things."""
    return contract(
        NAME, columns, version=version, key=["thing_id"], partitions=partitions or {"made_on": "year"}
    )


def lake_with(home: Path, promise: Contract) -> Lake:
    """Open the lake under *home* in the release that promises *promise*."""
    return open_lake(home, {NAME: promise})


def thing(thing_id: int, **columns: Any) -> pa.Table:
    """Return a row of the things."""
    return pa.Table.from_pylist([{"thing_id": thing_id, **columns}])


def test_a_table_is_created_as_its_contract_says(lake: Lake) -> None:
    """Columns, field ids, docs, partitioning, sort order and version come from the contract."""
    table = lake.ensure(PRICES.name)

    assert [(f.field_id, f.name, str(f.field_type), f.doc) for f in table.schema().fields] == [
        (c.field_id, c.name, c.type, c.description) for c in PRICES.columns
    ]
    assert not any(f.required for f in table.schema().fields)
    assert [(f.source_id, str(f.transform)) for f in table.spec().fields] == [(2, "year")]
    assert [f.source_id for f in table.sort_order().fields] == [1, 2]
    assert table.properties[VERSION] == "1.0.0"
    assert table.properties["commit.retry.num-retries"] == "0"
    assert table.metadata.format_version == 2
    assert lake.tables() == [PRICES.name]


def test_every_table_of_this_release_can_be_created(tmp_path: Path) -> None:
    """The bundled contracts make tables that do not differ from them, the first time and again."""
    contracts = load_contracts()
    with open_lake(tmp_path, contracts) as lake:
        for name in contracts:
            lake.ensure(name)
        assert lake.tables() == sorted(contracts)
        assert {name: lake.differences(name) for name in contracts} == {name: [] for name in contracts}


def test_ensuring_again_commits_nothing(lake: Lake) -> None:
    """A table that follows its contract is left alone."""
    first = lake.ensure(PRICES.name)

    assert lake.ensure(PRICES.name).metadata_location == first.metadata_location


def test_a_name_without_a_contract_is_refused(lake: Lake) -> None:
    """Only declared tables are made; the message names those that are."""
    with pytest.raises(
        ContractError, match=r"no contract declares silver\.typo; the tables are .*silver\.prices"
    ):
        lake.ensure("silver.typo")


def test_additive_changes_are_applied_and_older_rows_read_right(tmp_path: Path) -> None:
    """A new nullable column, wider types and a new description keep every stored value."""
    with lake_with(tmp_path, FIRST) as old:
        old.ensure(NAME)
        old.append(NAME, thing(7, size=0.5, cost=Decimal("1.25")))
    columns = {
        "thing_id": "long",
        "size": {"type": "double", "description": "How big it is."},
        "cost": "decimal(18, 2)",
        "made_on": "date",
        "note": "string",
    }
    with lake_with(tmp_path, changed(columns)) as new:
        table = new.ensure(NAME)
        new.append(NAME, thing(2**40, size=0.1, cost=Decimal(10**9), note="new"))

        assert table.properties[VERSION] == "1.1.0"
        assert table.schema().find_field("size").doc == "How big it is."
        assert table.schema().find_field("note").field_id == 5
        assert new.differences(NAME) == []
        rows = held(new, f"select thing_id, size, cost::varchar, note from {NAME} order by 1")
        assert rows == [(7, 0.5, "1.25", None), (2**40, 0.1, "1000000000.00", "new")]


REFUSED = {
    "a renamed column": (
        {**COLUMNS, "made_on": None, "born_on": "date"},
        {},
        r"field 4 is named made_on, not born_on",
    ),
    "a removed column": ({**COLUMNS, "cost": None}, {}, r"field 3 is named cost, not made_on"),
    "a removed last column": (
        {**COLUMNS, "made_on": None},
        {"partitions": {"thing_id": "bucket[4]"}},
        r"column made_on is not in the contract",
    ),
    "a new required column": (
        {**COLUMNS, "note": {"type": "string", "required": True}},
        {},
        r"new column note is required",
    ),
    "a narrower type": (
        {**COLUMNS, "made_on": "int"},
        {"partitions": {"thing_id": "bucket[4]"}},
        r"column made_on is date, which int",
    ),
    "another scale": (
        {**COLUMNS, "cost": "decimal(18, 4)"},
        {},
        r"column cost is decimal\(9, 2\), which decimal\(18, 4\) does not widen",
    ),
    "another partitioning": (
        COLUMNS,
        {"partitions": {"made_on": "month"}},
        r"partitioned by year\(made_on\), not month\(made_on\)",
    ),
    "several at once": (
        {**COLUMNS, "size": "string", "note": {"type": "string", "required": True}},
        {},
        r"column size is float, which string does not widen; new column note is required",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_other_changes_are_refused_by_name_and_nothing_is_written(tmp_path: Path, change: str) -> None:
    """Each difference is named with the way out, and the table stays as it was."""
    columns, options, message = REFUSED[change]
    with lake_with(tmp_path, FIRST) as old:
        before = old.ensure(NAME)
        snapshot = old.append(NAME, thing(7)).snapshot_id
    with lake_with(tmp_path, changed({k: v for k, v in columns.items() if v}, **options)) as new:
        with pytest.raises(ContractError, match=message) as refused:
            new.ensure(NAME)

        assert "version 1.0.0, this release: 1.1.0" in str(refused.value)
        assert "transform --full-refresh" in str(refused.value)
        after = new.table(NAME)
        assert after.schema() == before.schema()
        assert after.properties[VERSION] == "1.0.0"
        assert after.metadata.current_snapshot_id == snapshot


def test_a_contract_that_changes_without_a_new_version_is_refused(tmp_path: Path) -> None:
    """What a version promises never changes under its name."""
    with lake_with(tmp_path, FIRST) as old:
        old.ensure(NAME)
    silent = changed({**COLUMNS, "note": "string"}, version="1.0.0")
    message = r"column note \(field 5\) is missing"
    with lake_with(tmp_path, silent) as new, pytest.raises(ContractError, match=message):
        new.ensure(NAME)


def test_a_column_that_was_once_dropped_never_lends_its_field_id(tmp_path: Path) -> None:
    """A new column whose field id the table has used before is refused, before anything is written."""
    with lake_with(tmp_path, FIRST) as old:
        with old.ensure(NAME).update_schema() as schema:
            schema.add_column("gone", StringType())
        with old.table(NAME).update_schema() as schema:
            schema.delete_column("gone")
    with lake_with(tmp_path, changed({**COLUMNS, "note": "string"})) as new:
        with pytest.raises(ContractError, match=r"column note .*field 5"):
            new.ensure(NAME)
        assert new.table(NAME).properties[VERSION] == "1.0.0"


def test_a_table_of_a_newer_release_still_opens_and_takes_rows(tmp_path: Path) -> None:
    """Columns that a later release added, or made wider, do not stop this one; its rows lack them."""
    newer = changed({**COLUMNS, "thing_id": "long", "note": "string"}, version="2.0.0")
    with lake_with(tmp_path, newer) as new:
        new.ensure(NAME)
        new.append(NAME, thing(1, note="from the future"))
    with lake_with(tmp_path, FIRST) as old:
        old.ensure(NAME)
        old.append(NAME, thing(2))
        old.merge(NAME, thing(3))

        assert old.table(NAME).properties[VERSION] == "2.0.0"
        assert held(old, f"select thing_id, note from {NAME} order by 1") == [
            (1, "from the future"),
            (2, None),
            (3, None),
        ]


def test_a_lake_of_several_older_releases_reads_right_in_this_one(tmp_path: Path) -> None:
    """Rows written under each earlier version of a contract keep their values; what they lack is null."""
    releases = [
        FIRST,
        changed({**COLUMNS, "thing_id": "long"}, version="1.1.0"),
        changed({**COLUMNS, "thing_id": "long", "note": "string"}, version="1.2.0"),
        changed(
            {**COLUMNS, "thing_id": "long", "note": "string", "size": "double", "mark": "int"},
            version="1.10.0",
        ),
    ]
    for n, promise in enumerate(releases):
        with lake_with(tmp_path, promise) as lake:
            lake.ensure(NAME)
            lake.append(
                NAME,
                thing(n, size=0.25, **({"note": "n"} if n > 1 else {}), **({"mark": 9} if n > 2 else {})),
            )
    with lake_with(tmp_path, releases[-1]) as lake:
        rows = held(lake, f"select thing_id, size, note, mark from {NAME} order by 1")
    assert rows == [(0, 0.25, None, None), (1, 0.25, None, None), (2, 0.25, "n", None), (3, 0.25, "n", 9)]


def test_a_jump_over_releases_applies_all_their_changes(tmp_path: Path) -> None:
    """Nobody has to pass through every release."""
    with lake_with(tmp_path, FIRST) as old:
        old.ensure(NAME)
    with lake_with(tmp_path, changed({**COLUMNS, "a": "int", "b": "int"}, version="3.0.0")) as new:
        assert [f.field_id for f in new.ensure(NAME).schema().fields] == [1, 2, 3, 4, 5, 6]
