"""`duck hold`: keep waiting jobs from running."""

from __future__ import annotations

from duckservice.cli import job_changes
from duckservice.cli.session import Session

arguments = job_changes.arguments


def run(session: Session) -> int:
    """Keep the jobs from running until they are released."""
    return job_changes.change(session, "hold")
