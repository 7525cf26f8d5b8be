"""Runs in processes of their own, killed at a moment in time or at a moment in the life of the lake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.demo import replay_variables
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.replay.recordings import Recordings, Series
from cryptolake.replay.server import ReplayServer
from tests.replayed import DAY_MS, NOON, index_values, midnights, series

SCRIPT = Path(sys.executable).with_name("cryptolake")
COINS = ("bitcoin", "ethereum", "solana", "uniswap")
DAYS, DAYS_TO_COME = 300, 30
LOOK_EVERY_SECONDS = 0.001
TWO_HOURS_MS = 2 * 3_600_000
START = NOON.replace(hour=3)
COMPARED = (
    "bronze.historical_prices",
    "bronze.fear_greed",
    "bronze.rejects",
    "silver.daily_prices",
    "silver.fear_greed",
    "gold.dim_coins",
    "gold.dim_dates",
    "gold.fact_market_daily",
)


def recorded() -> Recordings:
    """
    Return four coins and the index, in which every point can be had on any later day.

    Each day has a daily point and one at 02:00, so that the vendor makes up none for the moment of
    asking; and each coin has an old day without a price, which is rejected.
    """
    days = midnights(DAYS + DAYS_TO_COME, START + timedelta(days=DAYS_TO_COME))
    coins = {coin: _points(coin, [t for day in days for t in (day, day + TWO_HOURS_MS)]) for coin in COINS}
    return Recordings("made-up", START + timedelta(days=DAYS_TO_COME), coins, index_values(days))


def _points(coin: str, times_ms: list[int]) -> Series:
    whole = series(coin, times_ms)
    prices = [
        None if t // DAY_MS == times_ms[40] // DAY_MS else p
        for t, p in zip(times_ms, whole.prices, strict=True)
    ]
    return Series(whole.timestamps_ms, prices, whole.market_caps, whole.volumes)


@dataclass
class Runs:
    """Runs into the lake under *home*, against *server*, at the server's time."""

    home: Path
    server: ReplayServer

    def start(self, output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a run; a pipe for its *output* has to be read, or the run waits for ever."""
        return subprocess.Popen(
            [SCRIPT, "run", "--as-of", self.server.as_of.isoformat(), "--json"],
            env={**os.environ, **replay_variables(self.server), "CRYPTOLAKE_HOME": str(self.home)},
            stdout=output,
            stderr=output,
        )

    def finish(self) -> None:
        """Run once, undisturbed; no check may fail."""
        process = self.start(subprocess.PIPE)
        out, err = process.communicate()
        assert (process.returncode, err) == (0, b""), (out + err).decode()[-3000:]

    def kill_after(self, seconds: float) -> bool:
        """Start a run and kill it after *seconds*; say whether it was still alive."""
        with self.start() as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.returncode < 0

    def kill_at_file(self, count: int) -> bool:
        """Start a run and kill it as soon as it has made *count* files in the warehouse; say whether it came so far."""
        before = len(self.files())
        with self.start() as process:
            while len(self.files()) - before < count:
                try:
                    process.wait(LOOK_EVERY_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
            else:
                process.kill()
        return process.returncode < 0

    def files(self) -> list[Path]:
        """Return every file in the warehouse."""
        return list(_files(self.home / "warehouse"))

    def tables(self) -> dict[str, pa.Table]:
        """Return all rows of every table that is there and is compared."""
        with Lake.open(local_catalog(self.home), load_contracts(), Clock()) as lake, lake.reader() as reader:
            return {name: reader.table(f"select * from {name}") for name in COMPARED if name in reader.names}


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)
