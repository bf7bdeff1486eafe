"""`duck shutdown`: have the daemon drain, then end."""

from __future__ import annotations

import argparse

from duckservice.cli.exits import OK
from duckservice.cli.session import Session


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Tell the daemon to end; this does not wait for the end of it."""
    answer = session.post("/v1/shutdown")
    if session.options.json:
        session.out.json(answer)
    else:
        session.out.note("the daemon drains, and then stops")
    return OK
