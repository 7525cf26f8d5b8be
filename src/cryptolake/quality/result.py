"""What came of a check, as it is kept in `quality.check_results`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What came of a check, from good to bad; error means that the check itself could not run."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    ERROR = "error"


@dataclass(frozen=True)
class CheckResult:
    """One row of `quality.check_results`; the contract of that table says what the fields mean."""

    run_id: str
    checked_at: datetime
    check_name: str
    layer: str
    table_name: str
    column_name: str | None
    dimension: str
    severity: str
    status: Status
    metric_value: float | None
    threshold: str
    message: str | None
    snapshot_id: int | None
    duration_ms: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as plain values and one datetime."""
        return {**asdict(self), "status": self.status.value}


def worst(results: Iterable[CheckResult]) -> Status:
    """Return the worst status among *results*; passed where there are none."""
    order = list(Status)
    return max((r.status for r in results), key=order.index, default=Status.PASSED)


def exit_status(results: Iterable[CheckResult]) -> int:
    """Return the exit status that *results* ask for: 1 if any check failed or could not run, otherwise 0."""
    return int(worst(results) in {Status.FAILED, Status.ERROR})
