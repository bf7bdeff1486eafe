"""What type checkers must infer of calls and specs, and what they must refuse.

Not run, but checked: mypy with ``warn_unused_ignores`` says if a line that must
be an error has become none, and so does pyright with the line below.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import assert_type

import trio

from supervisors import (
    ActorRef,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Node,
    Reply,
    StartFailed,
    Supervisor,
    SupervisorSpec,
    actor,
    child,
    open_supervisor,
    supervise,
    supervisor,
)


class Permit:
    """What a breaker hands out."""


class Breaker:
    """An actor with every kind of handler."""

    def __init__(self, provider: str, *, threshold: int = 5) -> None:
        self.provider = provider
        self.threshold = threshold

    def admit(self) -> Permit | None:
        """Answer at once."""
        return None

    def settle(self, permit: Permit, *, ok: bool) -> None:
        """Answer nothing."""

    async def probe(self, tries: int = 1) -> list[str]:
        """Answer after waiting."""
        return [self.provider] * tries

    def take(self) -> Reply[bytes]:
        """Answer later."""
        return Reply()


class Loud(Breaker):
    """A subclass may stand in for its base."""


class Other:
    """Not a breaker."""

    def work(self) -> int:
        """Answer at once."""
        return 1


@asynccontextmanager
async def living(provider: str) -> AsyncGenerator[Breaker]:
    """Make an actor with a cleanup."""
    yield Breaker(provider)


async def answers(ref: ActorRef[Breaker], permit: Permit) -> None:
    """The answer of a call has the type of the handler's."""
    assert_type(await ref.call(Breaker.admit), Permit | None)
    assert_type(await ref.call(Breaker.settle, permit, ok=True), None)
    assert_type(await ref.call(Breaker.probe), list[str])
    assert_type(await ref.call(Breaker.probe, tries=2), list[str])
    assert_type(await ref.call(Breaker.take), bytes)
    admitted = ref.send_request(Breaker.admit)
    assert_type(admitted.unwrap(), Permit | None)
    taken = ref.send_request(Breaker.take)
    assert_type(taken.unwrap(), bytes)
    assert_type(ref.cast(Breaker.settle, permit, ok=False), None)
    assert_type(ref.depth, int)


async def mistakes(ref: ActorRef[Breaker], permit: Permit | None) -> None:
    """Whatever an ordinary call would refuse is refused."""
    await ref.call(Breaker.settle, "permit", ok=True)  # type: ignore[arg-type] # a str is no permit
    await ref.call(Breaker.settle, Permit())  # type: ignore[call-overload] # ok is missing
    await ref.call(Breaker.admit, 1)  # type: ignore[call-overload] # it takes nothing
    await ref.call(Breaker.probe, trys=2)  # type: ignore[call-overload] # no such name
    await ref.call(Other.work)  # type: ignore[call-overload] # another class's
    ref.cast(Breaker.settle, permit, ok=True)  # type: ignore[arg-type] # it may be None
    ref.cast(Other.work)  # type: ignore[arg-type] # another class's
    answer: int = await ref.call(Breaker.probe)  # type: ignore[call-overload] # a list of str
    del answer


def specs(ref: ActorRef[Breaker]) -> SupervisorSpec:
    """An actor's arguments are checked against its factory."""
    good = [
        actor(ref, Breaker, "openai"),
        actor(ref, Breaker, "openai", threshold=3),
        actor(ref, Loud, "openai"),
        actor(ref, living, "openai"),
        child("sleeper", trio.sleep, 3),
        supervisor("low", SupervisorSpec()),
    ]
    assert_type(good[0], ChildSpec)
    actor(ref, Breaker)  # type: ignore[call-overload] # provider is missing
    actor(ref, Breaker, 1)  # type: ignore[call-overload] # an int is no str
    actor(ref, Other)  # type: ignore[call-overload] # another class
    child("sleeper", trio.sleep)  # type: ignore[call-arg] # seconds are missing
    child("sleeper", print)  # type: ignore[arg-type] # not an async function
    return SupervisorSpec(children=good)


async def trees(spec: SupervisorSpec, dynamic: DynamicSupervisor) -> None:
    """Handles, and what they return."""
    async with open_supervisor(spec) as root:
        assert_type(root, Supervisor)
        assert_type(root.inspect(), Node)
        assert_type(await root.start_child(spec.children[0]), bool)
        assert_type(await dynamic.start_child(spec.children[0]), str | None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dynamic.terminate_child, "a")
        await nursery.start(supervise, spec)


def errors(failed: StartFailed) -> None:
    """An error carries its data."""
    assert_type(failed.child, str)
    assert_type(failed.exit, Exit)
