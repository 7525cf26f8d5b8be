"""A disk that fills up loses nothing: the run says so, and the next one goes on where there is room again."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.commands import NOON, SCRIPT, Shell
from tests.replayed import KNOWN_DAYS, POINTS

pytestmark = pytest.mark.slow

DISK_KB = 16_384
NO_MOUNTS = 77
FILL_UP_THEN_MAKE_ROOM = """
mount -t tmpfs -o size="${DISK_KB}k" tmpfs "$CRYPTOLAKE_HOME" || exit 77
head -c "$((DISK_KB - FREE_KB))k" /dev/zero > "$CRYPTOLAKE_HOME/in-the-way"
"$1" run --as-of "$AS_OF" || echo "status $?" >&2
rm "$CRYPTOLAKE_HOME/in-the-way"
"$1" run --as-of "$AS_OF" --json || exit 1
"$1" query -f jsonl "select coin_id, count(*) as points, count(distinct timestamp_ms) as times from bronze.historical_prices group by 1 order by 1"
"$1" query -f jsonl "select coin_id, count(*) as days, count(price_usd) as prices from gold.fact_market_daily group by 1 order by 1"
"""
COINS = ("bitcoin", "ethereum", "solana")


def fill_up(shell: Shell, free_kb: int) -> subprocess.CompletedProcess[str]:
    """Run twice on a disk of its own: first with *free_kb* of room, then with plenty."""
    shell.home.mkdir()
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", FILL_UP_THEN_MAKE_ROOM, "sh", SCRIPT],
        env={
            **os.environ,
            **shell.variables,
            "DISK_KB": str(DISK_KB),
            "FREE_KB": str(free_kb),
            "AS_OF": NOON,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NO_MOUNTS or "unshare:" in done.stderr:
        pytest.skip("needs leave to mount a file system: run as root, or allow user namespaces")
    return done


def assert_all_is_there(done: subprocess.CompletedProcess[str]) -> None:
    """Demand whole tables after the second run."""
    assert done.returncode == 0, done.stdout
    bronze = [f'{{"coin_id":"{coin}","points":{POINTS},"times":{POINTS}}}' for coin in COINS]
    gold = [f'{{"coin_id":"{coin}","days":{KNOWN_DAYS},"prices":{KNOWN_DAYS}}}' for coin in COINS]
    assert done.stdout.splitlines()[-6:] == [*bronze, *gold]


def assert_said(done: subprocess.CompletedProcess[str]) -> None:
    """Demand one clear message from the first run."""
    message, status = done.stderr.splitlines()
    assert ("the disk is full" in message, "not expected" in message, status) == (True, False, "status 2"), (
        done.stderr
    )


@pytest.mark.parametrize("free_kb", [100, 600])
def test_a_full_disk_loses_nothing(shell, free_kb):
    """Exit status 2, one message that says that the disk is full, and a rerun that completes every table."""
    done = fill_up(shell, free_kb)
    assert_said(done)
    assert_all_is_there(done)


@pytest.mark.deep
@pytest.mark.parametrize("free_kb", [0, 40, 160, 200, 280, 320, 400, 500, 700, *range(800, 1700, 100)])
def test_a_disk_that_fills_up_at_any_moment_loses_nothing(shell, free_kb):
    """The same, with as much room as ends at other moments of the run, or at none."""
    done = fill_up(shell, free_kb)
    if done.stderr:
        assert_said(done)
    assert_all_is_there(done)
