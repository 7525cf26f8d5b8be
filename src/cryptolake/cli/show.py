"""Results of the verbs for the eye, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cryptolake.cli import covered
from cryptolake.cli.follow import tally
from cryptolake.cli.terminal import (
    JSON_HAS_ALL,
    LONGEST_CELL,
    MARKS,
    Columns,
    command_of,
    console,
    money,
    note,
    percent,
    print_json,
    shell,
    size,
    sparkline,
    table,
)
from cryptolake.errors import QueryError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from cryptolake.demo import Played
    from cryptolake.lake import Maintained
    from cryptolake.pipeline import Step
    from cryptolake.quality.result import CheckResult
    from cryptolake.serving.status import Status
    from cryptolake.transform.run import ModelRun

SCREEN_ROWS = 40
DEMO_COINS = 10
MODELS = Columns(
    ["model", "rows added>", "replaced>", "removed>", "files rewritten>", "time>"],
    spare=["files rewritten>", "removed>", "time>"],
)
TABLES = Columns(["table", "rows>", "newest", "snapshot", "size>"], spare=["snapshot", "size>"])
CAPTURED = Columns(
    ["captured", "trades>", "newest trade (UTC)", "open gaps>", "ids missing>"],
    spare=["newest trade (UTC)", "open gaps>"],
)
COINS = Columns(
    ["gold.fact_market_daily", "USD>", "1 day>", "volatility 30d>", "drawdown>", "MA30", "last 30 days"],
    spare=["MA30", "volatility 30d>", "drawdown>"],
)
BARS = Columns(
    ["gold.fact_ohlcv 1m", "UTC", "open>", "high>", "low>", "close>", "volume>", "trades>", "complete"],
    spare=["trades>", "volume>", "high>", "low>", "open>"],
)
SIGNALS = {"ABOVE_MA30": "above", "BELOW_MA30": "below", "AT_MA30": "at"}


def nothing(text: str, *, as_json: bool, content: Any = ()) -> None:
    """Say that there is nothing; as JSON it is the empty *content*."""
    if as_json:
        print_json(content)
        sys.stderr.write(text + "\n")
    else:
        note(text)


def steps(all_steps: Sequence[Step], *, as_json: bool) -> None:
    """Print the names of the steps."""
    names = [s.name for s in all_steps]
    if as_json:
        print_json(names)
    else:
        note("\n".join(names))


def models(runs: Sequence[ModelRun], *, as_json: bool) -> None:
    """Print what every model did."""
    if as_json:
        print_json(runs)
        return
    rows = [
        [
            m.name,
            *(f"{n:,}" for n in (m.rows_added, m.rows_replaced, m.rows_removed, m.files_rewritten)),
            f"{m.seconds:.2f} s",
        ]
        for m in runs
    ]
    table(MODELS, rows, instead=JSON_HAS_ALL)


def checks(results: Sequence[CheckResult], *, as_json: bool) -> None:
    """Print every check that did not pass, and how many there were of each kind."""
    if as_json:
        print_json([r.as_dict() for r in results])
        return
    bad = [r for r in results if r.status.value != "passed"]
    for r in bad:
        _bad_check(r.status.value, r.table_name, r.check_name, r.message)
    console().print(f"{len(results)} checks: {tally(results)}")


def compared(results: Sequence[CheckResult]) -> None:
    """Print what was held against the venues' own bars, where all of it agrees; else `checks` has said it."""
    if not results:
        note("no bar is complete yet, so there is nothing to hold against the venues' own")
    for r in results:
        if r.status.value == "passed":
            note(r.message or "")


def _bad_check(status: str, table_name: str, check_name: str, message: str | None) -> None:
    console().print(f"{MARKS[status]} {table_name} {check_name}", soft_wrap=True)
    console().print(f"    {message}", style="dim", markup=False, soft_wrap=True)


def maintained(done: Sequence[Maintained], *, planned: bool, as_json: bool) -> None:
    """Print what maintenance will do, or did."""
    if as_json:
        print_json(done)
        return
    note("to do:" if planned else "done:")
    rows = [
        [
            m.table,
            f"{m.files_compacted:,}",
            f"{m.snapshots_expired:,}",
            f"{m.orphans_removed:,}",
            size(m.bytes_freed),
        ]
        for m in done
    ]
    files = "files to compact>" if planned else "files compacted>"
    columns = Columns(["table", files, "snapshots>", "orphans>", "freed>"], spare=["orphans>", "snapshots>"])
    table(columns, rows, instead=JSON_HAS_ALL)


def status(state: Status, home: str, *, as_json: bool) -> None:
    """Print what the lake holds."""
    if as_json:
        print_json(state)
        return
    note(f"the lake at {home}")
    _tables(state, instead=JSON_HAS_ALL)
    _captured(state)
    if state.last_checked_at is None:
        note("no check has run yet")
        return
    note(f"last run: {state.last_run_id}, checked {state.last_checked_at:%Y-%m-%d %H:%M:%S} UTC")
    if not state.failing:
        console().print("[green]all checks passed the last time they ran[/]")
    for f in state.failing:
        _bad_check(f.status, f.table, f.check, f.message)


def _tables(state: Status, *, instead: str = "") -> None:
    rows = [
        [t.table, f"{t.rows:,}", str(t.newest or "-"), str(t.snapshot_id or "-"), size(t.bytes)]
        for t in state.tables
    ]
    table(TABLES, rows, instead=instead)


def _captured(state: Status) -> None:
    rows = [
        [
            c.instrument,
            "-" if c.trades is None else f"{c.trades:,}",
            f"{c.newest_trade_at:%Y-%m-%d %H:%M:%S}",
            "-" if c.open_gaps is None else f"{c.open_gaps:,}",
            "-" if c.missing_ids is None else f"{c.missing_ids:,}",
        ]
        for c in state.captured
    ]
    if rows:
        table(CAPTURED, rows, instead=JSON_HAS_ALL)


def demo(played: Played) -> None:
    """Print what the demo built, and what to try next."""
    console().print()
    _tables(played.status)
    results = [r for o in played.outcomes if o.step.startswith("check") for r in o.result]
    console().print(f"{len(results)} checks: {tally(results)}")
    for f in played.status.failing:
        first_line = (f.message or "").split("\n")[0]
        console().print(f"  {MARKS[f.status]} {f.table} {f.check}: ", end="")
        note(first_line)
    console().print()
    _coins(played)
    if played.sentiment:
        day, value, name = played.sentiment
        note(
            f"Fear & Greed on {day}: {value} ({name}). Source: Alternative.me. Prices: recorded from CoinGecko."
        )
    _trades(played)
    home = shell(played.home)
    ours, python = (command_of(name) for name in ("cryptolake", "python"))
    note(f"\nThe lake is at {played.home}. Try:")
    note(f"  {ours} status --home {home}")
    note(f'  {ours} query --home {home} "select * from gold.dim_coins order by price_range_pct desc limit 5"')
    note(f"  {python} -c \"import cryptolake; print(cryptolake.connect(home='{played.home}').tables())\"")
    note(f"\n{played.seconds:.1f} s, peak memory {played.peak_bytes / 1e6:,.0f} MB")


def _coins(played: Played) -> None:
    shown = played.coins[:DEMO_COINS]
    rows = [
        [
            c.coin_id,
            money(c.price_usd),
            percent(c.price_change_pct_1d),
            "-" if c.volatility_30d is None else f"{c.volatility_30d:.3f}",
            percent(c.drawdown_pct),
            SIGNALS.get(c.ma30_signal or "", "-"),
            sparkline(c.prices),
        ]
        for c in shown
    ]
    table(COINS, rows)
    if more := len(played.coins) - len(shown):
        console().print(f"[dim]… and {more} more coins, as of {played.as_of:%Y-%m-%d %H:%M} UTC[/]")


def _trades(played: Played) -> None:
    """Print the newest bars of the recorded trades, and how complete they are."""
    rows = [
        [
            f"{b.venue}:{b.symbol}",
            f"{b.bar_start_at:%Y-%m-%d %H:%M}",
            *(f"{price:,.2f}" for price in (b.open, b.high, b.low, b.close)),
            f"{b.volume:,.3f}",
            f"{b.trade_count:,}",
            "yes" if b.is_complete else "not yet",
        ]
        for b in played.bars
    ]
    table(BARS, rows)
    covered.days(played.coverage)


def result(batches: pa.RecordBatchReader, limit: int | None, output: Path | None) -> None:
    """Print a query's result as a table: up to *limit* rows, or 40, and the columns that there is room for."""
    if output is not None:
        raise QueryError("--output needs a format: add --format csv, json, jsonl, parquet or arrow")
    most = SCREEN_ROWS if limit is None else limit
    rows: list[list[str]] = []
    more = False
    for batch in batches:
        more = len(rows) + batch.num_rows > most
        columns = [column.to_pylist() for column in batch.slice(0, most - len(rows)).columns]
        rows += [[_cell(v) for v in row] for row in zip(*columns, strict=True)]
        if more:
            break
    headers = [f.name + (">" if _is_number(f.type) else "") for f in batches.schema]
    folds = {header: LONGEST_CELL for header in headers if not header.endswith(">")}
    table(
        Columns(headers, folds=folds, least=1),
        rows,
        instead="; select fewer columns, or add --format csv",
    )
    if more and limit is None:
        note(f"the first {most} rows; --limit N shows more, --format csv all")
    else:
        note(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
