"""Calls and casts through a ref: who gets which answer, and when none."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any, Protocol

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    ActorStopped,
    CallingSelf,
    InboxFull,
    InboxStatistics,
    Reply,
    SupervisorSpec,
    actor,
    open_supervisor,
    supervisor,
)
from tests.supervisors.children import Worker, settled, worker


async def test_a_call_returns_what_the_method_returns(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        assert await ref.call(Worker.note, "x") == 1
        assert await ref.call(Worker.note, value="y") == 2
        assert await ref.call(Worker.sleep, seconds=1) == "slept"


async def test_messages_are_handled_in_the_order_of_their_sending(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        for number in range(200):
            ref.cast(Worker.note, number)
        assert await ref.call(lambda this: this.notes) == list(range(200))


async def test_a_call_before_the_actor_starts_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.call, Worker.note, "early")
        ref.cast(Worker.note, "cast")
        await settled()
        assert ref.depth == 2
        async with open_supervisor(SupervisorSpec(children=[spec])):
            assert await ref.call(Worker.note, "late") == 3


async def test_a_handler_can_be_overridden_in_a_subclass(
    autojump_clock: MockClock,
) -> None:
    class Loud(Worker):
        def note(self, value: Any) -> int:
            return super().note(value) * 100

    ref: ActorRef[Worker] = ActorRef("a")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Loud)])):
        assert await ref.call(Worker.note, "x") == 100


async def test_a_method_of_a_protocol_finds_the_actors_own(
    autojump_clock: MockClock,
) -> None:
    class Notes(Protocol):
        def note(self, value: Any) -> int: ...

    ref: ActorRef[Notes] = ActorRef("a")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Worker)])):
        assert await ref.call(Notes.note, "x") == 1


def note(this: Worker, value: str) -> str:
    """Have the name of a method without being one."""
    return f"{value} to {this.notes}"


async def test_a_function_that_is_no_method_is_called_as_it_is(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        assert await ref.call(note, "x") == "x to []"
        assert await ref.call(partial(Worker.note, value="x")) == 1


async def test_functions_made_for_one_call_are_not_kept(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")

    class Token:
        pass

    async with open_supervisor(SupervisorSpec(children=[spec])):
        for _ in range(50):
            token = Token()
            await ref.call(lambda _this, token=token: token is not None)
        del token
        gc.collect()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Token)]


# Callers that give up.


async def test_a_call_cancelled_before_its_turn_is_skipped(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        ref.cast(Worker.sleep, 10)
        with trio.move_on_after(1):
            await ref.call(Worker.note, "given up")
        assert await ref.call(lambda this: this.notes) == []


async def test_a_call_cancelled_in_its_turn_is_carried_out(
    autojump_clock: MockClock,
) -> None:
    @attrs.define
    class Slow(Worker):
        async def slow_note(self, value: str) -> None:
            await trio.sleep(5)
            self.note(value)

    ref: ActorRef[Slow] = ActorRef("a")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Slow)])):
        with trio.move_on_after(1):
            await ref.call(Slow.slow_note, "carried out")
        assert await ref.call(lambda this: this.notes) == ["carried out"]


async def test_a_late_reply_after_its_caller_gave_up_harms_nobody(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        with trio.move_on_after(1):
            await ref.call(Worker.promise)
        assert await ref.call(lambda this: this.promises[0].abandoned)
        assert await ref.call(Worker.keep, "nobody") == 0


def alive(kind: type[object]) -> int:
    gc.collect()
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


async def test_a_cancelled_call_leaks_nothing(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        before = alive(Reply)
        for _ in range(100):
            with trio.move_on_after(1):
                await ref.call(Worker.sleep, 2)
            with trio.move_on_after(5):
                await ref.call(Worker.promise)
            # It drops what was given up, as a queue would.
            await ref.call(lambda this: this.promises.clear())
        assert ref.depth == 0
        assert alive(Reply) == before


async def test_a_caller_cancelled_while_the_actor_is_down_leaves_its_place(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    with trio.move_on_after(1):
        await ref.call(Worker.note, "x")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        assert await ref.call(Worker.note, "y") == 1
        assert ref.depth == 0


# Late replies.


async def test_a_handler_may_answer_later(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        async with trio.open_nursery() as nursery:
            answers = list[Any]()

            async def ask() -> None:
                answers.append(await ref.call(Worker.promise))

            nursery.start_soon(ask)
            await settled()
            assert await ref.call(Worker.keep, 42) == 0
        assert answers == [42]


async def test_a_reply_returned_to_two_calls_fails_both_and_hangs_neither(
    autojump_clock: MockClock,
) -> None:
    shared: Reply[int] = Reply()
    ref, spec = worker("a")
    died = list[str]()

    async def ask() -> None:
        try:
            await ref.call(lambda _: shared)
        except ActorDied as error:
            died.append(str(error))

    async with (
        open_supervisor(SupervisorSpec(children=[spec])),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert len(died) == 2


# A bounded inbox.


async def test_a_full_inbox_refuses_calls_and_casts(autojump_clock: MockClock) -> None:
    ref: ActorRef[Worker] = ActorRef("a", max_inbox=2)
    ref.cast(Worker.note, 1)
    ref.cast(Worker.note, 2)
    with pytest.raises(InboxFull, match="'a' has 2 messages waiting") as full:
        ref.cast(Worker.note, 3)
    assert full.value.actor == "a"
    with pytest.raises(InboxFull):
        await ref.call(Worker.note, 3)
    assert ref.statistics() == InboxStatistics(depth=2, max_inbox=2, refused=2)
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Worker)])):
        assert await _when_there_is_room(ref) == [1, 2]


async def _when_there_is_room(ref: ActorRef[Worker]) -> list[Any]:
    await settled()
    return await ref.call(lambda this: this.notes)


# Actors that do not run.


async def test_a_terminated_actor_refuses_until_it_is_restarted(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await root.terminate_child("a")
        with pytest.raises(ActorStopped, match="not running"):
            await ref.call(Worker.note, 1)
        with pytest.raises(ActorStopped):
            ref.cast(Worker.note, 1)
        await root.restart_child("a")
        assert await ref.call(Worker.note, 1) == 1


async def test_callers_that_wait_for_a_terminated_actor_learn_it_at_once(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        ref.cast(Worker.sleep, 3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root.terminate_child, "a")
            await settled()
            with pytest.raises(ActorStopped):
                await ref.call(Worker.note, 1)
        assert trio.current_time() == pytest.approx(3)


async def test_all_actors_refuse_after_the_root_has_ended(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    deep_ref, deep_spec = worker("deep")
    late_ref, late_spec = worker("late")
    nested = supervisor("s", SupervisorSpec(children=[deep_spec]))
    async with open_supervisor(SupervisorSpec(children=[spec, nested])) as root:
        await root.start_child(late_spec)
        assert await late_ref.call(Worker.note, 1) == 1
    for each in (ref, deep_ref, late_ref):
        with pytest.raises(ActorStopped):
            await each.call(Worker.note, 1)


async def test_a_ref_can_be_used_in_the_next_tree(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    for _ in range(2):
        async with open_supervisor(SupervisorSpec(children=[spec])):
            assert await ref.call(Worker.note, 1) == 1


# Calls that would wait for themselves.


@attrs.define
class Caller:
    """An actor that calls others."""

    heard: list[Any] = attrs.field(factory=list[Any])

    async def call(self, path: list[ActorRef[Caller]]) -> str:
        """Call along the path."""
        if not path:
            return "end"
        return await path[0].call(Caller.call, path[1:])

    def cast_to(self, ref: ActorRef[Caller], value: str) -> None:
        self.heard.append("sent")
        ref.cast(Caller.hear, value)

    def hear(self, value: str) -> None:
        self.heard.append(value)

    async def call_from_a_task(self, ref: ActorRef[Caller], tasks: trio.Nursery) -> str:
        tasks.start_soon(ref.call, Caller.hear, "from a task")
        return "not waiting"


def callers(*names: str) -> tuple[list[ActorRef[Caller]], SupervisorSpec]:
    refs = [ActorRef[Caller](name) for name in names]
    return refs, SupervisorSpec(children=[actor(ref, Caller) for ref in refs])


async def test_calling_oneself_fails_at_once(autojump_clock: MockClock) -> None:
    (a,), spec = callers("a")
    async with open_supervisor(spec):
        with pytest.raises(ActorDied) as died:
            await a.call(Caller.call, [a])
        assert isinstance(died.value.__cause__, CallingSelf)
        assert str(died.value.__cause__) == "a call would wait for itself: a -> a"


async def test_calling_oneself_through_others_fails_at_once(
    autojump_clock: MockClock,
) -> None:
    (a, b, c), spec = callers("a", "b", "c")
    async with open_supervisor(spec):
        with trio.fail_after(1), pytest.raises(ActorDied) as died:
            await a.call(Caller.call, [b, c, a])
    causes = list[str]()
    error: BaseException | None = died.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert causes[-1] == "a call would wait for itself: a -> b -> c -> a"
    assert len(causes) == 4


async def test_two_callers_may_meet_at_one_actor(autojump_clock: MockClock) -> None:
    (a, b, c), spec = callers("a", "b", "c")
    async with open_supervisor(spec), trio.open_nursery() as nursery:
        nursery.start_soon(a.call, Caller.call, [c])
        nursery.start_soon(b.call, Caller.call, [c])


async def test_a_cast_to_oneself_is_handled_next(autojump_clock: MockClock) -> None:
    (a,), spec = callers("a")
    async with open_supervisor(spec):
        await a.call(Caller.cast_to, a, "heard")
        assert await a.call(lambda this: this.heard) == ["sent", "heard"]


async def test_a_task_that_a_handler_starts_may_call_the_actor(
    autojump_clock: MockClock,
) -> None:
    (a,), spec = callers("a")
    async with open_supervisor(spec):
        async with trio.open_nursery() as tasks:
            assert await a.call(Caller.call_from_a_task, a, tasks) == "not waiting"
        assert await a.call(lambda this: this.heard) == ["from a task"]


async def test_requests_to_several_actors_are_answered_at_once(autojump_clock):
    refs = [ActorRef[Summing](f"sum-{n}") for n in range(3)]
    spec = SupervisorSpec(children=[actor(ref, Summing) for ref in refs])
    async with open_supervisor(spec):
        replies = [ref.send_request(Summing.add, n) for n, ref in enumerate(refs)]
        with pytest.raises(trio.WouldBlock):
            replies[0].unwrap()
        assert await replies[0] == 0
        assert [reply.unwrap() for reply in replies[1:]] == [1, 2]


async def test_a_request_that_is_abandoned_before_its_turn_is_not_carried_out(
    autojump_clock,
):
    ref = ActorRef[Summing]("sum")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Summing)])):
        reply = ref.send_request(Summing.add, 5)
        reply.abandon()
        assert await ref.call(Summing.add, 1) == 1
        assert not reply.settled


async def test_a_request_fails_with_its_actor(autojump_clock):
    ref = ActorRef[Summing]("sum")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Summing)])):
        reply = ref.send_request(Summing.fail)
        with pytest.raises(ActorDied):
            await reply


class Summing:
    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        self.total += number
        return self.total

    def fail(self) -> None:
        raise ValueError
