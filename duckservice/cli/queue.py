"""`duck queue`: how many requests wait, at which priority, for what; pause it, resume it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from duckservice.cli.exits import NOT_PERMITTED, OK, Exit
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import count, elapsed

if TYPE_CHECKING:
    from rich.table import Table


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
    limits = limited(session)
    session.out.show(_depth(queue), "", cell(*_running(queue, limits)))
    lanes = _lanes(queue, limits)
    if lanes is not None:
        session.out.show("", lanes)
    return OK


def _depth(queue: Mapping[str, Any]) -> Table:
    result = table("PRIORITY", "WAITING", numbers=("WAITING",))
    for priority, waiting in queue["depth"].items():
        result.add_row(cell(priority), cell(count(waiting)))
    result.add_row(cell("all"), cell(count(queue["waiting"])), style="bold")
    return result


def _running(
    queue: Mapping[str, Any], limits: Mapping[str, tuple[int, float | None]]
) -> tuple[str, str]:
    """Return what goes on in the queue, and the style for it."""
    for_limits = sum(waiting for waiting, _ in limits.values())
    words = [f"{count(max(0, queue['running'] - for_limits))} running"]
    if for_limits:
        words.append(f"{count(for_limits)} waiting for a rate limit")
    if queue["waiting"] and queue.get("oldest_wait_s") is not None:
        words.append(f"the longest has waited {elapsed(queue['oldest_wait_s'])}")
    if queue.get("paused"):
        words.append("paused")
    return ", ".join(words), "yellow" if queue.get("paused") else ""


def limited(session: Session) -> dict[str, tuple[int, float | None]]:
    """Return how many have a turn of each provider, and wait for its rate limit.

    With it comes for how long it rests, where it has said so. There is nothing where
    providers are not for this user's eyes.
    """
    try:
        answer = session.get("/v1/providers")
    except Exit as end:
        if end.status == NOT_PERMITTED:
            return {}
        raise
    found: dict[str, tuple[int, float | None]] = {}
    for its in answer["providers"]:
        # A daemon of an older version says less.
        waiting = its["limiter"].get("waiting") or 0
        rests = its["limiter"].get("blocked_s")
        found[its["name"]] = waiting, rests if rests and rests > 0 else None
    return found


def _lanes(
    queue: Mapping[str, Any], limits: Mapping[str, tuple[int, float | None]]
) -> Table | None:
    """Return where something waits or runs, and for what; None if nothing does."""
    numbers = ("RUNNING", "FOR A TURN", "FOR A LIMIT", "RESTS")
    result = table("PROVIDER", *numbers, numbers=numbers)
    for name, lane in queue.get("lanes", {}).items():
        waiting, rests = limits.get(name, (0, None))
        if not (lane["running"] or lane["waiting"] or waiting):
            continue
        result.add_row(
            cell(name),
            # Who waits for a limit has a turn, and has sent nothing yet.
            cell(count(max(0, lane["running"] - waiting))),
            cell(count(lane["waiting"]), "yellow" if lane["waiting"] else ""),
            cell(count(waiting), "yellow" if waiting else ""),
            cell("-" if rests is None else elapsed(rests)),
        )
    return result if result.row_count else None
