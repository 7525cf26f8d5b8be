"""
Alternative.me's answers, byte by byte: pure functions, no clock, no socket.

Wire format: https://alternative.me/crypto/fear-and-greed-index/#api
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from cryptolake.errors import BadRecordError
from cryptolake.sources.json_slices import array_slices
from cryptolake.sources.records import IndexHistory, IndexValue, VendorError

SOURCE = "alternative.me"

CLASSES = ("Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed")
EARLIEST = 1_517_443_200  # 2018-02-01, the first day of the index
CLOCK_SKEW = 10 * 60
DAY = 86_400

_HIGHEST = 100
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_MESSAGE_LENGTH = 300


def fng(body: bytes, *, received_at_ms: int) -> IndexHistory:
    """
    Parse an answer of `/fng/`.

    The vendor prints every value as a string and the newest day first. A timestamp within a day
    stands for its day. Of entries for the same day the last counts. An entry that cannot be trusted
    becomes a reject with its own bytes; the others go on.

    Raises:
        BadRecordError: if the body as a whole is no such answer, or only the vendor's complaint.

    >>> fng(b'{"data":[{"value":"33","value_classification":"Fear","timestamp":"1777161600"}]}',
    ...     received_at_ms=1777200000000).values
    [IndexValue(value=33, classification='Fear', timestamp=1777161600)]

    """
    complaint = vendor_error(body).message
    try:
        entries = array_slices(body, "data")["data"]
    except ValueError as nonsense:
        reason = f"the vendor complains: {complaint}" if complaint else f"the answer is no index: {nonsense}"
        raise BadRecordError(SOURCE, reason, body) from nonsense
    if complaint and not entries:
        raise BadRecordError(SOURCE, f"the vendor complains: {complaint}", body)
    newest = received_at_ms // 1000 + CLOCK_SKEW
    values: dict[int, IndexValue] = {}
    rejects: list[BadRecordError] = []
    for entry in entries:
        try:
            value = _index_value(entry.value, newest)
            values[value.timestamp] = value
        except ValueError as reason:
            rejects.append(BadRecordError(SOURCE, str(reason), entry.text.encode()))
    return IndexHistory(received_at_ms, [values[day] for day in sorted(values)], rejects)


def vendor_error(body: bytes) -> VendorError:
    """
    Return what the `metadata` of an answer complains of; an empty message where it does not.

    >>> vendor_error(b'{"data":[],"metadata":{"error":"Invalid limit"}}').message
    'Invalid limit'

    """
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return VendorError(None, "")
    metadata = found.get("metadata") if isinstance(found, dict) else None
    complaint = metadata.get("error") if isinstance(metadata, dict) else None
    return VendorError(None, str(complaint)[:_MESSAGE_LENGTH] if complaint else "")


def _index_value(entry: Any, newest: int) -> IndexValue:
    if not isinstance(entry, dict):
        raise ValueError("entry is not an object")  # a reason, not a wrong argument
    value = _whole(entry.get("value"), "value")
    if not 0 <= value <= _HIGHEST:
        raise ValueError("value is outside 0 to 100")
    classification = entry.get("value_classification")
    if classification not in CLASSES:
        raise ValueError("classification is unknown")
    timestamp = _whole(entry.get("timestamp"), "timestamp")
    if timestamp < EARLIEST:
        raise ValueError("timestamp is before 2018-02-01")
    if timestamp > newest:
        raise ValueError("timestamp is in the future")
    return IndexValue(value, classification, timestamp - timestamp % DAY)


def _whole(printed: Any, label: str) -> int:
    if isinstance(printed, str) and _WHOLE.fullmatch(printed):
        return int(printed)
    if isinstance(printed, int) and not isinstance(printed, bool):
        return printed
    raise ValueError(f"{label} is not a whole number")
