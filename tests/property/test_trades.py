"""However trades and gap events arrive, in runs, the lake holds what a full refresh would make of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.transform.run import COVERAGE, Transform
from tests.equality import table_differences
from tests.lakes import NOW, all_rows, new_lake, snapshots
from tests.oracle.trades import trade_tables
from tests.property.trade_histories import GAPS, TRADES, TradeHistory, arrow, random_trades

TABLES = (
    "silver.trades",
    "silver.held_ids",
    "silver.trade_gaps",
    "silver.held_ranges",
    "silver.bars_1m",
    "gold.fact_ohlcv",
    "gold.coverage_daily",
)


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Transform:
    """The models' runner, which parses the project once."""
    return Transform(tmp_path_factory.mktemp("dbt"))


@pytest.mark.slow
def test_trades_refined_in_runs_equal_trades_refined_at_once(transform: Transform, tmp_path: Path) -> None:
    """After every run of 5 histories of two instruments: incremental = the oracle; in the end also = full refresh."""
    assert_runs_equal_full_refresh(random_trades(7, instruments=10, ids=100, runs=3), transform, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 120))
def test_one_hundred_trade_histories(seed: int, transform: Transform, tmp_path: Path) -> None:
    """The same over 20 lakes of 5 pairs of instruments, in 5 runs; `seed` makes a lake again."""
    assert_runs_equal_full_refresh(random_trades(seed, instruments=10, runs=5), transform, tmp_path)


def assert_runs_equal_full_refresh(history: TradeHistory, transform: Transform, home: Path) -> None:
    """Play *history* into a lake that is refined run after run, and all of it into one that is refined at once."""
    with new_lake(home / "incremental") as incremental, new_lake(home / "full") as full:
        for name in (TRADES, GAPS):
            incremental.ensure(name)
            full.ensure(name)
        for n, (trades, events) in enumerate(history.runs, start=1):
            land(incremental, trades, events)
            transform.run(incremental, now=NOW + timedelta(hours=n), select=COVERAGE)
            differences = differences_from_the_oracle(incremental, *history.upto(n))
            assert differences == {}, f"the lake is not the oracle's after run {n} of history {history.seed}"
        before = snapshots(incremental)
        transform.run(incremental, now=NOW + timedelta(days=1), select=COVERAGE)
        assert snapshots(incremental) == before, f"nothing new was committed again, history {history.seed}"
        trades, events = history.upto(len(history.runs))
        land(full, trades[::-1], events[::-1])
        transform.run(full, now=NOW, select=COVERAGE, full_refresh=True)
        assert differences_between(incremental, full) == {}, (
            f"incremental is not full refresh, {history.seed}"
        )


def land(lake: Lake, trades: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]) -> None:
    """Append rows to bronze, one commit a table."""
    lake.append(TRADES, arrow(TRADES, trades))
    lake.append(GAPS, arrow(GAPS, events))


def differences_between(actual: Lake, expected: Lake) -> dict[str, list[str]]:
    """Return what the trade tables of one lake hold other than those of another."""
    ours, theirs = all_rows(actual, *TABLES), all_rows(expected, *TABLES)
    found = {n: table_differences(ours[n], theirs[n], load_contracts()[n]) for n in TABLES}
    return {n: told for n, told in found.items() if told}


def differences_from_the_oracle(
    lake: Lake, trades: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]
) -> dict[str, list[str]]:
    """Return what the trade tables hold other than what the oracle makes of *trades* and *events*."""
    held, expected = all_rows(lake, *TABLES), trade_tables(trades, events)
    contracts = load_contracts()
    found = {n: table_differences(held[n], expected[n], contracts[n]) for n in TABLES}
    return {n: told for n, told in found.items() if told}
