"""
Read Binance's archive of spot trades: zipped CSV files of a day or a month, with checksums.

https://github.com/binance/binance-public-data. Times are in milliseconds before 2025 and in microseconds
since; a header row is there or not.
"""

from __future__ import annotations

import random
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO

import structlog

from cryptolake.clock import Clock
from cryptolake.errors import (
    NotPublishedError,
    OperatorError,
    SourceRefusedError,
)
from cryptolake.sources.binance.trade_lines import TradeLines
from cryptolake.sources.http import PoliteClient, Vendor
from cryptolake.sources.venue import ArchivePiece

PIECE_BYTES = 32 << 20
"""How much of a file is parsed at a time: about 450,000 trades."""

_NOT_FOUND = 404
_ATTEMPTS = 2
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

log = structlog.get_logger(__name__)


def opened(url: str, clock: Clock, rng: random.Random) -> AbstractContextManager[PoliteClient]:
    """Open the archive at *url*."""
    return PoliteClient.open(
        Vendor("binance archive", url, refusal), requests_per_minute=120, clock=clock, rng=rng
    )


def refusal(status: int, path: str, body: bytes) -> OperatorError | NotPublishedError:  # noqa: ARG001 (a page of HTML)
    """Turn the archive's "no" into an error: a file that is not there may come yet."""
    if status == _NOT_FOUND:
        return NotPublishedError(f"binance's archive does not have {path}, or not yet")
    return SourceRefusedError(
        f"binance's archive refuses {path} (HTTP {status}); check sources.binance.archive_url"
    )


def pieces(
    files: PoliteClient, path: str, symbol: str, *, piece_bytes: int = PIECE_BYTES
) -> Iterator[ArchivePiece]:
    """
    Yield the trades of the archive file at *path*, by rising id, *piece_bytes* of its text at a time.

    The file is downloaded whole and its checksum verified before the first piece.

    Raises:
        NotPublishedError: there is no such file, or not yet.
        SourceRefusedError: its checksum is wrong, twice, or it is not a zip file of one CSV.
        SourceDownError: the archive does not answer.

    """
    with tempfile.TemporaryFile(prefix="cryptolake-archive-") as file:
        _fetch(files, path, file)
        try:
            with zipfile.ZipFile(file) as zipped:
                (name,) = zipped.namelist()
                with zipped.open(name) as lines:
                    yield from _parsed(lines, symbol, piece_bytes)
        except (zipfile.BadZipFile, ValueError, EOFError) as broken:
            raise SourceRefusedError(
                f"binance's archive file {path} is not a zip of one CSV, though its checksum is right ({broken}); "
                "run again when the archive was mended"
            ) from broken


def _fetch(files: PoliteClient, path: str, file: IO[bytes]) -> None:
    """Download *path* into *file* until its checksum is right, twice at most."""
    expected: str | None = None
    found = ""
    for attempt in range(_ATTEMPTS):
        expected = files.get(f"{path}.CHECKSUM", {}, lambda body, _: _checksum(body))
        found = files.download(path, file)
        if found == expected:
            return
        log.warning("archive.checksum_wrong", path=path, attempt=attempt + 1, expected=expected, found=found)
    if expected is None:
        raise SourceRefusedError(
            f"the archive's checksum file {path}.CHECKSUM of binance cannot be read, twice: it has no SHA-256. "
            f"Nothing of {path} was kept; run again when the archive was mended"
        )
    raise SourceRefusedError(
        f"binance's archive file {path} does not match its checksum, twice: {expected} was promised, "
        f"{found} came. Nothing of it was kept; run again when the archive was mended"
    )


def _checksum(body: bytes) -> str | None:
    """Return the digest of a file as `sha256sum` writes it; None where there is none, which never matches."""
    digest = body.decode("ascii", "replace").split(maxsplit=1)[:1]
    return digest[0].lower() if digest and _SHA256.fullmatch(digest[0]) else None


def _parsed(stream: IO[bytes], symbol: str, piece_bytes: int) -> Iterator[ArchivePiece]:
    """Cut *stream* into pieces of whole lines and parse them."""
    lines = TradeLines(symbol)
    rest, is_over = b"", False
    while not is_over:
        chunk = stream.read(piece_bytes)
        is_over = len(chunk) < piece_bytes
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if is_over:
            whole, rest = whole + newline + rest, b""
        if whole.strip():
            yield lines.parse(whole)
