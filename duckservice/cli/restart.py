"""`duck restart PATH`: crash one actor, so that its supervisor restarts it."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from duckservice.cli.exits import OK
from duckservice.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actor's path."""
    parser.add_argument(
        "path", metavar="PATH", help="its path, as `duck tree --json` has it"
    )


def run(session: Session) -> int:
    """Crash the actor at PATH."""
    path = session.options.path.strip("/")
    answer = session.post(f"/v1/tree/{quote(path, safe='/')}/restart")
    if session.options.json:
        session.out.json(answer)
    else:
        session.out.note(f"{path} was crashed; its supervisor decides what follows")
    return OK
