"""`duck wait`: until jobs are over."""

from __future__ import annotations

import argparse
import time

from duckservice.cli.exits import FAILED, INTERRUPTED, OK, TRY_AGAIN
from duckservice.cli.job_calls import FINAL, Job, Patience, wait_for, why_failed
from duckservice.cli.session import Session
from duckservice.cli.submit import seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the jobs, and for how long."""
    parser.add_argument("jobs", nargs="+", metavar="JOB")
    parser.add_argument(
        "--timeout", type=seconds, metavar="TIME", help="such as 30s or 2h"
    )


def run(session: Session) -> int:
    """Wait for all jobs; print each with its state as it is known."""
    timeout = session.options.timeout
    deadline = None if timeout is None else time.monotonic() + timeout
    patience = Patience(session)
    found: list[Job] = []
    try:
        for id_ in session.options.jobs:
            job = wait_for(session, id_, deadline, patience)
            found.append(job)
            _tell(session, job)
    except KeyboardInterrupt:
        ids = " ".join(session.options.jobs[len(found) :])
        session.out.note(f"the jobs go on: duck wait {ids}")
        return INTERRUPTED
    if session.options.json:
        session.out.json(found)
    return _status(found)


def _tell(session: Session, job: Job) -> None:
    if not session.options.json:
        session.out.data(f"{job['id']} {job['state']}")
        session.out.stdout.flush()
    if job["state"] in FINAL - {"completed"}:
        session.out.note(f"duck: {why_failed(job)}")


def _status(jobs: list[Job]) -> int:
    states = {job["state"] for job in jobs}
    if states - FINAL:
        return TRY_AGAIN
    return FAILED if states - {"completed"} else OK
