"""`duck release`: let jobs run that are held."""

from __future__ import annotations

from duckservice.cli import job_changes
from duckservice.cli.session import Session

arguments = job_changes.arguments


def run(session: Session) -> int:
    """Let the jobs run that are held."""
    return job_changes.change(session, "release")
