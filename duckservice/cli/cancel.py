"""`duck cancel`: give jobs up."""

from __future__ import annotations

from duckservice.cli import job_changes
from duckservice.cli.session import Session

arguments = job_changes.arguments


def run(session: Session) -> int:
    """Give the jobs up; no provider is asked for them any more."""
    return job_changes.change(session, "cancel")
