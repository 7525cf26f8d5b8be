"""What the storage and the catalog say when they break, turned into a message that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptolake.errors import NO_ROOM, DiskFullError, LakeError
from cryptolake.lake.lost import GONE, damaged, explanation, is_lost

if TYPE_CHECKING:
    from pyiceberg.table import Table


@contextmanager
def explained(
    place: str, table: str = "the lake", among: Callable[[], Iterable[Table]] = tuple
) -> Iterator[None]:
    """
    Raise storage and catalog failures inside the block, about *table*, as `LakeError`, a full disk as `DiskFullError`.

    *place* is the warehouse.

    A file that is gone or damaged is looked for *among* tables, where the engine does not name it.
    """
    import duckdb
    from pyiceberg.exceptions import RESTError, ValidationError
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as e:
        raise _catalog_error(str(e.orig), place) from e
    except RESTError as e:
        said = f"{type(e).__name__}: {_first_line(e)}"
        raise LakeError(f"the catalog of the lake at {place} failed: {said}") from e
    except OSError as e:
        if e.errno == errno.ENOENT or any(sign in str(e) for sign in GONE):
            raise LakeError(explanation(str(e), table, among)) from e
        raise _storage_error(e.errno, str(e), place) from e
    except (
        ValidationError,
        UnicodeDecodeError,
        EOFError,
    ) as e:  # what PyIceberg says of JSON and Avro it cannot read
        raise LakeError(damaged(table, _first_line(e))) from e
    except duckdb.Error as e:
        if is_lost(said := _first_line(e)):
            raise LakeError(explanation(said, table, among)) from e
        if isinstance(e, duckdb.IOException):
            raise _storage_error(None, said, place) from e
        raise


def may_pass(e: LakeError) -> bool:
    """Say whether a failure mends itself: somebody holds a lock, or a server is down."""
    from pyiceberg.exceptions import (
        CommitStateUnknownException,
        ServerError,
        ServiceUnavailableError,
        TooManyRequestsError,
    )

    cause = e.__cause__
    if isinstance(e, DiskFullError):
        return False
    if isinstance(cause, OSError):
        return cause.errno is None or isinstance(cause, ConnectionError | TimeoutError)
    if isinstance(
        cause, CommitStateUnknownException | ServerError | ServiceUnavailableError | TooManyRequestsError
    ):
        return True
    return any(sign in str(cause) for sign in ("locked", "onnect", "imeout", "timed out"))


def _catalog_error(said: str, place: str) -> LakeError:
    if "disk is full" in said:
        return DiskFullError.under(place)
    return LakeError(_catalog_message(said, place))


def _catalog_message(said: str, place: str) -> str:
    if "locked" in said:
        return f"the catalog is locked by another process ({said}); wait until it is done, then run again. Nothing was lost."
    if "not a database" in said or "malformed" in said:
        return (
            f"the catalog of the lake at {place} is damaged ({said}). The data files are untouched: "
            "restore catalog.db from a backup, or move the home away and run again to rebuild it."
        )
    if "readonly" in said or "unable to open" in said:
        return f"the catalog of the lake at {place} cannot be written ({said}); check the folder's owner and permissions."
    return f"the catalog of the lake at {place} failed: {said}"


def _storage_error(number: int | None, said: str, place: str) -> LakeError:
    if number in NO_ROOM or "No space left" in said or "quota exceeded" in said:
        return DiskFullError.under(place)
    return LakeError(_storage_message(number, said, place))


def _storage_message(number: int | None, said: str, place: str) -> str:
    if number == errno.EFBIG or "File too large" in said:
        return f"a file under {place} may not grow any more ({said}); raise the limit (`ulimit -f`). Nothing that was committed is lost."
    if (
        number in {errno.EACCES, errno.EPERM, errno.EROFS}
        or "Permission denied" in said
        or "Read-only" in said
    ):
        return f"the lake at {place} cannot be written ({said}); check the folder's owner and permissions, or set another `home`."
    return f"the storage of the lake at {place} failed: {said}"


def _first_line(e: Exception) -> str:
    return " ".join(str(e).split("\n\n", maxsplit=1)[0].split())
