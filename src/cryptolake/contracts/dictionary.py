"""The data dictionary: every table and column, written out from the contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, SchemaObject

    from cryptolake.contracts.contract import Column, Contract

LAYERS = ("bronze", "silver", "gold", "quality")
COMPARISONS = {
    "mustBe": "=",
    "mustNotBe": "≠",
    "mustBeGreaterThan": ">",
    "mustBeGreaterOrEqualTo": "≥",
    "mustBeLessThan": "<",
    "mustBeLessOrEqualTo": "≤",
}
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "multipleOf": "a multiple of {}",
    "pattern": "like `{}`",
}
HEAD = """# Data dictionary

Every table and column of the lake, written out from the contracts in `src/cryptolake/contracts/tables/`.
Nullable means that null is a proper value; storage accepts null everywhere, so that a fault can land and
its check can find it. Columns that begin with `_` say how a row came here and never make two rows differ.
"""


def data_dictionary(contracts: Mapping[str, Contract]) -> str:
    """
    Return the data dictionary of *contracts*, in Markdown.

    Tables stand in the order of their layers, columns in the order of their field ids.
    """
    ordered = sorted(contracts.values(), key=lambda c: (LAYERS.index(c.layer), c.name))
    index = [f"* [{c.name}](#{c.name.replace('.', '')}): {_words(c.purpose)}" for c in ordered]
    return "\n".join((HEAD, *index, "", *("\n".join(_section(c)) for c in ordered)))


def _section(contract: Contract) -> Iterator[str]:
    description = contract.odcs.description
    yield from (f"## {contract.name}", "", _words(contract.purpose), "")
    for note in (description.usage, description.limitations) if description else ():
        if note:
            yield from (_words(note), "")
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {_cell(value)} |" for name, value in _facts(contract) if value)
    yield from ("", "| column | type | unit | null | allowed | meaning |", "|---|---|---|---|---|---|")
    yield from (_column(c) for c in contract.columns)
    yield from ("", "Checks beyond keys, nulls, allowed values and references:", "")
    yield from _checks(contract)
    yield ""


def _facts(contract: Contract) -> Iterator[tuple[str, str]]:
    yield (
        "one row is",
        _words(_table(contract).dataGranularityDescription).removeprefix("One row ").rstrip("."),
    )
    yield "key", ", ".join(f"`{c}`" for c in contract.key) or "none"
    yield (
        "partitioned by",
        ", ".join(f"`{p.transform}({p.column})`" for p in contract.partitions) or "nothing",
    )
    yield "sorted by", ", ".join(f"`{c}`" for c in contract.sort_order)
    yield "snapshots kept", _retention(contract)
    yield "contract version", contract.version


def _retention(contract: Contract) -> str:
    kept = contract.retention
    every = f", one per {_span(kept.resolution)}" if kept.resolution else ""
    tags = f", and one a day for {kept.daily_tags} days" if kept.daily_tags else ""
    return f"{_span(kept.age)}{every}{tags}"


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}{'s' * (seconds > size)}"
    return f"{seconds} seconds"


def _column(column: Column) -> str:
    meaning = _words(column.description)
    if references := [str(r.to) for r in column.odcs.relationships or [] if r.to]:
        meaning += " References " + ", ".join(f"`{r}`" for r in references) + "."
    if column.relative_tolerance:
        meaning += f" Equal to within {column.relative_tolerance:g}, relatively."
    cells = (
        f"`{column.name}`",
        column.type,
        column.unit or "",
        "no" if column.required else "yes",
        ", ".join(_allowed(column)),
        meaning,
    )
    return f"| {' | '.join(_cell(c) for c in cells)} |"


def _allowed(column: Column) -> Iterator[str]:
    yield from (f"`{v.value}`" for v in column.odcs.enum or [])
    for option, value in (column.odcs.logicalTypeOptions or {}).items():
        is_any_text = option == "minLength" and value == 1
        yield "not empty" if is_any_text else LIMITS.get(option, option + " {}").format(value)


def _checks(contract: Contract) -> Iterator[str]:
    for sla in contract.odcs.slaProperties or []:
        late = f", failed after {sla.valueExt} {sla.unit}" if sla.valueExt else ""
        yield f"* `{sla.property}` of `{str(sla.element).split('.')[-1]}`: a warning after {sla.value} {sla.unit}{late}."
    for place, rules in (
        ("", _table(contract).quality),
        *((f"{c.name}.", c.odcs.quality) for c in contract.columns),
    ):
        yield from (_check(place, rule) for rule in rules or [])
    if not contract.odcs.slaProperties and not _table(contract).quality:
        yield "* none"


def _check(place: str, rule: DataQuality) -> str:
    meaning = _words(rule.description) or f"{rule.metric or rule.type} {_threshold(rule)}"
    return f"* `{place}{rule.id or rule.name}` ({rule.severity}, {rule.dimension}): {meaning}"


def _threshold(rule: DataQuality) -> str:
    return " and ".join(
        f"{sign} {v}" for name, sign in COMPARISONS.items() if (v := getattr(rule, name, None)) is not None
    )


def _table(contract: Contract) -> SchemaObject:
    [table] = contract.odcs.schema_ or []
    return table


def _words(text: Any) -> str:
    return " ".join(str(text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
