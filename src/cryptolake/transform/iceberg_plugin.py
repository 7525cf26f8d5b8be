"""
The dbt-duckdb plugin: the lake's tables as views, and what models select merged into Iceberg.

dbt loads it by the name in `profiles.yml`; `serving` says which lake it works on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from dbt.adapters.duckdb.plugins import BasePlugin

from cryptolake.errors import CryptoLakeError, LakeError, OperatorError
from cryptolake.lake.commit import EPOCH, processed_by, stamp_of
from cryptolake.transform.narrowing import Narrowing, stamp_text

if TYPE_CHECKING:
    import duckdb
    from dbt.adapters.duckdb.utils import TargetConfig
    from pyiceberg.table import Table

    from cryptolake.lake import Committed, Lake

SMALL_BYTES = 5_000_000
TRADES_OF = "silver.trades"
IS_GONE = "is_gone"
"""A model's row that has this column true leaves the table."""


@dataclass
class Session:
    """
    One dbt run: the *lake* it works on, the *tables* of it as dbt sees them, and what came of it.

    *inputs* has the tables that each model reads, *up_to* the stamps up to which inputs are taken that have more
    than is good for the memory. With *full*, models are built from all of their inputs.
    """

    lake: Lake
    tables: dict[str, Table]
    inputs: Mapping[str, Sequence[str]]
    up_to: Mapping[str, int]
    full: bool
    committed: dict[str, Committed] = field(default_factory=dict)
    failed: dict[str, CryptoLakeError] = field(default_factory=dict)
    unreadable: dict[str, LakeError] = field(default_factory=dict)
    """Tables that lost a file and have no view, since this run builds them anew; none once they are built."""

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

    @property
    def variables(self) -> dict[str, Any]:
        """What the models are told of the tables, as dbt's variables."""
        seen = {name: processed_by(table) for name, table in self.tables.items()}
        return {
            "built": self.built,
            "processed": {name: _as_text(stamps) for name, stamps in seen.items() if stamps},
            "up_to": _as_text(self.up_to),
        }

    def stamps_of_inputs(self, name: str) -> dict[str, int]:
        """Return the newest stamp of each input of a model, as dbt sees it; of models that keep no account, none."""
        if self.lake.contract(name).commit_stamp is None:
            return {}
        stamps = {i: self.up_to.get(i, stamp_of(self.tables[i])) for i in self.inputs.get(name, ())}
        return {i: us for i, us in stamps.items() if us >= 0}


_sessions: list[Session] = []
_plugins: list[Plugin] = []


@contextmanager
def serving(
    lake: Lake,
    names: Sequence[str],
    inputs: Mapping[str, Sequence[str]],
    *,
    trades_at_once: int,
    full: bool,
) -> Iterator[Session]:
    """
    Let dbt work on the tables *names* of *lake* inside the block; one block at a time in a process.

    *inputs* has the tables that each model reads.

    Tables that are missing are made from their contracts. Of the trades that are new, or of all with *full*, about
    *trades_at_once* are taken.
    """
    tables = {name: lake.ensure(name) for name in names}
    session = Session(lake, tables, inputs, _up_to(lake, tables, inputs, trades_at_once, full=full), full)
    _sessions.append(session)
    try:
        for plugin in _plugins:  # dbt keeps its connection from an earlier run
            plugin.expose(session)
        yield session
    finally:
        _sessions.remove(session)


def _as_text(stamps: Mapping[str, int]) -> dict[str, str]:
    return {name: stamp_text(us) for name, us in stamps.items()}


def _up_to(
    lake: Lake,
    tables: Mapping[str, Table],
    inputs: Mapping[str, Sequence[str]],
    trades_at_once: int,
    *,
    full: bool,
) -> dict[str, int]:
    """Return the stamps up to which to take trades now, where more than *trades_at_once* are new."""
    if TRADES_OF not in inputs:
        return {}
    found = {}
    for name in inputs[TRADES_OF]:
        seen = 0 if full else processed_by(tables[TRADES_OF]).get(name, 0)
        after = EPOCH + timedelta(microseconds=seen)
        stamp = lake.stamp_after(tables[name], "_loaded_at", after, trades_at_once)
        if stamp is not None:
            found[name] = stamp
    return found


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
                try:
                    self._expose(session, cursor, name)
                except LakeError as e:
                    if not (session.full and name in session.inputs):
                        raise
                    session.unreadable[name] = e
                    self._seen.pop(name, None)
                    cursor.execute(f"drop view if exists {name}")  # of an earlier run: not for others to read

    def _expose(self, session: Session, cursor: duckdb.DuckDBPyConnection, name: str) -> None:
        session.tables[name] = table = session.lake.expose(cursor, name)
        self._seen[name] = table.metadata_location
        session.unreadable.pop(name, None)

    def store(self, target_config: TargetConfig) -> None:
        """Merge what a model selects into its table, then show the table as it is now."""
        session, name = _session(), f"{target_config.relation.schema}.{target_config.relation.identifier}"
        cursor = self._connection.cursor()
        sql = target_config.config["sql"]
        full = bool(target_config.config["full"])
        processed = {} if full else processed_by(session.tables[name])
        Narrowing(session.lake, cursor, session.tables, processed, session.up_to).expose(sql)
        rows = cursor.sql(sql).to_arrow_table()
        gone = None
        if IS_GONE in rows.schema.names:
            gone = rows.filter(pc.field(IS_GONE)).select(session.lake.contract(name).key)
            rows = rows.filter(~pc.field(IS_GONE)).drop_columns(IS_GONE)
        inputs = session.stamps_of_inputs(name)
        try:
            session.committed[name] = session.lake.merge(
                name, rows, gone=gone, full=full, based_on=session.tables[name], inputs=inputs
            )
            if session.committed[name].snapshot_id is not None:
                self._expose(session, cursor, name)
        except CryptoLakeError as e:
            session.failed[name] = e
            raise
