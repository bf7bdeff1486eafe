"""Tasks: supervised functions with a result, alone and as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import event, example, given, strategies as st
from outcome import Error, Value
from trio.testing import MockClock

from supervisors import (
    ActorStopped,
    ChildTerminated,
    ChildUnkillable,
    CleanExit,
    Crashed,
    Event,
    OnTimeout,
    RestartIntensityReached,
    ShutdownError,
    StreamStatistics,
    Supervisor,
    SupervisorSpec,
    TaskDied,
    TaskStopped,
    TaskStream,
    TaskSupervisor,
    TaskTimedOut,
    TooManyChildren,
    open_supervisor,
    task_supervisor,
)
from supervisors._process import KILL_GRACE
from tests.supervisors.children import Boom, ends, idle, settled


@asynccontextmanager
async def running(
    events: list[Event] | None = None, **options: Any
) -> AsyncGenerator[tuple[Supervisor, TaskSupervisor]]:
    """Run a task supervisor ``t`` below a root."""
    tasks = TaskSupervisor("t", **options)
    spec = SupervisorSpec(children=[task_supervisor(tasks)])
    hook = (lambda _: None) if events is None else events.append
    async with open_supervisor(spec, on_event=hook) as root:
        yield root, tasks


async def double(number: int, seconds: float = 1.0) -> int:
    await trio.sleep(seconds)
    return 2 * number


async def crash(seconds: float = 1.0) -> None:
    await trio.sleep(seconds)
    raise Boom("a secret")


async def ignore_cancellation(until: trio.Event) -> str:
    with trio.move_on_after(10_000, shield=True):
        await until.wait()
    return "late"


# One task.


async def test_a_task_returns_what_its_function_returns(
    autojump_clock: MockClock,
) -> None:
    async with running() as (root, tasks):
        task = await tasks.async_nolink(double, 4, seconds=3)
        assert trio.current_time() == 0
        assert not task.done
        with pytest.raises(trio.WouldBlock):
            _ = task.outcome
        assert [node.path for node in root.inspect().walk()][2:] == ["t/double"]
        assert await task.wait() == 8
        assert trio.current_time() == 3
        assert task.outcome == Value(8)
        assert (await tasks.count_children()).specs == 0


async def test_a_function_that_does_not_wait_has_a_result_too(
    autojump_clock: MockClock,
) -> None:
    async def at_once() -> str:
        return "now"

    async with running() as (_, tasks):
        task = await tasks.async_nolink(at_once)
        assert await task.wait() == "now"


async def test_a_crash_is_an_event_and_an_error_for_who_waits(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async with running(events) as (root, tasks):
        task = await tasks.async_nolink(crash)
        other = await tasks.async_nolink(double, 1, 2)
        with pytest.raises(TaskDied, match=r"^task 'crash' died: Boom$") as caught:
            await task.wait()
        assert isinstance(caught.value.__cause__, Boom)
        assert isinstance(task.outcome, Error)
        assert await other.wait() == 2
        assert root.inspect().children[0].restarts == 0
    assert ends(events, ChildTerminated) == [
        ("t/crash", Crashed(caught.value.__cause__))
    ]


async def test_any_number_may_wait_and_each_gets_an_error_of_its_own(
    autojump_clock: MockClock,
) -> None:
    errors = list[Exception]()
    async with running() as (_, tasks), trio.open_nursery() as nursery:
        task = await tasks.async_nolink(crash)

        async def wait() -> None:
            try:
                await task.wait()
            except TaskDied as error:
                errors.append(error)

        for _ in range(3):
            nursery.start_soon(wait)
    assert len({id(error) for error in errors}) == 3
    assert len({id(error.__cause__) for error in errors}) == 1


async def test_a_cancelled_waiter_does_not_cancel_the_task(
    autojump_clock: MockClock,
) -> None:
    async with running() as (_, tasks):
        task = await tasks.async_nolink(double, 1, 5)
        with trio.move_on_after(1):
            await task.wait()
        assert trio.current_time() == 1
        assert await task.wait() == 2


async def test_the_end_of_the_supervisor_stops_its_tasks_and_says_so(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    cleaned = list[float]()

    async def clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            cleaned.append(trio.current_time())

    async with running(events) as (root, tasks):
        task = await tasks.async_nolink(clean_up)
        await root.terminate_child("t")
        assert cleaned == [2]
        with pytest.raises(TaskStopped, match="'clean_up' was stopped before"):
            await task.wait()
        with pytest.raises(ActorStopped):
            await tasks.async_nolink(double, 1)
    assert not ends(events, ShutdownError)
    assert not ends(events, ChildTerminated)


async def test_a_task_that_takes_too_long_to_stop_is_killed_with_the_supervisor(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    async with running(events, shutdown=2.0) as (root, tasks):
        task = await tasks.async_nolink(ignore_cancellation, until)
        await root.terminate_child("t")
        assert trio.current_time() == 2 + KILL_GRACE
        with pytest.raises(TaskStopped):
            await task.wait()
        until.set()
        await settled()
        assert isinstance(task.outcome, Error)


async def test_a_cancelled_task_ends_without_a_report(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async with running(events) as (_, tasks):
        task = await tasks.async_nolink(trio.sleep_forever)
        task.cancel()
        with pytest.raises(TaskStopped):
            await task.wait()
        task.cancel()
        assert repr(task) == "<Task 'sleep_forever', error>"
        other = await tasks.async_nolink(trio.sleep_forever)
        assert repr(other) == "<Task 'sleep_forever', running>"
        assert repr(tasks) == "<TaskSupervisor 't'>"
    assert not ends(events, ChildTerminated)


async def test_a_result_is_kept_though_the_task_was_cancelled(
    autojump_clock: MockClock,
) -> None:
    until = trio.Event()
    async with running() as (_, tasks):
        task = await tasks.async_nolink(ignore_cancellation, until)
        await settled()
        task.cancel()
        until.set()
        assert await task.wait() == "late"


async def test_a_crash_from_outside_is_a_crash(autojump_clock: MockClock) -> None:
    async with running() as (root, tasks):
        task = await tasks.async_nolink(trio.sleep_forever)
        root.crash_child("t/sleep_forever", Boom())
        with pytest.raises(TaskDied):
            await task.wait()


async def test_a_crash_from_outside_counts_though_the_function_returns(
    autojump_clock: MockClock,
) -> None:
    until = trio.Event()
    async with running() as (root, tasks):
        task = await tasks.async_nolink(ignore_cancellation, until)
        root.crash_child("t/ignore_cancellation", Boom())
        until.set()
        with pytest.raises(TaskDied):
            await task.wait()


async def test_a_clean_exit_is_no_crash_and_no_result(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async def leave() -> None:
        raise CleanExit("no more")

    async with running(events) as (_, tasks):
        task = await tasks.async_nolink(leave)
        with pytest.raises(TaskStopped):
            await task.wait()
    assert not ends(events, ChildTerminated)


async def test_shutdown_waits_for_the_end_of_the_task(
    autojump_clock: MockClock,
) -> None:
    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    async with running() as (_, tasks):
        task = await tasks.async_nolink(slow)
        await task.shutdown()
        assert trio.current_time() == 2
        assert task.done
        await task.shutdown()
        task = await tasks.async_nolink(slow)
        await task.shutdown(seconds=1)
        assert trio.current_time() == 4


async def test_shutdown_gives_up_what_cannot_be_stopped(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    async with running(events, shutdown=1.0) as (_, tasks):
        task = await tasks.async_nolink(ignore_cancellation, until)
        await task.shutdown(seconds=3)
        assert trio.current_time() == 3 + KILL_GRACE + 1 + KILL_GRACE
        assert isinstance(task.outcome, Error)
        assert (await tasks.count_children()).specs == 0
        until.set()
    unkillable = [each for each in events if isinstance(each, ChildUnkillable)]
    assert [each.path for each in unkillable] == ["t/ignore_cancellation"]


@pytest.mark.parametrize("steps", range(8))
async def test_a_start_that_is_cancelled_leaves_nothing_behind(
    autojump_clock: MockClock, steps: int
) -> None:
    """Wherever the request is by then."""
    started = list[str]()

    async def start(tasks: TaskSupervisor) -> None:
        started.append(await tasks.start_child(trio.sleep_forever))

    async with running() as (_, tasks):
        await settled()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, tasks)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await settled()
        left = [info.id for info in await tasks.which_children()]
        assert left == started


async def test_more_tasks_than_allowed_are_refused(autojump_clock: MockClock) -> None:
    async with running(max_children=1) as (_, tasks):
        task = await tasks.async_nolink(double, 1)
        with pytest.raises(TooManyChildren):
            await tasks.async_nolink(double, 1)
        await task.wait()
        assert await (await tasks.async_nolink(double, 2)).wait() == 4


async def test_nobody_needs_to_wait_for_a_child(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async with running(events) as (_, tasks):
        ids = [await tasks.start_child(crash) for _ in range(2)]
        assert ids == ["crash", "crash-1"]
        assert await tasks.start_child(partial(double, 1)) == "task"
        await tasks.terminate_child("crash-1")
        await trio.sleep(2)
    assert [path for path, _ in ends(events, ChildTerminated)] == ["t/crash"]


async def test_tasks_are_not_restarted_with_their_supervisor(
    autojump_clock: MockClock,
) -> None:
    async with running() as (root, tasks):
        task = await tasks.async_nolink(trio.sleep_forever)
        root.crash_child("t", Boom())
        with pytest.raises(TaskStopped):
            await task.wait()
        await settled()
        assert await tasks.which_children() == ()
        assert await (await tasks.async_nolink(double, 1)).wait() == 2


async def test_a_task_that_stops_because_the_tree_gave_up_is_no_second_error(
    autojump_clock: MockClock,
) -> None:
    tasks = TaskSupervisor("t")
    children = [idle("other"), task_supervisor(tasks)]
    spec = SupervisorSpec(children=children, max_restarts=0)
    with pytest.raises(RestartIntensityReached):
        async with open_supervisor(spec) as root:
            task = await tasks.async_nolink(trio.sleep_forever)
            root.crash_child("other", Boom())
            await task.wait()


# Streams.


async def numbers(count: int, closed: list[str]) -> AsyncGenerator[int]:
    try:
        for number in range(count):
            await trio.sleep(0.1)
            yield number
    finally:
        closed.append("closed")


async def test_a_stream_has_an_outcome_for_every_item_in_order(
    autojump_clock: MockClock,
) -> None:
    async def work(number: int) -> int:
        await trio.sleep(5 - number)
        if number == 2:
            raise Boom
        return number

    async with running() as (_, tasks):
        async with tasks.async_stream(work, range(5), max_concurrency=5) as results:
            outcomes = [each async for each in results]
        assert trio.current_time() == 5
        assert [each.unwrap() for each in outcomes if isinstance(each, Value)] == [
            0,
            1,
            3,
            4,
        ]
        failed = outcomes[2]
        assert isinstance(failed, Error)
        assert isinstance(failed.error, TaskDied)
        assert isinstance(failed.error.__cause__, Boom)


async def test_an_unordered_stream_gives_what_is_done_first(
    autojump_clock: MockClock,
) -> None:
    async def work(number: int) -> int:
        await trio.sleep(5 - number)
        return number

    async with (
        running() as (_, tasks),
        tasks.async_stream(work, range(5), max_concurrency=5, ordered=False) as results,
    ):
        assert [each.unwrap() async for each in results] == [4, 3, 2, 1, 0]


async def test_a_slow_first_item_does_not_let_the_others_run_ahead(
    autojump_clock: MockClock,
) -> None:
    taken = list[int]()

    def items() -> Any:
        for number in range(1000):
            taken.append(number)
            yield number

    async def work(number: int) -> int:
        await trio.sleep(0 if number else 100)
        return number

    async with (
        running() as (_, tasks),
        tasks.async_stream(work, items(), max_concurrency=4) as results,
    ):
        await trio.sleep(50)
        assert taken == [0, 1, 2, 3]
        assert results.statistics() == StreamStatistics(running=1, waiting=3)
        assert (await anext(results)).unwrap() == 0
        await settled()
        assert taken == [0, 1, 2, 3, 4]


async def test_outcomes_come_while_the_source_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    async def slow_source() -> AsyncGenerator[int]:
        yield 1
        await trio.sleep(100)
        yield 2

    async with (
        running() as (_, tasks),
        tasks.async_stream(double, slow_source(), max_concurrency=4) as results,
    ):
        assert (await anext(results)).unwrap() == 2
        assert trio.current_time() == 1
        assert (await anext(results)).unwrap() == 4
        assert trio.current_time() == 101


async def test_what_the_items_raise_comes_behind_the_outcomes_before(
    autojump_clock: MockClock,
) -> None:
    async def breaks() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise Boom

    got = list[int]()
    async with running() as (_, tasks):
        with pytest.raises(Boom):
            async with tasks.async_stream(
                double, breaks(), max_concurrency=4
            ) as results:
                async for each in results:
                    got.append(each.unwrap())
    assert got == [2, 4]


async def test_leaving_the_block_early_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    closed = list[str]()
    async with running() as (_, tasks):
        async with tasks.async_stream(
            double, numbers(100, closed), max_concurrency=4
        ) as results:
            async for each in results:
                assert each == Value(0)
                break
            assert results.statistics().running
        assert closed == ["closed"]
        assert (await tasks.count_children()).specs == 0
        with pytest.raises(trio.ClosedResourceError):
            await anext(results)


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_block_left_during_a_start_leaves_nothing_behind(
    autojump_clock: MockClock, ordered: bool, steps: int
) -> None:
    running_now = 0

    async def work(_: int) -> None:
        nonlocal running_now
        running_now += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            running_now -= 1

    async with running() as (_, tasks):
        await settled()
        async with tasks.async_stream(
            work, range(9), max_concurrency=2, ordered=ordered
        ):
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
        assert running_now == 0
        await settled()
        assert await tasks.which_children() == ()


@pytest.mark.parametrize("while_taking", [True, False])
async def test_a_cancelled_consumer_leaves_nothing_behind(
    autojump_clock: MockClock, while_taking: bool
) -> None:
    closed = list[str]()
    async with running() as (_, tasks):
        with trio.move_on_after(0.55) as scope:
            async with tasks.async_stream(
                double, numbers(100, closed), max_concurrency=8
            ) as results:
                if while_taking:
                    await anext(results)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(0.55)
        assert closed == ["closed"]
        assert (await tasks.count_children()).specs == 0


async def test_leaving_the_block_waits_for_the_cleanup_of_what_ran(
    autojump_clock: MockClock,
) -> None:
    async def slow_to_stop(_: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

    async with running() as (_, tasks):
        async with tasks.async_stream(slow_to_stop, range(9), max_concurrency=3):
            await settled()
        assert trio.current_time() == 3
        assert (await tasks.count_children()).specs == 0


@pytest.mark.parametrize(
    "error", [Boom(), KeyboardInterrupt(), ExceptionGroup("", [Boom()])]
)
async def test_an_error_of_the_block_comes_out_as_itself(
    autojump_clock: MockClock, error: BaseException
) -> None:
    caught: BaseException | None = None
    async with running() as (_, tasks):
        try:
            async with tasks.async_stream(double, range(9), max_concurrency=3):
                raise error  # noqa: TRY301 - the block is what is tested
        except BaseException as raised:  # noqa: ASYNC103, BLE001 - it is compared
            caught = raised
    assert caught is error


async def test_an_error_of_a_block_that_is_being_cancelled_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    async with running() as (_, tasks):
        with pytest.raises(Boom), trio.CancelScope() as scope:
            async with tasks.async_stream(double, numbers(9, []), max_concurrency=3):
                await trio.sleep(0.25)
                scope.cancel()
                raise Boom


async def test_ctrl_c_in_the_items_ends_a_block_that_does_not_look(
    autojump_clock: MockClock,
) -> None:
    async def interrupted() -> AsyncGenerator[int]:
        await trio.sleep(1)
        yield 1
        raise KeyboardInterrupt

    async with running() as (_, tasks):
        with pytest.raises(KeyboardInterrupt):
            async with tasks.async_stream(double, interrupted(), max_concurrency=3):
                await trio.sleep_forever()
        assert trio.current_time() == 1
        assert (await tasks.count_children()).specs == 0


async def test_an_error_in_the_cleanup_of_the_items_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    async def dirty() -> AsyncGenerator[int]:
        try:
            yield 1
            await trio.sleep_forever()
        finally:
            raise Boom

    async with running() as (_, tasks):
        with pytest.raises(Boom):
            async with tasks.async_stream(double, dirty(), max_concurrency=3) as some:
                assert await anext(some) == Value(2)


async def test_a_stream_without_room_is_refused(autojump_clock: MockClock) -> None:
    async with running() as (_, tasks):
        with pytest.raises(ValueError, match="at least 1, not 0"):
            tasks.async_stream(double, [1], max_concurrency=0)


async def test_a_task_that_takes_too_long_ends_the_stream(
    autojump_clock: MockClock,
) -> None:
    async def work(number: int) -> int:
        await trio.sleep(number)
        return number

    got = list[int]()
    async with running() as (_, tasks):
        with pytest.raises(TaskTimedOut, match=r"took longer than 2\.5 s$"):
            async with tasks.async_stream(
                work, range(100), max_concurrency=8, timeout=2.5
            ) as results:
                async for each in results:
                    got.append(each.unwrap())
        assert got == [0, 1, 2]
        assert trio.current_time() == 2.5
        assert (await tasks.count_children()).specs == 0


async def test_a_task_that_takes_too_long_may_be_an_outcome_like_others(
    autojump_clock: MockClock,
) -> None:
    async def work(number: int) -> int:
        await trio.sleep(number)
        return number

    async with (
        running() as (_, tasks),
        tasks.async_stream(
            work, [1, 9, 2], max_concurrency=1, timeout=3, on_timeout="kill_task"
        ) as results,
    ):
        first, second, third = [each async for each in results]
        assert (first, third) == (Value(1), Value(2))
        assert isinstance(second, Error)
        assert isinstance(second.error, TaskTimedOut)
        assert trio.current_time() == 6


async def test_a_task_that_was_stopped_in_its_time_is_not_called_late(
    autojump_clock: MockClock,
) -> None:
    async with (
        running() as (_, tasks),
        tasks.async_stream(double, [1], max_concurrency=1, timeout=3) as results,
    ):
        await settled()
        await tasks.terminate_child("double")
        await settled()
        stopped = await anext(results)
        assert isinstance(stopped, Error)
        assert type(stopped.error) is TaskStopped


async def test_a_task_that_ignores_its_timeout_does_not_hold_up_the_stream_for_ever(
    autojump_clock: MockClock,
) -> None:
    until = trio.Event()

    async def work(number: int) -> object:
        return number or await ignore_cancellation(until)

    async with running(shutdown=1.0) as (_, tasks):
        async with tasks.async_stream(
            work,
            range(3),
            max_concurrency=2,
            timeout=1,
            on_timeout=OnTimeout.KILL_TASK,
        ) as results:
            first, second, third = [each async for each in results]
        assert isinstance(first, Error)
        assert isinstance(first.error, TaskTimedOut)
        assert (second, third) == (Value(1), Value(2))
        assert trio.current_time() < 20
        until.set()


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_start_that_is_refused_ends_the_stream_behind_what_was_started(
    autojump_clock: MockClock, ordered: bool
) -> None:
    got = list[int]()
    async with running(max_children=2) as (_, tasks):
        with pytest.raises(TooManyChildren):
            async with tasks.async_stream(
                double, range(1, 9), max_concurrency=3, ordered=ordered
            ) as results:
                async for each in results:
                    got.append(each.unwrap())
    assert sorted(got) == [2, 4]


async def test_a_stream_whose_supervisor_stops_says_so(
    autojump_clock: MockClock,
) -> None:
    async with running() as (root, tasks), trio.open_nursery() as nursery:
        got = list[Any]()
        with pytest.raises(ActorStopped):
            async with tasks.async_stream(
                double, range(9), max_concurrency=3
            ) as results:
                await settled()
                nursery.start_soon(root.terminate_child, "t")
                async for each in results:
                    got.append(each)
        assert [type(each.error) for each in got] == [TaskStopped] * 3


async def test_a_stream_of_nothing_ends_at_once(autojump_clock: MockClock) -> None:
    async with (
        running() as (_, tasks),
        tasks.async_stream(double, [], max_concurrency=3) as results,
    ):
        assert [each async for each in results] == []


async def test_a_stream_can_be_consumed_by_several(autojump_clock: MockClock) -> None:
    got = list[int]()
    async with (
        running() as (_, tasks),
        tasks.async_stream(double, range(20), max_concurrency=5) as results,
        trio.open_nursery() as nursery,
    ):

        async def consume() -> None:
            async for each in results:
                got.append(each.unwrap())

        for _ in range(3):
            nursery.start_soon(consume)
    assert sorted(got) == list(range(0, 40, 2))


@attrs.frozen
class Job:
    """One item of a drawn stream: how its task ends, and when."""

    takes: float
    ends: str


@attrs.define
class Watch:
    """The source, the function and the consumer of a stream, and what they saw."""

    drawn: list[Job]
    taken: int = 0
    started: list[int] = attrs.field(factory=list[int])
    running: int = 0
    done: list[tuple[int, str]] = attrs.field(factory=list[tuple[int, str]])
    most_running: int = 0
    most_between: int = 0

    def take(self, number: int) -> int:
        self.taken += 1
        self.most_between = max(self.most_between, self.taken - len(self.done))
        return number

    async def generate(self, pause: float) -> AsyncGenerator[int]:
        for number in range(len(self.drawn)):
            await trio.sleep(pause)
            yield self.take(number)

    async def work(self, number: int) -> int:
        self.started.append(number)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        job = self.drawn[number]
        try:
            await trio.sleep(1000 if job.ends == "never" else job.takes)
        finally:
            self.running -= 1
        if job.ends == "crash":
            raise Boom(number)
        return number

    async def consume(
        self, results: TaskStream[int], pauses: list[float], leave_after: int | None
    ) -> None:
        while leave_after is None or len(self.done) < leave_after:
            try:
                result = await anext(results)
            except StopAsyncIteration:
                return
            self.done.append(told(result))
            await trio.sleep(pauses[len(self.done) - 1])


jobs = st.builds(
    Job,
    takes=st.sampled_from([0, 1, 2, 5, 30]),
    ends=st.sampled_from(["value", "value", "crash", "never"]),
)


@example(
    # The block is left while the third task is being started.
    drawn=[Job(0, "never"), Job(0, "never"), Job(1, "value")],
    max_concurrency=2,
    ordered=False,
    pauses=[0] * 15,
    source="slow",
    leave_after=2,
)
@given(
    drawn=st.lists(jobs, max_size=15),
    max_concurrency=st.integers(1, 5),
    ordered=st.booleans(),
    pauses=st.lists(st.sampled_from([0, 0, 1, 10]), min_size=15, max_size=15),
    source=st.sampled_from(["list", "quick", "slow"]),
    leave_after=st.none() | st.integers(0, 15),
)
def test_every_item_has_one_outcome_within_the_bounds(
    drawn: list[Job],
    max_concurrency: int,
    ordered: bool,
    pauses: list[float],
    source: str,
    leave_after: int | None,
) -> None:
    watch = Watch(drawn)

    async def main() -> None:
        items: Any = watch.generate(3 if source == "slow" else 0)
        if source == "list":
            items = map(watch.take, range(len(drawn)))
        async with running() as (_, tasks):
            async with tasks.async_stream(
                watch.work,
                items,
                max_concurrency=max_concurrency,
                ordered=ordered,
                timeout=50,
                on_timeout="kill_task",
            ) as results:
                await watch.consume(results, pauses, leave_after)
            assert watch.running == 0
            assert (await tasks.count_children()).specs == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
    judge(watch, ordered, leave_after)
    assert watch.most_running <= max_concurrency
    assert watch.most_between <= max_concurrency
    event(f"{watch.most_between} between, of {max_concurrency}")


def judge(watch: Watch, ordered: bool, leave_after: int | None) -> None:
    """Say whether these are the outcomes of the jobs, each once."""
    drawn, done = watch.drawn, watch.done
    expected = [
        (-1 if job.ends == "never" else number, job.ends)
        for number, job in enumerate(drawn)
    ]
    assert watch.started == list(range(len(watch.started)))
    left = len(drawn) if leave_after is None else min(leave_after, len(drawn))
    assert len(done) == left
    if ordered:
        assert done == expected[:left]
    else:
        assert not Counter(done) - Counter(expected)


def told(result: Any) -> tuple[int, str]:
    """Return whose outcome it is, if it says so, and of which kind."""
    match result:
        case Value(number):
            return number, "value"
        case Error(TaskDied() as died):
            assert isinstance(died.__cause__, Boom)
            return died.__cause__.args[0], "crash"
        case Error(TaskTimedOut()):
            return -1, "never"
        case _:
            pytest.fail(f"unexpected: {result}")
