"""
`Landing`: bring the spool into the lake, exactly once.

What becomes missing is committed before the trades, what closes it after them: whoever reads in between
takes for missing what is there, never the other way round. Each of the four commits carries how far the
spool was read, so that after a crash at any point each goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from cryptolake.capture.batch import event_table, reject_table, trade_schema
from cryptolake.capture.compacting import HourlyCompaction
from cryptolake.capture.spool import Block
from cryptolake.errors import LakeError, OperatorError, StaleWriterError, TransientError
from cryptolake.lake import Position
from cryptolake.lake.faults import may_pass

if TYPE_CHECKING:
    from cryptolake.capture.spool import Spool
    from cryptolake.lake import Lake

TRADES, GAPS, REJECTS = "bronze.realtime_trades", "bronze.trade_gaps", "bronze.rejects"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Landed:
    """What one round brought into the lake; *behind* says whether more was waiting."""

    trades: int = 0
    events: int = 0
    rejects: int = 0
    behind: bool = False


@dataclass(frozen=True)
class Part:
    """What of each block goes to one table under one position."""

    table: str
    stream: str

    def rows(self, blocks: list[tuple[int, Block]]) -> pa.Table:
        """Return the rows of *blocks* that belong here."""
        if self.table == TRADES:
            return pa.Table.from_batches([b for _, block in blocks for b in block.trades], trade_schema())
        if self.table == REJECTS:
            return reject_table([r for _, block in blocks for r in block.rejects])
        opened = self.stream.endswith("-opened")
        return event_table(
            [e for _, block in blocks for e in block.events if (e.event == "missing") == opened]
        )


def parts(identity: str) -> tuple[Part, Part, Part, Part]:
    """Return the parts of the spool *identity*, in the order in which they are committed."""
    stream = f"spool-{identity}"
    return (
        Part(GAPS, f"{stream}-opened"),
        Part(TRADES, stream),
        Part(GAPS, f"{stream}-closed"),
        Part(REJECTS, stream),
    )


def position(lake: Lake, part: Part) -> int:
    """Return the number of the last block whose *part* is in *lake*; 0 for none."""
    name = Position(part.stream, "", "").property_name
    return int(lake.table(part.table).properties.get(name, "0"))


class Landing:
    """Lands the blocks of a spool, in their order. One thread only."""

    def __init__(self, lake: Lake, spool: Spool, run_id: str, *, max_rows: int = 250_000) -> None:
        self._lake, self._spool, self._run_id, self._max_rows = lake, spool, run_id, max_rows
        self._parts = parts(spool.identity)
        self._ours: dict[Part, set[int]] = {}
        """Positions that we read first, or tried to commit."""
        self._trimmed = 0
        self._compaction = HourlyCompaction(lake, TRADES)
        self.newest: datetime | None = None
        """When the newest trade that was landed was made."""

    def land_once(self) -> Landed:
        """
        Commit at most *max_rows* trades of the oldest blocks, and let the spool forget them.

        Raises:
            TransientError: the catalog is busy or down; call again, later.
            OperatorError: another process landed this spool, the disk is full, or a block is damaged.
        """
        last = self._spool.last_seq()
        blocks = self._spool.read(self._trimmed, self._max_rows)
        if not blocks:
            return Landed()
        upto = blocks[-1][0]
        try:
            counts = [self._land(part, blocks, upto) for part in self._parts]
        except LakeError as e:
            if may_pass(e):
                raise TransientError(str(e)) from e
            raise
        self._spool.trim(upto)
        self._trimmed = upto
        opened, trades, closed, rejects = counts
        done = Landed(trades, opened + closed, rejects, behind=last > upto)
        log.info("spool.landed", trades=trades, events=done.events, rejects=rejects, block=upto)
        return done

    def compact_when_due(self) -> int:
        """Make the next file of hours that are over, of the many that each has; return of how many."""
        return self._compaction.when_due(self.newest)

    def _land(self, part: Part, blocks: list[tuple[int, Block]], upto: int) -> int:
        """Commit what the lake does not have of *part*; return how many rows."""
        start = position(self._lake, part)
        self._refuse_foreign(part, start)
        rows = part.rows([(seq, block) for seq, block in blocks if seq > start])
        if not rows.num_rows:
            return 0
        self._ours[part].add(upto)
        run_ids = pa.repeat(pa.scalar(self._run_id), rows.num_rows)
        at = Position(part.stream, str(start or ""), str(upto))
        try:
            self._lake.append(part.table, rows.append_column("_run_id", run_ids), position=at)
        except StaleWriterError as e:
            if position(self._lake, part) != upto:  # else it was this very commit, whose answer was lost
                raise OperatorError(_fenced(part, str(e))) from e
        self._ours[part] = {upto}
        if part.table == TRADES:
            newest = pc.call_function("max", [rows["traded_at"]]).as_py().astimezone(UTC)
            self.newest = max(newest, self.newest or newest)
        return rows.num_rows

    def _refuse_foreign(self, part: Part, at: int) -> None:
        if at not in self._ours.setdefault(part, {at}):
            raise OperatorError(_fenced(part, f"{part.table} stands at block {at}"))


def _fenced(part: Part, said: str) -> str:
    return (
        f"another process landed the same spool ({part.stream}: {said}); it may have been copied with its home. "
        "Stop one of the two, then start again"
    )
