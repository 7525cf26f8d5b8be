"""A backfill as it goes: a progress bar where a person looks on, log lines elsewhere, and its summary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

import structlog

from cryptolake.cli.terminal import console, counted, note, print_json
from cryptolake.clock import Clock

if TYPE_CHECKING:
    from cryptolake.capture.backfill import Backfilled, Progress

SHOWN_DAYS = 5

log = structlog.get_logger(__name__)


@contextmanager
def following(*, as_json: bool, debug: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield what shows how far a backfill is: a bar on a terminal, a log line a day elsewhere."""
    from cryptolake.cli.events import log_events

    clock = Clock()
    began = clock.monotonic()

    def rate(progress: Progress) -> float:
        return progress.trades / max(clock.monotonic() - began, 1e-3)

    if as_json or not sys.stdout.isatty():
        log_events("info")
        logged = -1

        def line(progress: Progress) -> None:
            nonlocal logged
            if progress.days_done > logged:
                logged = progress.days_done
                log.info(
                    "backfill.going",
                    day=str(progress.day),
                    days_done=progress.days_done,
                    days=progress.days,
                    trades=progress.trades,
                    a_second=round(rate(progress)),
                )

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    log_events("info" if debug else "warning")
    columns = [
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days  {task.fields[trades]:,} trades  {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
    ]
    with Bar(*columns, console=console(), transient=True, redirect_stderr=sys.stderr.isatty()) as bar:
        task = bar.add_task("backfill", total=None, trades=0, rate=0.0)
        yield lambda p: bar.update(
            task,
            description=str(p.day),
            completed=p.days_done,
            total=p.days,
            trades=p.trades,
            rate=rate(p),
        )


def summary(filled: Backfilled, status: int, *, as_json: bool) -> None:
    """Print what a backfill did, and what is still missing."""
    if as_json:
        print_json({**_plain(filled), "exit_status": status})
        return
    note(
        f"{filled.instrument.name}: {counted(filled.trades_added, 'new trade')} of {filled.trades_read:,} read, "
        f"{counted(filled.days, 'day')}, {filled.skipped:,} of them known already"
    )
    for count, what in (
        (filled.absent_ids, "ids are proved not to exist"),
        (filled.rejected, "records cannot be read; see `select * from bronze.rejects`"),
        (filled.missing_ids, "ids could not be had; see `cryptolake coverage`, and run this again later"),
    ):
        if count:
            note(f"{count:,} {what}")
    if filled.incomplete:
        note(
            f"not complete, as a trade on it or beside it could not be had or not be read: {_days(filled.incomplete)}"
        )
    if filled.without:
        note(f"neither the archive nor REST has anything of {_days(filled.without)}")
    if filled.open_day:
        note(f"{filled.open_day} is not over at the venue, so it cannot be complete yet")
    if filled.trades_added:
        note("`cryptolake transform` makes bars of them")


def _days(days: Sequence[date]) -> str:
    more = f" and {len(days) - SHOWN_DAYS:,} more" if len(days) > SHOWN_DAYS else ""
    return ", ".join(map(str, days[:SHOWN_DAYS])) + more


def _plain(filled: Backfilled) -> dict[str, object]:
    return {
        "instrument": filled.instrument.name,
        "stored_as": filled.instrument.stored_as,
        "days": filled.days,
        "skipped": filled.skipped,
        "trades_read": filled.trades_read,
        "trades_added": filled.trades_added,
        "absent_ids": filled.absent_ids,
        "rejected": filled.rejected,
        "missing_ids": filled.missing_ids,
        "incomplete": filled.incomplete,
        "without": filled.without,
        "open_day": filled.open_day,
    }
