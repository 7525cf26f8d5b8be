"""The coverage of trades for the eye, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cryptolake.cli.terminal import JSON_HAS_ALL, Columns, console, counted, note, print_json, span, table

if TYPE_CHECKING:
    from cryptolake.serving.coverage import DayCoverage, Gap, InstrumentCoverage

SHOWN_RANGES, SHOWN_GAPS = 2, 20
DAYS = Columns(
    ["instrument", "day", "trades>", "complete ids", "missing>", "absent>", "rejected>", "complete"],
    spare=["absent>", "rejected>", "complete ids", "trades>", "missing>"],
    folds={"complete": 16},
)
GAPS = Columns(["instrument", "gap", "ids>", "state", "reason", "age>"], spare=["reason", "age>", "ids>"])


def coverage(found: Sequence[InstrumentCoverage], status: int, *, as_json: bool) -> None:
    """Print what is held of every instrument, and the *status* that the command ends with."""
    if as_json:
        print_json({"instruments": [_plain(i) for i in found], "exit_status": status})
        return
    days(found, instead=JSON_HAS_ALL)
    gaps = [_gap(i.instrument, gap) for i in found for gap in i.gaps]
    if gaps:
        table(GAPS, gaps[:SHOWN_GAPS], instead=JSON_HAS_ALL)
    if (more := len(gaps) - SHOWN_GAPS) > 0:
        note(f"… and {more:,} more; --json has them all")
    for i in found:
        if not i.is_captured:
            note(f"{i.instrument}: nothing captured{' on these days' if i.days else ''}")
    late = sum(day.is_over and not day.is_complete for i in found for day in i.days)
    if status and late:
        note(f"{counted(late, 'day')} over and not complete")
    if not status:
        console().print("[green]no id is missing or rejected[/]")


def days(found: Sequence[InstrumentCoverage], *, instead: str = "") -> None:
    """Print a line an instrument and day; a terminal with no room for all columns is told what to do *instead*."""
    rows = [_day(i.instrument, day) for i in found for day in i.days]
    if rows:
        table(DAYS, rows, instead=instead)


def _plain(of: InstrumentCoverage) -> dict[str, Any]:
    return {"instrument": of.instrument, "is_captured": of.is_captured, "days": of.days, "gaps": of.gaps}


def _day(instrument: str, day: DayCoverage) -> list[str]:
    shown = [f"{r.first_id}–{r.last_id}" for r in day.ranges[:SHOWN_RANGES]]
    if more := len(day.ranges) - len(shown):
        shown.append(f"and {more:,} more")
    complete = "yes" if day.is_complete else f"{'no' if day.is_over else 'not yet'}: {day.why}"
    counts = (day.missing_ids, day.absent_ids, day.rejected_ids)
    return [
        instrument,
        str(day.traded_date),
        f"{day.trade_count:,}",
        "\n".join(shown) or "-",
        *(f"{n:,}" for n in counts),
        complete,
    ]


def _gap(instrument: str, gap: Gap) -> list[str]:
    return [
        instrument,
        f"{gap.first_id}–{gap.last_id}",
        f"{gap.ids:,}",
        gap.state,
        gap.reason or "-",
        span(gap.age_seconds),
    ]
