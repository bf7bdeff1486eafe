"""`duck drain`: have the daemon finish what it has, and take nothing new."""

from __future__ import annotations

import argparse

from duckservice.cli.exits import OK
from duckservice.cli.session import Session


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Tell the daemon to drain; this does not wait for the end of it."""
    answer = session.post("/v1/drain")
    if session.options.json:
        session.out.json(answer)
    else:
        session.out.note("the daemon drains: it takes no new work")
    return OK
