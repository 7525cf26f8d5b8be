"""
The dbt-duckdb plugin: the lake's tables as views, and what models select merged into Iceberg.

dbt loads it by the name in `profiles.yml`; `serving` says which lake it works on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc
from dbt.adapters.duckdb.plugins import BasePlugin

from cryptolake.errors import CryptoLakeError, OperatorError

if TYPE_CHECKING:
    import duckdb
    from dbt.adapters.duckdb.utils import TargetConfig
    from pyiceberg.table import Table

    from cryptolake.lake import Committed, Lake

SMALL_BYTES = 5_000_000
IS_GONE = "is_gone"
"""A model's row that has this column true leaves the table."""


@dataclass
class Session:
    """One dbt run: the *lake* it works on, the *tables* of it as dbt sees them, and what came of it."""

    lake: Lake
    tables: dict[str, Table]
    committed: dict[str, Committed] = field(default_factory=dict)
    failed: dict[str, CryptoLakeError] = field(default_factory=dict)

    @property
    def is_small(self) -> bool:
        """Whether a second thread a model would cost memory and win no time; models run beside each other anyway."""
        heads = [table.current_snapshot() for table in self.tables.values()]
        sizes = [head.summary["total-files-size"] for head in heads if head and head.summary]
        return sum(int(size or 0) for size in sizes) < SMALL_BYTES

    @property
    def built(self) -> list[str]:
        """The tables that a model has been built into before."""
        return [name for name, table in self.tables.items() if table.metadata.current_snapshot_id is not None]


_sessions: list[Session] = []
_plugins: list[Plugin] = []


@contextmanager
def serving(lake: Lake, names: Sequence[str]) -> Iterator[Session]:
    """
    Let dbt work on the tables *names* of *lake* inside the block; one block at a time in a process.

    Tables that are missing are made from their contracts.
    """
    session = Session(lake, {name: lake.ensure(name) for name in names})
    _sessions.append(session)
    try:
        for plugin in _plugins:  # dbt keeps its connection from an earlier run
            plugin.expose(session)
        yield session
    finally:
        _sessions.remove(session)


def _session() -> Session:
    if not _sessions:
        raise OperatorError("dbt was started by hand and has no lake to work on; run `cryptolake transform`")
    return _sessions[-1]


class Plugin(BasePlugin):
    """Connects dbt's runs to the lake of the present session."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Show the lake's tables on *conn*, in UTC on every cursor of it."""
        conn.execute("set global TimeZone = 'UTC'")
        self._connection, self._seen = conn, dict[str, str]()
        self.expose(_session())
        _plugins[:] = [self]

    def expose(self, session: Session) -> None:
        """Make the views of the tables of *session* that have moved anew."""
        cursor = self._connection.cursor()
        cursor.execute("set threads = 1" if session.is_small else "reset threads")
        for name, table in list(session.tables.items()):
            if self._seen.get(name) != table.metadata_location:
                self._expose(session, cursor, name)

    def _expose(self, session: Session, cursor: duckdb.DuckDBPyConnection, name: str) -> None:
        session.tables[name] = table = session.lake.expose(cursor, name)
        self._seen[name] = table.metadata_location

    def store(self, target_config: TargetConfig) -> None:
        """Merge what a model selects into its table, then show the table as it is now."""
        session, name = _session(), f"{target_config.relation.schema}.{target_config.relation.identifier}"
        cursor = self._connection.cursor()
        rows = cursor.sql(target_config.config["sql"]).to_arrow_table()
        gone = None
        if IS_GONE in rows.schema.names:
            gone = rows.filter(pc.field(IS_GONE)).select(session.lake.contract(name).key)
            rows = rows.filter(~pc.field(IS_GONE)).drop_columns(IS_GONE)
        full = bool(target_config.config["full"])
        try:
            session.committed[name] = session.lake.merge(
                name, rows, gone=gone, full=full, based_on=session.tables[name]
            )
            if session.committed[name].snapshot_id is not None:
                self._expose(session, cursor, name)
        except CryptoLakeError as e:
            session.failed[name] = e
            raise
