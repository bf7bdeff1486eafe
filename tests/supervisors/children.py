"""Children for the tests: an actor that does what it is told, and a bystander."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing

from supervisors import (
    ActorRef,
    ChildSpec,
    Event,
    Exit,
    Reply,
    actor,
    child,
)
from supervisors._process import Process


class Boom(Exception):
    """What actors of the tests crash with."""


@attrs.define
class Worker:
    """An actor that notes what it did."""

    notes: list[Any] = attrs.field(factory=list[Any])
    promises: list[Reply[Any]] = attrs.field(factory=list[Reply[Any]])

    def note(self, value: Any) -> int:
        """Note *value*; return how many notes there are."""
        self.notes.append(value)
        return len(self.notes)

    def crash(self, error: BaseException | None = None) -> None:
        raise error or Boom("secret of the caller")

    async def wait(self, event: trio.Event) -> str:
        await event.wait()
        return "waited"

    async def sleep(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "slept"

    async def crash_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        raise Boom

    async def shielded(self, seconds: float) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)

    def promise(self) -> Reply[Any]:
        self.promises.append(Reply())
        return self.promises[-1]

    def keep(self, value: Any) -> int:
        """Answer the oldest promise; return how many are left."""
        self.promises.pop(0).send(value)
        return len(self.promises)


def worker(name: str, **options: Any) -> tuple[ActorRef[Worker], ChildSpec]:
    """Return an actor's ref, and its spec with *options*."""
    ref: ActorRef[Worker] = ActorRef(name)
    return ref, attrs.evolve(actor(ref, Worker), **options)


def logged(
    id_: str,
    log: list[str],
    *,
    stop_takes: float = 0,
    on_stop: Callable[[], object] = lambda: None,
    **options: Any,
) -> ChildSpec:
    """Return an actor that logs its start and end, and takes its time to stop."""

    @asynccontextmanager
    async def living() -> AsyncGenerator[Worker]:
        log.append(f"+{id_}")
        try:
            yield Worker()
            await trio.sleep(stop_takes)
            on_stop()
        finally:
            log.append(f"-{id_}")

    ref: ActorRef[Worker] = ActorRef(id_)
    return attrs.evolve(actor(ref, living), **options)


def idle(id_: str, **options: Any) -> ChildSpec:
    """Return a child that sleeps until it is cancelled."""
    return attrs.evolve(child(id_, trio.sleep_forever), **options)


def stubborn(id_: str, until: trio.Event, **options: Any) -> ChildSpec:
    """Return a child that ignores its cancellation until *until* is set.

    Or for so long that a test which fails before that does not hang.
    """

    async def ignore_all() -> None:
        with trio.move_on_after(10_000, shield=True):
            await until.wait()

    return attrs.evolve(child(id_, ignore_all), **options)


def failing(id_: str, *inits: BaseException | None, **options: Any) -> ChildSpec:
    """Return a child whose starts raise these in turn; None starts. The last repeats."""
    left = list(inits)

    async def body(process: Process) -> None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error
        process.started()
        await trio.sleep_forever()

    return ChildSpec(id=id_, body=body, **options)


def ends(events: list[Event], kind: type[Any]) -> list[tuple[str, Exit]]:
    """Return path and exit of all events of that kind."""
    return [(event.path, event.exit) for event in events if isinstance(event, kind)]


async def settled() -> None:
    """Wait until nobody has anything to do."""
    await trio.testing.wait_all_tasks_blocked()
