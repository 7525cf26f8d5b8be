"""When storage or catalog break, one message says what to do, and nothing that was committed is lost."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitStateUnknownException, ServiceUnavailableError, UnauthorizedError

from cryptolake.clock import Clock
from cryptolake.errors import LakeError, QueryError
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.lake.faults import explained, may_pass
from cryptolake.serving.query import answer
from tests.lake.shapes import CONTRACTS, NOON, PRICES, TRADES, held, open_lake, prices, snapshots_of, trades

IDS = "select trade_id from bronze.trades order by 1"


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """Mount a file system in memory on *folder*, and say whether this machine lets us."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)


def random_trades(ids: range) -> pa.Table:
    """Return trades that do not compress."""
    return trades([i * 2**24 + random.Random(i).getrandbits(24) for i in ids])


def survives(lake: Lake, tried: int, spoil: Callable[[int], None], mend: Callable[[], None]) -> list[str]:
    """
    Append while the storage is spoilt in different degrees; return what was said.

    After each try the rows are those of the appends that were acknowledged, all of them and no other.
    """
    lake.ensure(TRADES.name)
    lake.append(TRADES.name, trades([-1]))
    said, count = [], 1
    for degree in range(tried):
        rows = random_trades(range(2_000 * degree, 2_000 * degree + 2_000))
        spoil(degree)
        try:
            count += lake.append(TRADES.name, rows).rows_added
        except LakeError as e:
            said.append(str(e))
        finally:
            mend()
        assert held(lake, "select count(*), count(distinct trade_id) from bronze.trades") == [(count, count)]
    assert lake.append(TRADES.name, trades([-2])).rows_added == 1
    assert lake.maintain(orphans_older_than_seconds=0, dry_run=False)
    assert held(lake, "select count(*) from bronze.trades") == [(count + 1,)]
    return said


@pytest.mark.slow
def test_a_full_disk_stops_the_commit_and_says_so(tmp_path: Path) -> None:
    """However little space is left, a commit is whole or not there; with space again the lake goes on."""
    disk = tmp_path / "disk"
    with mounted(disk, "size=4m") as is_mounted:
        if not is_mounted:
            pytest.skip("needs the right to mount a small file system, as root has it")

        def fill(degree: int) -> None:
            free = shutil.disk_usage(disk).free
            with (disk / "filler").open("wb", buffering=0) as file:
                file.write(bytes(max(free - degree * 4_096, 0)))

        with open_lake(disk / "home") as lake:
            said = survives(lake, 16, fill, (disk / "filler").unlink)

    assert len(said) >= 5
    assert all(
        "the disk is full: " in s and "Nothing that was committed is lost; free some space" in s for s in said
    ), said


def test_a_file_that_may_not_grow_stops_the_commit_and_says_so(tmp_path: Path) -> None:
    """A limit of the operating system fails a commit as a full disk does, at whichever file it strikes."""
    limits = [0, 512, 2_048, 4_096, 8_192, 2**20]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_lake(tmp_path) as lake:

        def limit(degree: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits[degree], hard))

        def lift() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        said = survives(lake, len(limits), limit, lift)

    assert len(said) >= 3
    assert all("Nothing that was committed is lost" in s for s in said), said


@contextmanager
def read_only(home: Path) -> Iterator[None]:
    """Keep everyone from writing under *home*, root included; skip where that cannot be done."""
    if os.geteuid():
        modes = {p: p.stat().st_mode for p in [home, *home.rglob("*")]}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
        for path, mode in modes.items():
            path.chmod(mode)
        return
    bind = subprocess.run(["mount", "--bind", home, home], capture_output=True, check=False)
    if bind.returncode:
        pytest.skip("needs the right to mount folders read-only, since root writes anywhere else")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)


def test_a_home_that_is_read_only_is_a_clear_error(tmp_path: Path) -> None:
    """A new lake cannot be opened there, and one that was writable keeps what it has."""
    home = tmp_path / "home"
    with open_lake(home) as lake:
        lake.ensure(TRADES.name)
        lake.append(TRADES.name, trades([1]))

    with read_only(home):
        for place in (home, home / "new"):
            with (
                pytest.raises(
                    LakeError, match=r"cannot be written .*check the folder's owner and permissions"
                ),
                open_lake(place) as lake,
            ):
                lake.append(TRADES.name, trades([2]))

    with open_lake(home) as lake:
        assert held(lake, IDS) == [(1,)]


def test_an_open_lake_whose_storage_becomes_read_only_refuses_to_write_and_still_reads(
    tmp_path: Path,
) -> None:
    """Losing the right to write loses nothing else."""
    with open_lake(tmp_path) as lake:
        lake.ensure(TRADES.name)
        lake.append(TRADES.name, trades([1]))
        with read_only(tmp_path / "warehouse"):
            with pytest.raises(
                LakeError, match=r"cannot be written .*check the folder's owner and permissions"
            ):
                lake.append(TRADES.name, trades([2]))
            assert held(lake, IDS) == [(1,)]
        lake.append(TRADES.name, trades([2]))
        assert held(lake, IDS) == [(1,), (2,)]


@pytest.mark.parametrize("kept", [0, 100, 4_096])
def test_a_damaged_catalog_is_a_clear_error_and_a_backup_brings_it_back(tmp_path: Path, kept: int) -> None:
    """Random bytes, from the start or behind a whole header, are told from a lake; the data files are not touched."""
    with open_lake(tmp_path) as lake:
        lake.ensure(TRADES.name)
        lake.append(TRADES.name, trades([1]))
    catalog = tmp_path / "catalog.db"
    backup = tmp_path / "backup.db"
    with sqlite3.connect(catalog) as db, sqlite3.connect(backup) as copy:
        db.backup(copy)
    db.close()
    copy.close()
    for side in ("-wal", "-shm"):
        Path(f"{catalog}{side}").unlink(missing_ok=True)
    whole = backup.read_bytes()
    catalog.write_bytes(whole[:kept] + random.Random(1).randbytes(len(whole) - kept))

    with (
        pytest.raises(
            LakeError, match=r"the catalog of the lake at .* is damaged .*restore catalog\.db from a backup"
        ),
        open_lake(tmp_path) as lake,
    ):
        held(lake, IDS)

    backup.replace(catalog)
    with open_lake(tmp_path) as lake:
        assert held(lake, IDS) == [(1,)]


def impatient(home: Path) -> Lake:
    """Open the lake under *home* with little patience for other writers."""
    properties = local_catalog(home)
    return Lake.open({**properties, "uri": f"{properties['uri']}?timeout=0.1"}, CONTRACTS, Clock.fixed(NOON))


@pytest.mark.parametrize("lock", ["begin immediate", "pragma locking_mode = exclusive; begin exclusive"])
def test_a_locked_catalog_is_a_clear_error_and_nothing_is_lost(tmp_path: Path, lock: str) -> None:
    """When another process keeps the catalog to itself for too long, a commit gives up, and works again later."""
    with impatient(tmp_path) as lake:
        lake.ensure(TRADES.name)
        lake.append(TRADES.name, trades([1]))
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    other.executescript(lock)

    with (
        pytest.raises(
            LakeError, match=r"the catalog is locked by another process .*run again\. Nothing was lost"
        ),
        impatient(tmp_path) as lake,
    ):
        lake.append(TRADES.name, trades([2]))
    other.close()

    with impatient(tmp_path) as lake:
        assert held(lake, IDS) == [(1,)]
        lake.append(TRADES.name, trades([2]))
        assert held(lake, IDS) == [(1,), (2,)]


PARTS = {
    "data": "data/*.parquet",
    "manifest": "metadata/*-m0.avro",
    "manifest list": "metadata/snap-*.avro",
    "metadata": None,
}
FAULTS: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda whole: None,
    "empty": lambda whole: b"",
    "torn": lambda whole: whole[: len(whole) // 2],
    "random": lambda whole: random.Random(1).randbytes(len(whole)),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_or_damaged_file_is_a_clear_error_of_its_table_only(lake: Lake, part: str) -> None:
    """Reading and merging say what is wrong with the table, others still answer, and the whole file heals it."""
    lake.ensure(PRICES.name)
    lake.merge(PRICES.name, prices("bitcoin", [0]))
    table = lake.ensure(TRADES.name)
    lake.append(TRADES.name, trades([1]))
    location = Path(lake.table(TRADES.name).metadata_location.removeprefix("file://"))
    [file] = (
        Path(table.location().removeprefix("file://")).glob(pattern)
        if (pattern := PARTS[part])
        else [location]
    )
    whole = file.read_bytes()
    for fault, spoil in FAULTS.items():
        spoilt = spoil(whole)
        file.unlink() if spoilt is None else file.write_bytes(spoilt)
        message = (
            r"a file of bronze\.trades is gone .*restore it from a backup"
            if spoilt is None
            else r"a file of (bronze\.trades|the lake) is damaged .*restore it from a backup"
        )
        with open_lake(Path(lake.place.removeprefix("file://")).parent) as later:
            with later.reader() as reader:
                assert reader.rows("select count(*) from silver.prices") == [(1,)]
                with pytest.raises(LakeError, match=message):
                    reader.rows(IDS)
            with pytest.raises(LakeError, match=message):
                later.merge(TRADES.name, trades([1]))
        file.write_bytes(whole)
        assert (fault, held(lake, IDS)) == (fault, [(1,)])


def spoil_the_dictionary(file: Path) -> None:
    """Overwrite where DuckDB takes it for a damaged file and does not say which."""
    import pyarrow.parquet as pq

    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    whole, start = file.read_bytes(), column.dictionary_page_offset
    end = column.data_page_offset + 2
    file.write_bytes(whole[:start] + b"\xff" * (end - start) + whole[end:])


def data_file(lake: Lake, name: str) -> Path:
    """Return the one data file of a table."""
    return next(Path(lake.table(name).location().removeprefix("file://")).glob("data/**/*.parquet"))


def test_a_file_damaged_in_its_middle_is_named_with_its_table_and_what_brings_it_back(lake: Lake) -> None:
    """The engine names no file, so the tables of the statement are looked through; silver can be built anew."""
    for name, rows in ((PRICES.name, prices("bitcoin", [0])), (TRADES.name, trades([1]))):
        lake.ensure(name)
        lake.merge(name, rows)
    file = data_file(lake, PRICES.name)
    spoil_the_dictionary(file)
    with open_lake(Path(lake.place.removeprefix("file://")).parent) as later, later.reader() as reader:
        with pytest.raises(LakeError) as raised:
            reader.rows("select * from bronze.trades, silver.prices")
        with pytest.raises(QueryError) as asked, answer(reader, "select * from silver.prices") as batches:
            batches.read_all()
    for said in (str(raised.value), str(asked.value)):
        assert said.startswith(f"a file of silver.prices is damaged ({file}: ")
        assert "restore it from a backup, or run `cryptolake transform --full-refresh`" in said


def test_maintenance_names_the_damaged_file(lake: Lake) -> None:
    """Compaction reads files that no query may have read; bronze can only be restored."""
    lake.ensure(TRADES.name)
    for n in range(4):
        lake.append(TRADES.name, trades([n]))
    file = data_file(lake, TRADES.name)
    spoil_the_dictionary(file)
    with pytest.raises(LakeError) as raised:
        lake.maintain(orphans_older_than_seconds=0, dry_run=False)
    assert str(raised.value).startswith(f"a file of bronze.trades is damaged ({file}: ")
    assert str(raised.value).endswith("restore it from a backup.")


@pytest.mark.parametrize(
    "name", ["100% with space", 'quote\'s "d"; %20', "naïve 日本", "[b]* {a,b}", "back\\slash a=b&c"]
)
def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Creating, appending, merging, maintaining and reading the past work wherever the home is."""
    home = tmp_path / name
    with open_lake(home) as lake:
        lake.ensure(PRICES.name)
        lake.append(PRICES.name, prices("bitcoin", [0]))
        first = snapshots_of(lake, PRICES.name)[0]
        for n in range(1, 4):
            lake.append(PRICES.name, prices("bitcoin", [n]))
        lake.merge(PRICES.name, prices("bitcoin", [3], price=2.0))
        [done] = lake.maintain(orphans_older_than_seconds=0, dry_run=False)
        assert done.files_compacted == 4
    with open_lake(home) as lake:
        assert held(lake, "select sum(price) from silver.prices") == [(5.0,)]
        with lake.reader(as_of=first) as reader:
            assert reader.rows("select count(*) from silver.prices") == [(1,)]
    assert {p.name for p in home.iterdir()} >= {"catalog.db", "warehouse"}
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["what?", "number #1"])
def test_a_home_whose_name_no_address_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    """Rather than write somewhere else, say so."""
    with pytest.raises(
        LakeError, match=r"cannot hold a lake: `\?` and `#` mean something else.*set another `home`"
    ):
        open_lake(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_errors_that_are_not_the_storage_s_pass_through(lake: Lake) -> None:
    """A mistake in a query is not blamed on the lake."""
    import duckdb

    with lake.reader() as reader:
        for wrong in ("selec 1", "select * from nowhere.nothing", "select 1 + 'x'"):
            with pytest.raises(duckdb.Error):
                reader.rows(wrong)


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        (ServiceUnavailableError("503"), True),
        (CommitStateUnknownException("504"), True),
        (UnauthorizedError("401"), False),
        (ConnectionRefusedError("nobody listens"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
    ids=repr,
)
def test_what_a_catalog_server_says_is_an_error_of_the_lake_that_may_pass_or_not(tmp_path, said, passes):
    """Whoever writes again and again can tell a server that is down from one that refuses."""
    with pytest.raises(LakeError) as raised, explained(str(tmp_path)):
        raise said
    assert may_pass(raised.value) is passes


def test_a_moved_lake_is_refused_before_it_touches_the_files_of_another(tmp_path: Path) -> None:
    """Tables name their files by where they were made, so a copy would read and clean the original's."""
    with open_lake(tmp_path / "made") as lake:
        lake.ensure(PRICES.name)
        lake.refuse_moved()
    shutil.copytree(tmp_path / "made", tmp_path / "copied")
    with open_lake(tmp_path / "copied") as lake, pytest.raises(LakeError, match="was made elsewhere"):
        lake.refuse_moved()


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_tables_without_their_catalog_are_no_new_lake(tmp_path: Path, left: str) -> None:
    """A lost catalog is an error that says so, not an empty lake beside the old files."""
    with open_lake(tmp_path) as lake:
        lake.ensure(PRICES.name)
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    if left == "an empty file":
        (tmp_path / "catalog.db").touch()
    with pytest.raises(LakeError, match=r"catalog.db is gone, but .* has tables"):
        open_lake(tmp_path)
