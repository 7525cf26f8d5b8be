"""Alternative.me's Fear & Greed index, as far as the lake does not have it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Protocol

import structlog

from cryptolake.errors import SourceDownError, SourceRefusedError
from cryptolake.ingest.landing import Ingested, Span, land_rejects, new_deliveries, prepare

if TYPE_CHECKING:
    import pyarrow as pa

    from cryptolake.clock import Clock
    from cryptolake.lake import Lake
    from cryptolake.sources.records import IndexHistory, IndexValue

TABLE = "bronze.fear_greed"
SOURCE = "alternative.me"
ALL = 0
NEW = new_deliveries(["timestamp"], ["value", "classification"])

log = structlog.get_logger(__name__)


class IndexSource(Protocol):
    """Who can be asked for the newest values of the index."""

    def fng(self, limit: int) -> IndexHistory:
        """Return the index of the newest *limit* days; 0 asks for all."""
        ...


def ingest_fear_greed(
    lake: Lake,
    source: IndexSource,
    *,
    clock: Clock,
    run_id: str,
    restatement_days: int = 3,
    span: Span = Span(),  # noqa: B008 (frozen)
) -> Ingested:
    """
    Land the values that *source* has and the lake has not.

    Asked for are the days from the newest stored one less the restatement window, or all where
    nothing is stored, unless *span* says otherwise. A failure is returned, not raised.

    Raises:
        ContractError: bronze does not follow its contract.
        LakeError: bronze cannot be written.
    """
    prepare(lake, TABLE)
    today = clock.now().date()
    try:
        answer = source.fng(_limit(lake, today, restatement_days, span))
    except (SourceDownError, SourceRefusedError) as e:
        log.warning("index.failed", reason=str(e))
        return Ingested(TABLE, 1, 0, 0, {"fear_greed": str(e)})
    values = [v for v in answer.values if _is_within(v, span)]
    received_at = datetime.fromtimestamp(answer.received_at_ms / 1000, UTC)
    rejected = land_rejects(lake, [(None, e) for e in answer.rejects], received_at=received_at, run_id=run_id)
    added = lake.append(TABLE, _table(values, received_at, run_id), new=NEW).rows_added
    log.info("batch.landed", table=TABLE, delivered=len(values), rows=added)
    return Ingested(TABLE, 1, added, rejected)


def _limit(lake: Lake, today: date, restatement_days: int, span: Span) -> int:
    """Return how many of the newest values to ask for."""
    if span.full or (span.end and not span.start):
        return ALL
    start = span.start
    if start is None:
        with lake.reader(only=(TABLE,)) as reader:
            [(newest,)] = reader.rows(f"select max(timestamp) from {TABLE}")
        if newest is None:
            return ALL
        return max((today - datetime.fromtimestamp(newest, UTC).date()).days, 0) + max(restatement_days, 1)
    return max((today - start).days + 1, 1)


def _is_within(value: IndexValue, span: Span) -> bool:
    day = datetime.fromtimestamp(value.timestamp, UTC).date()
    return (span.start is None or day >= span.start) and (span.end is None or day <= span.end)


def _table(values: list[IndexValue], received_at: datetime, run_id: str) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "value": pa.array([v.value for v in values], pa.int32()),
            "classification": pa.array([v.classification for v in values], pa.string()),
            "timestamp": pa.array([v.timestamp for v in values], pa.int64()),
            "_ingested_at": pa.array([received_at] * len(values), pa.timestamp("us", "UTC")),
            "_source": pa.repeat(SOURCE, len(values)),
            "_run_id": pa.repeat(run_id, len(values)),
        }
    )
