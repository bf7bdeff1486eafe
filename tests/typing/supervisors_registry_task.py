"""What type checkers must infer of registries, partitions and tasks, and refuse.

Not run, but checked: mypy with ``warn_unused_ignores`` says if a line that must
be an error has become none, and so does pyright with the line below.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, assert_type

from outcome import Error, Value

from supervisors import (
    ActorRef,
    Change,
    ChildSpec,
    Dispatched,
    Entry,
    Keys,
    PartitionSupervisor,
    Registry,
    Task,
    TaskStream,
    TaskSupervisor,
    actor,
    partition_supervisor,
    registered,
    task_supervisor,
)


class Room:
    """An actor that is found by its name."""

    def __init__(self, topic: str = "") -> None:
        self.topic = topic

    def say(self, words: str, *, loud: bool = False) -> int:
        """Answer at once."""
        return len(words) + loud


class Manager:
    """An actor that listens to a registry."""

    def changed(self, change: Change[str, Room], reason: int = 0) -> None:
        """Take note of a change."""


@asynccontextmanager
async def living(topic: str) -> AsyncGenerator[Room]:
    """Make a room with a cleanup."""
    yield Room(topic)


async def lookups(rooms: Registry[str, Room], ref: ActorRef[Room]) -> None:
    """What is found has the type of what is registered."""
    rooms.register("lobby", ref, value={"size": 3})
    assert_type(rooms["lobby"], ActorRef[Room])
    assert_type(rooms.whereis("lobby"), ActorRef[Room] | None)
    assert_type(rooms.lookup("lobby"), tuple[Entry[str, Room], ...])
    assert_type(rooms.lookup("lobby")[0].ref, ActorRef[Room])
    assert_type(await rooms["lobby"].call(Room.say, "hello"), int)
    assert_type(await rooms.wait_for("lobby"), ActorRef[Room])
    assert_type(rooms.keys(ref), tuple[str, ...])
    sent = rooms.dispatch("lobby", Room.say, "hello", loud=True)
    assert_type(sent, Dispatched[Room])
    rooms.update_value("lobby", ref, lambda value: value)
    plain: Registry[int, Room] = Registry("rooms", keys=Keys.DUPLICATE)
    assert_type(plain.keys(ref), tuple[int, ...])


async def wrong_names(
    rooms: Registry[str, Room], ref: ActorRef[Room], manager: ActorRef[Manager]
) -> None:
    """Keys, refs and messages are checked."""
    rooms.register(1, ref)  # type: ignore[arg-type] # a key is a str
    rooms.register("lobby", manager)  # type: ignore[arg-type] # a manager is no room
    rooms.lookup(1)  # type: ignore[arg-type] # a key is a str
    rooms.dispatch("lobby", Room.say)  # type: ignore[call-arg] # words are missing
    rooms.dispatch("lobby", Room.say, 1)  # type: ignore[arg-type] # words are a str
    rooms.dispatch("lobby", Manager.changed)  # type: ignore[arg-type, call-arg] # another class's
    whereis = rooms.whereis("lobby")
    await whereis.call(Room.say, "hello")  # type: ignore[union-attr] # it may be None


def listeners(rooms: Registry[str, Room], manager: ActorRef[Manager]) -> None:
    """A listener takes the changes of that registry."""
    rooms.listen(lambda change: assert_type(change, Change[str, Room]))
    rooms.tell(manager, Manager.changed)
    rooms.tell(manager, Manager.changed, reason=3)
    rooms.tell(manager, Manager.changed, "no number")  # type: ignore[arg-type] # an int is asked for
    rooms.tell(manager, Room.say)  # type: ignore[arg-type, misc] # another class's


def named(rooms: Registry[str, Room], ref: ActorRef[Room]) -> None:
    """The arguments of a named actor are checked against its factory."""
    assert_type(registered(rooms, "lobby", ref, Room, "weather"), ChildSpec)
    assert_type(registered(rooms, "lobby", ref, living, topic="weather"), ChildSpec)
    registered(rooms, 1, ref, Room)  # type: ignore[call-overload] # a key is a str
    registered(rooms, "lobby", ref, Room, 1)  # type: ignore[call-overload] # a topic is a str
    registered(rooms, "lobby", ref, Manager)  # type: ignore[call-overload] # another class


async def partitions() -> None:
    """A copy has the type that the handle says."""
    rooms: PartitionSupervisor[Room] = PartitionSupervisor(
        "rooms", lambda ref: actor(ref, Room, "weather"), partitions=4
    )
    assert_type(rooms.ref("user 17"), ActorRef[Room])
    assert_type(rooms.ref(("user", 17)), ActorRef[Room])
    assert_type(rooms.refs, tuple[ActorRef[Room], ...])
    assert_type([ref for ref in rooms], list[ActorRef[Room]])  # noqa: C416 - what iteration gives
    assert_type(partition_supervisor(rooms), ChildSpec)
    rooms.ref(1.5)  # type: ignore[arg-type] # it has no bytes of its own
    rooms.ref(None)  # type: ignore[arg-type] # nor has None
    PartitionSupervisor[Room]("rooms", lambda ref: actor(ref, Manager), partitions=4)  # type: ignore[call-overload] # another class


async def fetch(url: str, tries: int = 1) -> bytes:
    """Do what takes long."""
    return url.encode() * tries


async def urls() -> AsyncIterator[str]:
    """Say where."""
    yield "http://localhost"


def not_async(url: str) -> bytes:
    """Do what does not wait."""
    return url.encode()


async def tasks(supervisor: TaskSupervisor) -> None:
    """The result of a task has the type of the function's."""
    task = await supervisor.async_nolink(fetch, "http://localhost", tries=2)
    assert_type(task, Task[bytes])
    assert_type(await task.wait(), bytes)
    assert_type(task.outcome, Value[bytes] | Error)
    assert_type(await supervisor.start_child(fetch, "http://localhost"), str)
    assert_type(task_supervisor(supervisor), ChildSpec)
    await supervisor.async_nolink(fetch)  # type: ignore[call-arg] # where from?
    await supervisor.async_nolink(fetch, 1)  # type: ignore[arg-type] # an int is no url
    await supervisor.async_nolink(not_async, "x")  # type: ignore[arg-type] # it is not async


async def streams(supervisor: TaskSupervisor, some: list[str]) -> None:
    """An outcome has the type of the function's result."""
    async with supervisor.async_stream(fetch, some, max_concurrency=4) as pages:
        assert_type(pages, TaskStream[bytes])
        async for page in pages:
            assert_type(page, Value[bytes] | Error)
            assert_type(page.unwrap(), bytes)
    supervisor.async_stream(fetch, urls(), max_concurrency=4, timeout=3)
    supervisor.async_stream(fetch, some)  # type: ignore[call-arg] # a bound is missing
    supervisor.async_stream(fetch, [1, 2], max_concurrency=4)  # type: ignore[arg-type] # ints are no urls
    supervisor.async_stream(not_async, some, max_concurrency=4)  # type: ignore[arg-type] # it is not async


def values(entry: Entry[str, Room]) -> Any:
    """A value is whatever the actor has left."""
    assert_type(entry.key, str)
    return entry.value
