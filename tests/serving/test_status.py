"""What the lake holds, at a glance."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from cryptolake.quality import run_checks
from cryptolake.serving.status import TableStatus, status
from tests.replayed import COINS, KNOWN_DAYS, NOON, POINTS, Town

TODAY = NOON.date()


@pytest.fixture
def town(tmp_path):
    """A lake with bronze alone."""
    with Town.opened(tmp_path) as opened:
        opened.ingest()
        opened.ingest_index()
        yield opened


def tables(town: Town) -> dict[str, TableStatus]:
    """Return what the status says of each table."""
    return {t.table: t for t in status(town.lake).tables}


def check(town: Town, run_id: str) -> None:
    """Run the checks of bronze, at the town's time."""
    with town.lake.reader() as reader:
        run_checks(town.lake, reader, layers=("bronze",), coins=COINS, run_id=run_id, now=town.at)


def test_a_table_has_rows_a_newest_date_a_snapshot_and_a_size(town: Town):
    """Dates are those of the data, in whatever unit they are stored; an empty table has none."""
    found = tables(town)
    prices, index, rejects = (found[f"bronze.{n}"] for n in ("historical_prices", "fear_greed", "rejects"))
    assert (prices.rows, prices.newest) == (len(COINS) * POINTS, TODAY)
    assert (index.rows, index.newest) == (KNOWN_DAYS, TODAY)
    assert (rejects.rows, rejects.newest, rejects.snapshot_id, rejects.bytes) == (0, None, None, 0)
    snapshot = town.lake.table("bronze.fear_greed").current_snapshot()
    assert index.snapshot_id == snapshot.snapshot_id
    assert index.committed_at.timestamp() * 1000 == pytest.approx(snapshot.timestamp_ms)
    files = town.lake.table("bronze.fear_greed").inspect.files()
    assert index.bytes == sum(files["file_size_in_bytes"].to_pylist())


def test_a_lake_that_was_never_checked_has_no_last_run(town: Town):
    """No news is not good news."""
    said = status(town.lake)
    assert (said.failing, said.last_run_id, said.last_checked_at) == ([], None, None)


def test_a_check_is_shown_until_it_passes(town: Town):
    """What counts is the newest result of each check."""
    row = {"coin_id": "planted", "timestamp_ms": 1_710_547_200_000, "price_usd": -3.5, "_ingested_at": NOON,
           "_source": "coingecko", "_run_id": "x"}  # fmt: skip
    schema = town.lake.table("bronze.historical_prices").schema().as_arrow()
    before = town.lake.table("bronze.historical_prices").scan().to_arrow()
    town.lake.append("bronze.historical_prices", pa.Table.from_pylist([row], schema=schema))
    check(town, "first")
    broken = status(town.lake)
    assert (broken.last_run_id, broken.last_checked_at) == ("first", NOON)
    [failing] = broken.failing
    assert (failing.table, failing.check, failing.status) == (
        "bronze.historical_prices",
        "price_usd_positive",
        "failed",
    )
    assert "coin_id=planted" in failing.message
    mend(town, before)
    town.at += timedelta(minutes=1)
    check(town, "second")
    mended = status(town.lake)
    assert ("price_usd_positive" in {f.check for f in mended.failing}, mended.last_run_id) == (
        False,
        "second",
    )


def mend(town: Town, rows: pa.Table) -> None:
    """Put *rows* in the place of all prices, as another engine would."""
    town.lake.table("bronze.historical_prices").overwrite(rows)
