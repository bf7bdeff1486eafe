"""The lane ahead: control messages, and the debugging that uses them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    ActorStopped,
    Backoff,
    CallingSelf,
    OnFull,
    SupervisorSpec,
    actor,
    open_supervisor,
    send_after,
    send_interval,
)
from tests.supervisors.children import Boom, Worker, settled, worker


async def test_messages_ahead_are_handled_before_all_that_wait(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        ref.cast(Worker.sleep, 10)
        await settled()
        send_after(5, ref, Worker.note, "timer")
        ref.cast(Worker.note, "message")
        ref.ahead.cast(Worker.note, "ahead 1")
        await ref.ahead.wait_cast(Worker.note, "ahead 2")
        reply = ref.ahead.send_request(Worker.note, "ahead 3")
        assert ref.depth == 4
        assert await ref.ahead.call(Worker.note, "ahead 4") == 4
        assert reply.unwrap() == 3
        assert await ref.call(lambda this: this.notes) == [
            *(f"ahead {n}" for n in (1, 2, 3, 4)),
            "timer",
            "message",
        ]


@pytest.mark.parametrize("on_full", OnFull)
async def test_a_full_inbox_keeps_nothing_off_that_goes_ahead(
    autojump_clock: MockClock, on_full: OnFull
) -> None:
    ref: ActorRef[Worker] = ActorRef("a", max_inbox=1, on_full=on_full)
    ref.cast(Worker.note, "message")
    for number in range(3):
        ref.ahead.cast(Worker.note, number)
    assert ref.statistics().depth == 4
    assert ref.statistics().dropped == ref.statistics().refused == 0
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Worker)])):
        await settled()
        assert await ref.call(lambda this: this.notes) == [0, 1, 2, "message"]


async def test_a_message_ahead_wakes_an_idle_actor(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await settled()
        assert await ref.ahead.call(Worker.note, 1) == 1
        ref.ahead.cast(Worker.note, 2)
        await settled()
        assert (await ref.get_state()).notes == [1, 2]


async def test_a_crash_ahead_fails_its_caller_and_nobody_who_waits(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        ref.cast(Worker.note, 1)
        ref.ahead.cast(Worker.note, "lost with the state")
        with pytest.raises(ActorDied, match=r"died in Worker\.crash"):
            await ref.ahead.call(Worker.crash)
        assert await ref.call(lambda this: this.notes) == [1]


async def test_callers_ahead_learn_that_the_actor_was_stopped(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        ref.cast(Worker.sleep, 3)
        await settled()
        reply = ref.ahead.send_request(Worker.note, 1)
        await root.terminate_child("a")
        with pytest.raises(ActorStopped):
            reply.unwrap()
        with pytest.raises(ActorStopped):
            await ref.ahead.call(Worker.note, 1)
        with pytest.raises(ActorStopped):
            ref.ahead.cast(Worker.note, 1)
        for ask in (ref.suspend, ref.resume, ref.get_state):
            with pytest.raises(ActorStopped):
                await ask()


async def test_the_lane_shows_whose_it_is() -> None:
    assert repr(ActorRef[Worker]("a").ahead) == "<ActorRef 'a', ahead>"


@attrs.define
class Selfish:
    """An actor that asks itself."""

    ref: ActorRef[Selfish]

    async def ask(self, what: str) -> Any:
        """Call its own lane ahead, directly or through the debugging calls."""
        if what == "call":
            return await self.ref.ahead.call(Selfish.ask, what)
        return await getattr(self.ref, what)()


@pytest.mark.parametrize("what", ["call", "suspend", "resume", "get_state"])
async def test_an_actor_cannot_call_itself_ahead_either(
    autojump_clock: MockClock, what: str
) -> None:
    ref = ActorRef[Selfish]("a")
    tree = SupervisorSpec(children=[actor(ref, Selfish, ref)])
    async with open_supervisor(tree):
        with trio.fail_after(1), pytest.raises(ActorDied) as died:
            await ref.call(Selfish.ask, what)
        assert isinstance(died.value.__cause__, CallingSelf)


# suspend, resume, get_state.


async def test_a_suspended_actor_handles_nothing_until_it_is_resumed(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        ref.cast(Worker.note, "before")
        await ref.suspend()
        ref.cast(Worker.note, "meanwhile")
        with trio.move_on_after(10) as waited:
            await ref.call(Worker.note, "given up")
        assert waited.cancelled_caught
        assert (await ref.get_state()).notes == []
        assert await ref.ahead.call(Worker.note, "ahead") == 1
        await ref.resume()
        await settled()
        assert (await ref.get_state()).notes == ["ahead", "before", "meanwhile"]


async def test_to_suspend_and_to_resume_twice_is_to_do_it_once(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await ref.suspend()
        await ref.suspend()
        await ref.resume()
        assert await ref.call(Worker.note, 1) == 1
        await ref.resume()
        assert await ref.call(Worker.note, 2) == 2


async def test_a_busy_actor_is_suspended_after_what_it_does(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        reply = ref.send_request(Worker.sleep, 5)
        await settled()
        ref.cast(Worker.note, 1)
        await ref.suspend()
        assert trio.current_time() == pytest.approx(5)
        assert reply.unwrap() == "slept"
        assert (await ref.get_state()).notes == []


async def test_the_state_is_the_actor_itself(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await ref.call(Worker.note, 1)
        state = await ref.get_state()
        assert type(state) is Worker
        assert state.notes == [1]
        assert await ref.get_state() is state


async def test_a_restart_resumes(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await ref.suspend()
        ref.cast(Worker.note, "kept")
        root.crash_child("a", Boom())
        assert await ref.call(lambda this: this.notes) == ["kept"]


async def test_a_suspended_actor_is_stopped_as_any_other(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await ref.suspend()
        reply = ref.send_request(Worker.note, "refused")
        await root.terminate_child("a")
        assert trio.current_time() == 0
        with pytest.raises(ActorStopped):
            reply.unwrap()
        await root.restart_child("a")
        assert await ref.call(Worker.note, 1) == 1
        await ref.suspend()
    assert trio.current_time() == 0


async def test_what_is_ahead_of_an_actor_that_is_down_waits_for_the_next(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", backoff=Backoff(first=5, jitter=0))
    async with open_supervisor(SupervisorSpec(children=[spec])):
        ref.cast(Worker.crash)
        await settled()
        ref.cast(Worker.note, "held up")
        await ref.suspend()
        assert trio.current_time() == pytest.approx(5)
        assert (await ref.get_state()).notes == []
        await ref.resume()
        assert await ref.call(lambda this: this.notes) == ["held up"]


async def test_an_actor_that_has_not_started_is_suspended_from_its_start(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.suspend)
        ref.cast(Worker.note, 1)
        await settled()
        async with open_supervisor(SupervisorSpec(children=[spec])):
            assert (await ref.get_state()).notes == []
            await ref.resume()
            assert await ref.call(lambda this: this.notes) == [1]


async def test_timers_of_a_suspended_actor_come_when_it_is_resumed(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await ref.suspend()
        send_after(5, ref, Worker.note, "once")
        send_interval(1, ref, Worker.note, "tick")
        ref.cast(Worker.note, "message")
        await trio.sleep(7.5)
        assert (await ref.get_state()).notes == []
        await ref.resume()
        await settled()
        # Of the seven ticks that it has missed it gets one.
        assert (await ref.get_state()).notes == ["tick", "once", "message"]
        await trio.sleep(1)
        assert (await ref.get_state()).notes[3:] == ["tick"]


async def test_a_resumed_actor_waits_for_its_timers_again(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        send_after(5, ref, Worker.note, "later")
        await ref.suspend()
        await trio.sleep(1)
        await ref.resume()
        await trio.sleep(5)
        assert (await ref.get_state()).notes == ["later"]
