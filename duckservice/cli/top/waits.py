"""What requests and jobs wait for, as the daemon's answers tell it; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from duckservice.cli.top.frame import Wait

Json: TypeAlias = Mapping[str, Any]

_MEANT: Final = frozenset({"held", "not_before"})
"""What jobs wait for because somebody has wanted it so: nothing is scarce."""
_REASONS: Final = {
    "rate_limited": "the rate limit of {}",
    "breaker_open": "the circuit breaker of {}",
    "concurrency": "a turn at {}",
    "budget": "the budget {}",
}


def waits(
    queue: Json, providers: Sequence[Json], jobs: Sequence[Json]
) -> Iterator[Wait]:
    """Yield what requests wait for, and then what jobs do; where most wait comes first."""
    found: list[Wait] = []
    for its in providers:
        name, limiter = its["name"], its["limiter"]
        for_turn = lane_of(queue, name)["waiting"]
        if for_turn:
            why = (
                "the queue, which is paused"
                if queue.get("paused")
                else f"a turn at {name}"
            )
            busy = f"{why} ({its['in_flight']} of {its['max_concurrency']} busy)"
            found.append(_wait(for_turn, busy, None))
        if limiter["waiting"]:
            room = limiter["blocked_s"]
            found.append(_wait(limiter["waiting"], f"the rate limit of {name}", room))
    yield from sorted(found, key=lambda its: -its.number)
    reasons: dict[str, list[Json]] = {}
    for job in jobs:
        if job["wait_reason"] and job["wait_reason"] not in _MEANT:
            reasons.setdefault(job["wait_reason"], []).append(job)
    for reason, alike in sorted(reasons.items(), key=lambda item: -len(item[1])):
        yield Wait(number=len(alike), what="job", why=_in_words(reason), seconds=None)


def _in_words(reason: str) -> str:
    """Return what a job waits for as it is said of requests."""
    kind, _, whose = reason.partition(":")
    return _REASONS[kind].format(whose) if kind in _REASONS else reason


def _wait(number: int, why: str, seconds: float | None) -> Wait:
    known = seconds if seconds is not None and seconds > 0 else None
    return Wait(number=number, what="request", why=why, seconds=known)


def lane_of(queue: Json, name: str) -> Json:
    """Return how many run and wait at one provider."""
    return part_of(part_of(queue, "lanes"), name) or {"waiting": 0, "running": 0}


def part_of(of: Json, name: str) -> Json:
    """Return what is there by that name; nothing, from a daemon that says less."""
    found: Json | None = of.get(name)
    return {} if found is None else found
