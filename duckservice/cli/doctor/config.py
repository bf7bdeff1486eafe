"""What `duck doctor` looks at of the config: its file, and where each key comes from."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from duckservice.cli.doctor.finding import Finding
from duckservice.cli.text import plural

if TYPE_CHECKING:
    from duckservice.cli.session import Session
    from duckservice.config import CaFile, Complaint, Config

_SECRETS: Final = (
    "api_key",
    "api_keys",
    "client_secret",
    "refresh_token",
    "access_key_id",
    "secret_access_key",
    "session_token",
)
_OF_THE_PLACE: Final = ("env:", "credential:")
_TOLD_MAX: Final = 5
"""Complaints that are told at once."""


def findings(session: Session) -> tuple[list[Finding], Config | None]:
    """Judge the config that a duckd started from here would read; and return it.

    Where all that is wrong are keys that are not to be had here, the config that is
    returned has stand-ins for them. None is returned if nobody can tell what it says.
    """
    from duckservice.config import Config

    place = session.config_path()
    if place is None or not (place.explicit or place.path.exists()):
        detail = "there is no file: the built-in defaults hold, with the mock provider"
        return [Finding("config", "ok", detail)], Config.default()
    if place.path.exists() and not place.path.is_file():
        # A pipe would be waited for, and is empty the second time.
        detail = f"{place.path} is no regular file: a reload could not read it again"
        advice = "write the config to a file"
        return [Finding("config", "failed", detail, advice)], None
    found, config = _of_file(place.path, session.environ)
    found += of_keys(place.path, session.environ)
    if config is not None:
        found += of_ca_files(config, time.time())
    return found, config


def _of_file(
    path: Path, environ: Mapping[str, str]
) -> tuple[list[Finding], Config | None]:
    from duckservice.config import ConfigError, load

    found = [_of_mode(path)] if path.exists() else []
    try:
        config = load(path, environ)
    except ConfigError as error:
        wrong = [its for its in error.complaints if not _is_of_a_key(its)]
        if wrong:
            advice = "`duck config check` says what is allowed"
            return [
                Finding("config", "failed", _told(path, wrong), advice),
                *found,
            ], None
        detail = f"{path} is well but for its keys, which are below"
        return [Finding("config", "ok", detail), *found], _without_keys(path, environ)
    if config.warnings:
        detail = "; ".join(config.warnings)
        return [Finding("config", "warning", f"{path}: {detail}"), *found], config
    return [Finding("config", "ok", str(path)), *found], config


def _told(path: Path, wrong: Sequence[Complaint]) -> str:
    """Return all that is *wrong*, or as much as is read at a glance."""
    told = [f"{its.key}: {its.found}" if its.key else its.found for its in wrong]
    more = len(told) - _TOLD_MAX
    others = f"; and {more} more" if more > 0 else ""
    return f"{path}: {'; '.join(told[:_TOLD_MAX])}{others}"


def _is_of_a_key(complaint: Complaint) -> bool:
    """Say whether *complaint* is of a secret that is not to be had, or not here."""
    name = complaint.key.rpartition(".")[2].partition("[")[0]
    if name == "proxy":  # a URL that is there, and wrong, is no matter of the place
        return complaint.found.startswith(_OF_THE_PLACE)
    return name in _SECRETS


def _without_keys(path: Path, environ: Mapping[str, str]) -> Config | None:
    from duckservice.chaos import stand_ins
    from duckservice.config import ConfigError

    try:
        return stand_ins.load(path, environ)
    except ConfigError:
        return None


def _of_mode(path: Path) -> Finding:
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022 and stat.S_ISREG(status.st_mode):
        detail = f"mode {mode:04o}: others can change where your keys are sent"
        return Finding("config mode", "failed", detail, f"chmod go-w {path}")
    if status.st_uid not in (os.geteuid(), 0):
        detail = f"mode {mode:04o}, of user {status.st_uid}, who can change it"
        return Finding("config mode", "warning", detail, f"chown it: {path}")
    return Finding("config mode", "ok", f"{mode:04o}")


def of_keys(path: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Say of each key in the file at *path* where it comes from, and if it is there."""
    for name, value in _references(path):
        yield of_key(name, value, environ)


def of_key(name: str, value: object, environ: Mapping[str, str]) -> Finding:
    """Look for the key that *value* refers to; it is read, and never shown."""
    from duckservice.config_toml.refused import Refused
    from duckservice.config_toml.secrets import Sources, is_literal, resolve

    subject = f"key {name}"
    if is_literal(value):
        return Finding(subject, "ok", "stands in the config file itself")
    where = str(value)
    if where.startswith("env:"):
        where = ":".join(where.split(":")[:2])  # a default may be a key itself
    if where.startswith("credential:") and not environ.get("CREDENTIALS_DIRECTORY"):
        detail = f"{where}: only the service that systemd starts can see it"
        return Finding(subject, "skipped", detail)
    try:
        secret = resolve(Sources(environ=environ, literal=True), value)
    except Refused as error:
        detail = f"{where}: found {error.found}"
        if where.startswith("env:"):
            detail = f"{where}: is not set, or of no use, in this environment"
            advice = "export it where duckd is started; a service needs a file instead"
            return Finding(subject, "warning", detail, advice)
        return Finding(subject, "failed", detail, error.hint or f"give {error.allowed}")
    if secret is None:
        return Finding(subject, "ok", f"{where}: is not set, and need not be")
    return Finding(subject, "ok", f"{where}: is there")


def of_ca_files(config: Config, now: float) -> Iterator[Finding]:
    """Judge the certificates that are trusted beside the usual ones, by their dates."""
    for provider in config.providers.values():
        if provider.ca_file is None:
            continue
        subject = f"ca_file {provider.name}"
        ends = _ends(provider.ca_file)
        old = sum(end <= now for end in ends)
        if old:
            detail = f"{provider.ca_file.path}: {plural(old, 'certificate')} of {len(ends)} expired"
            yield Finding(
                subject, "warning", detail, "ask whose CA it is for a new one"
            )
            continue
        first = f"{datetime.fromtimestamp(min(ends), UTC):%Y-%m-%d}" if ends else "?"
        told = f"{plural(len(ends), 'certificate')}, good until {first} at least"
        yield Finding(subject, "ok", f"{provider.ca_file.path}: {told}")


def _ends(file: CaFile) -> list[float]:
    """Return until when each certificate is good."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=file.pem)
    ends = (str(its["notAfter"]) for its in context.get_ca_certs())
    return [float(ssl.cert_time_to_seconds(end)) for end in ends]


def _references(path: Path) -> Iterator[tuple[str, object]]:
    """Yield each secret's place in the file, and what stands there."""
    import tomllib

    from duckservice.config_toml.secrets import is_literal

    try:
        providers = tomllib.loads(path.read_text("utf-8-sig")).get("providers")
    except (OSError, ValueError, RecursionError):
        return  # the finding on the file has said it
    for name, table in _table(providers).items():
        its = _table(table)
        for key, value in (*its.items(), *_table(its.get("auth")).items()):
            if key == "api_keys" and isinstance(value, list):
                for number, one in enumerate(cast("list[object]", value)):
                    yield f"{name}[{number}]", one
            elif key in _SECRETS and isinstance(value, str):
                yield (name if key == "api_key" else f"{name}.{key}"), value
            elif key == "proxy" and not is_literal(value):
                yield f"{name}.{key}", value


def _table(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
