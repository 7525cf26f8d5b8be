"""Write the result of `make test-faults` into docs/reference/tests.md, from the JUnit file that pytest leaves."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

PAGE = Path(__file__).parent / "reference" / "tests.md"
BEGIN, END = "<!-- test-faults:begin -->", "<!-- test-faults:end -->"
NAMES = {
    "lost": "frames lost",
    "duplicated": "frames duplicated",
    "reordered": "frames reordered",
    "damaged": "frames damaged",
    "disconnect": "connections cut",
    "shutdown": "shutdowns announced",
    "stall": "connections stalled",
    "429": "answers 429",
    "418": "answers 418",
    "slow": "answers late",
    "500": "answers 500",
    "reset": "answers reset",
    "cut-off": "answers cut off",
    "html": "answers in HTML",
}


def record(junit: Path) -> None:
    """Replace what stands between the markers of the page with the result in *junit*; one of a few schedules is not kept."""
    suite = next(ET.parse(junit).iter("testsuite"))  # noqa: S314 (our own file)
    cases = list(suite.iter("testcase"))
    if len(cases) < 100:  # noqa: PLR2004 (the whole suite)
        return
    counts: Counter[str] = Counter()
    for found in suite.iter("property"):
        counts[str(found.get("name"))] += int(str(found.get("value")))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    where = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores"
    minutes = float(suite.get("time", 0)) / 60
    text = "\n".join(
        [
            BEGIN,
            f"{where}: {len(cases) - failed} schedules held, {failed} did not, in {minutes:.1f} minutes.",
            "",
            "| | |",
            "|---|---:|",
            f"| schedules | {len(cases):,} |",
            f"| trades published | {counts['trades']:,} |",
            f"| SIGKILLs of the capture | {counts['kills']:,} |",
            *(f"| {name} | {counts[kind]:,} |" for kind, name in NAMES.items()),
            END,
        ]
    )
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: text, page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
