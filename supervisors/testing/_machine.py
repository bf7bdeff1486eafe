"""Stateful Hypothesis tests against a supervision tree that lives for a whole example.

    class Counting(SupervisedMachine):
        def spec(self) -> SupervisorSpec:
            self.counter: ActorRef[Counter] = ActorRef("counter")
            return SupervisorSpec(children=[actor(self.counter, Counter)])

        @rule()
        async def add(self) -> None:
            await self.counter.call(Counter.add)

    TestCounting = Counting.TestCase

Rules run one after the other; what they leave running in ``self.nursery``, and
the tree, go on in the next rule. Hypothesis draws the order of steps as well.
"""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import trio
import trio.testing
from hypothesis import stateful

from supervisors import (
    ChildUnkillable,
    Event,
    Supervisor,
    SupervisorSpec,
    supervise,
)
from supervisors._probe import chance
from supervisors.testing._guest import GuestLoop
from supervisors.testing._schedule import Fifo, Schedule, schedules
from supervisors.testing._simulate import MAX_STEPS, TIMEOUT

F = TypeVar("F", bound=Callable[..., Any])


class SupervisedMachine(stateful.RuleBasedStateMachine):
    """Base of state machines whose rules may be async, around a living tree.

    Use `rule`, `initialize` and `invariant` of this package; the rest of
    `hypothesis.stateful` fits as it is. A rule that does not end, in virtual
    time or in steps, fails. So does a crash in ``nursery``, a tree that gives up,
    and a child that cannot be stopped.
    """

    rule_timeout: ClassVar[float] = TIMEOUT
    """Virtual seconds for each rule, and for the start and stop of the tree."""
    rule_max_steps: ClassVar[int] = MAX_STEPS
    """Steps of all tasks during one rule."""

    def __init__(self) -> None:
        super().__init__()
        self.events = list[Event]()
        """What has happened in the tree."""
        self.nursery: trio.Nursery
        """For tasks of the test that outlive a rule; cancelled at the end."""
        self._root: Supervisor | None = None
        self._loop = GuestLoop(
            self._main,
            order=Fifo().start(),
            max_steps=self.rule_max_steps,
            timeout=self.rule_timeout,
        )

    def spec(self) -> SupervisorSpec | None:
        """Return the tree to start before the first rule; override it."""
        return None

    async def check_at_the_end(self) -> None:
        """Check what must hold when the tree has stopped; override it."""

    @property
    def root(self) -> Supervisor:
        """The handle of the tree from `spec`."""
        assert self._root is not None, "spec() returned no tree"
        return self._root

    async def wait_until_quiet(self) -> None:
        """Wait until every task waits for something; no time passes."""
        await trio.testing.wait_all_tasks_blocked()

    @stateful.initialize(schedule=schedules())
    def choose_schedule(self, schedule: Schedule) -> None:
        """Let *schedule* decide from here on; drawn by Hypothesis."""
        self._loop.order = schedule.start()

    def run(self, afn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run ``afn(*args)`` in the machine's loop; for rules that are not async."""
        return self._loop.run(functools.partial(afn, *args))

    def teardown(self) -> None:
        """Stop the tree and the loop; Hypothesis calls it after the last rule.

        An override has to call it.
        """
        self._loop.close()

    async def _main(self, serve: Callable[[], Awaitable[None]]) -> None:
        chance.set(random.Random(0).random)  # noqa: S311 - no secret
        async with trio.open_nursery() as trees:
            spec = self.spec()
            if spec is not None:
                start = functools.partial(supervise, spec, on_event=self.events.append)
                self._root = await trees.start(start)
            async with trio.open_nursery() as self.nursery:
                await serve()
                self.nursery.cancel_scope.cancel()
            if self._root is not None:
                self._root.stop()
        unkillable = [e for e in self.events if isinstance(e, ChildUnkillable)]
        assert not unkillable, f"children that would not stop: {unkillable}"
        await self.check_at_the_end()


def rule(**options: Any) -> Callable[[F], F]:
    """Decorate a method as a rule: as `hypothesis.stateful.rule`, also if it is async."""
    return _for_both(stateful.rule, options)


def initialize(**options: Any) -> Callable[[F], F]:
    """Decorate as `hypothesis.stateful.initialize`, also if the method is async."""
    return _for_both(stateful.initialize, options)


def invariant(**options: Any) -> Callable[[F], F]:
    """Decorate as `hypothesis.stateful.invariant`, also if the method is async."""
    return _for_both(stateful.invariant, options)


def _for_both(
    hypothesis: Callable[..., Any], options: dict[str, Any]
) -> Callable[[F], F]:
    def decorator(function: F) -> F:
        method: Any = function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            def in_the_loop(self: SupervisedMachine, *args: Any, **kwargs: Any) -> Any:
                return self.run(functools.partial(function, self, *args, **kwargs))

            method = in_the_loop
        decorated: F = hypothesis(**options)(method)
        return decorated

    return decorator
