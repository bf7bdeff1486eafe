"""What happens in a tree, as frozen values for a hook.

The library logs nothing by itself: pass ``on_event`` to `supervise` or
`open_supervisor`, and write the events wherever your program writes.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import attrs

from supervisors._exit import Exit

E = TypeVar("E")


@attrs.frozen
class ChildStarted:
    """A child's init is done (OTP's progress report)."""

    path: str
    incarnation: int


@attrs.frozen
class ChildTerminated:
    """A child ended, and that is not the clean end of one that may end."""

    path: str
    exit: Exit


@attrs.frozen
class StartError:
    """A start or restart failed; a restart is tried again."""

    path: str
    exit: Exit


@attrs.frozen
class ShutdownError:
    """A child that was told to stop ended otherwise than it should have."""

    path: str
    """Of a dynamic supervisor's children, stopped all at once: its own and ``/*``."""
    exit: Exit
    count: int = 1
    """How many of those ended alike."""


@attrs.frozen
class GaveUp:
    """A supervisor saw more restarts than its intensity allows."""

    path: str
    child: str


@attrs.frozen
class ChildUnkillable:
    """A child ignores its cancellation; it is left behind, and may still run."""

    path: str
    stack: tuple[str, ...]
    """Where its task is, innermost frame last."""


@attrs.frozen
class RestartDelayed:
    """A restart waits, by the child's `Backoff`."""

    path: str
    seconds: float


@attrs.frozen
class StillRunning:
    """The tree has ended, but for children that ignore their cancellation.

    `supervise` returns when they have ended, too: no task is left without an owner.
    """

    children: tuple[ChildUnkillable, ...]


Event: TypeAlias = (
    ChildStarted
    | ChildTerminated
    | StartError
    | ShutdownError
    | GaveUp
    | ChildUnkillable
    | RestartDelayed
    | StillRunning
)
EventHook: TypeAlias = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Take no note."""


def emit(hook: Callable[[E], None], event: E) -> None:
    """Hand *event* to *hook*, whose failure must not become the tree's."""
    try:
        hook(event)
    except Exception as error:  # noqa: BLE001 - a broken logger must not end a tree
        # Nor must a broken `sys.unraisablehook`.
        with contextlib.suppress(Exception):
            _report(error, f"The event hook failed on {event!r}", hook)


def _report(error: Exception, message: str, hook: object) -> None:
    # The interpreter's own hook takes nothing but the interpreter's own type,
    # which has no name in `sys`.
    kinds = cast("list[Any]", tuple.__subclasses__())
    make = next(kind for kind in kinds if kind.__name__ == "UnraisableHookArgs")
    fields = (type(error), error, error.__traceback__, message, hook)
    sys.unraisablehook(make(fields))
