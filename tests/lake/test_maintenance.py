"""Maintenance makes a table small and fast, and takes nothing that anyone can still read."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table.statistics import BlobMetadata, StatisticsFile

from cryptolake.clock import Clock
from cryptolake.lake import Lake, Maintained
from tests.lake import processes
from tests.lake.shapes import (
    NOON,
    PRICES,
    TRADES,
    Calendar,
    files_of,
    held,
    open_lake,
    prices,
    snapshots_of,
    trades,
)

DAY_SECONDS = 86_400
LATER = Clock(now=lambda: NOON, wall=lambda: datetime.now(UTC) + timedelta(days=2))
"""A clock whose file times are two days on, so that what was just written is old."""


@pytest.fixture
def scattered(lake: Lake) -> Lake:
    """Return a lake with trades in ten files and prices in six, over two years."""
    lake.ensure(TRADES.name)
    lake.ensure(PRICES.name)
    for n in range(10):
        lake.append(TRADES.name, trades([n + 100, 50 - n]))
    for n in range(4):
        lake.append(PRICES.name, prices(f"coin{4 - n}", [1] if n > 1 else [0, 400]))
    return lake


def folder(lake: Lake, name: str) -> Path:
    """Return where the table *name* lies."""
    return Path(lake.table(name).location().removeprefix("file://"))


def age(path: Path, days: float) -> None:
    """Make *path* look as if it was written *days* ago."""
    then = path.stat().st_mtime - days * DAY_SECONDS
    os.utime(path, (then, then))


def by_name(done: list[Maintained]) -> dict[str, Maintained]:
    """Return what was done, by table."""
    return {d.table: d for d in done}


def test_small_files_become_one_sorted_file_a_partition_with_the_same_rows(scattered: Lake) -> None:
    """Only crowded partitions are compacted; rows, times and values stay as they are."""
    trades_before = held(scattered, "select * from bronze.trades order by all")
    prices_before = held(scattered, "select * from silver.prices order by all")
    few = {f for f in files_of(scattered, PRICES.name) if "day_year=2025" in f}

    done = by_name(scattered.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=False))

    assert (done[TRADES.name].files_compacted, done[PRICES.name].files_compacted) == (10, 4)
    assert held(scattered, "select * from bronze.trades order by all") == trades_before
    assert held(scattered, "select * from silver.prices order by all") == prices_before
    assert len(files_of(scattered, TRADES.name)) == 1
    assert few < files_of(scattered, PRICES.name)
    assert len(files_of(scattered, PRICES.name)) == 3
    ids = scattered.table(TRADES.name).scan().to_arrow()["trade_id"].to_pylist()
    assert ids == sorted(ids)


def test_maintaining_again_does_nothing(scattered: Lake) -> None:
    """Compaction comes to rest."""
    scattered.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=False)
    before = {name: scattered.table(name).metadata_location for name in scattered.tables()}

    done = scattered.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=False)
    assert [(d.files_compacted, d.snapshots_expired, d.orphans_removed) for d in done] == [(0, 0, 0)] * 2
    assert {name: scattered.table(name).metadata_location for name in scattered.tables()} == before


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(scattered: Lake) -> None:
    """The figures are those of the run that follows, and no file or snapshot moves."""
    stray = folder(scattered, TRADES.name) / "data" / "stray.parquet"
    stray.write_bytes(b"0123456789")
    age(stray, 2)
    files = sorted(folder(scattered, TRADES.name).rglob("*"))

    planned = scattered.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=True)
    assert sorted(folder(scattered, TRADES.name).rglob("*")) == files
    assert by_name(planned)[TRADES.name] == Maintained(TRADES.name, 10, 0, 1, 10)
    assert scattered.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=False) == planned


def test_only_old_files_that_nothing_names_are_removed(scattered: Lake) -> None:
    """A young file may belong to a commit on its way; an old one that no snapshot names is left over."""
    data = folder(scattered, TRADES.name) / "data"
    (data / "young.parquet").write_bytes(b"1")
    (data / "old.parquet").write_bytes(b"22")
    (data / "deep").mkdir()
    (data / "deep" / "old.parquet").write_bytes(b"333")
    for old in (data / "old.parquet", data / "deep" / "old.parquet"):
        age(old, 2)

    done = by_name(scattered.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=False))

    assert (done[TRADES.name].orphans_removed, done[TRADES.name].bytes_freed) == (2, 5)
    assert (data / "young.parquet").exists()
    assert not (data / "old.parquet").exists()


def test_every_kept_snapshot_stays_readable_after_its_files_were_replaced(
    scattered: Lake, tmp_path: Path
) -> None:
    """Files that only the past needs are not orphans."""
    kept = snapshots_of(scattered, TRADES.name)
    with open_lake(tmp_path, clock=LATER) as lake:
        lake.maintain(orphans_older_than_seconds=0, dry_run=False)
        for n, snapshot_id in enumerate(kept, start=1):
            with lake.reader(as_of=snapshot_id) as reader:
                assert reader.rows("select count(*) from bronze.trades") == [(2 * n,)]


def test_files_of_expired_snapshots_are_freed(lake: Lake, tmp_path: Path, calendar: Calendar) -> None:
    """What expiry forgets, maintenance removes; what is current stays."""
    lake.ensure(PRICES.name)
    for n in range(3):
        calendar.at = NOON + timedelta(days=50 * n)
        lake.merge(PRICES.name, prices("bitcoin", [0], price=n + 1.0))
    with open_lake(tmp_path, clock=LATER) as later:
        [done] = later.maintain(orphans_older_than_seconds=0, dry_run=False)

        assert done.orphans_removed >= 3
        assert held(later, "select price from silver.prices") == [(3.0,)]
        left = {str(p) for p in folder(later, PRICES.name).rglob("*.parquet")}
        with later.reader(as_of=snapshots_of(later, PRICES.name)[0]) as reader:
            assert reader.rows("select price from silver.prices") == [(2.0,)]
    assert len(left) == 2


def test_snapshots_past_their_retention_expire(tmp_path: Path, calendar: Calendar) -> None:
    """What another program committed without expiring is expired here, as the contract says."""
    with open_lake(tmp_path) as lake:
        table = lake.ensure(TRADES.name)
        for n in range(30):
            calendar.at = NOON + timedelta(seconds=n)
            table.append(pa.Table.from_pylist([{"trade_id": n}], table.schema().as_arrow()))
        assert len(snapshots_of(lake, TRADES.name)) == 30

        [planned] = lake.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=True)
        [done] = lake.maintain(orphans_older_than_seconds=DAY_SECONDS, dry_run=False)

        assert done == planned
        assert done.snapshots_expired == 10
        assert len(snapshots_of(lake, TRADES.name)) == 20
        assert held(lake, "select count(*) from bronze.trades") == [(30,)]


def test_statistics_of_another_engine_are_not_orphans(scattered: Lake, tmp_path: Path) -> None:
    """Files that the metadata names beside the manifests stay."""
    table = scattered.table(TRADES.name)
    head = table.metadata.current_snapshot()
    path = folder(scattered, TRADES.name) / "metadata" / "some.stats"
    path.write_bytes(b"PFA1")
    blob = BlobMetadata(
        type="apache-datasketches-theta-v1", snapshot_id=head.snapshot_id, sequence_number=1, fields=[1]
    )
    statistics = StatisticsFile(
        snapshot_id=head.snapshot_id,
        statistics_path=f"file://{path}",
        file_size_in_bytes=4,
        file_footer_size_in_bytes=1,
        blob_metadata=[blob],
    )
    with table.update_statistics() as update:
        update.set_statistics(statistics)
    with open_lake(tmp_path, clock=LATER) as lake:
        lake.maintain(orphans_older_than_seconds=0, dry_run=False)
    assert path.exists()


def test_tables_without_a_contract_are_left_alone(scattered: Lake, tmp_path: Path) -> None:
    """What is not ours is not ours to clean."""
    with open_lake(tmp_path, {PRICES.name: PRICES}) as lake:
        assert [d.table for d in lake.maintain(orphans_older_than_seconds=0, dry_run=False)] == [PRICES.name]


@pytest.mark.slow
def test_maintenance_by_several_processes_beside_a_writer_loses_nothing(tmp_path: Path) -> None:
    """Compaction, expiry and removal race with each other and with appends; every row is there once."""
    with open_lake(tmp_path) as lake:
        lake.ensure(TRADES.name)
        for n in range(30):
            lake.append(TRADES.name, trades([-n - 1]))
        strays = [folder(lake, TRADES.name) / "data" / f"stray{n}.parquet" for n in range(50)]
    for stray in strays:
        stray.write_bytes(b"1")
        age(stray, 2)

    processes.run(
        processes.append_or_maintain,
        [(tmp_path, list(range(40))), (tmp_path, None), (tmp_path, None), (tmp_path, None)],
    )

    with open_lake(tmp_path) as lake:
        assert held(lake, "select trade_id from bronze.trades order by 1") == [(n,) for n in range(-30, 40)]
        assert not any(stray.exists() for stray in strays)


def test_a_renamed_table_keeps_its_files(lake: Lake) -> None:
    """A table made anew under the old name has a folder of its own, so cleaning it removes nothing of the renamed one."""
    lake.ensure(PRICES.name)
    lake.merge(PRICES.name, prices("bitcoin", [0, 1]))
    lake.catalog.rename_table(PRICES.name, "silver.kept")
    lake.ensure(PRICES.name)
    lake.merge(PRICES.name, prices("bitcoin", [2]))
    lake.maintain(orphans_older_than_seconds=-60, dry_run=False)
    assert lake.table("silver.kept").scan().to_arrow().num_rows == 2
