"""Every verb does its part, says what it did, and ends with the status that follows."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import httpx2
import pyarrow as pa
import pytest

from cryptolake import __version__
from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.pipeline import STEPS
from cryptolake.replay import faults
from tests.cli.commands import NOON, Shell
from tests.replayed import KNOWN_DAYS, POINTS, Town
from tests.replayed import NOON as NOON_UTC

pytestmark = pytest.mark.slow

VERBS = (
    *("demo", "run", "ingest", "transform", "check", "stream", "backfill", "coverage"),
    *("query", "status", "maintain", "replay"),
)
TABLES = [
    "bronze.fear_greed",
    "bronze.historical_prices",
    "bronze.rejects",
    "gold.dim_coins",
    "gold.dim_dates",
    "gold.fact_market_daily",
    "quality.check_results",
    "silver.bars_1m",
    "silver.daily_prices",
    "silver.fear_greed",
    "silver.held_ranges",
]
"""After a daily run without trades; two are empty, which daily prices are looked up in."""


def rows(shell: Shell) -> dict[str, int]:
    """Return how many rows every table has, as `status` says."""
    return {t["table"]: t["rows"] for t in shell("status", "--json").json["tables"]}


def append(home: Path, table: str, **values: object) -> None:
    """Append a row to a table of the lake under *home*, as no command would."""
    with Lake.open(local_catalog(home), load_contracts(), Clock.fixed(NOON_UTC)) as lake:
        schema = lake.table(table).schema().as_arrow()
        lake.append(table, pa.Table.from_pylist([values], schema=schema))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(shell, verb):
    """`--help` names the verb's options, and does nothing."""
    said = shell(verb, "--help")
    assert (said.status, said.err, shell.home.exists()) == (0, "", False)
    assert f"{verb} [OPTIONS]" in said.out


def test_the_verbs_are_listed(shell):
    """`cryptolake --help` names every verb, and `--version` the release."""
    assert all(f"│ {verb} " in shell("--help").out for verb in VERBS)
    assert shell("--version").out == f"cryptolake {__version__}\n"


def test_the_daily_run_says_what_each_step_did(shell):
    """A line a step; all layers are there; a second run finds nothing new and rewrites nothing."""
    said = shell.run()
    lines = [line.split()[:2] for line in said.out.splitlines()]
    assert (said.status, said.err, lines) == (0, "", [["✓", step.name] for step in STEPS])
    assert f"{3 * POINTS:,} new rows in bronze.historical_prices" in said.out
    before = rows(shell)
    assert sorted(before) == TABLES
    again = shell.run()
    assert (again.status, again.err) == (0, "")
    assert "0 new rows in bronze.historical_prices" in again.out
    assert "5 models: 0 rows added, 0 replaced" in again.out
    assert {t: n for t, n in rows(shell).items() if t != "quality.check_results"} == {
        t: n for t, n in before.items() if t != "quality.check_results"
    }


def test_a_run_can_be_read_by_a_program(shell):
    """`--json` prints one object with every step, its result and what is wrong; a coin that fails makes it 1."""
    shell.server.inject(lambda request: faults.html(403) if "solana" in request.path else None)
    said = shell.run("--json")
    run = said.json
    assert (said.status, run["exit_status"]) == (1, 1)
    assert [step["step"] for step in run["steps"]] == [step.name for step in STEPS]
    prices = run["steps"][0]
    assert (prices["result"]["rows_added"], list(prices["result"]["failures"])) == (2 * POINTS, ["solana"])
    assert prices["problems"] == [f"solana: {prices['result']['failures']['solana']}"]
    assert {check["status"] for check in run["steps"][2]["result"]} == {"passed", "warning"}


def test_the_steps_of_the_run_can_be_listed(shell):
    """A scheduler learns the steps without importing anything of ours, and without a lake."""
    names = [step.name for step in STEPS]
    assert shell("run", "--list").out.split() == names
    assert shell("run", "--list", "--json").json == names
    assert not shell.home.exists()


def test_a_coin_that_cannot_be_had_is_named(shell):
    """`ingest` lands the rest, says which coin failed and why, and exits 1."""
    said = shell("ingest", "--as-of", NOON, "--coins", "bitcoin,nowhere")
    assert (said.status, said.err) == (1, "")
    assert f"✗ ingest.prices      {POINTS} new rows in bronze.historical_prices, 1 of 2 failed" in said.out
    assert "nowhere: coingecko refuses /coins/nowhere/market_chart: there is no such coin" in said.out
    assert rows(shell) == {
        "bronze.fear_greed": KNOWN_DAYS,
        "bronze.historical_prices": POINTS,
        "bronze.rejects": 0,
    }


def test_the_days_to_ingest_can_be_named(shell):
    """`--from` and `--to` bound both sources; `--full` asks for all again."""
    span = ["--from", "2024-03-01", "--to", "2024-03-05", "--coins", "bitcoin"]
    assert shell("ingest", "--as-of", NOON, *span).status == 0
    assert rows(shell)["bronze.historical_prices"] == rows(shell)["bronze.fear_greed"] == 5
    assert shell("ingest", "--as-of", NOON, "--full", "--coins", "bitcoin").status == 0
    assert rows(shell)["bronze.historical_prices"] == POINTS


def test_rejected_points_are_counted(shell):
    """A run that had to reject points says how many, and a check warns."""
    recorded = shell.server.recordings.coins["solana"]
    recorded.prices[POINTS - 3] = None
    said = shell("ingest", "--as-of", NOON)
    assert (said.status, "new rows in bronze.historical_prices, 1 rejected" in said.out) == (0, True)
    checked = shell("check", "--layer", "bronze", "--as-of", NOON)
    assert (checked.status, "no_rejected_observations" in checked.out) == (0, True)


def test_models_are_built_one_by_one_or_anew(shell):
    """`--select` names models; `--full-refresh` builds from all of bronze and comes to the same rows."""
    shell("ingest", "--as-of", NOON)
    some = shell("transform", "--select", "daily_prices", "--as-of", NOON, "--json")
    assert [(m["name"], m["rows_added"]) for m in some.json] == [("daily_prices", 3 * KNOWN_DAYS)]
    rest = shell("transform", "--as-of", NOON)
    assert (rest.status, rest.err, "fact_market_daily" in rest.out) == (0, "", True)
    before = rows(shell)
    assert shell("transform", "--full-refresh", "--as-of", NOON).status == 0
    assert rows(shell) == before
    wrong = shell("transform", "--select", "nothing")
    assert (wrong.status, wrong.out) == (2, "")
    assert "'nothing'" in wrong.err
    assert "the models are coverage_daily, dim_coins, dim_dates, " in wrong.err


def test_a_failing_check_is_shown_with_the_rows_that_break_it(tmp_path, capfd):
    """`check` exits 1, names the check with a sample, and `status` shows it until it passes."""
    with Town.opened(tmp_path) as town:
        town.ingest()
        town.ingest_index()
        shell = Shell(tmp_path, town.server, capfd)
        clean = shell("check", "--layer", "bronze", "--as-of", NOON)
        assert (clean.status, clean.out.splitlines()) == (0, ["51 checks: 51 passed"])
        assert "all checks passed the last time they ran" in shell("status").out
        append(tmp_path, "bronze.historical_prices", coin_id="planted", timestamp_ms=1710547200000, price_usd=-3.5,
               _ingested_at=NOON_UTC, _source="coingecko", _run_id="x")  # fmt: skip
        said = shell("check", "--layer", "bronze", "--as-of", NOON)
        results = {
            r["check_name"]: r for r in shell("check", "--layer", "bronze", "--as-of", NOON, "--json").json
        }
    assert said.status == 1
    assert "failed bronze.historical_prices price_usd_positive" in said.out
    found = results["price_usd_positive"]
    assert (found["status"], found["metric_value"], found["severity"]) == ("failed", 1.0, "error")
    assert "coin_id=planted" in found["message"]
    assert "price_usd=-3.5" in found["message"]
    [failing] = [f for f in shell("status", "--json").json["failing"] if f["status"] == "failed"]
    assert (failing["table"], failing["check"]) == ("bronze.historical_prices", "price_usd_positive")
    assert "failed bronze.historical_prices price_usd_positive" in shell("status").out


def test_stale_data_fails_a_check(lake_shell):
    """Freshness is measured from `--as-of`."""
    later = (NOON_UTC + timedelta(days=4)).isoformat()
    said = lake_shell("check", "--layer", "bronze", "--as-of", later)
    assert (said.status, "failed bronze.historical_prices freshness" in said.out) == (1, True)


def test_layers_are_checked_by_name(lake_shell):
    """`--layer` may come several times or with commas; what is no layer is refused."""
    both = lake_shell("check", "--layer", "silver,gold", "--as-of", NOON, "--json").json
    assert {r["layer"] for r in both} == {"silver", "gold"}
    assert lake_shell("check", "--layer", "gold", "--layer", "silver", "--as-of", NOON).status == 0
    wrong = lake_shell("check", "--layer", "platinum")
    assert (wrong.status, wrong.err) == (
        2,
        "error: no such layer: platinum; the layers are bronze, silver and gold\n",
    )


def test_the_status_shows_every_table(lake_shell):
    """Rows, newest date, snapshot, size, the last run and what fails."""
    said = lake_shell("status", "--json").json
    tables = {t["table"]: t for t in said["tables"]}
    assert sorted(tables) == TABLES
    fact = tables["gold.fact_market_daily"]
    assert (fact["rows"], fact["newest"], fact["bytes"] > 0) == (3 * KNOWN_DAYS, "2024-03-16", True)
    shown = lake_shell("status").out
    assert f"the lake at {lake_shell.home}" in shown
    assert all(name in shown for name in TABLES)
    assert str(fact["snapshot_id"]) in shown
    assert f"last run: {said['last_run_id']}" in shown


def test_maintenance_says_first_what_it_would_do(tmp_path, server, capfd):
    """`--dry-run` changes nothing; then files that nothing names go, once they are old enough."""
    shell = Shell(tmp_path, server, capfd)
    shell("ingest", "--as-of", NOON)
    [data] = tmp_path.glob("warehouse/bronze/fear_greed-*/data")
    orphan = data / "orphan.parquet"
    orphan.write_bytes(b"nothing")
    four_days_ago = orphan.stat().st_mtime - 4 * 86400
    os.utime(orphan, (four_days_ago, four_days_ago))
    planned = shell("maintain", "--dry-run", "--json").json
    assert {m["table"]: m["orphans_removed"] for m in planned}["bronze.fear_greed"] == 1
    assert orphan.exists()
    assert shell("maintain", "--orphans-older-than", "5d").status == 0
    assert orphan.exists()
    done = shell("maintain")
    assert (done.status, done.err, done.out.startswith("to do:"), "done:" in done.out) == (0, "", True, True)
    assert not orphan.exists()
    wrong = shell("maintain", "--orphans-older-than", "soon")
    assert (
        wrong.status,
        "not a length of time: 'soon'; write it as in 3d, 12h, 30m or 45s" in wrong.err,
    ) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_replay_serves_until_it_is_stopped(shell, number):
    """It prints the settings that point to it, answers, and ends with 0 when told to."""
    process = shell.start("replay", "--port", "0", "--as-of", "2022-01-01")
    lines = list(iter(process.stdout.readline, "  cryptolake stream\n"))
    assert lines[0].startswith("replaying 50-coins at http://127.0.0.1:")
    assert lines[1].startswith("and 15,863 trades of binance-trades-2024-08-08 at http://127.0.0.1:")
    variables = dict(line.split()[1].split("=", 1) for line in lines if line.startswith("  export "))
    base_url, rest_url = (
        variables[f"CRYPTOLAKE_SOURCES__{name}"] for name in ("COINGECKO__BASE_URL", "BINANCE__REST_URL")
    )
    assert httpx2.get(f"{base_url}/ping", trust_env=False).json() == {"gecko_says": "(V3) To the Moon!"}
    assert httpx2.get(f"{rest_url}/api/v3/time", trust_env=False).status_code == 200
    assert variables["CRYPTOLAKE_CAPTURE__INSTRUMENTS"] == "binance:BTCUSDT,binance:ETHUSDT"
    assert lines[-1] == "  cryptolake run --as-of 2022-01-01T00:00\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_replay_on_a_port_that_is_taken_says_so(shell):
    """Another port is the way out."""
    port = shell.server.url.rsplit(":", 1)[1]
    said = shell("replay", "--port", port)
    assert (said.status, f"cannot listen on 127.0.0.1:{port}" in said.err) == (2, True)
