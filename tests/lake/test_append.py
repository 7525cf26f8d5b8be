"""Appending adds the rows that are new, once, whoever else is writing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from cryptolake.clock import Clock
from cryptolake.errors import ContractError, LakeError
from cryptolake.lake import Committed, Lake
from cryptolake.lake.catalog import open_catalog
from tests.lake import processes
from tests.lake.processes import ONLY_NEW
from tests.lake.shapes import (
    NOON,
    PRICES,
    TRADES,
    contract,
    held,
    open_lake,
    prices,
    snapshots_of,
    trades,
)


@pytest.fixture
def stream(lake: Lake) -> Lake:
    """Return a lake with an empty table of trades."""
    lake.ensure(TRADES.name)
    return lake


def test_rows_are_appended_in_one_snapshot(stream: Lake) -> None:
    """The answer says how many rows, and in which snapshot."""
    done = stream.append(TRADES.name, trades([1, 2]))

    assert done == Committed(rows_added=2, snapshot_id=snapshots_of(stream, TRADES.name)[0])
    assert len(snapshots_of(stream, TRADES.name)) == 1
    assert held(stream, "select trade_id, price from bronze.trades order by 1") == [(1, None), (2, None)]


def test_no_rows_are_no_commit(stream: Lake) -> None:
    """Neither an empty batch nor one that holds nothing new makes a snapshot."""
    stream.append(TRADES.name, trades([1]))
    before = stream.table(TRADES.name).metadata_location

    assert stream.append(TRADES.name, trades([])) == Committed()
    assert stream.append(TRADES.name, trades([1]), new=ONLY_NEW) == Committed()
    assert stream.table(TRADES.name).metadata_location == before


def test_only_rows_chosen_as_new_are_appended(stream: Lake) -> None:
    """`new` sees what is stored and what comes in."""
    stream.append(TRADES.name, trades([1, 2]), new=ONLY_NEW)

    assert stream.append(TRADES.name, trades([2, 3, 4]), new=ONLY_NEW).rows_added == 2
    assert held(stream, "select trade_id from bronze.trades order by 1") == [(1,), (2,), (3,), (4,)]


def test_what_is_stored_can_be_bounded(lake: Lake) -> None:
    """`within` leaves files out of `stored` that cannot matter."""
    lake.ensure(PRICES.name)
    lake.append(PRICES.name, prices("bitcoin", [0, 400]))
    count = "select i.* replace ((select count(*) from stored)::double as price) from incoming i"

    lake.append(PRICES.name, prices("ethereum", [1]), new=count, within="day < '2025-01-01'")

    assert held(lake, "select price from silver.prices where coin_id = 'ethereum'") == [(1.0,)]


def test_rows_are_stored_in_the_order_of_the_contract(stream: Lake) -> None:
    """Sorted files prune well."""
    stream.append(TRADES.name, trades([3, 1, 2]))

    [task] = stream.table(TRADES.name).scan().plan_files()
    assert stream.table(TRADES.name).scan().to_arrow()["trade_id"].to_pylist() == [1, 2, 3]
    assert task.file.record_count == 3


def test_columns_that_the_contract_lacks_and_values_that_do_not_fit_are_refused(stream: Lake) -> None:
    """A batch that is not of the table's shape is refused by name, and nothing is written."""
    with pytest.raises(ContractError, match=r"bronze\.trades has no columns colour, size"):
        stream.append(TRADES.name, pa.table({"trade_id": [1], "size": [1], "colour": ["red"]}))
    with pytest.raises(ContractError, match=r"rows do not fit the columns of bronze\.trades"):
        stream.append(TRADES.name, pa.table({"trade_id": ["one"]}))
    assert snapshots_of(stream, TRADES.name) == []


def test_a_table_that_is_missing_is_a_clear_error(lake: Lake) -> None:
    """The message says which, where, and what makes it."""
    with pytest.raises(
        LakeError, match=r"the lake at .*warehouse has no table bronze\.trades; `cryptolake run` makes it"
    ):
        lake.append(TRADES.name, trades([1]))


def test_load_times_rise_with_every_commit_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    """A later commit never has an earlier stamp, so a watermark on it misses nothing."""
    with open_lake(tmp_path) as lake:
        lake.ensure(TRADES.name)
        lake.append(TRADES.name, trades([1, 2]))
    for n, behind in enumerate([timedelta(0), timedelta(hours=1), timedelta(seconds=-5), timedelta(days=9)]):
        with open_lake(tmp_path, clock=Clock.fixed(NOON - behind)) as lake:
            lake.append(TRADES.name, trades([3 + n]))
            lake.maintain(orphans_older_than_seconds=0, dry_run=False)

    with open_lake(tmp_path) as lake:
        stamps = [t for (t,) in held(lake, "select _loaded_at from bronze.trades order by trade_id")]
    tick = timedelta(microseconds=1)
    later = NOON + timedelta(seconds=5)
    assert stamps == [NOON, NOON, NOON + tick, NOON + 2 * tick, later, later + tick]


def test_a_table_without_a_load_time_is_appended_to_as_well(lake: Lake) -> None:
    """Only contracts with `_loaded_at` are stamped."""
    lake.ensure(PRICES.name)
    lake.append(PRICES.name, prices("bitcoin", [0]))

    assert held(lake, "select price, _processed_at from silver.prices") == [(1.0, None)]


def test_partitions_by_text_work_and_take_their_rows(tmp_path: Path) -> None:
    """A key may be partitioned by text, also for merges that prune by it."""
    name = "silver.by_symbol"
    made = contract(name, {"symbol": "string", "v": "int"}, key=["symbol"], partitions={"symbol": "identity"})
    with open_lake(tmp_path, {name: made}) as lake:
        lake.ensure(name)
        lake.append(name, pa.table({"symbol": ["BTC/USD", "it's", "é%20"], "v": [1, 1, 1]}))
        lake.merge(name, pa.table({"symbol": ["it's", "é%20", "new"], "v": [1, 2, 3]}))
        assert held(lake, f"select * from {name} order by 1") == [
            ("BTC/USD", 1),
            ("it's", 1),
            ("new", 3),
            ("é%20", 2),
        ]


@pytest.mark.slow
def test_two_processes_that_append_the_same_rows_store_each_once(tmp_path: Path) -> None:
    """What is new is decided again when another writer came first; load times rise over all commits."""
    with open_lake(tmp_path) as lake:
        lake.ensure(TRADES.name)
    first, second = list(range(60)), list(range(30, 90))[::-1]

    processes.run(
        processes.append_in_steps,
        [(tmp_path, first, 3, timedelta(0)), (tmp_path, second, 4, timedelta(hours=1))],
    )

    with open_lake(tmp_path) as lake:
        assert held(lake, "select trade_id from bronze.trades order by 1") == [(n,) for n in range(90)]
        commits = lake.table(TRADES.name).metadata.last_sequence_number
        assert held(lake, "select count(distinct _loaded_at) from bronze.trades") == [(commits,)]


@pytest.mark.slow
def test_a_new_lake_can_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    """Who comes second finds the catalog, the namespaces and the tables made, and goes on."""
    for n in range(2):
        home = tmp_path / str(n)
        processes.run(processes.create_and_append, [(home, range(10 * k, 10 * k + 15)) for k in range(4)])

        with open_lake(home) as lake:
            assert lake.tables() == [TRADES.name, PRICES.name]
            assert held(lake, "select trade_id from bronze.trades order by 1") == [(k,) for k in range(45)]


def test_catalog_settings_that_cannot_work_are_a_clear_error() -> None:
    """PyIceberg's own complaint is passed on."""
    with pytest.raises(LakeError, match="the catalog settings are not usable"):
        open_catalog({"type": "nonsense", "uri": "x"})
