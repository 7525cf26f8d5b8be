"""`Connection`: the lake for Python users."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cryptolake.serving.query import answer

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

    from cryptolake.lake import Lake


class Connection:
    """
    A lake to read from, now or *as of* a time or a snapshot id; made by `cryptolake.connect`.

    Use it as a context manager, or `close()` it.
    """

    def __init__(self, lake: Lake, as_of: datetime | int | None = None) -> None:
        self._lake, self._as_of = lake, as_of

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lake."""
        self._lake.close()

    def sql(self, query: str) -> pa.Table:
        """
        Return the result of one read-only statement; tables are named `layer.table`.

        Raises:
            QueryError: the statement is wrong, or does more than read.
        """
        with self._lake.reader(as_of=self._as_of) as reader, answer(reader, query) as batches:
            return batches.read_all()

    def table(self, name: str) -> Table:
        """
        Return the PyIceberg table *name* (`layer.table`), to scan with any tool that speaks Iceberg.

        Raises:
            LakeError: there is none.
        """
        return self._lake.table(name)

    def tables(self) -> list[str]:
        """Return the names of all tables, as `layer.table`."""
        return self._lake.tables()
