"""Settings -> the parts. The only module that knows which profile runs."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import date
from typing import TYPE_CHECKING

import structlog

from cryptolake.contracts import load_contracts
from cryptolake.errors import LakeError

if TYPE_CHECKING:
    from threading import Event

    from cryptolake.capture.backfill import Backfilled, Progress
    from cryptolake.capture.instruments import Instrument
    from cryptolake.capture.metrics import Metrics
    from cryptolake.capture.snapshot import Snapshot
    from cryptolake.capture.stream import Capture
    from cryptolake.clock import Clock
    from cryptolake.config import Settings
    from cryptolake.ingest.landing import Span
    from cryptolake.lake import Lake
    from cryptolake.pipeline import Run
    from cryptolake.quality.venue import AskKlines
    from cryptolake.sources.alternative_me.client import AlternativeMe
    from cryptolake.sources.coingecko.client import CoinGecko
    from cryptolake.sources.records import Kline
    from cryptolake.sources.venue import Places, TradeHistory
    from cryptolake.transform.run import Transform

log = structlog.get_logger(__name__)

TRADES = "bronze.realtime_trades"
SPOOL = "spool"
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


def has_trades(settings: Settings, clock: Clock) -> bool:
    """Say whether there is a lake in which trades, or gaps between them, were ever landed."""
    from cryptolake.transform import run

    if not has_lake(settings):
        return False
    with open_lake(settings, clock) as lake:
        return run.has_trades(lake)


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
    raise LakeError(no_lake(settings))


def no_lake(settings: Settings) -> str:
    """Say that there is no lake, and what makes one."""
    return f"there is no lake at {settings.home} yet; `cryptolake demo`, `cryptolake run` or `cryptolake stream` makes one"


def instruments_of(settings: Settings, *names: str) -> tuple[Instrument, ...]:
    """
    Return the instruments that *names* say (`venue:SYMBOL`), or those of the settings, as they are stored.

    Raises:
        ConfigError: a venue is unknown, or an alias does not fit. One that is of none of *names* does not matter.
    """
    from cryptolake.capture.instruments import parse_instruments
    from cryptolake.sources.registry import VENUES

    if not names:
        return parse_instruments(settings.capture.instruments, settings.capture.aliases, VENUES)
    aliases = {name: alias for name, alias in settings.capture.aliases.items() if name in names}
    return parse_instruments(names, aliases, VENUES)


def warn_of_undeclared(instruments: Sequence[Instrument]) -> None:
    """Log those of *instruments* that nobody has declared; their trades are kept all the same, without a coin."""
    from cryptolake.transform.instruments import declared_instruments

    declared = {(one.venue, one.symbol) for one in declared_instruments()}
    for one in instruments:
        if (one.venue, one.stored_as) not in declared:
            log.warning(
                "instrument.undeclared",
                instrument=one.stored_name,
                reason="it is not in dim_instruments: its trades are kept, and its coin is unknown",
            )


def places_of(settings: Settings, venue: str) -> Places:
    """Return where the settings say that *venue* is reached."""
    from cryptolake.sources.venue import Places

    source = getattr(settings.sources, venue)
    return Places(source.websocket_url, source.rest_url, getattr(source, "archive_url", None))


def open_history(settings: Settings, venue: str, clock: Clock) -> AbstractContextManager[TradeHistory]:
    """Open what *venue* can give back of its trades, where the settings say."""
    from cryptolake.sources.registry import VENUES

    return VENUES[venue].open_history(places_of(settings, venue), clock, random.Random())  # noqa: S311 (jitter)


def open_capture(
    settings: Settings,
    clock: Clock,
    lake: Lake,
    instruments: Sequence[Instrument],
    on_snapshot: Callable[[Snapshot], None] = lambda _: None,
) -> Capture:
    """
    Return a capture of *instruments* into *lake*, which brings bars up to date as it goes; its spool is in the home.

    Raises:
        OperatorError: another capture uses the home, or it cannot be written.
    """
    from cryptolake.capture.stream import Capture, CaptureOptions
    from cryptolake.sources.registry import VENUES

    warn_of_undeclared(instruments)
    said = settings.capture
    names = dict.fromkeys(instrument.venue for instrument in instruments)
    return Capture.open(
        lake,
        {name: (VENUES[name], places_of(settings, name)) for name in names},
        instruments,
        CaptureOptions(
            commit_seconds=said.commit_seconds,
            refresh_seconds=said.refresh_seconds,
            audit_seconds=said.audit_seconds,
            stall_seconds=said.stall_seconds,
            spool_max_bytes=said.spool_max_bytes,
        ),
        settings.home / SPOOL,
        clock,
        run_id=new_run_id(clock),
        refresh=refresher(settings, clock, lake) if said.refresh_seconds else None,
        on_snapshot=on_snapshot,
    )


def fill(
    settings: Settings,
    clock: Clock,
    lake: Lake,
    instrument: Instrument,
    days: tuple[date, date],
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Backfilled:
    """Load the trades of *instrument* of *days*, the first and the last inclusive; see `backfill`."""
    from cryptolake.capture.backfill import backfill
    from cryptolake.sources.registry import VENUES

    warn_of_undeclared([instrument])
    return backfill(
        lake,
        VENUES[instrument.venue],
        places_of(settings, instrument.venue),
        instrument,
        days,
        clock=clock,
        run_id=new_run_id(clock),
        on_progress=on_progress,
    )


def refresher(settings: Settings, clock: Clock, lake: Lake) -> Callable[[Event], None]:
    """Return what brings the tables of trades and bars up to date, or as far as it comes until it is stopped."""
    from cryptolake.transform.run import REFRESHED, has_trades

    transformer = open_transform(settings)

    def refresh(stop: Event) -> None:
        if has_trades(lake):
            transformer.run(lake, now=clock.now(), select=REFRESHED, stop=stop)

    return refresh


def refresh_coverage(settings: Settings, clock: Clock, lake: Lake) -> None:
    """Bring the tables that say what is held and what is missing up to date."""
    from cryptolake.transform.run import COVERAGE

    open_transform(settings).run(lake, now=clock.now(), select=COVERAGE)


def open_metrics(port: int) -> Metrics:
    """Serve the metrics of a capture on *port* of this machine."""
    from cryptolake.capture.metrics import Metrics

    return Metrics.serve(port)


@contextmanager
def asking_klines(settings: Settings, clock: Clock) -> Iterator[AskKlines]:
    """Yield what asks a venue for its own bars of an instrument as it is stored; each venue is opened once, when asked."""
    wire = {(n.split(":")[0], alias): n.split(":", 1)[1] for n, alias in settings.capture.aliases.items()}
    histories: dict[str, TradeHistory] = {}
    with ExitStack() as stack:

        def ask(venue: str, symbol: str, start_us: int, end_us: int) -> Sequence[Kline]:
            if venue not in histories:
                histories[venue] = stack.enter_context(open_history(settings, venue, clock))
            return histories[venue].klines(wire.get((venue, symbol), symbol), start_us, end_us)

        yield ask


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
