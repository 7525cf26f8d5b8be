"""Make one of the many small files of each hour, once the hour is over, a file at a time."""

from __future__ import annotations

from collections.abc import Iterator
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
    """
    Compacts *table* once an hour of trade time, a little at each call, so that whoever calls goes on with its work.

    One thread only.
    """

    def __init__(self, lake: Lake, table: str) -> None:
        self._lake, self._table = lake, table
        self._done: datetime | None = None
        self._begun: tuple[datetime, Iterator[int]] | None = None

    def when_due(self, newest: datetime | None) -> int:
        """
        Make the next file of the hours that are over now that a trade was made at *newest*; return of how many.

        Where the lake cannot be written that is logged, and begun anew at the next call.
        """
        if self._begun is None and (hour := self._due(newest)) is not None:
            self._begun = hour, self._lake.compacting(self._table, before=hour)
        if self._begun is None:
            return 0
        hour, work = self._begun
        try:
            files = next(work, None)
        except (CommitConflictError, LakeError) as e:
            self._begun = None
            log.warning("compaction.postponed", table=self._table, reason=str(e))
            return 0
        if files is None:
            self._begun, self._done = None, hour
        return files or 0

    def _due(self, newest: datetime | None) -> datetime | None:
        """Return the end of the hours to compact, None where there are no new ones. A trade of the future ends no hour."""
        if newest is None:
            return None
        over = min(newest, self._lake.clock.wall()) - COMPACTED_AFTER
        hour = over.replace(minute=0, second=0, microsecond=0)
        return hour if self._done is None or hour > self._done else None
