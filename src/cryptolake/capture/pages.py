"""
Rows of a damaged SQLite file, read from its pages themselves.

Nothing is believed but what stands on a page: neither the header nor the tree that leads to it, so one
damaged page costs only what was on it. Rows may be stale or torn; the caller checks them.

File format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cryptolake.capture.wal import PAGE_BYTES, frames

LEAF_OF_TABLE, LEAF_OF_INDEX = 0x0D, 0x0A
MOST_LOCAL = PAGE_BYTES - 35
LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
BLOB, TEXT = 12, 13

Value = int | bytes | str | None


def rows_of_pages(path: Path, *, columns: int) -> Iterator[tuple[int, list[Value]]]:
    """
    Yield rowid and values of all rows with so many *columns*, in no order, and some more than once.

    Tables without a rowid, and indexes, have 0 for it; of these only short rows are right. Pages of the write-ahead
    log stand in the place of older ones; where some of them are damaged, a second time without these.
    """
    logged = frames(path)
    sound = [frame for frame in logged if frame.is_sound]
    yield from _rows(path, {frame.number: frame.page for frame in logged}, columns)
    if len(sound) < len(logged):
        yield from _rows(path, {frame.number: frame.page for frame in sound}, columns)


def _rows(path: Path, newer: Mapping[int, bytes], columns: int) -> Iterator[tuple[int, list[Value]]]:
    """Yield the rows of the file at *path* with the pages *newer* in the place of its own."""
    if not path.exists():
        return
    with path.open("rb") as file:

        def page(number: int) -> bytes:
            if number in newer:
                return newer[number]
            file.seek((number - 1) * PAGE_BYTES)
            return file.read(PAGE_BYTES)

        count = path.stat().st_size // PAGE_BYTES
        added = [number for number in newer if number > count]
        for number in (*range(2, count + 1), *added):
            leaf = page(number)
            if leaf[0] not in {LEAF_OF_TABLE, LEAF_OF_INDEX}:
                continue
            for n in range(int.from_bytes(leaf[3:5], "big")):
                try:
                    rowid, record = _cell(leaf, n, page, (count + len(added)) * PAGE_BYTES)
                    yield rowid, _values(record, columns)
                except (IndexError, ValueError):
                    continue


def _cell(leaf: bytes, n: int, page: Callable[[int], bytes], most_bytes: int) -> tuple[int, bytes]:
    """Return rowid and record of the cell *n* of a page, together with what lies on other pages."""
    size, at = _varint(leaf, int.from_bytes(leaf[8 + 2 * n : 10 + 2 * n], "big"))
    rowid, at = _varint(leaf, at) if leaf[0] == LEAF_OF_TABLE else (0, at)
    if size <= MOST_LOCAL:
        return rowid, leaf[at : at + size]
    if size > most_bytes:
        raise ValueError("longer than the file")
    local = LEAST_LOCAL + (size - LEAST_LOCAL) % (PAGE_BYTES - 4)
    local = local if local <= MOST_LOCAL else LEAST_LOCAL
    parts, missing = [leaf[at : at + local]], size - local
    following = int.from_bytes(leaf[at + local : at + local + 4], "big")
    while missing > 0:
        overflow = page(following) if following else b""
        if len(overflow) < PAGE_BYTES:
            raise ValueError("the chain is broken")
        parts.append(overflow[4 : 4 + missing])
        missing -= PAGE_BYTES - 4
        following = int.from_bytes(overflow[:4], "big")
    return rowid, b"".join(parts)


def _values(record: bytes, columns: int) -> list[Value]:
    end, at = _varint(record, 0)
    kinds: list[int] = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    if len(kinds) != columns:
        raise ValueError("another table")
    values: list[Value] = []
    for kind in kinds:
        if kind in {0, 8, 9}:
            values.append((None, 0, 1)[max(0, kind - 7)])
        elif kind in INTEGER_BYTES:
            values.append(int.from_bytes(record[at : at + INTEGER_BYTES[kind]], "big", signed=True))
            at += INTEGER_BYTES[kind]
        elif kind >= BLOB:
            size = (kind - BLOB) // 2
            content = record[at : at + size]
            values.append(content.decode() if kind % 2 == TEXT % 2 else content)
            at += size
        else:
            raise ValueError("a value of another kind")
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(9):
        byte = data[at + n]
        if n == 8:  # noqa: PLR2004 (the ninth byte counts whole)
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 (the last byte of the number)
            return value, at + n + 1
    raise ValueError("no number")
