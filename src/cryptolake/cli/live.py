"""A capture as it goes: a live view where a person looks on, log lines elsewhere, and its summary."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Any

import structlog

from cryptolake.cli.terminal import Columns, console, counted, note, print_json, size, span, table, tabled

if TYPE_CHECKING:
    from rich.console import Group

    from cryptolake.capture.snapshot import Snapshot
    from cryptolake.capture.writer import InstrumentStats

RATE_SNAPSHOTS = 6
"""A rate is that of so many snapshots, a second apart."""
LINES_EVERY_SECONDS = 10.0
MICROSECONDS = 1_000_000

log = structlog.get_logger(__name__)


class Rates:
    """New trades a second of every instrument, over the last few snapshots."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[str, int]]] = deque([(0.0, {})], maxlen=RATE_SNAPSHOTS)

    def tell(self, snapshot: Snapshot) -> dict[str, float]:
        """Take a snapshot in, and return the rates by name."""
        counts = {p.stats.instrument.name: p.stats.new for p in snapshot.instruments}
        self._seen.append((snapshot.seconds, counts))
        began, before = self._seen[0]
        seconds = max(snapshot.seconds - began, 1e-3)
        return {name: (count - before.get(name, 0)) / seconds for name, count in counts.items()}


@contextmanager
def watching(*, as_json: bool, debug: bool) -> Iterator[Callable[[Snapshot], None]]:
    """Yield what shows a snapshot: a view that is drawn anew on a terminal, a log line now and then elsewhere."""
    from cryptolake.cli.events import log_events

    rates = Rates()
    if as_json or not sys.stdout.isatty():
        log_events("info")
        due_at = LINES_EVERY_SECONDS

        def logged(snapshot: Snapshot) -> None:
            nonlocal due_at
            paces = rates.tell(snapshot)
            if snapshot.seconds >= due_at:
                due_at = snapshot.seconds + LINES_EVERY_SECONDS
                _log(snapshot, paces)

        yield logged
        return
    from rich.live import Live

    log_events("info" if debug else "warning")
    with Live(
        console=console(), auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()
    ) as live:
        yield lambda snapshot: live.update(_view(snapshot, rates.tell(snapshot)), refresh=True)


def served(url: str, *, as_json: bool) -> None:
    """Say where the metrics of a capture are."""
    if as_json or not sys.stdout.isatty():
        log.info("metrics.served", url=url)
    else:
        note(f"metrics at {url}")


def stopped(stop: Event, as_json: bool) -> None:
    """Wait until *stop* is set, and tell a person what happens then."""
    stop.wait()
    if not as_json and sys.stdout.isatty():
        note("stopping: what was received is being committed; once more to stop at once")


def summary(last: Snapshot, *, as_json: bool) -> None:
    """Print what a capture came to."""
    if as_json:
        print_json(_plain(last))
        return
    rows = [_counts(p.stats, "%Y-%m-%d %H:%M:%S") for p in last.instruments]
    table(Columns(HEADERS, LEAST_IMPORTANT), rows)
    landed = f"{counted(last.landing.rows_landed, 'trade')} landed in {span(last.seconds)}"
    if (earlier := last.landing.rows_landed - sum(p.stats.new for p in last.instruments)) > 0:
        landed += f", {earlier:,} of them received by an earlier capture"
    if last.open_ids:
        missing, gaps = counted(last.open_ids, "id"), counted(last.open_gaps, "gap")
        landed += f"; missing: {missing} in {gaps}, see `cryptolake coverage`"
    note(landed)
    for line in (*_silent(last), *_unreadable(last)):
        note(line)
    if last.refresh_problem:
        note(f"bars are not brought up to date: {last.refresh_problem}")
    if last.landing.spool_blocks:
        waits = counted(last.landing.spool_trades, "trade")
        note(
            f"not yet in the lake: {waits}, kept in the spool for the next `cryptolake stream` ({last.landing.problem})"
        )


HEADERS = [
    "instrument",
    "trades>",
    "newest (UTC)",
    "duplicates>",
    "rejected>",
    "gaps open>",
    "closed>",
    "ids missing>",
]
LEAST_IMPORTANT = ("closed>", "lag>", "duplicates>", "newest (UTC)", "rejected>", "a second>", "gaps open>")


def _view(snapshot: Snapshot, rates: dict[str, float]) -> Group:
    from rich.console import Group
    from rich.text import Text

    headers = [*HEADERS[:2], "a second>", "lag>", *HEADERS[2:]]
    rows = []
    for pace in snapshot.instruments:
        name, trades, *others = _counts(pace.stats)
        lag = "-" if pace.stats.lag_us is None else span(pace.stats.lag_us / MICROSECONDS)
        rows.append([name, trades, f"{rates[pace.stats.instrument.name]:,.0f}", lag, *others])
    lines = [*_connections(snapshot), _spool(snapshot), *_healing(snapshot)]
    lines += _unreadable(snapshot)
    if snapshot.is_full:
        lines.append(
            "the spool is over its quota: nothing is read until it has landed; what is missed is a gap"
        )
    if snapshot.refresh_problem:
        lines.append(f"bars are not brought up to date: {snapshot.refresh_problem}")
    return Group(
        tabled(Columns(headers, LEAST_IMPORTANT), rows, console().width),
        *(Text(f" {line}", overflow="ellipsis", no_wrap=True) for line in lines),
    )


def _counts(stats: InstrumentStats, moment: str = "%H:%M:%S") -> list[str]:
    newest = "-" if stats.traded_at_us is None else _at(stats.traded_at_us).strftime(moment)
    return [
        stats.instrument.stored_name,
        f"{stats.new:,}",
        newest,
        f"{stats.duplicates:,}",
        f"{stats.rejected:,}",
        f"{stats.open_gaps:,}",
        f"{stats.gaps_closed:,}",
        f"{stats.open_ids:,}",
    ]


def _at(moment_us: int) -> datetime:
    return datetime.fromtimestamp(moment_us / MICROSECONDS, UTC)


def _connections(snapshot: Snapshot) -> Iterator[str]:
    for line in snapshot.lines:
        stood = f" for {span(line.seconds)}" if line.state == "open" else ""
        replaced = f", {line.replaced:,} before it" if line.replaced else ""
        problem = f" ({line.problem})" if line.problem else ""
        yield f"connection {line.name} to {line.host}: {line.state}{stood}{replaced}{problem}"


def _spool(snapshot: Snapshot) -> str:
    landing = snapshot.landing
    last = (
        f"last commit {landing.committed_at:%H:%M:%S} in {span(landing.commit_seconds)}"
        if landing.committed_at
        else "no commit yet"
    )
    trouble = f"; the lake: {landing.problem}" if landing.problem else ""
    return (
        f"spool: {counted(landing.spool_trades, 'trade')} ({size(landing.spool_bytes)}), "
        f"landed {landing.rows_landed:,}, {last}{trouble}"
    )


def _silent(last: Snapshot) -> Iterator[str]:
    """Say of which instruments no trade came, live or healed, and of which of them the venue knows none."""
    silent = [p.stats.instrument for p in last.instruments if not (p.stats.received or p.stats.new)]
    if silent:
        yield f"nothing was received of {', '.join(one.stored_name for one in silent)}"
    unknown = {name for one in last.healing for name in one.unknown}
    if names := [one.name for one in silent if one.name in unknown]:
        yield f"the venue knows no trade of {', '.join(names)}; write it as the venue spells it"


def _unreadable(snapshot: Snapshot) -> list[str]:
    if not snapshot.unreadable:
        return []
    return [f"{counted(snapshot.unreadable, 'frame')} could not be read, see bronze.rejects"]


def _healing(snapshot: Snapshot) -> Iterator[str]:
    for one in snapshot.healing:
        problem = f" ({one.problem})" if one.problem else ""
        did = f"{counted(one.filled, 'id')} in {counted(one.answers, 'answer')}"
        yield f"healing {one.venue}: {one.state}, {did}{problem}"


def _log(snapshot: Snapshot, rates: dict[str, float]) -> None:
    landing = snapshot.landing
    log.info(
        "capture.going",
        seconds=round(snapshot.seconds),
        trades=sum(p.stats.new for p in snapshot.instruments),
        a_second=round(sum(rates.values()), 1),
        rows_landed=landing.rows_landed,
        spool_trades=landing.spool_trades,
        open_gaps=snapshot.open_gaps,
        open_ids=snapshot.open_ids,
        connections=sum(line.state == "open" for line in snapshot.lines),
    )


def _plain(last: Snapshot) -> dict[str, Any]:
    instruments = [
        {
            "instrument": s.instrument.name,
            "stored_as": s.instrument.stored_as,
            "received": s.received,
            "new": s.new,
            "duplicates": s.duplicates,
            "rejected": s.rejected,
            "gaps_opened": s.gaps_opened,
            "gaps_closed": s.gaps_closed,
            "open_gaps": s.open_gaps,
            "open_ids": s.open_ids,
            "newest_trade_id": s.mark,
            "newest_trade_at": None if s.traded_at_us is None else _at(s.traded_at_us),
        }
        for s in (pace.stats for pace in last.instruments)
    ]
    return {
        "seconds": round(last.seconds, 3),
        "instruments": instruments,
        "unreadable": last.unreadable,
        "rows_landed": last.landing.rows_landed,
        "commits": last.landing.commits,
        "in_spool": last.landing.spool_trades,
        "open_gaps": last.open_gaps,
        "open_ids": last.open_ids,
    }
