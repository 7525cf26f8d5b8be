"""The settings: where they come from, which one wins, and what a mistake is answered with."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from cryptolake.config import Settings, load_settings, settings_reference
from cryptolake.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """A working directory without a settings file, an environment without settings."""
    for name in [n for n in os.environ if n.startswith("CRYPTOLAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    """Write the settings file of the working directory."""
    return (tmp_path / "cryptolake.toml").write_text


def refusal(**overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(**overrides)
    return str(caught.value)


def test_without_any_settings_the_defaults_hold(tmp_path):
    """A fresh machine needs no settings at all."""
    settings = load_settings()
    assert settings.home == tmp_path / "user" / ".cryptolake"
    assert settings.coins[:2] == ("bitcoin", "ethereum")
    assert len(settings.coins) == 9
    assert settings.sources.coingecko.base_url == "https://api.coingecko.com/api/v3"
    assert settings.sources.coingecko.api_key is None
    assert settings.sources.coingecko.requests_per_minute == 10
    assert settings.sources.alternative_me.requests_per_minute == 60
    assert settings.ingest.restatement_days == 3
    assert settings.catalog == {}
    assert settings.engine == "duckdb"


def test_what_is_said_later_wins(file, monkeypatch):
    """Defaults, the file, the environment, the command line: each overrules those before it, key by key."""
    file(
        'coins = ["a", "b"]\n[sources.coingecko]\nrequests_per_minute = 20\n[ingest]\nrestatement_days = 5\n'
    )
    monkeypatch.setenv("CRYPTOLAKE_COINS", "c")
    monkeypatch.setenv("CRYPTOLAKE_SOURCES__COINGECKO__REQUESTS_PER_MINUTE", "30")
    settings = load_settings(coins=["d"])
    assert settings.coins == ("d",)
    assert settings.sources.coingecko.requests_per_minute == 30
    assert settings.ingest.restatement_days == 5
    assert settings.sources.alternative_me.requests_per_minute == 60


def test_the_command_line_may_dot_or_nest():
    """Overrides by dotted key and as nested mappings mean the same, and None means not said."""
    dotted = load_settings(**{"ingest.restatement_days": 7, "coins": None})
    nested = load_settings(ingest={"restatement_days": 7})
    assert dotted == nested
    assert len(dotted.coins) == 9


def test_the_file_may_be_somewhere_else(tmp_path, file, monkeypatch):
    """CRYPTOLAKE_CONFIG names the file that is read instead, and is no unknown setting."""
    file('coins = ["here"]')
    (tmp_path / "other.toml").write_text('coins = ["there"]', encoding="utf-8-sig")
    monkeypatch.setenv("CRYPTOLAKE_CONFIG", "other.toml")
    assert load_settings().coins == ("there",)


def test_a_file_that_was_named_must_be_there(monkeypatch):
    """Settings that somebody asked for are never left out in silence."""
    monkeypatch.setenv("CRYPTOLAKE_CONFIG", "missing.toml")
    assert refusal() == (
        "the settings file missing.toml, named by CRYPTOLAKE_CONFIG, cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"coins = [", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        (b"coins = 1\ncoins = 2", "not valid TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path, content, reason):
    """A broken file is named together with its fault."""
    (tmp_path / "cryptolake.toml").write_bytes(content)
    assert re.fullmatch(
        f"the settings file cryptolake.toml cannot be read: it is {reason}.*", refusal(), re.DOTALL
    )


def test_a_folder_is_no_settings_file(tmp_path):
    """What cannot be read is an error, not an empty file."""
    (tmp_path / "cryptolake.toml").mkdir()
    assert "cannot be read: Is a directory" in refusal()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('coin = ["a"]', "unknown setting coin (from cryptolake.toml): did you mean coins?"),
        (
            '[sources.coingeco]\napi_key = "hush"',
            "unknown setting sources.coingeco (from cryptolake.toml): did you mean sources.coingecko?",
        ),
        (
            '[coingecko]\nbase_url = "x"',
            "unknown setting coingecko (from cryptolake.toml): did you mean sources.coingecko?",
        ),
        (
            "[ingest]\nrestatment_days = 3",
            "unknown setting ingest.restatment_days (from cryptolake.toml): did you mean ingest.restatement_days?",
        ),
    ],
)
def test_an_unknown_key_in_the_file_names_the_nearest_right_one(file, content, message):
    """A typing error is found at once, and told with what was probably meant, but not with its value."""
    file(content)
    assert refusal() == message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CRYPTOLAKE_HOEM", "CRYPTOLAKE_HOME"),
        ("CRYPTOLAKE_SOURCES__COINGECKO__APIKEY", "CRYPTOLAKE_SOURCES__COINGECKO__API_KEY"),
        ("CRYPTOLAKE_API_KEY", "CRYPTOLAKE_SOURCES__COINGECKO__API_KEY"),
        ("CRYPTOLAKE_SOURCES_COINGECKO_API_KEY", "CRYPTOLAKE_SOURCES__COINGECKO__API_KEY"),
        ("CRYPTOLAKE_HOME__X", "CRYPTOLAKE_HOME"),
        ("cryptolake_coin", "CRYPTOLAKE_COINS"),
    ],
)
def test_an_unknown_variable_names_the_nearest_right_one(monkeypatch, name, meant):
    """A misspelt variable is an error too, not a setting that quietly does nothing."""
    monkeypatch.setenv(name, "hush")
    assert refusal() == f"unknown setting {name.upper()} in the environment: did you mean {meant}?"


def test_an_unknown_key_like_none_other_lists_what_there_is(monkeypatch):
    """Where nothing is near, the known settings are named."""
    monkeypatch.setenv("CRYPTOLAKE_XYZZY", "1")
    assert "known are CRYPTOLAKE_HOME, CRYPTOLAKE_COINS" in refusal()


def test_an_unknown_key_on_the_command_line_is_refused():
    """The command line is held to the same rule."""
    assert refusal(coinz="a") == "unknown setting coinz (from the command line): did you mean coins?"


def test_an_unknown_key_inside_json_is_refused(monkeypatch):
    """A group given as JSON in one variable is looked into."""
    monkeypatch.setenv("CRYPTOLAKE_SOURCES", '{"coingecko": {"api_keys": "hush"}}')
    assert refusal() == (
        "unknown setting sources.coingecko.api_keys (from CRYPTOLAKE_SOURCES): did you mean sources.coingecko.api_key?"
    )


def test_a_group_may_be_json_in_one_variable(monkeypatch):
    """Variables of single settings go before the JSON of their group."""
    monkeypatch.setenv("CRYPTOLAKE_SOURCES", '{"coingecko": {"requests_per_minute": 30, "api_key": "k"}}')
    monkeypatch.setenv("CRYPTOLAKE_SOURCES__COINGECKO__REQUESTS_PER_MINUTE", "40")
    coingecko = load_settings().sources.coingecko
    assert coingecko.requests_per_minute == 40
    assert coingecko.api_key.get_secret_value() == "k"


@pytest.mark.parametrize("value", ["3", "{", "[]"])
def test_a_group_takes_no_value_of_its_own(monkeypatch, value):
    """A value where a table belongs is told as such."""
    monkeypatch.setenv("CRYPTOLAKE_SOURCES", value)
    assert (
        refusal() == "sources (from CRYPTOLAKE_SOURCES) is a group of settings and takes no value of its own"
    )


@pytest.mark.parametrize(
    ("text", "coins"),
    [
        ("bitcoin,ethereum", ("bitcoin", "ethereum")),
        (" bitcoin , Ethereum, ", ("bitcoin", "ethereum")),
        ('["bitcoin", "ondo-finance"]', ("bitcoin", "ondo-finance")),
        ("bitcoin,bitcoin,BITCOIN", ("bitcoin",)),
    ],
)
def test_lists_are_json_or_separated_by_commas(monkeypatch, text, coins):
    """Coins are cleaned: trimmed, in lower case, each once, in the order in which they were named."""
    monkeypatch.setenv("CRYPTOLAKE_COINS", text)
    assert load_settings().coins == coins


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"coins": ""}, "coins = '' (from the command line): must name at least one CoinGecko id"),
        ({"coins": " , "}, "must name at least one CoinGecko id"),
        ({"coins": []}, "must name at least one CoinGecko id"),
        ({"coins": [1]}, "must be a list of CoinGecko ids"),
        ({"coins": 5}, "coins = 5 (from the command line): must be a list of CoinGecko ids"),
        ({"coins": '["a"'}, "is not valid JSON"),
        ({"coins": '{"a": 1}'}, "is not a CoinGecko id"),
        ({"coins": "bitcoin ethereum"}, "'bitcoin ethereum' is not a CoinGecko id"),
        ({"coins": "../etc"}, "'../etc' is not a CoinGecko id"),
        ({"home": ""}, "home = '' (from the command line): must be a folder, not empty"),
        ({"home": 3}, "home = 3 (from the command line)"),
        ({"home": "~nobody-of-this-name/x"}, "names a user without a home"),
        ({"ingest.restatement_days": -1}, "must be greater than or equal to 0"),
        (
            {"ingest.restatement_days": "three"},
            "ingest.restatement_days = 'three' (from the command line): must be a valid",
        ),
        ({"ingest.restatement_days": 1.5}, "must be a valid integer"),
        ({"sources.coingecko.requests_per_minute": 0}, "must be greater than 0"),
        ({"sources.coingecko.requests_per_minute": "nan"}, "sources.coingecko.requests_per_minute = 'nan'"),
        ({"sources.coingecko.base_url": "api.coingecko.com"}, "must be a URL that starts with http"),
        ({"sources.alternative_me.base_url": "https://x/?a=1"}, "has no query"),
        ({"engine": "spark"}, "engine = 'spark' (from the command line): this release runs on one engine"),
        ({"catalog.uri": None, "catalog": {"uri": ["x"]}}, "catalog.uri = (hidden) (from the command line)"),
        ({"catalog": "sqlite"}, "catalog (from the command line) is a group of settings"),
    ],
)
def test_a_value_that_is_not_allowed_says_key_value_origin_and_rule(overrides, message):
    """One message has all that is needed to put it right."""
    assert message in refusal(**overrides)


def test_every_mistake_is_told_at_once(file, monkeypatch):
    """Nobody has to start the program five times to find five mistakes."""
    file("coin = 1\n[ingest]\nrestatement_days = -1\n")
    monkeypatch.setenv("CRYPTOLAKE_ENGINE", "flink")
    lines = refusal().splitlines()
    assert len(lines) == 3
    assert any("engine = 'flink' (from CRYPTOLAKE_ENGINE)" in line for line in lines)


def test_secrets_are_never_printed(monkeypatch):
    """Neither a tree of settings nor a complaint about one shows a key or a catalog's password."""
    monkeypatch.setenv("CRYPTOLAKE_SOURCES__COINGECKO__API_KEY", "CG-hush")
    monkeypatch.setenv("CRYPTOLAKE_CATALOG__S3__SECRET_ACCESS_KEY", "hush")
    settings = load_settings()
    assert settings.sources.coingecko.api_key.get_secret_value() == "CG-hush"
    assert "hush" not in f"{settings} {settings!r}"
    monkeypatch.setenv("CRYPTOLAKE_SOURCES__COINGECKO__API_KEY", "CG hush")
    message = refusal()
    assert message == (
        "sources.coingecko.api_key = (hidden) (from CRYPTOLAKE_SOURCES__COINGECKO__API_KEY): "
        "must be printable ASCII without spaces"
    )


def test_an_empty_key_is_no_key(monkeypatch):
    """A variable that a template leaves empty does not send an empty key."""
    monkeypatch.setenv("CRYPTOLAKE_SOURCES__COINGECKO__API_KEY", " ")
    assert load_settings().sources.coingecko.api_key is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [("lake", "work/lake"), ("~/lake", "user/lake"), ("/lake", "/lake"), (Path("~"), "user")],
)
def test_home_is_absolute(tmp_path, monkeypatch, said, meant):
    """Home means the same folder wherever the process goes later."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert load_settings(home=said).home == tmp_path / meant


def test_catalog_properties_are_passed_through(file, monkeypatch):
    """Tables may be dotted or nested; in variables `_` is a hyphen; values stay exactly as written."""
    file(
        '[catalog]\nuri = "postgresql://db"\n"s3.endpoint" = "http://a"\npool = true\n[catalog.s3]\nregion = "eu"\n'
    )
    monkeypatch.setenv("CRYPTOLAKE_CATALOG__S3__ENDPOINT", "http://b")
    monkeypatch.setenv("CRYPTOLAKE_CATALOG__S3__ACCESS_KEY_ID", "0123")
    assert load_settings(**{"catalog.s3.region": "us"}).catalog == {
        "uri": "postgresql://db",
        "s3.endpoint": "http://b",
        "s3.region": "us",
        "s3.access-key-id": "0123",
        "pool": "true",
    }


def test_catalog_properties_may_be_json_in_one_variable(monkeypatch):
    """Property names are kept as they are in JSON."""
    monkeypatch.setenv("CRYPTOLAKE_CATALOG", '{"type": "sql", "init_catalog_tables": "false"}')
    monkeypatch.setenv("CRYPTOLAKE_CATALOG__PY_IO_IMPL", "x.Y")
    assert load_settings().catalog == {"type": "sql", "init_catalog_tables": "false", "py-io-impl": "x.Y"}


def test_a_base_url_ends_without_a_slash():
    """Paths are appended, so a slash at the end would be doubled."""
    settings = load_settings(**{"sources.coingecko.base_url": "http://127.0.0.1:8080/api/v3/"})
    assert settings.sources.coingecko.base_url == "http://127.0.0.1:8080/api/v3"


def test_settings_are_frozen():
    """Settings are read once and passed down; nobody below changes them."""
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.engine = "x"
    with pytest.raises(ValidationError):
        settings.sources.coingecko.base_url = "x"


def test_building_settings_reads_nothing(file, monkeypatch):
    """Only `load_settings` looks at files and the environment."""
    file("coins = ['from-file']")
    monkeypatch.setenv("CRYPTOLAKE_ENGINE", "flink")
    assert Settings(coins="solana").coins == ("solana",)


def test_a_venue_has_one_websocket_url_or_several(monkeypatch):
    """A list gives the twin connections different hosts; ws:// is for a server of one's own."""
    monkeypatch.setenv("CRYPTOLAKE_SOURCES__BINANCE__WEBSOCKET_URL", "ws://127.0.0.1:1/, ws://127.0.0.1:2")
    monkeypatch.setenv("CRYPTOLAKE_SOURCES__OKX__WEBSOCKET_URL", "ws://127.0.0.1:3/ws")
    sources = load_settings().sources
    assert sources.binance.websocket_url == ("ws://127.0.0.1:1", "ws://127.0.0.1:2")
    assert sources.okx.websocket_url == ("ws://127.0.0.1:3/ws",)


@pytest.mark.parametrize(
    "written", ['{"binance:LUNAUSDT": "LUNAUSDT#2"}', "binance:LUNAUSDT=LUNAUSDT#2"], ids=["json", "pairs"]
)
def test_aliases_are_json_or_pairs(written, monkeypatch):
    """A relisted instrument gets another symbol, in whichever way the variable is written."""
    monkeypatch.setenv("CRYPTOLAKE_CAPTURE__ALIASES", written)
    assert load_settings().capture.aliases == {"binance:LUNAUSDT": "LUNAUSDT#2"}


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("capture.instruments", "BTCUSDT", "instruments look like binance:BTCUSDT"),
        ("capture.instruments", "", "at least one instrument"),
        ("capture.aliases", "LUNA", "another symbol"),
        ("capture.commit_seconds", 0, "greater than 0"),
        ("sources.kraken.websocket_url", "https://ws.kraken.com", "wss:// or ws://"),
        ("sources.kraken.websocket_url", "ws://host:99999", "ws://host:99999 .*range"),
        ("sources.kraken.websocket_url", "ws://host:abc", "ws://host:abc .*'abc'"),
        ("sources.kraken.websocket_url", "ws://host:0", "no port to connect to, in ws://host:0"),
        ("sources.kraken.websocket_url", "ws://one,ws://a..b", r"ws://a\.\.b .*label empty"),
        ("sources.kraken.websocket_url", "ws://[::1", r"ws://\[::1 .*IPv6"),
        ("sources.kraken.websocket_url", "ws://:80", "no host or no port to connect to, in ws://:80"),
    ],
)
def test_a_capture_setting_that_cannot_work_says_what_is_right(key, value, rule):
    """A typing error in what to capture stops before anything is captured."""
    with pytest.raises(ConfigError, match=rule):
        load_settings(**{key: value})


def test_every_setting_is_explained():
    """The reference page has a row for every setting, with its variable, default and meaning."""
    rows = [r for r in settings_reference().splitlines() if r.startswith("| `")]
    assert len(rows) == 26
    assert all(len(r.split("|")) == 6 and r.split("|")[4].strip().endswith(".") for r in rows)


def test_the_example_of_variables_names_every_setting_and_no_other():
    """`.env.example` can be copied, uncommented and used."""
    named = re.findall(r"^# (CRYPTOLAKE_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    known = re.findall(r"^\| `[^`]+` \| `(\w+)`", settings_reference(), re.MULTILINE)
    assert sorted(named) == sorted(["CRYPTOLAKE_CONFIG", *known])
