"""Fault plans: each fault does what its name says, where it says, and once."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    ChildStarted,
    ChildTerminated,
    ChildUnkillable,
    Crashed,
    Event,
    Killed,
    ShutdownError,
    StartError,
    StartFailed,
    SupervisorSpec,
    actor,
    child,
    open_supervisor,
    testing,
)
from supervisors.testing import (
    Cancel,
    Checkpoint,
    Counts,
    Crash,
    Delay,
    DuplicateCast,
    FailCleanup,
    FailInit,
    Fault,
    Handled,
    HangCleanup,
    HangInit,
    InjectedCrash,
    Injector,
    Kill,
    Message,
    Stall,
    forked,
)
from tests.supervisors.children import Worker, settled, worker

ALL = (
    Crash("a", at=Checkpoint(3)),
    Crash("a/b", at=Handled(1), error=ValueError),
    Cancel("a", at=Message(2)),
    Stall("w/*", at=Message(1)),
    Delay("a", 2.5, at=Checkpoint(1)),
    FailInit("a", n=2),
    HangInit("a"),
    FailCleanup("a", error=OSError),
    HangCleanup("a", shield=True, seconds=30.0),
    DuplicateCast("a", n=4),
    Kill("a", at=Message(1)),
)


@pytest.mark.parametrize("fault", ALL, ids=repr)
def test_the_repr_of_a_fault_can_be_pasted_back(fault: Fault) -> None:
    assert eval(repr(fault), dict(vars(testing))) == fault


def test_what_has_its_default_is_not_printed() -> None:
    assert repr(FailInit("a")) == "FailInit('a')"
    assert repr(Crash("a", at=Message(2))) == "Crash('a', at=Message(2))"


@pytest.mark.parametrize("number", [0, -1])
def test_numbers_count_from_one(number: int) -> None:
    with pytest.raises(ValueError, match=">= 1"):
        Message(number)
    with pytest.raises(ValueError, match=">= 1"):
        FailInit("a", n=number)


def test_a_shielded_hang_needs_an_end() -> None:
    with pytest.raises(ValueError, match="seconds="):
        HangCleanup("a", shield=True)


def test_kill_is_refused_in_a_process_that_is_still_needed() -> None:
    with pytest.raises(ValueError, match="forked"):
        Injector((Kill("a", at=Message(1)),))


async def test_a_crash_at_a_message_is_as_if_its_handler_had_raised(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a")
    injector = Injector((Crash("a", at=Message(2)),))
    with injector.installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            assert await ref.call(Worker.note, "one") == 1
            with pytest.raises(
                ActorDied, match=r"died in Worker.note: InjectedCrash"
            ) as died:
                await ref.call(Worker.note, "two")
            assert await ref.call(Worker.note, "three") == 1
    assert isinstance(died.value.__cause__, InjectedCrash)
    assert injector.effective == injector.plan
    assert not injector.ineffective


async def test_messages_are_counted_through_all_incarnations(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    injector = Injector((Crash("a", at=Message(2)), Crash("a", at=Message(3))))
    died = 0
    with injector.installed():
        async with open_supervisor(SupervisorSpec(children=[spec])):
            for _ in range(4):
                try:
                    await ref.call(Worker.note, "x")
                except ActorDied:
                    died += 1
    assert died == 2
    counts = injector.counts()["a"]
    assert (counts.messages, counts.starts, counts.ends) == (4, 3, 3)


async def test_a_crash_after_handling_has_done_the_work_and_loses_the_answer(
    autojump_clock: MockClock,
) -> None:
    done = list[str]()

    class Doer(Worker):
        def note(self, value: str) -> int:
            done.append(value)
            return 1

        async def sleep(self, seconds: float) -> str:
            await trio.sleep(seconds)
            done.append("slept")
            return "slept"

    ref: ActorRef[Worker] = ActorRef("a")
    spec = actor(ref, Doer)
    plan = (Crash("a", at=Handled(1)), Crash("a", at=Handled(2)))
    with Injector(plan).installed():
        async with open_supervisor(SupervisorSpec(children=[spec])):
            with pytest.raises(ActorDied, match=r"died in Worker.note: InjectedCrash"):
                await ref.call(Worker.note, "one")
            with pytest.raises(ActorDied, match=r"died in Worker.sleep: InjectedCrash"):
                await ref.call(Worker.sleep, 1)
            await ref.call(Worker.note, "two")
    assert done == ["one", "slept", "two"]


@pytest.mark.parametrize("n", [1, 2, 3])
async def test_a_crash_at_a_checkpoint_comes_as_a_cancellation_of_that_wait(
    n: int, autojump_clock: MockClock, events: list[Event]
) -> None:
    log = list[object]()

    async def steps() -> None:
        for step in (1, 2, 3):
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                log.append(("cancelled", step, trio.current_time()))
                raise
        await trio.sleep_forever()

    begin = trio.current_time()
    with Injector((Crash("a", at=Checkpoint(n)),)).installed():
        async with open_supervisor(
            SupervisorSpec(children=[child("a", steps)]), on_event=events.append
        ):
            await trio.sleep(10)
    assert log == [("cancelled", n, begin + n - 1)]
    (ended,) = [event for event in events if isinstance(event, ChildTerminated)]
    assert isinstance(ended.exit, Crashed)
    assert isinstance(ended.exit.error, InjectedCrash)


async def test_a_cancel_kills_the_child(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a")
    plan = (Cancel("a", at=Checkpoint(1)), Cancel("a", at=Message(1)))
    with Injector(plan).installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            with pytest.raises(ActorDied):
                await ref.call(Worker.note, "x")
            assert await ref.call(Worker.note, "y") == 1
    assert [e.exit for e in events if isinstance(e, ChildTerminated)] == [Killed()] * 2


@pytest.mark.parametrize("point", [Checkpoint(1), Message(1)])
async def test_a_delay_makes_a_child_late_by_just_that(
    point: Checkpoint | Message, autojump_clock: MockClock
) -> None:
    ref, spec = worker("a")
    with Injector((Delay("a", 7.0, at=point),)).installed():
        async with open_supervisor(SupervisorSpec(children=[spec])):
            begin = trio.current_time()
            await ref.call(Worker.note, "x")
            assert trio.current_time() - begin == 7
            await ref.call(Worker.note, "y")
            assert trio.current_time() - begin == 7


async def test_a_wait_that_has_succeeded_is_not_cancelled_in_a_delay(
    autojump_clock: MockClock,
) -> None:
    send, receive = trio.open_memory_channel[str](0)
    got = list[str]()

    async def taker() -> None:
        got.append(await receive.receive())
        await trio.sleep_forever()

    with Injector((Delay("a", 100.0, at=Checkpoint(1)),)).installed():
        async with open_supervisor(SupervisorSpec(children=[child("a", taker)])):
            await send.send("one")
            await settled()
            assert not got
    assert got == ["one"]


@pytest.mark.parametrize("point", [Checkpoint(1), Message(1)])
async def test_a_stalled_child_is_killed_when_its_time_to_stop_is_over(
    point: Checkpoint | Message, autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a", shutdown=3.0)
    with Injector((Stall("a", at=point),)).installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            begin = trio.current_time()
            ref.cast(Worker.note, "x")
            await trio.sleep(1000)
    assert trio.current_time() - begin == 1003
    assert [e.exit for e in events if isinstance(e, ShutdownError)] == [Killed()]


async def test_the_nth_start_fails_and_its_body_does_not_run(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a")
    plan = (Crash("a", at=Message(1)), FailInit("a", n=2), FailInit("a", n=3))
    with Injector(plan).installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            ref.cast(Worker.note, "x")
            await settled()
            assert await ref.call(Worker.note, "y") == 1
    kinds = [type(event) for event in events]
    assert kinds == [
        ChildStarted,
        ChildTerminated,
        StartError,
        StartError,
        ChildStarted,
    ]


async def test_a_failed_first_start_fails_the_tree(autojump_clock: MockClock) -> None:
    _, spec = worker("a")
    injector = Injector((FailInit("a", error=OSError),))
    with injector.installed(), pytest.raises(StartFailed) as failed:
        async with open_supervisor(SupervisorSpec(children=[spec])):
            raise AssertionError
    assert isinstance(failed.value.__cause__, OSError)


async def test_a_start_that_hangs_can_be_cancelled(autojump_clock: MockClock) -> None:
    _, spec = worker("a")
    with Injector((HangInit("a"),)).installed():
        with trio.move_on_after(50) as scope:
            async with open_supervisor(SupervisorSpec(children=[spec])):
                raise AssertionError
    assert scope.cancelled_caught


@asynccontextmanager
async def tidy(log: list[str]) -> AsyncGenerator[Worker]:
    try:
        yield Worker()
    finally:
        log.append("tidied")


async def test_a_cleanup_fails_after_the_childs_own(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    log = list[str]()
    spec = actor(ActorRef[Worker]("a"), tidy, log)
    with Injector((FailCleanup("a"),)).installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            pass
    assert log == ["tidied"]
    (error,) = [event for event in events if isinstance(event, ShutdownError)]
    assert isinstance(error.exit, Crashed)


async def test_a_cleanup_that_hangs_is_cancelled_in_time(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    _, spec = worker("a", shutdown=3.0)
    with Injector((HangCleanup("a"),)).installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            begin = trio.current_time()
    assert trio.current_time() - begin == 3
    assert [e.exit for e in events if isinstance(e, ShutdownError)] == [Killed()]


async def test_a_shielded_hang_makes_a_child_unkillable(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    _, spec = worker("a", shutdown=3.0)
    plan = (HangCleanup("a", shield=True, seconds=600.0),)
    with Injector(plan).installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            begin = trio.current_time()
    assert trio.current_time() - begin == 600
    (event,) = [event for event in events if isinstance(event, ChildUnkillable)]
    assert event.path == "a"


async def test_the_nth_cast_is_handled_twice_and_a_call_never(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    injector = Injector((DuplicateCast("a", n=2),))
    with injector.installed():
        async with open_supervisor(SupervisorSpec(children=[spec])):
            ref.cast(Worker.note, "one")
            assert await ref.call(Worker.note, "two") == 2
            ref.cast(Worker.note, "three")
            assert await ref.call(Worker.note, "four") == 5
    assert injector.counts()["a"].casts == 2


async def test_a_pattern_counts_all_that_match_together(
    autojump_clock: MockClock,
) -> None:
    pairs = [worker(name) for name in ("w1", "w2", "other")]
    injector = Injector((Crash("w*", at=Message(2)),))
    died = list[str]()
    with injector.installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec for _, spec in pairs])
        ):
            for ref, _ in reversed(pairs):
                try:
                    await ref.call(Worker.note, "x")
                except ActorDied as error:
                    died.append(error.actor)
    assert died == ["w1"]


async def test_a_fault_whose_point_never_comes_is_told(
    autojump_clock: MockClock,
) -> None:
    _, spec = worker("a")
    injector = Injector((Crash("a", at=Message(1)), Crash("b", at=Checkpoint(1))))
    with injector.installed():
        async with open_supervisor(SupervisorSpec(children=[spec])):
            pass
    assert injector.ineffective == injector.plan


async def test_the_stack_of_a_watched_child_can_still_be_read(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async def stubborn_cleanup() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    spec = attrs.evolve(child("a", stubborn_cleanup), shutdown=1.0)
    with Injector().installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            await settled()
    (event,) = [event for event in events if isinstance(event, ChildUnkillable)]
    assert any("stubborn_cleanup" in line for line in event.stack)


def _killed_at(message: int) -> None:
    async def main() -> None:
        ref, spec = worker("a")
        with Injector((Kill("a", at=Message(message)),)).installed():
            async with open_supervisor(SupervisorSpec(children=[spec])):
                await ref.call(Worker.note, "x")

    trio.run(main)


async def test_what_a_fault_waits_for_is_no_checkpoint_of_the_child(
    autojump_clock: MockClock,
) -> None:
    counts = list[Counts]()
    for plan in (
        (),
        (Delay("a", 1.0, at=Message(1)), Delay("a", 1.0, at=Checkpoint(1))),
    ):
        ref, spec = worker("a")
        injector = Injector(plan)
        with injector.installed():
            async with open_supervisor(SupervisorSpec(children=[spec])):
                await ref.call(Worker.note, "x")
                await settled()
        assert injector.effective == tuple(reversed(plan))
        counts.append(injector.counts()["a"])
    assert counts[0] == counts[1]


def test_a_signal_that_ends_a_forked_process_is_told_as_the_shell_tells_it() -> None:
    assert forked(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 128 + signal.SIGTERM


def test_a_kill_ends_the_forked_process_and_no_other() -> None:
    assert forked(_killed_at, 1) == 137
    assert forked(_killed_at, 2) == 0


def test_a_forked_function_that_raises_says_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken() -> None:
        raise ValueError("broken")

    assert forked(broken) == 1
    assert "ValueError: broken" in capfd.readouterr().err


async def test_nothing_is_forked_inside_a_trio_run() -> None:
    with pytest.raises(RuntimeError, match=r"trio\.run"):
        forked(print)
