"""How a command is stopped: by Ctrl-C, by SIGTERM, and by SIGHUP when its terminal is closed."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, main_thread
from typing import NoReturn

SIGNALLED = 128
GRACE_SECONDS = 10
"""So long may a command that was stopped take to tidy up, before it is ended."""
AGAIN_SECONDS = 0.02
SAID = "stopped; nothing that was committed is lost, run again to continue"
SHOW_CURSOR = b"\x1b[?25h"


class Stopped(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP arrived; *signum* says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def heed_signals() -> list[Stopped]:
    """Let signals that stop a command raise `Stopped` in it; return where those that came are noted."""
    stops: list[Stopped] = []

    def stop(signum: int, _: object) -> None:
        if not stops:
            signal.alarm(GRACE_SECONDS)
        stops.append(Stopped(signum))
        raise stops[-1]

    for signum in _stopping_signals():
        signal.signal(signum, stop)
    _raise_again_what_is_ignored()
    return stops


@contextmanager
def stopping() -> Iterator[Event]:
    """Yield what the first signal sets that stops a command; the second one ends the process at once."""
    stop = Event()

    def ask(signum: int, _: object) -> None:
        if stop.is_set():
            _end_at_once(signum)
        stop.set()

    before = {signum: signal.signal(signum, ask) for signum in _stopping_signals()}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def exit_stopped(stopped: Stopped) -> NoReturn:
    """Exit without waiting for threads: what is on disk is whole, and a library's thread may never end."""
    sys.stderr.write(SAID + "\n")
    with suppress(OSError):
        sys.stdout.flush()
    atexit._run_exitfuncs()  # noqa: SLF001 (there is no other way to exit with them and without the threads)
    os._exit(SIGNALLED + stopped.signum)


def _end_at_once(signum: int) -> NoReturn:
    """End from within a handler, which may have come in the middle of anything, printing included."""
    with suppress(OSError):
        if os.isatty(1):
            os.write(1, SHOW_CURSOR + b"\r\n")
        os.write(2, f"{SAID}\n".encode())
    os._exit(SIGNALLED + signum)


def _stopping_signals() -> list[signal.Signals]:
    """Return the signals that stop a command; SIGHUP is none where it is ignored, as under `nohup`."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_ignored else [signal.SIGHUP])]


def _raise_again_what_is_ignored() -> None:
    """
    Send a signal once more whose `Stopped` nobody could catch.

    Python ignores what is raised in `__del__`, in a weak reference's callback and in the collector.
    """
    others = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            _thread.start_new_thread(_send_soon, (unraisable.exc_value.signum,))
        else:
            others(unraisable)

    sys.unraisablehook = hook


def _send_soon(signum: int) -> None:
    time.sleep(AGAIN_SECONDS)
    signal.pthread_kill(main_thread().ident or 0, signum)
