"""The verbs of `cryptolake`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryptolake.cli import replaying, trades
from cryptolake.cli.export import Format
from cryptolake.cli.options import (
    AsOf,
    Coins,
    Debug,
    End,
    Full,
    Home,
    Json,
    Start,
    age,
    clock_at,
    moment_or_snapshot,
    settings_from,
    span_of,
)

if TYPE_CHECKING:
    from cryptolake.clock import Clock
    from cryptolake.config import Settings
    from cryptolake.ingest.landing import Span
    from cryptolake.pipeline import Step
    from cryptolake.quality.result import CheckResult

app = typer.Typer(
    name="cryptolake",
    help="A lakehouse for crypto market data: from the vendors' APIs to a checked star schema.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from cryptolake import __version__

        typer.echo(f"cryptolake {__version__}")
        raise typer.Exit


@app.callback()
def _everything(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A lakehouse for crypto market data: from the vendors' APIs to a checked star schema."""


@app.command()
def demo(
    home: Home = None,
    recordings: Annotated[Path | None, typer.Option(help="A folder of other recordings to play.")] = None,
    debug: Debug = False,
) -> None:
    """Build a whole lake offline, from recorded prices and sentiment, and show it."""
    from cryptolake.cli import show
    from cryptolake.cli.follow import following
    from cryptolake.demo import play

    with following() as follower:
        played = play(settings_from(home), recordings, follower.outcome, follower.progress)
    show.demo(played)
    raise typer.Exit(played.exit_status)


@app.command()
def run(
    start: Start = None,
    end: End = None,
    coins: Coins = None,
    full: Full = False,
    as_of: AsOf = None,
    home: Home = None,
    list_steps: Annotated[bool, typer.Option("--list", help="Print the steps and do nothing.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask the sources for what is new, build silver and gold, and check everything."""
    from cryptolake.pipeline import STEPS

    if list_steps:
        from cryptolake.cli import show

        show.steps(STEPS, as_json=json)
        return
    _follow(STEPS, clock_at(as_of), settings_from(home, coins), span_of(start, end, full), json)


@app.command()
def ingest(
    start: Start = None,
    end: End = None,
    coins: Coins = None,
    full: Full = False,
    as_of: AsOf = None,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask the sources for what the lake does not have, and land it in bronze."""
    from cryptolake.pipeline import INGEST

    _follow(INGEST, clock_at(as_of), settings_from(home, coins), span_of(start, end, full), json)


def _follow(steps: Sequence[Step], clock: Clock, settings: Settings, span: Span, as_json: bool) -> None:
    """Run *steps*, print what each did, and exit with the status that follows."""
    from cryptolake.cli.follow import following
    from cryptolake.pipeline import follow
    from cryptolake.wiring import open_lake, open_run

    with following(as_json=as_json) as follower, open_lake(settings, clock) as lake:
        this = open_run(settings, clock, lake, span, follower.progress)
        for outcome in follow(steps, this):
            follower.outcome(outcome)
    raise typer.Exit(follower.close(this.run_id))


@app.command()
def transform(
    select: Annotated[str | None, typer.Option(help="Models to build, in dbt's selection syntax.")] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Build from all of bronze, not only from what is new.")
    ] = False,
    as_of: AsOf = None,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Build silver and gold from bronze."""
    from cryptolake.cli import show
    from cryptolake.wiring import has_lake, open_lake, open_transform

    clock, settings = clock_at(as_of), settings_from(home)
    if not has_lake(settings):
        show.nothing(f"nothing to transform: there is no lake at {settings.home} yet", as_json=json)
        return
    with open_lake(settings, clock) as lake:
        models = open_transform(settings).run(
            lake, now=clock.now(), select=select.split() if select else None, full_refresh=full_refresh
        )
    show.models(models, as_json=json)


@app.command()
def check(
    layer: Annotated[
        list[str] | None,
        typer.Option(help="bronze, silver or gold; may come several times.", show_default="all"),
    ] = None,
    with_venue: Annotated[
        bool,
        typer.Option("--with-venue", help="Also hold complete bars against those of the venues themselves."),
    ] = False,
    as_of: AsOf = None,
    coins: Coins = None,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the data quality checks and keep their results; exit 1 if one fails."""
    from cryptolake.cli import show
    from cryptolake.errors import ConfigError
    from cryptolake.quality import exit_status, run_checks
    from cryptolake.quality.venue import check_with_venues
    from cryptolake.wiring import asking_klines, has_lake, new_run_id, open_lake

    layers = tuple(
        dict.fromkeys(name for item in layer or ["bronze,silver,gold"] for name in item.split(","))
    )
    if wrong := set(layers) - {"bronze", "silver", "gold"}:
        raise ConfigError(
            f"no such layer: {', '.join(sorted(wrong))}; the layers are bronze, silver and gold"
        )
    clock, settings = clock_at(as_of), settings_from(home, coins)
    if not has_lake(settings):
        show.nothing(
            f"nothing to check: there is no lake at {settings.home}; run `cryptolake run` first", as_json=json
        )
        raise typer.Exit(1)
    run_id, now = new_run_id(clock), clock.now()
    with open_lake(settings, clock) as lake, lake.reader() as reader:
        results = run_checks(lake, reader, layers=layers, coins=settings.coins, run_id=run_id, now=now)
        compared: list[CheckResult] = []
        if with_venue:
            with asking_klines(settings, clock) as ask:
                compared = check_with_venues(lake, reader, ask, run_id=run_id, now=now)
    results += compared
    show.checks(results, as_json=json)
    if with_venue and not json:
        show.compared(compared)
    raise typer.Exit(exit_status(results))


app.command()(trades.stream)
app.command()(trades.backfill)
app.command()(trades.coverage)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One statement that only reads; tables are named layer.table.")],
    as_of: Annotated[
        str | None, typer.Option(help="Read the lake as of this time (UTC) or snapshot id.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="The most rows to give.", show_default="40 on screen, else all")
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")] = Format.table,  # noqa: A002
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    home: Home = None,
    debug: Debug = False,
) -> None:
    """Answer one SQL statement over the lake; it can only read."""
    from cryptolake.cli import show
    from cryptolake.cli.export import destination, export
    from cryptolake.clock import Clock
    from cryptolake.serving.query import answer
    from cryptolake.wiring import open_existing_lake

    at = moment_or_snapshot(as_of) if as_of else None
    with open_existing_lake(settings_from(home), Clock()) as lake, lake.reader(as_of=at) as reader:
        if format is Format.table:
            with answer(reader, sql, limit=limit) as batches:
                show.result(batches, limit, output)
            return
        with answer(reader, sql, limit=limit) as batches, destination(output, format) as file:
            rows = export(batches, format, file)
    if output:
        show.note(f"{rows:,} rows written to {output}")


@app.command()
def status(home: Home = None, json: Json = False, debug: Debug = False) -> None:
    """Show what the lake holds: rows, newest dates, snapshots, sizes, the last run, failing checks."""
    from cryptolake.cli import show
    from cryptolake.clock import Clock
    from cryptolake.serving.status import Status
    from cryptolake.serving.status import status as status_of
    from cryptolake.wiring import has_lake, no_lake, open_lake

    settings = settings_from(home)
    if not has_lake(settings):
        show.nothing(no_lake(settings), as_json=json, content=Status([], [], None, None, []))
        return
    with open_lake(settings, Clock()) as lake:
        show.status(status_of(lake), str(settings.home), as_json=json)


@app.command()
def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    orphans_older_than: Annotated[
        str, typer.Option(help="Remove files that no snapshot names from this age on.")
    ] = "3d",
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compact small files, expire old snapshots and remove files that nothing names; say first what will be done."""
    from cryptolake.cli import show
    from cryptolake.clock import Clock
    from cryptolake.wiring import has_lake, open_lake

    seconds, settings = age(orphans_older_than).total_seconds(), settings_from(home)
    if not has_lake(settings):
        show.nothing(f"nothing to maintain: there is no lake at {settings.home} yet", as_json=json)
        return
    with open_lake(settings, Clock()) as lake:
        planned = lake.maintain(orphans_older_than_seconds=seconds, dry_run=True)
        if dry_run or not json:
            show.maintained(planned, planned=True, as_json=json)
        if not dry_run:
            show.maintained(
                lake.maintain(orphans_older_than_seconds=seconds, dry_run=False), planned=False, as_json=json
            )


app.command()(replaying.replay)
