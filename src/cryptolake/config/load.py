"""Read the settings that are in force, and explain what is wrong with them."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from cryptolake.config.tree import PREFIX, Settings
from cryptolake.errors import ConfigError

FILE_VARIABLE = "CRYPTOLAKE_CONFIG"
DEFAULT_FILE = "cryptolake.toml"
COMMAND_LINE = "the command line"
SECRET_KEYS = ("sources.coingecko.api_key", "catalog")


def load_settings(**overrides: object) -> Settings:
    """
    Return the settings in force here and now.

    Args:
        overrides: what the command line says, by dotted key or as nested mappings; None means not said.

    Raises:
        ConfigError: a key is unknown or a value is not allowed; the message has all of them, with
            where each was set and what is right.
    """
    said = {key: value for key, value in overrides.items() if value is not None}
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    problems = list(_unknown_variables())
    for origin, layer in (*_file_layer(), (None, _Environment(Settings)()), (COMMAND_LINE, said)):
        for key, value in _flat(layer):
            where = origin or _variable_in_force(key)
            if key in _groups():
                problems.append(f"{key} (from {where}) is a group of settings and takes no value of its own")
            elif _is_known(key):
                values[key], origins[key] = value, where
            elif where != _variable(key):  # else it is among the unknown variables already
                problems.append(f"unknown setting {key} (from {where}): {_suggestion(key)}")
    settings: Settings | None = None
    try:
        settings = Settings(**_nested(values))
    except ValidationError as e:
        problems += [_explained(error, values, origins) for error in e.errors(include_url=False)]
    if settings is None or problems:
        raise ConfigError("\n".join(problems))
    return settings


def settings_reference() -> str:
    """Return the reference page of all settings, in Markdown."""
    rows = [
        f"| `{key}` | `{_variable(key)}` | {_default(field)} | {field.description} |"
        for key, field in _fields(Settings)
    ]
    return "\n".join((REFERENCE_HEAD, *rows)) + "\n"


REFERENCE_HEAD = f"""# Settings

What is said later wins: defaults, then `{DEFAULT_FILE}` in the working directory (or the file that
`{FILE_VARIABLE}` names), then environment variables, then the command line. An unknown key is an error.

Lists are JSON or separated by commas. In the file, dots are tables: `[sources.coingecko]`. In
variables, `__` stands for a dot; in catalog properties `_` stands for a hyphen, so
`{PREFIX}CATALOG__S3__ACCESS_KEY_ID` sets `catalog.s3.access-key-id`.

| setting | variable | default | meaning |
|---|---|---|---|"""


class _Environment(EnvSettingsSource):
    """The variables as they are written: only JSON objects are decoded, so a value `0123` stays one."""

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:  # noqa: ARG002
        try:
            return json.loads(value) if value.lstrip().startswith("{") else value
        except ValueError:
            return value

    def explode_env_vars(
        self, field_name: str, field: FieldInfo, env_vars: Mapping[str, str | None]
    ) -> dict[str, Any]:
        exploded = super().explode_env_vars(field_name, field, env_vars)
        if field_name != "catalog":
            return exploded
        return {key.replace("_", "-"): value for key, value in _leaves(exploded)}


def _file_layer() -> Iterator[tuple[str, dict[str, Any]]]:
    named = os.environ.get(FILE_VARIABLE)
    path = Path(named or DEFAULT_FILE)
    if not named and not path.exists():
        return
    try:
        yield str(path), tomllib.loads(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, RuntimeError, ValueError) as e:
        reason = (
            f"it is not valid TOML: {e}" if isinstance(e, ValueError) else getattr(e, "strerror", None) or e
        )
        source = f", named by {FILE_VARIABLE}," if named else ""
        raise ConfigError(f"the settings file {path}{source} cannot be read: {reason}") from e


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


@cache
def _keys() -> tuple[str, ...]:
    return tuple(key for key, _ in _fields(Settings))


@cache
def _groups() -> frozenset[str]:
    above = (key.rsplit(".", depth)[0] for key in _keys() for depth in range(1, key.count(".") + 1))
    return frozenset((*above, "catalog"))


def _is_known(key: str) -> bool:
    return key in _keys() or key in _groups() or key.startswith("catalog.")


def _flat(layer: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings in *layer* by dotted key; its own keys may be dotted already."""
    for name, value in layer.items():
        key = prefix + name
        if key == "catalog" and isinstance(value, Mapping):
            yield from _leaves(value, "catalog.")
        elif key in _groups() and isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _leaves(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in properties.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _nested(values: Mapping[str, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".", 1) if key.startswith("catalog.") else key.split(".")
        level = tree
        for name in path:
            level = level.setdefault(name, {})
        level[last] = value
    return tree


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__").replace("-", "_")


def _present() -> set[str]:
    return {name.upper() for name in os.environ if name.upper().startswith(PREFIX)} - {FILE_VARIABLE}


def _variable_in_force(key: str) -> str:
    """Return the variable that sets *key*: its own, or that of a group above it, given as JSON."""
    above = (key.rsplit(".", depth)[0] for depth in range(key.count(".") + 1))
    return next((v for k in above if (v := _variable(k)) in _present()), _variable(key))


def _unknown_variables() -> Iterator[str]:
    for name in sorted(_present()):
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        if not _is_known(key):
            yield f"unknown setting {name} in the environment: {_suggestion(key, _variable)}"


def _suggestion(key: str, spell: Callable[[str], str] = str) -> str:
    known = (*_keys(), *sorted(_groups()))
    ends = {k.rsplit(".", 1)[-1]: k for k in reversed(known)}
    if near := get_close_matches(key, known, n=1, cutoff=0.6):
        return f"did you mean {spell(near[0])}?"
    if near := get_close_matches(key.rsplit(".", 1)[-1], ends, n=1, cutoff=0.6):
        return f"did you mean {spell(ends[near[0]])}?"
    return "known are " + ", ".join(spell(k) for k in _keys())


def _explained(error: Any, values: Mapping[str, object], origins: Mapping[str, str]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    key = max((k for k in values if path == k or path.startswith(f"{k}.")), key=len, default=path)
    is_secret = any(key == s or key.startswith(f"{s}.") for s in SECRET_KEYS)
    shown = "(hidden)" if is_secret else repr(values.get(key))
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    return f"{key} = {shown} (from {origins.get(key, 'the defaults')}): {message}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if not value:
        return "none"
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"
