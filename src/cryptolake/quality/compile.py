"""
A contract -> its checks.

=================================================  ==============================================
the contract says                                  the check is
=================================================  ==============================================
a table                                            `exists`, `schema`
`primaryKey`                                       `unique_key`
`required`                                         `<column>_not_null`
`minimum`, `exclusiveMaximum`, …; a double         `<column>_positive`, `_not_negative`,
                                                   `_not_positive`, `_in_range`, `_finite`
`minLength`, `maxLength`                           `<column>_not_empty`, `_length_in_range`
`enum`                                             `<column>_valid`
`relationships`                                    `<column>_exists_in_<table>`
`slaProperties: freshness`                         `freshness`: passed up to `value`, a warning up
                                                   to `valueExt`, failed after
`quality`: library (rowCount), sql, custom         its `id`
=================================================  ==============================================

Doubles that are NaN or infinite break the check of their range, or `_finite` where they have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any

from cryptolake.contracts import Column, Contract
from cryptolake.errors import ContractError
from cryptolake.quality.check import FRESHNESS, ROWS, Check, Kind, Severity, Threshold
from cryptolake.quality.sql import CLOCK_SKEW, literal, unknown_placeholders

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, ServiceLevelAgreementProperty

NONE = Threshold.exactly(0)
CLOCK_SKEW_MS = CLOCK_SKEW // timedelta(milliseconds=1)
HOURS = {"h": 1, "d": 24}
MS_OF_UNIT = {"milliseconds": "{}", "seconds": "{} * 1000", "microseconds": "{} / 1000"}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
WORDS = {">=": "at least", ">": "greater than", "<=": "at most", "<": "less than"}
LENGTHS = {"minLength": ">=", "maxLength": "<="}
INFINITY = "cast('infinity' as double)"


def compile_checks(contract: Contract) -> tuple[Check, ...]:
    """
    Return every check that *contract* asks for.

    Raises:
        ContractError: a rule cannot be checked as it is written, or two checks have one name.
    """
    checks = (
        *_of_table(contract),
        *(_freshness(contract, p) for p in contract.odcs.slaProperties or [] if p.property == "freshness"),
        *(check for column in contract.columns for check in _of_column(contract, column)),
        *_rules(contract),
    )
    for check in checks:
        if unknown := unknown_placeholders(f"{check.value} {check.offending or ''}"):
            raise ContractError(
                f"contract {contract.name}: the rule {check.name} has unknown placeholders {', '.join(unknown)}"
            )
    if doubled := [name for name, times in Counter(c.name for c in checks).items() if times > 1]:
        raise ContractError(
            f"contract {contract.name}: several checks are named {', '.join(doubled)}; give each rule its own id"
        )
    return checks


def _of_table(contract: Contract) -> Iterator[Check]:
    yield Check(
        contract.name,
        "exists",
        None,
        "completeness",
        "error",
        Kind.EXISTS,
        "The table is there.",
        Threshold.exactly(1),
    )
    yield Check(
        contract.name,
        "schema",
        None,
        "conformity",
        "error",
        Kind.SCHEMA,
        "The columns are those of the contract.",
        NONE,
    )
    if contract.key:
        key = ", ".join(contract.key)
        doubled = f"select {key}, count(*) as copies from {{object}} group by {key} having count(*) > 1"
        yield Check(
            *(contract.name, "unique_key", None, "uniqueness", "error", Kind.SQL),
            description=f"No two rows have the same {key}.",
            threshold=NONE,
            value=f"select coalesce(sum(copies - 1), 0) from ({doubled}) doubled",
            stands_alone=True,
            offending=doubled,
        )


def _of_column(contract: Contract, column: Column) -> Iterator[Check]:
    options: Mapping[str, Any] = column.odcs.logicalTypeOptions or {}
    if unknown := options.keys() - BOUNDS.keys() - LENGTHS.keys():
        raise ContractError(
            f"contract {contract.name}: {column.name} has options without a check: {', '.join(sorted(unknown))}"
        )
    name = column.name
    if column.required:
        yield _rows_check(
            contract, column, "not_null", "completeness", f"{name} is not null", f"{name} is null"
        )
    limits = {op: options[o] for o, op in BOUNDS.items() if o in options}
    if limits or column.type in {"double", "float"}:
        yield _range(contract, column, limits)
    lengths = {op: options[o] for o, op in LENGTHS.items() if o in options}
    if lengths:
        asked = " and ".join(f"length({name}) {op} {n}" for op, n in lengths.items())
        suffix = "not_empty" if lengths == {">=": 1} else "length_in_range"
        yield _rows_check(contract, column, suffix, "conformity", asked, f"not ({asked})")
    if column.odcs.enum:
        allowed = [literal(e.value) for e in column.odcs.enum]
        yield _rows_check(
            *(contract, column, "valid", "conformity"),
            f"{name} is one of {', '.join(allowed)}",
            f"{name} not in ({', '.join(allowed)})",
        )
    for relationship in column.odcs.relationships or []:
        yield _foreign_key(contract, column, str(relationship.to))


def _range(contract: Contract, column: Column, limits: Mapping[str, Any]) -> Check:
    """Return the check that the column keeps its *limits* (by comparison) and, if a double, is a finite number."""
    name, is_double = column.name, column.type in {"double", "float"}
    quote = "date {}" if column.type == "date" else "{}"
    asked = [f"{name} {op} {quote.format(literal(bound))}" for op, bound in limits.items()]
    words = [f"{WORDS[op]} {bound}" for op, bound in limits.items()]
    if is_double:
        has_lowest, has_highest = limits.keys() & {">", ">="}, limits.keys() & {"<", "<="}
        # NaN is the greatest of all numbers to both engines.
        asked += [] if has_highest else [f"{name} < {INFINITY}"]
        asked += [] if has_lowest else [f"{name} > -{INFINITY}"]
        words.append("finite")
    suffix = {(">", 0): "positive", (">=", 0): "not_negative", ("<=", 0): "not_positive"}
    named = (
        suffix.get(next(iter(limits.items())), "in_range")
        if len(limits) == 1
        else "in_range"
        if limits
        else "finite"
    )
    return _rows_check(
        *(contract, column, named, "accuracy"),
        f"{name} is {' and '.join(words)}",
        f"not ({' and '.join(asked)})",
    )


def _rows_check(
    contract: Contract, column: Column, suffix: str, dimension: str, holds: str, broken: str
) -> Check:
    """Return the check that no row is *broken* (an SQL condition); all of a table's are counted in one scan."""
    shown = ", ".join(dict.fromkeys((*contract.key, column.name)))
    return Check(
        *(contract.name, f"{column.name}_{suffix}", column.name, dimension, "error", Kind.SQL),
        description=f"{holds}.",
        threshold=NONE,
        value=f"count(case when {broken} then 1 end)",
        offending=f"select {shown} from {{object}} where {broken}",
    )


def _foreign_key(contract: Contract, column: Column, target: str) -> Check:
    table, _, key = target.rpartition(".")
    orphans = (
        f"select f.{column.name}, count(*) as orphans from {{object}} f anti join {table} d on d.{key} = f.{column.name} "
        f"where f.{column.name} is not null group by f.{column.name}"
    )
    return Check(
        *(
            contract.name,
            f"{column.name}_exists_in_{table.rpartition('.')[2]}",
            column.name,
            "consistency",
            "error",
            Kind.SQL,
        ),
        description=f"Every {column.name} is in {target}.",
        threshold=NONE,
        value=f"select coalesce(sum(orphans), 0) from ({orphans}) offending",
        stands_alone=True,
        offending=orphans,
    )


def _freshness(contract: Contract, sla: ServiceLevelAgreementProperty) -> Check:
    column = next((c for c in contract.columns if c.name == str(sla.element).rpartition(".")[2]), None)
    if column is None or sla.unit not in HOURS or sla.value is None:
        raise ContractError(
            f"contract {contract.name}: freshness needs a column as element, a value, and a unit of h or d"
        )
    instant = {"timestamptz": "{{epoch_ms({})}}", "date": "{{epoch_ms(cast({} as timestamp))}}"}.get(
        column.type, MS_OF_UNIT.get((column.unit or "").split(" ")[0])
    )
    if instant is None:
        raise ContractError(
            f"contract {contract.name}: freshness of {column.name}, which is no time and has no unit of time"
        )
    ms = instant.format(column.name)
    is_tracked = "coin_id in {coins} and " if "coin_id" in contract.column_names else ""
    newest = f"max(case when {is_tracked}{ms} <= {{now_ms}} + {CLOCK_SKEW_MS} then {ms} end)"
    hours = HOURS[sla.unit]
    return Check(
        *(contract.name, FRESHNESS, column.name, "timeliness", "error", Kind.SQL),
        description=f"Hours since the newest {column.name}{' of a tracked coin' if is_tracked else ''}.",
        threshold=Threshold.at_most(float(sla.value) * hours, tolerated=float(sla.valueExt or -inf) * hours),
        value=f"({{now_ms}} - {newest}) / 3600000.0",
    )


def _rules(contract: Contract) -> Iterator[Check]:
    [table] = contract.odcs.schema_ or []
    yield from (_rule(contract, None, rule) for rule in table.quality or [] if rule.type != "text")
    for column in contract.columns:
        yield from (
            _rule(contract, column.name, rule) for rule in column.odcs.quality or [] if rule.type != "text"
        )


def _rule(contract: Contract, column: str | None, rule: DataQuality) -> Check:
    """Return the check of an ODCS quality *rule*, whose custom properties may say `offendingRows` and `per`."""
    custom = {str(p.property): str(p.value) for p in rule.customProperties or []}
    severity: Severity = "error" if rule.severity in {None, "error"} else "warning"
    head = (
        contract.name,
        rule.id or f"{rule.metric or rule.type}",
        column,
        rule.dimension or "conformity",
        severity,
    )
    match rule.type, rule.metric or rule.implementation:
        case "library", "rowCount":
            return Check(
                *head, Kind.SQL, rule.description or "The number of rows.", _threshold(contract, rule), ROWS
            )
        case "custom", Kind.FLOOR.value:
            return Check(*head, Kind.FLOOR, rule.description or "Rows never get fewer.", value=ROWS)
        case "custom", Kind.ANOMALY.value:
            per = custom.get("per")
            value = f"coalesce(count(*) * 1.0 / nullif(count(distinct {per}), 0), 0)" if per else ROWS
            return Check(*head, Kind.ANOMALY, rule.description or "The number of rows is usual.", value=value)
        case "sql", _ if rule.query:
            return Check(
                *(*head, Kind.SQL, rule.description or "The rule holds.", _threshold(contract, rule)),
                value=rule.query.replace("{offendingRows}", custom.get("offendingRows", "")).strip(),
                stands_alone=True,
                offending=custom.get("offendingRows"),
            )
    raise ContractError(f"contract {contract.name}: no way to check the rule {rule.id} of type {rule.type}")


def _threshold(contract: Contract, rule: DataQuality) -> Threshold:
    asked = {
        Threshold.exactly: rule.mustBe,
        Threshold.above: rule.mustBeGreaterThan,
        Threshold.at_least: rule.mustBeGreaterOrEqualTo,
        Threshold.below: rule.mustBeLessThan,
        Threshold.at_most: rule.mustBeLessOrEqualTo,
    }
    found = [make(float(bound)) for make, bound in asked.items() if bound is not None]
    found += [Threshold.between(*rule.mustBeBetween)] if rule.mustBeBetween else []
    if len(found) != 1:
        raise ContractError(
            f"contract {contract.name}: the rule {rule.id} needs one of mustBe, mustBeGreaterThan, mustBeBetween, …"
        )
    return found[0]
