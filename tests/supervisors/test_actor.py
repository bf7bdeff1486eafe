"""One actor: its init, its messages, its crash, its stop."""

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
    ActorStopped,
    ChildStarted,
    ChildTerminated,
    CleanExit,
    Crashed,
    Event,
    Restart,
    ShutDown,
    StartFailed,
    SupervisorSpec,
    actor,
    open_supervisor,
    supervise,
    supervisor,
)
from supervisors._actor import MESSAGES_PER_TURN
from tests.supervisors.children import Boom, Worker, ends, settled, worker


async def outcome_of(asked: list[Any], ref: ActorRef[Worker], *call: Any) -> None:
    """Call, and note the answer or the error."""
    try:
        asked.append(await ref.call(*call))
    except (ActorDied, ActorStopped) as error:
        asked.append(error)


# A crash, and who learns of it.


async def test_a_crash_fails_its_running_caller_and_nobody_who_is_queued(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    running, queued = list[Any](), list[Any]()
    async with open_supervisor(SupervisorSpec(children=[spec])):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, running, ref, Worker.crash_after, 1)
            await settled()
            nursery.start_soon(outcome_of, queued, ref, Worker.note, "queued")
        assert trio.current_time() == pytest.approx(1)
    (died,) = running
    assert isinstance(died, ActorDied)
    assert isinstance(died.__cause__, Boom)
    assert died.actor == "a"
    assert queued == [1]


async def test_the_caller_of_a_synchronous_crash_learns_it_too(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        with pytest.raises(ActorDied) as died:
            await ref.call(Worker.crash)
        assert str(died.value) == "actor 'a' died in Worker.crash: Boom"
        assert "secret" not in repr(died.value)
        assert await ref.call(Worker.note, 1) == 1


async def test_messages_survive_the_restart_and_the_poisonous_one_does_not(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    ref, spec = worker("a")
    tree = SupervisorSpec(children=[spec])
    async with open_supervisor(tree, on_event=events.append):
        ref.cast(Worker.note, "before")
        ref.cast(Worker.crash)
        ref.cast(Worker.note, "after")
        assert await ref.call(lambda this: this.notes) == ["after"]
    assert [type(event) for event in events] == [
        ChildStarted,
        ChildTerminated,
        ChildStarted,
    ]


async def test_promised_replies_fail_when_the_actor_dies(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    asked = list[Any]()
    async with open_supervisor(SupervisorSpec(children=[spec])):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, asked, ref, Worker.promise)
            nursery.start_soon(outcome_of, asked, ref, Worker.promise)
            await settled()
            ref.cast(Worker.crash)
        assert [str(died) for died in asked] == [
            "actor 'a' ended before it could answer: Boom"
        ] * 2


async def test_a_promise_of_the_last_incarnation_is_not_answered_by_the_next(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    asked, kept = list[Any](), list[Any]()
    async with open_supervisor(SupervisorSpec(children=[spec])):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, asked, ref, Worker.promise)
            await settled()
            kept += await ref.call(lambda this: this.promises)
            ref.cast(Worker.crash)
        kept[0].send("of the dead")
        assert isinstance(asked[0], ActorDied)


async def test_promised_replies_fail_when_the_actor_is_stopped(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    asked = list[Any]()
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, asked, ref, Worker.promise)
            await settled()
            await root.terminate_child("a")
        assert str(asked[0]) == "actor 'a' ended before it could answer"


async def test_an_actor_ends_itself_with_a_clean_exit(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a", restart=Restart.TRANSIENT)
    tree = SupervisorSpec(children=[spec])
    async with open_supervisor(tree, on_event=events.append) as root:
        with pytest.raises(ActorDied):
            await ref.call(Worker.crash, CleanExit("enough"))
        await settled()
        assert root.inspect().children[0].state == "stopped"
        with pytest.raises(ActorStopped):
            await ref.call(Worker.note, 1)
    assert not ends(events, ChildTerminated)


async def test_the_stop_lets_the_message_at_hand_be_finished(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    asked = list[Any]()
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, asked, ref, Worker.sleep, 3)
            await settled()
            nursery.start_soon(outcome_of, asked, ref, Worker.note, "overtaken")
            await settled()
            await root.terminate_child("a")
        assert asked[0] == "slept"
        assert isinstance(asked[1], ActorStopped)


async def test_a_message_that_outlasts_the_shutdown_time_is_broken_off(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", shutdown=2.0)
    asked = list[Any]()
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, asked, ref, Worker.sleep, 30)
            await settled()
            await root.terminate_child("a")
        assert trio.current_time() == pytest.approx(2)
        assert str(asked[0]) == "actor 'a' died in Worker.sleep"


async def test_a_stop_between_a_message_and_the_actors_waking_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await settled()
        process = root.find("a")
        assert process is not None
        # The actor has been given the message, and has not run since.
        ref.cast(Worker.note, "kept")
        process.stop()
        await process.wait()
        # A permanent child that ended is started again, and reads on.
        assert await ref.call(lambda this: this.notes) == ["kept"]


async def test_a_crash_from_outside_loses_no_message(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await settled()
        ref.cast(Worker.note, "kept")
        root.crash_child("a", Boom())
        assert await ref.call(lambda this: this.notes) == ["kept"]


async def test_a_crash_from_outside_fails_the_running_caller(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    asked = list[Any]()
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, asked, ref, Worker.sleep, 30)
            await settled()
            root.crash_child("a", Boom())
        assert isinstance(asked[0].__cause__, Boom)
        assert trio.current_time() == 0


async def test_a_busy_actor_lets_others_have_their_turn(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    many = MESSAGES_PER_TURN * 12
    seen = list[int]()
    async with open_supervisor(SupervisorSpec(children=[spec])):
        for number in range(many):
            ref.cast(Worker.note, number)
        while ref.depth:
            seen.append(ref.depth)
            await trio.lowlevel.checkpoint()
    assert len({depth for depth in seen if depth < many}) >= 2


async def test_an_idle_actor_does_not_hold_its_last_message(
    autojump_clock: MockClock,
) -> None:
    @attrs.define(eq=False, weakref_slot=True)
    class Large:
        gone: list[str]

        def __del__(self) -> None:
            self.gone.append("gone")

    gone = list[str]()
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await ref.call(lambda _this, _large: None, Large(gone))
        await settled()
        assert gone == ["gone"]


# Init and cleanup.


async def test_an_init_that_raises_fails_the_start_with_its_reason(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")

    def cannot() -> Worker:
        raise Boom

    with pytest.raises(
        StartFailed, match=r"child 'a' failed to start: Boom$"
    ) as failed:
        async with open_supervisor(SupervisorSpec(children=[actor(ref, cannot)])):
            pytest.fail("it started")
    assert failed.value.child == "a"
    assert isinstance(failed.value.__cause__, Boom)
    assert isinstance(failed.value.exit, Crashed)


async def test_an_async_function_is_no_factory_and_the_error_says_what_is(
    autojump_clock: MockClock,
) -> None:
    async def make() -> Worker:
        return Worker()

    ref: ActorRef[Any] = ActorRef("a")
    with pytest.raises(StartFailed) as failed, trio.fail_after(5):
        await supervise(SupervisorSpec(children=[actor(ref, make)]))
    assert isinstance(failed.value.__cause__, TypeError)
    assert "'a' is an async function" in str(failed.value.__cause__)
    assert "@asynccontextmanager" in str(failed.value.__cause__)


async def test_the_context_of_an_actor_is_its_init_and_its_cleanup(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()

    @asynccontextmanager
    async def living(name: str) -> AsyncGenerator[Worker]:
        await trio.sleep(1)
        log.append(f"{name} up")
        try:
            yield Worker()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            log.append(f"{name} down")

    ref: ActorRef[Worker] = ActorRef("a")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, living, "x")])):
        assert log == ["x up"]
        with pytest.raises(ActorDied):
            await ref.call(Worker.crash)
        assert await ref.call(Worker.note, 1) == 1
        assert log == ["x up", "x down", "x up"]
    assert log == ["x up", "x down", "x up", "x down"]
    assert trio.current_time() == pytest.approx(4)


async def test_the_caller_of_a_crash_does_not_wait_for_the_cleanup(
    autojump_clock: MockClock,
) -> None:
    @asynccontextmanager
    async def slow() -> AsyncGenerator[Worker]:
        try:
            yield Worker()
        finally:
            with trio.move_on_after(10, shield=True):
                await trio.sleep_forever()

    ref: ActorRef[Worker] = ActorRef("a")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, slow)])):
        with pytest.raises(ActorDied):
            await ref.call(Worker.crash)
        assert trio.current_time() == 0


async def test_queued_messages_survive_the_restart_of_the_supervisor_above(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("deep")
    low = SupervisorSpec(children=[spec], max_restarts=0)
    tree = SupervisorSpec(children=[supervisor("s", low)])
    async with open_supervisor(tree) as root:
        ref.cast(Worker.crash)
        ref.cast(Worker.note, "kept")
        assert await ref.call(lambda this: this.notes) == ["kept"]
        (s,) = root.inspect().children
        assert s.restarts == 1
        # A new incarnation of the supervisor counts its children's anew.
        assert s.children[0].restarts == 0


async def test_messages_for_a_supervisor_that_is_gone_for_good_are_refused(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("deep")
    low = SupervisorSpec(children=[spec], max_restarts=0)
    nested = supervisor("s", low, restart=Restart.TRANSIENT)
    asked = list[Any]()
    async with open_supervisor(SupervisorSpec(children=[nested])):
        async with trio.open_nursery() as nursery:
            ref.cast(Worker.crash)
            nursery.start_soon(outcome_of, asked, ref, Worker.note, "too late")
        assert isinstance(asked[0], ActorStopped)


@pytest.mark.slow
async def test_ten_thousand_crashes_leave_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    import gc

    ref, spec = worker("a")
    tree = SupervisorSpec(children=[spec], max_restarts=10**6)
    async with open_supervisor(tree):

        async def crash(times: int) -> int:
            for _ in range(times):
                ref.cast(Worker.crash)
            await ref.call(Worker.note, 1)
            gc.collect()
            return len(gc.get_objects())

        await crash(500)
        before = await crash(500)
        for _ in range(10):
            after = await crash(900)
        assert after < before + 500


async def test_a_stopped_permanent_child_reports_how_it_ended(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    _, spec = worker("a")
    tree = SupervisorSpec(children=[spec])
    async with open_supervisor(tree, on_event=events.append) as root:
        process = root.find("a")
        assert process is not None
        process.stop()
        await settled()
    assert ends(events, ChildTerminated) == [("a", ShutDown())]
