"""The effective config as plain data in the file's shape, without a secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from duckservice.config import (
    AccessConfig,
    AuthConfig,
    CaFile,
    Config,
    PriceConfig,
    ProviderConfig,
    Proxy,
    Secret,
    TelemetryConfig,
)
from duckservice.redaction import MARK, redact


def redacted(config: Config) -> dict[str, Any]:
    """Return *config* as it would stand in a file; durations in seconds.

    Headers keep their names only, since any of them may carry a key.
    """
    return _table(config)


def _table(value: Any) -> dict[str, Any]:
    table = {
        field.name: _plain(getattr(value, field.name))
        for field in attrs.fields(value.__class__)
        if "not_a_key" not in field.metadata and getattr(value, field.name) is not None
    }
    match value:
        case AccessConfig():
            table["mode"] = f"{value.mode:04o}"
        case ProviderConfig():
            del table["name"]
            table = {key: shown for key, shown in table.items() if shown != ""}
            table["headers"] = dict.fromkeys(value.headers, MARK)
            if not value.models:  # the adapter's default, for which there is no word
                del table["models"]
        case AuthConfig() | TelemetryConfig():
            table = {key: shown for key, shown in table.items() if shown != ""}
        case PriceConfig():
            # Numbers, as in the file; only the values themselves are exact.
            table = {"input": float(value.input), "output": float(value.output)}
        case _:
            pass
    return table


def _plain(value: Any) -> Any:
    match value:
        case Secret():
            return MARK
        case Path():
            return str(value)
        case CaFile():
            return str(value.path)
        case Proxy():
            login = "" if value.login is None else f"{MARK}@"
            return f"http://{login}{str(value).removeprefix('http://')}"
        case Mapping():
            items = cast("Mapping[str, Any]", value).items()
            return {key: _plain(item) for key, item in items}
        case tuple():
            return [_plain(item) for item in cast("Iterable[Any]", value)]
        case str():
            return redact(value)
        case bool() | int() | float():
            return value
        case _:
            return _table(value)
