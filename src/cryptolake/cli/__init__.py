"""
The command line: parse, call, print. What is done, is done in the rooms below.

=================  =================================================================
`app.py`           the verbs
`trades.py`        the verbs about trades: stream, backfill, coverage
`replaying.py`     the verb that plays recorded data
`main.py`          `main()`: run the verbs; errors become one clear message and an exit status
`stopping.py`      what Ctrl-C, SIGTERM and SIGHUP do
`standard.py`      standard output and error that may be closed, broken or full
`options.py`       options that verbs share, and how they are read
`events.py`        what is logged, and how
`follow.py`        a run as it goes: a line a step, a progress bar
`live.py`          a capture as it goes, and its summary
`filling.py`       a backfill as it goes, and its summary
`covered.py`       the coverage of trades
`show.py`          results of the other verbs for the eye, or as JSON
`terminal.py`      lines, tables, sparklines, JSON
`export.py`        query results as CSV, JSON, Parquet and Arrow
`reference.py`     the reference page of all this, for the documentation
=================  =================================================================

Exit status: 0 done, 1 a check failed or data is missing, 2 a person must change something.
"""


def main() -> None:
    """Run the command line of this process, and exit."""
    from cryptolake.cli.main import run

    run()
