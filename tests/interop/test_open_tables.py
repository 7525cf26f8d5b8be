"""The tables are plain Iceberg: other engines read the same rows from them, without our package."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cryptolake.clock import Clock
from cryptolake.contracts import Contract, load_contracts
from cryptolake.contracts.schemas import arrow_schema
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from tests.interop.open_tables import ENGINES, told

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-interop" / "bin" / "python"
START = datetime(2023, 11, 30, tzinfo=UTC)
TEXTS = ["bitcoin", "Ünï ₿", "tab\tand 'quotes'", "", None]
NUMBERS = [5.7e-11, 1e300, 0.1 + 0.2, -0.0, 68_000.5, None]
EXACT = Context(prec=60)

pytestmark = pytest.mark.slow


def value(kind: str, seed: random.Random) -> Any:
    """Return a value of an Iceberg type that is hard to carry from one engine to the next."""
    if kind == "date":
        return (START + timedelta(days=seed.randrange(900))).date()
    if kind == "timestamptz":
        return START + timedelta(microseconds=seed.randrange(10**13))
    if kind.startswith("decimal"):
        precision, scale = map(int, re.findall(r"\d+", kind))
        digits = seed.choice([1, 10**precision - 1, 61_837 * 10**scale, None])
        return None if digits is None else EXACT.scaleb(Decimal(digits), -scale)
    choices: dict[str, list[Any]] = {
        "string": TEXTS,
        "double": NUMBERS,
        "binary": [b"\x00\xff{", b"", None],
        "int": [0, 100, -(2**31), None],
        "long": [1_698_192_000_000, 2**53 + 1, -1, None],
        "boolean": [True, False, None],
    }
    return seed.choice(choices[kind])


def key_part(kind: str, number: int) -> Any:
    """Return the part of a key that makes row *number* another one."""
    parts: dict[str, Any] = {
        "string": f"coin-{number}",
        "date": date(2023, 11, 30) + timedelta(days=number),
        "timestamptz": START + timedelta(hours=number),
        "long": number * 86_400_000,
        "int": number,
    }
    return parts[kind]


def rows_of(contract: Contract, numbers: range, seed: random.Random) -> pa.Table:
    """Return a row of *contract* for each of *numbers*: keys that differ, and anything else."""
    rows = [
        {
            c.name: key_part(c.type, n) if c.name in contract.key else value(c.type, seed)
            for c in contract.columns
        }
        for n in numbers
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(contract))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Iterator[tuple[dict[str, str], Lake]]:
    """A lake in which every table was appended to, or merged into and rewritten."""
    properties = local_catalog(tmp_path_factory.mktemp("interop") / "a lake")
    seed = random.Random(20231130)
    with Lake.open(properties, load_contracts(), Clock.fixed(START)) as lake:
        for name, contract in lake.contracts.items():
            lake.ensure(name)
            change = lake.merge if contract.layer in {"silver", "gold"} else lake.append
            change(name, rows_of(contract, range(400), seed))
            change(name, rows_of(contract, range(350, 450), seed))
        yield properties, lake


@pytest.fixture(scope="module")
def read_by_others(written) -> dict[str, dict[str, Any]]:
    """What the other engines read, in an environment that does not have our package."""
    if not PYTHON.exists():
        pytest.skip("needs .venv-interop: `make test` makes it")
    command = [PYTHON, "-I", Path(__file__).parent / "open_tables.py", json.dumps(written[0])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "TZ": "UTC"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def read_by_us(written) -> dict[str, dict[str, Any]]:
    """What our own reader gives."""
    with written[1].reader() as reader:
        return {name: told(reader.table(f"select * from {name}").to_pylist()) for name in written[1].tables()}


@pytest.mark.parametrize("engine", ENGINES)
def test_another_engine_reads_the_same_rows(read_by_us, read_by_others, engine):
    """Every table has the rows that our reader gives, to the last bit."""
    assert {name: read[engine] for name, read in read_by_others.items()} == read_by_us


def test_every_table_was_opened(read_by_others):
    """No table of a contract is left out, and none is empty."""
    assert sorted(read_by_others) == sorted(load_contracts())
    assert all(read["duckdb"]["rows"] >= 400 for read in read_by_others.values())
