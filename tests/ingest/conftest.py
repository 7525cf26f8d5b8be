"""A replay server with a lake beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.replayed import Town


@pytest.fixture
def town(tmp_path) -> Iterator[Town]:
    """Three coins and the index over 120 days, at noon, and an empty lake."""
    with Town.opened(tmp_path) as opened:
        yield opened
