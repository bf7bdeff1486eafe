"""`duck queue`: how many requests wait, at which priority; pause it, resume it."""

from __future__ import annotations

import argparse

from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import count


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be done to the queue."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("pause", "resume"),
        help="pause: give no more turns; resume: give them again",
    )


def run(session: Session) -> int:
    """Pause or resume, where asked to; print the queue's depth by priority."""
    action = session.options.action
    if action is None:
        queue = session.get("/v1/queue")
    else:
        queue = session.post(f"/v1/queue/{action}")
    if session.options.json:
        session.out.json(queue)
        return OK
    result = table("PRIORITY", "WAITING", numbers=("WAITING",))
    for priority, waiting in queue["depth"].items():
        result.add_row(cell(priority), cell(count(waiting)))
    result.add_row(cell("all"), cell(count(queue["waiting"])), style="bold")
    paused = ", paused" if queue.get("paused") else ""
    session.out.show(result, "", cell(f"{count(queue['running'])} running{paused}"))
    return OK
