"""Tables fit the terminal: what there is no room for is left out and named; what is shown is whole."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cryptolake.cli import covered, live, show
from cryptolake.cli.terminal import Columns, tabled

WIDTHS = [20, 40, 60, 80, 100, 120, 160]
LATE = "no: the trade before its first is not held"
BTC, DAY, IDS = "binance:BTCUSDT", "2024-08-08", "3735683259–3735692996"
MOMENT = "2024-08-09 00:00:01"
SPARKLINE = "▄▃▄▃▄▄▄▃▄▃▂▂▂▆▇▇█▄▄▃▃▄▃▃▂▁▃▂▂▁"
PRICES = ["61,652.00", "61,745.27", "61,583.22", "61,717.63"]
EVERY_TABLE = {
    "coverage": (covered.DAYS, [BTC, DAY, "9,738", f"{IDS}\n{IDS}", "0", "0", "0", LATE]),
    "gaps": (covered.GAPS, [BTC, IDS, "9,738", "rejected", "restart", "837 d 5 h"]),
    "tables": (
        show.TABLES,
        ["bronze.historical_prices", "71,478", DAY, "3776863729158815993", "119.9 kB"],
    ),
    "captured": (show.CAPTURED, [BTC, "9,757", MOMENT, "1,000", "2,000"]),
    "coins": (
        show.COINS,
        ["bitcoin", "18,809.41", "-0.7 %", "0.034", "-72.2 %", "below", SPARKLINE],
    ),
    "bars": (show.BARS, [BTC, "2024-08-08 23:58", *PRICES, "77.142", "3,216", "not yet"]),
    "models": (show.MODELS, ["fact_market_daily", "163,420", "71,426", "1,000", "3", "1.60 s"]),
    "stream": (
        Columns(live.HEADERS, live.LEAST_IMPORTANT),
        [BTC, "9,757", MOMENT, "9,898", "7", "1", "26", "4"],
    ),
}


def lines(columns: Columns, row: list[str], room: int) -> list[str]:
    """Return what a terminal of *room* columns shows of a table with one row."""
    out = io.StringIO()
    Console(file=out, width=room).print(tabled(columns, [row], room))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("room", WIDTHS)
@pytest.mark.parametrize("name", EVERY_TABLE)
def test_no_name_day_number_or_sparkline_is_broken(name, room):
    """A column is whole or it is not there, and its header too; the reasons alone are folded, between words."""
    columns, row = EVERY_TABLE[name]
    shown = lines(columns, row, room)
    kept = columns.fitting([row], room)
    assert all(len(line) <= room for line in shown)
    assert kept[:2] == [0, 1] or room == 20
    for n in kept[room <= 40 :]:  # on so little room a name may be cut, and says so
        whole = row[n].split("\n") if columns.headers[n] not in columns.folds else row[n].split()
        assert all(any(part in line for line in shown) for part in [*whole, columns.names[n]]), shown
    assert (len(kept) == len(row)) or room < 120


def test_the_least_important_columns_go_first():
    """In coverage that is what its last column says in words anyway; the number of missing ids stays to the last."""
    columns, row = EVERY_TABLE["coverage"]
    names = {room: [columns.names[n] for n in columns.fitting([row], room)] for room in WIDTHS}
    assert names[120] == columns.names
    assert names[100] == ["instrument", "day", "trades", "complete ids", "missing", "complete"]
    assert names[80] == ["instrument", "day", "trades", "missing", "complete"]
    assert names[60] == ["instrument", "day", "missing", "complete"]
    assert names[40] == names[20] == ["instrument", "day"]


def test_a_name_that_is_cut_says_so():
    """Where even two columns have no room, the name ends in an ellipsis, and the number is whole or not there."""
    columns, row = EVERY_TABLE["captured"]
    assert lines(columns, row, 20)[3] == " binance:…    9,757"
    columns, row = EVERY_TABLE["bars"]
    assert lines(columns, row, 20)[3] == f" {BTC}"


def test_off_a_terminal_nothing_is_left_out_or_folded(capsys):
    """A file has lines as long as they must be."""
    columns, row = EVERY_TABLE["coverage"]
    show.table(columns, [row])
    said = capsys.readouterr().out
    assert all(f"{cell} " in said for cell in [BTC, DAY, IDS, LATE])
    assert "no room for" not in said
