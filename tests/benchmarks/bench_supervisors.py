"""What supervision costs: each figure beside bare trio's, in the same run.

    python -m tests.benchmarks.bench_supervisors [CHILDREN...]

CHILDREN: how many are started at a time, for the figures of mass starts
(default: 10000).

Figures are of one core, the best of some rounds where they are a rate. Bare
trio has no inbox that outlives a crash, no restart policy, no order of stopping:
it is what the same traffic costs without any of that.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import psutil
import trio

from supervisors import (
    ActorRef,
    ChildSpec,
    DynamicSupervisor,
    Supervisor,
    SupervisorSpec,
    actor,
    dynamic_supervisor,
    open_supervisor,
)

ROUNDS = 5
CALLS = 20_000
CASTS = 100_000
RESTARTS = 1_000
CHILDREN = [10_000]


@attrs.define
class Counter:
    """The actor of all figures."""

    count: int = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def crash(self) -> None:
        raise ValueError


@attrs.frozen
class Figure:
    """A row of the table."""

    name: str
    unit: str
    ours: float
    bare: float

    def __str__(self) -> str:
        return (
            f"{self.name:<28}{self.ours:>12,.1f}{self.bare:>12,.1f}  {self.unit:<10}"
            f"{self.ours / self.bare:>6.2f}"
        )


async def best(rate: Callable[[], Awaitable[float]]) -> float:
    """Return the highest of some measured rates."""
    return max([await rate() for _ in range(ROUNDS)])


# Calls.


async def calls_ours(ref: ActorRef[Counter]) -> float:
    """Calls a second, one after the other."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await ref.call(Counter.add)
    return CALLS / (time.perf_counter() - began)


async def calls_bare() -> float:
    """The same over a memory channel, with the asker's task woken by hand."""
    send, receive = trio.open_memory_channel[trio.lowlevel.Task](1000)
    count = 0

    async def serve() -> None:
        nonlocal count
        while True:
            asker = await receive.receive()
            count += 1
            trio.lowlevel.reschedule(asker)

    def cannot_abort(_: Any) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.FAILED

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        began = time.perf_counter()
        for _ in range(CALLS):
            send.send_nowait(trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(cannot_abort)
        took = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return CALLS / took


# Casts.


async def casts_ours(ref: ActorRef[Counter]) -> float:
    """Casts a second, handled."""
    began = time.perf_counter()
    for _ in range(CASTS):
        ref.cast(Counter.add)
    await ref.call(Counter.add)
    return CASTS / (time.perf_counter() - began)


async def casts_bare() -> float:
    """The same over a memory channel, read with ``receive_nowait``."""
    send, receive = trio.open_memory_channel[int](CASTS)
    began = time.perf_counter()
    for number in range(CASTS):
        send.send_nowait(number)
    count = 0
    while count < CASTS:
        receive.receive_nowait()
        count += 1
    await trio.lowlevel.checkpoint()
    return CASTS / (time.perf_counter() - began)


# Restarts.


async def restart_ours(ref: ActorRef[Counter]) -> float:
    """Median µs from a crash to the first answer of the next incarnation."""
    times = list[float]()
    for _ in range(RESTARTS):
        began = time.perf_counter()
        ref.cast(Counter.crash)
        await ref.call(Counter.add)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


async def restart_bare() -> float:
    """Median µs to start a task, have it raise, and catch that at its nursery."""
    times = list[float]()

    crash = trio.Event()

    async def serve(up: trio.Event) -> None:
        up.set()
        await crash.wait()
        raise ValueError

    for _ in range(RESTARTS):
        up, crash = trio.Event(), trio.Event()
        began = time.perf_counter()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, up)
                await up.wait()
                crash.set()
        except* ValueError:
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


# Many children.


async def children_ours(dynamic: DynamicSupervisor, count: int) -> float:
    """Seconds to start many children; they are running then."""
    specs = [_child(number) for number in range(count)]
    began = time.perf_counter()
    for spec in specs:
        await dynamic.start_child(spec)
    return time.perf_counter() - began


def _child(number: int) -> ChildSpec:
    return actor(ActorRef[Counter](f"c{number}"), Counter)


async def children_bare(nursery: trio.Nursery, count: int) -> float:
    """Seconds to start as many tasks, each up before the next."""

    async def idle(up: trio.Event) -> None:
        up.set()
        await trio.sleep_forever()

    began = time.perf_counter()
    for _ in range(count):
        up = trio.Event()
        nursery.start_soon(idle, up)
        await up.wait()
    return time.perf_counter() - began


async def memory_of(
    start: Callable[[int], Awaitable[float]], count: int
) -> tuple[float, float]:
    """Return the seconds to start *count*, and the bytes that each child keeps."""
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    seconds = await start(count)
    gc.collect()
    return seconds, (process.memory_info().rss - before) / count


async def measure(children: list[int]) -> list[Figure]:
    """Take all figures."""
    figures = list[Figure]()
    for count in children:
        # Memory first: later figures leave free memory that would be used again.
        figures += await measure_children(count)
    ref: ActorRef[Counter] = ActorRef("counter", max_inbox=CASTS + 1)
    tree = SupervisorSpec(children=[actor(ref, Counter)], max_restarts=10**9)
    async with open_supervisor(tree):
        figures += [
            Figure(
                "calls",
                "1000/s",
                await best(partial(calls_ours, ref)) / 1000,
                await best(calls_bare) / 1000,
            ),
            Figure(
                "casts",
                "1000/s",
                await best(partial(casts_ours, ref)) / 1000,
                await best(casts_bare) / 1000,
            ),
            Figure(
                "restart, median",
                "µs",
                await restart_ours(ref),
                await restart_bare(),
            ),
        ]
    return figures


async def measure_children(count: int) -> list[Figure]:
    """Start *count* idle children, ours and bare tasks."""
    dynamic = DynamicSupervisor("many")
    tree = SupervisorSpec(children=[dynamic_supervisor(dynamic)])
    async with open_supervisor(tree) as root, trio.open_nursery() as nursery:
        bare = await memory_of(partial(children_bare, nursery), count)
        ours = await memory_of(partial(children_ours, dynamic), count)
        nursery.cancel_scope.cancel()
        await _stop_many(root)
    return [
        Figure(f"{count:,} children", "s", ours[0], bare[0]),
        Figure("idle child", "bytes", ours[1], bare[1]),
    ]


async def _stop_many(root: Supervisor) -> None:
    with trio.CancelScope(shield=True):
        await root.terminate_child("many")


def main() -> int:
    """Print the table."""
    print(f"{'':<28}{'ours':>12}{'bare trio':>12}  {'unit':<10}{'ratio':>6}")
    children = [int(count) for count in sys.argv[1:]] or CHILDREN
    for figure in trio.run(measure, children):
        print(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
