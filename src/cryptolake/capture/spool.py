"""`Spool`: what was captured and has not landed, durable in one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import msgspec
import pyarrow as pa

from cryptolake.capture.batch import EventRow, RejectRow, trade_schema
from cryptolake.capture.entries import Changes, Mark, State
from cryptolake.capture.folder import SpoolDamagedError, explained, refuse_damaged
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.pages import rows_of_pages
from cryptolake.capture.ranges import Range
from cryptolake.capture.wal import PAGE_BYTES
from cryptolake.errors import OperatorError

FILE = "trades.db"
FORMAT = "1"
COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")
SPARE_PAGES = 16_384
"""Free pages (64 MiB) that the file keeps for itself; more are given back to the disk."""

BUSY_SECONDS = 10
MOST_BYTES = 128 * 1024**2
"""Of packed blocks that are read at once."""

TABLES = """
    create table meta (key text primary key, value text not null, checksum integer not null) without rowid;
    create table block (
        seq integer primary key autoincrement, trades integer not null, body blob not null, checksum integer not null
    );
    create table mark (
        venue text, symbol text, start integer, mark integer, mark_us integer, checksum integer not null,
        primary key (venue, symbol)
    );
    create table range (
        venue text, symbol text, state text, first integer, last integer, after_us integer, before_us integer,
        checksum integer not null, primary key (venue, symbol, state, first)
    ) without rowid;
"""


@dataclass(frozen=True)
class Block:
    """A batch that was made durable at once: *trades* (see `trade_schema`), gap events and rejects."""

    trades: Sequence[pa.RecordBatch] = ()
    events: list[EventRow] = field(default_factory=list)
    rejects: list[RejectRow] = field(default_factory=list)

    @property
    def trade_count(self) -> int:
        """Return how many trades there are."""
        return sum(batch.num_rows for batch in self.trades)

    def __bool__(self) -> bool:
        return bool(self.trade_count or self.events or self.rejects)


class _Body(msgspec.Struct, array_like=True):
    trades: bytes
    events: list[EventRow]
    rejects: list[RejectRow]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class Spool:
    """
    One file in a folder that one capture uses at a time.

    A writer may append while another thread reads and trims.
    """

    def __init__(
        self, path: Path, write: sqlite3.Connection, read: sqlite3.Connection, identity: str
    ) -> None:
        self.path, self.identity = path, identity
        """*identity* names this very file; positions in the lake are counted for it."""
        self._write, self._read = write, read
        self._lock = threading.Lock()
        self._pending_blocks, self._pending_trades = write.execute(
            "select count(*), coalesce(sum(trades), 0) from block"
        ).fetchone()
        self.lock_file: IO[str] | None = None
        """Closed with the spool; see `folder.claim`."""

    @classmethod
    def open(cls, folder: Path, name: str = FILE) -> Self:
        """
        Open the spool *name* in *folder*, or make it; the folder must be claimed (see `folder.claim`).

        Raises:
            SpoolDamagedError: the file is not a sound spool.
            OperatorError: it cannot be opened or made.
        """
        path = folder / name
        with explained(path):
            refuse_damaged(path)
            write = _connect(path)
            try:
                if not write.execute("select count(*) from sqlite_master").fetchone()[0]:
                    _make(write)
                identity = _sound(write, path)
                return cls(path, write, _connect(path), identity)
            except BaseException:
                write.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and let another capture use the folder."""
        with self._lock, explained(self.path):
            self._read.close()
            self._write.close()
            if self.lock_file:
                self.lock_file.close()

    def settle(self) -> None:
        """
        Bring all that SQLite's log holds into the file, so that the file is the whole spool.

        Raises:
            OperatorError: there is no room for it.
        """
        with self._lock, explained(self.path):
            self._write.execute("pragma wal_checkpoint(truncate)").fetchall()

    def append(self, block: Block, changes: Sequence[tuple[Instrument, Changes]] = ()) -> int:
        """
        Make *block* and what changed in the ledgers durable, in one transaction; return the number of the block.

        Raises:
            OperatorError: it could not be; nothing of it is kept.
        """
        body = _packed(block)
        with self._writing() as db:
            seq = 0
            if block:
                seq = _last_seq(db) + 1
                row = (seq, block.trade_count, body, zlib.crc32(body, seq))
                db.execute("insert into block values (?, ?, ?, ?)", row)
                self._pending_blocks += 1
                self._pending_trades += block.trade_count
            for instrument, changed in changes:
                _save(db, instrument, changed)
        return seq

    def read(self, after: int, max_trades: int) -> list[tuple[int, Block]]:
        """
        Return the blocks with a number above *after*, until they hold *max_trades* trades or 128 MiB; at least one.

        Raises:
            SpoolDamagedError: one does not hold what was written.
        """
        found: list[tuple[int, Block]] = []
        trades = size = 0
        with explained(self.path):
            rows = self._read.execute(
                "select seq, trades, body, checksum from block where seq > ? order by seq", (after,)
            )
            with closing(rows):
                for seq, count, body, checksum in rows:
                    if found and (trades + count > max_trades or size + len(body) > MOST_BYTES):
                        break
                    found.append((seq, _unpacked(self.path, seq, body, checksum)))
                    trades, size = trades + count, size + len(body)
        return found

    def trim(self, upto: int) -> None:
        """Forget the blocks up to number *upto*."""
        with self._writing() as db:
            blocks, trades = db.execute(
                "select count(*), coalesce(sum(trades), 0) from block where seq <= ?", (upto,)
            ).fetchone()
            db.execute("delete from block where seq <= ?", (upto,))
            self._pending_blocks -= blocks
            self._pending_trades -= trades
        with self._lock, explained(self.path):
            spare = self._write.execute("pragma freelist_count").fetchone()[0] - SPARE_PAGES
            if spare > 0:
                self._write.execute(f"pragma incremental_vacuum({min(spare, SPARE_PAGES)})").fetchall()

    def last_seq(self) -> int:
        """Return the number of the newest block that was ever appended; 0 for none."""
        with self._lock, explained(self.path):
            return _last_seq(self._write)

    def pending(self) -> tuple[int, int]:
        """Return how many blocks and trades have not been trimmed."""
        return self._pending_blocks, self._pending_trades

    def used_bytes(self) -> int:
        """
        Return how much of the file is in use, nearly all of it by blocks.

        Pages that are free for later ones do not count, nor does SQLite's log beside the file: it does not shrink
        when blocks land, and is a few megabytes long.
        """
        with self._lock, explained(self.path):
            pages, size, free = (
                self._write.execute(f"pragma {name}").fetchone()[0]
                for name in ("page_count", "page_size", "freelist_count")
            )
            return int((pages - free) * size)

    def saved(self, instrument: Instrument) -> tuple[Mark | None, list[tuple[State, Range]]]:
        """Return the mark and the ranges that were saved for *instrument*."""
        named = (instrument.venue, instrument.stored_as)
        with self._lock, explained(self.path):
            mark = self._write.execute(
                "select start, mark, mark_us from mark where (venue, symbol) = (?, ?)", named
            ).fetchone()
            ranges = self._write.execute(
                "select state, first, last, after_us, before_us from range where (venue, symbol) = (?, ?)",
                named,
            ).fetchall()
        return Mark(*mark) if mark else None, [(state, Range(*rest)) for state, *rest in ranges]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained(self.path):
            self._write.execute("begin immediate")
            try:
                yield self._write
                self._write.execute("commit")
            except BaseException:
                if self._write.in_transaction:
                    self._write.execute("rollback")
                raise


def salvaged_identity(path: Path) -> str | None:
    """Return the identity of the damaged file at *path*, where it can be read."""
    for _, (key, value, checksum) in rows_of_pages(path, columns=3):
        if key == "identity" and isinstance(value, str) and checksum == _checksum(key, value):
            return value
    return None


def salvaged_blocks(path: Path) -> Iterator[tuple[int, Block]]:
    """
    Yield the blocks of the damaged file at *path* that still hold what was written, with their numbers.

    They come in no order, and some may have been trimmed already.
    """
    seen: set[int] = set()
    for seq, (_, _, body, checksum) in rows_of_pages(path, columns=4):
        with suppress(SpoolDamagedError):
            if seq not in seen and isinstance(body, bytes) and isinstance(checksum, int):
                block = _unpacked(path, seq, body, checksum)
                seen.add(seq)
                yield seq, block


def salvaged_marks(path: Path) -> dict[tuple[str, str], Mark]:
    """Return by venue and symbol the widest marks that still can be read of the damaged file at *path*."""
    found: dict[tuple[str, str], Mark] = {}
    for _, (venue, symbol, start, mark, mark_us, checksum) in rows_of_pages(path, columns=6):
        if (
            isinstance(venue, str)
            and isinstance(symbol, str)
            and isinstance(start, int)
            and isinstance(mark, int)
        ):
            row = (venue, symbol, start, mark, mark_us)
            if checksum == _checksum(*row):
                old = found.get((venue, symbol), Mark(start, mark, None))
                found[venue, symbol] = Mark(min(start, old.start), max(mark, old.mark), None)
    return found


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"pragma page_size = {PAGE_BYTES}")
        db.execute("pragma auto_vacuum = incremental")
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute("pragma journal_size_limit = 67108864")
    except BaseException:
        db.close()
        raise
    return db


def _make(db: sqlite3.Connection) -> None:
    db.execute("begin immediate")
    for statement in filter(str.strip, TABLES.split(";")):
        db.execute(statement)
    for key, value in (("format", FORMAT), ("identity", str(uuid.uuid4()))):
        db.execute("insert into meta values (?, ?, ?)", (key, value, _checksum(key, value)))
    db.execute("commit")


def _sound(db: sqlite3.Connection, path: Path) -> str:
    """Return the identity of a spool after a look at every byte of it; `SpoolDamagedError` where one is wrong."""
    if (said := db.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
        raise SpoolDamagedError(path, said)
    try:
        meta = dict(_checked(db, path, "meta", 2))
        if meta.get("format", FORMAT) != FORMAT:
            raise OperatorError(
                f"the spool {path} was written by another release (format {meta['format']}, this one reads {FORMAT}): "
                "let that release land it, or move it away"
            )
        identity = meta["identity"]
        for table, width in (("mark", 5), ("range", 7)):
            for _ in _checked(db, path, table, width):
                pass
        expected = None
        for seq, body, checksum in db.execute("select seq, body, checksum from block order by seq"):
            if expected not in {None, seq}:
                raise SpoolDamagedError(path, f"block {expected} is gone")
            _unpacked(path, seq, body, checksum)
            expected = seq + 1
        if expected is not None and expected != _last_seq(db) + 1:
            raise SpoolDamagedError(path, f"block {expected} is gone")
    except (KeyError, TypeError, ValueError, sqlite3.OperationalError) as e:
        raise SpoolDamagedError(path, str(e)) from e
    return identity


def _checked(db: sqlite3.Connection, path: Path, table: str, width: int) -> Iterator[tuple[Any, ...]]:
    for row in db.execute(f"select * from {table}"):
        if row[width] != _checksum(*row[:width]):
            raise SpoolDamagedError(path, f"a row of {table} has a wrong checksum")
        yield row[:width]


def _last_seq(db: sqlite3.Connection) -> int:
    row = db.execute("select seq from sqlite_sequence where name = 'block'").fetchone()
    return row[0] if row else 0


def _checksum(*values: str | bytes | int | None) -> int:
    return zlib.crc32(repr(values).encode())


def _save(db: sqlite3.Connection, instrument: Instrument, changed: Changes) -> None:
    named = (instrument.venue, instrument.stored_as)
    if changed.mark:
        row = (*named, *changed.mark)
        db.execute("insert or replace into mark values (?, ?, ?, ?, ?, ?)", (*row, _checksum(*row)))
    db.executemany(
        "delete from range where (venue, symbol, state, first) = (?, ?, ?, ?)",
        ((*named, state, first) for state, first in changed.dropped),
    )
    rows = [(*named, state, *found) for state, found in changed.put]
    db.executemany(
        "insert or replace into range values (?, ?, ?, ?, ?, ?, ?, ?)",
        ((*row, _checksum(*row)) for row in rows),
    )


def _packed(block: Block) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, trade_schema(), options=COMPRESSED) as stream:
        for batch in block.trades:
            stream.write_batch(batch)
    trades = sink.getvalue().to_pybytes() if block.trade_count else b""
    return _encode(_Body(trades, block.events, block.rejects))


def _unpacked(path: Path, seq: int, body: bytes, checksum: int) -> Block:
    if not isinstance(body, bytes) or zlib.crc32(body, seq) != checksum:
        raise SpoolDamagedError(path, f"block {seq} has a wrong checksum")
    read = _decode(body)
    batches = pa.ipc.open_stream(read.trades).read_all().to_batches() if read.trades else []
    return Block(batches, read.events, read.rejects)
