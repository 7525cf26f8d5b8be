"""Land what a source delivered: rows and rejects into bronze, each delivery once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from cryptolake.errors import BadRecordError

if TYPE_CHECKING:
    from cryptolake.lake import Lake

REJECTS = "bronze.rejects"
DAY_MS = 86_400_000
FIRST_HOUR_MS = 3_600_000
SETTLED_MS = 1_800_000
"""An observation younger than half an hour when it was fetched may still change."""


@dataclass(frozen=True)
class Ingested:
    """
    What an ingest did.

    *failures* names what could not be had (a coin, the index) and why; the rest has landed.
    """

    table: str
    asked: int
    rows_added: int
    rows_rejected: int
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """The days a user asked for, both inclusive; None where not said."""

    start: date | None = None
    end: date | None = None
    full: bool = False


def prepare(lake: Lake, table: str) -> None:
    """Make *table* and the table of rejects, or bring them up to their contracts."""
    for name in (table, REJECTS):
        lake.ensure(name)


def new_deliveries(key: Sequence[str], values: Sequence[str], *, unsettled: str = "false") -> str:
    """
    Return the SQL that keeps of `incoming` what differs from the newest delivery in `stored`.

    Args:
        key: the columns that name an observation.
        values: the columns that must differ.
        unsettled: a condition on `i` and `s` under which an equal delivery is taken all the same.
    """
    same_key = " and ".join(f"i.{c} = s.{c}" for c in key)
    differs = " or ".join(f"i.{c} is distinct from s.{c}" for c in values)
    again = " and ".join(f"i.{c} is not distinct from t.{c}" for c in (*key, *values, "_ingested_at"))
    names = ", ".join(key)
    return f"""
        select i.* from incoming i left join (
            select s.* from stored s semi join incoming i on {same_key}
            qualify row_number() over (partition by {names} order by _ingested_at desc, _loaded_at desc, _run_id desc) = 1
        ) s on {same_key}
        anti join stored t on {again}
        where s.{key[0]} is null or {differs} or {unsettled}
    """


def land_rejects(
    lake: Lake, rejects: Sequence[tuple[str | None, BadRecordError]], *, received_at: datetime, run_id: str
) -> int:
    """
    Append *rejects*, pairs of (symbol, error), to `bronze.rejects`; return how many were new.

    A record that stands there already, from any run, is not written again.
    """
    import pyarrow as pa

    if not rejects:
        return 0
    rows = pa.table(
        {
            "source": [e.source for _, e in rejects],
            "symbol": pa.array([symbol for symbol, _ in rejects], pa.string()),
            "received_at": pa.array([received_at] * len(rejects), pa.timestamp("us", "UTC")),
            "reason": [e.reason for _, e in rejects],
            "payload": pa.array([e.payload for _, e in rejects], pa.binary()),
            "_run_id": [run_id] * len(rejects),
        }
    )
    new = """
        select i.* from (select distinct on (source, symbol, payload) * from incoming) i
        anti join stored s on i.source = s.source and i.symbol is not distinct from s.symbol and i.payload = s.payload
    """
    return lake.append(REJECTS, rows, new=new, within=f"source = '{rejects[0][1].source}'").rows_added
