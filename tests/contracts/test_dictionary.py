"""The data dictionary: what the contracts say, for people."""

from __future__ import annotations

import pytest

from cryptolake.contracts import load_contracts
from cryptolake.contracts.dictionary import data_dictionary

PAGE = data_dictionary(load_contracts())
SECTIONS = {text.split("\n", 1)[0]: text for text in PAGE.split("\n## ")[1:]}


@pytest.mark.parametrize("contract", load_contracts().values(), ids=lambda c: c.name)
def test_every_column_is_explained(contract):
    """Each table has a section and each column its row, in the order of the field ids."""
    rows = [
        line.split("|")[1].strip() for line in SECTIONS[contract.name].splitlines() if line.startswith("| `")
    ]
    assert rows == [f"`{name}`" for name in contract.column_names]


@pytest.mark.parametrize("contract", load_contracts().values(), ids=lambda c: c.name)
def test_every_check_is_named(contract):
    """Each check of a contract is listed with its severity."""
    for rule in contract.odcs.schema_[0].quality or []:
        assert f"* `{rule.id}` ({rule.severity}, " in SECTIONS[contract.name]


def test_tables_stand_in_the_order_of_the_flow():
    """Bronze before silver before gold."""
    layers = [name.split(".")[0] for name in SECTIONS]
    assert list(dict.fromkeys(layers)) == ["bronze", "silver", "gold", "quality"]


def test_a_column_is_told_with_all_that_its_contract_says():
    """Type, unit, nullability, allowed values, references and tolerance stand in its row."""
    fact, index = SECTIONS["gold.fact_market_daily"], SECTIONS["bronze.fear_greed"]
    assert "| `value` | int | points | no | ≥ 0, ≤ 100 |" in index
    assert "References `gold.dim_coins.coin_id`." in fact
    assert "Equal to within 1e-12, relatively." in fact
    assert "| yes | `ABOVE_MA30`, `BELOW_MA30`, `AT_MA30` |" in fact
    assert "| key | `coin_id`, `price_date` |" in fact
    assert "| partitioned by | `year(price_date)` |" in fact
    assert "| snapshots kept | 30 days |" in fact
    assert "* `freshness` of `timestamp`: a warning after 48 h, failed after 72 h." in index


def test_the_page_has_no_stray_cells():
    """Every row of every table has as many cells as its head, whatever the descriptions contain."""
    width = 0
    for line in PAGE.replace("\\|", "").splitlines():
        cells = line.count("|") if line.startswith("|") else 0
        assert cells in (0, width) or width == 0, line
        width = cells
