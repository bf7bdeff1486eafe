"""Events as lines of structlog."""

from __future__ import annotations

from typing import get_args

import pytest
import structlog

from supervisors import (
    ChildStarted,
    ChildTerminated,
    ChildUnkillable,
    Crashed,
    Event,
    GaveUp,
    Killed,
    Normal,
    RestartDelayed,
    ShutDown,
    ShutdownError,
    StartError,
    StillRunning,
)
from supervisors.structlog import log_event

BOOM = ValueError("boom")
LINES = [
    (
        ChildStarted("a", 1),
        {"event": "actor.started", "log_level": "debug", "actor": "a"},
    ),
    (ChildStarted("a", 2), {"log_level": "info", "incarnation": 2}),
    (
        ChildTerminated("a", Crashed(BOOM)),
        {"event": "actor.ended", "log_level": "error", "exc_info": BOOM},
    ),
    (ChildTerminated("a", Normal()), {"exit": "normal"}),
    (StartError("a", Killed()), {"event": "actor.start_failed", "exit": "killed"}),
    (
        ShutdownError("d/*", ShutDown("why"), 3),
        {"event": "actor.shutdown_error", "count": 3, "reason": "'why'"},
    ),
    (ShutdownError("d/*", ShutDown()), {"count": 1, "reason": None}),
    (
        GaveUp("", "a"),
        {"event": "supervisor.gave_up", "log_level": "critical", "supervisor": "root"},
    ),
    (
        ChildUnkillable("a", ("f (x:1)",)),
        {"event": "actor.unkillable", "stack": ("f (x:1)",)},
    ),
    (
        RestartDelayed("a", 1.23456),
        {"event": "actor.restart_delayed", "seconds": 1.235},
    ),
    (
        StillRunning((ChildUnkillable("a", ()),)),
        {"event": "tree.still_running", "actors": ["a"]},
    ),
]


@pytest.mark.parametrize(("event", "said"), LINES, ids=lambda x: type(x).__name__)
def test_an_event_is_one_line(event: Event, said: dict[str, object]) -> None:
    with structlog.testing.capture_logs() as lines:
        log_event(event, structlog.get_logger())
    (line,) = lines
    assert said.items() <= line.items()


def test_every_event_has_a_line() -> None:
    assert {type(event) for event, _ in LINES} == set(get_args(Event))
