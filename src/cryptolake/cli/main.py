"""Run the verbs; errors become one clear message and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NoReturn

from cryptolake.cli import standard
from cryptolake.cli.events import log_events
from cryptolake.cli.stopping import exit_stopped, heed_signals
from cryptolake.errors import FREE_SOME_SPACE, NO_ROOM, CryptoLakeError, DiskFullError, OperatorError

NEEDS_A_PERSON, MISSING = 2, 1


def run() -> None:
    """Run the command line in `sys.argv` and exit with its status."""
    debug = "--debug" in sys.argv
    output = standard.take_over()
    log_events("info" if debug else "error")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # gives memory back sooner than Arrow's own
    stops = heed_signals()
    try:
        from cryptolake.cli.app import app

        app()
    except BaseException as e:
        is_done = isinstance(e, SystemExit) and not e.code
        if stops and not is_done:  # whatever libraries on the way have made of it
            exit_stopped(stops[0])
        if output.failure is not None and output.failure in _chain(e):
            _exit_without_output(output.failure)
        if debug or not isinstance(e, Exception):
            raise
        _say(_message(e))
        is_transient = isinstance(e, CryptoLakeError) and not isinstance(e, OperatorError)
        sys.exit(MISSING if is_transient else NEEDS_A_PERSON)


def _exit_without_output(failure: OSError) -> NoReturn:
    """Exit with 0 if whoever read us has had enough."""
    failure.with_traceback(None)  # lest it keeps an engine alive until the very end, which complains of that
    if isinstance(failure, BrokenPipeError):
        sys.exit(0)
    _say(f"error: the output cannot be written: {failure.strerror}")
    sys.exit(NEEDS_A_PERSON)


def _message(error: Exception) -> str:
    is_out_of_room = any(isinstance(e, OSError) and e.errno in NO_ROOM for e in _chain(error))
    if is_out_of_room and not isinstance(error, DiskFullError):
        return f"error: the disk is full ({error}). {FREE_SOME_SPACE}"
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
