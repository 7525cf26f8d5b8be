"""A skip is never silent: it says what it needs, and in CI it is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SKIPS = """
import pytest

def test_skips():
    pytest.skip("{reason}")

@pytest.mark.xfail(strict=True)
def test_is_known_to_fail():
    assert False
"""


def outcome(folder: Path, *, reason: str, ci: str) -> str:
    """Return what pytest says in the end of a test that skips for *reason*."""
    shutil.copy(CONFTEST, folder)
    (folder / "test_it.py").write_text(SKIPS.format(reason=reason))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", folder]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    return done.stdout


@pytest.mark.parametrize(
    ("reason", "ci", "said", "why"),
    [
        ("needs a lake of gold", "", "1 skipped, 1 xfailed", ""),
        ("needs a lake of gold", "true", "1 failed, 1 xfailed", "skipped, which CI does not accept: needs a lake of gold"),
        ("no idea", "", "1 failed, 1 xfailed", "a skip must say what it needs …, not 'no idea'"),
    ],
)  # fmt: skip
def test_a_skip_says_what_it_needs_and_fails_in_ci(tmp_path, reason, ci, said, why):
    """What was not tested is known, and what CI did not test has not passed."""
    printed = outcome(tmp_path, reason=reason, ci=ci)
    assert said in printed
    assert why in printed
