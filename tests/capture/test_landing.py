"""The spool lands exactly once: whatever stops it, wherever it stops."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cryptolake.capture.landing import GAPS, TRADES, Landing
from cryptolake.capture.spool import Spool
from cryptolake.errors import OperatorError, TransientError
from cryptolake.lake import Lake, Position
from cryptolake.lake.commit import Committed
from cryptolake.sources.records import TradePage
from tests.capture.homes import Home
from tests.capture.ledgers import BTC, at_us, frame, trades
from tests.capture.test_spool import block_of
from tests.capture.test_writer import durable, hole
from tests.lake import processes


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path)


class InterruptedCommitError(Exception):
    """The process ends here."""


class StoppingLake:
    """A lake whose commits stop before or after one of them, as a crash would; the rest is the lake's."""

    def __init__(self, lake: Lake, at: int, *, before: bool) -> None:
        self._lake, self._at, self._before, self.tables = lake, at, before, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def append(self, name: str, rows: pa.Table, *, position: Position) -> Committed:
        """Commit, or stop."""
        self.tables.append(name)
        if self._before and len(self.tables) == self._at:
            raise InterruptedCommitError
        done = self._lake.append(name, rows, position=position)
        if len(self.tables) == self._at:
            raise InterruptedCommitError
        return done


def captured(home: Home) -> None:
    """Put trades, a gap that opens, one that closes, and a reject into the spool, in three blocks or more."""
    with home.capturing() as (_, writer):
        writer.frames("toy", 1, [frame([1, 2]), frame([5]), (b"bad", at_us(6))])
        durable(writer)
        writer.heal(BTC, TradePage(trades([2, 4, 5]), at_us(9)), "rest", hole(3, 4)).result(20)
        writer.frames("toy", 1, [frame([6]), frame([9])])
        durable(writer)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_crash_between_two_commits_doubles_nothing_and_loses_nothing(home, at, before):
    """Each of the four commits carries how far it read; the next round goes on behind it, with more blocks."""
    captured(home)
    with home.books().spool as spool:
        lake = StoppingLake(home.lake, at, before=before)
        with pytest.raises(InterruptedCommitError):
            Landing(lake, spool, "first").land_once()
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([10])])
        durable(writer)
        home.land(books)
        assert books.spool.pending() == (0, 0)
    assert home.ids() == [1, 2, 4, 5, 6, 9, 10]
    assert home.open_ids() == {7, 8}
    assert len(home.rejects()) == 1
    assert count(home, GAPS) == 4


def count(home: Home, table: str) -> int:
    """Return how many rows *table* has."""
    with home.lake.reader() as reader:
        return reader.rows(f"select count(*) from {table}")[0][0]


def test_what_is_missing_is_told_before_the_trades_and_what_closes_it_after(home):
    """Whoever reads in between takes for missing what is there, never the other way round."""
    captured(home)
    with home.books().spool as spool:
        lake = StoppingLake(home.lake, 99, before=True)
        Landing(lake, spool, "run").land_once()
    assert lake.tables == [GAPS, TRADES, GAPS, "bronze.rejects"]


def test_blocks_land_in_rounds_of_bounded_size(home):
    """A backlog is brought in over several commits."""
    with home.capturing() as (books, writer):
        for n in range(5):
            writer.frames("toy", 1, [frame(range(100 * n, 100 * n + 100))])
            durable(writer)
        landing = Landing(home.lake, books.spool, "run", max_rows=250)
        rounds = [landing.land_once() for _ in range(4)]
    assert [(r.trades, r.behind) for r in rounds] == [(200, True), (200, True), (100, False), (0, False)]
    assert home.ids() == list(range(500))


def test_nothing_to_land_commits_nothing(home):
    """An idle capture makes no snapshots."""
    with home.capturing() as (books, _):
        Landing(home.lake, books.spool, "run").land_once()
    assert home.lake.table(TRADES).metadata.current_snapshot_id is None


def test_a_copied_spool_is_fenced_off(home):
    """Two processes that land one spool would double it; the second stops and says why."""
    captured(home)
    with home.books().spool as spool:
        landing = Landing(home.lake, spool, "run")
        landing.land_once()
        shutil.copytree(home.folder / "spool", home.folder / "copy")
        with Spool.open(home.folder / "copy") as copy:
            copy.append(block_of(range(100, 103)))
            Landing(home.lake, copy, "run").land_once()
        spool.append(block_of(range(100, 109)))
        with pytest.raises(OperatorError, match="another process landed the same spool"):
            landing.land_once()
    assert home.ids() == [1, 2, 4, 5, 6, 9, 100, 101, 102]


def test_a_locked_catalog_is_tried_again(tmp_path):
    """The spool keeps everything until the catalog is free, and then it lands once."""
    home = Home(tmp_path, busy_seconds=0.1)
    captured(home)
    with home.books().spool as spool:
        landing = Landing(home.lake, spool, "run")
        with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as other:
            other.execute("begin exclusive")
            with pytest.raises(TransientError, match="locked by another process"):
                landing.land_once()
        assert landing.land_once().trades == 6
    assert home.ids() == [1, 2, 4, 5, 6, 9]


def land_slowly(folder: Path, kill_after_seconds: float) -> None:
    """Land one block after the other, and die on the way."""
    home = Home(folder)
    with home.books() as books:
        threading.Timer(kill_after_seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        home.land(books, max_rows=1)
        signal.pause()


@pytest.mark.slow
def test_a_landing_that_is_killed_stores_every_trade_once(home):
    """SIGKILL at any moment of any commit; the next one goes on, and in the end each trade is there once."""
    with home.capturing() as (_, writer):
        for n in range(40):
            writer.frames("toy", 1, [frame(range(20 * n, 20 * n + 15)), (b"bad", n)])
            durable(writer)
    chance = random.Random(3)
    for _ in range(6):
        processes.run(land_slowly, [(home.folder, chance.uniform(0.0, 0.5))], may_die=True)
    with home.books() as books:
        home.land(books)
    assert home.ids() == [i for i in range(795) if i % 20 < 15]
    assert home.open_ids() == {i for i in range(795) if i % 20 >= 15}
    assert len(home.rejects()) == 40
