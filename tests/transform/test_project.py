"""The dbt project: its own tests hold, and it says the same as the contracts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cryptolake.contracts import load_contracts
from cryptolake.transform.narrowing import PART
from cryptolake.transform.run import PROJECT, Transform
from tests.transform.market import NOW, REFINED, TRADE_TABLES, Market

MODELS = sorted((PROJECT / "models").rglob("*.sql"))
DUCKDB_ONLY = r"::|\bexclude\b|\bqualify\b|\blist_|\blist\(|\bunnest\b|\blambda\b|\bepoch|\btimestamptz\b|\bby name\b|\bdate_diff\b"

pytestmark = pytest.mark.slow


def test_the_unit_tests_of_the_models_hold(market: Market):
    """What a model makes of given rows is said beside it, and true."""
    results, _ = market.transform._on(market.lake, ["test", "--select", "test_type:unit"], NOW)

    assert len(results) > 40
    assert {r.status for r in results} == {"pass"}


def test_the_data_tests_of_the_project_hold(market: Market):
    """Keys are unique and present, and facts have their dimensions."""
    market.says("bitcoin", {n: 1.0 + n for n in range(10)})
    market.feels(3, 20, "Extreme Fear")

    statuses = [r.status for r in market.runs(tests=True).values()]

    assert statuses.count("success") == 5
    assert statuses.count("pass") == len(statuses) - 5 > 15


@pytest.mark.parametrize("name", [*REFINED, *TRADE_TABLES])
def test_a_model_is_keyed_and_partitioned_as_its_contract_says(name: str, transform: Transform):
    """Spark takes both from the model; the contract decides."""
    contract = load_contracts()[name]
    [config] = [n.config for n in transform._parsed().nodes.values() if f"{n.schema}.{n.name}" == name]

    assert tuple(config["unique_key"]) == contract.key
    assert list(config.get("partition_by") or []) == [
        f"{p.transform}s({p.column})" for p in contract.partitions
    ]


def test_models_select_the_columns_of_their_contracts_in_order(market: Market):
    """A model's rows fit its table by position as well as by name, in the contract's types, full or incremental."""
    market.says("bitcoin", {0: 1.0})
    market.trades("coinbase", "BTC-USD", {1: 0.0, 2: 30.0, 4: 90.0})
    market.misses("coinbase", "BTC-USD", 3, 3)
    market.runs()
    for options in ({"full_refresh": True}, {}):
        market.runs(**options)
        with market.lake.reader() as reader:
            for name in (*REFINED, *TRADE_TABLES):
                [path] = (market.transform._target_path / "compiled").glob(
                    f"*/models/{name.replace('.', '/')}.sql"
                )
                sql = PART.sub(
                    r"\g<table>", path.read_text()
                )  # a part of a table has the columns of all of it
                rows, stored = reader.table(sql), reader.table(f"select * from {name}")
                assert [n for n in rows.schema.names if n != "is_gone"] == list(
                    load_contracts()[name].column_names
                )
                assert [rows.schema.field(n).type for n in stored.schema.names] == stored.schema.types


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_a_model_has_no_words_that_only_one_engine_knows(path: Path):
    """Where engines differ, the difference is in a dispatched macro."""
    assert re.findall(DUCKDB_ONLY, sql_of(path)) == []


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_a_model_reads_as_the_others_do(path: Path):
    """Lower case, commas at the end, a grain, and one last select."""
    text, code = path.read_text(), re.sub(r"'[^']*'|--.*", "", sql_of(path))

    assert code == code.lower()
    assert not re.search(r"^\s*,", code, re.MULTILINE)
    assert re.search(r"^-- One row ", text, re.MULTILINE)
    assert text.endswith("\n)\n\nselect * from final\n")


def sql_of(path: Path) -> str:
    """Return the model with a word in place of each Jinja expression."""
    text = re.sub(r"\{%.*?%\}", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"\{\{.*?\}\}", "jinja", text, flags=re.DOTALL)


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_every_dispatched_macro_is_there_for_every_engine(engine: str, transform: Transform):
    """The same project runs on both engines."""
    macros = {m.name for m in transform._parsed().macros.values() if m.package_name == "cryptolake"}
    dispatched = set(
        re.findall(r"adapter\.dispatch\('(\w+)'\)", (PROJECT / "macros" / "engine.sql").read_text())
    )

    assert len(dispatched) > 8
    assert {f"{engine}__{name}" for name in dispatched} <= macros
