"""The restart decision: pure, one clause a case, like OTP's ``do_restart``.

                    clean end          crash, kill
    permanent       restart            restart
    transient       keep               restart
    temporary       forget             forget

"Keep" leaves the child's spec with the supervisor, without a process. Every
end but the clean one of a transient or temporary child is reported.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from typing import TypeVar, assert_never

import attrs

from supervisors._exit import Exit, Killed, Normal, ShutDown, is_clean
from supervisors._spec import AutoShutdown, Restart, Shutdown, Strategy

T = TypeVar("T")


class Verdict(enum.Enum):
    """What becomes of a child that has ended."""

    RESTART = "restart"
    KEEP = "keep"
    FORGET = "forget"


def verdict(restart: Restart, exit_: Exit) -> Verdict:
    """Say what becomes of a child with that restart type that ended so."""
    match restart:
        case Restart.PERMANENT:
            return Verdict.RESTART
        case Restart.TRANSIENT:
            return Verdict.KEEP if is_clean(exit_) else Verdict.RESTART
        case Restart.TEMPORARY:
            return Verdict.FORGET
        case _:
            assert_never(restart)


def is_reported(restart: Restart, exit_: Exit) -> bool:
    """Say whether the end is worth a report."""
    return restart is Restart.PERMANENT or not is_clean(exit_)


def is_orderly_stop(restart: Restart, shutdown: float | Shutdown, exit_: Exit) -> bool:
    """Say whether a child that was told to stop ended as it should have."""
    brutal = shutdown is Shutdown.BRUTAL_KILL
    match exit_:
        case ShutDown(None) if not brutal:
            return True
        case Normal() | ShutDown():
            return restart is not Restart.PERMANENT
        case Killed():
            return brutal
        case _:
            return False


def affected(strategy: Strategy, children: Sequence[T], failed: T) -> Sequence[T]:
    """Return those that are stopped and started again with *failed*, in start order.

    They are to be stopped in reverse.
    """
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return (failed,)
        case Strategy.ONE_FOR_ALL:
            return tuple(children)
        case Strategy.REST_FOR_ONE:
            return tuple(children[children.index(failed) :])
        case _:
            assert_never(strategy)


def shuts_down_with(
    auto_shutdown: AutoShutdown, *, significant: bool, others_alive: bool
) -> bool:
    """Say whether the supervisor ends because a child has ended for good."""
    match auto_shutdown:
        case AutoShutdown.NEVER:
            return False
        case AutoShutdown.ANY_SIGNIFICANT:
            return significant
        case AutoShutdown.ALL_SIGNIFICANT:
            return significant and not others_alive
        case _:
            assert_never(auto_shutdown)


@attrs.define
class RestartWindow:
    """How many restarts there were lately; one window for a whole supervisor.

    OTP keeps every restart in the period; the last ``max_restarts + 1`` times
    are enough to know whether there were too many, and cost nothing to check.
    """

    max_restarts: int
    max_seconds: float
    _times: deque[float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._times = deque(maxlen=self.max_restarts + 1)

    def admit(self, now: float) -> bool:
        """Count a restart at *now*; return False if it is one too many."""
        self._times.append(now)
        return (
            len(self._times) <= self.max_restarts
            or now - self._times[0] > self.max_seconds
        )
