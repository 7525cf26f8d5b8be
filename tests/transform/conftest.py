"""One warm dbt for all tests of the transformation, and lakes to run it on."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.transform.run import Transform
from tests.transform.market import NOW, Market


@pytest.fixture(scope="session")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Transform:
    """The models' runner, which parses the project once."""
    return Transform(tmp_path_factory.mktemp("dbt"))


@pytest.fixture
def market(tmp_path: Path, transform: Transform):
    """A market of its own whose bronze tables are empty."""
    with Lake.open(local_catalog(tmp_path), load_contracts(), Clock.fixed(NOW)) as lake:
        yield Market.open(lake, transform)
