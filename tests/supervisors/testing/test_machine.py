"""Stateful tests on a living tree: what they find, and what they leave behind."""

from __future__ import annotations

import signal
from typing import Any, ClassVar

import pytest
import trio
from hypothesis import HealthCheck, Phase, assume, settings, strategies as st
from hypothesis.stateful import Bundle, run_state_machine_as_test

from supervisors import (
    ActorDied,
    ActorRef,
    ActorStopped,
    ChildStarted,
    Reply,
    RestartIntensityReached,
    SupervisorSpec,
    actor,
    child,
)
from supervisors.testing import (
    Fifo,
    Hang,
    Livelock,
    Schedule,
    Seeded,
    SupervisedMachine,
    initialize,
    invariant,
    rule,
    schedules,
)
from supervisors.testing._guest import GuestLoop, LoopEnded
from tests.supervisors.children import Boom, stubborn
from tests.supervisors.testing.programs import go_round

SETTINGS = settings(
    max_examples=100,
    stateful_step_count=10,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


def check(machine: type[SupervisedMachine], **options: Any) -> None:
    run_state_machine_as_test(machine, settings=settings(SETTINGS, **options))


def assert_no_loop_runs() -> None:
    trio.run(trio.lowlevel.checkpoint)


class Queue:
    """An actor: items wait for takers, or takers for items."""

    def __init__(self, *, forgets: bool) -> None:
        self.forgets = forgets
        self.items = list[int]()
        self.takers = list[Reply[int]]()

    def put(self, item: int) -> None:
        while self.takers:
            taker = self.takers.pop(0)
            if self.forgets and len(self.takers) == 1:
                return  # the lost reply: neither this taker nor the item is seen again
            if not taker.abandoned:
                taker.send(item)
                return
        self.items.append(item)

    def take(self) -> int | Reply[int]:
        if self.items:
            return self.items.pop(0)
        self.takers.append(Reply())
        return self.takers[-1]

    def crash(self) -> None:
        raise Boom


class QueueMachine(SupervisedMachine):
    """The model: how many were put and taken."""

    forgets = False
    rule_timeout = 60.0

    def spec(self) -> SupervisorSpec:
        self.queue: ActorRef[Queue] = ActorRef("queue")
        self.put = 0
        self.taken = list[int]()
        self.takers = 0
        return SupervisorSpec(
            children=[actor(self.queue, lambda: Queue(forgets=self.forgets))],
            max_restarts=1000,
        )

    @rule(times=st.integers(1, 3))
    async def put_items(self, times: int) -> None:
        for _ in range(times):
            self.put += 1
            await self.queue.call(Queue.put, self.put)

    @rule()
    async def take_in_the_background(self) -> None:
        async def take() -> None:
            self.taken.append(await self.queue.call(Queue.take))

        self.takers += 1
        self.nursery.start_soon(take)

    @invariant()
    async def who_can_be_served_is_served(self) -> None:
        await self.wait_until_quiet()
        assert len(self.taken) == min(self.put, self.takers)


class ForgetfulQueueMachine(QueueMachine):
    forgets = True


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=30)


def test_a_lost_reply_is_found() -> None:
    with pytest.raises(AssertionError, match="assert 0 == 1"):
        check(ForgetfulQueueMachine)
    assert_no_loop_runs()


def test_the_same_machine_without_the_bug_passes() -> None:
    check(QueueMachine)
    assert_no_loop_runs()


def test_a_machine_without_a_tree_runs() -> None:
    class Machine(SupervisedMachine):
        @rule()
        async def wait(self) -> None:
            await trio.sleep(1)

        @rule()
        def plain(self) -> None:
            self.run(trio.sleep, 1)

    check(Machine)


def test_bundles_and_initialize_fit_async_methods() -> None:
    seen = list[tuple[int, float]]()

    class Machine(SupervisedMachine):
        times = Bundle("times")

        @initialize(target=times)
        async def start(self) -> float:
            await trio.sleep(1)
            return trio.current_time()

        @rule(target=times, seconds=st.integers(1, 3))
        async def sleep(self, seconds: int) -> float:
            await trio.sleep(seconds)
            return trio.current_time()

        @rule(time=times)
        async def look(self, time: float) -> None:
            assert 1 <= time <= trio.current_time()
            seen.append((1, time))

    check(Machine)
    assert seen


def test_assume_in_an_async_rule_is_no_failure() -> None:
    class Machine(SupervisedMachine):
        @rule(number=st.integers(0, 3), data=st.data())
        async def sleep(self, number: int, data: Any) -> None:
            assume(number)
            async with trio.open_nursery():
                data.draw(st.integers(0, number))

    check(Machine, max_examples=20)


# The schedule.


def test_hypothesis_draws_the_order_of_steps() -> None:
    orders = set[tuple[int, ...]]()

    class Machine(SupervisedMachine):
        @rule()
        async def race(self) -> None:
            seen = list[int]()

            async def run(number: int) -> None:
                await trio.lowlevel.checkpoint()
                seen.append(number)

            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(run, number)
            orders.add(tuple(seen))

    check(Machine)
    assert len(orders) > 2


def test_a_race_is_found_and_its_schedule_is_printed(capsys) -> None:
    class Machine(SupervisedMachine):
        @rule()
        async def race(self) -> None:
            seen = list[int]()

            async def run(number: int) -> None:
                await trio.lowlevel.checkpoint()
                seen.append(number)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, 0)
                nursery.start_soon(run, 1)
            assert seen == [0, 1]

    with pytest.raises(AssertionError) as caught:
        check(Machine)
    told = "\n".join(getattr(caught.value, "__notes__", ())) + capsys.readouterr().out
    assert "state.choose_schedule(schedule=" in told
    assert "state.race()" in told


def test_an_example_can_be_written_out_by_hand() -> None:
    machine = QueueMachine()
    machine.choose_schedule(schedule=Seeded(3))
    machine.take_in_the_background()
    machine.put_items(times=2)
    machine.who_can_be_served_is_served()
    assert machine.taken == [1]
    machine.teardown()
    assert_no_loop_runs()


# What goes wrong.


def one_rule(body: Any, **attributes: Any) -> type[SupervisedMachine]:
    """Return a machine whose only rule is the async function *body*."""
    return type("Machine", (SupervisedMachine,), {"only": rule()(body), **attributes})


async def hang(_machine: SupervisedMachine) -> None:
    await trio.sleep_forever()


async def hang_shielded(_machine: SupervisedMachine) -> None:
    with trio.CancelScope(shield=True):
        await trio.Event().wait()


async def spin(_machine: SupervisedMachine) -> None:
    await go_round()


async def crash_later(machine: SupervisedMachine) -> None:
    async def crash() -> None:
        await trio.sleep(1)
        raise Boom

    machine.nursery.start_soon(crash)
    await trio.sleep(0.5)


async def crash_at_once(machine: SupervisedMachine) -> None:
    async def crash() -> None:
        raise Boom

    machine.nursery.start_soon(crash)
    await trio.sleep(0.5)


async def interrupt(_machine: SupervisedMachine) -> None:
    raise KeyboardInterrupt


async def interrupt_by_signal(_machine: SupervisedMachine) -> None:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep(1)


async def interrupt_in_a_nursery(_machine: SupervisedMachine) -> None:
    async def raise_it() -> None:
        raise KeyboardInterrupt

    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_it)
        await trio.sleep(1)


async def interrupt_in_the_background(machine: SupervisedMachine) -> None:
    async def raise_it() -> None:
        raise KeyboardInterrupt

    machine.nursery.start_soon(raise_it)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (hang, Hang),
        (hang_shielded, Hang),
        (spin, Livelock),
        (crash_at_once, Boom),
        (crash_later, Boom),
        (interrupt, KeyboardInterrupt),
        (interrupt_by_signal, KeyboardInterrupt),
        (interrupt_in_a_nursery, KeyboardInterrupt),
        (interrupt_in_the_background, KeyboardInterrupt),
    ],
)
def test_a_failure_comes_out_as_itself_and_leaves_no_loop(body, error) -> None:
    machine = one_rule(body, rule_max_steps=2000)
    with pytest.raises(error):
        check(machine)
    assert_no_loop_runs()


@pytest.mark.parametrize("times", [1, 3])
def test_crashes_after_the_last_rule_are_failures_too(times: int) -> None:
    async def start_crashes(machine: SupervisedMachine) -> None:
        async def crash() -> None:
            raise Boom

        for _ in range(times):
            machine.nursery.start_soon(crash)

    machine: Any = one_rule(start_crashes)()
    machine.only()
    with pytest.raises((Boom, ExceptionGroup)) as caught:
        machine.teardown()
    crashes = getattr(caught.value, "exceptions", [caught.value])
    assert len(crashes) == times, "none is hidden behind another"


def test_a_hang_says_where_everybody_is() -> None:
    with pytest.raises(Hang) as caught:
        check(one_rule(hang))
    assert any("hang (test_machine.py:" in line for line in caught.value.tasks)


def test_every_rule_has_its_own_limits() -> None:
    async def take_some(_machine: SupervisedMachine) -> None:
        await trio.sleep(8)
        for _ in range(50):
            await trio.lowlevel.checkpoint()

    machine: Any = one_rule(take_some, rule_max_steps=200, rule_timeout=10.0)()
    for _ in range(20):
        machine.only()
    machine.teardown()


def test_a_tree_that_gives_up_is_the_failure() -> None:
    class Machine(SupervisedMachine):
        def spec(self) -> SupervisorSpec:
            self.queue: ActorRef[Queue] = ActorRef("queue")
            queue = actor(self.queue, lambda: Queue(forgets=False))
            return SupervisorSpec(children=[queue], max_restarts=1)

        @rule()
        async def crash(self) -> None:
            with pytest.raises((ActorDied, ActorStopped)):
                await self.queue.call(Queue.crash)
            await trio.sleep(0.1)

    with pytest.raises(RestartIntensityReached):
        check(Machine)
    assert_no_loop_runs()


def test_a_tree_that_does_not_start_is_the_failure() -> None:
    class Machine(SupervisedMachine):
        def spec(self) -> SupervisorSpec:
            raise Boom

        @rule()
        def nothing(self) -> None:
            pass

    with pytest.raises(Boom):
        check(Machine)
    assert_no_loop_runs()


def test_a_child_that_will_not_stop_is_the_failure() -> None:
    class Machine(SupervisedMachine):
        rule_timeout = 20_000.0

        def spec(self) -> SupervisorSpec:
            return SupervisorSpec(children=[stubborn("mule", trio.Event())])

        @rule()
        def nothing(self) -> None:
            pass

    with pytest.raises(AssertionError, match=r"would not stop: .*mule"):
        check(Machine)
    assert_no_loop_runs()


def test_a_crash_while_a_child_will_not_stop_does_not_hang() -> None:
    class Machine(SupervisedMachine):
        def spec(self) -> SupervisorSpec:
            return SupervisorSpec(children=[stubborn("mule", trio.Event())])

        @rule()
        async def crash(self) -> None:
            await crash_at_once(self)

    machine = Machine()
    with pytest.raises(Hang) as caught:
        machine.crash()
    assert isinstance(caught.value.__context__, Boom | ExceptionGroup)
    with pytest.raises(Hang):
        machine.run(trio.sleep, 1)
    machine.teardown()
    assert_no_loop_runs()


# The end.


def test_teardown_stops_the_tree_and_then_checks() -> None:
    log = list[str]()

    class Machine(SupervisedMachine):
        def spec(self) -> SupervisorSpec:
            async def body() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    log.append("stopped")

            return SupervisorSpec(children=[child("child", body)])

        async def check_at_the_end(self) -> None:
            assert self.root.inspect().state == "stopped"
            log.append("checked")

        @rule()
        async def look(self) -> None:
            assert self.events == [ChildStarted("child", 1)]
            log.append("rule")

    machine = Machine()
    machine.look()
    machine.teardown()
    machine.teardown()
    assert log == ["rule", "stopped", "checked"]


def test_a_check_at_the_end_that_fails_is_the_failure() -> None:
    class Machine(SupervisedMachine):
        async def check_at_the_end(self) -> None:
            raise Boom

        @rule()
        def nothing(self) -> None:
            pass

    with pytest.raises(Boom):
        check(Machine)
    assert_no_loop_runs()


def test_a_rule_may_stop_the_tree() -> None:
    class Machine(QueueMachine):
        @rule()
        async def stop(self) -> None:
            self.root.stop()
            await self.wait_until_quiet()
            assert self.root.inspect().state == "stopped"

    machine = Machine()
    machine.stop()
    with pytest.raises(ActorStopped):
        machine.put_items(times=1)
    machine.teardown()


def test_after_its_end_nothing_runs_in_a_machine() -> None:
    machine = QueueMachine()
    machine.teardown()
    with pytest.raises(LoopEnded):
        machine.put_items(times=1)


# Ctrl-C between two steps.


def test_ctrl_c_outside_of_the_loop_leaves_none_running() -> None:
    def interrupt_once(tasks: Any) -> Any:
        loop.order = Fifo().start()
        loop._ticks.put(raise_interrupt)
        return tasks

    def raise_interrupt() -> None:
        raise KeyboardInterrupt

    async def main(serve: Any) -> None:
        await serve()

    loop = GuestLoop(main, order=Fifo().start(), max_steps=100, timeout=60.0)
    loop.order = interrupt_once
    with pytest.raises(KeyboardInterrupt):
        loop.run(trio.sleep_forever)
    loop.close()
    assert_no_loop_runs()


def test_ctrl_c_during_the_start_leaves_no_loop_running(monkeypatch) -> None:
    turn_until = GuestLoop._turn_until
    interrupts = [KeyboardInterrupt()]

    def interrupted(self: GuestLoop, is_enough: Any) -> None:
        if interrupts:
            raise interrupts.pop()
        turn_until(self, is_enough)

    monkeypatch.setattr(GuestLoop, "_turn_until", interrupted)
    with pytest.raises(KeyboardInterrupt):
        QueueMachine()
    assert_no_loop_runs()


def test_a_machines_schedules_are_those_of_the_package() -> None:
    class Noted(SupervisedMachine):
        drawn: ClassVar = set[type[Schedule]]()

        @initialize(schedule=schedules())
        def note(self, schedule: Schedule) -> None:
            self.drawn.add(type(schedule))

        @rule()
        def nothing(self) -> None:
            pass

    check(Noted)
    assert len(Noted.drawn) == 4
