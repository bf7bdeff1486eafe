"""All that `duck doctor` looks at, in the order in which it is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from duckservice.cli.doctor import (
    config as doctor_config,
    daemon as doctor_daemon,
    disk as doctor_disk,
    machine as doctor_machine,
    network as doctor_network,
    python as doctor_python,
    runtime as doctor_runtime,
    socket as doctor_socket,
    store as doctor_store,
)
from duckservice.cli.doctor.finding import Finding
from duckservice.cli.exits import Exit
from duckservice.cli.session import Session
from duckservice.paths import StartupError

if TYPE_CHECKING:
    from pathlib import Path

    from duckservice.config import Config


def findings(session: Session) -> Iterator[Finding]:
    """Look at one thing after the other; the daemon is asked first, and told last."""
    yield from doctor_python.findings(session.environ)
    config_found, config = doctor_config.findings(session)
    yield from config_found
    try:
        socket = session.socket()
    except (Exit, StartupError) as error:
        yield Finding(
            "socket", "failed", str(error), "name one with --socket or $DUCK_SOCKET"
        )
        return
    asked = doctor_daemon.ask(session)
    yield from doctor_socket.findings(socket, answers=asked.answers)
    yield from _store(session, config, asked.status, answers=asked.answers)
    pid = asked.status.get("pid") if asked.answers else None
    yield from doctor_machine.findings(session.environ, config, pid)
    yield doctor_runtime.systemd(pid)
    if session.options.network and config is not None:
        yield from doctor_network.findings(config)
    yield from doctor_daemon.findings(session, asked)


def _store(
    session: Session,
    config: Config | None,
    status: Mapping[str, Any],
    *,
    answers: bool,
) -> Iterator[Finding]:
    """Look at where the daemon keeps its jobs: where it says, else where it would."""
    if "sqlite" not in status.get("store", {}):
        import sqlite3

        yield doctor_store.of_sqlite(sqlite3.sqlite_version, "of this Python")
    try:
        file = doctor_store.place(config, session.environ, status)
    except StartupError as error:
        yield Finding("state", "failed", str(error), "set service.state_dir or $HOME")
        return
    if file is not None:
        yield from _files(file, deep=session.options.deep, answers=answers)
    yield from doctor_store.of_daemon(status)


def _files(file: Path, *, deep: bool, answers: bool) -> Iterator[Finding]:
    if answers and doctor_disk.is_anothers(file.parent, os.geteuid()):
        detail = f"{file.parent} is of the user who runs duckd, who alone may look"
        yield Finding("state", "skipped", detail)
        return
    yield from doctor_disk.of_directory(file.parent, os.geteuid())
    yield from doctor_disk.of_file(file)
    if not answers:
        yield from doctor_disk.of_lock(file)
    if deep:
        yield doctor_disk.of_content(file, answers=answers)
