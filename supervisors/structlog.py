"""What happens in a tree, as lines of structlog; needs structlog.

from supervisors.structlog import log_event

async with open_supervisor(spec, on_event=log_event): ...
"""

from __future__ import annotations

from typing import assert_never

import structlog

from supervisors._events import (
    ChildStarted,
    ChildTerminated,
    ChildUnkillable,
    Event,
    GaveUp,
    RestartDelayed,
    ShutdownError,
    StartError,
    StillRunning,
)
from supervisors._exit import Crashed, Exit, Killed, Normal, ShutDown

_log = structlog.get_logger("supervisors")


def log_event(event: Event, log: structlog.typing.FilteringBoundLogger = _log) -> None:
    """Write *event* to the log, as one line; a crash with its exception.

    A first start is debug, a restart info, an unexpected end an error; a
    supervisor that gives up and a child that cannot be stopped are critical.
    """
    match event:
        case ChildStarted(path, incarnation):
            write = log.debug if incarnation == 1 else log.info
            write("actor.started", actor=path, incarnation=incarnation)
        case ChildTerminated(path, exit_):
            log.error("actor.ended", actor=path, **_exit(exit_))
        case StartError(path, exit_):
            log.error("actor.start_failed", actor=path, **_exit(exit_))
        case ShutdownError(path, exit_, count):
            log.warning("actor.shutdown_error", actor=path, count=count, **_exit(exit_))
        case GaveUp(path, child):
            log.critical("supervisor.gave_up", supervisor=path or "root", child=child)
        case ChildUnkillable(path, stack):
            log.critical("actor.unkillable", actor=path, stack=stack)
        case RestartDelayed(path, seconds):
            log.info("actor.restart_delayed", actor=path, seconds=round(seconds, 3))
        case StillRunning(children):
            left = [child.path for child in children]
            log.critical("tree.still_running", actors=left)
        case _:
            assert_never(event)


def _exit(exit_: Exit) -> dict[str, object]:
    match exit_:
        case Crashed(error):
            return {"exit": "crashed", "exc_info": error}
        case ShutDown(reason):
            return {
                "exit": "shutdown",
                "reason": None if reason is None else repr(reason),
            }
        case Normal():
            return {"exit": "normal"}
        case Killed():
            return {"exit": "killed"}
        case _:
            assert_never(exit_)
