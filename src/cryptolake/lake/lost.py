"""Files of the lake that are gone or damaged: of which table, which file, and what brings it back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cryptolake.lake.scan import local_path, plan, text

if TYPE_CHECKING:
    from pyiceberg.table import Table

GONE = ("No such file", "No files found")
DAMAGED = (
    "magic bytes",
    "too small to be a Parquet file",
    "don't know what type",
    "TProtocol",
    "TType",
    "ecompression fail",
    "orrupted",
    "Failed to read file",
    "read enough bytes from file",
    "Out of buffer",
    "Varint-decoding",
    "Variable-length int over",
    "Invalid string encoding found in Parquet",
)
"""What DuckDB says of a Parquet file with wrong bytes; it often does not name the file."""
DATA_FILE = ".parquet"
REFINED = ("silver.", "gold.")


def is_lost(said: str) -> bool:
    """Say whether an engine's words are about a file that is gone or damaged."""
    return any(sign in said for sign in (*GONE, *DAMAGED))


def explanation(said: str, table: str = "the lake", among: Callable[[], Iterable[Table]] = tuple) -> str:
    """
    Return what happened where, and what to do, about a file that is gone or damaged.

    Args:
        said: what the engine says; where it names no file, those of the tables are read.
        table: the table that was read, where that is known.
        among: returns the tables that it may be a file of.
    """
    what = "gone" if any(sign in said for sign in GONE) else "damaged"
    is_named = what == "gone" or DATA_FILE in said
    name, file = _named(said, among()) if is_named else _unreadable(among())
    table, where = name or table, f"{file}: {said}" if file else said
    return f"a file of {table} is {what} ({where}); {_remedy(table, is_data=DATA_FILE in where)}"


def damaged(table: str, said: str) -> str:
    """Return what to say of metadata of *table* that cannot be read."""
    return f"a file of {table} is damaged ({said}); {_remedy(table, is_data=False)}"


def _named(said: str, tables: Iterable[Table]) -> tuple[str, str]:
    """Return the one of *tables* whose folder is named; the file is named with it."""
    owners = (_name(table) for table in tables if local_path(table.location()) in said)
    return next(owners, ""), ""


def _unreadable(tables: Iterable[Table]) -> tuple[str, str]:
    """Return the first file of *tables* that cannot be read, after the name of its table; empty where all can."""
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        for table in tables:
            for path in (local_path(task.file.file_path) for task in plan(table)):
                try:
                    connection.execute(f"select max(hash(t)) from read_parquet([{text(path)}]) as t")
                except duckdb.Error:
                    return _name(table), path
    return "", ""


def _remedy(table: str, *, is_data: bool) -> str:
    if not table.startswith(REFINED):
        return "restore it from a backup" + (
            ", or rebuild the table it belongs to." if table == "the lake" else "."
        )
    first = "" if is_data else f"drop {table} and "
    return f"restore it from a backup, or {first}run `cryptolake transform --full-refresh`, which builds the table anew."


def _name(table: Table) -> str:
    return ".".join(table.name())
