"""Alternative.me's side of the protocol, answered from recordings: pure functions of the request."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.recordings import Recordings

PATHS = frozenset({"/fng/", "/fng"})
DAY = 86_400

_DATE_FORMATS = {"world": "%d-%m-%Y", "us": "%m-%d-%Y", "cn": "%Y-%m-%d", "kr": "%Y-%m-%d"}


def answer(request: Request, recordings: Recordings, as_of: datetime) -> Answer | None:
    """
    Return what Alternative.me answers at *as_of*, None for a path that is not Alternative.me's.

    All values are strings and the newest day comes first; only that one says when it will change.
    """
    if request.path not in PATHS:
        return None
    limit = request.query.get("limit", "1")
    if not limit.isdecimal():
        return _answer([], error="Invalid limit")
    date_format = _DATE_FORMATS.get(request.query.get("date_format", ""))
    now = int(as_of.timestamp())
    known = [value for value in recordings.index if value.timestamp <= now]
    entries = [
        {
            "value": str(day.value),
            "value_classification": day.classification,
            "timestamp": datetime.fromtimestamp(day.timestamp, UTC).strftime(date_format)
            if date_format
            else str(day.timestamp),
        }
        for day in reversed(known[-int(limit) :])
    ]
    if entries:
        entries[0]["time_until_update"] = str(DAY - now % DAY)
    return _answer(entries, error=None)


def _answer(entries: list[dict[str, str]], error: str | None) -> Answer:
    return Answer.json({"name": "Fear and Greed Index", "data": entries, "metadata": {"error": error}})
