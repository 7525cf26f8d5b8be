"""
The write-ahead log of a SQLite file, frame by frame.

SQLite believes a log up to the first frame that is not as it was written, and forgets what follows; here that is
read too. When all of a log is in the file, it is written from its start again: a new round with salts of its own,
behind whose last frame those of older rounds may still stand.

File formats: https://www.sqlite.org/fileformat2.html#walformat and https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import struct
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

PAGE_BYTES = 4096
HEADER_BYTES, FRAME_HEADER_BYTES, INDEX_HEADER_BYTES = 32, 24, 48
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
BYTE_ORDERS = {0x377F0682.to_bytes(4, "big"): "<", 0x377F0683.to_bytes(4, "big"): ">"}
"""Of the words that checksums are made of, by how the header begins."""


class Frame(NamedTuple):
    """A *page* of the file, as it was logged under its *number*; *is_sound* where all of it is as it was written."""

    number: int
    page: bytes
    is_sound: bool


def frames(path: Path) -> list[Frame]:
    """
    Return what the log beside the file *path* holds of its newest round, oldest first, up to the last commit.

    A frame is of the round if it has the salts or continues one that is, or if such a frame follows. What follows the
    last commit was never acknowledged, and a kill may have left any part of it.
    """
    log = path.with_name(f"{path.name}-wal")
    if not log.exists():
        return []
    with log.open("rb") as file:
        header = file.read(HEADER_BYTES)
        written = [each for each in iter(partial(file.read, FRAME_BYTES), b"") if len(each) == FRAME_BYTES]
    if not written:
        return []
    found: list[Frame] = []
    order = BYTE_ORDERS.get(header[:4], "<")
    salts, before = _start(header, order, written)
    end, is_ours = 0, True
    for each in written:
        has_salts = each[8:16] == salts
        continues = (has_salts or is_ours) and _continues(each, before, order)
        is_ours, is_sound = has_salts or continues, has_salts and continues
        found.append(Frame(int.from_bytes(each[:4], "big"), each[FRAME_HEADER_BYTES:], is_sound))
        if is_ours and _commits(each):
            end = len(found)
        before = each[16:24]
    return found[: max(end, _indexed(path, salts))]


def _start(header: bytes, order: str, written: list[bytes]) -> tuple[bytes, bytes]:
    """
    Return the salts of the newest round, and the checksum that its first frame continues.

    Where the header is damaged, that checksum is none that a frame continues, and the salts are those of the first
    frame that continues the one before it.
    """
    if header[:4] in BYTE_ORDERS and header[24:] == _checksum(bytes(8), header[:24], order):
        return header[16:24], header[24:]
    continuing = (each for before, each in pairwise(written) if _continues(each, before[16:24], order))
    return next(continuing, written[0])[8:16], bytes(8)


def _commits(frame: bytes) -> bool:
    """Say whether *frame* ends a transaction: then it has the size of the file."""
    return frame[4:8] != bytes(4)


def _indexed(path: Path, salts: bytes) -> int:
    """
    Return how many frames of the round with *salts* were committed by SQLite's index of the log; 0 if it is of another.

    It outlives a kill, not the power, and knows of a commit whose frame does not tell it any more.
    """
    index = path.with_name(f"{path.name}-shm")
    if not index.exists():
        return 0
    with index.open("rb") as file:
        header = file.read(INDEX_HEADER_BYTES)
    return int.from_bytes(header[16:20], sys.byteorder) if header[32:40] == salts else 0


def _continues(frame: bytes, before: bytes, order: str) -> bool:
    """Say whether the checksum of *frame* is right behind a frame, or a header, with the checksum *before*."""
    return frame[:4] != bytes(4) and frame[16:24] == _checksum(
        before, frame[:8] + frame[FRAME_HEADER_BYTES:], order
    )


def _checksum(before: bytes, content: bytes, order: str) -> bytes:
    first, second = struct.unpack(">II", before)
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)
