"""Settings -> the parts. The only module that knows which profile runs."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from cryptolake.contracts import load_contracts
from cryptolake.errors import LakeError

if TYPE_CHECKING:
    from cryptolake.clock import Clock
    from cryptolake.config import Settings
    from cryptolake.ingest.landing import Span
    from cryptolake.lake import Lake
    from cryptolake.pipeline import Run
    from cryptolake.sources.alternative_me.client import AlternativeMe
    from cryptolake.sources.coingecko.client import CoinGecko
    from cryptolake.transform.run import Transform

KEPT = ("catalog.db", "warehouse")
"""What a home with a lake has."""


def catalog_properties(settings: Settings) -> dict[str, str]:
    """Return the PyIceberg properties of the catalog that the settings name."""
    from cryptolake.lake.catalog import local_catalog

    given = settings.catalog
    if given.get("type", "sql") != "sql" or given.get("uri", "").startswith("http"):
        return dict(given)  # a server that has its own warehouse
    return {**local_catalog(settings.home), **given}


def open_lake(settings: Settings, clock: Clock) -> Lake:
    """Open the lake, and make it where there is none."""
    from cryptolake.lake import Lake

    lake = Lake.open(catalog_properties(settings), load_contracts(), clock)
    if not settings.catalog:
        lake.refuse_moved()
    return lake


def has_lake(settings: Settings) -> bool:
    """
    Say whether there is a lake to read; a catalog that is not ours is taken to be there.

    Raises:
        LakeError: the home cannot be looked into.
    """
    try:
        return bool(settings.catalog) or any((settings.home / name).exists() for name in KEPT)
    except OSError as e:
        raise LakeError(f"the home {settings.home} cannot be read: {e.strerror}; set another `home`") from e


def open_existing_lake(settings: Settings, clock: Clock) -> Lake:
    """
    Open a lake that is there.

    Raises:
        LakeError: there is none, or nothing in it.
    """
    if has_lake(settings):
        lake = open_lake(settings, clock)
        if lake.tables():
            return lake
        lake.close()
    raise LakeError(
        f"there is no lake at {settings.home} yet; `cryptolake demo` or `cryptolake run` makes one"
    )


def open_transform(settings: Settings) -> Transform:
    """Return the models' runner; what dbt compiles lies under the home."""
    from cryptolake.transform.run import Transform

    return Transform(settings.home / "dbt")


def new_run_id(clock: Clock) -> str:
    """Return a name for a run that sorts by time and never repeats."""
    return f"{clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def open_run(
    settings: Settings,
    clock: Clock,
    lake: Lake,
    span: Span,
    on_progress: Callable[[int, int, int], None] = lambda *_: None,
) -> Run:
    """Return a run over the sources that the settings name."""
    from cryptolake.pipeline import Run

    return Run(
        lake=lake,
        clock=clock,
        run_id=new_run_id(clock),
        coins=settings.coins,
        restatement_days=settings.ingest.restatement_days,
        open_prices=lambda: _coingecko(settings, clock),
        open_index=lambda: _alternative_me(settings, clock),
        transformer=open_transform(settings),
        span=span,
        on_progress=on_progress,
    )


def _coingecko(settings: Settings, clock: Clock) -> AbstractContextManager[CoinGecko]:
    from cryptolake.sources.coingecko.client import CoinGecko

    source = settings.sources.coingecko
    key = source.api_key.get_secret_value() if source.api_key else None
    return CoinGecko.open(source.base_url, key, source.requests_per_minute, clock, random.Random())  # noqa: S311 (jitter)


def _alternative_me(settings: Settings, clock: Clock) -> AbstractContextManager[AlternativeMe]:
    from cryptolake.sources.alternative_me.client import AlternativeMe

    source = settings.sources.alternative_me
    return AlternativeMe.open(source.base_url, source.requests_per_minute, clock, random.Random())  # noqa: S311 (jitter)
