"""Hours of trades that are over are made one file, once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from cryptolake.capture.compacting import HourlyCompaction
from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from tests.lake.shapes import NOON, files_of, held
from tests.lake.test_trades import BRONZE, SILVER, trades

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture(params=[BRONZE, SILVER])
def table(request: pytest.FixtureRequest) -> str:
    """A table of trades."""
    return str(request.param)


@pytest.fixture
def lake(tmp_path: Path, table: str) -> Iterator[Lake]:
    """Yield a lake with five files of the hour from noon on, and one of the next."""
    impatient = {"uri": f"sqlite:///{tmp_path}/catalog.db?timeout=0.1"}
    with Lake.open(local_catalog(tmp_path) | impatient, load_contracts(), Clock.fixed(NOON)) as lake:
        lake.ensure(table)
        for n in range(5):
            lake.append(table, trades(n, table=table, at=NOON + n * MINUTE))
        lake.append(table, trades(5, table=table, at=NOON + HOUR))
        yield lake


def test_an_hour_is_compacted_once_it_has_been_over_for_a_while(lake, table):
    """What is still written to stays as it is, and nothing is lost."""
    compaction = HourlyCompaction(lake, table)
    assert compaction.when_due(None) == 0
    assert compaction.when_due(NOON + HOUR + 9 * MINUTE) == 0
    assert compaction.when_due(NOON + HOUR + 10 * MINUTE) == 5

    assert len(files_of(lake, table)) == 2
    assert held(lake, f"select trade_id from {table} order by 1") == [(n,) for n in range(6)]


def test_hours_are_made_one_file_at_a_time(lake, table):
    """Whoever lands or refreshes goes on in between: each hour of the two days is a file of its own."""
    for n in range(6, 11):
        lake.append(table, trades(n, table=table, at=NOON - 24 * HOUR + n * MINUTE))
    compaction = HourlyCompaction(lake, table)
    assert [compaction.when_due(NOON + 2 * HOUR) for _ in range(4)] == [5, 5, 0, 0]
    assert len(files_of(lake, table)) == 3


def test_a_trade_of_the_future_ends_no_hour(lake, table):
    """A venue may print any time; the hour that is still written to is that of the clock."""
    compaction = HourlyCompaction(lake, table)
    assert compaction._due(lake.clock.wall() + 1000 * HOUR) <= lake.clock.wall()


def test_a_catalog_that_is_locked_puts_it_off(lake, table, tmp_path):
    """It is no failure of whoever lands or refreshes, and is done once the lock is gone."""
    compaction = HourlyCompaction(lake, table)
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        assert compaction.when_due(NOON + 2 * HOUR) == 0
    assert compaction.when_due(NOON + 2 * HOUR) == 5


def test_it_is_looked_at_once_an_hour(lake, table):
    """Files that come late wait for the next hour, so that a busy day is not rewritten over and over."""
    compaction = HourlyCompaction(lake, table)
    assert compaction.when_due(NOON + HOUR + 10 * MINUTE) == 5
    for n in range(6, 10):
        lake.append(table, trades(n, table=table, at=NOON + n * MINUTE))

    assert compaction.when_due(NOON + HOUR + 59 * MINUTE) == 0
    assert compaction.when_due(NOON + 2 * HOUR + 10 * MINUTE) == 6
