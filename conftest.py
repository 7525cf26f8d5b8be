"""
What holds for every test: no settings of the developer's own, no silent skips, no events on standard output.

Also collects the examples in docstrings and documents as tests.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from doctest import ELLIPSIS
from pathlib import Path

import pytest
import structlog
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

ROOT = Path(__file__).parent
SKIP_OPENING = "needs "


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says where the original recordings are."""
    parser.addoption("--recordings", type=Path, help="the folder of the original recordings")


def pytest_configure() -> None:
    """Keep the settings and the lake of whoever runs the tests out of them, and them out of the lake."""
    for name in [n for n in os.environ if n.upper().startswith("CRYPTOLAKE_")]:
        del os.environ[name]
    os.environ["CRYPTOLAKE_CONFIG"] = os.devnull
    os.environ["CRYPTOLAKE_HOME"] = str(Path(tempfile.gettempdir()) / "no-test-may-write-here")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a server's thread logs at any time


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skip in CI, and one that does not say what it needs anywhere."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Hold skips of whole modules to the same rule."""
    report = yield
    if report.skipped:
        _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(SKIP_OPENING):
        report.outcome, report.longrepr = "failed", f"a skip must say what it {SKIP_OPENING}…, not {reason!r}"
    elif os.environ.get("CI") == "true":
        report.outcome, report.longrepr = "failed", f"skipped, which CI does not accept: {reason}"


def _enter_scratch(namespace: dict[str, object]) -> None:
    scratch = tempfile.TemporaryDirectory()
    namespace["_scratch"], namespace["_came_from"] = scratch, Path.cwd()
    os.chdir(scratch.name)


def _leave_scratch(namespace: dict[str, object]) -> None:
    os.chdir(namespace["_came_from"])
    namespace["_scratch"].cleanup()


docstrings = Sybil(path=str(ROOT / "src"), parsers=[DocTestParser(ELLIPSIS)], patterns=["**/*.py"])
documents = Sybil(
    path=str(ROOT),
    parsers=[DocTestParser(ELLIPSIS), PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/**/*.md"],
    setup=_enter_scratch,
    teardown=_leave_scratch,
)
pytest_collect_file = (docstrings + documents).pytest()
