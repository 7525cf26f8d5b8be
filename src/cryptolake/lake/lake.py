"""`Lake`: the tables of one catalog, created from their contracts and committed to safely."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import uuid4

import structlog

from cryptolake.clock import Clock
from cryptolake.contracts import Contract
from cryptolake.contracts.schemas import iceberg_schema, partition_spec, sort_order
from cryptolake.errors import CommitConflictError, ContractError, LakeError
from cryptolake.lake.catalog import newest_metadata, open_catalog
from cryptolake.lake.commit import CREATED_WITH, Committed, Position, commit_rows, next_loaded_at
from cryptolake.lake.compaction import ROWS_PER_FILE, compacting
from cryptolake.lake.conform import conformed, order_by, stamped
from cryptolake.lake.encoding import encoding_properties
from cryptolake.lake.evolve import VERSION, differences, evolve
from cryptolake.lake.faults import explained
from cryptolake.lake.maintenance import Maintained, maintain
from cryptolake.lake.merge import Merge, refuse_moved
from cryptolake.lake.reader import Reader
from cryptolake.lake.scan import create_narrow_view, create_view, expose_stored, local_path, plan, stamp_after

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

COMMIT_TRIES = 60
LONGEST_PAUSE_SECONDS = 0.2

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Lake:
    """
    The tables of one Iceberg catalog.

    Any number of processes may use one lake at once: a change is computed from one snapshot and
    committed only if the table still has it, otherwise computed again.
    """

    def __init__(self, catalog: Catalog, contracts: Mapping[str, Contract], clock: Clock, place: str) -> None:
        self.catalog, self.contracts, self.clock, self.place = catalog, contracts, clock, place
        self.planned: dict[str, str] = {}
        """The SQL of snapshots that were planned; see `create_view`."""
        self._known: dict[str, Table] = {}

    @classmethod
    def open(cls, properties: Mapping[str, str], contracts: Mapping[str, Contract], clock: Clock) -> Lake:
        """
        Open the catalog described by the PyIceberg *properties*; see `open_catalog`.

        Raises:
            LakeError: it cannot be opened.
        """
        return cls(open_catalog(properties), contracts, clock, properties.get("warehouse", ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the catalog and of DuckDB."""
        if "_duckdb" in self.__dict__:
            self._duckdb.close()
        self.catalog.close()

    @cached_property
    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        connection = duckdb.connect()
        connection.execute("set global TimeZone = 'UTC'")
        return connection

    def tables(self) -> list[str]:
        """Return the names of all tables, as `layer.table`, sorted."""
        with explained(self.place):
            return sorted(
                ".".join(t) for ns in self.catalog.list_namespaces() for t in self.catalog.list_tables(ns)
            )

    def exists(self, name: str) -> bool:
        """Say whether the catalog has the table *name*."""
        with explained(self.place, name):
            return self.catalog.table_exists(name)

    def table(self, name: str) -> Table:
        """
        Return the PyIceberg table *name*.

        Raises:
            LakeError: there is none.
        """
        from pyiceberg.exceptions import NoSuchTableError
        from pyiceberg.table import Table

        with explained(self.place, name):
            try:
                known = self._known.get(name)
                if known is None or known.metadata_location != newest_metadata(self.catalog, name):
                    self._known[name] = known = self.catalog.load_table(name)
                return Table(known.name(), known.metadata, known.metadata_location, known.io, self.catalog)
            except NoSuchTableError as e:
                raise LakeError(
                    f"the lake at {self.place} has no table {name}; `cryptolake run` makes it"
                ) from e

    def refuse_moved(self) -> None:
        """
        Refuse a lake of local files that lies elsewhere than where it was made: its files are named by that place.

        Raises:
            LakeError: it was moved or copied.
        """
        here = Path(local_path(self.place)).resolve()
        for name in self.tables():
            there = newest_metadata(self.catalog, name) or self.place
            if not Path(local_path(there)).resolve().is_relative_to(here):
                raise LakeError(
                    f"the lake at {here} was made elsewhere, and its tables still name that place ({there}): "
                    "move it back there, or build a new one with `cryptolake run`"
                )

    def contract(self, name: str) -> Contract:
        """Return the contract of the table *name*; `ContractError` where there is none."""
        if name not in self.contracts:
            raise ContractError(f"no contract declares {name}; the tables are {', '.join(self.contracts)}")
        return self.contracts[name]

    def ensure(self, name: str) -> Table:
        """
        Return the table *name*, made from its contract or brought up to it.

        Raises:
            ContractError: the table differs from its contract in more than additions.
        """
        contract = self.contract(name)
        if not self.exists(name):
            self._create(contract)
        return self._commit(name, lambda table: evolve(table, contract))

    def differences(self, name: str) -> list[str]:
        """Return where the table *name* does not follow its contract, one sentence each."""
        return differences(self.table(name), self.contract(name))

    def _create(self, contract: Contract) -> None:
        from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError
        from sqlalchemy.exc import IntegrityError

        with explained(self.place):
            with suppress(NamespaceAlreadyExistsError, IntegrityError):  # another process made it first
                self.catalog.create_namespace_if_not_exists(contract.layer)
            try:
                self.catalog.create_table(
                    contract.name,
                    schema=iceberg_schema(contract),
                    location=self._new_location(contract),
                    partition_spec=partition_spec(contract),
                    sort_order=sort_order(contract),
                    properties={**CREATED_WITH, **encoding_properties(contract), VERSION: contract.version},
                )
            except TableAlreadyExistsError:
                return
        log.info("table.created", table=contract.name, version=contract.version)

    def _new_location(self, contract: Contract) -> str | None:
        """
        Return a folder that no other table has or had; None leaves it to the catalog.

        Maintenance removes whatever in a table's folder the table does not name, so a table must
        never share its folder: not with one of another catalog, nor with one that was renamed.
        """
        if not (warehouse := self.catalog.properties.get("warehouse")):
            return None
        return f"{warehouse.rstrip('/')}/{contract.layer}/{contract.name.split('.', 1)[1]}-{uuid4().hex[:8]}"

    def append(
        self,
        name: str,
        rows: pa.Table,
        *,
        new: str = "select * from incoming",
        within: str | None = None,
        position: Position | None = None,
    ) -> Committed:
        """
        Append *rows* to the table *name* in one snapshot; without rows or position, do nothing.

        Args:
            name: the table, as `layer.table`.
            rows: columns of the contract; `_loaded_at` is stamped here, rising with every commit.
            new: SQL over the relations `incoming` and `stored` that chooses the rows to append. It
                runs again when another writer came first, so two writers never double a row.
            within: a PyIceberg row filter that bounds `stored`.
            position: how far a stream was read, committed with the rows.

        Raises:
            StaleWriterError: the table does not stand at the start of *position*.
        """
        contract = self.contract(name)

        def attempt(table: Table) -> Committed:
            cursor = self._duckdb.cursor()
            cursor.register("incoming", rows)
            if "stored" in new:
                expose_stored(cursor, table, plan(table, within=within))
            chosen = conformed(cursor.sql(new + order_by(contract)).to_arrow_table(), table)
            if not chosen.num_rows and position is None:
                return Committed()
            loaded_at = next_loaded_at(table, self.clock.now())
            chosen = stamped(chosen, "_loaded_at", loaded_at)
            done = commit_rows(
                table, chosen, retention=contract.retention, loaded_at=loaded_at, position=position
            )
            return Committed(rows_added=chosen.num_rows, snapshot_id=done.metadata.current_snapshot_id)

        return self._commit(name, attempt)

    def merge(
        self,
        name: str,
        rows: pa.Table,
        *,
        gone: pa.Table | None = None,
        full: bool = False,
        based_on: Table | None = None,
        inputs: Mapping[str, int] | None = None,
    ) -> Committed:
        """
        Bring the table *name* to hold *rows*, by the key of its contract, in one snapshot.

        Only rows that differ in a column that is compared (see `Contract.compared_columns`) are
        written, and only files that hold one of them are rewritten. Where nothing differs, no row
        is. Where the contract prefers some rows to others, a stored row gives way to a better one only.

        Args:
            name: the table, as `layer.table`.
            rows: columns of the contract.
            gone: keys of rows to take away.
            full: replace all rows of the table; its history is kept.
            based_on: the table that *rows* were computed from; no other may be committed to.
            inputs: tables that *rows* were made from, with the newest stamp seen of each (see
                `processed_by`); committed with the rows, and also where no row differs.

        Raises:
            ContractError: a key is null or comes twice.
            CommitConflictError: another writer has committed since *based_on*.
        """
        contract = self.contract(name)

        def attempt(table: Table) -> Committed:
            refuse_moved(table, based_on)
            cursor = self._duckdb.cursor()
            cursor.register("incoming", conformed(rows, table))
            cursor.register("gone", rows.slice(0, 0) if gone is None else gone)
            merge = Merge(cursor, table, contract, self.clock.now(), inputs or {})
            return merge.replace() if full else merge.change()

        return self._commit(name, attempt)

    def reader(self, *, as_of: datetime | int | None = None, only: Collection[str] | None = None) -> Reader:
        """
        Return a DuckDB connection with one view a table, now or *as of* a time or a snapshot id.

        With *only*, tables other than these get no view, which saves planning them.

        Raises:
            LakeError: no table has that snapshot (any more).
        """
        return Reader.open(self, as_of, only)

    def expose(self, connection: duckdb.DuckDBPyConnection, name: str) -> Table:
        """Make `layer.table` on *connection* a view of the current rows of the table *name*, and return it."""
        table = self.table(name)
        with explained(self.place, name, lambda: [table]):
            create_view(connection, table, self.planned)
        return table

    def expose_within(
        self, connection: duckdb.DuckDBPyConnection, table: Table, view: str, within: str | None
    ) -> None:
        """Make *view* on *connection* from the files of *table* that may hold rows *within* a PyIceberg row filter."""
        with explained(self.place, ".".join(table.name()), lambda: [table]):
            create_narrow_view(connection, table, view, within)

    def stamp_after(self, table: Table, column: str, after: datetime, rows: int) -> int | None:
        """Return up to which stamp about *rows* rows of *table* came *after* another; see `scan.stamp_after`."""
        with explained(self.place, ".".join(table.name())):
            return stamp_after(table, column, after, rows)

    def compact(
        self, name: str, *, before: datetime | None = None, rows_per_file: int = ROWS_PER_FILE
    ) -> int:
        """
        Rewrite the small files of crowded partitions of the table *name*, sorted as its contract says; return how many.

        Only files whose newest time, in the partitioned column, is *before* a moment count. No more than about
        *rows_per_file* rows are in memory at once, and in one file.
        """
        return sum(self.compacting(name, before=before, rows_per_file=rows_per_file))

    def compacting(
        self, name: str, *, before: datetime | None = None, rows_per_file: int = ROWS_PER_FILE
    ) -> Iterator[int]:
        """Do what `compact` does, one file at a time; yield of how many each was made."""
        with explained(self.place, name):
            yield from compacting(self, name, before=before, rows_per_file=rows_per_file)

    def maintain(self, *, orphans_older_than_seconds: float, dry_run: bool) -> list[Maintained]:
        """Compact, expire and clean every table; see `maintenance.maintain`."""
        with explained(self.place):
            return [
                maintain(self, name, orphans_older_than_seconds=orphans_older_than_seconds, dry_run=dry_run)
                for name in self.tables()
                if name in self.contracts
            ]

    def _commit(self, name: str, attempt: Callable[[Table], T]) -> T:
        from pyiceberg.exceptions import CommitFailedException, ValidationException

        for tried in range(COMMIT_TRIES):
            table = self.table(name)
            try:
                with explained(self.place, name, lambda: [self.table(name)]):
                    return attempt(table)
            except (CommitFailedException, ValidationException) as e:
                log.info("commit.conflict", table=name, tried=tried + 1, reason=str(e))
                self.clock.sleep(random.uniform(0, min(LONGEST_PAUSE_SECONDS, 0.01 * 2**tried)))  # noqa: S311 (jitter)
        raise CommitConflictError(f"{name}: {COMMIT_TRIES} times another writer committed first; run again")
