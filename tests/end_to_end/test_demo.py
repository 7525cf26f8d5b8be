"""The demo, as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cryptolake.clock import Clock
from cryptolake.config import load_settings
from cryptolake.wiring import open_lake
from tests.replayed import COINS, recordings

TABLES = (
    *("bronze.historical_prices", "bronze.fear_greed", "silver.daily_prices", "silver.fear_greed"),
    *("gold.dim_coins", "gold.dim_dates", "gold.fact_market_daily"),
)
TRADE_TABLES = (
    *("bronze.realtime_trades", "bronze.trade_gaps", "silver.trades", "silver.trade_gaps"),
    *("silver.held_ranges", "silver.bars_1m", "gold.fact_ohlcv", "gold.coverage_daily"),
)


def demo(home: Path, *arguments: str | Path) -> str:
    """Run the demo into *home* and return what it printed; it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "cryptolake", "demo", "--home", home, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def snapshots(home: Path) -> dict[str, int | None]:
    """Return the current snapshot of every table of the demo's lake."""
    with open_lake(load_settings(home=home / "demo"), Clock()) as lake:
        return {name: lake.table(name).metadata.current_snapshot_id for name in (*TABLES, *TRADE_TABLES)}


@pytest.mark.slow
def test_a_second_demo_adds_nothing(tmp_path: Path) -> None:
    """All layers are built and shown; with the same answers nothing is added, and no row of silver or gold rewritten."""
    (tmp_path / "mine.txt").write_text("untouched")
    first = demo(tmp_path)
    built = snapshots(tmp_path)
    assert None not in built.values()
    for name in TABLES:
        assert re.search(rf"{name} +[\d,]+ +2022-09-26 +{built[name]}", first)
    assert re.search(r"bitcoin +18,809\.41 .*[▁▂▃▄▅▆▇█]{30}", first)
    assert re.search(
        r"✓ stream +15,863 new rows in bronze.realtime_trades, [1-9]\d* gaps closed, 0 gaps open, [1-9]",
        first,
    )
    assert re.search(r"binance:BTCUSDT +2024-08-08 23:59 +61,717.64 .* 1,312 +yes", first)
    assert re.search(r"binance:BTCUSDT +2024-08-08 +9,738 .* 0 +0 +0 +no: the trade before its first", first)
    assert re.search(r"\d+ checks: \d+ passed, 1 warning\n", first)
    assert re.search(r"\d+\.\d s, peak memory \d+ MB", first)
    second = demo(tmp_path)
    assert "0 new rows in bronze.historical_prices" in second
    assert "0 new rows in bronze.realtime_trades" in second
    assert re.search(r"\d+ models: 0 rows added, 0 replaced", second)
    assert snapshots(tmp_path) == built
    assert {p.name for p in tmp_path.iterdir()} == {"mine.txt", "demo"}


@pytest.mark.slow
def test_the_demo_plays_other_recordings(tmp_path: Path) -> None:
    """`--recordings` takes a folder of market charts as CoinGecko answers them."""
    import msgspec

    folder = tmp_path / "recorded"
    folder.mkdir()
    for coin, points in recordings(COINS, days=150, days_to_come=0).coins.items():
        columns = {
            "prices": points.prices,
            "market_caps": points.market_caps,
            "total_volumes": points.volumes,
        }
        chart = {
            name: list(zip(points.timestamps_ms, values, strict=True)) for name, values in columns.items()
        }
        (folder / f"{coin}.json").write_bytes(msgspec.json.encode(chart))
    said = demo(tmp_path / "home", "--recordings", folder)
    for coin in COINS:
        assert re.search(rf"{coin} +[\d,.]+ ", said)
