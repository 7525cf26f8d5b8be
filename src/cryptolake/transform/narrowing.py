"""
Parts of lake tables for incremental models, so that a run costs what is new and not what there is.

A model names a part in its SQL, as the macro `narrowed` writes it; before the model runs, the part becomes
a view of only those files that may hold rows of it.

=====================================  ===========================================================
`"silver.trades new"`                  rows that the model has not seen
`"silver.trades moved"`                the same where rows have left the table or their partition
                                       since the model ran; else none
`"silver.trades around new by hour"`   rows from the hours (or days) of those not seen, by the
                                       partitioned column; all of them where rows have moved
`"silver.bars_1m incomplete"`          rows that were not complete
=====================================  ===========================================================

The files may hold other rows as well: the macros filter. Where rows have moved, a model must look wherever
they may have been.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptolake.lake.commit import EPOCH, moved_at

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

    from cryptolake.lake import Lake

PART = re.compile(r'"(?P<table>\w+\.\w+) (?P<part>new|moved|incomplete|around new by (?P<unit>hour|day))"')
MOST_SPANS = 50
LENGTH = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True)
class Narrowing:
    """
    The parts of the *tables* of *lake* that one model asks for, on the connection *cursor*.

    *processed* has the newest stamp of each input that the model has seen, microseconds, and *up_to* the one to
    which to take it now, where that is not its newest.
    """

    lake: Lake
    cursor: duckdb.DuckDBPyConnection
    tables: Mapping[str, Table]
    processed: Mapping[str, int]
    up_to: Mapping[str, int]

    def expose(self, sql: str) -> None:
        """Make the views of all parts that *sql* names."""
        for asked in sorted({m.groups() for m in PART.finditer(sql)}, key=lambda part: part[1] != "new"):
            name, part, unit = asked
            if part == "moved":
                self._expose_moved(name)
            else:
                within = self._within(name, part, unit)
                self.lake.expose_within(self.cursor, self.tables[name], f"{name} {part}", within)

    def _within(self, name: str, part: str, unit: str | None) -> str | None:
        if part == "new":
            stamp, limit = self._stamp(name), self.up_to.get(name)
            bound = f" and {stamp} <= '{_text(limit)}'" if limit is not None else ""
            return f"{stamp} > '{_text(self._seen(name))}'{bound}"
        if part == "incomplete":
            return "is_complete = false"
        return None if unit is None or self._has_moved(name) else self._around_new(name, unit)

    def _expose_moved(self, name: str) -> None:
        self.lake.expose_within(
            self.cursor, self.tables[name], f"{name} moved", self._within(name, "new", None)
        )
        if not self._has_moved(name):
            self.cursor.execute(
                f'create or replace temp view "{name} moved" as select * from {name} where false'
            )

    def _around_new(self, name: str, unit: str) -> str:
        """Return the row filter of the hours or days of the rows of the table *name* that are new."""
        column = self.lake.contract(name).partitions[0].column
        found = self.cursor.execute(
            f"""
            select distinct date_trunc('{unit}', {column})
            from "{name} new" where {self._stamp(name)} > make_timestamptz({self._seen(name)}) order by 1
            """
        ).fetchall()
        spans: list[tuple[datetime, datetime]] = []
        for (start,) in found:
            end = start + LENGTH[unit]
            if spans and (spans[-1][1] == start or len(spans) == MOST_SPANS):
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        spans = spans or [(EPOCH, EPOCH)]
        return " or ".join(
            f"({column} >= '{a.isoformat()}' and {column} < '{b.isoformat()}')" for a, b in spans
        )

    def _has_moved(self, name: str) -> bool:
        return moved_at(self.tables[name]) > self._seen(name)

    def _seen(self, name: str) -> int:
        return self.processed.get(name, 0)

    def _stamp(self, name: str) -> str:
        return self.lake.contract(name).commit_stamp or "_loaded_at"


def stamp_text(us: int) -> str:
    """Return a stamp in microseconds as the text of a timestamp with zone."""
    return (EPOCH + timedelta(microseconds=us)).astimezone(UTC).isoformat(sep=" ", timespec="microseconds")


def _text(us: int) -> str:
    return stamp_text(us).replace(" ", "T")
