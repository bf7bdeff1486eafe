"""`duck doctor`: looks at what usually keeps a daemon from being reached."""

from __future__ import annotations

import argparse
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from duckservice.cli import styles
from duckservice.cli.exits import FAILED, NO_DAEMON, OK, Exit
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session

Verdict: TypeAlias = Literal["ok", "warning", "failed"]

_PACKAGES: Final = (
    "duckservice",
    "trio",
    "httpx",
    "httpcore",
    "httptools",
    "starlette",
)
_FIXED_SQLITE: Final = (3, 51, 3)


class Finding(NamedTuple):
    """What one look has shown."""

    subject: str
    verdict: Verdict
    detail: str


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
    yield _sqlite()
    yield _config(session)
    socket = session.socket()
    yield _directory(socket.parent)
    yield _socket(socket)
    yield _daemon(session)


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    for package in _PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "failed", "is not installed")


def _sqlite() -> Finding:
    import sqlite3

    found = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < _FIXED_SQLITE:
        return Finding(
            "sqlite",
            "ok",
            f"{found}; older than 3.51.3, so no other process may open the store",
        )
    return Finding("sqlite", "ok", found)


def _config(session: Session) -> Finding:
    from duckservice.config import ConfigError, load

    place = session.config_path()
    if place is None or not (place.explicit or place.path.exists()):
        return Finding("config", "ok", "none: the built-in defaults hold")
    try:
        config = load(place.path, session.environ)
    except ConfigError as error:
        number = len(error.complaints)
        detail = f"{place.path}: {number} wrong; `duck config check` lists them"
        return Finding("config", "failed", detail)
    if config.warnings:
        return Finding("config", "warning", "; ".join(config.warnings))
    return Finding("config", "ok", str(place.path))


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


def _daemon(session: Session) -> Finding:
    from importlib.metadata import version

    try:
        running = str(session.get("/v1/version")["version"])
    except Exit as end:
        return Finding("daemon", "failed", end.message)
    if running != version("duckservice"):
        detail = f"runs {running}, and this is {version('duckservice')}: restart it"
        return Finding("daemon", "warning", detail)
    return Finding("daemon", "ok", f"answers, version {running}")
