"""A capture as a process of its own: started, killed, waited for and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("cryptolake")
LOOK_SECONDS = 0.01
STOP_SECONDS = 60.0


class LateError(AssertionError):
    """Something did not happen in time."""


class Capturing:
    """`cryptolake stream` in *home*; what it logs is kept there, in `stream.log`."""

    def __init__(self, home: Path, variables: Mapping[str, str], instruments: Sequence[str]) -> None:
        self.home = home
        self.landed = threading.Event()
        """Set when something has landed since it was cleared."""
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CRYPTOLAKE_")},
            **variables,
            "CRYPTOLAKE_HOME": str(home),
            "CRYPTOLAKE_CAPTURE__INSTRUMENTS": ",".join(instruments),
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "stream.log"

    def start(self) -> None:
        """Start it, or start it again."""
        self._process = subprocess.Popen(
            [SCRIPT, "stream"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """Kill it, as the kernel does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to stop; it has to end with status 0."""
        status = self._end(signal.SIGTERM)
        assert status == 0, f"the capture ended with status {status}:\n{self.tail()}"

    def close(self) -> None:
        """Kill it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def until(self, is_so: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until something is so; the capture must not end meanwhile."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                raise LateError(f"{what}: not within {seconds:.0f} s; see {self.log}")
            assert self._process is not None
            try:
                status = self._process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the capture ended with status {status}:\n{self.tail()}")

    def tail(self) -> str:
        """Return the last that it said."""
        return self.log.read_text()[-3000:]

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        assert self._reader is not None
        self._process.send_signal(number)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise LateError(f"the capture did not end within {STOP_SECONDS:.0f} s; see {self.log}") from None
        self._reader.join()
        return status

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with self.log.open("a") as log, process.stdout:
            log.write(f"--- process {process.pid}\n")
            for line in process.stdout:
                log.write(line)
                log.flush()
                if '"spool.landed"' in line:
                    self.landed.set()
