"""What a check is, and the threshold that its figure is held against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Literal

ROWS = "count(*)"
FRESHNESS = "freshness"
Severity = Literal["error", "warning"]
Verdict = Literal["passed", "warning", "failed"]


class Kind(StrEnum):
    """How a check comes to its figure."""

    EXISTS = "exists"
    SCHEMA = "schema"
    SQL = "sql"
    ANOMALY = "row_count_anomaly"
    FLOOR = "row_count_floor"


@dataclass(frozen=True)
class Threshold:
    """
    The figures that pass: from *lowest* to *highest*, without these two where it is *strict*.

    A figure up to *tolerated* is only a warning. *text* says all that for people.

    >>> Threshold.at_most(48, tolerated=72).verdict(50.0)
    'warning'
    >>> Threshold.above(0).verdict(0.0)
    'failed'
    """

    text: str
    lowest: float = -inf
    highest: float = inf
    strict: bool = False
    tolerated: float = -inf

    @classmethod
    def exactly(cls, figure: float) -> Threshold:
        """Pass only *figure*."""
        return cls(f"= {figure:.15g}", figure, figure)

    @classmethod
    def between(cls, lowest: float, highest: float) -> Threshold:
        """Pass from *lowest* to *highest*."""
        return cls(f"{lowest:.15g} to {highest:.15g}", lowest, highest)

    @classmethod
    def at_least(cls, lowest: float) -> Threshold:
        """Pass *lowest* and more."""
        return cls(f">= {lowest:.15g}", lowest)

    @classmethod
    def above(cls, bound: float) -> Threshold:
        """Pass more than *bound*."""
        return cls(f"> {bound:.15g}", bound, strict=True)

    @classmethod
    def at_most(cls, highest: float, *, tolerated: float = -inf) -> Threshold:
        """Pass up to *highest*, and warn up to *tolerated*."""
        warning = f", a warning up to {tolerated:.15g}" if tolerated > highest else ""
        return cls(f"<= {highest:.15g}{warning}", highest=highest, tolerated=tolerated)

    @classmethod
    def below(cls, bound: float) -> Threshold:
        """Pass less than *bound*."""
        return cls(f"< {bound:.15g}", highest=bound, strict=True)

    def verdict(self, figure: float | None) -> Verdict:
        """Judge *figure*; None (nothing to measure) and NaN never pass."""
        if figure is None:
            return "failed"
        if self.lowest < figure < self.highest or (not self.strict and self.lowest <= figure <= self.highest):
            return "passed"
        return "warning" if self.highest < figure <= self.tolerated else "failed"


@dataclass(frozen=True)
class Check:
    """
    One promise of the contract of *table*, and how to see whether it is kept.

    *name* is unique within its table, *column* None where the check is of the whole table. *value* is
    the SQL of its figure with placeholders (see `sql.py`): an aggregate over the table's rows, or, where
    it *stands_alone*, a select of its own. *offending* selects the rows that break it, *description*
    says what must hold. Where *severity* is warning, a breach is a warning and not a failure.
    *threshold* is None where past runs decide it.
    """

    table: str
    name: str
    column: str | None
    dimension: str
    severity: Severity
    kind: Kind
    description: str
    threshold: Threshold | None = None
    value: str = ""
    stands_alone: bool = False
    offending: str | None = None

    @property
    def needs_rows(self) -> bool:
        """Whether a table without rows breaks it: its freshness, and a least number of rows."""
        if self.name == FRESHNESS:
            return True
        return self.value == ROWS and self.threshold is not None and self.threshold.verdict(0.0) == "failed"
