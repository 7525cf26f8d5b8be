"""
How long `cryptolake demo` takes from nothing, and how much memory: a new home and a new process each time.

Prints JSON; the figures are the operating system's of the whole process.

    python bench/demo.py [--quick]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine


def one_demo() -> tuple[float, float]:
    """Run the demo into a new home; return its wall seconds and its peak resident memory in MB."""
    command = Path(sys.executable).with_name("cryptolake")
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        process = subprocess.Popen([command, "demo", "--home", home], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    assert os.waitstatus_to_exitcode(status) == 0, "the demo failed"
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    """Measure, and print JSON."""
    runs = [one_demo() for _ in range(2 if "--quick" in sys.argv else 5)]
    result = {
        "machine": machine.describe(),
        "cold_demo": {
            "runs": len(runs),
            "seconds_median": round(statistics.median(s for s, _ in runs), 1),
            "seconds_max": round(max(s for s, _ in runs), 1),
            "peak_mb_median": round(statistics.median(m for _, m in runs)),
            "peak_mb_max": round(max(m for _, m in runs)),
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
