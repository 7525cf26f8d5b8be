"""Query results as CSV, JSON, Parquet and Arrow, batch by batch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cryptolake.errors import LakeError, QueryError

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    parquet = "parquet"
    arrow = "arrow"


BINARY = {Format.parquet, Format.arrow}


@contextmanager
def destination(output: Path | None, kind: Format) -> Iterator[IO[bytes]]:
    """
    Yield where to write: standard output, or the file *output*, which appears only when it is whole.

    Raises:
        QueryError: binary would go to a terminal.
        LakeError: the file cannot be written.
    """
    if output is None:
        if kind in BINARY and sys.stdout.isatty():
            raise QueryError(f"{kind} is binary; add `--output FILE`, or send it to another program")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not output.name or output.is_dir():
        raise QueryError(f"{output} is a folder; name a file in it")
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    except OSError as e:
        if e.errno is None:
            raise  # it came from the query, not from the file
        raise LakeError(f"{output} cannot be written: {e.strerror}") from e
    finally:
        part.unlink(missing_ok=True)


def export(batches: pa.RecordBatchReader, kind: Format, file: IO[bytes]) -> int:
    """
    Write *batches* to *file* as *kind*; return the number of rows.

    Raises:
        QueryError: the result has a column that *kind* cannot hold, or two of one name.
    """
    import pyarrow as pa

    if doubled := [name for name, times in Counter(batches.schema.names).items() if times > 1]:
        raise QueryError(f"several columns are named {', '.join(doubled)}; give each its own name with `as`")
    writer = {
        Format.csv: _csv,
        Format.json: _json,
        Format.jsonl: _jsonl,
        Format.parquet: _parquet,
        Format.arrow: _arrow,
    }[kind]
    try:
        return writer(batches, file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise QueryError(
            f"{kind} cannot hold this result ({e}); cast the column to varchar, or use json"
        ) from e


def _csv(batches: pa.RecordBatchReader, file: IO[bytes]) -> int:
    import pyarrow.csv as pc

    with pc.CSVWriter(file, batches.schema) as writer:
        return _written(batches, writer)


def _parquet(batches: pa.RecordBatchReader, file: IO[bytes]) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, batches.schema, compression="zstd") as writer:
        return _written(batches, writer)


def _arrow(batches: pa.RecordBatchReader, file: IO[bytes]) -> int:
    import pyarrow as pa

    with pa.ipc.new_stream(file, batches.schema) as writer:
        return _written(batches, writer)


def _written(batches: pa.RecordBatchReader, writer: Any) -> int:
    rows = 0
    for batch in batches:
        writer.write_batch(batch)
        rows += batch.num_rows
    return rows


def _json(batches: pa.RecordBatchReader, file: IO[bytes]) -> int:
    rows = 0
    file.write(b"[")
    for line in _lines(batches):
        file.write(b",\n" if rows else b"\n")
        file.write(line)
        rows += 1
    file.write(b"\n]\n" if rows else b"]\n")
    return rows


def _jsonl(batches: pa.RecordBatchReader, file: IO[bytes]) -> int:
    rows = 0
    for line in _lines(batches):
        file.write(line + b"\n")
        rows += 1
    return rows


def _lines(batches: pa.RecordBatchReader) -> Iterator[bytes]:
    import msgspec

    encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
    for batch in batches:
        for row in batch.to_pylist():
            yield encode(row)
