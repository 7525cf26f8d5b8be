"""The lake can be read as it was at a time or at a snapshot, for as long as the contract keeps it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cryptolake.errors import LakeError
from cryptolake.lake import Lake
from tests.lake.shapes import (
    NOON,
    PRICES,
    TRADES,
    Calendar,
    contract,
    open_lake,
    prices,
    snapshots_of,
    trades,
)

HOUR = timedelta(hours=1)


@pytest.fixture
def past(lake: Lake, calendar: Calendar) -> Lake:
    """Return a lake whose prices were 1, 2, 3 from noon on, one more an hour."""
    lake.ensure(PRICES.name)
    for n in range(3):
        calendar.at = NOON + n * HOUR
        lake.merge(PRICES.name, prices("bitcoin", [0], price=n + 1.0))
    return lake


def price_as_of(lake: Lake, as_of: datetime | int) -> list[tuple[float]]:
    """Return the prices as they were."""
    with lake.reader(as_of=as_of) as reader:
        return reader.rows("select price from silver.prices")


@pytest.mark.parametrize(
    ("hours", "seen"),
    [(-0.5, []), (0.5, [(1.0,)]), (1.5, [(2.0,)]), (2.5, [(3.0,)]), (1000, [(3.0,)])],
)
def test_a_time_shows_the_rows_that_were_current_then(
    past: Lake, hours: float, seen: list[tuple[float]]
) -> None:
    """The last commit at or before the time answers; before the first, a table is empty."""
    assert price_as_of(past, NOON + hours * HOUR) == seen


def test_the_very_millisecond_of_a_commit_shows_it(past: Lake) -> None:
    """A commit is current from its own time on."""
    second = past.table(PRICES.name).snapshots()[1].timestamp_ms
    at = datetime.fromtimestamp(second / 1000, NOON.tzinfo)

    assert price_as_of(past, at) == [(2.0,)]
    assert price_as_of(past, at - timedelta(milliseconds=1)) == [(1.0,)]


def test_a_snapshot_id_shows_that_snapshot_and_the_other_tables_of_its_time(
    past: Lake, calendar: Calendar
) -> None:
    """An id names one table's snapshot; the rest of the lake is read as of its time."""
    past.ensure(TRADES.name)
    calendar.at = NOON + 1.5 * HOUR
    past.append(TRADES.name, trades([1]))
    first, second, third = snapshots_of(past, PRICES.name)

    assert [price_as_of(past, i) for i in (first, second, third)] == [[(1.0,)], [(2.0,)], [(3.0,)]]
    for snapshot_id, count in ((second, 0), (third, 1)):
        with past.reader(as_of=snapshot_id) as reader:
            assert reader.rows("select count(*) from bronze.trades") == [(count,)]


def test_a_reader_of_the_past_does_not_move(past: Lake) -> None:
    """Refreshing shows the same moment again, whatever was committed since."""
    with past.reader(as_of=NOON + 0.5 * HOUR) as reader:
        past.merge(PRICES.name, prices("bitcoin", [0], price=9.0))
        reader.refresh()
        assert reader.rows("select price from silver.prices") == [(1.0,)]


def test_the_schema_is_that_of_the_time(tmp_path: Path, calendar: Calendar) -> None:
    """Columns that came later are not there yet, and their types were narrower."""
    columns = {"id": "int", "a": "int"}
    with open_lake(tmp_path, {"silver.t": contract("silver.t", columns, key=["id"])}) as lake:
        lake.ensure("silver.t")
        lake.append("silver.t", trades([1]).rename_columns(["id"]))
    calendar.at = NOON + HOUR
    later = contract("silver.t", {"id": "long", "a": "int", "b": "string"}, key=["id"], version="2.0.0")
    with open_lake(tmp_path, {"silver.t": later}) as lake:
        lake.ensure("silver.t")
        lake.append("silver.t", trades([2**40]).rename_columns(["id"]))
        with lake.reader(as_of=NOON + 0.5 * HOUR) as reader:
            assert reader.rows("describe silver.t") == [
                (name, kind, "YES", None, None, None) for name, kind in (("id", "INTEGER"), ("a", "INTEGER"))
            ]
            assert reader.rows("select * from silver.t") == [(1, None)]


def test_an_expired_time_is_a_clear_error_of_that_table_only(past: Lake, calendar: Calendar) -> None:
    """The message names the table, the time and the oldest that is kept; other tables answer."""
    past.ensure(TRADES.name)
    calendar.at = NOON + timedelta(days=40)
    past.merge(PRICES.name, prices("bitcoin", [0], price=9.0))

    with past.reader(as_of=NOON + 0.5 * HOUR) as reader:
        assert reader.rows("select * from bronze.trades") == []
        for ask in (reader.rows, reader.table):
            with pytest.raises(
                LakeError,
                match=r"silver\.prices: the snapshot of 2024-06-01 12:30.* has expired; the oldest kept is of 2024-06-01 14:00",
            ):
                ask("select price from silver.prices")


def test_an_unknown_or_expired_snapshot_id_is_a_clear_error(past: Lake, calendar: Calendar) -> None:
    """An id that no table has says so, whether it never was or is gone."""
    first = snapshots_of(past, PRICES.name)[0]
    calendar.at = NOON + timedelta(days=40)
    past.merge(PRICES.name, prices("bitcoin", [0], price=9.0))

    for snapshot_id in (12345, first):
        with pytest.raises(
            LakeError, match=f"no table has the snapshot {snapshot_id}; it never was, or it has expired"
        ):
            past.reader(as_of=snapshot_id)


def test_a_table_that_was_made_later_is_empty(past: Lake) -> None:
    """A table without a commit at that time has no rows, and is there."""
    past.ensure(TRADES.name)
    past.append(TRADES.name, trades([1]))

    with past.reader(as_of=NOON + 0.5 * HOUR) as reader:
        assert reader.rows("select count(*) from bronze.trades") == [(0,)]
