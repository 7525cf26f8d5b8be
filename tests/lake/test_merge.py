"""A merge brings a table to hold its rows by key, and touches nothing else."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryptolake.errors import ContractError
from cryptolake.lake import Committed, Lake
from tests.lake import processes
from tests.lake.shapes import (
    FIRST_DAY,
    NOON,
    PRICES,
    contract,
    files_of,
    held,
    open_lake,
    prices,
    snapshots_of,
)


@pytest.fixture
def market(lake: Lake) -> Lake:
    """Return a lake with a year and a bit of two coins: two partitions, one file each."""
    lake.ensure(PRICES.name)
    lake.merge(
        PRICES.name, pa.concat_tables([prices(coin, range(0, 500, 5)) for coin in ("bitcoin", "ethereum")])
    )
    return lake


def test_a_first_merge_adds_every_row(lake: Lake) -> None:
    """The answer counts what was added and replaced, and the files that gave way."""
    lake.ensure(PRICES.name)

    done = lake.merge(PRICES.name, prices("bitcoin", range(3)))
    assert done == Committed(
        rows_added=3, rows_replaced=0, files_rewritten=0, snapshot_id=snapshots_of(lake, PRICES.name)[0]
    )


def test_rows_that_are_held_already_are_not_written_again(market: Lake) -> None:
    """Nothing differs: no commit, no snapshot, no file."""
    before = market.table(PRICES.name).metadata_location

    assert market.merge(PRICES.name, prices("bitcoin", range(0, 500, 5))) == Committed()
    assert market.merge(PRICES.name, prices("bitcoin", [])) == Committed()
    assert market.table(PRICES.name).metadata_location == before


def test_lineage_alone_makes_no_row_differ(market: Lake) -> None:
    """Columns that begin with `_` say how a row came; they do not restate it."""
    rows = prices("bitcoin", [0]).append_column(
        "_processed_at", pa.array([date(2024, 5, 5)]).cast(pa.timestamp("us", "UTC"))
    )

    assert market.merge(PRICES.name, rows) == Committed()


def test_only_files_that_hold_a_changed_row_are_rewritten(market: Lake) -> None:
    """A restated day of 2024 leaves the file of 2025 alone, and one snapshot holds it all."""
    before, snapshots = files_of(market, PRICES.name), snapshots_of(market, PRICES.name)

    done = market.merge(PRICES.name, prices("bitcoin", [0, 5, 10], price=2.0))

    kept = before & files_of(market, PRICES.name)
    assert (done.rows_added, done.rows_replaced, done.files_rewritten) == (0, 3, 1)
    assert [f for f in kept if "day_year=2025" in f] == list(kept)
    assert len(kept) == 1
    assert snapshots_of(market, PRICES.name) == [*snapshots, done.snapshot_id]
    assert held(market, "select price, count(*) from silver.prices group by 1 order by 1") == [
        (1.0, 197),
        (2.0, 3),
    ]


def test_new_rows_rewrite_no_file(market: Lake) -> None:
    """Rows of new keys go into files of their own."""
    before = files_of(market, PRICES.name)

    done = market.merge(PRICES.name, prices("solana", [0, 400]))
    assert (done.rows_added, done.files_rewritten) == (2, 0)
    assert before < files_of(market, PRICES.name)


def test_unchanged_rows_of_a_batch_are_left_where_they_are(market: Lake) -> None:
    """A batch may bring the whole history; only what differs is written."""
    rows = pa.concat_tables(
        [prices("bitcoin", range(0, 495, 5)), prices("bitcoin", [495], price=7.0), prices("aave", [1])]
    )

    done = market.merge(PRICES.name, rows)
    assert (done.rows_added, done.rows_replaced, done.files_rewritten) == (1, 1, 1)


def test_rewritten_files_are_sorted_as_the_contract_says(market: Lake) -> None:
    """Order in a file is what makes pruning work."""
    market.merge(PRICES.name, prices("bitcoin", [100], price=2.0))

    for task in market.table(PRICES.name).scan().plan_files():
        keys = market.table(PRICES.name).io.new_input(task.file.file_path)
        with keys.open() as file:
            rows = pa.parquet.read_table(file, columns=["coin_id", "day"]).to_pylist()
        assert rows == sorted(rows, key=lambda r: (r["coin_id"], r["day"]))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            prices("bitcoin", [1, 1]),
            r"silver\.prices: the key .* = \('bitcoin', .*2024.* 1, 2.*\) is null or comes 2 times",
        ),
        (prices("bitcoin", [1], coin_id=None), r"\(None, .*\) is null or comes 1 times"),
        (prices("bitcoin", [1], day=None), r"\('bitcoin', None\) is null or comes 1 times"),
    ],
    ids=["twice", "null in the first column", "null in the second column"],
)
@pytest.mark.parametrize("full", [False, True])
def test_a_key_that_is_null_or_comes_twice_is_refused(
    market: Lake, rows: pa.Table, said: str, full: bool
) -> None:
    """A table by key has one row a key; what would break that is named, and nothing is written."""
    before = market.table(PRICES.name).metadata_location

    with pytest.raises(ContractError, match=said):
        market.merge(PRICES.name, rows, full=full)
    assert market.table(PRICES.name).metadata_location == before


NAN, INF = math.nan, math.inf
SAME = [(1.0, 1.0), (None, None), (NAN, NAN), (INF, INF), (-INF, -INF), (0.0, 0.0), (0.0, -0.0)]
CHANGED = [
    *((1.0, 2.0), (None, 1.0), (1.0, None), (NAN, 1.0), (1.0, NAN), (NAN, None), (None, NAN), (INF, -INF)),
    *((INF, 1.0), (1.0, INF), (INF, NAN), (NAN, -INF), (0.0, 1e-300), (1e-300, 0.0), (1.0, -1.0)),
]


@pytest.mark.parametrize("column", ["price", "log_return"])
def test_values_are_equal_or_differ(lake: Lake, column: str) -> None:
    """Null equals null and not-a-number itself; a tolerance makes neither equal to a number, nor infinity."""
    lake.ensure(PRICES.name)
    cases = [*SAME, *CHANGED]
    stored = [prices("x", [n], **{column: old}) for n, (old, _) in enumerate(cases)]
    lake.merge(PRICES.name, pa.concat_tables(stored))
    again = pa.concat_tables([prices("x", [n], **{column: new}) for n, (_, new) in enumerate(cases)])
    stamp = pa.repeat(pa.scalar(NOON, pa.timestamp("us", "UTC")), len(cases))

    done = lake.merge(PRICES.name, again.append_column("_processed_at", stamp))

    rows = held(lake, f"select _processed_at is not null, {column} from silver.prices order by day")
    written = [cases[n] for n, (is_new, _) in enumerate(rows) if is_new]
    assert repr(written) == repr(CHANGED)
    assert repr([value for is_new, value in rows if is_new]) == repr([new for _, new in CHANGED])
    assert done.rows_replaced == len(CHANGED)


@pytest.mark.parametrize(
    ("factor", "differs"), [(1 + 5e-13, False), (1 - 5e-13, False), (1 + 5e-12, True), (-1.0, True)]
)
def test_logarithms_are_equal_within_their_tolerance(market: Lake, factor: float, differs: bool) -> None:
    """What engines compute differently in the last digits is not a change; other columns are compared exactly."""
    assert market.merge(PRICES.name, prices("bitcoin", [0], log_return=0.5 * factor)).rows_replaced == int(
        differs
    )
    assert market.merge(PRICES.name, prices("ethereum", [0], price=1 + 5e-13)).rows_replaced == 1


def test_a_full_merge_replaces_every_row_and_keeps_history(market: Lake) -> None:
    """Rows that are not in the batch vanish, in one snapshot; the one before stays readable."""
    before = snapshots_of(market, PRICES.name)[-1]

    done = market.merge(PRICES.name, prices("solana", [0, 1]), full=True)

    assert (done.rows_added, done.files_rewritten) == (2, 2)
    assert snapshots_of(market, PRICES.name) == [before, done.snapshot_id]
    assert held(market, "select coin_id, count(*) from silver.prices group by 1") == [("solana", 2)]
    with market.reader(as_of=before) as reader:
        assert reader.rows("select count(*) from silver.prices") == [(200,)]


def test_a_full_merge_of_nothing_empties_the_table(market: Lake) -> None:
    """No rows are an answer too; doing it again commits nothing."""
    assert market.merge(PRICES.name, prices("x", []), full=True).files_rewritten == 2
    assert held(market, "select count(*) from silver.prices") == [(0,)]
    assert market.merge(PRICES.name, prices("x", []), full=True) == Committed()
    market.merge(PRICES.name, prices("x", [0]))
    assert held(market, "select count(*) from silver.prices") == [(1,)]


def test_rows_of_other_releases_keep_columns_that_this_one_does_not_know(tmp_path: Path) -> None:
    """A merge by an older release leaves untouched rows whole, also in files that it rewrites."""
    columns = {"id": "int", "v": "int", "extra": "string"}
    newer = contract("silver.t", columns, key=["id"], version="2.0.0")
    older = contract("silver.t", {"id": "int", "v": "int"}, key=["id"])
    with open_lake(tmp_path, {newer.name: newer}) as lake:
        lake.ensure(newer.name)
        lake.merge(newer.name, pa.table({"id": [1, 2], "v": [1, 1], "extra": ["a", "b"]}))
    with open_lake(tmp_path, {older.name: older}) as lake:
        lake.ensure(older.name)
        assert lake.merge(older.name, pa.table({"id": [2, 3], "v": [1, 1]})).rows_replaced == 0
        assert lake.merge(older.name, pa.table({"id": [2], "v": [9]})).rows_replaced == 1
        assert held(lake, "select * from silver.t order by id") == [(1, 1, "a"), (2, 9, None), (3, 1, None)]


def test_a_table_of_keys_alone_takes_new_keys_only(tmp_path: Path) -> None:
    """Without columns to compare, a key that is held is unchanged."""
    only = contract("silver.ids", {"id": "int"}, key=["id"])
    with open_lake(tmp_path, {only.name: only}) as lake:
        lake.ensure(only.name)
        lake.merge(only.name, pa.table({"id": [1, 2]}))
        assert lake.merge(only.name, pa.table({"id": [2, 3]})).rows_added == 1


def test_a_merge_by_a_time_is_pruned_by_its_partition(tmp_path: Path) -> None:
    """Keys that hold a time with zone find their rows, at the edges too."""
    by_time = contract(
        "silver.bars",
        {"began_at": "timestamptz", "v": "int"},
        key=["began_at"],
        partitions={"began_at": "day"},
    )
    with open_lake(tmp_path, {by_time.name: by_time}) as lake:
        lake.ensure(by_time.name)
        times = pa.array([0, 86_399_999_999, 86_400_000_000], pa.timestamp("us", "UTC"))
        lake.merge(by_time.name, pa.table({"began_at": times, "v": [1, 1, 1]}))
        done = lake.merge(by_time.name, pa.table({"began_at": times, "v": [1, 2, 2]}))
        assert (done.rows_replaced, done.files_rewritten) == (2, 2)
        assert held(lake, "select v from silver.bars order by began_at") == [(1,), (2,), (2,)]


@pytest.mark.slow
def test_four_processes_that_merge_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Disjoint keys all arrive, and a key that all of them merge is there once."""
    coins, commits = ["a", "b", "c", "d"], 10
    with open_lake(tmp_path) as lake:
        lake.ensure(PRICES.name)
    processes.run(processes.merge_often, [(tmp_path, coin, commits) for coin in coins])

    with open_lake(tmp_path) as lake:
        rows = held(
            lake,
            "select coin_id, count(*), count(distinct day), sum(price) from silver.prices group by 1 order by 1",
        )
    assert rows == [*((coin, commits, commits, 55.0) for coin in coins), ("shared", commits, commits, 10.0)]


Batch = dict[tuple[str, int], float | None]
batches = st.lists(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1, 2, 365, 366, 367])),
        st.sampled_from([None, 1.0, 2.0, NAN]),
        max_size=6,
    ),
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=batches)
def test_any_merges_end_as_a_dictionary_would(lake: Lake, batches: list[Batch]) -> None:
    """After any batches, the table holds the last value of every key, and the same batch again changes nothing."""
    lake.ensure(PRICES.name)
    lake.merge(PRICES.name, prices("x", []), full=True)
    expected: Batch = {}
    for batch in batches:
        expected |= batch
        rows = pa.concat_tables([prices("x", []), *(prices(c, [d], price=p) for (c, d), p in batch.items())])
        lake.merge(PRICES.name, rows)
        assert lake.merge(PRICES.name, rows) == Committed()
    stored = held(lake, f"select coin_id, day - date '{FIRST_DAY}', price from silver.prices order by 1, 2")
    assert repr(stored) == repr(
        [(c, d, p) for (c, d), p in sorted(expected.items(), key=lambda item: item[0])]
    )
