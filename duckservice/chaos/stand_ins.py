"""The user's config with a stand-in for every secret: none is looked up, none is kept.

A variable that is not set, a key file that is not there, a credential of another
machine: nothing of that stops the bench, because no secret's source is ever read.
"""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import attrs

from duckservice.config import Complaint, Config, ConfigError
from duckservice.config_toml.complaints import complaints
from duckservice.config_toml.secrets import Sources
from duckservice.config_toml.structure import structure

Json: TypeAlias = dict[str, Any]

_SECRETS: Final = frozenset(
    {
        "api_key", "client_secret", "refresh_token", "access_key_id",
        "secret_access_key", "session_token",
    }
)  # fmt: skip


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Return the config in the file at *path*, or the default without a path.

    *environ* only says which keys with an empty default are there at all.

    Raises:
        ConfigError: with everything that is wrong in the file.
    """
    if path is None:
        return Config.default()
    tables = _tables(path)
    providers = tables.get("providers")
    if isinstance(providers, dict):
        maker = _Maker(environ)
        tables["providers"] = {
            name: maker.replaced(table)
            for name, table in cast("Json", providers).items()
        }
    try:
        config = structure(tables, Sources(environ={}, literal=True))
    except ExceptionGroup as error:
        raise ConfigError(complaints(error, str(path))) from None
    if config.providers:
        return config
    return attrs.evolve(config, providers=Config.default().providers)


def _tables(path: Path) -> Json:
    try:
        text = path.read_text("utf-8-sig")
        return tomllib.loads(text, parse_float=Decimal)
    except OSError as error:
        found = f"no readable file ({error.strerror or type(error).__name__})"
    except (ValueError, RecursionError):
        # Not quoted: what cannot be parsed may be a key.
        found = "text that is not TOML; `duck config check` says more"
    raise ConfigError(
        [Complaint(file=str(path), key="", found=found, allowed="a TOML file")]
    )


def stand_in() -> str:
    """Return what looks like a key and is none; each is another."""
    return f"sk-{secrets.token_hex(20)}"


def _is_elsewhere(key: str, value: Any) -> bool:
    """Say whether *value* is of the way out, and of a file or a secret: the bench is here."""
    is_plain = isinstance(value, str) and value.startswith("http:") and "@" not in value
    return key == "ca_file" or (key == "proxy" and not is_plain)


@attrs.frozen
class _Maker:
    """Puts stand-ins into tables."""

    environ: Mapping[str, str]

    def replaced(self, table: Any) -> Any:
        """Return a provider's table, or one in it, without its secrets."""
        if not isinstance(table, dict):
            return table
        return {
            key: self._value(key, value)
            for key, value in cast("Json", table).items()
            if not self._is_absent(value) and not _is_elsewhere(key, value)
        }

    def _value(self, key: str, value: Any) -> Any:
        if key in _SECRETS:
            return stand_in()
        if key == "api_keys" and isinstance(value, list):
            keys = cast("Sequence[Any]", value)
            return [stand_in() for each in keys if not self._is_absent(each)]
        if key == "headers" and isinstance(value, dict):
            # Any header may hold a secret, whatever its name is.
            return dict.fromkeys(cast("Json", value), "stand-in")
        return self.replaced(value) if key == "auth" else value

    def _is_absent(self, value: Any) -> bool:
        """Say whether *value* means no key: a variable not set, its default empty."""
        if not isinstance(value, str) or not value.startswith("env:"):
            return False
        name, colon, default = value.removeprefix("env:").partition(":")
        return bool(colon) and not default and not self.environ.get(name)
