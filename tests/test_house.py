"""The building code: what must stay true of every file, whoever writes it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cryptolake"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
ENGINES = {"dbt", "duckdb", "httpx2", "pyarrow", "pyiceberg", "sqlalchemy"}
LIGHT = {
    "cryptolake": ENGINES | {"pydantic", "rich", "typer", "yaml"},
    "cryptolake.clock": ENGINES | {"pydantic", "rich", "typer", "yaml"},
    "cryptolake.config": ENGINES | {"rich", "typer"},
    "cryptolake.contracts": ENGINES | {"rich", "typer"},
    "cryptolake.sources.coingecko.wire": ENGINES | {"pydantic", "rich", "typer", "yaml"},
    "cryptolake.sources.alternative_me.wire": ENGINES | {"pydantic", "rich", "typer", "yaml"},
    "cryptolake.cli": ENGINES,
}
ASKS_THE_TIME = {
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "date.today",
    "time.time",
    "time.time_ns",
    "time.monotonic",
}

IMPORT_EVERYTHING = """
import importlib, os, pathlib, pkgutil, sys
seen = []
def hook(event, args):
    if event in {"socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove", "os.putenv"}:
        seen.append((event, str(args[:2])))
    elif event == "open" and isinstance(args[0], str) and not args[0].endswith(CODE):
        path = str(pathlib.Path(args[0]).resolve())
        if not path.startswith((sys.prefix, sys.base_prefix, "/dev/", "/proc/", "/sys/", "/usr/", "/etc/")):
            seen.append((event, path))
CODE = (".py", ".pyc", ".so", ".pth")
package = importlib.import_module("cryptolake")
names = [m.name for m in pkgutil.walk_packages(package.__path__, "cryptolake.", onerror=lambda name: None)]
sys.addaudithook(hook)
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print("\\n".join(f"{event} {what}" for event, what in seen))
"""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_fits_in_one_sitting(path):
    """No file is longer than a reader can hold in mind."""
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_function_fits_on_one_screen(path):
    """No function is longer than one screen."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_module_says_what_it_is_for(path):
    """Every module opens with a docstring, and its name says something."""
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert path.stem not in NAMES_THAT_SAY_NOTHING


@pytest.mark.parametrize("path", [f for f in FILES if f != PACKAGE / "clock.py"], ids=relative)
def test_only_the_clock_asks_what_time_it_is(path):
    """Time comes in as an argument, so that a test or a user can say what time it is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert f"{node.value.id}.{node.attr}" not in ASKS_THE_TIME, f"line {node.lineno}"


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_a_test_states_its_rule(path):
    """Every test has a docstring with the rule that it upholds."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), node.name


def test_importing_the_package_does_nothing():
    """Imports open no files, connect to nothing and start no processes."""
    assert python(IMPORT_EVERYTHING) == ""


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_no_engine(module):
    """What does not need an engine does not wait for one to load."""
    loaded = python(f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})")
    assert not LIGHT[module] & set(loaded.split())


def test_the_pages_that_are_generated_are_up_to_date():
    """The reference in docs/ is what the code says; `make docs` writes it."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stdout + done.stderr
