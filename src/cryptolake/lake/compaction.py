"""Make few large files of many small ones, without a reader or a writer noticing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from cryptolake.lake.commit import commit_rows, microseconds
from cryptolake.lake.conform import order_by
from cryptolake.lake.rising import newest_of, newest_property
from cryptolake.lake.scan import has_deletes, plan, relation

if TYPE_CHECKING:
    from pyiceberg.table import FileScanTask, Table

    from cryptolake.lake.lake import Lake

SMALL_BYTES = 32 * 2**20
FEWEST_FILES = 4
ROWS_PER_FILE = 1_000_000

log = structlog.get_logger(__name__)


def compacting(
    lake: Lake, name: str, *, before: datetime | None = None, rows_per_file: int = ROWS_PER_FILE
) -> Iterator[int]:
    """
    Rewrite the small files of crowded partitions of the table *name*, a file at a time; yield of how many each was made.

    A partition is crowded with at least 4 files under 32 MiB that have fewer than half of *rows_per_file* rows; of a
    table partitioned by a time only those count whose newest time is *before* a moment. They are taken in the order of their rows, about *rows_per_file* rows
    at once, which bounds the memory, and make one file each, sorted as the contract says.
    """
    for bin_ in _bins(lake.table(name), before, rows_per_file):
        rewritten = _rewrite(lake, name, frozenset(task.file.file_path for task in bin_))
        log.info("table.compacted", table=name, files=rewritten)
        yield rewritten


def count_crowded(table: Table) -> int:
    """Return how many small files the crowded partitions of *table* have."""
    return sum(len(tasks) for tasks in _crowded(table, None, ROWS_PER_FILE))


def _rewrite(lake: Lake, name: str, paths: frozenset[str]) -> int:
    """Rewrite the files at *paths* as one, where they are all still there."""
    contract = lake.contract(name)

    def attempt(table: Table) -> int:
        old = [task for task in plan(table) if task.file.file_path in paths]
        if len(old) < len(paths):
            return 0  # another process has rewritten some of them meanwhile
        cursor = lake._duckdb.cursor()  # noqa: SLF001 (the lake's own engine)
        sql = f"select * from {relation(old, table.schema())}{order_by(contract)}"
        rows = cursor.sql(sql).to_arrow_table().cast(table.schema().as_arrow())
        held = newest_of(table) if contract.has_rising_key else None
        properties = newest_property(table, held)
        commit_rows(table, rows, retention=contract.retention, replaced=old, properties=properties)
        return len(old)

    return lake._commit(name, attempt)  # noqa: SLF001 (the lake's own loop)


def _bins(table: Table, before: datetime | None, rows_per_file: int) -> list[list[FileScanTask]]:
    """Return the files to rewrite together."""
    bins: list[list[FileScanTask]] = []
    for tasks in _crowded(table, before, rows_per_file):
        rows = rows_per_file
        for task in tasks:
            if rows + task.file.record_count > rows_per_file:
                bins.append([])
                rows = 0
            bins[-1].append(task)
            rows += task.file.record_count
    return [b for b in bins if len(b) > 1]


def _crowded(table: Table, before: datetime | None, rows_per_file: int) -> list[Sequence[FileScanTask]]:
    """Return the small files of each crowded partition, in the order of their rows."""
    partitions: dict[Any, list[FileScanTask]] = defaultdict(list)
    column = next(iter(table.spec().fields), None)
    time_id = column.source_id if column else None
    for task in plan(table):
        file = task.file
        is_small = file.file_size_in_bytes < SMALL_BYTES and file.record_count * 2 < rows_per_file
        if is_small and not has_deletes([task]) and _is_over(task, time_id, before, table):
            partitions[(task.file.spec_id, str(task.file.partition))].append(task)
    return [
        sorted(tasks, key=lambda task: (_bound(task.file.lower_bounds, time_id), task.file.file_path))
        for tasks in partitions.values()
        if len(tasks) >= FEWEST_FILES
    ]


def _is_over(task: FileScanTask, time_id: int | None, before: datetime | None, table: Table) -> bool:
    """Say whether the newest row of *task* is *before* a moment; rows without a time always are."""
    from pyiceberg.conversions import from_bytes
    from pyiceberg.types import TimestamptzType

    if before is None or time_id is None or time_id not in (task.file.upper_bounds or {}):
        return True
    kind = table.schema().find_type(time_id)
    if not isinstance(kind, TimestamptzType):
        return True
    newest_us = from_bytes(kind, task.file.upper_bounds[time_id])
    return newest_us < microseconds(before)


def _bound(bounds: dict[int, bytes] | None, field_id: int | None) -> int:
    """Return a bound as a number to sort by."""
    held = (bounds or {}).get(field_id or -1)
    return int.from_bytes(held[:8], "little", signed=True) if held else 0
