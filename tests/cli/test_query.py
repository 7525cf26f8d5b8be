"""`query` answers one statement that only reads, in the format that is asked for."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.commands import SCRIPT, Shell
from tests.replayed import KNOWN_DAYS, Town

pytestmark = pytest.mark.slow

FIRST = (
    "select index_date, fear_greed_value, classification as class from silver.fear_greed order by 1 limit 2"
)
DAYS = [date(2023, 11, 18), date(2023, 11, 19)]


def files_under(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and time of every file under *folder* but the catalog's, which reading touches."""
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("catalog.db"))
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in found}


def values(shell: Shell) -> list[int]:
    """Return the two values that `FIRST` selects."""
    index = shell.server.recordings.index
    return [index[0].value, index[1].value]


def test_a_result_is_shown_as_a_table(lake_shell):
    """The default is a table for the eye, and how many rows it has."""
    said = lake_shell("query", FIRST)
    lines = [line.split() for line in said.out.splitlines() if line.strip()]
    assert (said.status, said.err) == (0, "")
    assert lines[0] == ["index_date", "fear_greed_value", "class"]
    assert [line[0] for line in lines[2:4]] == [str(d) for d in DAYS]
    assert lines[-1] == ["2", "rows"]


def test_a_long_result_is_cut_on_screen(lake_shell):
    """A table has 40 rows unless more are asked for, and says how to have them."""
    forty = lake_shell("query", "from range(100)").out
    assert "the first 40 rows; --limit N shows more" in forty
    assert lake_shell("query", "from range(100)", "--limit", "60").out.splitlines()[-1] == "60 rows"
    assert lake_shell("query", "from range(40)").out.splitlines()[-1] == "40 rows"
    assert lake_shell("query", "from range(40)", "--limit", "0").out.splitlines()[-1] == "0 rows"


def test_columns_of_one_name_are_all_shown(lake_shell):
    """A table for the eye may have two columns of one name."""
    assert "1   2" in lake_shell("query", "select 1 as a, 2 as a").out


def test_a_wide_table_is_not_folded_away(lake_shell):
    """Where no terminal limits the width, every column and value is on one line."""
    header = lake_shell("query", "select * from gold.fact_market_daily limit 1").out.splitlines()[1].split()
    assert (header[0], "volatility_30d" in header, "ma30_signal" in header) == ("coin_id", True, True)


def test_csv_has_a_header_and_all_rows(lake_shell):
    """CSV goes to standard output, to other programs."""
    said = lake_shell("query", "select index_date, fear_greed_value from silver.fear_greed", "-f", "csv")
    rows = list(csv.reader(io.StringIO(said.out)))
    assert (said.status, said.err, rows[0], len(rows)) == (
        0,
        "",
        ["index_date", "fear_greed_value"],
        KNOWN_DAYS + 1,
    )


def test_json_is_one_array_of_objects(lake_shell):
    """Numbers are numbers, dates are ISO, null is null."""
    rows = lake_shell("query", f"select *, null as n, 1.50::decimal(9,2) as d, sum(2) over () as s from ({FIRST})", "-f", "json").json  # fmt: skip
    assert [(r["index_date"], r["fear_greed_value"], r["n"], r["d"], r["s"]) for r in rows] == [
        (str(day), value, None, 1.5, 4) for day, value in zip(DAYS, values(lake_shell), strict=True)
    ]
    assert lake_shell("query", "select 1 as x where false", "-f", "json").json == []


def test_json_lines_are_an_object_each(lake_shell):
    """JSON lines can be read one by one, and --limit holds for every format."""
    out = lake_shell("query", "from range(5)", "-f", "jsonl", "--limit", "3").out
    assert out.splitlines() == ['{"range":0}', '{"range":1}', '{"range":2}']


def test_parquet_is_written_to_a_file(lake_shell, tmp_path):
    """The file has the types of the result, and the command says how many rows it has."""
    said = lake_shell("query", FIRST, "-f", "parquet", "-o", tmp_path / "first.parquet")
    table = pq.read_table(tmp_path / "first.parquet")
    assert said.out == f"2 rows written to {tmp_path / 'first.parquet'}\n"
    assert table.schema.field("index_date").type == pa.date32()
    assert table["fear_greed_value"].to_pylist() == values(lake_shell)


def test_arrow_is_an_ipc_stream(lake_shell):
    """Arrow goes to standard output as a stream."""
    process = lake_shell.start("query", FIRST, "-f", "arrow", text=False)
    out, err = process.communicate()
    table = pa.ipc.open_stream(out).read_all()
    assert (process.returncode, err, table["fear_greed_value"].to_pylist()) == (0, b"", values(lake_shell))


def test_a_file_appears_only_when_it_is_whole(lake_shell, tmp_path):
    """A query that fails on the way leaves what was there before, and nothing beside it."""
    target = tmp_path / "rows.csv"
    target.write_text("as before")
    sql = "select cast(if(i = 150000, 'x', '1') as int) as n from range(200000) t(i)"
    said = lake_shell("query", sql, "-f", "csv", "-o", target)
    assert (said.status, "Could not convert string 'x'" in said.err, "not expected" in said.err) == (
        2,
        True,
        False,
    )
    assert (target.read_text(), [p.name for p in tmp_path.iterdir()]) == ("as before", ["rows.csv"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["select [1] as l", "-f", "csv"], "csv cannot hold this result"),
        (["select interval 3 day as i", "-f", "parquet", "-o", "x.parquet"], "parquet cannot hold this result"),
        (["select 1 as a, 2 as a", "-f", "json"], "several columns are named a"),
        (["select 1", "-o", "x"], "--output needs a format"),
        (["select 1", "-f", "csv", "-o", "nowhere/x"], "nowhere/x cannot be written: No such file or directory"),
        (["select 1", "-f", "xml"], "is not one of"),
        (["select 1", "--limit", "-1"], "greater than or equal to 0"),
        (["select 1", "--as-of", "yesterday"], "not a time: 'yesterday'; write it as in 2024-03-16"),
        (["select 1", "--as-of", "5"], "no table has the snapshot 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(lake_shell, tmp_path, monkeypatch, arguments, said):
    """A wrong option is one clear message and exit status 2."""
    monkeypatch.chdir(tmp_path)
    heard = lake_shell("query", *arguments)
    assert (heard.status, heard.out, "Traceback" in heard.err, "not expected" in heard.err) == (
        2,
        "",
        False,
        False,
    )
    assert said in heard.err


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selec 1", "syntax error"),
        ("", "takes one statement, this has 0"),
        ("select nope from gold.dim_coins", 'Referenced column "nope" not found'),
        ("select * from gold.nothing", "The tables are: bronze.fear_greed, bronze.historical_prices"),
        ("select $1", "parameters"),
        ("select cast('x' as int)", "Could not convert"),
    ],
)
def test_wrong_sql_is_explained(lake_shell, sql, said):
    """A mistake in a statement is told in the engine's words, with the tables there are."""
    heard = lake_shell("query", sql)
    assert (heard.status, heard.out, said in heard.err) == (2, "", True), heard.err


REFUSED = """
select 1; select 2
copy (select 1) to '{warehouse}/planted.csv'
explain analyze copy (select 1) to '{warehouse}/planted.csv'
explain (analyze, format json) copy (select 1) to '{warehouse}/planted.csv'
with x as (copy (select 1) to '{warehouse}/planted.csv') select * from x
with x as (delete from gold.dim_coins returning *) select * from x
select * from query('copy (select 1) to ''{warehouse}/planted.csv''')
select * from json_execute_serialized_sql(json_serialize_sql('select 1'))
select * from enable_logging(storage := 'file', storage_path := '{warehouse}/log')
copy gold.dim_coins from '/etc/passwd'
export database '{warehouse}/planted'
attach '{home}/planted.db'
attach '{home}/catalog.db' as c (type sqlite)
detach memory
use memory
install httpfs
load httpfs
set threads = 1
reset threads
pragma database_list
call pragma_version()
checkpoint
vacuum
begin
prepare p as select 1
create table planted (i int)
create view planted as select 1
insert into gold.dim_coins select * from gold.dim_coins
update gold.dim_coins set name = 'x'
delete from gold.dim_coins
merge into gold.dim_coins using gold.dim_dates on true when matched then delete
truncate gold.dim_coins
drop view gold.dim_coins
alter table gold.dim_coins add column x int
comment on view gold.dim_coins is 'x'
select * from read_csv('/etc/passwd')
select * from read_text('/etc/passwd')
select * from read_blob('{warehouse}/../catalog.db')
select * from glob('/etc/*')
select * from '/etc/passwd'
select * from read_parquet('http://127.0.0.1:9/x.parquet')
""".strip().splitlines()


@pytest.mark.parametrize("sql", REFUSED)
def test_what_does_more_than_read_the_lake_is_refused(lake_shell, sql):
    """Statements that write, load, attach or look elsewhere end with exit status 2 and change nothing."""
    before = files_under(lake_shell.home)
    said = lake_shell(
        "query", sql.format(warehouse=lake_shell.home / "warehouse", home=lake_shell.home), "-f", "csv"
    )
    assert (said.status, said.out, "Traceback" in said.err, "not expected" in said.err) == (
        2,
        "",
        False,
        False,
    )
    assert "root:" not in said.err
    assert files_under(lake_shell.home) == before


@pytest.mark.parametrize(
    "sql",
    [
        "select 1; -- that is all",
        "/* first */ select 1",
        "from gold.dim_coins",
        "(select 1) union all (select 2)",
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 3) select * from r",
        "with x as materialized (select 1) select * from x where 1 in (select 1)",
        "describe gold.dim_coins",
        "summarize silver.fear_greed",
        "show all tables",
        "values (1)",
        "explain select * from gold.dim_coins",
        "pivot silver.fear_greed on classification in ('Fear', 'Greed') using count(*)",
        "select * from generate_series(1, 3), unnest([1, 2])",
        "select * from duckdb_views()",
    ],
)
def test_whatever_only_reads_is_answered(lake_shell, sql):
    """Everything that DuckDB can select may be asked."""
    said = lake_shell("query", sql)
    assert (said.status, said.err) == (0, "")


def test_a_query_reads_the_lake_as_it_was(tmp_path, capfd):
    """`--as-of` takes a time or a snapshot id; before the first commit a table is empty."""
    with Town.opened(tmp_path) as town:
        town.ingest_index()
        snapshot = town.lake.table("bronze.fear_greed").current_snapshot()
        town.next_day(4)
        town.ingest_index()
        shell = Shell(tmp_path, town.server, capfd)
    committed = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).isoformat()
    moments = {None: 4, str(snapshot.snapshot_id): 0, committed: 0, "2020-01-01": -KNOWN_DAYS}
    for moment, more in moments.items():
        as_of = ["--as-of", moment] if moment else []
        said = shell("query", "select count(*) as days from bronze.fear_greed", "-f", "json", *as_of)
        assert said.json == [{"days": KNOWN_DAYS + more}], moment


def test_a_snapshot_that_has_expired_is_named(tmp_path, capfd):
    """A table whose snapshot at that time is gone is refused with the oldest time there is; others are answered."""
    with Town.opened(tmp_path) as town, pytest.MonkeyPatch.context() as patch:
        town.ingest_index()
        patch.setattr("cryptolake.lake.commit.expire", expire_all_but_the_last)
        town.next_day()
        town.ingest_index()
        shell = Shell(tmp_path, town.server, capfd)
    said = shell("query", 'select count(*) from Bronze."fear_greed"', "--as-of", "2020-01-01")
    assert (said.status, said.out) == (2, "")
    assert "bronze.fear_greed: the snapshot of 2020-01-01 00:00:00" in said.err
    assert "has expired; the oldest kept is of" in said.err
    assert shell("query", "select count(*) from bronze.rejects", "--as-of", "2020-01-01").status == 0


def expire_all_but_the_last(tx, retention) -> int:
    """Expire as a retention of nothing would."""
    from pyiceberg.table.update.snapshot import ExpireSnapshots

    current = tx.table_metadata.current_snapshot_id
    old = [s.snapshot_id for s in tx.table_metadata.snapshots if s.snapshot_id != current]
    if old:
        ExpireSnapshots(tx).by_ids(old).commit()
    return len(old)


def test_a_reader_that_has_had_enough_ends_a_query_in_peace(lake_shell):
    """`| head -1` is no failure: exit status 0 and nothing on standard error."""
    process = lake_shell.start("query", "from range(3000000)", "-f", "csv")
    assert process.stdout.readline() == '"range"\n'
    process.stdout.close()
    with process.stderr as errors:
        assert (errors.read(), process.wait()) == ("", 0)


def test_a_query_in_a_pipeline_of_the_shell(lake_shell):
    """The same, as it is typed."""
    command = f"set -o pipefail; {SCRIPT} query 'from range(100000)' -f jsonl | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **lake_shell.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"range":0}\n', "")


def test_the_lake_is_not_held_open_by_an_answer(lake_shell):
    """A query leaves no lock behind: a writer can commit at once."""
    lake_shell("query", "select 1")
    with closing(sqlite3.connect(lake_shell.home / "catalog.db", timeout=0)) as catalog:
        catalog.execute("begin exclusive")
