"""One read-only SQL statement over the lake, checked before it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptolake.errors import QueryError
from cryptolake.lake.lost import explanation, is_lost
from cryptolake.lake.scan import local_path

if TYPE_CHECKING:
    import pyarrow as pa

    from cryptolake.lake import Reader

BATCH_ROWS = 65_536
READS = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
"""What DuckDB calls the parts of a statement that only read; a CTE may also insert, delete or copy."""
TABLE_FUNCTIONS = re.compile(
    r"range|generate_series|unnest|repeat|repeat_row|histogram|histogram_values|json_each|json_tree"
    r"|pg_timezone_names|duckdb_\w+|read_\w+|parquet_\w+|sniff_csv|glob"
)
"""Those that read; of files they see the lake's alone."""
EXPLAIN = re.compile(r"explain\s+", re.IGNORECASE)


@contextmanager
def answer(reader: Reader, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
    """
    Yield the result of the one statement *sql*, batch by batch, at most *limit* rows.

    Raises:
        QueryError: it is wrong, or does more than read: several statements, COPY, ATTACH, INSTALL,
            SET, DDL, DML, or a file from outside the lake.
    """
    import duckdb

    refuse_writing(reader, sql)
    _confine(reader)
    try:
        result = reader.connection.sql(sql.strip().rstrip(";"))
        yield (result if limit is None else result.limit(limit)).to_arrow_reader(BATCH_ROWS)
    except duckdb.Error as e:
        raise QueryError(_explained(reader, sql, str(e))) from e
    except OSError as e:  # without a number it is Arrow's word for DuckDB's failure on the way
        if e.errno is not None:
            raise
        raise QueryError(_explained(reader, sql, str(e))) from e


def refuse_writing(reader: Reader, sql: str) -> None:
    """
    Raise `QueryError` unless *sql* is exactly one statement, and that only reads.

    Also where it names a table whose snapshot at the asked time has expired.
    """
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1:
            raise QueryError(f"`query` takes one statement, this has {len(statements)}")
        [statement], kinds = statements, duckdb.StatementType
        if statement.type not in {kinds.SELECT, kinds.EXPLAIN, kinds.MULTI}:
            raise QueryError(_refused(statement.type.name))
        if statement.type == kinds.MULTI:
            raise QueryError(
                "`query` takes one statement; a pivot is one if its values are listed: pivot … on … in (…)"
            )
        _refuse_parts(reader, EXPLAIN.sub("", statement.query, count=1))
    except duckdb.Error as e:
        raise QueryError(str(e)) from e
    for reason in reader.why_unreadable(sql):
        raise QueryError(reason)


def _refuse_parts(reader: Reader, sql: str) -> None:
    """Raise `QueryError` if a part of the statement writes, or calls a function that could."""
    [(told,)] = reader.connection.execute("select json_serialize_sql(?::varchar)", [sql]).fetchall()
    parsed = json.loads(told)
    if parsed["error"]:
        raise QueryError("`query` explains plain queries: explain select …")
    for part in _parts(parsed["statements"]):
        kind = part.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in READS:
            raise QueryError(_refused(kind.removesuffix("_NODE").removesuffix("_QUERY")))
        if kind == "TABLE_FUNCTION" and not TABLE_FUNCTIONS.fullmatch(
            name := part["function"]["function_name"]
        ):
            raise QueryError(f"`query` does not call the table function {name}, which may do more than read")


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for branch in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _parts(branch)


def _refused(what: str) -> str:
    return f"`query` only reads, it does not {what}; the tables are written by `cryptolake run`"


def _confine(reader: Reader) -> None:
    """Let the connection read the files of its lake and nothing else."""
    scheme = urlsplit(reader.place).scheme
    folder = local_path(reader.place) if scheme in {"", "file"} else reader.place
    connection = reader.connection
    connection.execute("set allowed_directories = [?]", [folder.rstrip("/") + "/"])
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def _explained(reader: Reader, sql: str, said: str) -> str:
    if is_lost(said):
        return explanation(said, among=lambda: reader.tables_in(sql))
    if "disabled by configuration" in said or "Permission Error" in said:
        return f"`query` reads the tables of the lake and no other files: {said}"
    if "does not exist" in said and "Table" in said:
        return f"{said}\nThe tables are: {', '.join(reader.names)}"
    return said
