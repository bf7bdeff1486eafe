"""From a file to a config: bytes, text, tables, values."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs

from duckservice.config import Complaint, Config, ConfigError
from duckservice.config_toml import rules
from duckservice.config_toml.complaints import complaints
from duckservice.config_toml.secrets import Sources
from duckservice.config_toml.structure import structure

_BYTES_MAX: Final = 1024 * 1024


def load_file(
    path: Path, environ: Mapping[str, str], *, elsewhere: list[str] | None = None
) -> Config:
    """Return the config in the file at *path*.

    With *elsewhere*, a secret that is not in this environment has a stand-in and is
    noted there, instead of being refused: who looks at a daemon's config needs none.
    """
    file = str(path)
    try:
        content, private = _read(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _refuse(file, f"no readable file ({reason})", "a TOML file") from error
    if len(content) > _BYTES_MAX:
        raise _refuse(file, "a larger file", f"at most {_BYTES_MAX} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = f"an invalid byte at offset {error.start}"
        raise _refuse(file, at, "UTF-8 text") from None
    sources = Sources(environ=environ, literal=private, elsewhere=elsewhere)
    return _parse(text, file, sources)


def parse_text(
    text: str, *, file: str, environ: Mapping[str, str], private: bool
) -> Config:
    """Return the config that *text* says."""
    return _parse(text, file, Sources(environ=environ, literal=private))


def _parse(text: str, file: str, sources: Sources) -> Config:
    tables = _tables(text, file)
    try:
        config = structure(tables, sources)
    except ExceptionGroup as error:
        # Not chained: the values in the error's frames may be secrets.
        raise ConfigError(complaints(error, file)) from None
    warnings = tuple(rules.warnings(config, tables))
    providers = config.providers or Config.default().providers
    return attrs.evolve(config, providers=providers, warnings=warnings)


def _read(path: Path) -> tuple[bytes, bool]:
    """Return what is in a file, and whether only its owner can read it."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        content = file.read(_BYTES_MAX + 1)
    owned = status.st_uid in (os.geteuid(), 0)
    return content, owned and not stat.S_IMODE(status.st_mode) & 0o077


def _tables(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise _refuse(file, f"text that is not TOML: {error}", "TOML 1.0") from None
    except RecursionError:
        raise _refuse(file, "arrays or tables nested too deeply", "TOML 1.0") from None
    except ValueError:
        # Python refuses to read integers of more than 4,300 digits.
        raise _refuse(file, "an integer with too many digits", "TOML 1.0") from None


def _refuse(file: str, found: str, allowed: str) -> ConfigError:
    return ConfigError([Complaint(file=file, key="", found=found, allowed=allowed)])
