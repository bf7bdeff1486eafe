"""`duck shutdown`: have the daemon drain, then end."""

from __future__ import annotations

import argparse
import os
import select

from duckservice.cli.exits import OK, TRY_AGAIN, USAGE, Exit
from duckservice.cli.session import Session
from duckservice.cli.submit import seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add whether to wait for the end."""
    parser.add_argument(
        "--wait", action="store_true", help="return when the process has ended"
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="TIME", help="wait no longer than that"
    )


def run(session: Session) -> int:
    """Tell the daemon to end, and wait for that if asked to."""
    if session.options.timeout is not None and not session.options.wait:
        raise Exit("--timeout limits --wait: without it, nothing waits", USAGE)
    if not session.options.wait:
        answer = session.post("/v1/shutdown")
        text = "the daemon drains, and then stops"
    else:
        answer = {**_stop_and_wait(session), "state": "stopped"}
        text = "the daemon has stopped"
    if session.options.json:
        session.out.json(answer)
    else:
        session.out.note(text)
    return OK


def _stop_and_wait(session: Session) -> dict[str, object]:
    """Return the daemon's answer when its process is gone."""
    pid: int = session.get("/v1/status")["pid"]
    try:
        # Before it is told to end: later, its number may be another process's.
        process = os.pidfd_open(pid)
    except OSError as error:
        msg = (
            f"cannot wait for process {pid}: {error.strerror}; nothing was changed"
            " (does the daemon run in a container?)"
        )
        raise Exit(msg, TRY_AGAIN) from error
    try:
        answer: dict[str, object] = session.post("/v1/shutdown")
        timeout = session.options.timeout
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise Exit(f"the daemon still drains after {timeout:g} s", TRY_AGAIN)
    finally:
        os.close(process)
    return answer
