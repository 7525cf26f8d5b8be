"""A command that is stopped says so, ends at once, and goes on where it was when it is run again."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cryptolake.replay.answers import Request
from tests.cli.commands import NOON, SCRIPT, Shell
from tests.replayed import POINTS

pytestmark = pytest.mark.slow

STOPPED = "stopped; nothing that was committed is lost, run again to continue\n"
RUN = ("run", "--as-of", NOON)
EACH = pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)


@contextmanager
def held(shell: Shell, coin: str) -> Iterator[Callable[[], None]]:
    """Let the vendor keep *coin* waiting inside the block; yield what waits until somebody asks for it."""
    asked, released = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if coin in request.path:
            asked.set()
            assert released.wait(60)

    def wait() -> None:
        assert asked.wait(60)

    shell.server.inject(hold)
    try:
        yield wait
    finally:
        released.set()


@EACH
def test_a_run_that_waits_for_a_vendor_is_stopped(shell, number, status):
    """It does not wait for the answer, and the next run asks for what is missing."""
    with held(shell, "ethereum") as wait:
        process = shell.start(*RUN)
        wait()
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (status, "", STOPPED)
    again = shell("ingest", "--as-of", NOON)
    assert (again.status, f"{3 * POINTS:,} new rows in bronze.historical_prices" in again.out) == (0, True)


@EACH
def test_a_run_that_transforms_is_stopped(shell, number, status):
    """The engine of the models has no say in it; the next run builds what is missing."""
    process = shell.start(*RUN)
    lines = iter(process.stdout.readline, "")
    assert any("check.bronze" in line for line in lines)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, err) == (status, STOPPED), out + err
    again = shell.run()
    assert (again.status, "✓ check.gold" in again.out) == (0, True)


WHERE_NOTHING_CAN_BE_RAISED = """
import signal, sys, types, threading
from cryptolake.cli.main import run

class Last:
    def __del__(self):
        signal.raise_signal(int(sys.argv[1]))
"""
VERB_THAT_WAITS = """
def verb():
    Last()
    threading.Event().wait(60)

sys.modules["cryptolake.cli.app"] = types.SimpleNamespace(app=verb)
run()
"""
TWO_SIGNALS = """
from cryptolake.cli.stopping import stopping

def verb():
    with stopping() as stop:
        Last()
        assert stop.is_set()
        Last()

sys.modules["cryptolake.cli.app"] = types.SimpleNamespace(app=verb)
run()
"""


@EACH
@pytest.mark.parametrize(
    "script", [VERB_THAT_WAITS, TWO_SIGNALS], ids=["the first", "the second of a stream"]
)
def test_a_signal_is_heeded_wherever_it_lands(number, status, script):
    """Python ignores what is raised in `__del__`, a weak reference's callback or the collector; the command ends all the same."""
    done = subprocess.run(
        [sys.executable, "-c", WHERE_NOTHING_CAN_BE_RAISED + script, str(int(number))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "", STOPPED)


def on_a_terminal(
    shell: Shell, *arguments: str, env: dict[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command on a terminal of its own; return the process and the terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SCRIPT, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={
            **os.environ,
            **shell.variables,
            "TERM": "xterm-256color",
            "COLUMNS": "100",
            "LINES": "40",
            **(env or {}),
        },
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (no threads yet)
    )
    os.close(theirs)
    return process, ours


def shown_on(terminal: int) -> Iterator[str]:
    """Yield all that has been shown on *terminal*, again and again, until nobody writes there any more."""
    yield from map(plain, shown_raw(terminal))


def shown_raw(terminal: int) -> Iterator[bytes]:
    """Yield the same, with the codes that move and colour it."""
    seen = b""
    while True:
        try:
            more = os.read(terminal, 65_536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not more:
            break
        seen += more
        yield seen
    os.close(terminal)


def plain(shown: bytes) -> str:
    """Return what was shown without the codes that move and colour it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))


def test_a_terminal_shows_how_far_an_ingest_is(shell):
    """A bar with coins done, coins in all, a rate and the rows that have landed; it goes when the step ends."""
    with held(shell, "solana") as wait:
        process, terminal = on_a_terminal(shell, "ingest", "--as-of", NOON)
        screens = shown_on(terminal)
        wait()
        assert any(re.search(r"prices .* 2/3 coins +[\d,]+ a minute +0 rows", screen) for screen in screens)
    last = ""
    for screen in screens:
        last = screen
    assert process.wait() == 0
    assert f"✓ ingest.prices      {3 * POINTS:,} new rows in bronze.historical_prices" in last


def test_a_terminal_has_room_for_some_columns(lake_shell):
    """What does not fit is named, not folded into one letter a line."""
    process, terminal = on_a_terminal(lake_shell, "query", "select * from gold.fact_market_daily limit 2")
    *_, last = shown_on(terminal)
    lines = [line.rstrip() for line in last.splitlines()]
    assert process.wait() == 0
    assert all(len(line) <= 100 for line in lines)
    assert any(re.match(r" coin_id +price_date", line) for line in lines)
    said = " ".join(lines)
    assert re.search(r"no room for .*volatility_30d.*; select fewer columns, or add --format csv", said)


def test_a_narrow_terminal_shows_whole_names_and_says_what_it_has_no_room_for(lake_shell):
    """The snapshots of the tables go first; `--json` has them."""
    process, terminal = on_a_terminal(lake_shell, "status", env={"COLUMNS": "60"})
    *_, last = shown_on(terminal)
    assert process.wait() == 0
    assert re.search(r"^ bronze\.historical_prices +[\d,]+ +2024-03-16 +[\d.]+ kB *\r?$", last, re.MULTILINE)
    assert "no room for snapshot; --json has all of it" in last


def test_a_terminal_gets_no_binary(lake_shell):
    """Parquet and Arrow go to files and other programs."""
    process, terminal = on_a_terminal(lake_shell, "query", "select 1", "-f", "parquet")
    *_, last = shown_on(terminal)
    assert (process.wait(), "parquet is binary; add `--output FILE`" in last) == (2, True)


def test_ctrl_c_on_a_terminal_leaves_it_tidy(shell):
    """The bar goes, the cursor comes back, and the message stands on a line of its own."""
    with held(shell, "ethereum") as wait:
        process, terminal = on_a_terminal(shell, *RUN)
        wait()
        os.write(terminal, b"\x03")
        *_, raw = shown_raw(terminal)
        assert process.wait() == 130
    assert plain(raw).splitlines()[-1] == STOPPED.strip()
    assert raw.rfind(b"\x1b[?25h") > raw.rfind(b"\x1b[?25l")
