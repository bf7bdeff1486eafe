"""`duck demo`: a real service under fire, without key, config or network.

`demo_stage` plays: a service on a real socket, clients that ask, and somebody
who crashes its actors. `demo_picture` shows it.
"""

from __future__ import annotations

import argparse
import os

from duckservice.cli.exits import FAILED, INTERRUPTED, OK, USAGE, Exit
from duckservice.cli.session import Session

_REQUESTS_MAX = 5000


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add how much there is to do."""
    parser.add_argument(
        "--requests",
        type=int,
        default=400,
        metavar="N",
        help=f"how many requests, up to {_REQUESTS_MAX} (default: 400)",
    )


def run(session: Session) -> int:
    """Play the demo; it has failed if a request was lost."""
    requests = session.options.requests
    if not 1 <= requests <= _REQUESTS_MAX:
        raise Exit(f"--requests must be from 1 to {_REQUESTS_MAX}", USAGE)
    # Here: no other command needs trio and the service.
    import trio

    from duckservice import log
    from duckservice.cli.demo_picture import picture_for, so_far, summary
    from duckservice.cli.demo_stage import Tally, play
    from duckservice.config import LogConfig

    tally, interrupted = Tally(), False
    # The crashes are the show; the log would tell each of them once more.
    with open(os.devnull, "w") as nowhere:
        log.setup(LogConfig(), nowhere)
        try:
            trio.run(play, requests, picture_for(session), tally)
        except KeyboardInterrupt:
            interrupted = True
        except BaseExceptionGroup as group:
            if not group.subgroup(KeyboardInterrupt):
                raise
            interrupted = True
    if interrupted:
        session.out.note(f"interrupted: {so_far(tally, requests)}")
        return INTERRUPTED
    if session.options.json:
        session.out.json(tally.as_json())
    else:
        session.out.show(summary(tally))
    return FAILED if tally.lost else OK
