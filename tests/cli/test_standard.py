"""Standard output and error may be closed, broken or full: lost output is said, lost log lines cost nothing else."""

from __future__ import annotations

import json

import pytest
import structlog

from cryptolake.cli.events import log_events
from tests.cli.commands import redirected


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["status"],
        ["status", "--json"],
        *(["query", "from range(100000)", "-f", kind] for kind in ("table", "csv", "json", "parquet")),
    ],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_said(lake_shell, arguments):
    """It is not the lake's disk that is full: exit status 2, and one line about the output."""
    said = redirected(lake_shell, ">/dev/full", *arguments)
    assert (said.status, said.err) == (2, "error: the output cannot be written: No space left on device\n")


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_command_whose_standard_files_are_closed_does_its_work(lake_shell, redirection):
    """As cron and daemons may start it: what would be printed there goes nowhere, the status says the rest."""
    said = redirected(lake_shell, redirection, "status")
    assert (said.status, said.err, bool(said.out)) == (0, "", ">&-" not in redirection.split())
    assert redirected(lake_shell, redirection, "query", "nonsense").status == 2


def test_an_unexpected_error_has_its_stack_in_the_log(capfd):
    """A line of JSON an event: the stack is a field of it, and absent where none was asked for."""
    quiet = structlog.get_config()
    log_events("info")
    log = structlog.get_logger()
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        log.exception("unexpected", reason="by zero")
    log.error("expected", reason="by zero", exc_info=False)
    structlog.configure(**quiet)
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert (first["level"], first["event"], first["reason"]) == ("error", "unexpected", "by zero")
    assert first["exception"].endswith("ZeroDivisionError: by zero")
    assert not {"exc_info", "exception"} & set(second)
