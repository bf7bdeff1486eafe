"""The library under its own kit: no single fault, at whatever point, breaks a promise.

Each scenario uses a part of the library as programs do. It is run once with
each fault at each checkpoint, message, start and end of each child, and judged
by the invariants of `Watcher`, by its own assertions, and by whether it ends.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress

import attrs
import pytest
import trio

from supervisors import (
    ActorRef,
    AutoShutdown,
    Backoff,
    Continue,
    DynamicSupervisor,
    OnFull,
    Reply,
    Restart,
    Shutdown,
    Strategy,
    SupervisionError,
    SupervisorSpec,
    actor,
    dynamic_supervisor,
    monitor,
    open_supervisor,
    send_after,
    send_interval,
    supervisor,
)
from supervisors.testing import ALL_KINDS, HangInit, Scenario, check_every_fault
from tests.supervisors.children import Worker, idle, worker

#: Longer than the longest delay that is injected, and shorter than for ever.
PATIENCE = 100.0


@contextmanager
def failing(limit: float = PATIENCE) -> Generator[None]:
    """Bear what a fault leads to: an error, or no answer in time."""
    with suppress(SupervisionError), trio.move_on_after(limit):
        yield


class Slow:
    async def work(self) -> None:
        await trio.sleep(1)

    def later(self) -> Reply[None]:
        return Reply()


async def calls_end_with_their_tree() -> None:
    refs = [ActorRef[Slow](each.name, max_inbox=2, on_full=each) for each in OnFull]
    specs = [actor(ref, Slow) for ref in refs]
    below = supervisor("sub", SupervisorSpec(children=specs[:2], max_restarts=1))
    tree = SupervisorSpec(children=[below, *specs[2:]], max_restarts=1)
    waiting = 0

    async def use(ref: ActorRef[Slow]) -> None:
        nonlocal waiting
        waiting += 1
        with suppress(SupervisionError):
            await ref.call(Slow.work)
            await ref.call(Slow.later)
        waiting -= 1

    async with trio.open_nursery() as nursery:
        with suppress(SupervisionError):
            async with open_supervisor(tree, shutdown_limit=30):
                for ref in refs * 4:
                    nursery.start_soon(use, ref)
                await trio.sleep(2.5)
        end = trio.current_time()
    assert trio.current_time() == end
    assert not waiting


def a_group(strategy: Strategy) -> Scenario:
    async def scenario() -> None:
        (a, one), (b, two) = worker("a"), worker("b", restart=Restart.TRANSIENT)
        three = worker("c", shutdown=Shutdown.BRUTAL_KILL)[1]
        below = SupervisorSpec(children=[one, two, three], strategy=strategy)
        tree = SupervisorSpec(children=[supervisor("sub", below), idle("z")])
        async with open_supervisor(tree):
            for ref in (a, b, a):
                with failing():
                    await ref.call(Worker.note, "x")
            with failing(1):
                await a.call(Worker.promise)
            with failing(1):
                await b.call(Worker.sleep, 2)

    scenario.__qualname__ = f"{strategy.value}_of_two_levels"
    return scenario


async def requests_to_a_supervisor() -> None:
    (a, one), (_, two) = worker("a"), worker("b", restart=Restart.TEMPORARY)
    jobs = DynamicSupervisor("jobs", max_children=2)
    tree = SupervisorSpec(children=[one, two, dynamic_supervisor(jobs)], max_restarts=5)
    async with open_supervisor(tree) as root:
        with failing():
            await root.terminate_child("a")
            await root.restart_child("a")
        with failing():
            await root.terminate_child("b")
        with failing():
            await jobs.start_child(idle("x"))
            await jobs.start_child(idle("x"))
        with failing():
            await jobs.terminate_child("x")
        with failing():
            await a.call(Worker.note, "x")
            await root.which_children()


async def a_cancellation_from_outside() -> None:
    (a, one), (b, two) = worker("a"), worker("b")
    below = supervisor("sub", SupervisorSpec(children=[two]))
    with trio.move_on_after(3):
        async with open_supervisor(SupervisorSpec(children=[one, below])):
            with failing():
                await b.call(Worker.sleep, 1)
            with failing():
                await a.call(Worker.sleep, 10)


async def an_automatic_shutdown() -> None:
    a, one = worker("a", restart=Restart.TRANSIENT, significant=True)
    b, two = worker("b", restart=Restart.TEMPORARY, significant=True)
    below = SupervisorSpec(
        children=[one, two], auto_shutdown=AutoShutdown.ALL_SIGNIFICANT
    )
    sub = supervisor("sub", below, restart=Restart.TRANSIENT)
    async with open_supervisor(SupervisorSpec(children=[idle("z"), sub])):
        for ref in (b, a):
            with failing():
                await ref.call(Worker.crash)
        await trio.sleep(10)


async def restarts_that_wait() -> None:
    (a, one), (b, two) = worker("a"), worker("b")
    slow = attrs.evolve(one, backoff=Backoff(first=1, jitter=0))
    tree = SupervisorSpec(children=[slow, two], strategy=Strategy.ONE_FOR_ALL)
    async with open_supervisor(tree) as root:
        for ref in (a, b, a):
            with failing():
                await ref.call(Worker.note, "x")
        with failing():
            await root.terminate_child("a")
            await root.restart_child("a")


class Stepwise:
    def __init__(self) -> None:
        self.steps = 0

    async def handle_continue(self) -> None:
        await trio.sleep(0.5)
        self.steps += 1

    def go(self) -> Continue[int]:
        return Continue(self.steps, Stepwise.more)

    async def more(self) -> None:
        await trio.sleep(0.5)
        self.steps += 1


async def continuations() -> None:
    ref: ActorRef[Stepwise] = ActorRef("stepwise")
    tree = SupervisorSpec(children=[actor(ref, Stepwise)])
    async with open_supervisor(tree):
        for _ in range(3):
            with failing():
                assert await ref.call(Stepwise.go) >= 1


async def timers_and_monitors() -> None:
    (a, one), (b, two) = worker("a"), worker("b")
    async with open_supervisor(SupervisorSpec(children=[one, two])):
        with suppress(SupervisionError):
            never = send_after(2, a, Worker.note, "never")
            ticks = send_interval(1, b, Worker.note, "tick")
            with monitor(a) as watch, failing(1.5):
                await watch.wait()
            never.cancel()
            await trio.sleep(3)
            ticks.cancel()


SCENARIOS: list[Scenario] = [
    calls_end_with_their_tree,
    *(a_group(strategy) for strategy in Strategy),
    requests_to_a_supervisor,
    a_cancellation_from_outside,
    an_automatic_shutdown,
    restarts_that_wait,
    continuations,
    timers_and_monitors,
]


#: Not a start that hangs: that is for its user to cancel.
KINDS = [kind for kind in ALL_KINDS if kind is not HangInit]


@pytest.mark.parametrize("program", SCENARIOS, ids=lambda each: each.__qualname__)
def test_no_single_fault_breaks_a_promise(program: Scenario) -> None:
    survey = check_every_fault(program, kinds=KINDS, max_steps=20_000)
    assert survey.runs > 30
    assert not survey.ineffective
