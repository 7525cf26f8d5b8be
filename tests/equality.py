"""
When two tables are equal, and what is different where they are not.

Two tables are equal when they have the same keys and all columns agree but those that begin with `_`, and
those that their contract does not compare: they tell how a row came here. Doubles are compared by value; columns with a tolerance may lie that far
apart, relative to the larger of the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, isnan
from typing import Any

import pyarrow as pa

from cryptolake.contracts import Contract

Rows = Sequence[Mapping[str, Any]]
SHOWN = 10


def table_differences(
    actual: pa.Table | Rows, expected: pa.Table | Rows, contract: Contract, *, relative: float | None = None
) -> list[str]:
    """
    Compare two versions of the table of *contract*, by its key and with the tolerances of its columns.

    With *relative* every column may lie that far apart, as against a computation in another order.
    """
    tolerances = {c.name: c.relative_tolerance for c in contract.columns if c.relative_tolerance}
    untold = {c.name for c in contract.columns if not c.compared}
    return differences(
        _without(actual, untold),
        _without(expected, untold),
        key=contract.key,
        relative=tolerances if relative is None else relative,
    )


def differences(
    actual: pa.Table | Rows,
    expected: pa.Table | Rows,
    *,
    key: Sequence[str],
    relative: float | Mapping[str, float] = 0.0,
) -> list[str]:
    """
    Return what is different in *actual*, a sentence each, at most ten and one that counts the others.

    *key* names the columns that a row is found by. *relative* is the tolerance of all columns, or of those
    that it names. Columns that begin with `_` are not compared.
    """
    ours, theirs = _columns(actual), _columns(expected)
    found = _column_set_differences(ours, theirs) or _row_differences(ours, theirs, key, relative)
    others = len(found) - SHOWN
    return found[:SHOWN] + ([f"and {others} other differences"] if others > 0 else [])


def _without(table: pa.Table | Rows, names: set[str]) -> pa.Table | Rows:
    if isinstance(table, pa.Table):
        return table.select([name for name in table.column_names if name not in names])
    return [{k: v for k, v in row.items() if k not in names} for row in table] if names else table


def _columns(table: pa.Table | Rows) -> dict[str, list[Any]]:
    if isinstance(table, pa.Table):
        return {name: table[name].to_pylist() for name in table.column_names if not name.startswith("_")}
    names = dict.fromkeys(name for row in table for name in row if not name.startswith("_"))
    return {name: [row.get(name) for row in table] for name in names}


def _column_set_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    if not ours or not theirs:  # no rows in a list, which says nothing of columns
        return []
    return [f"column {c} is missing" for c in theirs if c not in ours] + [
        f"column {c} is not expected" for c in ours if c not in theirs
    ]


def _row_differences(
    ours: Mapping[str, list[Any]],
    theirs: Mapping[str, list[Any]],
    key: Sequence[str],
    relative: float | Mapping[str, float],
) -> list[str]:
    our_keys, their_keys = _keys(ours, key), _keys(theirs, key)
    our_places = {k: i for i, k in enumerate(our_keys)}
    their_places = {k: i for i, k in enumerate(their_keys)}
    found = [f"row {_text(k)} is there {n} times" for k, n in Counter(our_keys).items() if n > 1]
    found += [f"row {_text(k)} is expected {n} times" for k, n in Counter(their_keys).items() if n > 1]
    found += [f"row {_text(k)} is missing" for k in their_places if k not in our_places]
    found += [f"row {_text(k)} is not expected" for k in our_places if k not in their_places]
    common = [k for k in our_places if k in their_places]
    our_order, their_order = [our_places[k] for k in common], [their_places[k] for k in common]
    for name in (n for n in theirs if n not in key and n in ours):
        tolerance = relative.get(name, 0.0) if isinstance(relative, Mapping) else relative
        ours_here, theirs_here = ours[name], theirs[name]
        found += [
            f"{name} of {_text(k)} is {ours_here[i]!r}, expected {theirs_here[j]!r}"
            for k, i, j in zip(common, our_order, their_order, strict=True)
            if ours_here[i] != theirs_here[j] and not _agree(ours_here[i], theirs_here[j], tolerance)
        ]
    return found


def _keys(columns: Mapping[str, list[Any]], key: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(columns[c] for c in key), strict=True)) if columns else []


def _agree(a: Any, b: Any, tolerance: float) -> bool:
    """Say whether two values that are not the same are equal: both NaN, or near enough."""
    if not (isinstance(a, float | int) and isinstance(b, float | int)):
        return False
    if isnan(a) or isnan(b):
        return isnan(a) and isnan(b)
    return abs(a - b) <= tolerance * max(abs(a), abs(b)) < inf


def _text(key: tuple[Any, ...]) -> str:
    return ", ".join(str(part) for part in key)
