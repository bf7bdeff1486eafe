"""What an actor does before its next message: after init, or after an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    ChildTerminated,
    Continue,
    Crashed,
    Event,
    Reply,
    RestartIntensityReached,
    SupervisorSpec,
    actor,
    open_supervisor,
)
from tests.supervisors.children import Boom, ends, settled


@attrs.define
class Store:
    """An actor that writes down later what it was told."""

    log: list[Any] = attrs.field(factory=list[Any])

    def put(self, item: Any) -> Continue[str]:
        """Answer, then flush."""
        self.log.append(item)
        return Continue("put", Store.flush, item)

    def put_slowly(self, item: Any) -> Continue[str]:
        """Answer, then flush, which takes a while."""
        self.log.append(item)
        return Continue("put", Store.flush_slowly, item)

    async def wait_and_put(self, item: Any) -> Continue[str]:
        """Take a while, answer, then flush."""
        await trio.sleep(1)
        return self.put(item)

    async def wait_and_put_slowly(self, item: Any) -> Continue[str]:
        """Take a while, answer, then flush, which takes a while."""
        await trio.sleep(1)
        return self.put_slowly(item)

    def flush(self, item: Any) -> None:
        self.log.append(f"flushed {item}")

    async def flush_slowly(self, item: Any, *, seconds: float = 3) -> None:
        await trio.sleep(seconds)
        self.flush(item)

    def crash_later(self) -> Continue[str]:
        return Continue("answered", Store.crash)

    def crash(self) -> None:
        raise Boom

    def add(self, item: Any) -> None:
        self.log.append(item)


def store(factory: Any = Store) -> tuple[ActorRef[Store], SupervisorSpec]:
    """Return the actor, and a tree with nothing else."""
    ref: ActorRef[Store] = ActorRef("a")
    return ref, SupervisorSpec(children=[actor(ref, factory)])


async def log_of(ref: ActorRef[Store]) -> list[Any]:
    """Return the log, after all that waits."""
    return await ref.call(lambda this: list(this.log))


# After an answer.

PUTS = [Store.put, Store.put_slowly, Store.wait_and_put, Store.wait_and_put_slowly]


@pytest.mark.parametrize("put", PUTS)
async def test_an_actor_goes_on_before_its_next_message(
    autojump_clock: MockClock, put: Any
) -> None:
    ref, tree = store()
    async with open_supervisor(tree):
        for n in (1, 2):
            ref.cast(put, n)
        ref.ahead.cast(Store.add, "ahead")
        assert await ref.call(put, 3) == "put"
        assert await log_of(ref) == [
            "ahead",
            *[1, "flushed 1"],
            *[2, "flushed 2"],
            *[3, "flushed 3"],
        ]


@pytest.mark.parametrize("put", PUTS)
async def test_the_caller_is_answered_before_the_actor_goes_on(
    autojump_clock: MockClock, put: Any
) -> None:
    ref, tree = store()
    answered_after = 1 if put in PUTS[2:] else 0
    async with open_supervisor(tree):
        reply = ref.send_request(put, 1)
        assert await reply == "put"
        assert trio.current_time() == pytest.approx(answered_after)


@pytest.mark.parametrize("put", PUTS)
async def test_what_is_ahead_comes_after_what_the_actor_goes_on_with(
    autojump_clock: MockClock, put: Any
) -> None:
    ref, tree = store()
    async with open_supervisor(tree):
        await ref.call(put, 1)
        await ref.ahead.call(Store.add, "ahead")
        assert await log_of(ref) == [1, "flushed 1", "ahead"]


async def test_a_crash_after_the_answer_does_not_take_it_back(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, tree = store()
    async with open_supervisor(tree, on_event=events.append):
        assert await ref.call(Store.crash_later) == "answered"
        ref.cast(Store.add, "kept")
        assert await log_of(ref) == ["kept"]
    ((path, exit_),) = ends(events, ChildTerminated)
    assert path == "a"
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, Boom)


async def test_a_crash_from_outside_breaks_off_what_the_actor_goes_on_with(
    autojump_clock: MockClock,
) -> None:
    ref, tree = store()
    async with open_supervisor(tree) as root:
        assert await ref.call(Store.put_slowly, 1) == "put"
        await settled()
        root.crash_child("a", Boom())
        assert await log_of(ref) == []
    assert trio.current_time() == 0


async def test_a_polite_stop_lets_it_be_finished(autojump_clock: MockClock) -> None:
    ref, tree = store()
    logs = list[list[Any]]()
    async with open_supervisor(tree) as root:
        logs.append((await ref.get_state()).log)
        assert await ref.call(Store.wait_and_put_slowly, 1) == "put"
        await root.terminate_child("a")
        assert trio.current_time() == pytest.approx(4)
    assert logs == [[1, "flushed 1"]]


async def test_what_the_actor_goes_on_with_may_go_on(autojump_clock: MockClock) -> None:
    def count_down(this: Store, left: int) -> Continue[int] | None:
        this.log.append(left)
        return Continue(-1, count_down, left - 1) if left else None

    async def wait_and_count_down(this: Store, left: int) -> Continue[int] | None:
        await trio.sleep(1)
        this.log.append(left)
        return Continue(-1, wait_and_count_down, left - 1) if left else None

    ref, tree = store()
    async with open_supervisor(tree):
        answer: Any = await ref.call(count_down, 3)
        assert answer == -1
        ref.cast(wait_and_count_down, 2)
        assert await log_of(ref) == [3, 2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("slowly", [False, True])
async def test_an_actor_may_go_on_and_on(
    autojump_clock: MockClock, slowly: bool
) -> None:
    many = 5000

    def chunk(this: Store, left: int) -> Continue[None] | None:
        if left:
            return Continue(None, chunk, left - 1)
        this.add("done")
        return None

    async def slow_chunk(this: Store, left: int) -> Continue[None] | None:
        await trio.lowlevel.checkpoint()
        if left:
            return Continue(None, slow_chunk, left - 1)
        this.add("done")
        return None

    ref, tree = store()
    async with open_supervisor(tree):
        ref.cast(slow_chunk if slowly else chunk, many)
        assert await log_of(ref) == ["done"]


@pytest.mark.parametrize("slowly", [False, True])
async def test_an_answer_may_come_later_than_what_the_actor_goes_on_with(
    autojump_clock: MockClock, slowly: bool
) -> None:
    """As OTP's ``{noreply, State, {continue, From}}``."""

    replies = list[Reply[str]]()

    def ask(_this: Store) -> Continue[Reply[str]]:
        replies.append(Reply())
        return Continue(replies[0], Store.add, "went on")

    async def ask_slowly(this: Store) -> Continue[Reply[str]]:
        await trio.sleep(1)
        return ask(this)

    ref, tree = store()
    async with open_supervisor(tree):
        asked: Reply[Any] = ref.send_request(ask_slowly if slowly else ask)
        assert await log_of(ref) == ["went on"]
        assert not asked.settled
        replies[0].send("answered")
        assert asked.unwrap() == "answered"


async def test_what_an_actor_goes_on_with_can_be_overridden(
    autojump_clock: MockClock,
) -> None:
    class Loud(Store):
        def flush(self, item: Any) -> None:
            self.log.append(f"FLUSHED {item}")

    def keywords(_this: Store) -> Continue[None]:
        return Continue(None, Store.flush, item=2)

    ref, tree = store(Loud)
    async with open_supervisor(tree):
        await ref.call(Store.put, 1)
        await ref.call(keywords)
        assert await log_of(ref) == [1, "FLUSHED 1", "FLUSHED 2"]


async def test_what_an_actor_goes_on_with_takes_keywords(
    autojump_clock: MockClock,
) -> None:
    def put(_this: Store) -> Continue[None]:
        return Continue(None, Store.flush_slowly, 1, seconds=7)

    ref, tree = store()
    async with open_supervisor(tree):
        await ref.call(put)
        assert await log_of(ref) == ["flushed 1"]
        assert trio.current_time() == pytest.approx(7)


async def test_an_actor_that_goes_on_may_call_back_whom_it_has_answered(
    autojump_clock: MockClock,
) -> None:
    @attrs.define
    class Peer:
        heard: list[str] = attrs.field(factory=list[str])

        async def ask(self, other: ActorRef[Peer], me: ActorRef[Peer]) -> str:
            return await other.call(Peer.answer, me)

        def answer(self, caller: ActorRef[Peer]) -> Continue[str]:
            return Continue("answer", Peer.call_back, caller)

        async def call_back(self, caller: ActorRef[Peer]) -> None:
            await caller.call(Peer.hear)

        def hear(self) -> None:
            self.heard.append("called back")

    a, b = ActorRef[Peer]("a"), ActorRef[Peer]("b")
    async with open_supervisor(
        SupervisorSpec(children=[actor(a, Peer), actor(b, Peer)])
    ):
        assert await a.call(Peer.ask, b, a) == "answer"
        await settled()
        assert await a.call(lambda this: this.heard) == ["called back"]


async def test_a_continue_cannot_be_awaited() -> None:
    with pytest.raises(TypeError, match="what a handler returns"):
        await Continue(1, Store.flush, 1)


def test_a_continue_shows_what_comes_next() -> None:
    assert repr(Continue(1, Store.flush, 2)) == "Continue(1, Store.flush)"


# After init.


@attrs.define
class Started(Store):
    """An actor with something to do before its first message."""

    def handle_continue(self) -> None:
        self.log.append("continued")


@attrs.define
class StartedSlowly(Store):
    """And that takes a while."""

    async def handle_continue(self) -> None:
        await trio.sleep(3)
        self.log.append("continued")


@asynccontextmanager
async def entered() -> AsyncGenerator[Started]:
    this = Started(log=["init"])
    yield this
    this.log.append("cleanup")


@pytest.mark.parametrize("factory", [Started, StartedSlowly])
async def test_what_follows_init_comes_before_any_message(
    autojump_clock: MockClock, factory: type[Store]
) -> None:
    ref, tree = store(factory)
    ref.cast(Store.add, "message")
    ref.ahead.cast(Store.add, "ahead")
    async with open_supervisor(tree):
        # The start is done, and does not wait for it.
        assert trio.current_time() == 0
        assert await log_of(ref) == ["continued", "ahead", "message"]


async def test_what_follows_init_comes_after_the_context_was_entered(
    autojump_clock: MockClock,
) -> None:
    ref, tree = store(entered)
    async with open_supervisor(tree):
        assert await log_of(ref) == ["init", "continued"]


async def test_what_follows_init_comes_in_every_incarnation(
    autojump_clock: MockClock,
) -> None:
    ref, tree = store(Started)
    async with open_supervisor(tree):
        ref.cast(Store.crash)
        assert await log_of(ref) == ["continued"]


async def test_what_follows_init_may_go_on(autojump_clock: MockClock) -> None:
    @attrs.define
    class Chained(Store):
        def handle_continue(self) -> Continue[None]:
            self.log.append("continued")
            return Continue(None, Store.flush_slowly, "first")

    ref, tree = store(Chained)
    ref.cast(Store.add, "message")
    async with open_supervisor(tree):
        assert await log_of(ref) == ["continued", "flushed first", "message"]


async def test_a_crash_after_init_is_a_crash_and_no_failed_start(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    @attrs.define
    class Broken(Store):
        def handle_continue(self) -> None:
            raise Boom

    ref, tree = store(Broken)
    ref.cast(Store.add, "never")
    with pytest.raises(RestartIntensityReached) as gave_up:
        async with open_supervisor(tree, on_event=events.append):
            with pytest.raises(ActorDied):
                await ref.call(Store.add, "never")
            await trio.sleep_forever()
    assert isinstance(gave_up.value.__cause__, Boom)
    assert len(ends(events, ChildTerminated)) == 4


async def test_an_actor_is_stopped_while_it_does_what_follows_init(
    autojump_clock: MockClock,
) -> None:
    _, tree = store(StartedSlowly)
    async with open_supervisor(tree) as root:
        await settled()
        await root.terminate_child("a")
        assert trio.current_time() == pytest.approx(3)
