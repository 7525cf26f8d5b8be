"""
Everything that can go wrong, sorted by what to do about it.

CryptoLakeError
├── OperatorError          stop, exit 2    a person must change something
│   ├── ConfigError                        a setting is missing, unknown or contradictory
│   ├── ContractError                      a table no longer has its promised shape
│   ├── LakeError                          the catalog or the storage cannot be used
│   │   └── DiskFullError                  there is no room left under it, or under the spool
│   ├── QueryError                         a statement is wrong or not allowed
│   └── SourceRefusedError                 a vendor refuses this request, now and tomorrow
│       ├── PlanLimitError                 the vendor's plan does not reach back that far
│       └── UnknownSymbolError             the venue does not trade this
├── TransientError         try again       the same call may succeed later
│   ├── SourceDownError
│   ├── CommitConflictError
│   ├── StaleWriterError                   another writer of the same stream went on
│   ├── TransformBusyError                 another process transforms for the same home
│   └── NotPublishedError                  the archive does not have this file, or not yet
└── BadRecordError         quarantine      one record is wrong, the run goes on

Catch one of the three middle classes; the leaves exist for messages and tests.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Self


class CryptoLakeError(Exception):
    """Root of every error that CryptoLake raises on purpose."""


class OperatorError(CryptoLakeError):
    """Only a person can mend this: stop and say how."""


class ConfigError(OperatorError):
    """A setting is missing, unknown or contradictory."""


class ContractError(OperatorError):
    """A table does not have the shape that its contract promises."""


class LakeError(OperatorError):
    """The catalog or the storage under it cannot be used."""


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
FREE_SOME_SPACE = (
    "Nothing that was committed is lost; "
    "free some space (`cryptolake maintain` removes files no longer needed), then run again."
)


class DiskFullError(LakeError):
    """There is no room left on a disk."""

    @classmethod
    def under(cls, place: str | Path, then: str = f". {FREE_SOME_SPACE}") -> Self:
        """Return the error of the disk under *place*, a path or the address of a folder; *then* follows its free space."""
        folder = Path(str(place).removeprefix("file://"))
        while not folder.is_dir():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        return cls(f"the disk is full: {folder} has {free:,} bytes free{then}")


class QueryError(OperatorError):
    """A statement is wrong, or does more than read."""


class SourceRefusedError(OperatorError):
    """A vendor understood the request and will not answer it."""


class PlanLimitError(SourceRefusedError):
    """The vendor's plan does not reach back as far as was asked."""


class UnknownSymbolError(SourceRefusedError):
    """The venue has no instrument of this name."""


class TransientError(CryptoLakeError):
    """The same call may succeed later; *after* seconds, if the other side said so."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class SourceDownError(TransientError):
    """A vendor did not answer, answered nonsense, or asked us to slow down."""


class CommitConflictError(TransientError):
    """Another writer committed first; read the table again and retry."""


class StaleWriterError(TransientError):
    """Another writer of the same stream went on; read the position again."""


class TransformBusyError(TransientError):
    """Another process transforms for the same home, and there is no time to wait for it."""


class NotPublishedError(TransientError):
    """A venue's archive does not have a file, or not yet; its REST may have the trades."""


class BadRecordError(CryptoLakeError):
    """One record cannot be trusted; keep its bytes and carry on. *symbol* and *trade_id* where they are readable."""

    def __init__(
        self,
        source: str,
        reason: str,
        payload: bytes,
        *,
        symbol: str | None = None,
        trade_id: int | None = None,
    ) -> None:
        super().__init__(f"{source}: {reason} in {payload[:120]!r}")
        self.source, self.reason, self.payload = source, reason, payload
        self.symbol, self.trade_id = symbol, trade_id
