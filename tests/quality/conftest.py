"""The clean lake that checks are run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cryptolake.lake import Lake
from tests.quality.clean_lake import build, copied


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a clean lake that was never checked."""
    home = tmp_path_factory.mktemp("clean")
    build(home)
    return home


@pytest.fixture
def lake(home: Path, tmp_path: Path) -> Iterator[Lake]:
    """Return a copy of the clean lake."""
    with copied(home, tmp_path) as lake:
        yield lake
