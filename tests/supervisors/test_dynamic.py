"""The dynamic supervisor: many children, alike, started on demand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    ActorStopped,
    AutoShutdown,
    ChildCount,
    ChildNotFound,
    ChildSpec,
    ChildTerminated,
    Crashed,
    DynamicSupervisor,
    Event,
    GaveUp,
    Ignore,
    Killed,
    Restart,
    Shutdown,
    ShutdownError,
    StartFailed,
    Supervisor,
    SupervisorSpec,
    TooManyChildren,
    actor,
    child,
    dynamic_supervisor,
    open_supervisor,
)
from supervisors._process import KILL_GRACE, Process
from tests.supervisors.children import (
    Boom,
    Worker,
    ends,
    failing,
    idle,
    logged,
    settled,
    stubborn,
    worker,
)


@asynccontextmanager
async def dynamic(
    events: list[Event] | None = None, **options: object
) -> AsyncGenerator[tuple[Supervisor, DynamicSupervisor]]:
    """Run a dynamic supervisor ``d`` below a root."""
    handle = DynamicSupervisor("d", **options)
    tree = SupervisorSpec(children=[dynamic_supervisor(handle)])
    hook = (lambda _: None) if events is None else events.append
    async with open_supervisor(tree, on_event=hook) as root:
        yield root, handle


async def test_children_are_started_and_stopped_on_demand(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with dynamic() as (_, d):
        assert await d.start_child(spec) == "a"
        assert await ref.call(Worker.note, 1) == 1
        assert (await d.get_childspec("a")).id == "a"
        await d.terminate_child("a")
        with pytest.raises(ActorStopped):
            await ref.call(Worker.note, 1)
        with pytest.raises(ChildNotFound):
            await d.terminate_child("a")
        assert await d.which_children() == ()


async def test_children_of_one_id_get_ids_of_their_own(
    autojump_clock: MockClock,
) -> None:
    async with dynamic() as (root, d):
        ids = [await d.start_child(idle("job")) for _ in range(3)]
        assert ids == ["job", "job-1", "job-2"]
        paths = [node.path for node in root.inspect().walk()]
        assert paths == ["", "d", "d/job", "d/job-1", "d/job-2"]


async def test_a_crashed_child_is_restarted_alone(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    log = list[str]()
    async with dynamic(events) as (root, d):
        for name in "ab":
            await d.start_child(logged(name, log))
        log.clear()
        root.crash_child("d/a", Boom())
        await settled()
        assert log == ["-a", "+a"]
    assert [path for path, _ in ends(events, ChildTerminated)] == ["d/a"]


async def test_a_child_that_has_ended_is_forgotten(autojump_clock: MockClock) -> None:
    ref, spec = worker("a", restart=Restart.TEMPORARY)
    async with dynamic() as (root, d):
        await d.start_child(spec)
        root.crash_child("d/a", Boom())
        await settled()
        assert await d.which_children() == ()
        with pytest.raises(ActorStopped):
            await ref.call(Worker.note, 1)


async def test_children_stop_in_parallel_under_one_time_limit(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    log = list[str]()
    async with dynamic(events) as (_, d):
        for number in range(5):
            await d.start_child(logged(f"a{number}", log, stop_takes=3))
        for _ in range(3):
            await d.start_child(logged("slow", log, stop_takes=100, shutdown=4.0))
    assert trio.current_time() == pytest.approx(5)
    assert ends(events, ShutdownError) == [("d/*", Killed())]
    (error,) = [event for event in events if isinstance(event, ShutdownError)]
    assert error.count == 3


async def test_errors_that_look_alike_are_reported_together(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    def fail() -> None:
        raise Boom("same")

    log = list[str]()
    async with dynamic(events) as (_, d):
        for number in range(5):
            await d.start_child(logged(f"a{number}", log, on_stop=fail))
    (error,) = [event for event in events if isinstance(event, ShutdownError)]
    assert error.count == 5
    assert isinstance(error.exit, Crashed)


async def test_a_brutal_kill_among_the_stopped_asks_nobody(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    async with dynamic() as (_, d):
        await d.start_child(
            logged("a", log, stop_takes=3, shutdown=Shutdown.BRUTAL_KILL)
        )
    assert trio.current_time() == 0


async def test_infinity_among_the_stopped_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    async with dynamic() as (_, d):
        await d.start_child(logged("a", log, stop_takes=50, shutdown=Shutdown.INFINITY))
        await d.start_child(logged("b", log, stop_takes=50, shutdown=2.0))
    assert log == ["+a", "+b", "-b", "-a"]
    assert trio.current_time() == pytest.approx(50)


async def test_unkillable_children_hold_each_other_up_no_longer_than_one(
    autojump_clock: MockClock,
) -> None:
    until = trio.Event()
    async with dynamic() as (root, d):
        for _ in range(10):
            await d.start_child(stubborn("x", until, shutdown=1.0))
        await root.terminate_child("d")
        assert trio.current_time() == pytest.approx(1 + KILL_GRACE)
        until.set()


async def test_start_child_while_the_supervisor_stops_is_refused(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    async with dynamic() as (root, d), trio.open_nursery() as nursery:
        await d.start_child(logged("a", log, stop_takes=3))
        nursery.start_soon(root.terminate_child, "d")
        await settled()
        with pytest.raises(ActorStopped):
            await d.start_child(idle("b"))


async def test_start_child_of_a_supervisor_that_does_not_run_is_refused(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(ActorStopped, match="'d' is not running"):
        await DynamicSupervisor("d").start_child(idle("a"))


async def test_too_many_children_are_refused(autojump_clock: MockClock) -> None:
    async with dynamic(max_children=2) as (_, d):
        await d.start_child(idle("a"))
        await d.start_child(idle("a"))
        with pytest.raises(TooManyChildren):
            await d.start_child(idle("a"))
        await d.terminate_child("a")
        assert await d.start_child(idle("a")) == "a"


async def test_a_failed_start_is_told_and_forgotten(autojump_clock: MockClock) -> None:
    async with dynamic(max_children=1) as (_, d):
        with pytest.raises(StartFailed) as failed:
            await d.start_child(failing("a", Boom()))
        assert isinstance(failed.value.__cause__, Boom)
        assert await d.start_child(failing("b", Ignore())) is None
        assert await d.which_children() == ()


async def test_a_failed_restart_is_tried_again(autojump_clock: MockClock) -> None:
    async with dynamic(max_restarts=5) as (root, d):
        await d.start_child(failing("a", None, Boom(), Boom(), None))
        root.crash_child("d/a", Boom())
        await settled()
        assert [info.state for info in await d.which_children()] == ["running"]


async def test_a_child_that_is_not_needed_at_its_restart_is_forgotten(
    autojump_clock: MockClock,
) -> None:
    """OTP keeps it, and crashes over it later: erlang/otp#8215."""
    async with dynamic() as (root, d):
        await d.start_child(failing("a", None, Ignore()))
        root.crash_child("d/a", Boom())
        await settled()
        assert await d.which_children() == ()


async def test_children_that_are_being_restarted_are_not_active(
    autojump_clock: MockClock,
) -> None:
    gate = trio.Event()

    async def body(process: Process) -> None:
        if gate.is_set():
            await trio.sleep(1)
            raise Boom
        process.started()
        await gate.wait()

    async with dynamic(max_restarts=5) as (_, d):
        await d.start_child(ChildSpec(id="a", body=body))
        await d.start_child(idle("b"))
        gate.set()
        await trio.sleep(0.5)
        # The request is served between two tries.
        assert await d.count_children() == ChildCount(
            specs=2, active=1, supervisors=0, workers=2
        )
        await d.terminate_child("a")
        assert [info.id for info in await d.which_children()] == ["b"]


async def test_a_child_counts_until_its_end_has_been_noticed(
    autojump_clock: MockClock,
) -> None:
    """As in OTP, which asks the processes only of a static supervisor."""

    async def slow(process: Process) -> None:
        await trio.sleep(1)
        process.started()
        await trio.sleep_forever()

    async with dynamic() as (root, d), trio.open_nursery() as nursery:
        await d.start_child(idle("a", restart=Restart.TEMPORARY))
        nursery.start_soon(d.start_child, ChildSpec(id="slow", body=slow))
        await settled()
        counts = list[int]()

        async def count() -> None:
            counts.append((await d.count_children()).active)

        nursery.start_soon(count)
        await settled()
        root.crash_child("d/a", Boom())
        await trio.sleep(2)
        await count()
        assert counts == [2, 1]


async def test_giving_up_stops_all_and_names_the_child(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    log = list[str]()
    async with dynamic(events, max_restarts=0) as (root, d):
        for _ in range(3):
            await d.start_child(logged("a", log))
        root.crash_child("d/a-1", Boom())
        await settled()
        assert log[3] == "-a"
        assert len(log) == 6
        # The root has started it again, without its children.
        assert await d.which_children() == ()
    assert GaveUp("d", "a-1") in events


async def test_significant_children_may_end_the_supervisor(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Worker] = ActorRef("x")
    async with dynamic(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT) as (root, d):
        for name in "ab":
            await d.start_child(idle(name, restart=Restart.TEMPORARY, significant=True))
        await d.start_child(actor(ref, Worker))
        root.crash_child("d/a", Boom())
        await settled()
        assert len(await d.which_children()) == 2
        root.crash_child("d/b", Boom())
        await settled()
        assert await d.which_children() == ()
        assert root.inspect().children[0].restarts == 1


async def test_a_child_that_does_not_fit_is_refused(autojump_clock: MockClock) -> None:
    async with dynamic() as (_, d):
        with pytest.raises(ValueError, match="significant"):
            await d.start_child(idle("a", significant=True))


async def test_a_killed_dynamic_supervisor_kills_its_children(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    async with dynamic() as (root, d):
        for name in "ab":
            await d.start_child(logged(name, log, stop_takes=100))
        process = root.find("d")
        assert process is not None
        process.kill()
        await settled()
        assert sorted(log[2:]) == ["-a", "-b"]
        assert await d.which_children() == ()
    assert trio.current_time() == 0


@pytest.mark.parametrize("restart", [Restart.PERMANENT, Restart.TEMPORARY])
async def test_a_dynamic_supervisor_that_is_temporary_is_gone_once_it_has_crashed(
    autojump_clock: MockClock, restart: Restart
) -> None:
    handle = DynamicSupervisor("d")
    tree = SupervisorSpec(children=[dynamic_supervisor(handle, restart=restart)])
    async with open_supervisor(tree) as root:
        await handle.start_child(child("w", trio.sleep_forever))
        assert [node.id for node in handle.nodes()] == ["w"]
        root.crash_child("d", Boom())
        await trio.sleep(1)
        assert handle.nodes() == ()
        assert handle.find("w") is None
        if restart is Restart.PERMANENT:
            assert await handle.which_children() == ()
            return
        assert root.inspect().children == ()
        with pytest.raises(ActorStopped, match="not running"):
            await handle.start_child(child("w", trio.sleep_forever))
