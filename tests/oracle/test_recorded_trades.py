"""Bars over the recorded six minutes are, to the last digit, those computed from the raw frames with decimals."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from cryptolake.contracts import load_contracts
from cryptolake.transform.run import COVERAGE, Transform
from tests.equality import table_differences
from tests.lakes import NOW, all_rows, new_lake
from tests.oracle.trades import trade_tables
from tests.property.trade_histories import TRADES, arrow
from tests.recorded_trades import RECORDED, bundled_trades, trades_of

ORIGINALS = ("spot_btcusdt_20240808.gz", "spot_ethusdt_20240808.gz")
COMPARED = ("silver.trades", "silver.held_ranges", "silver.bars_1m", "gold.fact_ohlcv", "gold.coverage_daily")

pytestmark = pytest.mark.slow


def assert_bars_are_those_of_the_frames(rows: list[dict[str, Any]], home: Path) -> None:
    """Refine *rows* in two runs, the middle third last, and hold every table against the oracle."""
    third = len(rows) // 3
    transform = Transform(home / "dbt")
    with new_lake(home) as lake:
        lake.ensure(TRADES)
        for part in (rows[:third] + rows[2 * third :], rows[third : 2 * third]):
            lake.append(TRADES, arrow(TRADES, part))
            transform.run(lake, now=NOW, select=COVERAGE)
        held, expected = all_rows(lake, *COMPARED), trade_tables(rows, [])
    for name in COMPARED:
        assert table_differences(held[name], expected[name], load_contracts()[name]) == [], name
    complete = [bar["is_complete"] for bar in expected["silver.bars_1m"]]
    assert len(rows) == RECORDED
    assert (complete.count(True), complete.count(False)) == (10, 4)


def test_bars_equal_those_of_the_bundled_frames(tmp_path: Path) -> None:
    """Open, high, low, close, volumes, counts, taker volumes, vwap and completeness, of all intervals."""
    assert_bars_are_those_of_the_frames(bundled_trades(), tmp_path)


@pytest.mark.recordings
def test_bars_equal_those_of_the_original_frames(recordings: Path, tmp_path: Path) -> None:
    """The same from the original recordings, with all that was recorded beside the trades."""
    folder = recordings / "hftbacktest_binance_ws_2024"
    lines = [
        line for name in ORIGINALS for line in gzip.decompress((folder / name).read_bytes()).splitlines()
    ]
    parts = [line.split(b" ", 1) for line in lines if b'"stream"' in line]
    rows = list(trades_of((int(ns), frame) for ns, frame in parts))

    assert_bars_are_those_of_the_frames(rows, tmp_path)
