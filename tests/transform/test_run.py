"""The runner works on any lake, one run at a time, and says what went wrong."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.errors import ContractError, OperatorError, TransformBusyError
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.transform.run import PROJECT, ModelRun, Transform
from tests.transform.market import NOW, Market

HOLD_THE_LOCK = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.slow


def test_without_bronze_there_is_nothing_to_do(tmp_path: Path, transform: Transform):
    """An empty lake stays empty."""
    with Lake.open(local_catalog(tmp_path), load_contracts(), Clock.fixed(NOW)) as lake:
        assert transform.run(lake, now=NOW) == []
        assert lake.tables() == []


def test_empty_bronze_makes_empty_tables(market: Market):
    """A run over nothing makes every table and commits nothing."""
    market.runs()

    assert set(market.snapshots().values()) == {None}
    assert [t.num_rows for t in market.tables().values()] == [0, 0, 0, 0, 0]


def test_gold_is_stamped_with_the_time_of_the_run(market: Market):
    """The time comes in as an argument; rows that stay keep theirs."""
    market.says("bitcoin", {0: 1.0})
    market.runs()
    market.says("bitcoin", {1: 1.0})

    market.transform.run(market.lake, now=NOW + timedelta(days=1))

    times = market.rows("select _loaded_at from gold.fact_market_daily order by price_date")
    assert times == [(NOW,), (NOW + timedelta(days=1),)]


def test_one_runner_serves_many_lakes(tmp_path: Path, market: Market):
    """Each run sees the lake that it is given, and no other."""
    market.says("bitcoin", {0: 1.0})
    with Lake.open(local_catalog(tmp_path / "other"), load_contracts(), Clock.fixed(NOW)) as lake:
        other = Market.open(lake, market.transform)
        other.says("ethereum", {0: 2.0})
        for m in (market, other, market):
            m.runs()

        assert [m.rows("select coin_id from gold.dim_coins") for m in (market, other)] == [
            [("bitcoin",)],
            [("ethereum",)],
        ]


def parquet_of(market: Market, name: str) -> Path:
    return next(Path(market.lake.table(name).location().removeprefix("file://")).glob("data/**/*.parquet"))


def spoil(file: Path) -> None:
    """Overwrite the middle of a file, behind its first bytes and before its footer."""
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_lost_file_of_bronze_is_named_with_its_table(market: Market, is_gone: bool):
    """Nothing can build bronze anew: the message says to restore the file."""
    market.says("bitcoin", {0: 1.0})
    market.runs()
    file = parquet_of(market, "bronze.historical_prices")
    file.unlink() if is_gone else spoil(file)
    what = "gone" if is_gone else "damaged"

    with pytest.raises(
        OperatorError, match=rf"a file of bronze\.historical_prices is {what} \(.*{file.name}.*backup\.$"
    ):
        market_of_a_new_process(market).runs(full_refresh=True)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_lost_file_of_silver_is_mended_by_building_all_anew(market: Market, is_gone: bool):
    """What the message advises works, and a model that reads the lost table without building it says what is lost."""
    market.says("bitcoin", {0: 1.0})
    market.runs()
    held = market.rows("select * exclude (_processed_at) from silver.daily_prices")
    file = parquet_of(market, "silver.daily_prices")
    file.unlink() if is_gone else spoil(file)
    what = "gone" if is_gone else "damaged"

    with pytest.raises(OperatorError, match=rf"a file of silver\.daily_prices is {what} \(.*--full-refresh"):
        market_of_a_new_process(market).runs(select=["dim_coins"], full_refresh=True)
    market_of_a_new_process(market).runs(full_refresh=True)

    assert market.rows("select * exclude (_processed_at) from silver.daily_prices") == held


def market_of_a_new_process(market: Market) -> Market:
    """Let dbt forget what it saw of the lake, as in a process of its own."""
    from cryptolake.transform import iceberg_plugin

    for plugin in iceberg_plugin._plugins:
        plugin._seen.clear()
    return market


def test_a_selection_runs_the_models_it_names(market: Market):
    """The selection syntax is that of dbt."""
    market.says("bitcoin", {0: 1.0})

    assert set(market.runs(select=["+dim_dates"])) == {"daily_prices", "dim_dates"}


@pytest.mark.parametrize("select", [["no_such_model"], ["dim_dates", "no_such_model"], ["--full-refresh"]])
def test_an_unknown_selection_names_the_models(market: Market, select: list[str]):
    """A model that does not exist stops the run before it begins, and the message says which there are."""
    with pytest.raises(
        OperatorError,
        match=r"does not match.*dim_coins, dim_dates, .*fact_market_daily, .*daily_prices, fear_greed",
    ):
        market.runs(select=select)


def test_a_failed_model_says_what_the_database_said(market: Market):
    """The message has the model's name and the reason."""
    market.says("bitcoin", {10**9: 1.0})

    with pytest.raises(OperatorError, match=r"model daily_prices failed: .*Overflow"):
        market.runs()


def test_a_run_after_a_failed_one_works(tmp_path: Path, market: Market):
    """A failure leaves nothing behind in the process."""
    market.says("bitcoin", {10**9: 1.0})
    with pytest.raises(OperatorError):
        market.runs()
    with Lake.open(local_catalog(tmp_path / "other"), load_contracts(), Clock.fixed(NOW)) as lake:
        other = Market.open(lake, market.transform)
        other.says("bitcoin", {0: 1.0})

        assert other.runs()["fact_market_daily"].rows_added == 1


def test_a_table_that_lost_its_shape_stops_the_run(market: Market):
    """What differs from its contract is refused before any model runs."""
    market.runs()
    with market.lake.table("silver.daily_prices").update_schema() as change:
        change.rename_column("price_usd", "price")

    with pytest.raises(ContractError, match="price"):
        market.runs()


def test_a_test_that_does_not_hold_fails_the_run(market: Market):
    """With tests, the project's data tests run after their models."""
    market.says("bitcoin", {0: 1.0})
    market.feels(0, 20, None)

    with pytest.raises(OperatorError, match="test not_null_fear_greed_classification failed"):
        market.runs(tests=True)


def test_the_package_stays_as_it_was_installed(market: Market):
    """Only the target path is written to, so the package may be read-only."""
    before = {p: p.stat().st_mtime_ns for p in PROJECT.rglob("*")}
    market.says("bitcoin", {0: 1.0})
    market.runs()

    assert {p: p.stat().st_mtime_ns for p in PROJECT.rglob("*")} == before


def test_a_second_process_waits_for_the_first(tmp_path: Path, market: Market):
    """Two runs for one home follow each other, a dead process holds up none, and getting ready never waits."""
    transform = Transform(tmp_path / "dbt")
    (tmp_path / "dbt").mkdir()
    holder = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path / "dbt" / "lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        transform._preload()
        runs: list[ModelRun] = []
        waiting = Thread(target=lambda: runs.extend(transform.run(market.lake, now=NOW)))
        waiting.start()
        waiting.join(timeout=0.5)
        assert waiting.is_alive()
        other.kill()
    waiting.join()

    assert {r.status for r in runs} == {"success"}


def test_a_run_that_is_to_stop_waits_for_no_other(tmp_path: Path, market: Market):
    """It says who has the home; and one that waits already is woken."""
    transform, stop = Transform(tmp_path / "dbt"), Event()
    (tmp_path / "dbt").mkdir()
    holder = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path / "dbt" / "lock")]
    with (
        subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        ThreadPoolExecutor() as pool,
    ):
        assert other.stdout.readline() == b"held\n"
        waiting = pool.submit(transform.run, market.lake, now=NOW, stop=stop)
        stop.set()
        with pytest.raises(TransformBusyError, match="another process transforms"):
            waiting.result(timeout=20)
        other.kill()


def test_dbt_by_hand_says_what_to_run(transform: Transform):
    """Without the runner there is no lake; the message names the command that has one."""
    from cryptolake.transform.iceberg_plugin import _session

    with pytest.raises(OperatorError, match="cryptolake transform"):
        _session()


def test_variables_for_other_dbt_projects_change_nothing(market: Market, monkeypatch: pytest.MonkeyPatch):
    """`DBT_EMPTY=1` would take every row of gold away, and `DBT_TARGET` name an engine that is not ours."""
    market.says("bitcoin", {0: 1.0, 1: 2.0})
    market.runs()
    before = market.lake.table("gold.fact_market_daily").metadata.current_snapshot_id
    for name, value in {"DBT_EMPTY": "1", "DBT_TARGET": "prod", "DBT_FULL_REFRESH": "1"}.items():
        monkeypatch.setenv(name, value)
    market.runs()

    assert market.lake.table("gold.fact_market_daily").metadata.current_snapshot_id == before
