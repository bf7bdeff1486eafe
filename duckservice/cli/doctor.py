"""`duck doctor`: looks at what usually keeps a daemon from being reached."""

from __future__ import annotations

import argparse
import os
import platform
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from duckservice.cli import doctor_store, styles
from duckservice.cli.exits import FAILED, NO_DAEMON, OK, Exit
from duckservice.cli.finding import Finding, Verdict
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session

if TYPE_CHECKING:
    from duckservice.config import Config

_PACKAGES: Final = (
    "duckservice",
    "trio",
    "httpx",
    "httpcore",
    "httptools",
    "starlette",
)


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Print what was found; the exit code says whether anything failed."""
    findings = list(_findings(session))
    if session.options.json:
        session.out.json([finding._asdict() for finding in findings])
    else:
        picture = table("SUBJECT", "VERDICT", "DETAIL", wraps="DETAIL")
        picture.show_header = False
        for subject, verdict, detail in findings:
            picture.add_row(
                cell(subject, "bold"), cell(verdict, styles.of(verdict)), cell(detail)
            )
        session.out.show(picture)
    failed = {f.subject for f in findings if f.verdict == "failed"}
    if failed == {"daemon"}:
        return NO_DAEMON
    return FAILED if failed else OK


def _findings(session: Session) -> Iterator[Finding]:
    yield Finding("python", "ok", platform.python_version())
    yield from _packages()
    finding, config = _config(session)
    yield finding
    socket = session.socket()
    yield _directory(socket.parent)
    yield _socket(socket)
    if config is not None:
        yield from _state(session, config)
    finding, status = _daemon(session)
    if "sqlite" not in status.get("store", {}):
        yield _sqlite()
    yield from doctor_store.of_daemon(status)
    yield finding


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    for package in _PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "failed", "is not installed")


def _sqlite() -> Finding:
    import sqlite3

    return doctor_store.of_sqlite(sqlite3.sqlite_version, "of this Python")


def _config(session: Session) -> tuple[Finding, Config | None]:
    from duckservice.config import Config, ConfigError, load

    place = session.config_path()
    if place is None or not (place.explicit or place.path.exists()):
        detail = "none: the built-in defaults hold"
        return Finding("config", "ok", detail), Config.default()
    try:
        config = load(place.path, session.environ)
    except ConfigError as error:
        number = len(error.complaints)
        detail = f"{place.path}: {number} wrong; `duck config check` lists them"
        return Finding("config", "failed", detail), None
    if config.warnings:
        return Finding("config", "warning", "; ".join(config.warnings)), config
    return Finding("config", "ok", str(place.path)), config


def _state(session: Session, config: Config) -> Iterator[Finding]:
    """Look at where the daemon of this config keeps its jobs."""
    from duckservice import paths
    from duckservice.store import sqlite_path

    configured = config.service.state_dir
    try:
        directory = paths.state_dir(session.environ, configured=configured)
    except paths.StartupError as error:
        yield Finding("state", "failed", str(error))
        return
    file = sqlite_path(config.store.url, directory)
    if file is not None:
        yield from doctor_store.of_directory(file.parent)
        yield from doctor_store.of_file(file)


def _directory(path: Path) -> Finding:
    try:
        status = path.stat()
    except OSError as error:
        return Finding("directory", "warning", f"{path}: {error.strerror}")
    if status.st_uid not in (os.geteuid(), 0):
        return Finding("directory", "failed", f"{path} belongs to user {status.st_uid}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        detail = f"{path} has mode {mode:04o}: others could replace the socket"
        return Finding("directory", "failed", detail)
    return Finding("directory", "ok", f"{path}, mode {mode:04o}")


def _socket(path: Path) -> Finding:
    try:
        status = path.lstat()
    except OSError as error:
        return Finding("socket", "warning", f"{path}: {error.strerror}")
    if not stat.S_ISSOCK(status.st_mode):
        return Finding("socket", "failed", f"{path} is no socket")
    mode = stat.S_IMODE(status.st_mode)
    verdict: Verdict = "failed" if mode & 0o007 else "ok"
    return Finding("socket", verdict, f"{path}, mode {mode:04o}")


def _daemon(session: Session) -> tuple[Finding, Mapping[str, Any]]:
    """Return whether the daemon answers, and its status if it does."""
    from importlib.metadata import version

    try:
        running = str(session.get("/v1/version")["version"])
        status = session.get("/v1/status")
    except Exit as end:
        return Finding("daemon", "failed", end.message), {}
    if running != version("duckservice"):
        detail = f"runs {running}, and this is {version('duckservice')}: restart it"
        return Finding("daemon", "warning", detail), status
    return Finding("daemon", "ok", f"answers, version {running}"), status
