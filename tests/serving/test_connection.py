"""The lake for Python users."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

import cryptolake
from cryptolake.clock import Clock
from cryptolake.config import load_settings
from cryptolake.errors import LakeError, QueryError
from cryptolake.lake import Lake
from cryptolake.wiring import open_lake

INDEX = "silver.fear_greed"
DAYS = [datetime(2024, 3, day, tzinfo=UTC).date() for day in (1, 2, 3)]


def merge(lake: Lake, values: list[int]) -> int:
    """Merge one index value a day, and return the snapshot."""
    rows = {
        "index_date": DAYS[: len(values)],
        "fear_greed_value": values,
        "classification": ["Fear"] * len(values),
    }
    return lake.merge(INDEX, pa.table(rows)).snapshot_id


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose index has two snapshots: 20 and 30, then 20 and 40."""
    with open_lake(load_settings(home=tmp_path), Clock()) as lake:
        lake.ensure(INDEX)
        merge(lake, [20, 30])
        merge(lake, [20, 40])
    return tmp_path


def test_a_connection_answers_sql_with_arrow(home: Path) -> None:
    """`sql` gives a PyArrow table of what the lake holds now."""
    with cryptolake.connect(home) as lake:
        answer = lake.sql("select index_date, fear_greed_value from silver.fear_greed order by 1")
    assert answer.to_pydict() == {"index_date": DAYS[:2], "fear_greed_value": [20, 40]}


def test_a_connection_names_and_opens_tables(home: Path) -> None:
    """`tables` names them, `table` is PyIceberg's own."""
    with cryptolake.connect(str(home)) as lake:
        assert lake.tables() == [INDEX]
        assert lake.table(INDEX).scan().to_arrow().num_rows == 2
        with pytest.raises(LakeError, match=r"no table gold\.x"):
            lake.table("gold.x")


def test_a_connection_reads_the_past(home: Path) -> None:
    """`as_of` takes a snapshot id or a zoned time."""
    with cryptolake.connect(home) as lake:
        [first, second] = lake.table(INDEX).history()
    query = "select sum(fear_greed_value) as total from silver.fear_greed"
    at = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
    for as_of, total in ((first.snapshot_id, 50), (second.snapshot_id, 60), (at, 50), (None, 60)):
        with cryptolake.connect(home, as_of=as_of) as lake:
            assert lake.sql(query)["total"].to_pylist() == [total]
    with (
        pytest.raises(LakeError, match="no table has the snapshot 7"),
        cryptolake.connect(home, as_of=7) as lake,
    ):
        lake.sql(query)


@pytest.mark.parametrize(
    "statement",
    [
        "drop view silver.fear_greed",
        "select 1; select 2",
        "copy (select 1) to 'x.csv'",
        "select * from read_text('/etc/hosts')",
    ],
)
def test_a_connection_only_reads_its_lake(home: Path, statement: str) -> None:
    """Whatever else a statement does is refused, and the lake stays as it was."""
    with cryptolake.connect(home) as lake:
        with pytest.raises(QueryError):
            lake.sql(statement)
        assert lake.sql("select count(*) as n from silver.fear_greed")["n"].to_pylist() == [2]


def test_there_is_nothing_to_connect_to_in_an_empty_home(tmp_path: Path) -> None:
    """The message says how to make a lake, and none is made."""
    with pytest.raises(
        LakeError, match="`cryptolake demo`, `cryptolake run` or `cryptolake stream` makes one"
    ):
        cryptolake.connect(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
