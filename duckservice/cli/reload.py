"""`duck reload`: have the daemon read its config again, and take it over."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from duckservice.cli.exits import BAD_CONFIG, FAILED, OK, Exit
from duckservice.cli.session import Session
from duckservice.terminal import escape_controls


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Reload, and say what has changed and what has to wait for a restart."""
    try:
        answer = session.post("/v1/reload")
    except Exit as end:
        status = BAD_CONFIG if end.status == FAILED else end.status
        raise Exit(end.message, status) from end
    if session.options.json:
        session.out.json(answer)
        return OK
    for warning in answer["warnings"]:
        session.out.note(f"warning: {escape_controls(warning)}")
    for path in answer["changed"]:
        session.out.data(escape_controls(f"{path}: {_what(answer, path)}"))
    for path in answer["needs_restart"]:
        session.out.data(escape_controls(f"{path}: needs a restart of duckd"))
    if not answer["changed"] and not answer["needs_restart"]:
        session.out.note("nothing has changed")
    return OK


def _what(answer: Mapping[str, Any], path: str) -> str:
    """Say what has become of *path*: not all that is taken over is in use now."""
    for word in ("added", "removed"):
        if path in answer.get(word, ()):
            return word
    return "changed"
