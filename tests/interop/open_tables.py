"""
Open every table of a lake without our package, in PyIceberg, Polars and DuckDB.

Run by the Python of an environment of its own (`requirements.txt`), with the catalog's PyIceberg
properties as JSON. Prints, as JSON, per table and engine the number of rows and a digest of them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any


def told(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return how many *rows* there are, and a digest that is the same for the same rows in any order."""
    lines = sorted("\t".join(f"{name}={_text(row[name])}" for name in sorted(row)) for row in rows)
    return {"rows": len(lines), "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date):
        return value.isoformat()
    return repr(value)


def with_pyiceberg(table: Any) -> list[dict[str, Any]]:
    """Read *table* by PyIceberg alone."""
    return table.scan().to_arrow().to_pylist()


def with_polars(table: Any) -> list[dict[str, Any]]:
    """Read *table* by Polars, from its metadata file."""
    import polars as pl

    return pl.scan_iceberg(table.metadata_location, reader_override="native").collect().to_dicts()


def with_duckdb(table: Any) -> list[dict[str, Any]]:
    """Read *table* by DuckDB's own Iceberg extension, which comes as a package and needs no network."""
    import duckdb
    import duckdb_extension_avro
    import duckdb_extension_iceberg

    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        for package in (duckdb_extension_avro, duckdb_extension_iceberg):
            [extension] = Path(package.__file__).parent.rglob("*.duckdb_extension")
            connection.execute(f"load '{extension}'")
        return (
            connection.execute("from iceberg_scan(?)", [table.metadata_location]).to_arrow_table().to_pylist()
        )


ENGINES: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "pyiceberg": with_pyiceberg,
    "polars": with_polars,
    "duckdb": with_duckdb,
}


def main(properties: dict[str, str]) -> None:
    """Print what each engine reads from each table of the catalog."""
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog("lake", **properties)
    tables = [name for namespace in catalog.list_namespaces() for name in catalog.list_tables(namespace)]
    read = {
        ".".join(name): {engine: told(rows(catalog.load_table(name))) for engine, rows in ENGINES.items()}
        for name in tables
    }
    print(json.dumps(read))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
