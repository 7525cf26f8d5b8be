"""
Run the checks of whole layers, and keep every result.

All figures of a table are taken in one statement. Where that fails, they are taken one by one, so that a
check that cannot run is an `error` and hides no other. Of a table that is missing, `exists` is failed and
every other check is an error; of one that is there but cannot be read, all but `exists` are errors. Of an
optional table that is missing, or never had a row, nothing is checked. In a lake that has trades, and that neither
prices nor the index were ever ingested into, tables without a row are asked for neither rows nor freshness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import structlog

from cryptolake.errors import LakeError
from cryptolake.lake.evolve import differences
from cryptolake.quality.anomaly import RESULTS, History, read_history, threshold
from cryptolake.quality.check import Check, Kind
from cryptolake.quality.compile import compile_checks
from cryptolake.quality.result import CheckResult, Status
from cryptolake.quality.sql import Rendering

if TYPE_CHECKING:
    import pyarrow as pa

    from cryptolake.contracts import Contract
    from cryptolake.lake import Lake, Reader

TRADES = "bronze.realtime_trades"
DAILY = ("bronze.historical_prices", "bronze.fear_greed")
LAYERS = ("bronze", "silver", "gold")
SHOWN_ROWS = 5
LONGEST_TEXT = 500

log = structlog.get_logger(__name__)


def run_checks(
    lake: Lake,
    reader: Reader,
    *,
    layers: Sequence[str] = LAYERS,
    coins: Sequence[str],
    run_id: str,
    now: datetime,
) -> list[CheckResult]:
    """
    Check every table of *layers* against its contract, and append the results to `quality.check_results`.

    Args:
        lake: where the tables and the results are.
        reader: SQL over *lake*; it is refreshed first.
        layers: of bronze, silver and gold; checked in this order.
        coins: the tracked CoinGecko ids; others do not count for freshness.
        run_id: names this run in the results.
        now: the data's present (a zoned datetime); ages and future dates are measured from it.

    Returns:
        One result a check, in the order of layers, tables and contracts; breaches and broken checks
        are results, not exceptions.

    Raises:
        LakeError: the catalog cannot be read, or the results cannot be kept.
    """
    lake.ensure(RESULTS)  # past results decide some checks
    reader.refresh()
    contracts = [
        c for layer in layers for c in lake.contracts.values() if c.layer == layer and _is_due(lake, c)
    ]
    has_trades_alone = _had_rows(lake, TRADES) and not any(_had_rows(lake, name) for name in DAILY)
    checks = {c.name: _due(lake, c, has_trades_alone=has_trades_alone) for c in contracts}
    history = read_history(lake, reader, [check for of_table in checks.values() for check in of_table], now)
    run = _Run(lake, reader, Rendering.at(now, coins), history, frozenset(lake.tables()), run_id, now)
    results = [result for contract in contracts for result in run.of_table(contract, checks[contract.name])]
    keep_results(lake, results)
    for result in results:
        if result.status != Status.PASSED:
            log.warning(
                "check.not_passed",
                table=result.table_name,
                check=result.check_name,
                status=result.status.value,
            )
    return results


def keep_results(lake: Lake, results: Sequence[CheckResult]) -> None:
    """Append *results* to `quality.check_results`."""
    lake.ensure(RESULTS)
    lake.append(RESULTS, _rows(results, lake.contracts[RESULTS]))


def _is_due(lake: Lake, contract: Contract) -> bool:
    """Say whether there is something to check: an optional table counts once it has had rows."""
    return not contract.is_optional or _had_rows(lake, contract.name)


def _due(lake: Lake, contract: Contract, *, has_trades_alone: bool) -> tuple[Check, ...]:
    """Return the checks to run; where nothing daily was ever ingested, a table that never had a row need not have any."""
    checks = compile_checks(contract)
    if not has_trades_alone or not lake.exists(contract.name) or _had_rows(lake, contract.name):
        return checks
    return tuple(check for check in checks if not check.needs_rows)


def _had_rows(lake: Lake, name: str) -> bool:
    """Say whether rows were ever committed to a table."""
    try:
        return lake.exists(name) and lake.table(name).current_snapshot() is not None
    except LakeError:
        return True  # it is there and cannot be read, which its checks say


@dataclass(frozen=True)
class _Figure:
    """What was measured: *value*, or the *error* why it could not be."""

    value: float | None
    duration_ms: float
    error: str | None = None
    found: str = ""


@dataclass(frozen=True)
class _Run:
    lake: Lake
    reader: Reader
    rendering: Rendering
    history: History
    tables: frozenset[str]
    run_id: str
    now: datetime

    def of_table(self, contract: Contract, checks: Sequence[Check]) -> list[CheckResult]:
        """Return the results of all *checks* of one table."""
        began = self.lake.clock.monotonic()
        try:
            table = self.lake.table(contract.name)
        except LakeError as e:
            measured = {c.name: _Figure(None, 0.0, error=_first_line(e)) for c in checks}
            measured["exists"] = _Figure(float(contract.name in self.tables), self._ms_since(began))
            return [self._result(c, measured[c.name], None) for c in checks]
        snapshot = table.current_snapshot()
        exists = _Figure(1.0, self._ms_since(began))
        began = self.lake.clock.monotonic()
        found = differences(table, contract)
        schema = _Figure(float(len(found)), self._ms_since(began), found="; ".join(found))
        measured = self._measure(
            contract.name, [c for c in checks if c.kind not in {Kind.EXISTS, Kind.SCHEMA}]
        )
        measured |= {"exists": exists, "schema": schema}
        return [self._result(c, measured[c.name], snapshot.snapshot_id if snapshot else None) for c in checks]

    def _measure(self, table: str, checks: Sequence[Check]) -> dict[str, _Figure]:
        """Take the figures of *checks* in one statement, or one by one where that fails."""
        began = self.lake.clock.monotonic()
        try:
            [values] = self.reader.rows(self.rendering.sql(_statement(checks), table))
        except Exception as e:  # noqa: BLE001 (whatever is wrong with one check must not hide the others)
            if len(checks) == 1:
                return {checks[0].name: _Figure(None, self._ms_since(began), error=_first_line(e))}
            log.info("checks.taken_one_by_one", table=table, reason=_first_line(e))
            return {
                name: figure for check in checks for name, figure in self._measure(table, [check]).items()
            }
        share_ms = self._ms_since(began) / len(checks)
        return {
            check.name: _Figure(None if value is None else float(value), share_ms)
            for check, value in zip(checks, values, strict=True)
        }

    def _result(self, check: Check, figure: _Figure, snapshot_id: int | None) -> CheckResult:
        against = threshold(check, self.history)
        verdict = against.verdict(figure.value)
        status = Status.ERROR if figure.error else Status(verdict)
        if status == Status.FAILED and check.severity == "warning":
            status = Status.WARNING
        message = None
        if status == Status.ERROR:
            message = f"The check could not run: {figure.error}"
        elif status != Status.PASSED:
            value = "nothing to measure" if figure.value is None else f"{figure.value:.6g}"
            found = figure.found or self._sample(check)
            message = (
                f"{check.description} Found {value}, wanted {against.text}.{' ' if found else ''}{found}"
            )
        return CheckResult(
            run_id=self.run_id,
            checked_at=self.now,
            check_name=check.name,
            layer=check.table.split(".")[0],
            table_name=check.table,
            column_name=check.column,
            dimension=check.dimension,
            severity=check.severity,
            status=status,
            metric_value=figure.value,
            threshold=against.text,
            message=message,
            snapshot_id=snapshot_id,
            duration_ms=figure.duration_ms,
        )

    def _sample(self, check: Check) -> str:
        """Return up to five of the rows that break *check*, in words."""
        if not check.offending:
            return ""
        sql = f"select * from ({check.offending}) as offending order by all limit {SHOWN_ROWS}"
        try:
            rows = self.reader.table(self.rendering.sql(sql, check.table)).to_pylist()
        except Exception as e:  # noqa: BLE001 (the verdict stands without its sample)
            return f"No sample: {_first_line(e)}"
        return "For example: " + "; ".join(
            ", ".join(f"{k}={_shown(v)}" for k, v in row.items()) for row in rows
        )

    def _ms_since(self, began: float) -> float:
        return (self.lake.clock.monotonic() - began) * 1000


def _statement(checks: Sequence[Check]) -> str:
    """Return one select with a column for each of *checks*: the aggregates in one scan, the others beside it."""
    scanned = [f"{c.value} as c{i}" for i, c in enumerate(checks) if not c.stands_alone]
    columns = [f"({c.value}) as c{i}" if c.stands_alone else f"scanned.c{i}" for i, c in enumerate(checks)]
    scan = f" from (select {', '.join(scanned)} from {{object}}) as scanned" if scanned else ""
    return f"select {', '.join(columns)}{scan}"


def _rows(results: Sequence[CheckResult], contract: Contract) -> pa.Table:
    import pyarrow as pa

    from cryptolake.contracts.schemas import arrow_schema

    schema = arrow_schema(contract)
    schema = schema.remove(schema.get_field_index("_loaded_at"))
    return pa.Table.from_pylist([r.as_dict() for r in results], schema=schema)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:LONGEST_TEXT]


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, date):
        return value.isoformat()
    return ("null" if value is None else str(value))[:LONGEST_TEXT]
