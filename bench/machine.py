"""What the figures of a benchmark were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("cryptolake", "picows", "msgspec", "pyiceberg", "pyarrow", "duckdb", "dbt-core", "dbt-duckdb")


def describe() -> dict[str, Any]:
    """Return the processor, memory, system and versions of this machine, and how busy it is with other work."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_1m": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def _cpu() -> str:
    """Return the model of the processor as Linux names it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    return named.get("model name") or named.get("Model") or platform.machine()
