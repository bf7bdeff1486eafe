"""The probe that carries out a fault plan, and counts what could be a point of one.

* `Crash` and `Cancel` strike before the n-th wait begins: the child's scope is
  cancelled, so `trio.Cancelled` comes out of that very wait if it can be
  cancelled at all, else out of the next one that can.
* `Delay` and `Stall` strike when the n-th wait is over, and before the child
  notices; see `Driven`.
"""

from __future__ import annotations

import math
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias, final

import attrs
import trio

from supervisors._probe import watched_by
from supervisors.testing._anatomy import is_supervisor
from supervisors.testing._choices import Counts
from supervisors.testing._driven import Driven
from supervisors.testing._faults import (
    Cancel,
    Checkpoint,
    Crash,
    Delay,
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
    Stall,
)
from supervisors.testing._forked import die, is_forked

if TYPE_CHECKING:
    from supervisors._process import Process
    from supervisors._ref import Envelope
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
class Injector:
    """Carries out a plan in every tree that is opened inside `installed`.

    For one run: what was counted stays counted. Give it to `simulate`
    (``faults=``), or open trees inside ``with injector.installed()``.
    """

    #: For `simulate`: nothing to watch but the trees.
    instruments: Sequence[trio.abc.Instrument] = ()

    def __init__(self, plan: FaultPlan = ()) -> None:
        if any(isinstance(fault, Kill) for fault in plan) and not is_forked():
            msg = "Kill would end this process: run what it is to kill in forked()"
            raise ValueError(msg)
        self.plan = tuple(plan)
        self._armed = [_Armed(fault, *_point_of(fault)) for fault in plan]
        self._counts = dict[str, Counter[_Kind]]()
        self._supervisors = set[str]()
        self._effective = list[Fault]()
        self._resting: set[Process] = set()
        """Those whose waits are ours."""

    def installed(self) -> AbstractContextManager[None]:
        """Watch every tree that is opened inside the block."""
        return watched_by(self)

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
        if is_supervisor(process.tree, process.path):
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
                raise _crash(process, fault)
            await self._rest(process, _strike(process, fault))
        handled = self._due(process, Handled)
        if handled:
            _break_after(envelope, process, handled)
        return 2 if envelope.reply is None and self._due(process, Cast) else 1

    def after(self, process: Process, envelope: Envelope) -> None:
        """Do nothing: whatever could strike here strikes before the next message."""

    def _at_wait(self, process: Process) -> float:
        if process in self._resting:
            return 0.0
        due = self._due(process, Checkpoint)
        return sum(_strike(process, fault) for fault in due)

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


def _strike(process: Process, fault: Fault) -> float:
    """Carry out *fault*; return how many seconds the child then rests."""
    match fault:
        case Delay():
            return fault.seconds
        case Stall():
            return math.inf
        case Crash():
            process.crash(_crash(process, fault))
        case Cancel():
            process.kill()
        case Kill():
            die()
        case _:
            msg = f"{fault!r} does not strike at {fault.child!r} while it runs"
            raise AssertionError(msg)
    return 0.0


def _crash(process: Process, fault: Crash) -> Exception:
    return fault.error(f"injected into {process.path!r} at {fault.at!r}")


def _break_after(envelope: Envelope, process: Process, faults: list[Fault]) -> None:
    """Have *faults* strike when the message is handled, and not answered yet."""
    method = envelope.method

    def strike() -> None:
        for fault in faults:
            if isinstance(fault, Crash):
                raise _crash(process, fault)
            _strike(process, fault)

    async def finish(result: Awaitable[Any]) -> Any:
        value = await result
        strike()
        return value

    def handle(this: Any, *args: Any, **kwargs: Any) -> Any:
        envelope.method = method
        result = _own(this, method)(this, *args, **kwargs)
        if isinstance(result, types.CoroutineType):
            return finish(result)
        strike()
        return result

    envelope.method = handle


def _own(this: object, method: Callable[..., Any]) -> Callable[..., Any]:
    """Find the actor's own version of *method*, as an ordinary call would."""
    owner, _, name = getattr(method, "__qualname__", "").rpartition(".")
    if not owner or owner.endswith("<locals>"):
        return method
    return getattr(type(this), name, method)
