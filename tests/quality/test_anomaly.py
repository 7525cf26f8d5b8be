"""Row counts against those of past runs: what is unusual, and what only looks so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from cryptolake.contracts import load_contracts
from cryptolake.contracts.schemas import arrow_schema
from cryptolake.lake import Lake
from cryptolake.quality import compile_checks
from cryptolake.quality.anomaly import LAST_RUNS, RESULTS, read_history, usual
from cryptolake.quality.check import Kind
from tests.corruption.planting import doubled, kept
from tests.quality.clean_lake import COINS, NOW, arrow, breaches, check, price_rows

TABLE, USUAL, FLOOR = "bronze.historical_prices", "row_count_is_usual", "row_count_never_falls"


def is_usual(past: Sequence[float], figure: float) -> bool:
    """Say whether *figure* passes after *past* ones, newest first."""
    return usual(past).verdict(figure) == "passed"


def test_fewer_than_seven_runs_judge_nothing() -> None:
    """With six past runs any figure passes, with seven an odd one does not."""
    assert is_usual([400.0] * 6, 9_000.0)
    assert not is_usual([400.0] * 7, 9_000.0)


@pytest.mark.parametrize("runs_a_day", [1, 20])
def test_a_table_that_grows_a_little_every_day_is_usual(runs_a_day: int) -> None:
    """A row or two a coin and day pass, after one run a day and after many equal ones on one day."""
    counts = [float(365 + 2 * (run // runs_a_day)) for run in range(600)]
    assert all(is_usual(counts[max(0, i - LAST_RUNS) : i][::-1], counts[i]) for i in range(1, len(counts)))


@pytest.mark.parametrize("days", [7, 30])
def test_a_pause_is_usual(days: int) -> None:
    """The rows of a month without a run are nothing odd."""
    assert is_usual([365.0] * LAST_RUNS, 365.0 + days)


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0, 10.0])
def test_a_count_that_halved_or_doubled_is_unusual(share: float) -> None:
    """A table that lost or gained half of its rows is worth a look."""
    past = [float(365 + n) for n in range(LAST_RUNS)][::-1]
    assert not is_usual(past, 380 * share)


def test_a_new_level_becomes_usual() -> None:
    """After a lasting change of level the warnings end by themselves."""
    assert not is_usual([800.0] * 5 + [365.0] * 25, 800.0)
    assert is_usual([800.0] * 20 + [365.0] * 10, 800.0)


def test_one_odd_run_in_the_past_hides_nothing() -> None:
    """Median and MAD are not moved by a single outlier."""
    assert not is_usual([1e9] + [365.0] * 29, 800.0)


def keep_results(lake: Lake, figures: Mapping[datetime, float | None], name: str = USUAL) -> None:
    """Put results of the check *name* into the lake, one commit each, as past runs would have."""
    lake.ensure(RESULTS)
    schema = arrow_schema(lake.contracts[RESULTS])
    for at, figure in figures.items():
        row = {
            "run_id": str(at),
            "checked_at": at,
            "check_name": name,
            "table_name": TABLE,
            "metric_value": figure,
        }
        lake.append(
            RESULTS, pa.Table.from_pylist([row], schema=schema.remove(schema.get_field_index("_loaded_at")))
        )


def past_figures(lake: Lake, name: str = USUAL) -> Sequence[float]:
    """Return the figures of past runs that a check of today is held against."""
    with lake.reader() as reader:
        checks = compile_checks(lake.contracts[TABLE])
        return read_history(lake, reader, checks, NOW).get((TABLE, name), ())


def test_past_runs_are_read_newest_first(lake: Lake) -> None:
    """The last figure committed comes first, and results of other checks do not count."""
    keep_results(lake, {NOW: 1.0, NOW - timedelta(days=1): 2.0})
    keep_results(lake, {NOW: 9.0}, name="row_count")
    assert past_figures(lake) == [2.0, 1.0]


def test_only_the_last_thirty_runs_count(lake: Lake) -> None:
    """Older runs are forgotten."""
    keep_results(lake, {NOW - timedelta(hours=40 - n): float(n) for n in range(LAST_RUNS + 3)})
    assert past_figures(lake) == [float(n) for n in range(LAST_RUNS + 2, 2, -1)]


def test_runs_that_are_far_apart_are_found_too(lake: Lake) -> None:
    """Where the last days hold few runs, those of the last year count; older ones never."""
    keep_results(lake, {NOW - timedelta(days=days): float(days) for days in (500, 300, 40, 1)})
    assert past_figures(lake) == [1.0, 40.0, 300.0]


def test_a_run_whose_check_was_broken_does_not_count(lake: Lake) -> None:
    """A result without a figure says nothing of what is usual."""
    keep_results(lake, {NOW - timedelta(days=1): 7.0, NOW: None})
    assert past_figures(lake) == [7.0]


def test_a_new_coin_is_usual(lake: Lake) -> None:
    """Twice as many coins are twice as many rows, but no more rows a coin."""
    for run in range(7):
        check(lake, layers=("bronze",), run_id=f"earlier-{run}")
    new = [{**row, "coin_id": f"{row['coin_id']}-2"} for row in price_rows()]
    lake.append(TABLE, arrow(TABLE, new))
    assert breaches(check(lake, layers=("bronze",))) == {}


def test_rows_that_landed_twice_are_unusual(lake: Lake) -> None:
    """After seven runs, a run that doubles the rows of the same coins is warned of, with both figures."""
    for run in range(7):
        check(lake, layers=("bronze",), run_id=f"earlier-{run}")
    doubled(TABLE)(lake)
    result = check(lake, layers=("bronze",))[f"{TABLE}.{USUAL}"]
    assert (result.status, result.metric_value, result.threshold) == ("warning", 122.0, "35.055 to 86.945")
    assert result.message is not None
    assert "Found 122, wanted 35.055 to 86.945" in result.message


def test_lost_rows_are_found_at_every_later_run_until_they_are_back(lake: Lake) -> None:
    """Checking twice does not turn a loss into the new normal."""
    check(lake, layers=("bronze",), run_id="before")
    kept(TABLE, 180)(lake)
    name = f"{TABLE}.{FLOOR}"
    first, second = (check(lake, layers=("bronze",), run_id=run)[name] for run in ("first", "second"))
    assert [first.status, second.status] == ["failed", "failed"]
    assert second.threshold == f">= {61 * len(COINS)}"


def test_the_first_run_has_nothing_to_fall_below(lake: Lake) -> None:
    """Without past runs both checks pass."""
    found = check(lake, layers=("bronze",))
    assert [found[f"{TABLE}.{name}"].status for name in (USUAL, FLOOR)] == ["passed", "passed"]


def test_only_append_only_tables_have_a_floor() -> None:
    """Silver and gold may shrink when bronze is corrected."""
    floors = {
        name for name, c in load_contracts().items() if any(k.kind == Kind.FLOOR for k in compile_checks(c))
    }
    assert floors == {"bronze.historical_prices", "bronze.fear_greed"}
