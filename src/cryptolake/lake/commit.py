"""
Commit to one table: one snapshot per change, compare and swap, metadata that stays small.

A commit holds only if the table is still the one that the change was computed from. PyIceberg's
own retry is off: it would rebase a change blindly onto rows that the change has not seen.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.table import Transaction
from pyiceberg.table.update import update_table_metadata
from pyiceberg.table.update.snapshot import ExpireSnapshots

from cryptolake.errors import StaleWriterError
from cryptolake.lake.encoding import use_encodings
from cryptolake.lake.overwrite import Overwrite
from cryptolake.lake.retention import expired

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import FileScanTask, Table
    from pyiceberg.table.metadata import TableMetadata

    from cryptolake.contracts import Retention

CREATED_WITH = {
    "format-version": "2",
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.parquet.compression-codec": "zstd",
}
"""Properties of every table that we create."""

LOADED_AT = "cryptolake.loaded-at-us"
MOVED_AT = "cryptolake.moved-at-us"
POSITION = "cryptolake.position."
PROCESSED = "cryptolake.processed."
TAG = "day-"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Committed:
    """What a commit did; *snapshot_id* is None where there was nothing to commit."""

    rows_added: int = 0
    rows_replaced: int = 0
    rows_removed: int = 0
    files_rewritten: int = 0
    snapshot_id: int | None = None


@dataclass(frozen=True)
class Position:
    """
    How far a stream was read, committed in the same transaction as the rows read.

    The commit is refused with `StaleWriterError` unless the table stands at *start*.
    """

    stream: str
    start: str
    end: str

    @property
    def property_name(self) -> str:
        """Return the table property that holds the position of the stream."""
        return POSITION + self.stream

    def refuse_stale(self, table: Table) -> None:
        """Raise `StaleWriterError` unless *table* stands at the start of this batch."""
        held = table.properties.get(self.property_name, "")
        if held != self.start:
            name = ".".join(table.name())
            raise StaleWriterError(
                f"{name} has {self.stream} up to {held or 'nothing'!r}, this batch begins at {self.start!r}: "
                "another writer went on; read the position again and continue from there."
            )


def next_loaded_at(table: Table, now: datetime) -> datetime:
    """Return the time to stamp a commit with: *now*, but later than every earlier commit of *table*."""
    return EPOCH + timedelta(microseconds=max(microseconds(now), stamp_of(table) + 1))


def stamp_of(table: Table) -> int:
    """Return the newest stamp that a commit of *table* gave its rows, microseconds; -1 where there is none."""
    return int(table.properties.get(LOADED_AT, "-1"))


def moved_at(table: Table) -> int:
    """Return the stamp of the last commit that took rows of *table* away, or from one partition to another; or -1."""
    return int(table.properties.get(MOVED_AT, "-1"))


def processed_by(table: Table) -> dict[str, int]:
    """Return the newest stamp of each input that *table* was made from, by the input's name, microseconds."""
    return {
        key.removeprefix(PROCESSED): int(us)
        for key, us in table.properties.items()
        if key.startswith(PROCESSED)
    }


def processed_properties(inputs: Mapping[str, int]) -> dict[str, str]:
    """Return the table properties that `processed_by` reads."""
    return {PROCESSED + name: str(us) for name, us in inputs.items()}


def microseconds(at: datetime) -> int:
    """Return *at* as microseconds since 1970-01-01 UTC."""
    return (at - EPOCH) // timedelta(microseconds=1)


def commit_properties(table: Table, properties: Mapping[str, str]) -> None:
    """
    Commit *properties* to *table*, without a snapshot; those that it has already are no reason to.

    Raises:
        CommitFailedException: another writer committed since *table* was loaded.
    """
    if any(table.properties.get(key) != value for key, value in properties.items()):
        tx = _Transaction(table)
        tx.set_properties(dict(properties))
        tx.commit_transaction()


def commit_rows(
    table: Table,
    rows: pa.Table,
    *,
    retention: Retention,
    replaced: Sequence[FileScanTask] = (),
    loaded_at: datetime | None = None,
    position: Position | None = None,
    properties: Mapping[str, str] | None = None,
) -> Table:
    """
    Commit *rows* to *table*, in place of the rows of the files *replaced*, in one snapshot.

    The same transaction carries the stream position and *properties*, and expires what *retention* lets go.

    Raises:
        CommitFailedException: another writer committed since *table* was loaded.
        StaleWriterError: the table does not stand at the start of *position*.
    """
    tx = _Transaction(table)
    carried = {}
    if loaded_at is not None:
        carried[LOADED_AT] = str(microseconds(loaded_at))
    if position is not None:
        position.refuse_stale(table)
        carried[position.property_name] = position.end
    use_encodings()
    update = tx.update_snapshot(snapshot_properties=carried)
    with Overwrite.of(tx, carried) if replaced else update.merge_append() as snapshot:
        for task in replaced:
            snapshot.delete_data_file(task.file)
        if rows.num_rows:
            for file in _dataframe_to_data_files(
                table_metadata=table.metadata, df=rows, io=table.io, write_uuid=uuid.uuid4()
            ):
                snapshot.append_data_file(file)
    if carried or properties:
        tx.set_properties({**carried, **(properties or {})})
    _tag_days(tx, table, retention)
    expire(tx, retention)
    return tx.commit_transaction()


def expire(tx: Transaction, retention: Retention) -> int:
    """Expire in *tx* the snapshots that *retention* lets go; return how many."""
    metadata = tx.table_metadata
    log = [(entry.timestamp_ms, entry.snapshot_id) for entry in metadata.snapshot_log]
    protected = {ref.snapshot_id for ref in metadata.refs.values()}
    if old := expired(log, log[-1][0] if log else 0, retention, protected):
        ExpireSnapshots(tx).by_ids(old).commit()
    return len(old)


def _tag_days(tx: Transaction, table: Table, retention: Retention) -> None:
    """Tag the last snapshot of a day that is over, and drop the tags that are too old."""
    head = table.current_snapshot()
    if not retention.daily_tags or head is None:
        return
    current = tx.table_metadata.current_snapshot()
    today = _day(current.timestamp_ms if current else head.timestamp_ms)
    if (ended := _day(head.timestamp_ms)) == today:
        return
    oldest = f"{TAG}{datetime.fromisoformat(today) - timedelta(days=retention.daily_tags):%Y-%m-%d}"
    manage = table.manage_snapshots()
    manage._transaction = tx  # noqa: SLF001 (tags belong to the commit that makes them)
    manage.create_tag(head.snapshot_id, TAG + ended)
    for name in [n for n in table.metadata.refs if n.startswith(TAG) and n < oldest]:
        manage.remove_tag(name)
    manage.commit()


def _day(timestamp_ms: int) -> str:
    return f"{EPOCH + timedelta(milliseconds=timestamp_ms):%Y-%m-%d}"


class _Transaction(Transaction):
    """
    A transaction that remembers the metadata it has staged.

    PyIceberg applies every update again, on a deep copy of all snapshots, each time anyone looks:
    18 times an append.
    """

    _staged: tuple[int, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        done, metadata = self._staged or (0, self._table.metadata)
        if done != len(self._updates):
            metadata = update_table_metadata(metadata, self._updates[done:])
            self._staged = (len(self._updates), metadata)
        return metadata
