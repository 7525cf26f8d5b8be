"""Whatever history a lake went through, run after run it holds what a full refresh would make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cryptolake.transform.run import Transform
from tests.histories import History, Run, random_history
from tests.lakes import (
    NOW,
    all_rows,
    differences_between,
    differences_from_the_oracle,
    land,
    new_lake,
    snapshots,
)

JUNE_FIRST_MS = 1_717_200_000_000  # 2024-06-01T00:00:00Z
MINUTE_MS, DAY_MS = 60_000, 86_400_000


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Transform:
    """The models' runner, which parses the project once."""
    return Transform(tmp_path_factory.mktemp("dbt"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4])
def test_a_lake_built_in_runs_equals_one_built_at_once(
    seed: int, transform: Transform, tmp_path: Path
) -> None:
    """After every run of 24 histories: incremental = full refresh = the oracle; nothing new commits nothing."""
    assert_runs_equal_full_refresh(random_history(seed, coins=24, days=400, runs=4), transform, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 110))
def test_two_hundred_and_fifty_histories(seed: int, transform: Transform, tmp_path: Path) -> None:
    """The same over 10 lakes of 25 coins in 6 runs; `seed` makes a lake again."""
    assert_runs_equal_full_refresh(random_history(seed, coins=25, days=450, runs=6), transform, tmp_path)


@pytest.mark.slow
def test_prices_and_days_that_are_taken_back_leave_every_layer(transform: Transform, tmp_path: Path) -> None:
    """A run that fetched earlier and lands later may show that a day has no price: its rows go, up to the calendar's."""
    early, late = (datetime(2024, 6, 9, 0, minute, tzinfo=UTC) for minute in (10, 40))
    first = run(
        "first",
        late,
        *(observation("kept", d) for d in range(4)),
        observation("gone", 8, minute=5),
        observation("kept", 8, minute=5),
    )
    second = run("second", early, observation("gone", 8), observation("kept", 8))
    third = run("third", late + timedelta(days=1), observation("kept", 8), observation("kept", 9))

    tables = assert_runs_equal_full_refresh(
        History(0, (run("empty", early), first, second, third)), transform, tmp_path
    )

    assert [len(t["silver.daily_prices"]) for t in tables] == [0, 6, 4, 6]
    assert [t["gold.dim_coins"]["coin_id"].to_pylist() for t in tables] == [
        [],
        ["gone", "kept"],
        ["kept"],
        ["kept"],
    ]
    assert [len(t["gold.dim_dates"]) for t in tables] == [0, 9, 4, 10]


@pytest.mark.slow
def test_a_late_day_counts_for_highs_long_past_and_for_the_calendar(
    transform: Transform, tmp_path: Path
) -> None:
    """Drawdown looks back beyond every window, and an earlier first price extends the calendar backwards."""
    at = datetime(2025, 6, 1, 12, tzinfo=UTC)
    peak, fall = [observation("peaked", 0, minute=50)], [observation("peaked", d) for d in range(250, 255)]
    first = run("first", at, *peak, *fall, observation("older", 10))
    second = run("second", at, observation("peaked", 255), observation("older", -20))

    tables = assert_runs_equal_full_refresh(History(0, (first, second)), transform, tmp_path)

    assert [t["gold.dim_dates"]["date_day"].to_pylist()[0].isoformat() for t in tables] == [
        "2024-06-01",
        "2024-05-12",
    ]


def assert_runs_equal_full_refresh(
    history: History, transform: Transform, home: Path
) -> list[dict[str, Any]]:
    """Play *history* into two lakes, one refined from what is new, one anew; return the tables after each run."""
    tables = []
    with new_lake(home / "incremental") as incremental, new_lake(home / "full") as full:
        for i, told in enumerate(history.runs):
            land(incremental, told)
            land(full, told)
            transform.run(incremental, now=NOW + timedelta(hours=i))
            transform.run(full, now=NOW + timedelta(hours=i), full_refresh=True)
            tables.append(all_rows(incremental))
            where = f"after run {i} of history {history.seed}"
            assert differences_between(tables[-1], all_rows(full)) == {}, (
                f"incremental is not full refresh {where}"
            )
            assert differences_from_the_oracle(incremental) == {}, f"the lake is not the oracle's {where}"
        before = snapshots(incremental)
        transform.run(incremental, now=NOW + timedelta(days=1))
        assert snapshots(incremental) == before, f"nothing new was committed again, history {history.seed}"
    return tables


def observation(coin_id: str, day: int, *, minute: int = 0) -> dict[str, Any]:
    """Return a point *minute* minutes into the *day*-th day after 2024-06-01."""
    return {
        "coin_id": coin_id,
        "timestamp_ms": JUNE_FIRST_MS + day * DAY_MS + minute * MINUTE_MS,
        "price_usd": 1.0 + abs(day) + 100 * minute,
        "market_cap_usd": None,
        "volume_24h_usd": 1.0,
    }


def run(run_id: str, at: datetime, *observations: dict[str, Any]) -> Run:
    """Return the run that was answered *observations*, and no index, at the time *at*."""
    lineage = {"_ingested_at": at, "_source": "coingecko", "_run_id": run_id}
    return Run(run_id, at, tuple({**o, **lineage} for o in observations), ())
