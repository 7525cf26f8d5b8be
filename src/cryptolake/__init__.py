"""
CryptoLake: an open-source lakehouse for crypto market data.

    >>> import cryptolake
    >>> with cryptolake.connect(home="~/.cryptolake/demo") as lake:  # doctest: +SKIP
    ...     lake.sql("select coin_id, price_usd from gold.fact_market_daily limit 3")

The map of the package, from the top; a room imports only from rooms below it:

=================  =================================================================
`cli`              the verbs: parse, call, print
`demo`             the whole lake from bundled recordings, offline
`wiring`           settings -> the parts
`pipeline`         `STEPS`: the daily run as an ordered tuple
`ingest`           history: what a source has and the lake has not, into bronze
`transform`        dbt: bronze -> silver -> gold
`quality`          checks compiled from contracts, every result kept
`serving`          SQL, status and Python access
`replay`           recorded data, and a server that speaks the vendors' protocol from it
`lake`             Iceberg: read, commit, maintain
`sources`          one folder a vendor: bytes -> records, and the client
`contracts`        every table said once
`config`           the settings
`errors`           what can go wrong, sorted by what to do
`clock`            the only module that asks the time
=================  =================================================================
"""

from __future__ import annotations

from importlib.metadata import version as _version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptolake.serving.connection import Connection

__all__ = ["__version__", "connect"]

__version__ = _version("cryptolake")


def connect(home: str | Path | None = None, *, as_of: datetime | int | None = None) -> Connection:
    """
    Open a lake to read from.

    Args:
        home: the folder of the lake; default: as the settings say.
        as_of: a zoned time or a snapshot id to read it as of; default: now.

    Returns:
        a connection with `.sql(query) -> pyarrow.Table`, `.table(name)` (the PyIceberg table) and
        `.tables()`; a context manager.

    Raises:
        OperatorError: the settings are wrong, or there is no lake at *home*.
    """
    from cryptolake.clock import Clock
    from cryptolake.config import load_settings
    from cryptolake.serving.connection import Connection
    from cryptolake.wiring import open_existing_lake

    return Connection(open_existing_lake(load_settings(home=home), Clock()), as_of)
