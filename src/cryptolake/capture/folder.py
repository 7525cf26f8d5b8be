"""The spool's folder: one capture at a time, and what the disk says when it breaks."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cryptolake.capture.wal import frames
from cryptolake.errors import NO_ROOM, DiskFullError, OperatorError

LOCK = "lock"
DAMAGED = (
    "not a database",
    "malformed",
    "unsupported file format",
    "corrupt",
    "no such table",
    "no such column",
)


class SpoolDamagedError(OperatorError):
    """The spool's file does not hold what was written to it; *what* says so without the way out."""

    def __init__(self, path: Path, said: str) -> None:
        self.what = f"the spool {path} is damaged ({said})"
        super().__init__(
            f"{self.what}: start again, and it is set aside, what can be read of it is kept, "
            "and the rest is fetched from the venues"
        )


def claim(folder: Path) -> IO[str]:
    """
    Return the open lock of *folder*, which is made where there is none; the claim ends when it is closed.

    Raises:
        OperatorError: another process has it, or the folder cannot be written.
    """
    import fcntl

    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        lock.seek(0)
        pid = lock.read().strip()
        lock.close()
        raise OperatorError(
            f"another capture{f' (process {pid})' if pid.isdecimal() else ''} is running on {folder.parent}: "
            "stop it first, or give this one another `home`"
        ) from e
    with explained(folder):
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    return lock


def refuse_damaged(path: Path) -> None:
    """Raise `SpoolDamagedError` for damage to the file *path* or its log that SQLite would not speak of."""
    size = path.stat().st_size if path.exists() else 0
    if size:
        _refuse_damaged_header(path)
    logged = frames(path)
    for n, frame in enumerate(logged, 1):
        if not frame.is_sound:
            raise SpoolDamagedError(path, f"frame {n} of its write-ahead log is not as it was written")
    if logged and not size:
        path.touch()
        raise SpoolDamagedError(path, "only its write-ahead log is left")


def _refuse_damaged_header(path: Path) -> None:
    """Refuse what SQLite would take for a file of another kind, or one that it may only read."""
    with path.open("rb") as file:
        header = file.read(20)
    if header[:16] != b"SQLite format 3\0" or set(header[18:]) - {1, 2}:
        raise SpoolDamagedError(path, "its header is not SQLite's")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise what SQLite and the disk say of *path* as `OperatorError`, and damage as `SpoolDamagedError`."""
    try:
        yield
    except sqlite3.Error as e:
        said = str(e)
        if "disk is full" in said:
            raise _full(path) from e
        if any(sign in said for sign in DAMAGED):
            raise SpoolDamagedError(path, said) from e
        if "readonly" in said or "unable to open" in said:
            raise OperatorError(_unwritable(path, said)) from e
        raise OperatorError(f"the spool {path} failed: {said}. {_reassurance()}") from e
    except OSError as e:
        if e.errno in NO_ROOM:
            raise _full(path) from e
        if e.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise OperatorError(_unwritable(path, str(e))) from e
        raise OperatorError(f"the spool {path} failed: {e}. {_reassurance()}") from e


def _full(path: Path) -> DiskFullError:
    return DiskFullError.under(path, f", and {path} cannot grow. {_reassurance()}")


def _unwritable(path: Path, said: str) -> str:
    return f"the spool {path} cannot be written ({said}); check the folder's owner and permissions, or set another `home`"


def _reassurance() -> str:
    return "Nothing that was acknowledged is lost; make room and start again, and what was missed is fetched"
