"""The tree of settings: every key, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cryptolake.config.values import (
    alias_names,
    catalog_property,
    coin_ids,
    engine_name,
    folder,
    http_url,
    instrument_names,
    printable_key,
    websocket_urls,
)

PREFIX = "CRYPTOLAKE_"
TRACKED_COINS = (
    "bitcoin",
    "ethereum",
    "solana",
    "hyperliquid",
    "chainlink",
    "uniswap",
    "aave",
    "bittensor",
    "ondo-finance",
)


class _Group(BaseModel):
    """A level of the tree: nothing changes, nothing unknown gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CoinGeckoSettings(_Group):
    """How CoinGecko is asked."""

    base_url: Annotated[str, BeforeValidator(http_url)] = Field(
        "https://api.coingecko.com/api/v3", description="CoinGecko's API; `/coins/…` is appended."
    )
    api_key: Annotated[SecretStr | None, BeforeValidator(printable_key)] = Field(
        None, description="CoinGecko's API key. None: the public API, without a key."
    )
    requests_per_minute: int = Field(
        10, gt=0, le=60_000, description="The most requests a minute that CoinGecko is sent."
    )


class AlternativeMeSettings(_Group):
    """How Alternative.me is asked."""

    base_url: Annotated[str, BeforeValidator(http_url)] = Field(
        "https://api.alternative.me", description="Alternative.me's API; `/fng/` is appended."
    )
    requests_per_minute: int = Field(
        60, gt=0, le=60_000, description="The most requests a minute that Alternative.me is sent."
    )


class BinanceSettings(_Group):
    """Where Binance is reached."""

    websocket_url: Annotated[tuple[str, ...], BeforeValidator(websocket_urls)] = Field(
        ("wss://stream.binance.com:9443", "wss://data-stream.binance.vision"),
        description="Binance's streams, without a path. Of several, each twin connection uses another.",
    )
    rest_url: Annotated[str, BeforeValidator(http_url)] = Field(
        "https://api.binance.com", description="Binance's API; `/api/v3/…` is appended."
    )
    archive_url: Annotated[str, BeforeValidator(http_url)] = Field(
        "https://data.binance.vision", description="Binance's archive; `/data/spot/…` is appended."
    )


class CoinbaseSettings(_Group):
    """Where Coinbase Exchange is reached."""

    websocket_url: Annotated[tuple[str, ...], BeforeValidator(websocket_urls)] = Field(
        ("wss://ws-feed.exchange.coinbase.com",), description="Coinbase's feed, the full URL; or a list."
    )
    rest_url: Annotated[str, BeforeValidator(http_url)] = Field(
        "https://api.exchange.coinbase.com", description="Coinbase's API; `/products/…` is appended."
    )


class KrakenSettings(_Group):
    """Where Kraken is reached."""

    websocket_url: Annotated[tuple[str, ...], BeforeValidator(websocket_urls)] = Field(
        ("wss://ws.kraken.com/v2",), description="Kraken's feed (v2), the full URL; or a list."
    )
    rest_url: Annotated[str, BeforeValidator(http_url)] = Field(
        "https://api.kraken.com", description="Kraken's API; `/0/public/…` is appended."
    )


class OkxSettings(_Group):
    """Where OKX is reached."""

    websocket_url: Annotated[tuple[str, ...], BeforeValidator(websocket_urls)] = Field(
        ("wss://ws.okx.com:8443/ws/v5/business",), description="OKX's business feed, the full URL; or a list."
    )
    rest_url: Annotated[str, BeforeValidator(http_url)] = Field(
        "https://www.okx.com", description="OKX's API; `/api/v5/…` is appended."
    )


class SourcesSettings(_Group):
    """Where prices, sentiment and trades come from."""

    coingecko: CoinGeckoSettings = CoinGeckoSettings()
    alternative_me: AlternativeMeSettings = AlternativeMeSettings()
    binance: BinanceSettings = BinanceSettings()
    coinbase: CoinbaseSettings = CoinbaseSettings()
    kraken: KrakenSettings = KrakenSettings()
    okx: OkxSettings = OkxSettings()


class CaptureSettings(_Group):
    """Which trades are captured, and how."""

    instruments: Annotated[tuple[str, ...], BeforeValidator(instrument_names)] = Field(
        ("binance:BTCUSDT", "binance:ETHUSDT", "coinbase:BTC-USD", "coinbase:ETH-USD"),
        description="The instruments to capture, `venue:SYMBOL` in the venue's own spelling.",
    )
    commit_seconds: float = Field(4, gt=0, le=3600, description="How often trades are committed to the lake.")
    refresh_seconds: float = Field(
        15, ge=0, le=86_400, description="How often bars are refreshed while streaming. 0: never."
    )
    audit_seconds: float = Field(
        30, gt=0, le=3600, description="How often venues are asked for their newest trades."
    )
    stall_seconds: float = Field(10, gt=0, le=3600, description="When a silent connection is replaced.")
    spool_max_bytes: int = Field(
        10 * 2**30,
        ge=2**20,
        description="While the spool is larger, nothing is read from the venues; what is missed becomes a gap.",
    )
    aliases: Annotated[dict[str, str], BeforeValidator(alias_names)] = Field(
        default_factory=dict[str, str],
        description="Symbols of their own for relisted instruments, as in `binance:LUNAUSDT=LUNAUSDT#2`.",
    )


class IngestSettings(_Group):
    """What history is asked for."""

    restatement_days: int = Field(
        3, ge=0, le=3650, description="How many of the newest stored days are asked for again on every run."
    )


class Settings(BaseSettings):
    """
    Everything that a user may set. The constructor reads nothing; `load_settings` does.

    >>> Settings(coins="bitcoin, ethereum,bitcoin").coins
    ('bitcoin', 'ethereum')
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    home: Annotated[Path, BeforeValidator(folder)] = Field(
        Path("~/.cryptolake"),
        description="The folder of everything that CryptoLake keeps: catalog, tables, logs.",
    )
    coins: Annotated[tuple[str, ...], BeforeValidator(coin_ids)] = Field(
        TRACKED_COINS, description="The CoinGecko ids of the coins to track."
    )
    sources: SourcesSettings = SourcesSettings()
    ingest: IngestSettings = IngestSettings()
    capture: CaptureSettings = CaptureSettings()
    catalog: dict[str, Annotated[str, BeforeValidator(catalog_property)]] = Field(
        default_factory=dict[str, str],
        repr=False,
        description="PyIceberg catalog properties, as in `catalog.uri`. None: SQLite and a warehouse under `home`.",
    )
    engine: Annotated[str, BeforeValidator(engine_name)] = Field(
        "duckdb", description="What runs the models and the checks; `duckdb` is the only one."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the constructor alone, so that building a tree reads nothing."""
        return (init_settings,)
