"""What `cancel`, `retry`, `hold` and `release` have in common: many jobs, one change."""

from __future__ import annotations

import argparse
from typing import Any

from duckservice.cli.exits import NO_DAEMON, OK, Exit
from duckservice.cli.job_calls import target
from duckservice.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the jobs."""
    parser.add_argument("jobs", nargs="+", metavar="JOB")


def change(session: Session, action: str) -> int:
    """Do *action* to each job; one that it cannot be done to does not stop the rest."""
    told: list[dict[str, Any]] = []
    status = OK
    for id_ in session.options.jobs:
        try:
            job = session.post(target(id_, f"/{action}"))
        except Exit as end:
            if end.status == NO_DAEMON:
                raise
            status = end.status
            told.append({"id": id_, "error": _error(end)})
            session.out.note(f"duck: {end.message}")
        else:
            told.append(job)
            if not session.options.json:
                session.out.data(f"{job['id']} {job['state']}")
    if session.options.json:
        session.out.json(told)
    return status


def _error(end: Exit) -> dict[str, Any]:
    code = getattr(end.__cause__, "code", "internal_error")
    return {"code": code, "message": getattr(end.__cause__, "message", end.message)}
