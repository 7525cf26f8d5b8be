"""The terminal: lines, tables and figures for the eye, JSON for programs. Rounding happens here and nowhere else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BARS = "▁▂▃▄▅▆▇█"
UNITS = ("B", "kB", "MB", "GB", "TB")
WIDTH_ELSEWHERE = 120
COLUMN_GAP = 3
LONGEST_CELL = 60
TENTHS_BELOW_SECONDS = 10
MARKS = {
    "passed": "[green]passed[/]",
    "warning": "[yellow]warning[/]",
    "failed": "[red]failed[/]",
    "error": "[red]error[/]",
}


@cache
def console() -> Console:
    """Return the console of standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)


def note(text: str) -> None:
    """Print one plain line."""
    console().print(text, markup=False, soft_wrap=True)
    sys.stdout.flush()


def command_of(name: str) -> str:
    """Return how to call a program of this environment from here: by its name where that finds it, else by its path."""
    ours = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not ours.exists() or (found and Path(found).samefile(ours)):
        return name
    return shell(ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours)


def print_json(value: Any) -> None:
    """Print *value* as JSON."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str)) + b"\n")
    sys.stdout.buffer.flush()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, fits: bool = True) -> None:
    """
    Print a table; a header that ends in `>` is of a column aligned to the right.

    One that *fits* folds what is too long for a line; another makes its lines as long as they must be.
    """
    from rich.console import Console

    shown = tabled(headers, rows)
    if fits:
        console().print(shown)
    else:
        Console(highlight=False, width=sum(column_widths(headers, rows))).print(shown)


def tabled(headers: Sequence[str], rows: Sequence[Sequence[str]], *, whole: int = 0) -> Table:
    """Return the table that `table` prints; the first *whole* columns are never folded."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(headers):
        right = header.endswith(">")
        shown.add_column(
            Text(header.removesuffix(">") if right else header),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=number < whole,
        )
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def column_widths(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the characters that each column takes where nothing is folded, with the gap to the next one."""
    from rich.cells import cell_len

    return [
        max(cell_len(header.removesuffix(">")), *(cell_len(row[i]) for row in rows), 1) + COLUMN_GAP
        for i, header in enumerate(headers)
    ]


def sparkline(values: Sequence[float]) -> str:
    """
    Return *values* as a line of bars.

    >>> sparkline([1.0, 2.0, 3.0])
    '▁▅█'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[round((v - low) / span * (len(BARS) - 1))] for v in values)


def money(value: float) -> str:
    """Return an amount of USD."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Return a change, with its sign."""
    return "-" if value is None else f"{value:+.1f} %"


def size(count: int) -> str:
    """
    Return a number of bytes.

    >>> size(12_500_000)
    '12.5 MB'
    """
    thousands = min((len(str(count)) - 1) // 3, len(UNITS) - 1)
    return f"{count / 1000**thousands:.{min(thousands, 1)}f} {UNITS[thousands]}"


def counted(count: int, noun: str) -> str:
    """
    Return how many there are of what.

    >>> counted(1, "id"), counted(1_200, "gap")
    ('1 id', '1,200 gaps')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def span(seconds: float) -> str:
    """
    Return a stretch of time in its largest two units.

    >>> span(3_725), span(0.25), span(-3)
    ('1 h 2 m', '0.2 s', '0 s')
    """
    if seconds < TENTHS_BELOW_SECONDS:
        return f"{max(seconds, 0):.1f} s".replace("0.0 s", "0 s")
    left = round(seconds)
    parts: list[str] = []
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, unit)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def shell(path: Path) -> str:
    """Return *path* as a word of a shell command."""
    import shlex

    return shlex.quote(str(path))
