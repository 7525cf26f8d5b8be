"""Checks follow from the contract alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cryptolake.contracts import load_contracts, parse_contract
from cryptolake.errors import ContractError
from cryptolake.quality import Check, Threshold, compile_checks

EXPECTED = {
    "bronze.historical_prices": {"exists", "row_count", "schema", "freshness"},
    "bronze.fear_greed": {"exists", "row_count", "schema", "freshness"},
    "silver.daily_prices": {
        *(
            "unique_key",
            "price_usd_positive",
            "coin_id_not_null",
            "price_date_not_null",
            "price_usd_not_null",
        ),
        "no_future_dates",
    },
    "silver.fear_greed": {
        "unique_key",
        "fear_greed_value_in_range",
        "classification_valid",
        "index_date_not_null",
    },
    "gold.fact_market_daily": {
        *(
            "unique_key",
            "no_date_gaps",
            "not_empty",
            "coin_id_exists_in_dim_coins",
            "price_date_exists_in_dim_dates",
        ),
    },
}


def checks_of(table: str) -> dict[str, Check]:
    """Return the checks of a bundled contract by name."""
    return {c.name: c for c in compile_checks(load_contracts()[table])}


def checks_from(*columns: dict[str, Any], **of_table: Any) -> dict[str, Check]:
    """Return the checks of a contract with these ODCS *columns*, and more at its table or document."""
    document = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "t",
        "name": "bronze.t",
        "version": "1.0.0",
        "status": "active",
        "slaProperties": of_table.pop("slaProperties", []),
        "schema": [
            {"name": "t", "properties": [{"description": "A column.", **c} for c in columns], **of_table}
        ],
    }
    return {c.name: c for c in compile_checks(parse_contract(yaml.safe_dump(document)))}


AMOUNT = {"name": "amount", "logicalType": "number", "physicalType": "double"}
COUNT = {"name": "trades", "logicalType": "integer", "physicalType": "int"}


@pytest.mark.parametrize("table", EXPECTED)
def test_the_checks_that_such_a_system_is_expected_to_have_are_there(table: str) -> None:
    """Existence, row counts, schema, freshness, keys, ranges, classes, gaps and foreign keys: at least 22."""
    assert EXPECTED[table] <= checks_of(table).keys()
    assert sum(map(len, EXPECTED.values())) >= 22


def test_every_bundled_contract_compiles() -> None:
    """Every table has the checks that it exists and has its columns, and no placeholder is unknown."""
    for contract in load_contracts().values():
        assert {"exists", "schema"} <= {c.name for c in compile_checks(contract)}


def test_bronze_must_have_100_prices_and_30_index_values() -> None:
    """Fewer rows than any useful history has are a failure."""
    assert checks_of("bronze.historical_prices")["row_count"].threshold == Threshold.at_least(100)
    assert checks_of("bronze.fear_greed")["row_count"].threshold == Threshold.at_least(30)


@pytest.mark.parametrize(
    ("hours", "verdict"),
    [(0, "passed"), (48, "passed"), (48.1, "warning"), (72, "warning"), (72.1, "failed")],
)
@pytest.mark.parametrize("table", ["bronze.historical_prices", "bronze.fear_greed"])
def test_data_is_fresh_for_48_hours_and_stale_after_72(table: str, hours: float, verdict: str) -> None:
    """Freshness passes up to 48 hours, warns up to 72 and fails after."""
    threshold = checks_of(table)["freshness"].threshold
    assert threshold is not None
    assert threshold.verdict(hours) == verdict


def test_date_gaps_are_a_warning() -> None:
    """A day that the vendor does not have is not a failure for ever."""
    assert checks_of("gold.fact_market_daily")["no_date_gaps"].severity == "warning"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"exclusiveMinimum": 0}, "amount_positive"),
        ({"minimum": 0}, "amount_not_negative"),
        ({"maximum": 0}, "amount_not_positive"),
        ({"minimum": 1, "maximum": 5}, "amount_in_range"),
        ({"exclusiveMinimum": 1}, "amount_in_range"),
        ({}, "amount_finite"),
    ],
)
def test_a_range_check_is_named_after_what_it_asks(options: dict[str, float], name: str) -> None:
    """A double always has exactly one check of its values."""
    checks = checks_from({**AMOUNT, "logicalTypeOptions": options})
    assert checks.keys() == {"exists", "schema", name}
    assert checks[name].column == "amount"


def test_nan_and_infinity_break_the_check_of_a_range() -> None:
    """NaN counts as the greatest number in SQL, so each range has an upper end, and infinity lies outside."""
    import duckdb

    numbers = "(values (cast('nan' as double)), (cast('infinity' as double)), (-cast('infinity' as double)), (-1.5)) as n (amount)"
    for options, broken in [
        ({"exclusiveMinimum": 0}, 4),
        ({"minimum": -2}, 3),
        ({"maximum": 0}, 3),
        ({}, 3),
        ({"minimum": -5, "maximum": 5}, 3),
    ]:
        check = list(checks_from({**AMOUNT, "logicalTypeOptions": options}).values())[2]
        assert duckdb.sql(f"select {check.value} from {numbers}").fetchall() == [(broken,)], check.name


def test_a_whole_number_without_limits_has_no_range_check() -> None:
    """Only doubles can be not a number."""
    assert checks_from(COUNT).keys() == {"exists", "schema"}


def test_a_quote_in_an_allowed_value_is_safe() -> None:
    """Values of a contract are literals, whatever they hold."""
    column = {"name": "side", "logicalType": "string", "physicalType": "string", "enum": [{"value": "it's"}]}
    assert "'it''s'" in checks_from(column)["side_valid"].value


def test_a_sql_rule_counts_its_offending_rows() -> None:
    """The rows that break a rule are said once, to count them and to show some."""
    rule = {
        "id": "odd",
        "type": "sql",
        "query": "select count(*) from ({offendingRows}) o",
        "mustBe": 0,
        "severity": "warning",
        "customProperties": [
            {"property": "offendingRows", "value": "select trades from {object} where trades % 2 = 1"}
        ],
    }
    check = checks_from(COUNT, quality=[rule])["odd"]
    assert check.value == "select count(*) from (select trades from {object} where trades % 2 = 1) o"
    assert check.offending == "select trades from {object} where trades % 2 = 1"
    assert (check.severity, check.stands_alone) == ("warning", True)


def test_text_rules_are_for_people() -> None:
    """A rule of type text has no check."""
    assert checks_from(COUNT, quality=[{"id": "be_kind", "type": "text"}]).keys() == {"exists", "schema"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"id": "x", "type": "library", "metric": "rowCount"}, "needs one of mustBe"),
        (
            {"id": "x", "type": "library", "metric": "rowCount", "mustBe": 1, "mustBeLessThan": 2},
            "needs one of mustBe",
        ),
        ({"id": "x", "type": "library", "metric": "nullValues", "mustBe": 0}, "no way to check the rule x"),
        (
            {"id": "x", "type": "custom", "engine": "soda", "implementation": "checks"},
            "no way to check the rule x",
        ),
        (
            {"id": "x", "type": "sql", "query": "select {nonsense}", "mustBe": 0},
            "unknown placeholders {nonsense}",
        ),
        (
            {"id": "exists", "type": "library", "metric": "rowCount", "mustBe": 1},
            "several checks are named exists",
        ),
    ],
)
def test_a_rule_that_cannot_be_checked_stops_at_once(rule: dict[str, Any], said: str) -> None:
    """A rule that would be passed over in silence is an error of the contract."""
    with pytest.raises(ContractError, match=said):
        checks_from(COUNT, quality=[rule])


def test_an_option_without_a_check_stops_at_once() -> None:
    """An option of a column that no check upholds is an error of the contract."""
    with pytest.raises(ContractError, match="trades has options without a check: multipleOf"):
        checks_from({**COUNT, "logicalTypeOptions": {"multipleOf": 5}})


@pytest.mark.parametrize(
    ("sla", "said"),
    [
        ({"element": "t.nowhere", "value": 48, "unit": "h"}, "needs a column"),
        ({"element": "t.trades", "value": 48, "unit": "fortnight"}, "a unit of h or d"),
        ({"element": "t.trades", "value": 48, "unit": "h"}, "no time and has no unit"),
    ],
)
def test_freshness_needs_a_time(sla: dict[str, Any], said: str) -> None:
    """Freshness is of a column that holds times."""
    with pytest.raises(ContractError, match=said):
        checks_from(COUNT, slaProperties=[{"property": "freshness", **sla}])
