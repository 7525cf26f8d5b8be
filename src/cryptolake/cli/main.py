"""Run the verbs; errors become one clear message and an exit status."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

from cryptolake.cli.events import log_events
from cryptolake.errors import CryptoLakeError, OperatorError

NEEDS_A_PERSON, MISSING = 2, 1
SIGNALLED = 128
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
GRACE_SECONDS = 10
"""So long may a command that was stopped take to tidy up, before it is ended."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM arrived; *signum* says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def run() -> None:
    """Run the command line in `sys.argv` and exit with its status."""
    debug = "--debug" in sys.argv
    log_events("info" if debug else "error")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # gives memory back sooner than Arrow's own
    stops: list[Stopped] = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, _: _stop(stops, number))
    try:
        from cryptolake.cli.app import app

        app()
    except BaseException as e:
        is_done = isinstance(e, SystemExit) and not e.code
        if stops and not is_done:  # whatever libraries on the way have made of it
            _exit_stopped(stops[0])
        if isinstance(e, SystemExit) and isinstance(e.__context__, BrokenPipeError):
            _let_go_of_output()
            sys.exit(0)
        if debug or not isinstance(e, Exception):
            raise
        _say(_message(e))
        is_transient = isinstance(e, CryptoLakeError) and not isinstance(e, OperatorError)
        sys.exit(MISSING if is_transient else NEEDS_A_PERSON)


def _stop(stops: list[Stopped], signum: int) -> None:
    stops.append(Stopped(signum))
    signal.alarm(GRACE_SECONDS)
    raise stops[-1]


def _exit_stopped(stopped: Stopped) -> None:
    """Exit without waiting for threads: what is on disk is whole, and a library's thread may never end."""
    _say("stopped; nothing that was committed is lost, run again to continue")
    with suppress(OSError):
        sys.stdout.flush()
    atexit._run_exitfuncs()  # noqa: SLF001 (there is no other way to exit with them and without the threads)
    os._exit(SIGNALLED + stopped.signum)


def _message(error: Exception) -> str:
    if any(
        isinstance(e, OSError) and e.errno in NO_ROOM for e in _chain(error)
    ) and "disk is full" not in str(error):
        return (
            f"error: the disk is full ({error}). Nothing that was committed is lost; "
            "free some space (`cryptolake maintain` removes files no longer needed), then run again."
        )
    if isinstance(error, CryptoLakeError):
        return f"error: {error}"
    return f"error: {type(error).__name__}: {error}\nThis is not expected; `--debug` shows where it happened."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error* and the errors that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _let_go_of_output() -> None:
    """Let what is still to be printed go nowhere: whoever read us has had enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
