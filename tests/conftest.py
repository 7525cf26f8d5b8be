"""The fixtures that tests share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog

NOW = datetime(2024, 3, 16, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def recordings(pytestconfig) -> Path:
    """The folder of the original recordings; the test is skipped without it."""
    folder = pytestconfig.getoption("recordings") or Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the original recordings: make test-recordings RECORDINGS=<their folder>")
    return folder


@pytest.fixture
def clock() -> Clock:
    """A clock whose data time stands still, and that never waits."""
    return Clock(now=lambda: NOW, sleep=lambda _: None)


@pytest.fixture
def lake(tmp_path, clock):
    """An empty lake of its own in a temporary folder."""
    with Lake.open(local_catalog(tmp_path / "lake"), load_contracts(), clock) as opened:
        yield opened
