"""The terminal: lines, tables and figures for the eye, JSON for programs. Rounding happens here and nowhere else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
LONGEST_CELL, SHORTEST_NAME = 60, 5
JSON_HAS_ALL = "; --json has all of it"
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


@dataclass(frozen=True)
class Columns:
    """
    The columns of a table, by their *headers*; one that ends in `>` is aligned to the right.

    Where a line has no room for all of them, those in *spare* are left out, the first one first, then any from the
    right until *least* are left. None is broken but those in *folds*: at words, to no fewer characters than it says.
    Where *least* are too many, the first one is cut, with an ellipsis; where little would be left of it, it stands alone.
    """

    headers: Sequence[str]
    spare: Sequence[str] = ()
    folds: Mapping[str, int] = field(default_factory=dict)
    least: int = 2

    @property
    def names(self) -> list[str]:
        """Return the headers as they are shown."""
        return [header.removesuffix(">") for header in self.headers]

    def widths(self, rows: Sequence[Sequence[str]]) -> list[int]:
        """Return the characters that each column takes where nothing is folded, without the gap to the next one."""
        from rich.cells import cell_len

        return [
            max(cell_len(line) for cell in (name, *(row[n] for row in rows)) for line in cell.split("\n"))
            for n, name in enumerate(self.names)
        ]

    def least_widths(self, rows: Sequence[Sequence[str]]) -> list[int]:
        """Return the characters that each column takes where all that may be folded is."""
        return [
            min(width, self.folds.get(header, width))
            for header, width in zip(self.headers, self.widths(rows), strict=True)
        ]

    def fitting(self, rows: Sequence[Sequence[str]], room: int) -> list[int]:
        """Return which columns a line of *room* characters has room for."""
        needed = self.least_widths(rows)
        kept = list(range(len(needed)))
        spare = [self.headers.index(header) for header in self.spare if header in self.headers]
        for number in dict.fromkeys([*spare, *reversed(kept)]):
            if len(kept) <= self.least:
                needed[0] = min(needed[0], SHORTEST_NAME)
            if len(kept) == 1 or line_width(needed[n] for n in kept) <= room:
                break
            kept.remove(number)
        return kept


def line_width(widths: Iterable[int]) -> int:
    """Return how long a line of columns is, with the gaps between them and the edges."""
    return sum(width + COLUMN_GAP for width in widths) - 1


def table(columns: Columns, rows: Sequence[Sequence[str]], *, instead: str = "") -> None:
    """
    Print a table. A terminal too narrow for all *columns* is told what is left out, and what to do *instead*.

    Elsewhere lines are as long as they must be, and nothing is left out.
    """
    from rich.console import Console

    if not sys.stdout.isatty():
        width = line_width(columns.widths(rows))
        Console(highlight=False, width=width).print(tabled(columns, rows, width))
        return
    room = console().width
    console().print(tabled(columns, rows, room))
    kept = columns.fitting(rows, room)
    if left_out := [name for n, name in enumerate(columns.names) if n not in kept]:
        console().print(f"no room for {', '.join(left_out)}{instead}", markup=False)


def tabled(columns: Columns, rows: Sequence[Sequence[str]], room: int) -> Table:
    """Return a table of those *columns* that a line of *room* characters has room for."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    kept, widths = columns.fitting(rows, room), columns.least_widths(rows)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for n in kept:
        header = columns.headers[n]
        folds = header in columns.folds
        shown.add_column(
            Text(columns.names[n]),
            justify="right" if header.endswith(">") else "left",
            overflow="fold" if folds else "ellipsis",
            no_wrap=not folds,
        )
    if columns.headers[0] not in columns.folds:
        shown.columns[0].max_width = max(room - line_width(widths[n] for n in kept[1:]) - COLUMN_GAP, 1)
    for row in rows:
        shown.add_row(*(Text(row[n]) for n in kept))
    return shown


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
