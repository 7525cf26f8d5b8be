"""Take JSON arrays apart without losing the bytes of their elements, and without trusting any of them."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_BLANK = re.compile(r"[ \t\r\n]*")
_LONGEST_INTEGER = 25


class Slice(NamedTuple):
    """One element of an array: its value, and its text exactly as received."""

    value: Any
    text: str


def _integer(digits: str) -> int | float:
    # An integer too long to mean anything becomes a float: int() refuses more than 4300 digits.
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


_JSON = json.JSONDecoder(parse_int=_integer)


def array_slices(body: bytes, *names: str) -> dict[str, list[Slice]]:
    """
    Return the elements of the arrays that the JSON object *body* holds under *names*.

    Reads what strict parsers refuse (NaN, Infinity, numbers beyond a double), so that one such
    element does not take the others with it.

    Raises:
        ValueError: if *body* is not a whole JSON object, or lacks one of the arrays.

    >>> array_slices(b'{"prices": [[1, NaN], [2,3.50]]}', "prices")["prices"][1].text
    '[2,3.50]'

    """
    try:
        text = body.decode("utf-8-sig")
        found = _members(text, names)
    except (RecursionError, IndexError) as nonsense:
        raise ValueError("it is not a JSON document") from nonsense
    for name in names:
        if name not in found:
            raise ValueError(f"it has no array {name!r}")
    return found


def _skip(text: str, at: int) -> int:
    return _BLANK.match(text, at).end()  # type: ignore[union-attr]  # the pattern matches anywhere


def _members(text: str, names: tuple[str, ...]) -> dict[str, list[Slice]]:
    at = _after(text, 0, "{")
    found: dict[str, list[Slice]] = {}
    while text[at] != "}":
        name, at = _JSON.raw_decode(text, at)
        at = _after(text, at, ":")
        if name in names and text[at] == "[":
            found[name], at = _elements(text, at)
        else:
            _, at = _JSON.raw_decode(text, at)
        at = _next(text, at, "}")
    if _skip(text, at + 1) != len(text):
        raise ValueError("something follows its end")
    return found


def _elements(text: str, at: int) -> tuple[list[Slice], int]:
    elements = []
    at = _after(text, at, "[")
    while text[at] != "]":
        value, end = _JSON.raw_decode(text, at)
        elements.append(Slice(value, text[at:end]))
        at = _next(text, end, "]")
    return elements, at + 1


def _after(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at] != mark:
        raise ValueError(f"it has {text[at]!r} at {at} in place of {mark!r}")
    return _skip(text, at + 1)


def _next(text: str, at: int, closing: str) -> int:
    at = _skip(text, at)
    if text[at] == closing:
        return at
    at = _after(text, at, ",")
    if text[at] == closing:
        raise ValueError(f"it has a comma before {closing!r} at {at}")
    return at
