"""`duck result`: what came of a job."""

from __future__ import annotations

import argparse

from duckservice.cli.exits import OK
from duckservice.cli.job_calls import target
from duckservice.cli.reply import print_result
from duckservice.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the job."""
    parser.add_argument("job", metavar="JOB")


def run(session: Session) -> int:
    """Print the reply's text; with --json, the whole of OpenAI's body."""
    body = session.get(target(session.options.job, "/result"))
    if session.options.json:
        session.out.json(body)
    else:
        print_result(session.out, body)
    return OK
