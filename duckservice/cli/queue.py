"""`duck queue`: how many requests wait, at which priority."""

from __future__ import annotations

import argparse

from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import count


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Print the queue's depth by priority."""
    queue = session.get("/v1/queue")
    if session.options.json:
        session.out.json(queue)
        return OK
    result = table("PRIORITY", "WAITING", numbers=("WAITING",))
    for priority, waiting in queue["depth"].items():
        result.add_row(cell(priority), cell(count(waiting)))
    result.add_row(cell("all"), cell(count(queue["waiting"])), style="bold")
    session.out.show(result, "", cell(f"{count(queue['running'])} running"))
    return OK
