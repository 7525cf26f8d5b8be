"""Differences between two tables are found, and nothing else is."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from cryptolake.contracts import load_contracts
from tests.equality import differences, table_differences


def rows(**changes: Any) -> list[dict[str, Any]]:
    """Return two rows; *changes* are made to the second."""
    first = {
        "coin_id": "bitcoin",
        "price_date": date(2024, 6, 1),
        "price_usd": 1.5,
        "_loaded_at": datetime.now(UTC),
    }
    return [first, {**first, "price_date": date(2024, 6, 2), **changes}]


def found(actual: Any, expected: Any, **options: Any) -> list[str]:
    """Return the differences by coin and day."""
    return differences(actual, expected, key=["coin_id", "price_date"], **options)


def test_equal_tables_have_no_differences_in_any_form_or_order() -> None:
    """Lists, Arrow tables and any order of rows and columns compare alike; lineage does not count."""
    table = pa.Table.from_pylist(rows()[::-1])

    assert found(rows(), rows(_loaded_at=None)) == []
    assert found(table, rows()) == []
    assert found(rows(), table) == []
    assert found(table.select(table.column_names[::-1]), table) == []
    assert found([], []) == []


@pytest.mark.parametrize(
    ("actual", "expected", "difference"),
    [
        (rows(price_usd=2.5), rows(), "price_usd of bitcoin, 2024-06-02 is 2.5, expected 1.5"),
        (rows(price_usd=None), rows(), "price_usd of bitcoin, 2024-06-02 is None, expected 1.5"),
        (rows(price_usd=1.5), rows(price_usd=None), "price_usd of bitcoin, 2024-06-02 is 1.5, expected None"),
        (
            rows(price_usd=math.nan),
            rows(price_usd=1.5),
            "price_usd of bitcoin, 2024-06-02 is nan, expected 1.5",
        ),
        (rows(price_usd="1.5"), rows(), "price_usd of bitcoin, 2024-06-02 is '1.5', expected 1.5"),
        (rows(price_usd=math.nextafter(1.5, 2)), rows(), "1.5000000000000002, expected 1.5"),
        (rows()[:1], rows(), "row bitcoin, 2024-06-02 is missing"),
        ([], rows(), "row bitcoin, 2024-06-01 is missing"),
        (rows(), rows()[:1], "row bitcoin, 2024-06-02 is not expected"),
        ([*rows(), rows()[0]], rows(), "row bitcoin, 2024-06-01 is there 2 times"),
        (rows(), [*rows(), rows()[0]], "row bitcoin, 2024-06-01 is expected 2 times"),
        (rows(volume=1.0), rows(), "column volume is not expected"),
        (rows(), rows(volume=1.0), "column volume is missing"),
    ],
)
def test_a_difference_is_told_in_a_sentence(actual: Any, expected: Any, difference: str) -> None:
    """Each message names what differs, where, and both values."""
    assert difference in found(actual, expected)[0]


def test_values_within_the_tolerance_agree() -> None:
    """A tolerance is relative to the larger value, of all columns or of those named; it forgives no null."""
    near = rows(price_usd=1.5 * (1 + 1e-10))

    assert found(near, rows(), relative=1e-9) == []
    assert found(near, rows(), relative={"price_usd": 1e-9}) == []
    assert len(found(near, rows(), relative={"volume": 1e-9})) == 1
    assert len(found(near, rows(), relative=1e-11)) == 1
    assert len(found(rows(price_usd=None), rows(), relative=1.0)) == 1
    assert len(found(rows(price_usd=math.inf), rows(), relative=1e-9)) == 1


def test_nan_equals_nan_and_zero_equals_minus_zero() -> None:
    """Doubles are compared by value."""
    assert found(rows(price_usd=math.nan), rows(price_usd=math.nan)) == []
    assert found(rows(price_usd=0.0), rows(price_usd=-0.0)) == []


def test_only_the_first_ten_differences_are_told() -> None:
    """The others are counted."""
    one_a_row = [{"coin_id": str(i), "price_date": None, "price_usd": 1.0} for i in range(25)]

    told = found([{**r, "price_usd": 2.0} for r in one_a_row], one_a_row)

    assert len(told) == 11
    assert told[-1] == "and 15 other differences"


def test_a_contract_brings_its_key_and_its_tolerances() -> None:
    """Columns made with logarithms may differ by 1e-12, all others not at all; an oracle's tolerance holds for all."""
    contract = load_contracts()["gold.fact_market_daily"]
    row = dict.fromkeys(contract.column_names, 1.0) | {"coin_id": "bitcoin", "price_date": date(2024, 6, 1)}
    in_log = {**row, "volatility_30d": 1 + 1e-13}
    in_mean = {**row, "moving_avg_30d": 1 + 1e-13}

    assert table_differences([in_log], [row], contract) == []
    assert len(table_differences([in_mean], [row], contract)) == 1
    assert table_differences([in_mean], [row], contract, relative=1e-9) == []
