"""What the documents show is true: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.main import get_command

from cryptolake.cli.app import app
from cryptolake.clock import Clock
from cryptolake.config import Settings
from cryptolake.demo import FOLDER, play
from cryptolake.replay.recordings import bundled_file
from cryptolake.wiring import open_lake

ROOT = Path(__file__).parents[1]
INTEROP = ROOT / ".venv-interop" / "bin" / "python"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OVER_A_LAKE = re.compile(r"<!-- skip: next -->\n\n```python\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (cryptolake .*?)(?=\n\$ |\n(?! )|\Z)", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
FOREIGN = {"polars", "duckdb_extension_iceberg"}
"""What only the environment of other engines has."""

WITH_PYTHON = [d for d in DOCUMENTS if OVER_A_LAKE.search(d.read_text(encoding="utf-8"))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(document: Path) -> list[list[str]]:
    """Return the words of every `cryptolake` command that *document* shows."""
    blocks = CONSOLE.findall(document.read_text(encoding="utf-8"))
    shown = [command.replace("\\\n", " ") for block in blocks for command in COMMAND.findall(block)]
    return [shlex.split(command, comments=True) for command in shown]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of somebody who ran the demo, of one coin and 90 days."""
    folder = tmp_path_factory.mktemp("user")
    recordings = folder / "recordings"
    recordings.mkdir()
    shutil.copy(bundled_file("bitcoin-90-days"), recordings)
    lakes = folder / ".cryptolake"
    play(Settings(home=str(lakes)), recordings, lambda _: None, lambda *_: None)
    for name in ("catalog.db", "warehouse"):
        (lakes / name).symlink_to(lakes / FOLDER / name)  # what `connect()` opens by itself
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_PYTHON, ids=relative)
def test_python_over_a_lake_runs(document: Path, user: Path):
    """Every Python example that reads a lake runs, in order, where the demo was run."""
    environment = {"HOME": str(user), "PATH": os.environ["PATH"], "TZ": "UTC"}
    for block in OVER_A_LAKE.findall(document.read_text(encoding="utf-8")):
        python = sys.executable
        if any(f"import {module}" in block for module in FOREIGN):
            python = str(INTEROP)
            if not INTEROP.exists():
                pytest.skip("needs .venv-interop: `make test` makes it")
        done = subprocess.run(
            [python, "-c", block], env=environment, cwd=user, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_a_catalog_that_is_built_anew_names_every_table_as_it_was(tmp_path: Path):
    """What the page on recovery does finds every table again, also one that has an older folder of its name."""
    document = ROOT / "docs" / "how-to" / "recover-and-maintain.md"
    block = next(
        b for b in OVER_A_LAKE.findall(document.read_text(encoding="utf-8")) if "register_table" in b
    )
    index = pa.table({"value": [20], "classification": ["Extreme Fear"], "timestamp": [1_723_161_600]})
    settings = Settings(home=tmp_path / ".cryptolake" / "demo")
    with open_lake(settings, Clock()) as lake:
        for name in ("bronze.historical_prices", "bronze.fear_greed"):
            lake.ensure(name)
        lake.append("bronze.fear_greed", index)
        lake.catalog.drop_table("bronze.fear_greed")
        lake.ensure("bronze.fear_greed")
        held = {name: lake.table(name).metadata_location for name in lake.tables()}
    subprocess.run(
        [sys.executable, "-c", block], env={"HOME": str(tmp_path)}, check=True, capture_output=True
    )
    with open_lake(settings, Clock()) as lake:
        assert {name: lake.table(name).metadata_location for name in lake.tables()} == held


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if commands(d)], ids=relative)
def test_commands_exist(document: Path):
    """Every `cryptolake` command that a document shows has a verb and options that there are."""
    group: Any = get_command(app)
    for words in commands(document):
        assert words[1] in group.commands, words
        options = {o for p in group.commands[words[1]].params for o in p.opts} | {"--help", "-h"}
        unknown = [w for w in words[2:] if re.match(r"--?[a-z]", w) and w.split("=")[0] not in options]
        assert not unknown, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document: Path):
    """A link inside the repository leads to a file that is there, and to a heading in it."""
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        path, _, heading = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        if heading:
            assert heading in headings(file), target


def headings(document: Path) -> set[str]:
    """Return the anchors of the headings of *document*, as GitHub names them."""
    lines = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}
