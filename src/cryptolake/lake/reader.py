"""`Reader`: SQL over the lake, now or as it was."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from cryptolake.errors import LakeError
from cryptolake.lake.faults import explained
from cryptolake.lake.scan import create_view, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.table import Table

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Tables(Protocol):
    """What a reader needs of a lake."""

    place: str
    planned: dict[str, str]

    def tables(self) -> list[str]:
        """Return the names of all tables."""
        ...

    def table(self, name: str) -> Table:
        """Return the PyIceberg table *name*."""
        ...


@dataclass(frozen=True)
class Moment:
    """A time to read the lake as of; *snapshot_id* names the very snapshot of *table*, where one was asked for."""

    at_ms: int
    table: tuple[str, ...] | None = None
    snapshot_id: int | None = None

    @classmethod
    def find(cls, lake: Tables, as_of: datetime | int) -> Moment:
        """Return the moment of a zoned time, or of a snapshot id of any table of *lake*."""
        if isinstance(as_of, datetime) and as_of.tzinfo is None:
            raise LakeError(
                f"{as_of} has no time zone, so it is no moment; give a zoned time, as in datetime(…, tzinfo=UTC)"
            )
        if isinstance(as_of, datetime):
            return cls((as_of.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1))
        for name in lake.tables():
            table = lake.table(name)
            if snapshot := table.snapshot_by_id(as_of):
                return cls(snapshot.timestamp_ms, table.name(), as_of)
        raise LakeError(
            f"no table has the snapshot {as_of}; it never was, or it has expired. `cryptolake status` shows the newest."
        )


class Reader:
    """
    A DuckDB connection with a view of every table of the lake, as `layer.table`, in UTC.

    Use it as a context manager, and `refresh()` it to see later commits.
    """

    def __init__(
        self,
        lake: Tables,
        connection: duckdb.DuckDBPyConnection,
        moment: Moment | None,
        only: Collection[str] | None = None,
    ) -> None:
        self.connection, self._lake, self._moment, self._only = connection, lake, moment, only
        self._seen: dict[str, str] = {}
        self.expired: dict[str, str] = {}
        """Tables that cannot be read, with the reason: their snapshot at the asked time is gone, or a file is."""

    @classmethod
    def open(
        cls, lake: Tables, as_of: datetime | int | None = None, only: Collection[str] | None = None
    ) -> Reader:
        """Connect and make the views; see `Lake.reader`."""
        import duckdb

        connection = duckdb.connect()
        connection.execute("set global TimeZone = 'UTC'")
        reader = cls(lake, connection, None if as_of is None else Moment.find(lake, as_of), only)
        reader.refresh()
        return reader

    @property
    def place(self) -> str:
        """Return the warehouse that the tables' files lie under."""
        return self._lake.place

    @property
    def names(self) -> list[str]:
        """Return the tables that have a view, as `layer.table`."""
        return sorted(self._seen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def refresh(self) -> None:
        """Make the views of tables that have moved anew, and drop those of tables that are gone."""
        names = [n for n in self._lake.tables() if self._only is None or n in self._only]
        for name in set(self._seen) - set(names):
            self._conceal(name)
        for name in names:
            try:
                self._expose(name)
                self.expired.pop(name, None)
            except LakeError as e:
                self._conceal(name)
                self.expired[name] = str(e)

    def rows(self, sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query as Python tuples."""
        with self._answering(sql):
            return self.connection.execute(sql, params).fetchall()

    def table(self, sql: str, params: Sequence[Any] | None = None) -> pa.Table:
        """Return the result of a query as an Arrow table."""
        with self._answering(sql):
            return self.connection.sql(sql, params=params).to_arrow_table()

    def _expose(self, name: str) -> None:
        table = self._lake.table(name)
        if self._seen.get(name) == table.metadata_location:
            return
        snapshot_id = None if self._moment is None else snapshot_at(table, self._moment)
        with explained(self._lake.place, name, lambda: [table]):
            create_view(
                self.connection,
                table,
                self._lake.planned,
                snapshot_id=snapshot_id,
                empty=self._moment is not None and snapshot_id is None,
            )
        self._seen[name] = table.metadata_location

    def _conceal(self, name: str) -> None:
        if self._seen.pop(name, None):
            namespace, table = name.split(".", 1)
            self.connection.execute(f"drop view if exists {quoted(namespace)}.{quoted(table)}")

    def why_unreadable(self, sql: str) -> list[str]:
        """Return why tables that *sql* names cannot be read, by the text alone: a broken one must not fail the others."""
        plain = sql.replace('"', "").lower()
        return [reason for name, reason in sorted(self.expired.items()) if name in plain]

    def tables_in(self, sql: str) -> list[Table]:
        """Return the tables that *sql* names, by the text alone."""
        plain = sql.replace('"', "").lower()
        return [self._lake.table(name) for name in self.names if name in plain]

    @contextmanager
    def _answering(self, sql: str) -> Iterator[None]:
        """Raise what a query over a table that cannot be read ends in as the `LakeError` that says why."""
        import duckdb

        try:
            with explained(self._lake.place, among=lambda: self.tables_in(sql)):
                yield
        except duckdb.CatalogException as e:
            for reason in self.why_unreadable(sql):
                raise LakeError(reason) from e
            raise


def snapshot_at(table: Table, moment: Moment) -> int | None:
    """
    Return the id of the snapshot that was current at *moment*; None where the table had no rows yet.

    Raises:
        LakeError: that snapshot has expired.
    """
    if moment.table == table.name():
        return moment.snapshot_id
    log = table.history()
    if found := [entry.snapshot_id for entry in log if entry.timestamp_ms <= moment.at_ms]:
        return found[-1]
    oldest = table.snapshot_by_id(log[0].snapshot_id) if log else None
    if oldest and (oldest.sequence_number or 0) > 1:
        raise LakeError(
            f"{'.'.join(table.name())}: the snapshot of {_shown(moment.at_ms)} has expired; "
            f"the oldest kept is of {_shown(oldest.timestamp_ms)}"
        )
    return None


def _shown(timestamp_ms: int) -> str:
    return f"{EPOCH + timedelta(milliseconds=timestamp_ms):%Y-%m-%d %H:%M:%S.%f} UTC"
