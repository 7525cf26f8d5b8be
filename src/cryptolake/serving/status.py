"""What the lake holds and how it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from cryptolake.lake.scan import quoted
from cryptolake.serving.coverage import GAPS, RANGES

if TYPE_CHECKING:
    from cryptolake.contracts import Contract
    from cryptolake.lake import Lake, Reader

CHECKS = "quality.check_results"
TRADES = "bronze.realtime_trades"
SHOWN_DAYS = 30


@dataclass(frozen=True)
class TableStatus:
    """One table: *newest* is the newest date of its data, *bytes* the size of the current snapshot's files."""

    table: str
    rows: int
    newest: date | None
    snapshot_id: int | None
    committed_at: datetime | None
    bytes: int


@dataclass(frozen=True)
class FailingCheck:
    """A check that did not pass the last time it ran."""

    table: str
    check: str
    status: str
    message: str | None


@dataclass(frozen=True)
class CapturedStatus:
    """
    An instrument of which trades are held: how many, when the newest was made, and what is known to be missing.

    *trades* and the gaps are of the last time that the models ran; None where they never did.
    """

    instrument: str
    trades: int | None
    newest_trade_at: datetime
    open_gaps: int | None
    missing_ids: int | None


@dataclass(frozen=True)
class Status:
    """The lake at a glance; *last_checked_at* is None where no check ever ran."""

    tables: list[TableStatus]
    failing: list[FailingCheck]
    last_run_id: str | None
    last_checked_at: datetime | None
    captured: list[CapturedStatus]


def status(lake: Lake) -> Status:
    """Return what every table of *lake* holds, and the checks that did not pass when last run."""
    with lake.reader() as reader:
        tables = [_table_status(lake, reader, name) for name in lake.tables()]
        captured = _captured(reader)
        if CHECKS not in reader.names:
            return Status(tables, [], None, None, captured)
        failing = [FailingCheck(*row) for row in reader.rows(FAILING)]
        newest = reader.rows(f"select run_id, checked_at from {CHECKS} order by _loaded_at desc limit 1")
    run_id, checked_at = newest[0] if newest else (None, None)
    return Status(tables, failing, run_id, checked_at, captured)


def _captured(reader: Reader) -> list[CapturedStatus]:
    """Return every instrument of which trades are held."""
    if TRADES not in reader.names:
        return []
    newest: list[Any] = reader.rows(
        f"select venue, symbol, max(traded_at) from {TRADES} group by all order by all"
    )
    counts: dict[Any, Any] = {}
    gaps: dict[Any, Any] = {}
    is_refined = RANGES in reader.names and GAPS in reader.names
    if is_refined:
        counts = {row[:2]: row[2] for row in reader.rows(COUNTS)}
        gaps = {row[:2]: row[2:] for row in reader.rows(OPEN_GAPS)}
    unknown = (0, 0) if is_refined else (None, None)
    return [
        CapturedStatus(f"{v}:{s}", counts.get((v, s), unknown[0]), at, *gaps.get((v, s), unknown))
        for v, s, at in newest
    ]


COUNTS = f"select venue, symbol, sum(trade_count)::bigint from {RANGES} group by all"
OPEN_GAPS = f"""
    select venue, symbol, count(*), sum(last_id - first_id + 1)::bigint from {GAPS} where state = 'open' group by all
"""


FAILING = f"""
    select table_name, check_name, status, message from {CHECKS}
    where _loaded_at >= (select max(_loaded_at) from {CHECKS}) - interval {SHOWN_DAYS} day
    qualify row_number() over (partition by table_name, check_name order by _loaded_at desc) = 1
        and status <> 'passed'
    order by 1, 2
"""


def _table_status(lake: Lake, reader: Reader, name: str) -> TableStatus:
    table = lake.table(name)
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    newest = None
    if (contract := lake.contracts.get(name)) and (expression := _newest(contract)):
        [(newest,)] = reader.rows(f"select {expression} from {name}")
    return TableStatus(
        table=name,
        rows=int(summary["total-records"] or 0) if summary else 0,
        newest=newest,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        committed_at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else None,
        bytes=int(summary["total-files-size"] or 0) if summary else 0,
    )


def _newest(contract: Contract) -> str | None:
    """Return the SQL of the newest date in a table: that of its partitions, else over all its dates and times that are not lineage."""
    found = []
    partitions = {field.column for field in contract.partitions if not field.column.startswith("_")}
    for column in contract.columns:
        name = quoted(column.name)
        if column.is_lineage or (partitions and column.name not in partitions):
            continue
        if column.type in {"date", "timestamptz"}:
            found.append(f"cast(max({name}) as date)")
        elif (column.unit or "").endswith("since 1970-01-01 UTC"):
            scale = 1000 if (column.unit or "").startswith("milli") else 1
            found.append(f"cast(to_timestamp(max({name}) / {scale}) as date)")
    return f"greatest({', '.join(found)})" if found else None
