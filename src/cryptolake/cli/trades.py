"""The verbs about trades: capture them live, load their history, and say what is held of them."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from cryptolake.cli.options import (
    Debug,
    End,
    Home,
    Instruments,
    Json,
    Start,
    age,
    day,
    days_between,
    one_instrument,
    settings_from,
)
from cryptolake.errors import ConfigError

if TYPE_CHECKING:
    from cryptolake.capture.snapshot import Snapshot


def stream(
    instruments: Instruments = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="End after so long, as in 10m.", show_default="until stopped")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Serve Prometheus metrics on this port of 127.0.0.1; 0 takes a free one.",
            show_default="none",
        ),
    ] = None,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Capture every trade of the chosen instruments, live, until stopped; what is missed is known and fetched."""
    from cryptolake.cli import live
    from cryptolake.cli.stopping import stopping
    from cryptolake.clock import Clock
    from cryptolake.wiring import instruments_of, open_capture, open_lake, open_metrics

    clock, settings = Clock(), settings_from(home, instruments=instruments)
    seconds = age(for_).total_seconds() if for_ is not None else None
    wanted = instruments_of(settings, *(settings.capture.instruments if instruments else ()))
    with ExitStack() as stack:
        stop = stack.enter_context(stopping())
        Thread(target=live.stopped, args=(stop, json), name="stopping", daemon=True).start()
        metrics = stack.enter_context(open_metrics(metrics_port)) if metrics_port is not None else None
        look = stack.enter_context(live.watching(as_json=json, debug=debug))
        lake = stack.enter_context(open_lake(settings, clock))

        def tell(snapshot: Snapshot) -> None:
            look(snapshot)
            if metrics is not None:
                metrics.tell(snapshot)

        if metrics is not None:
            live.served(metrics.url, as_json=json)
        with open_capture(settings, clock, lake, wanted, tell) as capture:
            last = capture.run(stop, seconds)
    with suppress(BrokenPipeError, SystemExit):  # rich exits where nobody reads
        live.summary(last, as_json=json)
    raise typer.Exit(int(bool(last.landing.spool_blocks)))


def backfill(
    instrument: Annotated[str, typer.Option(help="The instrument, as in binance:BTCUSDT.")],
    start: Annotated[str, typer.Option("--from", help="The first day, as in 2024-08-01.")],
    end: Annotated[str, typer.Option("--to", help="The last day, inclusive.")],
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Load the trades of past days from the venue's archive and its REST; run it again to go on where it was."""
    from cryptolake.cli import filling
    from cryptolake.clock import Clock
    from cryptolake.wiring import fill, instruments_of, open_lake

    clock, settings = Clock(), settings_from(home)
    days = day(start), day(end)
    if days[0] > days[1]:
        raise ConfigError(f"--from {days[0]} is after --to {days[1]}")
    [wanted] = instruments_of(settings, one_instrument(instrument))
    with filling.following(as_json=json, debug=debug) as tell, open_lake(settings, clock) as lake:
        filled = fill(settings, clock, lake, wanted, days, tell)
    status = int(bool(filled.missing_ids or filled.rejected or filled.incomplete or filled.without))
    filling.summary(filled, status, as_json=json)
    raise typer.Exit(status)


def coverage(
    instrument: Annotated[
        str | None,
        typer.Option(help="One instrument, as in binance:BTCUSDT.", show_default="all that were captured"),
    ] = None,
    start: Start = None,
    end: End = None,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show per instrument and day which trades are held and which are missing; exit 1 if any are."""
    from cryptolake.cli import covered, show
    from cryptolake.clock import Clock
    from cryptolake.serving.coverage import Days, exit_status
    from cryptolake.serving.coverage import coverage as coverage_of
    from cryptolake.wiring import has_trades, instruments_of, open_lake, refresh_coverage

    clock, settings, days = Clock(), settings_from(home), Days(*days_between(start, end))
    if instrument is not None:
        instruments_of(settings, one_instrument(instrument))
    if not has_trades(settings, clock):
        show.nothing(
            f"nothing captured: there are no trades at {settings.home} yet; "
            "`cryptolake stream` captures them, `cryptolake backfill` loads their history",
            as_json=json,
            content={"instruments": [], "exit_status": 1},
        )
        raise typer.Exit(1)
    with open_lake(settings, clock) as lake:
        refresh_coverage(settings, clock, lake)
        with lake.reader() as reader:
            found = coverage_of(reader, instrument, days, clock.now())
    status = exit_status(found, days)
    covered.coverage(found, status, as_json=json)
    raise typer.Exit(status)
