"""A disk that fills up loses nothing: the run says so, and the next one goes on where there is room again."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import NOON, SCRIPT, Said, Shell, with_mounts
from tests.replayed import KNOWN_DAYS, POINTS

pytestmark = pytest.mark.slow

DISK_KB = 16_384
FILL_UP_THEN_MAKE_ROOM = """
mount -t tmpfs -o size="${DISK_KB}k" tmpfs "$CRYPTOLAKE_HOME" || exit 77
head -c "$((DISK_KB - FREE_KB))k" /dev/zero > "$CRYPTOLAKE_HOME/in-the-way"
"$1" run --as-of "$AS_OF" || echo "status $?" >&2
rm "$CRYPTOLAKE_HOME/in-the-way"
"$1" run --as-of "$AS_OF" --json || exit 1
"$1" query -f jsonl "
    select coin_id, points, times, days
    from (select coin_id, count(*) as points, count(distinct timestamp_ms) as times from bronze.historical_prices group by 1)
    join (select coin_id, count(price_usd) as days from gold.fact_market_daily group by 1) using (coin_id) order by 1
"
"""
COINS = ("bitcoin", "ethereum", "solana")


def fill_up(shell: Shell, free_kb: int) -> Said:
    """Run twice on a disk of its own: first with *free_kb* of room, then with plenty."""
    shell.home.mkdir()
    sizes = {"DISK_KB": str(DISK_KB), "FREE_KB": str(free_kb), "AS_OF": NOON}
    return with_mounts(FILL_UP_THEN_MAKE_ROOM, SCRIPT, env={**shell.variables, **sizes})


def assert_all_is_there(said: Said) -> None:
    """Demand whole tables after the second run."""
    assert said.status == 0, said.out
    found = [json.loads(line) for line in said.out.splitlines()[-3:]]
    assert found == [
        {"coin_id": coin, "points": POINTS, "times": POINTS, "days": KNOWN_DAYS} for coin in COINS
    ]


def assert_said(said: Said) -> None:
    """Demand one clear message from the first run."""
    message, status = said.err.splitlines()
    assert ("the disk is full" in message, "not expected" in message, status) == (True, False, "status 2"), (
        said.err
    )


@pytest.mark.parametrize("free_kb", [100, 600])
def test_a_full_disk_loses_nothing(shell, free_kb):
    """Exit status 2, one message that says that the disk is full, and a rerun that completes every table."""
    said = fill_up(shell, free_kb)
    assert_said(said)
    assert_all_is_there(said)


@pytest.mark.deep
@pytest.mark.parametrize("free_kb", [0, 40, 160, 200, 280, 320, 400, 500, 700, *range(800, 1700, 100)])
def test_a_disk_that_fills_up_at_any_moment_loses_nothing(shell, free_kb):
    """The same, with as much room as ends at other moments of the run, or at none."""
    said = fill_up(shell, free_kb)
    if said.err:
        assert_said(said)
    assert_all_is_there(said)
