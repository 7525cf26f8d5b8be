"""Open a PyIceberg catalog from its properties."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from cryptolake.errors import LakeError
from cryptolake.lake.faults import explained

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

FILE_IO = "cryptolake.lake.durable_io.DurableFileIO"
SQLITE = "sqlite:///"
BUSY_SECONDS = 30
PAUSE_SECONDS = 0.05


def local_catalog(home: Path) -> dict[str, str]:
    """Return the properties of the default catalog: SQLite and local files under *home*."""
    database = str(home / "catalog.db").replace("%", "%25")
    return {"type": "sql", "uri": f"{SQLITE}{database}", "warehouse": f"file://{home / 'warehouse'}"}


def open_catalog(properties: Mapping[str, str]) -> Catalog:
    """
    Open the PyIceberg catalog described by *properties* and create what it needs.

    A SQLite catalog runs in WAL mode and waits up to 30 seconds for another writer.

    Raises:
        LakeError: it cannot be opened; the message says why and what to do.
    """
    props = {"py-io-impl": FILE_IO, **properties}
    place = props.get("warehouse", props.get("uri", "?"))
    if place.startswith("file:") and {"?", "#"} & set(place):
        raise LakeError(
            f"{place} cannot hold a lake: `?` and `#` mean something else in its addresses; set another `home`"
        )
    with explained(place):
        if props.get("uri", "").startswith(SQLITE):
            if "?" not in props["uri"]:
                props["uri"] += f"?timeout={BUSY_SECONDS}"
            _refuse_lost_catalog(props["uri"], place)
            _use_wal(props["uri"])
        try:
            return _loaded(props)
        except (ValueError, NotImplementedError) as e:
            raise LakeError(f"the catalog settings are not usable: {e}") from e


def _refuse_lost_catalog(uri: str, place: str) -> None:
    """Raise `LakeError` where tables lie in the warehouse, but the SQLite catalog that names them is gone."""
    path = Path(unquote(uri.removeprefix(SQLITE).partition("?")[0]))
    is_new = not path.exists() or path.stat().st_size == 0
    if is_new and next(Path(place.removeprefix("file://")).glob("*/*/metadata/*.metadata.json"), None):
        raise LakeError(
            f"the catalog {path} is gone, but {place} has tables: restore it from a backup, "
            "or move the home away and run again to build a new lake"
        )


def _loaded(props: Mapping[str, str]) -> Catalog:
    from pyiceberg.catalog import load_catalog
    from sqlalchemy.exc import DBAPIError

    for pause_seconds in (0.05, 0.1, 0.2):
        try:
            return load_catalog("lake", **props)
        except DBAPIError as e:
            if "already exists" not in str(e):
                raise
            time.sleep(pause_seconds)  # another process is making the tables of a new catalog
    return load_catalog("lake", **props)


def _use_wal(uri: str) -> None:
    """Put the SQLite catalog at *uri* into WAL mode; processes that do so at once fail without waiting, so wait here."""
    from sqlalchemy.exc import DBAPIError

    path, _, options = uri.removeprefix(SQLITE).partition("?")
    seconds = float(parse_qs(options).get("timeout", [str(BUSY_SECONDS)])[0])
    home = Path(unquote(path)).parent
    try:
        home.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as e:
        raise LakeError(f"the folder {home} cannot be made ({e.strerror}); set another `home`") from e
    tries_left = int(seconds / PAUSE_SECONDS)
    while True:
        try:
            with closing(sqlite3.connect(unquote(path), timeout=0)) as db:
                db.execute("pragma journal_mode = wal")
                return
        except sqlite3.Error as e:
            if "locked" not in str(e) or not tries_left:
                raise DBAPIError(statement=None, params=None, orig=e) from e
            tries_left -= 1
            time.sleep(PAUSE_SECONDS)


def newest_metadata(catalog: Catalog, name: str) -> str | None:
    """Return where the newest metadata of the table *name* lies; None where only loading the table tells."""
    from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
    from sqlalchemy import select

    if not isinstance(catalog, SqlCatalog):
        return None
    namespace, table = name.split(".", 1)
    wanted = select(IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == namespace,
        IcebergTables.table_name == table,
    )
    with catalog.engine.connect() as connection:
        return connection.scalar(wanted)
