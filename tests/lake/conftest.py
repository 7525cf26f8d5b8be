"""A fresh lake for each test, and the time that Iceberg stamps snapshots with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyiceberg.table.snapshots
import pytest

from cryptolake.lake import Lake
from tests.lake.shapes import NOON, Calendar, open_lake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """Yield a lake with the shared contracts, and no tables yet."""
    with open_lake(tmp_path) as lake:
        yield lake


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    """Put the time of snapshots into the hands of the test."""
    calendar = Calendar(NOON)
    monkeypatch.setattr(pyiceberg.table.snapshots, "time", SimpleNamespace(time=calendar.time))
    return calendar
