"""The reference of the command line is what the program says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cryptolake.cli.app import app
from cryptolake.cli.reference import cli_reference

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
GROUP: Any = get_command(app)


def section(verb: str) -> str:
    """Return the part of the page that is about *verb*."""
    return PAGE.read_text(encoding="utf-8").split(f"\n## {verb}\n")[1].split("\n## ")[0]


def test_the_page_is_what_the_program_says():
    """The page on disk is the one that the verbs give now; `make docs` writes it."""
    assert cli_reference().rstrip() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", GROUP.commands)
def test_every_verb_and_option_is_there_with_its_help(verb):
    """No verb, argument or option is left out, and each says what it is for."""
    command = GROUP.commands[verb]
    told = section(verb)
    assert command.help in told
    for parameter in command.params:
        names = [parameter.name.upper()] if parameter.param_type_name == "argument" else parameter.opts
        assert all(f"`{name}`" in told for name in names), names
        assert parameter.help, f"{verb} {names} has no help"
        assert parameter.help in told


def test_options_say_what_they_take():
    """Choices are listed, defaults are shown, and switches take nothing."""
    assert "| `--format`, `-f` | `table`, `csv`, `json`, `jsonl`, `parquet`, `arrow` | `table` |" in section(
        "query"
    )
    assert "| `--orphans-older-than` | text | `3d` |" in section("maintain")
    assert "| `--layer` | text, several times | all |" in section("check")
    assert "| `--dry-run` |  |  |" in section("maintain")
