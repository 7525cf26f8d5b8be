"""Read the times that venues print, in whole microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_read_iso = datetime.fromisoformat
_DAY_US = 86_400_000_000
_MILLISECONDS = range(10**12, 10**13)  # 2001 to 2286, thirteen digits
_LEAST_US, _MOST_US = 10**15, 10**16
MICROSECONDS = range(_LEAST_US, _MOST_US)  # the same years, sixteen digits
_SECONDS = re.compile(r"(\d{10})(?:\.(\d+))?")


def microseconds(number: int) -> int:
    """
    Return a time that is printed in milliseconds or microseconds; its magnitude tells which.

    Raises:
        ValueError: it is neither.

    >>> microseconds(1723161255342), microseconds(1723161255342001)
    (1723161255342000, 1723161255342001)

    """
    if number in MICROSECONDS:
        return number
    if number in _MILLISECONDS:
        return number * 1000
    raise ValueError(f"the time {number} is neither in milliseconds nor in microseconds")


def microseconds_of_iso(text: str) -> int:
    """
    Return the time that an ISO 8601 *text* with a zone says; digits beyond microseconds are cut off.

    Raises:
        ValueError: it is none.

    >>> microseconds_of_iso("2021-04-17T16:43:37.121358Z")
    1618677817121358

    """
    try:
        since = _read_iso(text) - _EPOCH
    except ValueError as nonsense:
        raise ValueError(f"the time {text!r} is not ISO 8601") from nonsense
    except TypeError as nonsense:
        raise ValueError(f"the time {text!r} has no zone") from nonsense
    time_us = since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds
    if not _LEAST_US <= time_us < _MOST_US:
        raise ValueError(f"the time {text!r} is not of this age")
    return time_us


def microseconds_of_seconds(text: str) -> int:
    """
    Return the time that is printed as *text* in seconds; digits beyond microseconds are cut off.

    Raises:
        ValueError: it is none.

    >>> microseconds_of_seconds("1688669597.8277369")
    1688669597827736

    """
    printed = _SECONDS.fullmatch(text)
    if printed is None:
        raise ValueError(f"the time {text} is not in seconds")
    return int(printed[1]) * 1_000_000 + int((printed[2] or "")[:6].ljust(6, "0"))
