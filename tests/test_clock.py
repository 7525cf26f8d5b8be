"""The clock: where "now" and waiting come from."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from cryptolake.clock import Clock

NOON = datetime(2024, 3, 16, 12, tzinfo=UTC)


def test_a_clock_tells_utc():
    """Every time is a zoned datetime in UTC, never a naive one."""
    assert Clock().now().tzinfo is UTC


def test_a_fixed_clock_stands_still():
    """The data's present is what was said, however long the work takes."""
    clock = Clock.fixed(NOON)
    assert clock.now() == clock.now() == NOON


def test_a_fixed_clock_turns_other_zones_into_utc():
    """The same instant is told in UTC, whatever zone it was said in."""
    said = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Clock.fixed(said).now().isoformat() == "2024-03-16T12:00:00+00:00"


def test_a_fixed_clock_still_measures_real_waiting():
    """Rate limits and time-outs are about this machine, not about the data's time."""
    clock = Clock.fixed(NOON)
    assert clock.monotonic is time.monotonic
    assert clock.sleep is time.sleep


def test_a_clock_cannot_be_changed():
    """A clock is passed down, so nobody below may turn it."""
    with pytest.raises(AttributeError):
        Clock.fixed(NOON).now = None
