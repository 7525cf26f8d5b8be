"""The verb that plays recorded data as the vendors and venues would serve it."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from cryptolake.cli.options import AsOf, Debug, clock_at, days_between, settings_from
from cryptolake.errors import ConfigError

if TYPE_CHECKING:
    from cryptolake.replay.server import ReplayServer
    from cryptolake.replay.venues.server import VenueServer
    from cryptolake.replay.venues.tape import Tape


Port = Annotated[
    int,
    typer.Option(
        min=0, max=65_525, help="The port on 127.0.0.1, and those of the venues follow it; 0 takes free ones."
    ),
]
Recordings = Annotated[Path | None, typer.Option(help="A folder of other recorded prices to play.")]
HistoryDays = Annotated[
    int | None,
    typer.Option(min=1, help="Refuse longer history, as the free plan does.", show_default="no limit"),
]
RequestsPerMinute = Annotated[
    int | None, typer.Option(min=1, help="Answer 429 above this.", show_default="no limit")
]
FromLake = Annotated[
    Path | None,
    typer.Option(help="Play the trades of the lake in this folder.", show_default="the recorded ones"),
]
Played = Annotated[
    list[str] | None,
    typer.Option("--instrument", help="With --from-lake: what to play, as in binance:BTCUSDT."),
]
First = Annotated[str | None, typer.Option("--from", help="With --from-lake: the first day to play.")]
Last = Annotated[str | None, typer.Option("--to", help="With --from-lake: the last day to play.")]
Speed = Annotated[str, typer.Option(help="How many times as fast as the trades were made, or `max`.")]
Faults = Annotated[
    str,
    typer.Option(
        help="What goes wrong with trades, and how often, as in lost:0.001,disconnect:0.0001,429:0.1:2.",
        show_default="nothing",
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Draws other faults, the same for the same number.", show_default="0")
]


def replay(
    port: Port = 8080,
    recordings: Recordings = None,
    as_of: AsOf = None,
    history_days: HistoryDays = None,
    requests_per_minute: RequestsPerMinute = None,
    from_lake: FromLake = None,
    instruments: Played = None,
    start: First = None,
    end: Last = None,
    speed: Speed = "1",
    faults: Faults = "",
    seed: Seed = None,
    debug: Debug = False,
) -> None:
    """Serve recorded prices, sentiment and trades as CoinGecko, Alternative.me and the venues do, until stopped."""
    from cryptolake.cli.stopping import Stopped
    from cryptolake.demo import open_replay, open_venues

    tape, pace = _tape(from_lake, instruments, start, end), _speed(speed)
    until = clock_at(as_of).now() if as_of else None
    script = faults if seed is None else f"{faults},seed:{seed}"
    with (
        open_replay(recordings, until, port, history_days, requests_per_minute) as server,
        open_venues(tape, speed=pace, faults=script, port=port + 1 if port else 0) as venues,
    ):
        _announce(server, venues, pace)
        with suppress(Stopped):
            Event().wait()


def _announce(server: ReplayServer, venues: VenueServer, pace: float) -> None:
    """Say what is played, and what points CryptoLake to it."""
    from cryptolake.cli.show import note
    from cryptolake.demo import replay_variables, venue_variables

    as_fast = "as fast as they are taken" if math.isinf(pace) else f"{pace:g}× as fast as they were made"
    note(
        f"replaying {server.recordings.name} at {server.url}, up to {server.as_of:%Y-%m-%d %H:%M} UTC; stop with Ctrl-C"
    )
    note(
        f"and {len(venues.tape):,} trades of {venues.tape.label} at {venues.rest_url('binance')}, {as_fast}, "
        "from when somebody subscribes"
    )
    note("in another shell:\n")
    for variable, value in {**replay_variables(server), **venue_variables(venues)}.items():
        note(f"  export {variable}={value}")
    note(f"  cryptolake run --as-of {server.as_of:%Y-%m-%dT%H:%M}")
    note("  cryptolake stream")


def _tape(
    from_lake: Path | None, instruments: list[str] | None, start: str | None, end: str | None
) -> Tape | None:
    from cryptolake.demo import lake_tape
    from cryptolake.wiring import instruments_of

    if from_lake is None:
        if instruments or start or end:
            raise ConfigError("--instrument, --from and --to choose trades of a lake; add --from-lake FOLDER")
        return None
    settings = settings_from(from_lake)
    if not instruments:
        raise ConfigError("--from-lake needs at least one --instrument, as in binance:BTCUSDT")
    instruments_of(settings, *instruments)
    return lake_tape(settings, instruments, *days_between(start, end))


def _speed(text: str) -> float:
    """Read a speed: a number above 0, or `max`."""
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise ConfigError(f"not a speed: {text!r}; write a number, as in 1 or 10, or max")
    return speed
