"""Keep a table fast and small: compact small files, expire snapshots, remove files that nothing names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import structlog

from cryptolake.lake.commit import _Transaction, expire
from cryptolake.lake.compaction import count_crowded
from cryptolake.lake.scan import local_path

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from cryptolake.lake.lake import Lake

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Maintained:
    """What maintenance did to *table*, or would do in a dry run."""

    table: str
    files_compacted: int
    snapshots_expired: int
    orphans_removed: int
    bytes_freed: int


def maintain(lake: Lake, name: str, *, orphans_older_than_seconds: float, dry_run: bool) -> Maintained:
    """
    Maintain the table *name*.

    * Snapshots past the retention of the contract expire, its age counted back from the newest snapshot.
    * Small files of crowded partitions are compacted; see `compaction.compacting`.
    * Files under the table's location that no kept snapshot names, and that are older than
      *orphans_older_than_seconds*, are removed. The age protects writers that have not committed yet; readers are protected
      by the retention of the snapshots that they read.
    """
    snapshots = _expire(lake, name, dry_run=dry_run)
    files = count_crowded(lake.table(name)) if dry_run else lake.compact(name)
    orphans = list(
        _orphans(lake.table(name), lake.clock.wall() - timedelta(seconds=orphans_older_than_seconds))
    )
    if not dry_run:
        for filesystem, info in orphans:
            with suppress(FileNotFoundError):  # another process removed it first
                filesystem.delete_file(info.path)
    done = Maintained(name, files, snapshots, len(orphans), sum(info.size for _, info in orphans))
    log.info("table.maintained", dry_run=dry_run, **done.__dict__)
    return done


def _expire(lake: Lake, name: str, *, dry_run: bool) -> int:
    from pyiceberg.exceptions import CommitFailedException

    tx = _Transaction(lake.table(name))
    if (count := expire(tx, lake.contract(name).retention)) and not dry_run:
        try:
            tx.commit_transaction()
        except (CommitFailedException, ValueError):  # a ValueError says that a snapshot is gone already
            return 0  # another writer came first, and expired them itself
    return count


def _orphans(table: Table, written_before: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (file system, file info) of every file under *table* that no kept snapshot names."""
    from pyarrow.fs import FileSelector, FileType

    io: Any = table.io
    scheme, netloc, root = io.parse_location(table.location(), io.properties)
    filesystem = io.fs_by_scheme(scheme, netloc)
    named = {_path(io, location) for location in _named(table)}
    for info in filesystem.get_file_info(FileSelector(root, recursive=True, allow_not_found=True)):
        is_old = info.type == FileType.File and info.mtime.astimezone(UTC) < written_before
        if is_old and PurePosixPath(info.path) not in named:
            yield filesystem, info


def _named(table: Table) -> Iterator[str]:
    """Yield the location of every file that the table's metadata can reach."""
    yield table.metadata_location
    for entry in table.metadata.metadata_log:
        yield entry.metadata_file
    for statistics in (*table.metadata.statistics, *table.metadata.partition_statistics):
        yield statistics.statistics_path
    seen = set()
    for snapshot in table.metadata.snapshots:
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                yield manifest.manifest_path
                for item in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                    yield item.data_file.file_path


def _path(io: Any, location: str) -> PurePosixPath:
    return PurePosixPath(local_path(io.parse_location(location, io.properties)[2]))
