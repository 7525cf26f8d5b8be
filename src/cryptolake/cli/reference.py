"""The reference page of the command line, written out from the verbs themselves."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

HEAD = """# Command line

`cryptolake VERB [OPTIONS]`. `cryptolake VERB --help` shows the same as this page.

Settings that have no option are in [settings.md](settings.md); what an option says wins over them. Results go
to standard output, errors and events (`--debug`) to standard error.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | done, but a check failed or something could not be had; or try again later |
| 2 | nothing more can be done until a person changes something; the message says what |
| 129, 130, 143 | stopped by SIGHUP (its terminal was closed), Ctrl-C or SIGTERM; what was committed stays, run again to continue |

`stream` and `replay` run until they are stopped, so all three end them with 0.
"""
WORDS = {str: "text", int: "number", float: "number", Path: "path"}


def cli_reference() -> str:
    """Return the reference page of all verbs, in Markdown."""
    from typer.main import get_command

    from cryptolake.cli.app import app

    group: Any = get_command(app)
    index = ", ".join(f"[`{name}`](#{name})" for name in group.commands)
    general = [*_rows(group, {}), _row("`--help`, `-h`", "", "", "Show this message and exit.")]
    lines = [
        HEAD,
        f"Verbs: {index}.",
        "",
        "Without a verb, and `--help` with any:",
        "",
        *_table("option", general),
        "",
    ]
    for name, command in group.commands.items():
        lines += _section(name, command)
    return "\n".join(lines)


def _section(name: str, command: Any) -> Iterator[str]:
    hints = get_type_hints(command.callback)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments)
    yield from (f"## {name}", "", command.help, "")
    yield from ("```console", f"$ cryptolake {name} {usage} [OPTIONS]".replace("  ", " "), "```", "")
    if arguments:
        rows = [_row(f"`{p.name.upper()}`", _value(hints[p.name]), "", p.help) for p in arguments]
        yield from (*_table("argument", rows), "")
    yield from (*_table("option", _rows(command, hints)), "")


def _rows(command: Any, hints: dict[str, Any]) -> list[str]:
    return [
        _row(", ".join(f"`{o}`" for o in p.opts), _value(hints.get(p.name, bool)), _default(p), p.help)
        for p in command.params
        if p.param_type_name == "option" and p.name != "help"
    ]


def _table(what: str, rows: list[str]) -> list[str]:
    return [_row(what, "value", "default", "meaning"), "|---|---|---|---|", *rows]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _value(hint: Any) -> str:
    """Return in words what an option of type *hint* takes; nothing for a switch."""
    [kind] = [t for t in get_args(hint) or [hint] if t is not type(None)]
    if members := get_args(kind):
        return f"{WORDS[members[0]]}, several times"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    return WORDS.get(kind, "")


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if option.default is None or option.is_flag:
        return ""
    return f"`{option.default.value if isinstance(option.default, Enum) else option.default}`"
