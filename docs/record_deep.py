"""Write the result of `make test-deep` into docs/reference/tests.md, from the JUnit file that pytest leaves."""

from __future__ import annotations

import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

PAGE = Path(__file__).parent / "reference" / "tests.md"
BEGIN, END = "<!-- test-deep:begin -->", "<!-- test-deep:end -->"


def record(junit: Path) -> None:
    """Replace what stands between the markers of the page with the result in *junit*."""
    suite = next(ET.parse(junit).iter("testsuite"))  # noqa: S314 (our own file)
    rows = [
        f"| `{case.get('classname')}` | {str(case.get('name')).replace('_', ' ')} | {float(case.get('time', 0)):.0f} s | {_result(case)} |"
        for case in suite.iter("testcase")
    ]
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    where = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores"
    text = "\n".join(
        [
            BEGIN,
            f"{where}: {len(rows) - failed} passed, {failed} failed in {float(suite.get('time', 0)) / 60:.1f} minutes.",
            "",
            "| suite | rule | time | result |",
            "|---|---|---|---|",
            *rows,
            END,
        ]
    )
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: text, page, flags=re.DOTALL), encoding="utf-8")


def _result(case: ET.Element) -> str:
    return "failed" if case.find("failure") is not None or case.find("error") is not None else "passed"


if __name__ == "__main__":
    record(Path(sys.argv[1]))
