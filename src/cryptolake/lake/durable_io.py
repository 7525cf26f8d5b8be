"""
A PyIceberg `FileIO` whose local files are on disk before the catalog names them.

PyIceberg and PyArrow never call fsync, so a power cut could leave a committed snapshot that
points at lost files. Here closing a local file syncs it and the folder that names it, and once a
process the folders above.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO


class DurableFileIO(PyArrowFileIO):
    """`PyArrowFileIO` that syncs what it writes to the local file system."""

    def new_output(self, location: str) -> PyArrowFile:
        """Return the file at *location* for writing; closing it makes it durable."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        kind = _DurableFile if scheme == "file" else PyArrowFile
        return kind(location=location, path=path, fs=self.fs_by_scheme(scheme, netloc))


class _DurableFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> Any:
        return _DurableStream(super().create(overwrite), Path(self._path))


class _DurableStream:
    """An output stream that syncs its file and folders when closed."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path = stream, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._stream.closed:
            return
        self._stream.close()
        folder = self._path.parent
        sync(self._path)
        sync(folder)
        _anchor(folder, folder.stat().st_ino)


@lru_cache(maxsize=4096)
def _anchor(folder: Path, inode: int) -> None:  # noqa: ARG001 (a folder that was made anew is another one)
    """Make sure that *folder* itself is on disk, and those above it; once is enough."""
    above = folder.parent
    if above == folder:
        return
    with suppress(PermissionError):  # we have made nothing where we may not look
        sync(above)
    _anchor(above, above.stat().st_ino)


def sync(path: Path) -> None:
    """Wait until the file or folder *path* is on disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
