"""A request as a replayed vendor sees it, and the answer it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON_HEADERS = {"content-type": "application/json; charset=utf-8", "cache-control": "public, max-age=30"}


@dataclass(frozen=True)
class Request:
    """A GET request: its path, its query (of a repeated parameter the last), its headers in lower case."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)

    @classmethod
    def json(cls, content: Any, status: int = 200, **headers: str) -> Answer:
        """Return *content* as a JSON answer; header names are written with `_` for `-`."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, msgspec.json.encode(content), {**JSON_HEADERS, **extra})
