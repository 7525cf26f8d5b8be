"""Tables of trades: merges that cost what is new, stamps, preferred copies, compaction and bytes a trade."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cryptolake.contracts import load_contracts
from cryptolake.contracts.schemas import arrow_schema
from cryptolake.errors import LakeError
from cryptolake.lake import Committed, Lake
from cryptolake.lake.commit import moved_at, processed_by, stamp_of
from cryptolake.lake.rising import NEWEST
from tests.lake.shapes import NOON, files_of, held, open_lake, snapshots_of
from tests.recorded_trades import RECORDED, bundled_trades

BRONZE, SILVER, BARS = "bronze.realtime_trades", "silver.trades", "silver.bars_1m"
DAY = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """Yield a lake with the trade tables, all empty."""
    with open_lake(tmp_path, load_contracts()) as lake:
        for name in (BRONZE, SILVER, BARS):
            lake.ensure(name)
        yield lake


def trades(
    *ids: int, table: str = SILVER, symbol: str = "BTCUSDT", at: datetime = NOON, **values: Any
) -> pa.Table:
    """Return trades of one symbol, one a second from *at* on; *values* are of all of them."""
    row = {
        "venue": "binance",
        "symbol": symbol,
        "price": Decimal(100),
        "quantity": Decimal(1),
        "is_buyer_maker": True,
        "received_at": at,
        "received_via": "websocket",
        "_run_id": "run",
    }
    names = arrow_schema(load_contracts()[table]).names
    rows = [
        {**row, "trade_id": i, "traded_at": at + timedelta(seconds=n), **values} for n, i in enumerate(ids)
    ]
    told = [{k: v for k, v in r.items() if k in names} for r in rows]
    return pa.Table.from_pylist(told, schema=arrow_schema(load_contracts()[table]))


def lose_files(lake: Lake, name: str) -> None:
    """Take all data files of the table *name* away, so that whoever opens one fails."""
    for location in files_of(lake, name):
        Path(location.removeprefix("file://")).unlink()


def test_trades_newer_than_all_that_is_held_are_merged_without_a_look_at_it(lake: Lake) -> None:
    """Cost does not grow with history: no older file is opened, whatever the times say."""
    lake.merge(SILVER, pa.concat_tables([trades(1, 2, 3), trades(50, symbol="ETHUSDT")]))
    lose_files(lake, SILVER)

    done = lake.merge(
        SILVER, pa.concat_tables([trades(4, 5), trades(1, symbol="new"), trades(51, symbol="ETHUSDT")])
    )

    assert (done.rows_added, done.rows_replaced) == (4, 0)
    with pytest.raises(LakeError, match="gone"):
        lake.merge(SILVER, trades(3))


def test_a_trade_that_may_be_held_is_looked_for_wherever_it_is(lake: Lake) -> None:
    """The same id is found a month away, and a late one that is not held is added."""
    lake.merge(SILVER, trades(1, 3, received_via="rest"))
    lake.merge(SILVER, trades(9, at=NOON + 40 * DAY))

    done = lake.merge(SILVER, trades(3, 5, at=NOON + 30 * DAY))

    assert (done.rows_added, done.rows_replaced) == (1, 1)
    ids = "select trade_id, count(*), max(traded_at) > timestamptz '2024-06-20' from silver.trades group by 1 order by 1"
    assert held(lake, ids) == [(1, 1, False), (3, 1, True), (5, 1, True), (9, 1, True)]


def test_what_another_engine_committed_is_looked_at(lake: Lake) -> None:
    """The greatest ids are believed only where every commit since has told them."""
    lake.merge(SILVER, trades(1))
    lake.table(SILVER).append(trades(2, _processed_at=NOON))
    assert lake.merge(SILVER, trades(2, 3)).rows_added == 1
    lake.merge(SILVER, trades(1, 2, 3, 4), full=True)
    lose_files(lake, SILVER)

    assert lake.merge(SILVER, trades(5)).rows_added == 1


def test_the_greatest_ids_survive_compaction(lake: Lake) -> None:
    """Compaction changes files, not what is held."""
    for i in range(1, 6):
        lake.merge(SILVER, trades(i))
    assert lake.compact(SILVER) == 5
    lose_files(lake, SILVER)

    assert lake.merge(SILVER, trades(6)).rows_added == 1
    assert NEWEST in lake.table(SILVER).properties


def test_of_two_copies_the_preferred_one_stays(lake: Lake) -> None:
    """Websocket, REST, archive, then the first received: a better copy replaces, any other is as if it had not come."""
    lake.merge(SILVER, trades(1, received_via="rest", price=Decimal(2)))
    for worse in (
        {"received_via": "archive", "price": Decimal(1)},
        {"received_via": "rest", "received_at": NOON + DAY, "price": Decimal(1)},
        {"received_via": "rest", "price": Decimal(2)},
        {"received_via": "rest", "price": Decimal(3)},
    ):
        assert lake.merge(SILVER, trades(1, **worse)) == Committed()

    assert lake.merge(SILVER, trades(1, received_via="websocket", received_at=NOON + DAY)).rows_replaced == 1
    assert held(lake, "select received_via from silver.trades") == [("websocket",)]


def test_a_merge_stamps_the_rows_it_writes_and_no_others(lake: Lake) -> None:
    """Stamps rise with every commit, also under a clock that stands still."""
    lake.merge(SILVER, trades(1, 2, received_via="rest"))
    lake.merge(SILVER, trades(2, 3))

    stamps = dict(held(lake, "select trade_id, epoch_us(_processed_at) from silver.trades"))

    assert stamps[1] < stamps[2] == stamps[3] == stamp_of(lake.table(SILVER))
    lake.merge(SILVER, trades(1, 2, 3), full=True)
    [(lowest,)] = held(lake, "select min(epoch_us(_processed_at)) from silver.trades")
    assert lowest > stamps[3]


def test_what_was_seen_of_the_inputs_is_committed_even_where_no_row_differs(lake: Lake) -> None:
    """With rows in their transaction; without any as a property alone, once."""
    lake.merge(SILVER, trades(1), inputs={BRONZE: 5})
    assert processed_by(lake.table(SILVER)) == {BRONZE: 5}
    snapshots = snapshots_of(lake, SILVER)

    assert lake.merge(SILVER, trades(1), inputs={BRONZE: 6}) == Committed()

    assert processed_by(lake.table(SILVER)) == {BRONZE: 6}
    assert snapshots_of(lake, SILVER) == snapshots
    before = lake.table(SILVER).metadata_location
    lake.merge(SILVER, trades(1), inputs={BRONZE: 6})
    assert lake.table(SILVER).metadata_location == before


def test_a_commit_tells_whether_rows_left_their_place(lake: Lake) -> None:
    """Rows that are taken away, or that change their time, are what a look at new rows alone would miss."""
    lake.merge(SILVER, trades(1, 2, received_via="archive"))
    lake.merge(SILVER, trades(1, received_via="rest"))
    assert moved_at(lake.table(SILVER)) == -1
    lake.merge(SILVER, trades(2, received_via="rest", at=NOON + DAY))
    assert moved_at(lake.table(SILVER)) == stamp_of(lake.table(SILVER))

    lake.merge(SILVER, trades(9), gone=trades(1).select(["venue", "symbol", "trade_id"]))
    assert moved_at(lake.table(SILVER)) == stamp_of(lake.table(SILVER))
    assert held(lake, "select trade_id from silver.trades order by 1") == [(2,), (9,)]


def test_only_files_of_hours_that_are_over_are_compacted(lake: Lake) -> None:
    """What is still written to stays; each day becomes one file, sorted by instrument and id."""
    for n in range(6):
        ids = (100 - n, 200 + n)
        lake.append(BRONZE, trades(*ids, table=BRONZE, at=NOON + n * timedelta(minutes=10)))
        lake.append(BRONZE, trades(n, table=BRONZE, symbol="A", at=NOON + DAY))
    assert lake.compact(BRONZE, before=NOON + timedelta(minutes=30)) == 0

    assert lake.compact(BRONZE, before=NOON + timedelta(minutes=40)) == 4
    assert lake.compact(BRONZE, before=NOON + 2 * DAY) == 6

    assert sorted(len(rows_of(location)) for location in files_of(lake, BRONZE)) == [2, 2, 6, 8]


def rows_of(location: str) -> list[int]:
    """Return the ids in a data file, which are in order."""
    ids = pq.read_table(location.removeprefix("file://"))["trade_id"].to_pylist()
    assert ids == sorted(ids)
    return ids


def test_compaction_takes_no_more_rows_at_once_than_it_may(lake: Lake) -> None:
    """Many small files become several larger ones; no row is lost."""
    for n in range(10):
        lake.append(BRONZE, trades(2 * n, 2 * n + 1, table=BRONZE, at=NOON + n * timedelta(minutes=1)))

    assert lake.compact(BRONZE, rows_per_file=6) == 9

    assert sorted(len(rows_of(f)) for f in files_of(lake, BRONZE)) == [2, 6, 6, 6]
    assert held(lake, f"select count(*), count(distinct trade_id) from {BRONZE}") == [(20, 20)]


def test_a_compaction_and_an_append_at_once_lose_nothing(lake: Lake, tmp_path: Path) -> None:
    """Files that another process rewrote are left alone, and rows appended meanwhile are kept."""
    for n in range(8):
        lake.append(BRONZE, trades(n, table=BRONZE))
    with open_lake(tmp_path, load_contracts()) as other:
        other.append(BRONZE, trades(8, table=BRONZE))
        assert other.compact(BRONZE) == 9
    lake.append(BRONZE, trades(9, table=BRONZE))

    assert lake.compact(BRONZE) == 0
    assert held(lake, f"select count(*) from {BRONZE}") == [(10,)]


def test_a_recorded_trade_takes_ten_bytes_after_compaction(lake: Lake) -> None:
    """Lineage included, and landed in small commits: ids and times are stored as differences."""
    rows = bundled_trades()
    table = pa.Table.from_pylist(rows, schema=arrow_schema(load_contracts()[BRONZE]))
    for n in range(0, len(rows), 1000):
        lake.append(BRONZE, table.slice(n, 1000))

    assert lake.compact(BRONZE, before=datetime(2024, 8, 9, 1, tzinfo=UTC)) == 16

    bytes_held = sum(Path(f.removeprefix("file://")).stat().st_size for f in files_of(lake, BRONZE))
    assert bytes_held / RECORDED <= 10
    assert held(lake, f"select count(*), sum(price), max(received_at) from {BRONZE}") == [
        (RECORDED, sum(r["price"] for r in rows), max(r["received_at"] for r in rows)),
    ]
