"""What a commit names is on disk before the catalog names it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text

from cryptolake.lake import Lake
from cryptolake.lake.maintenance import _named
from tests.lake.shapes import PRICES, TRADES, open_lake, prices, trades


class Disk:
    """What has reached the disk: the files that were synced, and the names in each folder when it was."""

    def __init__(self) -> None:
        self.files: dict[int, int] = {}
        self.names: dict[int, set[str]] = {}

    def synced(self, fd: int) -> None:
        """Note that the file or folder behind *fd* was synced."""
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self.names[status.st_ino] = set(os.listdir(fd))
        else:
            self.files[status.st_ino] = status.st_size

    def lacks(self, path: Path, above: Path) -> list[str]:
        """Return what would be lost of *path* in a power cut: its bytes, or its name in a folder below *above*."""
        status = path.stat()
        lost = [] if self.files.get(status.st_ino) == status.st_size else [f"bytes of {path}"]
        for part in (path, *path.parents):
            if part == above:
                return lost
            if part.name not in self.names.get(part.parent.stat().st_ino, set()):
                lost.append(f"name of {part}")
        raise AssertionError(path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Watch what the process syncs."""
    disk, fsync = Disk(), os.fsync

    def watched(fd: int) -> None:
        fsync(fd)
        disk.synced(fd)

    monkeypatch.setattr(os, "fsync", watched)
    return disk


@pytest.fixture
def audited(disk: Disk, tmp_path: Path) -> Iterator[tuple[Lake, list[str]]]:
    """Yield a lake in folders that are new as well, and what was not on disk when its catalog moved."""
    lost: list[str] = []
    with open_lake(tmp_path / "new" / "home") as lake:

        def audit(connection: object) -> None:
            for (location,) in connection.execute(text("select metadata_location from iceberg_tables")):
                lost.extend(disk.lacks(Path(location.removeprefix("file://")), tmp_path))

        event.listen(lake.catalog.engine, "commit", audit)
        yield lake, lost


def test_metadata_is_on_disk_when_the_catalog_moves(audited: tuple[Lake, list[str]]) -> None:
    """At every commit of the catalog, the metadata it names has its bytes and every folder above on disk."""
    lake, lost = audited
    lake.ensure(PRICES.name)
    lake.merge(PRICES.name, prices("bitcoin", [0, 400]))
    lake.merge(PRICES.name, prices("bitcoin", [0], price=2.0))

    assert lost == []


def test_every_file_that_a_snapshot_reaches_was_synced_before(
    audited: tuple[Lake, list[str]], disk: Disk, tmp_path: Path
) -> None:
    """Data files, manifests and manifest lists of appends, merges and compaction, with their folders."""
    lake, lost = audited
    for name in (PRICES.name, TRADES.name):
        lake.ensure(name)
    for n in range(5):
        lake.append(TRADES.name, trades([n]))
        lake.merge(PRICES.name, prices("bitcoin", range(0, 900, 300), price=n + 1.0))
    lake.maintain(orphans_older_than_seconds=3_600, dry_run=False)

    for name in lake.tables():
        files = {Path(location.removeprefix("file://")) for location in _named(lake.table(name))}
        assert len(files) > 20
        lost += [gap for file in files for gap in disk.lacks(file, tmp_path)]
    assert lost == []


def test_the_audit_finds_a_file_that_was_not_synced(disk: Disk, tmp_path: Path) -> None:
    """A check that cannot fail would show nothing."""
    (tmp_path / "f").write_bytes(b"1")

    assert disk.lacks(tmp_path / "f", tmp_path) == [f"bytes of {tmp_path / 'f'}", f"name of {tmp_path / 'f'}"]


def test_the_catalog_itself_waits_for_the_disk(lake: Lake) -> None:
    """SQLite runs in WAL mode and syncs at every commit."""
    with lake.catalog.engine.connect() as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"
        assert connection.execute(text("pragma synchronous")).scalar() == 2
