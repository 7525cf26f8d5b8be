"""A run that is killed at any moment leaves a lake that the next run completes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from random import Random
from time import monotonic

import pytest

from cryptolake.contracts import load_contracts
from cryptolake.replay.server import ReplayServer
from tests.crash.killing import COMPARED, START, Runs, recorded
from tests.equality import differences

KILLS = 5
MOST_TRIES = 4 * KILLS
BRONZE_KEYS = {
    "bronze.historical_prices": ("coin_id", "timestamp_ms"),
    "bronze.fear_greed": ("timestamp",),
    "bronze.rejects": ("source", "symbol", "payload"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    """Vendors whose days pass when the test says so."""
    with ReplayServer.open(recorded(), as_of=START) as opened:
        yield opened


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory) -> tuple[float, int]:
    """The seconds that the run of a new day takes, and the files that it makes."""
    runs = Runs(tmp_path_factory.mktemp("undisturbed"), server)
    runs.finish()
    server.as_of += timedelta(days=1)
    began, before = monotonic(), len(runs.files())
    runs.finish()
    return monotonic() - began, len(runs.files()) - before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_five_kills_lose_nothing_and_double_nothing(server, undisturbed, tmp_path, seed):
    """After five kills and one whole run, every table is that of a lake that was never disturbed."""
    assert_kills_do_no_harm(Random(seed), server, undisturbed, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 110))
def test_fifty_kills_lose_nothing_and_double_nothing(server, undisturbed, tmp_path, seed):
    """The same in ten lakes with five kills each."""
    assert_kills_do_no_harm(Random(seed), server, undisturbed, tmp_path)


def assert_kills_do_no_harm(
    random: Random, server: ReplayServer, undisturbed: tuple[float, int], folder
) -> None:
    """
    Kill five runs of one lake, a day apart, at moments that *random* draws; then let one run end.

    Every other kill comes at a moment in time, drawn from all the time that a run takes; the others come
    when a file is made, drawn from all the files that a run makes: between the files and the catalog.
    """
    seconds, files = undisturbed
    killed = Runs(folder / "killed", server)
    server.as_of = START
    kills = 0
    for _ in range(MOST_TRIES):
        by_time = kills % 2 == 0
        kills += (
            killed.kill_after(random.uniform(0, seconds))
            if by_time
            else killed.kill_at_file(random.randint(1, files))
        )
        killed.tables()  # whatever was committed can be read
        if kills == KILLS:
            break
        server.as_of += timedelta(days=1)
    assert kills == KILLS
    whole = Runs(folder / "whole", server)
    killed.finish()
    whole.finish()
    found, expected = killed.tables(), whole.tables()
    assert sorted(found) == sorted(expected) == sorted(COMPARED)
    for name in COMPARED:
        key = BRONZE_KEYS.get(name) or load_contracts()[name].key
        ours, theirs = (
            t[name].drop_columns([c for c in t[name].column_names if c == "received_at"])
            for t in (found, expected)
        )
        assert differences(ours, theirs, key=key) == [], name
