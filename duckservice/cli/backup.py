"""`duck backup`: a copy of the daemon's store, while the daemon goes on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from duckservice.cli.exits import FAILED, NO_DAEMON, NOT_PERMITTED, OK, USAGE, Exit
from duckservice.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the copy is to be."""
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="the copy to make; must not exist"
    )


def run(session: Session) -> int:
    """Copy all jobs, results, files and what was spent to one new file."""
    from duckservice.cli.text import plural, size
    from duckservice.errors import DuckError
    from duckservice.store.sqlite_backup import back_up

    source, target = _store(session), Path(session.options.file)
    try:
        made = back_up(source, target)
    except FileExistsError:
        raise Exit(f"{target} exists; it is not overwritten", USAGE) from None
    except PermissionError as error:
        raise Exit(f"{error.filename}: {error.strerror}", NOT_PERMITTED) from error
    except OSError as error:
        where = error.filename or target
        raise Exit(f"{where}: {error.strerror or error}", FAILED) from error
    except DuckError as error:
        raise Exit(error.message, FAILED) from error
    if session.options.json:
        told = {"path": str(target), "jobs": made.jobs, "bytes": made.bytes}
        session.out.json(told)
    else:
        found = f"{plural(made.jobs, 'job')}, {size(made.bytes)}"
        session.out.note(f"{target}: {found}, read through, nothing is missing")
    return OK


def _store(session: Session) -> Path:
    """Ask the daemon where it keeps its jobs."""
    status: dict[str, Any] = session.get("/v1/status")
    store: dict[str, Any] = status.get("store") or {}
    path = store.get("path")
    if isinstance(path, str):
        return Path(path)
    if store.get("ok") is False:
        why = f"the daemon cannot read its store: {store.get('detail')}"
        raise Exit(why, NO_DAEMON)
    raise Exit("the daemon keeps its jobs in memory: there is no file to copy", FAILED)
