"""
The SQL of checks: placeholders and what stands in for them.

Checks are written in the SQL that DuckDB and Spark share; what they spell differently is a placeholder
with arguments and stands in a `Dialect`.

=========================  =================================================================
`{object}`                 the checked table
`{now}`  `{now_ms}`        the present: a timestamp with zone; milliseconds since 1970-01-01 UTC
`{today}`                  the present UTC date
`{coins}`                  the tracked coins in brackets, for `coin_id in {coins}`
`{tracked_coins}`          the tracked coins as a relation with the column coin_id
`{epoch_ms(x)}`            a timestamp as milliseconds since 1970-01-01 UTC
`{days_between(a, b)}`     days from date a to date b
=========================  =================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

PLACEHOLDER = re.compile(r"\{(\w+)(?:\(([^{}]*)\))?\}")
VALUES = frozenset({"object", "now", "now_ms", "today", "coins", "tracked_coins"})
CLOCK_SKEW = timedelta(minutes=10)
"""How far a vendor's clock may be ahead of ours before its data is of the future."""
FUNCTIONS = frozenset({"epoch_ms", "days_between"})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Dialect:
    """How one engine spells what engines spell differently; `{}`, `{0}`, … are the arguments."""

    timestamp: str
    epoch_ms: str
    days_between: str


DUCKDB = Dialect(
    timestamp="timestamptz '{}'",
    epoch_ms="epoch_ms({})",
    days_between="date_diff('day', {0}, {1})",
)


@dataclass(frozen=True)
class Rendering:
    """What stands in for the placeholders of one run of checks."""

    dialect: Dialect
    values: Mapping[str, str]

    @classmethod
    def at(cls, now: datetime, coins: Sequence[str], dialect: Dialect = DUCKDB) -> Rendering:
        """Return the rendering for a run at *now* (a zoned datetime) over the tracked *coins* (CoinGecko ids)."""
        names = [literal(c) for c in coins] or ["cast(null as varchar(1))"]
        now = now.astimezone(UTC)
        return cls(
            dialect,
            {
                "now": dialect.timestamp.format(now.isoformat(sep=" ")),
                "now_ms": str((now - EPOCH) // timedelta(milliseconds=1)),
                "today": f"date '{(now + CLOCK_SKEW).date()}'",
                "coins": f"({', '.join(names)})",
                "tracked_coins": f"(select coin_id from (values {', '.join(f'({n})' for n in names)}) as listed (coin_id))",
            },
        )

    def sql(self, template: str, table: str) -> str:
        """Return *template* over *table* (as `layer.table`) with every placeholder replaced."""

        def replacement(found: re.Match[str]) -> str:
            name, arguments = found[1], found[2]
            if arguments is not None:
                return getattr(self.dialect, name).format(*_split(arguments))
            return table if name == "object" else self.values[name]

        return PLACEHOLDER.sub(replacement, template)


def unknown_placeholders(template: str) -> list[str]:
    """Return the placeholders in *template* that no rendering replaces."""
    return [
        m[0] for m in PLACEHOLDER.finditer(template) if m[1] not in (VALUES if m[2] is None else FUNCTIONS)
    ]


def literal(value: object) -> str:
    """Return *value* (text, a number or a bool) as an SQL literal."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value).lower()


def _split(arguments: str) -> list[str]:
    """Return the comma-separated *arguments*, minding brackets."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [p.strip() for p in parts]
