"""What the values of settings may be: each function returns the value that counts, or raises `ValueError`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit


def folder(value: object) -> object:
    """Return the absolute folder that a setting names."""
    if isinstance(value, str):
        value = value.strip()
    if value in ("", None):
        raise ValueError("must be a folder, not empty")
    try:
        return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value
    except RuntimeError as e:
        raise ValueError(f"names a user without a home: {e}") from e


def coin_ids(value: object) -> object:
    """Return CoinGecko ids, each once, in lower case."""
    if isinstance(value, str):
        value = listed(value)
    if not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise ValueError("must be a list of CoinGecko ids, as JSON or separated by commas")
    ids = tuple(dict.fromkeys(v.strip().lower() for v in value if v.strip()))
    if not ids:
        raise ValueError("must name at least one CoinGecko id, as in bitcoin,ethereum")
    if wrong := [i for i in ids if re.search(r"[^\w.\-]", i)]:
        raise ValueError(f"{wrong[0]!r} is not a CoinGecko id; ids look like bitcoin or ondo-finance")
    return ids


def listed(text: str, example: str = "bitcoin,ethereum") -> object:
    """Return the items of a list that was written as text."""
    if not text.lstrip().startswith("["):
        return text.split(",")
    try:
        return json.loads(text)
    except ValueError as e:
        raise ValueError(f"is not valid JSON ({e}); write JSON or {example}") from e


def http_url(value: object) -> object:
    """Return an http(s) URL without a slash at its end."""
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value.strip()):
        raise ValueError("must be a URL that starts with http:// or https:// and has no query")
    return value.strip().rstrip("/")


def printable_key(value: object) -> object:
    """Return a key, None where it is empty."""
    if isinstance(value, str):
        value = value.strip()
        if not re.fullmatch(r"[!-~]*", value):
            raise ValueError("must be printable ASCII without spaces")
    return value or None


def engine_name(value: object) -> object:
    """Return the engine, if there is such."""
    if value != "duckdb":
        raise ValueError("this release runs on one engine; the only allowed value is 'duckdb'")
    return value


def catalog_property(value: object) -> object:
    """Return a catalog property as the text that PyIceberg wants."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def websocket_urls(value: object) -> object:
    """Return one or several ws(s) URLs, without slashes at their ends."""
    urls = listed(value, "wss://one,wss://two") if isinstance(value, str) else value
    if not isinstance(urls, Sequence) or not all(isinstance(u, str) for u in urls):
        raise ValueError("must be a URL or a list of URLs")
    found = tuple(u.strip().rstrip("/") for u in urls if u.strip())
    if not found or not all(re.fullmatch(r"wss?://[^\s/?#]+(/[^\s?#]*)?", u) for u in found):
        raise ValueError("must be URLs that start with wss:// or ws:// and have no query")
    for url in found:
        _see_that_it_can_be_dialled(url)
    return found


def _see_that_it_can_be_dialled(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as e:
        raise ValueError(f"has a host or a port that cannot be, in {url} ({e}); write wss://host:port") from e
    if not host or port == 0:
        raise ValueError(f"has no host or no port to connect to, in {url}; write wss://host:port")


def instrument_names(value: object) -> object:
    """Return instruments as `venue:SYMBOL`, each once; venues are known to the sources alone."""
    names = listed(value, "binance:BTCUSDT,coinbase:BTC-USD") if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise ValueError("must be a list of instruments, as JSON or separated by commas")
    found = tuple(dict.fromkeys(n.strip() for n in names if n.strip()))
    if not found:
        raise ValueError("must name at least one instrument, as in binance:BTCUSDT")
    if wrong := [n for n in found if not re.fullmatch(r"[a-z0-9_]+:[^\s:]+", n)]:
        raise ValueError(f"{wrong[0]!r} is not an instrument; instruments look like binance:BTCUSDT")
    return found


def alias_names(value: object) -> object:
    """Return aliases by instrument; text is a JSON object, or `venue:SYMBOL=ALIAS` separated by commas."""
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        value = {name.strip(): alias.strip() for name, _, alias in pairs}
    if not isinstance(value, Mapping) or not all(
        isinstance(a, str) and re.fullmatch(r"[a-z0-9_]+:[^\s:]+", str(n)) and re.fullmatch(r"[^\s:]+", a)
        for n, a in value.items()
    ):
        raise ValueError("must give an instrument another symbol, as in binance:LUNAUSDT=LUNAUSDT#2")
    return dict(value)
