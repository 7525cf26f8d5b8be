"""What the instruments are: the one declared file, read for the models and for warnings."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

import msgspec


class DeclaredInstrument(msgspec.Struct, frozen=True):
    """
    What an instrument of a *venue* is, *symbol* in the venue's own spelling.

    The trades of a reference instrument may stand in for its coin's price in USD.
    """

    venue: str
    symbol: str
    coin_id: str
    base_currency: str
    quote_currency: str
    is_reference: bool


@cache
def declared_instruments() -> tuple[DeclaredInstrument, ...]:
    """Return the instruments that `dbt/instruments.csv` declares."""
    text = (files("cryptolake.transform") / "dbt" / "instruments.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        DeclaredInstrument(**{**row, "is_reference": row["is_reference"] == "true"})  # type: ignore[arg-type]
        for row in rows
    )
