"""SIGKILL a run at any moment: the next one brings the lake to where an undisturbed run would have."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.demo import replay_variables
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.replay.recordings import Recordings
from cryptolake.replay.server import ReplayServer
from tests.equality import table_differences

COINS = ("bitcoin", "ethereum", "shiba-inu", "tether")
DAYS = 400
LAST = datetime(2022, 9, 26, 12, tzinfo=UTC)
BRONZE_DAYS = """
    select coin_id, timestamp_ms, price_usd, market_cap_usd, volume_24h_usd, count(*) as copies
    from bronze.historical_prices where timestamp_ms % 86400000 = 0 group by all order by all
"""


@dataclass
class Scene:
    """A vendor, and runs against it."""

    server: ReplayServer
    seconds: float = 5.0
    """How long an undisturbed run takes, from its start to its end."""

    def start(self, home: Path, at: datetime) -> subprocess.Popen[str]:
        """Start `cryptolake run` into *home* with *at* as now, here and at the vendor."""
        self.server.as_of = at
        return subprocess.Popen(
            [sys.executable, "-m", "cryptolake", "run", "--home", str(home), "--as-of", at.isoformat()],
            env={**os.environ, **replay_variables(self.server)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, home: Path, at: datetime) -> None:
        """Run undisturbed; everything must be well."""
        began = time.monotonic()
        process = self.start(home, at)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        self.seconds = time.monotonic() - began


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Four recorded coins and their last 400 days."""
    whole = Recordings.bundled()
    since_ms = int((LAST - timedelta(days=DAYS)).timestamp()) * 1000
    coins = {coin: whole.coins[coin].between(since_ms, LAST.timestamp() * 1000) for coin in COINS}
    with ReplayServer.open(Recordings("four coins", LAST, coins, whole.index)) as server:
        yield Scene(server)


def killed_in_time(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill *process* after *seconds*; say whether it was still at work."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    return False


def killed_at_a_file(process: subprocess.Popen[str], home: Path, nth: int) -> bool:
    """Kill *process* the moment the *nth* new file is in the warehouse, before the catalog may name it."""
    before = files_under(home)
    while process.poll() is None:
        if len(files_under(home) - before) >= nth:
            process.kill()
            process.communicate()
            return True
    process.communicate()
    return False


def files_under(home: Path) -> set[str]:
    """Return the paths of all files of the warehouse."""
    return {f"{folder}/{f}" for folder, _, files in os.walk(home / "warehouse") for f in files}


def contents(home: Path) -> Mapping[str, object]:
    """Return silver and gold, and bronze's daily observations with how often each is there."""
    with Lake.open(local_catalog(home), load_contracts(), Clock.fixed(LAST)) as lake, lake.reader() as reader:
        tables = {
            n: reader.table(f"select * from {n}") for n in lake.tables() if n.startswith(("silver", "gold"))
        }
        return {**tables, "bronze": reader.rows(BRONZE_DAYS)}


def survive(scene: Scene, tmp_path: Path, kills: int, seed: int) -> None:
    """Kill *kills* runs of one lake, a day further each time, run once more and compare with an undisturbed lake."""
    rng = random.Random(seed)
    calm, home = tmp_path / "calm", tmp_path / "killed"
    scene.run(calm, LAST)
    killed = 0
    while killed < kills:
        at = LAST - timedelta(days=kills - killed)
        process = scene.start(home, at)
        if rng.random() < 0.5:
            killed += killed_in_time(process, rng.uniform(0, scene.seconds))
        else:
            killed += killed_at_a_file(process, home, rng.randrange(1, 40))
    scene.run(home, LAST)
    expected, found = contents(calm), contents(home)
    assert found["bronze"] == expected["bronze"]
    assert {row[-1] for row in found["bronze"]} == {1}
    for name, contract in load_contracts().items():
        if name in expected:
            assert table_differences(found[name], expected[name], contract) == []


@pytest.mark.slow
def test_a_run_killed_five_times_ends_where_an_undisturbed_one_does(scene: Scene, tmp_path: Path) -> None:
    """Nothing is lost, nothing is doubled, and no check fails."""
    survive(scene, tmp_path, kills=5, seed=1)


@pytest.mark.deep
def test_a_run_killed_fifty_times_ends_where_an_undisturbed_one_does(scene: Scene, tmp_path: Path) -> None:
    """Nothing is lost, nothing is doubled, and no check fails."""
    survive(scene, tmp_path, kills=50, seed=2)
