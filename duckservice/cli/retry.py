"""`duck retry`: begin jobs anew that have come to nothing."""

from __future__ import annotations

from duckservice.cli import job_changes
from duckservice.cli.session import Session

arguments = job_changes.arguments


def run(session: Session) -> int:
    """Begin the jobs anew, with all their attempts."""
    return job_changes.change(session, "retry")
