"""
Whether the tables keep what their contracts promise.

=================  =================================================================
`check.py`         what a check is: `Check`, and the `Threshold` its figure is held against
`compile.py`       a contract -> its checks
`sql.py`           what stands in for placeholders, and everything engine-specific
`run.py`           `run_checks()`: one scan a table, every result kept
`anomaly.py`       row counts against those of past runs
`venue.py`         `check_with_venues()`: our bars against the venues' own
`result.py`        `CheckResult`; `worst()` and `exit_status()` of many
=================  =================================================================
"""

from cryptolake.quality.check import Check, Threshold
from cryptolake.quality.compile import compile_checks
from cryptolake.quality.result import CheckResult, Status, exit_status, worst
from cryptolake.quality.run import run_checks

__all__ = [
    "Check",
    "CheckResult",
    "Status",
    "Threshold",
    "compile_checks",
    "exit_status",
    "run_checks",
    "worst",
]
