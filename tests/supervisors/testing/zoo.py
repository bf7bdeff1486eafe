"""A zoo of broken programs, each with a healthy twin: what a search must find.

Every animal is a bug as users write it, in a scenario that asserts what the
program promises. `python -m tests.supervisors.testing.zoo` shows what it takes
to find each of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import attrs
import trio

from supervisors import (
    ActorRef,
    CallError,
    Reply,
    SupervisionError,
    SupervisorSpec,
    actor,
    child,
    open_supervisor,
)
from supervisors.testing import (
    DEFAULT_KINDS,
    DuplicateCast,
    FaultKind,
    Finding,
    Scenario,
    find_fault,
)

Program = Callable[..., Awaitable[None]]


@attrs.frozen(kw_only=True)
class Animal:
    """A program that is *healthy* or not, and the faults it promises to bear."""

    program: Program
    kinds: Sequence[FaultKind] = DEFAULT_KINDS

    @property
    def name(self) -> str:
        return self.program.__name__

    def scenario(self, *, healthy: bool) -> Scenario:
        return partial(self.program, healthy=healthy)

    def hunt(self, *, healthy: bool = False, seed: int = 0) -> Finding | None:
        scenario = self.scenario(healthy=healthy)
        return find_fault(scenario, kinds=self.kinds, max_steps=2000, seed=seed)


ANIMALS = list[Animal]()


def animal(kinds: Sequence[FaultKind] = DEFAULT_KINDS) -> Callable[[Program], Program]:
    def add(program: Program) -> Program:
        ANIMALS.append(Animal(program=program, kinds=kinds))
        return program

    return add


@attrs.define
class Store:
    """Keeps numbers; they survive a crash, for they are not the actor's own."""

    numbers: dict[str, int]

    def get(self, key: str) -> int:
        return self.numbers.get(key, 0)

    def put(self, key: str, number: int) -> None:
        self.numbers[key] = number

    def add(self, key: str, number: int) -> None:
        self.numbers[key] = self.get(key) + number


@attrs.define
class Alone:
    """Something that there must be only one of at a time."""

    inside: int = 0
    most: int = 0

    @contextmanager
    def enter(self) -> Generator[None]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            self.inside -= 1


# The reply that is forgotten on the way of an exception.


@attrs.define
class Cache:
    """Asks the store in the background, to be there for others meanwhile."""

    store: ActorRef[Store]
    nursery: trio.Nursery
    healthy: bool

    def get(self, key: str) -> Reply[int]:
        reply: Reply[int] = Reply()
        self.nursery.start_soon(self._fetch, key, reply)
        return reply

    async def _fetch(self, key: str, reply: Reply[int]) -> None:
        try:
            value = await self.store.call(Store.get, key)
        except CallError as error:
            if self.healthy:
                reply.fail(error)
        else:
            reply.send(value)


@asynccontextmanager
async def open_cache(store: ActorRef[Store], healthy: bool) -> AsyncGenerator[Cache]:
    async with trio.open_nursery() as nursery:
        yield Cache(store, nursery, healthy)
        nursery.cancel_scope.cancel()


@animal()
async def lost_reply(*, healthy: bool) -> None:
    store: ActorRef[Store] = ActorRef("store")
    cache: ActorRef[Cache] = ActorRef("cache")
    children = [actor(store, Store, {}), actor(cache, open_cache, store, healthy)]
    async with open_supervisor(SupervisorSpec(children=children, max_restarts=10)):
        for key in ("a", "b"):
            with suppress(CallError), trio.fail_after(300):
                await cache.call(Cache.get, key)


# The event that is made after somebody has set the one before it.


@attrs.define
class Letterbox:
    letters: list[str] = attrs.field(factory=list[str])
    arrived: trio.Event = attrs.field(factory=trio.Event)

    def put(self, letter: str) -> None:
        self.letters.append(letter)
        self.arrived.set()

    async def take(self, *, healthy: bool) -> str:
        while not self.letters:
            if not healthy:
                await trio.lowlevel.checkpoint()  # "be fair to the others"
            self.arrived = trio.Event()
            await self.arrived.wait()
        return self.letters.pop()


@animal()
async def lost_wakeup(*, healthy: bool) -> None:
    box, got = Letterbox(), trio.Event()

    async def read() -> None:
        await box.take(healthy=healthy)
        got.set()
        await trio.sleep_forever()

    async def write() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        box.put("hello")
        await trio.sleep_forever()

    children = [child("reader", read), child("writer", write)]
    async with open_supervisor(SupervisorSpec(children=children)):
        with trio.fail_after(300):
            await got.wait()


# The actor that has a supervisor, and a friend who restarts it as well.


@attrs.define
class Engine:
    def ping(self) -> None:
        pass


@asynccontextmanager
async def open_engine(room: Alone) -> AsyncGenerator[Engine]:
    with room.enter():
        yield Engine()


@animal()
async def double_restart(*, healthy: bool) -> None:
    room = Alone()
    engine: ActorRef[Engine] = ActorRef("engine")

    async def guard() -> None:
        while True:
            try:
                await engine.call(Engine.ping)
            except CallError:
                if not healthy:
                    async with open_engine(room):  # "it died: I take over"
                        await trio.sleep(1)
            await trio.sleep(1)

    children = [actor(engine, open_engine, room), child("guard", guard)]
    async with open_supervisor(SupervisorSpec(children=children, max_restarts=10)):
        await trio.sleep(5)
    assert room.most <= 1


# The request that is made again, at once and for ever.


@animal()
async def unbounded_retry(*, healthy: bool) -> None:
    store: ActorRef[Store] = ActorRef("store")

    async def ask() -> None:
        await trio.sleep(1)
        for _ in range(3 if healthy else 10**9):
            try:
                await store.call(Store.get, "a")
            except CallError:
                await trio.lowlevel.checkpoint()
            else:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with suppress(SupervisionError):
            spec = SupervisorSpec(children=[actor(store, Store, {})], max_restarts=1)
            async with open_supervisor(spec):
                await trio.sleep(200)


# The keeper who starts the next one while the last one still tidies up.


@animal()
async def early_restart(*, healthy: bool) -> None:
    room = Alone()
    source: ActorRef[Store] = ActorRef("source")

    async def work(
        scope: trio.CancelScope, beat: trio.Event, ended: trio.Event
    ) -> None:
        with scope, room.enter(), suppress(CallError):
            try:
                await source.call(Store.get, "a")
                beat.set()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)  # tidies up
        ended.set()

    async def keep() -> None:
        async with trio.open_nursery() as nursery:
            while True:
                scope, beat, ended = trio.CancelScope(), trio.Event(), trio.Event()
                nursery.start_soon(work, scope, beat, ended)
                with trio.move_on_after(5):
                    await beat.wait()
                if beat.is_set():
                    await ended.wait()
                scope.cancel()  # "it hangs: here comes the next one"
                if healthy:
                    await ended.wait()

    children = [actor(source, Store, {}), child("keeper", keep)]
    async with open_supervisor(SupervisorSpec(children=children, max_restarts=10)):
        await trio.sleep(100)
    assert room.most <= 1


# The stop that comes while the start still waits, and finds nothing to stop.


@attrs.define
class Line:
    """A connection that can be opened and closed by different tasks."""

    healthy: bool
    is_open: bool = False
    is_closed: bool = False

    async def open(self) -> None:
        await trio.sleep(1)  # connects
        if not (self.healthy and self.is_closed):
            self.is_open = True

    def close(self) -> None:
        self.is_closed = True
        self.is_open = False


@animal()
async def stop_during_start(*, healthy: bool) -> None:
    line = Line(healthy)

    async def opener() -> None:
        await line.open()
        await trio.sleep_forever()

    async def closer() -> None:
        await trio.sleep(1.5)
        line.close()
        await trio.sleep_forever()

    children = [child("opener", opener), child("closer", closer)]
    async with open_supervisor(SupervisorSpec(children=children)):
        await trio.sleep(300)
    assert not line.is_open


# The permit that is not given back if the holder is cancelled too early.


@animal()
async def leaked_permit(*, healthy: bool) -> None:
    permits = trio.Semaphore(1)

    async def work() -> None:
        while True:
            await permits.acquire()
            if not healthy:
                await trio.sleep(0.1)  # looks up where to connect to
            try:
                await trio.sleep(1)
            finally:
                permits.release()
            await trio.sleep(1)

    async with open_supervisor(SupervisorSpec(children=[child("worker", work)])):
        await trio.sleep(5)
    assert permits.value == 1


# The update that is lost between reading and writing.


@animal()
async def lost_update(*, healthy: bool) -> None:
    numbers, done = dict[str, int](), 0
    store: ActorRef[Store] = ActorRef("store")

    async def deposit(begin: float) -> None:
        nonlocal done
        await trio.sleep(begin)
        while True:
            if healthy:
                await store.call(Store.add, "balance", 1)
            else:
                balance = await store.call(Store.get, "balance")
                await store.call(Store.put, "balance", balance + 1)
            done += 1
            await trio.sleep(4)

    children = [
        actor(store, Store, numbers),
        child("alice", deposit, 0),
        child("bob", deposit, 2),
    ]
    async with open_supervisor(SupervisorSpec(children=children, max_restarts=10)):
        await trio.sleep(9)
    assert numbers.get("balance", 0) >= done


# The message that does it again when it comes again.


@attrs.define
class Account:
    healthy: bool
    payments: list[str]
    """What has been paid; survives a crash."""

    def pay(self, bill: str) -> None:
        if not (self.healthy and bill in self.payments):
            self.payments.append(bill)


@animal(kinds=(*DEFAULT_KINDS, DuplicateCast))
async def paid_twice(*, healthy: bool) -> None:
    payments = list[str]()
    account: ActorRef[Account] = ActorRef("account")
    tree = SupervisorSpec(children=[actor(account, Account, healthy, payments)])
    async with open_supervisor(tree):
        for bill in ("rent", "water"):
            account.cast(Account.pay, bill)
        await trio.sleep(1)
    assert len(payments) == len(set(payments))


def table() -> Generator[str]:
    """Yield a line for each animal: what it takes to find it."""
    yield f"{'animal':17} {'runs':>4} {'s':>5}  faults, schedule"
    for each in ANIMALS:
        begin = time.perf_counter()
        found = each.hunt()
        took = time.perf_counter() - begin
        if found is None:
            yield f"{each.name:17} {'-':>4} {took:5.2f}  not found"
        else:
            what = f"{found.plan!r}, {found.schedule!r}"
            yield f"{each.name:17} {found.runs:4} {took:5.2f}  {what}"


if __name__ == "__main__":
    for line in table():
        print(line)
