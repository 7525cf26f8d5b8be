"""Checks run over a real lake: what they say, what they keep, and what a broken one may not do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pyiceberg.table.snapshots import Operation

from cryptolake.contracts import Contract, load_contracts
from cryptolake.errors import LakeError
from cryptolake.lake import Lake
from cryptolake.quality import CheckResult, Status, compile_checks, exit_status, run_checks, worst
from cryptolake.quality.anomaly import RESULTS
from tests.corruption.planting import changed, dropped, kept, removed, renamed
from tests.histories import random_history
from tests.quality.clean_lake import (
    COINS,
    NOW,
    TODAY_MS,
    arrow,
    breaches,
    build,
    check,
    opened,
    price_rows,
    refine,
)

PRICES, INDEX, DAILY, FACT = (
    "bronze.historical_prices",
    "bronze.fear_greed",
    "silver.daily_prices",
    "gold.fact_market_daily",
)


def with_rules(table: str, *rules: Mapping[str, object]) -> dict[str, Contract]:
    """Return all contracts, with more sql *rules* (id, query and what it must be) at *table*."""
    contract = load_contracts()[table]
    odcs = contract.odcs.model_copy(deep=True)
    [schema] = odcs.schema_ or []
    made = type(odcs).model_validate(
        {"schema": [{"name": "t", "quality": [{"type": "sql", "mustBe": 0, **rule} for rule in rules]}]}
    )
    [extra] = made.schema_ or []
    schema.quality = [*(schema.quality or []), *(extra.quality or [])]
    return {**load_contracts(), table: dataclasses.replace(contract, odcs=odcs)}


def test_every_check_of_every_table_has_one_result(lake: Lake) -> None:
    """Nothing is left out, layers come in order, and a clean lake passes."""
    results = check(lake)
    expected = {
        f"{n}.{k.name}"
        for n, c in lake.contracts.items()
        if c.layer != "quality" and not c.is_optional
        for k in compile_checks(c)
    }
    assert results.keys() == expected
    layers = [r.layer for r in results.values()]
    assert layers == sorted(layers, key=["bronze", "silver", "gold"].index)
    assert breaches(results) == {}


def test_only_the_layers_asked_for_are_checked(lake: Lake) -> None:
    """A run checks a layer right after it was made."""
    assert {r.layer for r in check(lake, layers=("silver",)).values()} == {"silver"}


def test_results_are_kept_as_they_were_returned(lake: Lake) -> None:
    """`quality.check_results` has a row a result, of the run, the time and the snapshot that was checked."""
    renamed(DAILY, price_usd="price")(lake)
    results = check(lake, layers=("silver",), run_id="kept")
    kept_rows = (
        lake.table(RESULTS).scan(row_filter="run_id = 'kept'").to_arrow().drop(["_loaded_at"]).to_pylist()
    )
    by_name = {f"{r['table_name']}.{r['check_name']}": r for r in kept_rows}
    assert by_name == {name: r.as_dict() for name, r in results.items()}
    snapshot = lake.table(DAILY).current_snapshot()
    assert snapshot is not None
    assert by_name[f"{DAILY}.unique_key"]["snapshot_id"] == snapshot.snapshot_id
    assert by_name[f"{DAILY}.unique_key"]["checked_at"] == NOW


def test_results_of_earlier_runs_stay(lake: Lake) -> None:
    """Results are appended, never rewritten."""
    first = len(check(lake, run_id="first"))
    second = len(check(lake, run_id="second"))
    assert lake.table(RESULTS).scan().to_arrow().num_rows == first + second
    assert {s.summary["operation"] for s in lake.table(RESULTS).snapshots() if s.summary} == {
        Operation.APPEND
    }


def test_results_that_cannot_be_kept_are_an_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that nobody can look up afterwards has not been made."""

    def full(*_: object, **__: object) -> None:
        raise LakeError("the disk is full")

    monkeypatch.setattr(lake, "append", full)
    with pytest.raises(LakeError, match="the disk is full"):
        check(lake)


def test_a_breach_says_what_was_found_and_shows_rows(lake: Lake) -> None:
    """The message has the rule, the figure, what was wanted, and offending rows with their keys."""
    changed(PRICES, price_usd=-1.5)(lake)
    result = check(lake, layers=("bronze",))[f"{PRICES}.price_usd_positive"]
    assert (result.status, result.metric_value, result.threshold) == ("failed", 1.0, "= 0")
    assert result.message is not None
    assert result.message.startswith(
        "price_usd is greater than 0 and finite. Found 1, wanted = 0. For example: coin_id=ethereum, "
    )
    assert "price_usd=-1.5" in result.message


def test_a_sample_has_at_most_five_rows(lake: Lake) -> None:
    """However much is wrong, a message stays readable."""
    removed(DAILY, lambda _: True)(lake)
    result = check(lake, layers=("silver",))[f"{DAILY}.every_daily_observation_is_here"]
    assert result.metric_value == 60 * len(COINS)
    assert result.message is not None
    assert result.message.count("coin_id=") == 5


def test_a_gap_is_told_by_its_days(lake: Lake) -> None:
    """The warning of a gap names the coin and the missing days."""
    missing = NOW.date() - timedelta(days=9), NOW.date() - timedelta(days=8)
    removed(FACT, lambda row: row["coin_id"] == "solana" and row["price_date"] in missing)(lake)
    result = check(lake, layers=("gold",))[f"{FACT}.no_date_gaps"]
    assert (result.status, result.metric_value) == ("warning", 2.0)
    assert (
        f"coin_id=solana, first_missing_day={missing[0]}, last_missing_day={missing[1]}, missing_days=2"
        in str(result.message)
    )


def test_a_different_shape_is_told_in_words(lake: Lake) -> None:
    """The schema check names each column that is not as the contract says."""
    renamed(PRICES, price_usd="price")(lake)
    result = check(lake, layers=("bronze",))[f"{PRICES}.schema"]
    assert result.status == "failed"
    assert "field 3 is named price, not price_usd" in str(result.message)


def test_a_broken_check_hides_no_other(lake: Lake) -> None:
    """A rule that cannot run is an error, and every other check of its table still has its figure."""
    lake.contracts = with_rules(PRICES, {"id": "broken", "query": "select nowhere from {object}"})
    changed(PRICES, price_usd=None)(lake)
    results = check(lake, layers=("bronze",))
    assert breaches(results) == {f"{PRICES}.broken": "error", f"{PRICES}.price_usd_not_null": "failed"}
    assert "nowhere" in str(results[f"{PRICES}.broken"].message)
    assert exit_status(results.values()) == 1


def test_a_rule_that_answers_nothing_is_not_passed(lake: Lake) -> None:
    """A figure that is null is nothing to rely on."""
    lake.contracts = with_rules(
        PRICES, {"id": "nothing", "query": "select max(price_usd) from {object} where false"}
    )
    result = check(lake, layers=("bronze",))[f"{PRICES}.nothing"]
    assert result.status == "failed"
    assert "Found nothing to measure" in str(result.message)


def test_of_a_missing_table_exists_fails_and_the_rest_cannot_run(lake: Lake) -> None:
    """A table that is gone is one failure, and no check of it is silently left out; other tables are judged."""
    dropped(INDEX)(lake)
    results = check(lake, layers=("bronze",))
    of_index = {r.check_name: r.status.value for r in results.values() if r.table_name == INDEX}
    assert of_index.pop("exists") == "failed"
    assert set(of_index.values()) == {"error"}
    assert of_index.keys() | {"exists"} == {c.name for c in compile_checks(lake.contracts[INDEX])}
    assert {r.status.value for r in results.values() if r.table_name == PRICES} == {"passed"}


def test_a_check_over_a_missing_neighbour_is_an_error_alone(lake: Lake) -> None:
    """Silver without bronze cannot be compared with it, but its own rows are judged."""
    dropped(PRICES)(lake)
    found = breaches(check(lake, layers=("silver",)))
    assert found == {
        f"{DAILY}.every_daily_observation_is_here": "error",
        f"{DAILY}.every_price_was_delivered": "error",
    }


@pytest.mark.parametrize("lost", ["data", "metadata"])
def test_of_a_table_that_lost_its_files_no_check_can_run(tmp_path: Path, lost: str) -> None:
    """The results say which file is gone, and other tables are judged."""
    build(tmp_path)
    for file in tmp_path.glob(f"warehouse/bronze/fear_greed-*/{lost}/**/*.*"):
        file.unlink()
    with opened(tmp_path) as lake, lake.reader() as reader:
        results = run_checks(lake, reader, layers=("bronze",), coins=COINS, run_id="r", now=NOW)
    of_index = {r.check_name: r for r in results if r.table_name == INDEX}
    assert of_index["exists"].status == "passed"
    assert of_index["row_count"].status == "error"
    assert "fear_greed" in str(of_index["row_count"].message)
    assert {r.status.value for r in results if r.table_name == PRICES} == {"passed"}


def test_an_empty_lake_has_nothing(tmp_path: Path, lake: Lake) -> None:
    """Before the first run every `exists` fails, and nothing crashes."""
    for name in lake.tables():
        lake.catalog.drop_table(name)
    results = check(lake)
    assert {r.status.value for r in results.values() if r.check_name == "exists"} == {"failed"}
    assert {r.status.value for r in results.values() if r.check_name != "exists"} == {"error"}


def test_tables_without_rows_are_judged(lake: Lake) -> None:
    """An empty table has no bad rows, but too few."""
    kept(PRICES, 0)(lake)
    found = breaches(check(lake, layers=("bronze",)))
    assert found == {
        f"{PRICES}.row_count": "failed",
        f"{PRICES}.freshness": "failed",
        f"{PRICES}.every_coin_is_fresh": "warning",
    }


@pytest.mark.parametrize(
    ("hours", "status"), [(48, "passed"), (49, "warning"), (72, "warning"), (73, "failed")]
)
def test_freshness_is_measured_from_the_given_present(lake: Lake, hours: int, status: str) -> None:
    """The age is that of the newest observation at the given time, whatever the clock says."""
    newest = NOW.replace(hour=9, minute=0)
    result = check(lake, layers=("bronze",), now=newest + timedelta(hours=hours))[f"{PRICES}.freshness"]
    assert (result.status, result.metric_value) == (status, float(hours))


def test_a_coin_no_longer_tracked_does_not_count_for_freshness(lake: Lake) -> None:
    """A coin taken out of the settings keeps its rows, and they neither go stale nor keep the others fresh."""
    removed(
        PRICES, lambda row: row["coin_id"] != "solana" and row["timestamp_ms"] > TODAY_MS - 5 * 86_400_000
    )(lake)
    assert check(lake, layers=("bronze",), coins=["solana"])[f"{PRICES}.freshness"].status == "passed"
    assert check(lake, layers=("bronze",), coins=["bitcoin"])[f"{PRICES}.freshness"].status == "failed"


def test_a_coin_with_a_quote_in_its_name_is_safe(lake: Lake) -> None:
    """Names of coins are literals, whatever they hold."""
    found = check(lake, layers=("bronze",), coins=["solana", "o'coin"])[f"{PRICES}.every_coin_is_fresh"]
    assert (found.status, found.metric_value) == ("warning", 1.0)
    assert "coin_id=o'coin, newest_ms=null" in str(found.message)


def test_without_tracked_coins_nothing_is_fresh(lake: Lake) -> None:
    """No tracked coin has no observation; the check runs all the same."""
    assert check(lake, layers=("bronze",), coins=[])[f"{PRICES}.freshness"].status == "failed"


def test_a_reader_that_was_opened_earlier_sees_the_newest_rows(lake: Lake) -> None:
    """The rows that are checked are those of the snapshot that the result names."""
    with lake.reader() as reader:
        changed(PRICES, price_usd=None)(lake)
        results = run_checks(lake, reader, layers=("bronze",), coins=COINS, run_id="r", now=NOW)
    snapshot = lake.table(PRICES).current_snapshot()
    [found] = [r for r in results if r.status != "passed"]
    assert snapshot is not None
    assert (found.check_name, found.snapshot_id) == ("price_usd_not_null", snapshot.snapshot_id)


def test_a_table_is_scanned_once(lake: Lake) -> None:
    """All checks of a table are one statement."""
    with lake.reader() as reader:
        asked: list[str] = []
        rows = reader.rows
        reader.rows = lambda sql, params=None: asked.append(sql) or rows(sql, params)  # type: ignore[method-assign]
        run_checks(lake, reader, layers=("silver", "gold"), coins=COINS, run_id="r", now=NOW)
    assert len(asked) == sum(
        c.layer in {"silver", "gold"} and not c.is_optional for c in lake.contracts.values()
    )


def result(status: Status) -> CheckResult:
    """Return some result of *status*."""
    return CheckResult(
        "r", NOW, "c", "bronze", PRICES, None, "accuracy", "error", status, 1.0, "= 0", None, None, 0.5
    )


@pytest.mark.parametrize(
    ("statuses", "expected", "code"),
    [
        ([], "passed", 0),
        (["passed"], "passed", 0),
        (["passed", "warning"], "warning", 0),
        (["warning", "failed", "passed"], "failed", 1),
        (["failed", "error"], "error", 1),
    ],
)
def test_a_run_is_as_bad_as_its_worst_check(statuses: list[str], expected: str, code: int) -> None:
    """Warnings are told and pass; failed and error make the exit status 1."""
    results = [result(Status(s)) for s in statuses]
    assert (worst(results), exit_status(results)) == (expected, code)


def test_a_result_can_be_written_as_json() -> None:
    """The dict form has plain values only, and one time."""
    plain = result(Status.PASSED).as_dict()
    assert json.loads(json.dumps(plain, default=str))["status"] == "passed"
    assert plain["checked_at"] == NOW


def test_rows_of_bronze_that_only_differ_in_time_are_no_breach(lake: Lake) -> None:
    """A restated price is a second delivery of the same observation, and passes."""
    lake.append(PRICES, arrow(PRICES, [{**price_rows()[5], "price_usd": 1.25}]))
    assert breaches(check(lake, layers=("bronze",))) == {}


@pytest.mark.parametrize("seed", [3, 7])
def test_silver_and_gold_made_by_the_book_pass_whatever_bronze_holds(seed: int, tmp_path: Path) -> None:
    """Late, young, restated and unusable observations are for silver to sort out, and no check calls that wrong."""
    history = random_history(seed, coins=4, days=150)
    with opened(tmp_path) as lake:
        for name in lake.contracts:
            lake.ensure(name)
        for run in history.runs:
            lake.append(PRICES, run.rows(PRICES))
            lake.append(INDEX, run.rows(INDEX))
        refine(lake)
        present = max(run.fetched_at for run in history.runs)
        found = breaches(check(lake, layers=("silver", "gold"), now=present))
    assert found.keys() <= {
        f"{FACT}.no_date_gaps",
        f"{DAILY}.freshness",
    }  # the vendor's last days may be missing
