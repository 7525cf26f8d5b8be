"""Whatever is wrong, a command says it in one clear message with what to do, and exits 2."""

from __future__ import annotations

import shutil

import pytest

from cryptolake.replay import faults
from tests.cli.commands import NOON, SCRIPT, Said, Shell, with_mounts
from tests.replayed import Town


def assert_explained(said: Said, *parts: str) -> None:
    """Demand exit status 2, nothing on standard output, and one message with *parts* in it and no traceback."""
    assert (said.status, said.out) == (2, ""), said
    assert "Traceback" not in said.err
    assert "not expected" not in said.err
    for part in parts:
        assert part in said.err, said.err


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["query", "select 1"], 2, "`cryptolake demo`, `cryptolake run` or `cryptolake stream` makes one"),
        (["check"], 1, "run `cryptolake run` first"),
        (["transform"], 0, "nothing to transform"),
        (["maintain"], 0, "nothing to maintain"),
        (["status"], 0, "`cryptolake demo`, `cryptolake run` or `cryptolake stream` makes one"),
        (["coverage"], 1, "`cryptolake stream` captures them"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_without_a_lake_a_command_says_what_to_run_first(shell, command, status, said):
    """An empty home is no lake, and looking for one makes none."""
    heard = shell(*command)
    assert (heard.status, said in heard.out + heard.err) == (status, True)
    assert not shell.home.exists()


@pytest.mark.parametrize("verb", ["check", "transform", "maintain", "status"])
def test_without_a_lake_json_is_still_json(shell, verb):
    """A program gets an empty result; the words go to standard error."""
    said = shell(verb, "--json")
    empty = (
        {"tables": [], "failing": [], "last_run_id": None, "last_checked_at": None, "captured": []}
        if verb == "status"
        else []
    )
    assert (said.json, str(shell.home) in said.err) == (empty, True)


def test_a_lake_without_tables_is_no_lake_yet(shell):
    """A run that was stopped before its first table leaves nothing to read."""
    with Town.opened(shell.home):
        pass
    assert_explained(shell("query", "select 1"), "there is no lake at")
    assert shell("transform").status == 0
    assert shell("maintain").status == 0
    assert shell("check").status == 1


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CRYPTOLAKE_COIN", "bitcoin", "unknown setting CRYPTOLAKE_COIN in the environment: did you mean CRYPTOLAKE_COINS?"),
        ("CRYPTOLAKE_COINS", "[", "is not valid JSON"),
        ("CRYPTOLAKE_INGEST__RESTATEMENT_DAYS", "three", "ingest.restatement_days = 'three'"),
        ("CRYPTOLAKE_ENGINE", "spark", "the only allowed value is 'duckdb'"),
        ("CRYPTOLAKE_CONFIG", "/nowhere.toml", "the settings file /nowhere.toml, named by CRYPTOLAKE_CONFIG, cannot be read"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named(shell, variable, value, said):
    """The message has the setting, where it came from and what is right."""
    assert_explained(shell("run", env={variable: value}), said)
    assert not shell.home.exists()


def test_a_catalog_that_nobody_knows_is_refused(shell):
    """Properties of the catalog go to PyIceberg as they are; what it says about them is passed on."""
    assert_explained(
        shell("run", env={"CRYPTOLAKE_CATALOG__TYPE": "nonsense"}),
        "the catalog settings are not usable",
        "nonsense",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "March"], "not a day: 'March'; write it as in 2024-03-16"),
        (["--from", "2024-03-16", "--to", "2024-03-15"], "--from 2024-03-16 is after --to 2024-03-15"),
        (["--full", "--from", "2024-03-16"], "--full asks for all history; leave out --from and --to"),
        (["--as-of", "now"], "not a time: 'now'"),
        (["--coins", ""], "must name at least one CoinGecko id"),
        (["--coins", "bit coin"], "'bit coin' is not a CoinGecko id"),
        (["--no-such-option"], "No such option: --no-such-option"),
    ],
)
def test_a_bad_option_is_named(shell, arguments, said):
    """What cannot be meant is refused before anything is done."""
    assert_explained(shell("run", *arguments), said)
    assert not shell.home.exists()


def test_a_home_that_is_a_file_is_refused(shell):
    """A file in the way is named."""
    shell.home.write_text("I was here first")
    assert_explained(shell("ingest", "--as-of", NOON), str(shell.home))
    assert_explained(shell("demo"), str(shell.home))
    assert shell.home.read_text() == "I was here first"


def test_a_home_under_a_file_is_refused(shell):
    """So is one further up."""
    shell.home.write_text("I was here first")
    below = Shell(shell.home / "lake", shell.server, shell.captured)
    assert_explained(below("ingest", "--as-of", NOON), str(below.home))
    assert_explained(below("query", "select 1"), "there is no lake at")


def test_a_home_with_an_impossible_name_is_refused(shell):
    """What the file system cannot even look up is said, whatever the command."""
    odd = Shell(shell.home / ("x" * 300), shell.server, shell.captured)
    for command in (["ingest"], ["transform"], ["query", "select 1"], ["status"], ["check"], ["maintain"]):
        assert_explained(odd(*command), "x" * 300)


READ_ONLY = """
mount -t tmpfs tmpfs "$PLACE" && mount -o remount,ro "$PLACE" || exit 77
exec "$@"
"""


def test_a_home_on_a_read_only_disk_is_refused(shell):
    """The message says that it cannot be written, and where else to look."""
    env = {**shell.variables, "PLACE": str(shell.home.parent)}
    said = with_mounts(READ_ONLY, SCRIPT, "ingest", "--as-of", NOON, env=env)
    assert_explained(said, "cannot be written", "set another `home`")


@pytest.mark.parametrize(
    "command",
    [["ingest"], ["query", "select 1"], ["status"], ["check"], ["maintain"], ["transform"]],
    ids=" ".join,
)
@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\0" + bytes(range(1, 200)) * 50]
)
def test_a_damaged_catalog_is_named(shell, command, content):
    """The data files are untouched; the message says what to restore."""
    shell.home.mkdir()
    (shell.home / "catalog.db").write_bytes(content)
    assert_explained(shell(*command), str(shell.home), "damaged", "restore catalog.db from a backup")
    assert (shell.home / "catalog.db").read_bytes() == content


@pytest.fixture
def small(tmp_path, server, capfd) -> Shell:
    """A shell with a lake of the index alone."""
    shell = Shell(tmp_path / "home", server, capfd)
    with Town.opened(shell.home) as town:
        town.ingest_index()
    return shell


def test_a_metadata_file_that_is_gone_is_named(small):
    """The catalog names it, so the table cannot be read; the message names the file."""
    for file in small.home.rglob("*.metadata.json"):
        file.unlink()
    for command in (
        ["query", "select count(*) from bronze.fear_greed"],
        ["status"],
        ["ingest"],
        ["maintain"],
    ):
        assert_explained(small(*command), "a file of bronze.", " is gone", ".metadata.json")


def test_a_data_file_that_is_gone_is_named(small):
    """Other tables can still be read."""
    [data] = small.home.glob("warehouse/bronze/fear_greed-*/data")
    shutil.rmtree(data)
    said = small("query", "select * from bronze.fear_greed")
    assert_explained(said, "a file of bronze.fear_greed is gone", ".parquet", "restore it from a backup")
    assert small("query", "select * from bronze.rejects").status == 0


def test_vendors_that_refuse_everything_are_missing_data(shell):
    """Each coin and the index is named with its reason, what follows goes on, and the exit status is 1."""
    shell.server.inject(lambda request: faults.html(403))
    said = shell("ingest", "--as-of", NOON, "--json")
    prices, index = said.json["steps"]
    assert (said.status, len(prices["problems"]), len(index["problems"])) == (1, 3, 1)
    assert (
        "bitcoin: coingecko refuses /coins/bitcoin/market_chart: it blocks this address or key"
        in prices["problems"][0]
    )
    assert "fear_greed: alternative.me refuses /fng/" in index["problems"][0]


def test_a_traceback_is_shown_on_demand(shell):
    """`--debug` shows where an error came from, and logs every event."""
    shell.home.write_text("I was here first")
    process = shell.start("ingest", "--debug")
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert "Traceback" in err
    assert "cryptolake.errors.LakeError" in err
