"""A run as it goes: a line a step, and a progress bar where a person looks on."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cryptolake.cli.terminal import MARKS, console, counted, print_json
from cryptolake.clock import Clock
from cryptolake.ingest.landing import Ingested
from cryptolake.quality.result import CheckResult

if TYPE_CHECKING:
    from rich.progress import Progress

    from cryptolake.capture.snapshot import Snapshot
    from cryptolake.pipeline import Outcome
    from cryptolake.transform.run import ModelRun


class Follower:
    """Prints what each step of a run did, as soon as it is done."""

    def __init__(self, progress: Progress | None, as_json: bool) -> None:
        self._progress, self._as_json = progress, as_json
        self._task: Any = None
        self._outcomes: list[Outcome] = []
        self._clock = Clock()
        self._step_began = self._clock.monotonic()

    def progress(self, done: int, total: int, rows: int) -> None:
        """Move the progress bar: coins done, coins in all, rows landed."""
        if self._progress is None:
            return
        if self._task is None:
            self._task = self._progress.add_task("prices", total=total, rows=0, rate=0.0)
        minutes = (self._clock.monotonic() - self._step_began) / 60
        self._progress.update(self._task, completed=done, rows=rows, rate=done / minutes if minutes else 0.0)

    def outcome(self, outcome: Outcome) -> None:
        """Print what a step did and what is wrong."""
        self._outcomes.append(outcome)
        now = self._clock.monotonic()
        seconds, self._step_began = now - self._step_began, now
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        if not self._as_json:
            mark = "[red]✗[/]" if outcome.problems else "[green]✓[/]"
            console().print(
                f"{mark} {outcome.step:<18} {_summary(outcome)}  [dim]{seconds:.1f} s[/]", soft_wrap=True
            )
            for problem in outcome.problems:
                console().print(f"    {problem}", style="red", markup=False, soft_wrap=True)

    def close(self, run_id: str) -> int:
        """Print the end of the run, and return its exit status."""
        status = int(any(o.problems for o in self._outcomes))
        if self._as_json:
            print_json(
                {
                    "run_id": run_id,
                    "steps": [
                        {"step": o.step, "result": _plain(o.result), "problems": list(o.problems)}
                        for o in self._outcomes
                    ],
                    "exit_status": status,
                }
            )
        return status


@contextmanager
def following(*, as_json: bool = False) -> Iterator[Follower]:
    """Yield a follower, with a progress bar where a person looks on."""
    if as_json or not sys.stdout.isatty():
        yield Follower(None, as_json)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("coins  {task.fields[rate]:,.0f} a minute  {task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console(), transient=True) as progress:
        yield Follower(progress, as_json)


def tally(results: Sequence[CheckResult]) -> str:
    """Return how many checks came to which end."""
    counts = Counter(str(r.status.value) for r in results)
    return ", ".join(f"{counts[s]} {MARKS[s]}" for s in MARKS if counts[s]) or "no checks"


def _summary(outcome: Outcome) -> str:
    result = outcome.result
    if isinstance(result, Ingested):
        parts = [f"{result.rows_added:,} new rows in {result.table}"]
        if result.rows_rejected:
            parts.append(f"[yellow]{result.rows_rejected:,} rejected[/]")
        if result.failures:
            parts.append(f"[red]{len(result.failures)} of {result.asked} failed[/]")
        return ", ".join(parts)
    if outcome.step.startswith("check"):
        return tally(result)
    if outcome.step == "stream":
        return _stream_summary(result)
    if outcome.step == "transform":
        return _model_summary(result)
    compacted, expired, removed = (
        sum(getattr(m, name) for m in result)
        for name in ("files_compacted", "snapshots_expired", "orphans_removed")
    )
    return f"{compacted:,} small files compacted, {expired:,} snapshots expired, {removed:,} orphans removed"


def _stream_summary(last: Snapshot) -> str:
    closed = sum(pace.stats.gaps_closed for pace in last.instruments)
    lines = sum(line.replaced for line in last.lines)
    seen = f"{counted(closed, 'gap')} closed, {counted(last.open_gaps, 'gap')} open, {counted(lines, 'connection')} replaced"
    return f"{last.landing.rows_landed:,} new rows in bronze.realtime_trades, {seen}"


def _model_summary(models: Sequence[ModelRun]) -> str:
    added, replaced = sum(m.rows_added for m in models), sum(m.rows_replaced for m in models)
    return f"{len(models)} models: {added:,} rows added, {replaced:,} replaced"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.as_dict() if isinstance(value, CheckResult) else value
