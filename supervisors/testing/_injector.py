"""The probe that carries out a fault plan, and counts what could be a point of one.

* `Crash` and `Cancel` strike when the n-th wait has just begun: the child's scope
  is cancelled, so `trio.Cancelled` comes out of that very wait if it can be
  cancelled at all, else out of the next one that can. They come from outside, as
  an instrument of trio's loop: a task cannot break off its own wait.
* `Delay` and `Stall` strike when the n-th wait is over, and before the child
  notices; see `Driven`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, final

import attrs
import trio

from supervisors._probe import watched_by
from supervisors.testing._anatomy import spec_of
from supervisors.testing._choices import Counts
from supervisors.testing._driven import Driven
from supervisors.testing._faults import (
    Cancel,
    Checkpoint,
    Crash,
    DuplicateCast,
    FailCleanup,
    FailInit,
    Fault,
    FaultPlan,
    Handled,
    HangCleanup,
    HangInit,
    Kill,
    Message,
)
from supervisors.testing._forked import is_forked
from supervisors.testing._installed import instrumented
from supervisors.testing._strikes import break_after, crash_of, strike

if TYPE_CHECKING:
    from supervisors._inbox import Envelope
    from supervisors._process import Process
    from supervisors._spec import Body


class Start:
    """The point of a fault in init."""


class End:
    """The point of a fault in cleanup."""


class Cast:
    """The point of a fault in a cast."""


_Kind: TypeAlias = type[Checkpoint | Message | Handled | Start | End | Cast]


def _point_of(fault: Fault) -> tuple[_Kind, int]:
    match fault:
        case FailInit() | HangInit():
            return Start, fault.n
        case FailCleanup() | HangCleanup():
            return End, fault.n
        case DuplicateCast():
            return Cast, fault.n
        case _:
            return type(fault.at), fault.at.n


@attrs.define(eq=False)
class _Armed:
    """A fault that has not struck yet, and how often its point must still come."""

    fault: Fault
    kind: _Kind
    left: int

    def is_at(self, path: str) -> bool:
        """Say whether the fault is meant for the child at *path*."""
        return path == self.fault.child or fnmatchcase(path, self.fault.child)


@final
class Injector(trio.abc.Instrument):
    """Carries out a plan in every tree that is opened inside `installed`.

    For one run: what was counted stays counted. Give it to `simulate`
    (``faults=``), or open trees inside ``with injector.installed()``.
    """

    def __init__(self, plan: FaultPlan = ()) -> None:
        if any(isinstance(fault, Kill) for fault in plan) and not is_forked():
            msg = "Kill would end this process: run what it is to kill in forked()"
            raise ValueError(msg)
        self.plan = tuple(plan)
        self._armed = [_Armed(fault, *_point_of(fault)) for fault in plan]
        self._counts = dict[str, Counter[_Kind]]()
        self._strikes: dict[trio.lowlevel.Task, list[Callable[[], object]]] = {}
        """What is to strike when these have begun to wait."""
        self._supervisors = set[str]()
        self._effective = list[Fault]()
        self._resting: set[Process] = set()
        """Those whose waits are ours."""

    @property
    def instruments(self) -> Sequence[trio.abc.Instrument]:
        """What `simulate` gives to trio."""
        return (self,)

    @contextmanager
    def installed(self) -> Generator[None]:
        """Break what is opened inside the block."""
        with watched_by(self), instrumented(self):
            yield

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Strike at a task that has begun to wait."""
        for each in self._strikes.pop(task, ()):
            each()

    @property
    def effective(self) -> FaultPlan:
        """The faults that have struck so far, in that order."""
        return tuple(self._effective)

    @property
    def ineffective(self) -> FaultPlan:
        """The faults whose point has not come: they have changed nothing."""
        return tuple(armed.fault for armed in self._armed)

    def counts(self) -> dict[str, Counts]:
        """Return what each child has done, by path."""
        return {
            path: Counts(
                checkpoints=seen[Checkpoint],
                messages=seen[Message],
                casts=seen[Cast],
                starts=seen[Start],
                ends=seen[End],
                is_supervisor=path in self._supervisors,
            )
            for path, seen in self._counts.items()
        }

    def __repr__(self) -> str:
        return f"Injector({self.plan!r})"

    # The probe.

    async def run(self, process: Process, body: Body) -> None:
        """Run *body* with the faults that hit its start, checkpoints and end."""
        if spec_of(process).subtree is not None:
            self._supervisors.add(process.path)
        for fault in self._due(process, Start):
            if isinstance(fault, FailInit):
                raise fault.error(f"injected into the start of {process.path!r}")
            await trio.sleep_forever()
        raised: BaseException | None = None
        try:
            await Driven(_whole(body, process), lambda: self._at_wait(process))
        except BaseException as error:
            raised = error
            raise
        finally:
            await self._at_end(process, raised)  # noqa: ASYNC102 - hangs until it is cancelled

    async def before(self, process: Process, envelope: Envelope) -> int:
        """Return how often the message is to be handled, after what strikes before it."""
        for fault in self._due(process, Message):
            if isinstance(fault, Crash):
                raise crash_of(process, fault)
            await self._rest(process, strike(process, fault))
        handled = self._due(process, Handled)
        if handled:
            break_after(envelope, process, handled)
        return 2 if envelope.reply is None and self._due(process, Cast) else 1

    def after(self, process: Process, envelope: Envelope) -> None:
        """Do nothing: whatever could strike here strikes before the next message."""

    def _at_wait(self, process: Process) -> float:
        if process in self._resting:
            return 0.0
        seconds = 0.0
        for fault in self._due(process, Checkpoint):
            if isinstance(fault, Crash | Cancel):
                strikes = self._strikes.setdefault(trio.lowlevel.current_task(), [])
                strikes.append(partial(strike, process, fault))
            else:
                seconds += strike(process, fault)
        return seconds

    async def _at_end(self, process: Process, raised: BaseException | None) -> None:
        for fault in self._due(process, End):
            if isinstance(fault, FailCleanup):
                text = f"injected into the cleanup of {process.path!r}"
                raise fault.error(text) from raised
            if isinstance(fault, HangCleanup):
                with trio.CancelScope(shield=fault.shield):
                    await trio.sleep(
                        math.inf if fault.seconds is None else fault.seconds
                    )

    async def _rest(self, process: Process, seconds: float) -> None:
        self._resting.add(process)
        try:
            await trio.sleep(seconds)
        finally:
            self._resting.discard(process)

    def _due(self, process: Process, kind: _Kind) -> list[Fault]:
        """Count one more point of that kind; return the faults that strike there."""
        path = process.path
        self._counts.setdefault(path, Counter())[kind] += 1
        due = list[Fault]()
        for armed in list(self._armed):
            if armed.kind is kind and armed.is_at(path):
                armed.left -= 1
                if not armed.left:
                    self._armed.remove(armed)
                    self._effective.append(armed.fault)
                    due.append(armed.fault)
        return due


async def _whole(body: Body, process: Process) -> None:
    await body(process)
