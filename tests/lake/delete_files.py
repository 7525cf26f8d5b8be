"""Merge-on-read deletes as Spark and Flink write them; PyIceberg can read position deletes, not write them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyiceberg.types import StringType

PATH_ID, POSITION_ID = 2147483546, 2147483545
"""Field ids that the Iceberg specification reserves for position deletes."""


class _DeleteManifest(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_positions(table: Table, positions: Mapping[str, Sequence[int]]) -> int:
    """Delete rows of *table* by file location and position in that file; return the id of the snapshot."""
    pairs = [(file, n) for file, ns in sorted(positions.items()) for n in sorted(ns)]
    schema = pa.schema([_field("file_path", pa.string(), PATH_ID), _field("pos", pa.int64(), POSITION_ID)])
    rows = pa.table([[file for file, _ in pairs], [n for _, n in pairs]], schema=schema)
    paths = [to_bytes(StringType(), file) for file in (pairs[0][0], pairs[-1][0])]
    bounds = {"lower_bounds": {PATH_ID: paths[0]}, "upper_bounds": {PATH_ID: paths[1]}}
    tasks = [task for task in table.scan().plan_files() if task.file.file_path in positions]
    return _commit(table, rows, DataFileContent.POSITION_DELETES, tasks[0].file.partition, **bounds)


def delete_equal(table: Table, column: str, values: Sequence[int]) -> int:
    """Delete the rows of *table* whose (bigint) *column* has one of *values*; return the id of the snapshot."""
    field_id = table.schema().find_field(column).field_id
    rows = pa.table([list(values)], schema=pa.schema([_field(column, pa.int64(), field_id)]))
    return _commit(table, rows, DataFileContent.EQUALITY_DELETES, Record(), equality_ids=[field_id])


def _field(name: str, kind: pa.DataType, field_id: int) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"PARQUET:field_id": str(field_id)})


def _commit(table: Table, rows: pa.Table, content: DataFileContent, partition: Record, **more: Any) -> int:
    """Write *rows* as a delete file, and a snapshot that adds it to the current one."""
    head = table.metadata.current_snapshot()
    assert head is not None
    snapshot_id, sequence = table.metadata.new_snapshot_id(), table.metadata.next_sequence_number()
    stem = f"{table.location()}/metadata/{uuid.uuid4()}"
    location = f"{table.location()}/data/{uuid.uuid4()}-deletes.parquet"
    with table.io.new_output(location).create() as out:
        pq.write_table(rows, out)
    file = DataFile.from_args(
        content=content,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=rows.num_rows,
        file_size_in_bytes=len(table.io.new_input(location)),
        **more,
    )
    with _DeleteManifest(
        table.spec(), table.schema(), table.io.new_output(f"{stem}-m0.avro"), snapshot_id, "deflate"
    ) as writer:
        writer.add_entry(
            ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file)
        )
    manifests = [*head.manifests(table.io), writer.to_manifest_file()]
    with write_manifest_list(
        2, table.io.new_output(f"{stem}-list.avro"), snapshot_id, head.snapshot_id, sequence, "deflate"
    ) as out:
        out.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=head.snapshot_id,
        sequence_number=sequence,
        manifest_list=f"{stem}-list.avro",
        summary=Summary(Operation.DELETE),
        schema_id=table.schema().schema_id,
    )
    table.catalog.commit_table(
        table,
        (AssertRefSnapshotId(snapshot_id=head.snapshot_id, ref="main"),),
        (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(snapshot_id=snapshot_id, ref_name="main", type="branch"),
        ),
    )
    return snapshot_id
