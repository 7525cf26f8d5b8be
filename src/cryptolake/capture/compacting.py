"""Make one of the many small files of each hour, once the hour is over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from cryptolake.errors import CommitConflictError, LakeError

if TYPE_CHECKING:
    from cryptolake.lake import Lake

COMPACTED_AFTER = timedelta(minutes=10)
"""How long after an hour of trades ended its files are made one; stragglers come in the next round."""

log = structlog.get_logger(__name__)


class HourlyCompaction:
    """Compacts *table* once an hour of trade time. One thread only."""

    def __init__(self, lake: Lake, table: str) -> None:
        self._lake, self._table = lake, table
        self._done: datetime | None = None

    def when_due(self, newest: datetime | None) -> int:
        """
        Compact the hours that are over now that a trade was made at *newest*; return how many files that were.

        Where the lake cannot be written that is logged, and tried again at the next call.
        """
        if newest is None:
            return 0
        hour = (newest - COMPACTED_AFTER).replace(minute=0, second=0, microsecond=0)
        if self._done is not None and hour <= self._done:
            return 0
        try:
            files = self._lake.compact(self._table, before=hour)
        except (CommitConflictError, LakeError) as e:
            log.warning("compaction.postponed", table=self._table, reason=str(e))
            return 0
        self._done = hour
        return files
