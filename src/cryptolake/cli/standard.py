"""Standard output and standard error: the loss of the one is an error, the loss of the other never is."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.FileIO):
    """Standard output; the first `failure` to write is raised, and what comes after it goes nowhere."""

    def __init__(self) -> None:
        super().__init__(1, "w", closefd=False)
        self.failure: OSError | None = None
        self._is_terminal = self.isatty()

    def write(self, content: ReadableBuffer, /) -> int | None:
        """Write *content*; a terminal that was closed has nobody who would miss it."""
        if self.failure is None:
            try:
                return super().write(content)
            except OSError as e:
                self.failure = e
                if not (self._is_terminal and e.errno == errno.EIO):
                    raise
        return memoryview(content).nbytes


class Errors(io.FileIO):
    """Standard error; what cannot be written there is dropped, and what it tells of goes on."""

    def __init__(self) -> None:
        super().__init__(2, "w", closefd=False)

    def write(self, content: ReadableBuffer, /) -> int:
        """Write what can be written of *content*."""
        try:
            written = super().write(content)
        except OSError:
            written = None
        return memoryview(content).nbytes if written is None else written


def take_over() -> Output:
    """Let this process print through `Output` and `Errors`, unless it prints elsewhere already; return the first."""
    _open_what_is_closed()
    output = Output()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(output, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(Errors(), sys.stderr, line_buffering=True)
    return output


def _open_what_is_closed() -> None:
    """Open nothing in place of a closed standard file, lest the next file that is opened has its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def _text(file: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> io.TextIOWrapper:
    """Return a text file that writes to *file* in the way of the one *before*; there is none if it was closed."""
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", line_buffering=line_buffering)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
