"""What must hold in every tree, whatever fails: watched while it runs, judged after.

    watcher = Watcher(Injector(plan))
    simulate(program, faults=watcher)
    watcher.check()

* No two incarnations of a path run at once; so none is restarted before the
  cleanup of the last one has ended.
* No address belongs to two children that run.
* When an actor ends, every call that it has taken has been answered, at once.
* A supervisor restarts at most ``max_restarts`` times in ``max_seconds``.
* When a supervisor ends, its children are stopped in reverse start order.
* When a tree is closed, no task is left that a child of it has started.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, final

import attrs
import trio

from supervisors._events import ChildStarted, ChildTerminated, Event, EventHook
from supervisors._probe import Probe, watched_by
from supervisors.testing._anatomy import is_finishing, later_siblings, spec_of, window
from supervisors.testing._installed import instrumented

if TYPE_CHECKING:
    from supervisors._inbox import Envelope
    from supervisors._process import Process, Tree
    from supervisors._reply import Reply
    from supervisors._spec import Body

_Place: TypeAlias = "tuple[Tree, str]"


class InvariantViolated(AssertionError):
    """A tree did what no tree may do; ``violations`` says each thing in a line."""

    def __init__(self, violations: tuple[str, ...]) -> None:
        super().__init__("\n".join(violations))
        self.violations = violations


@attrs.define(eq=False)
class _Life:
    """One incarnation that runs, and the calls that it has taken."""

    process: Process
    replies: list[tuple[str, Reply[Any]]] = attrs.field(
        factory=list["tuple[str, Reply[Any]]"]
    )

    @property
    def place(self) -> _Place:
        return self.process.tree, self.process.path

    def unanswered(self) -> list[tuple[str, Reply[Any]]]:
        return [
            (method, reply)
            for method, reply in self.replies
            if not (reply.settled or reply.abandoned)
        ]


_life: ContextVar[_Life | None] = ContextVar("life", default=None)


@final
class Watcher(trio.abc.Instrument):
    """Watches every tree that is opened inside `installed`, and notes what is wrong.

    Passes everything on to *inner*, which may be an `Injector`.
    """

    def __init__(self, inner: Probe | None = None) -> None:
        self._inner = inner
        self._violations = list[str]()
        self._lives: dict[_Place, _Life] = {}
        self._tasks: dict[trio.lowlevel.Task, _Life] = {}
        self._roots: dict[trio.lowlevel.Task, Tree] = {}
        self._crashed: dict[_Place, float] = {}
        self._restarts: dict[_Place, list[float]] = {}

    @property
    def violations(self) -> tuple[str, ...]:
        """What has been wrong so far, a line each."""
        return tuple(self._violations)

    def check(self) -> None:
        """Judge; to be called when the trees are closed.

        Raises:
            InvariantViolated: something was wrong.
        """
        running = [f"{path!r} still runs" for _, path in self._lives]
        if self._violations or running:
            raise InvariantViolated((*self._violations, *running))

    @property
    def instruments(self) -> Sequence[trio.abc.Instrument]:
        """What `simulate` gives to trio: ourselves, and those of *inner*."""
        return (self, *getattr(self._inner, "instruments", ()))

    @contextmanager
    def installed(self) -> Generator[None]:
        """Watch every tree that is opened inside the block."""
        with watched_by(self), instrumented(*self.instruments):
            yield

    def __repr__(self) -> str:
        return f"Watcher({'' if self._inner is None else repr(self._inner)})"

    # The probe.

    async def run(self, process: Process, body: Body) -> None:
        """Run the child, between a look at its start and one at its end."""
        life = _Life(process)
        self._begin(life)
        token = _life.set(life)
        try:
            inner = self._inner
            await (body(process) if inner is None else inner.run(process, body))
        finally:
            _life.reset(token)
            self._end(life)

    async def before(self, process: Process, envelope: Envelope) -> int:
        """Take note of a call."""
        life = self._lives.get((process.tree, process.path))
        if life is not None and envelope.reply is not None:
            name = getattr(envelope.method, "__qualname__", repr(envelope.method))
            life.replies = [*life.unanswered(), (name, envelope.reply)]
        return 1 if self._inner is None else await self._inner.before(process, envelope)

    def after(self, process: Process, envelope: Envelope) -> None:
        """Pass it on."""
        if self._inner is not None:
            self._inner.after(process, envelope)

    # The judgement.

    def _begin(self, life: _Life) -> None:
        tree, path = life.place
        self._watch_events(tree)
        before = self._lives.get(life.place)
        # One that was given up as unkillable has an exit, and may still run.
        if before is not None and before.process.exit is None:
            self._note(f"{path!r} was started again before it had ended")
        address = spec_of(life.process).address
        for other in self._lives.values() if address is not None else ():
            if other.place != life.place and spec_of(other.process).address is address:
                self._note(f"{path!r} has the address of {other.process.path!r}")
        self._lives[life.place] = life
        # A supervisor counts the restarts of one incarnation.
        self._restarts.pop(life.place, None)

    def _end(self, life: _Life) -> None:
        tree, path = life.place
        for method, _ in life.unanswered():
            self._note(f"{path!r} ended and left a call of {method} without an answer")
        if is_finishing(life.process):
            for later in later_siblings(tree, path):
                other = self._lives.get((tree, later))
                if other is not None and other.process.exit is None:
                    self._note(f"{path!r} was stopped before {later!r}, not after")
        if self._lives.get(life.place) is life:
            del self._lives[life.place]

    def _watch_events(self, tree: Tree) -> None:
        root = tree.nursery.parent_task
        if self._roots.get(root) is tree:
            return
        self._roots[root] = tree
        hook: EventHook = tree.on_event

        def watch(event: Event) -> None:
            self._on_event(tree, event)
            hook(event)

        tree.on_event = watch

    def _on_event(self, tree: Tree, event: Event) -> None:
        match event:
            case ChildTerminated(path=path):
                self._crashed[tree, path] = trio.current_time()
            case ChildStarted(path=path, incarnation=incarnation) if incarnation > 1:
                at = self._crashed.pop((tree, path), None)
                if at is not None:
                    self._restarted(tree, path.rpartition("/")[0], at)
            case _:
                pass

    def _restarted(self, tree: Tree, supervisor: str, at: float) -> None:
        limits = window(tree, supervisor)
        if limits is None:
            return
        times = self._restarts.setdefault((tree, supervisor), [])
        times.append(at)
        lately = [time for time in times if at - time <= limits.max_seconds]
        if len(lately) > limits.max_restarts:
            self._note(
                f"supervisor {supervisor!r} restarted {len(lately)} times in"
                f" {limits.max_seconds:g} s, not {limits.max_restarts} times"
            )

    def _note(self, violation: str) -> None:
        self._violations.append(violation)

    # The instrument.

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Take note of a task that a child starts, anywhere."""
        life = task.context.get(_life)
        if life is not None:
            self._tasks[task] = life

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """See who is left when a tree is closed."""
        self._tasks.pop(task, None)
        tree = self._roots.pop(task, None)
        if tree is None:
            return
        for other, life in self._tasks.items():
            if life.process.tree is tree:
                path = life.process.path
                self._note(f"task {other.name!r} of {path!r} outlived its tree")
