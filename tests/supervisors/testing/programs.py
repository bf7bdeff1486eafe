"""Programs to simulate: one that depends on its order, and some that never end."""

from __future__ import annotations

import trio

from supervisors import (
    ActorDied,
    ActorRef,
    ActorStopped,
    SupervisorSpec,
    actor,
    child,
    open_supervisor,
)
from supervisors.testing import current_random, record


async def take_turns(tasks: int = 5, turns: int = 4) -> list[int]:
    """Return which task ran when."""
    seen = list[int]()

    async def run(number: int) -> None:
        for _ in range(turns):
            seen.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            nursery.start_soon(run, number)
    return seen


async def increment_without_lock() -> int:
    """Lose an update, if two tasks come between each other's read and write."""
    total = 0

    async def increment(waits: int) -> None:
        nonlocal total
        for _ in range(waits):
            await trio.lowlevel.checkpoint()
        read = total
        await trio.lowlevel.checkpoint()
        total = read + 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(increment, 1)
        nursery.start_soon(increment, 2)
    assert total == 2, "a lost update"
    return total


class Counter:
    """An actor that may crash."""

    def __init__(self) -> None:
        self.total = 0

    async def add(self, number: int) -> int:
        await trio.sleep(current_random().uniform(0, 0.01))
        if current_random().random() < 0.1:
            raise ValueError(number)
        self.total += number
        return self.total


async def busy_tree() -> list[tuple[int, int]]:
    """Use a tree as tests do: calls, crashes, restarts, timeouts, and a set of tasks."""
    counter: ActorRef[Counter] = ActorRef("counter")
    answers = list[tuple[int, int]]()

    async def ask(number: int) -> None:
        for _ in range(5):
            with trio.move_on_after(0.05):
                try:
                    answers.append((number, await counter.call(Counter.add, number)))
                except (ActorDied, ActorStopped):
                    answers.append((number, -1))

    spec = SupervisorSpec(
        children=[actor(counter, Counter), child("bystander", trio.sleep_forever)],
        max_restarts=1000,
    )
    async with (
        open_supervisor(spec, on_event=record),
        trio.open_nursery() as askers,
    ):
        for number in {f"ask{n}": n for n in range(8)}.values():
            askers.start_soon(ask, number)
    return answers


async def wait_for_ever() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="the sleeper")
        await trio.Event().wait()


async def wait_for_ever_shielded() -> None:
    with trio.CancelScope(shield=True):
        await trio.Event().wait()


async def go_round() -> None:
    while True:
        await trio.lowlevel.checkpoint()


async def go_round_shielded() -> None:
    with trio.CancelScope(shield=True):
        await go_round()
