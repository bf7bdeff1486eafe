"""Events for outsiders: the word for each, and what may be kept of it.

    event                     words
    RequestStarted            request.start
    RequestEnded              request.stop, or request.exception where it has failed
    AttemptEnded              attempt, cost
    JobMoved                  job
    BreakerMoved              breaker
    supervisors' own          restart
    BudgetAlert               budget
    Store..., EntryLost       store
    QueueSwitched             queue.pause, queue.resume
    MessageDropped            message
    CacheFileFailed           cache
    (events were missed)      gap

What is kept of a crash is the exception's type alone, as its traceback would keep the
frames alive, and a request with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias, assert_never, cast

import attrs

import supervisors
from duckservice.events import (
    AttemptEnded,
    BreakerMoved,
    BudgetAlert,
    CacheFileFailed,
    EntryLost,
    Event,
    JobMoved,
    MessageDropped,
    QueueSwitched,
    RequestEnded,
    RequestStarted,
    StoreFailed,
    StorePruned,
    StoreRecovered,
)
from supervisors import Crashed, Exit, Killed, Normal, ShutDown

WORDS: Final = (
    "request.start",
    "request.stop",
    "request.exception",
    "attempt",
    "cost",
    "breaker",
    "restart",
    "budget",
    "job",
    "store",
    "queue.pause",
    "queue.resume",
    "message",
    "cache",
    "gap",
)
"""All that there are."""


@attrs.frozen(kw_only=True)
class ActorEvent:
    """What has become of a part of the tree, without the exception behind it."""

    actor: str
    """Its path; empty: the root."""
    what: str
    """``crashed``, ``started`` (again), ``start_failed`` and so on."""
    reason: str | None = None
    """The type of the exception, where there was one; else how it ended."""
    incarnation: int | None = None
    count: int | None = None
    delay: float | None = None
    """Seconds until it is restarted."""


Kept: TypeAlias = (
    RequestStarted
    | RequestEnded
    | AttemptEnded
    | JobMoved
    | BreakerMoved
    | BudgetAlert
    | StoreFailed
    | StoreRecovered
    | StorePruned
    | EntryLost
    | QueueSwitched
    | MessageDropped
    | CacheFileFailed
    | ActorEvent
)
"""What may be kept for long: it holds on to nothing else."""

_WORDS_OF: Final[Mapping[type, tuple[str, ...]]] = {
    RequestStarted: ("request.start",),
    AttemptEnded: ("attempt", "cost"),
    JobMoved: ("job",),
    BreakerMoved: ("breaker",),
    BudgetAlert: ("budget",),
    StoreFailed: ("store",),
    StoreRecovered: ("store",),
    StorePruned: ("store",),
    EntryLost: ("store",),
    MessageDropped: ("message",),
    CacheFileFailed: ("cache",),
    ActorEvent: ("restart",),
}
_STOP: Final = ("request.stop",)
_EXCEPTION: Final = ("request.exception",)
_PAUSE: Final = ("queue.pause",)
_RESUME: Final = ("queue.resume",)
_NOT_FAILED: Final = frozenset({"ok", "cancelled"})


def outward(event: Event) -> tuple[tuple[str, ...], Kept] | None:
    """Return the words for *event*, and what is kept of it; None: it is not told.

    It is called for each event and must be fast: nothing is encoded here.
    """
    words = _WORDS_OF.get(event.__class__)
    if words is not None:
        return words, cast(Kept, event)
    match event:
        case RequestEnded():
            return (_STOP if event.outcome in _NOT_FAILED else _EXCEPTION), event
        case QueueSwitched():
            return (_PAUSE if event.paused else _RESUME), event
        case _:
            its = actor_event(cast(supervisors.Event, event))
            return None if its is None else (_WORDS_OF[ActorEvent], its)


def actor_event(event: supervisors.Event) -> ActorEvent | None:
    """Return what is told of the tree; None: a first start, which is none's concern."""
    match event:
        case supervisors.ChildStarted(path, incarnation):
            if incarnation == 1:
                return None
            return ActorEvent(actor=path, what="started", incarnation=incarnation)
        case supervisors.ChildTerminated(path, exit_):
            what = exit_word(exit_)
            return ActorEvent(actor=path, what=what, reason=_reason(exit_))
        case supervisors.StartError(path, exit_):
            return ActorEvent(actor=path, what="start_failed", reason=_reason(exit_))
        case supervisors.ShutdownError(path, exit_, count):
            why = _reason(exit_)
            return ActorEvent(
                actor=path, what="shutdown_failed", reason=why, count=count
            )
        case supervisors.GaveUp(path, child):
            return ActorEvent(actor=path, what="gave_up", reason=child)
        case supervisors.ChildUnkillable(path):
            return ActorEvent(actor=path, what="unkillable")
        case supervisors.RestartDelayed(path, seconds):
            return ActorEvent(actor=path, what="delayed", delay=seconds)
        case supervisors.StillRunning(children):
            return ActorEvent(actor="", what="still_running", count=len(children))
        case _:
            assert_never(event)


def exit_word(exit_: Exit) -> str:
    """Return in a word how a child has ended."""
    match exit_:
        case Crashed():
            return "crashed"
        case ShutDown():
            return "shutdown"
        case Normal():
            return "normal"
        case Killed():
            return "killed"
        case _:
            assert_never(exit_)


def _reason(exit_: Exit) -> str:
    if isinstance(exit_, Crashed):
        return type(exit_.error).__name__
    return exit_word(exit_)
