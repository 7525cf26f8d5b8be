"""
Row counts against those of past runs.

The history is `quality.check_results` itself. What is usual is told by the median and the median absolute
deviation (MAD) of the last 30 runs: a figure is unusual where its modified z-score, 0.6745 * (figure -
median) / scale, is beyond 3.5 (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993). The scale
is the MAD, but never less than a twentieth of the median nor than 5 rows, so that many equal runs on one
day do not make the next day's growth, or that of a month without a run, look odd.

Tables of coins are judged by their rows a coin (`per` in the contract), which a new coin hardly moves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from cryptolake.lake.scan import plan, relation
from cryptolake.quality.check import Check, Kind, Threshold
from cryptolake.quality.sql import literal

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from cryptolake.lake import Lake, Reader

RESULTS = "quality.check_results"
LAST_RUNS = 30
FEWEST_RUNS = 7
UNUSUAL_Z = 3.5
SMALLEST_SHARE, SMALLEST_ROWS = 0.05, 5.0
LOOK_BACK_DAYS = (3, 45, 400)
"""How far back to look for the last runs: further only where the nearer days hold too few."""

History = Mapping[tuple[str, str], Sequence[float]]
"""The figures of past runs by table and check, newest first."""


def threshold(check: Check, history: History) -> Threshold:
    """Return what the figure of *check* is held against, by past runs where its contract says so."""
    past = history.get((check.table, check.name), ())
    if check.kind == Kind.ANOMALY:
        return usual(past)
    if check.kind == Kind.FLOOR:
        return Threshold.at_least(max(past, default=0.0))
    return check.threshold or Threshold.exactly(0)


def usual(past: Sequence[float]) -> Threshold:
    """
    Return the figures that *past* ones make likely; all, while there are fewer than 7.

    >>> usual([400.0] * 30).text
    '296.219 to 503.781'
    """
    if len(past) < FEWEST_RUNS:
        return Threshold(f"any, until {FEWEST_RUNS} runs are known")
    middle = median(past)
    deviation = median(abs(p - middle) for p in past)
    reach = UNUSUAL_Z / 0.6745 * max(deviation, SMALLEST_SHARE * middle, SMALLEST_ROWS)
    return Threshold.between(round(middle - reach, 3), round(middle + reach, 3))


def read_history(lake: Lake, reader: Reader, checks: Sequence[Check], now: datetime) -> History:
    """
    Return the figures of the last 30 runs of those *checks* that past runs decide.

    Only files of the days looked at are opened, so the time does not grow with the history.
    """
    wanted = [c for c in checks if c.kind in {Kind.ANOMALY, Kind.FLOOR}]
    history: History = {}
    table = lake.table(RESULTS)
    for days in LOOK_BACK_DAYS if wanted else ():
        history = _newest(table, reader, wanted, now - timedelta(days=days))
        if all(len(history.get((c.table, c.name), ())) == LAST_RUNS for c in wanted):
            break
    return history


def _newest(table: Table, reader: Reader, checks: Sequence[Check], since: datetime) -> History:
    names = ", ".join(sorted({literal(c.name) for c in checks}))
    tables = ", ".join(sorted({literal(c.table) for c in checks}))
    within = f"checked_at >= '{since.astimezone(UTC).isoformat()}' and check_name in ({names}) and table_name in ({tables})"
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for table_name, check_name, figure in reader.rows(
        f"""
        select table_name, check_name, metric_value
        from (
            select *, row_number() over (partition by table_name, check_name order by _loaded_at desc) as age
            from {relation(plan(table, within=within), table.schema())}
            where {within.replace("checked_at >= ", "checked_at >= timestamptz ")} and metric_value is not null
        ) as aged
        where age <= {LAST_RUNS}
        order by age
        """
    ):
        found[table_name, check_name].append(figure)
    return found
