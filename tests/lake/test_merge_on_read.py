"""Deletes that another engine wrote next to the data are honoured or refused, never ignored."""

from __future__ import annotations

import pytest

from cryptolake.errors import LakeError
from cryptolake.lake import Lake
from tests.lake.delete_files import delete_equal, delete_positions
from tests.lake.shapes import PRICES, TRADES, files_of, held, prices, trades


@pytest.fixture
def deleted(lake: Lake) -> Lake:
    """Return a lake whose trades are 1 to 6 in two files, of which 2 and 3 were deleted by position."""
    lake.ensure(TRADES.name)
    lake.append(TRADES.name, trades([1, 2, 3]))
    [first] = files_of(lake, TRADES.name)
    lake.append(TRADES.name, trades([4, 5, 6]))
    delete_positions(lake.table(TRADES.name), {first: [1, 2]})
    return lake


def ids(lake: Lake) -> list[int]:
    """Return the ids of the trades as a reader sees them."""
    return [n for (n,) in held(lake, "select trade_id from bronze.trades order by 1")]


def test_position_deletes_are_honoured(deleted: Lake) -> None:
    """A reader sees the rows that are left, as PyIceberg itself does."""
    assert ids(deleted) == [1, 4, 5, 6]
    assert deleted.table(TRADES.name).scan().count() == 4


def test_a_reader_that_is_open_sees_a_deletion_after_refresh(lake: Lake) -> None:
    """A view that read files before reads what is left of them afterwards."""
    lake.ensure(TRADES.name)
    lake.append(TRADES.name, trades([1, 2, 3]))
    with lake.reader() as reader:
        [file] = files_of(lake, TRADES.name)
        delete_positions(lake.table(TRADES.name), {file: [0]})
        assert len(reader.rows("select * from bronze.trades")) == 3
        reader.refresh()
        assert reader.rows("select trade_id from bronze.trades order by 1") == [(2,), (3,)]
        lake.append(TRADES.name, trades([9]))
        reader.refresh()
        assert reader.rows("select trade_id from bronze.trades order by 1") == [(2,), (3,), (9,)]


def test_the_time_before_a_deletion_still_has_its_rows(deleted: Lake) -> None:
    """A deletion is a snapshot like any other."""
    before = deleted.table(TRADES.name).snapshots()[1]
    with deleted.reader(as_of=before.snapshot_id) as reader:
        assert reader.rows("select count(*) from bronze.trades") == [(6,)]


def test_rows_are_appended_beside_deletes(deleted: Lake) -> None:
    """Appending does not touch what is stored, so nothing is refused and nothing comes back."""
    deleted.append(TRADES.name, trades([2, 7]))

    assert ids(deleted) == [1, 2, 4, 5, 6, 7]


def test_manifests_are_merged_beside_deletes(deleted: Lake) -> None:
    """Many appends, which merge manifests, keep the deletes with the data they belong to."""
    for n in range(10, 40):
        deleted.append(TRADES.name, trades([n]))

    assert ids(deleted) == [1, 4, 5, 6, *range(10, 40)]


def test_what_is_stored_under_deletes_is_not_guessed(deleted: Lake) -> None:
    """An append that asks what is stored, and any merge, is refused with the way out, and nothing is written."""
    before = deleted.table(TRADES.name).metadata_location
    only_new = "select * from incoming anti join stored using (trade_id)"

    with pytest.raises(LakeError, match=r"bronze\.trades has merge-on-read deletes.*rewrite_data_files"):
        deleted.append(TRADES.name, trades([2]), new=only_new)
    with pytest.raises(LakeError, match="merge-on-read deletes"):
        deleted.merge(TRADES.name, trades([1]))
    with pytest.raises(LakeError, match="merge-on-read deletes"):
        deleted.merge(TRADES.name, trades([1]), full=True)
    assert deleted.table(TRADES.name).metadata_location == before


def test_files_with_deletes_are_left_out_of_compaction(deleted: Lake) -> None:
    """Compaction rewrites the small files around them, and no deleted row comes back."""
    for n in range(7, 12):
        deleted.append(TRADES.name, trades([n]))
    [done] = deleted.maintain(orphans_older_than_seconds=0, dry_run=False)

    assert done.files_compacted == 6
    assert ids(deleted) == [1, 4, 5, 6, *range(7, 12)]
    assert len(files_of(deleted, TRADES.name)) == 2


def test_a_merge_beside_deletes_in_another_partition_is_not_refused(lake: Lake) -> None:
    """Only files that a change has to read are asked for deletes."""
    lake.ensure(PRICES.name)
    lake.merge(PRICES.name, prices("bitcoin", [0, 1, 400]))
    [first_year] = [f for f in files_of(lake, PRICES.name) if "day_year=2024" in f]
    delete_positions(lake.table(PRICES.name), {first_year: [0]})

    lake.merge(PRICES.name, prices("bitcoin", [400], price=2.0))

    rows = held(lake, "select day::varchar, price from silver.prices order by 1")
    assert rows == [("2024-01-02", 1.0), ("2025-02-04", 2.0)]


def test_equality_deletes_are_refused_when_reading(lake: Lake) -> None:
    """What cannot be honoured is a clear error, and the other tables stay readable."""
    lake.ensure(PRICES.name)
    lake.ensure(TRADES.name)
    lake.append(TRADES.name, trades([1, 2, 3]))
    delete_equal(lake.table(TRADES.name), "trade_id", [2])

    for read in (
        lambda: held(lake, "select * from bronze.trades"),
        lambda: lake.append(
            TRADES.name, trades([4]), new="select * from incoming anti join stored using (trade_id)"
        ),
        lambda: lake.merge(TRADES.name, trades([4])),
        lambda: lake.maintain(orphans_older_than_seconds=0, dry_run=False),
    ):
        with pytest.raises(
            LakeError, match=r"bronze\.trades has deletes that cannot be read here.*equality deletes"
        ):
            read()
    lake.append(TRADES.name, trades([4]))
    assert held(lake, "select count(*) from silver.prices") == [(0,)]
