"""A stream's position is committed with its rows: exactly once, whoever dies and whoever races."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cryptolake.errors import StaleWriterError
from cryptolake.lake import Lake, Position
from tests.lake import processes
from tests.lake.shapes import TRADES, held, open_lake, snapshots_of, trades


@pytest.fixture
def stream(lake: Lake) -> Lake:
    """Return a lake with an empty table of trades."""
    lake.ensure(TRADES.name)
    return lake


def step(start: int | str, end: int) -> Position:
    """Return the position of a batch of the stream `binance`."""
    return Position("binance", str(start), str(end))


def test_a_position_is_committed_with_its_rows(stream: Lake) -> None:
    """It stands in the table's properties and in the snapshot's summary."""
    stream.append(TRADES.name, trades([0, 1]), position=step("", 2))

    table = stream.table(TRADES.name)
    assert table.properties["cryptolake.position.binance"] == "2"
    assert table.current_snapshot().summary["cryptolake.position.binance"] == "2"


def test_a_position_is_committed_without_rows(stream: Lake) -> None:
    """A batch of which nothing is new still moves the stream on."""
    stream.append(TRADES.name, trades([0, 1]), position=step("", 2))

    done = stream.append(TRADES.name, trades([0]), new=processes.ONLY_NEW, position=step(2, 3))
    assert (done.rows_added, done.snapshot_id) == (0, snapshots_of(stream, TRADES.name)[-1])
    stream.append(TRADES.name, trades([]), position=step(3, 4))
    assert stream.table(TRADES.name).properties["cryptolake.position.binance"] == "4"
    assert held(stream, "select count(*) from bronze.trades") == [(2,)]


@pytest.mark.parametrize("start", ["", "1", "3"])
def test_a_stale_writer_is_refused_and_nothing_is_written(stream: Lake, start: str) -> None:
    """A batch that does not begin where the table stands is not committed, and the writer is told where it stands."""
    stream.append(TRADES.name, trades([0, 1]), position=step("", 2))
    before = stream.table(TRADES.name).metadata_location

    with pytest.raises(StaleWriterError, match=f"has binance up to '2', this batch begins at '{start}'"):
        stream.append(TRADES.name, trades([1, 2]), position=step(start, 3))
    assert stream.table(TRADES.name).metadata_location == before


def test_a_stale_writer_is_told_before_it_writes_files(stream: Lake) -> None:
    """A fenced batch leaves no data file behind."""
    stream.append(TRADES.name, trades([0]), position=step("", 1))
    folder = Path(stream.table(TRADES.name).location().removeprefix("file://"))
    before = sorted(folder.rglob("*.parquet"))

    with pytest.raises(StaleWriterError):
        stream.append(TRADES.name, trades([0]), position=step("", 1))
    assert sorted(folder.rglob("*.parquet")) == before


def test_streams_of_one_table_keep_their_own_positions(stream: Lake) -> None:
    """Two venues that land in one table do not fence each other."""
    stream.append(TRADES.name, trades([0]), position=Position("binance", "", "1"))
    stream.append(TRADES.name, trades([1]), position=Position("kraken", "", "7"))
    stream.append(TRADES.name, trades([2]), position=Position("binance", "1", "2"))

    held_now = {
        k: v for k, v in stream.table(TRADES.name).properties.items() if k.startswith("cryptolake.position.")
    }
    assert held_now == {"cryptolake.position.binance": "2", "cryptolake.position.kraken": "7"}


def test_positions_survive_maintenance_and_other_commits(stream: Lake) -> None:
    """Compaction, expiry and merges carry the position on."""
    for n in range(6):
        stream.append(TRADES.name, trades([n]), position=step(n or "", n + 1))
    stream.maintain(orphans_older_than_seconds=0, dry_run=False)
    stream.merge(TRADES.name, trades([100]))

    stream.append(TRADES.name, trades([6]), position=step(6, 7))
    assert held(stream, "select count(*) from bronze.trades") == [(8,)]


@pytest.mark.slow
def test_racing_writers_that_are_killed_store_every_row_exactly_once(tmp_path: Path) -> None:
    """Two consumers of one stream, killed a dozen times at any moment: rows = distinct rows = position."""
    chance, end, kills, seed = random.Random(7), 20_000, 0, 0
    with open_lake(tmp_path) as lake:
        lake.ensure(TRADES.name)
        while kills < 12:
            lives = [(tmp_path, end, seed + n, chance.uniform(0.05, 0.6)) for n in range(2)]
            kills += processes.run(processes.follow_stream, lives, may_die=True).count(-9)
            seed += 2
            at = processes.position(lake)
            assert held(
                lake, "select count(*), count(distinct trade_id), max(trade_id) + 1 from bronze.trades"
            ) in (
                [(at, at, at)],
                [(0, 0, None)],
            )
        assert processes.position(lake) < end
        processes.run(processes.follow_stream, [(tmp_path, processes.position(lake) + 1_000, 1, None)])
        at = processes.position(lake)
        assert held(
            lake, "select count(*), count(distinct trade_id), max(trade_id) + 1 from bronze.trades"
        ) == [(at, at, at)]
        assert at >= 1_000
