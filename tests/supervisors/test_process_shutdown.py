"""How children are stopped: who is asked, how long, in which order, and what then."""

from __future__ import annotations

import threading

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    ChildSpec,
    ChildTerminated,
    ChildUnkillable,
    Crashed,
    DynamicSupervisor,
    Event,
    Killed,
    Restart,
    Shutdown,
    ShutdownError,
    Strategy,
    SupervisorSpec,
    actor,
    child,
    dynamic_supervisor,
    open_supervisor,
    supervise,
    supervisor,
)
from supervisors._process import KILL_GRACE, Process
from supervisors.testing import simulate
from tests.supervisors.children import (
    Boom,
    Worker,
    ends,
    idle,
    logged,
    settled,
    stubborn,
)

# In time.


async def test_children_stop_in_reverse_order_each_in_its_time(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    log = list[str]()
    children = [
        logged("a", log, stop_takes=1),
        logged("b", log, stop_takes=30, shutdown=2.0),
        logged("c", log, stop_takes=3),
    ]
    tree = SupervisorSpec(children=children)
    async with open_supervisor(tree, on_event=events.append):
        pass
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert trio.current_time() == pytest.approx(3 + 2 + 1)
    assert ends(events, ShutdownError) == [("b", Killed())]


async def test_an_outer_cancellation_stops_the_tree_in_the_same_order(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    nested = supervisor(
        "s",
        SupervisorSpec(
            children=[logged("x", log, stop_takes=1), logged("y", log, stop_takes=1)]
        ),
    )
    tree = SupervisorSpec(children=[logged("a", log, stop_takes=1), nested])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, tree)
        nursery.cancel_scope.cancel()
    assert log == ["+a", "+x", "+y", "-y", "-x", "-a"]
    assert trio.current_time() == pytest.approx(3)


async def test_an_outer_cancellation_goes_on_when_the_tree_has_stopped(
    autojump_clock: MockClock,
) -> None:
    with trio.move_on_after(1) as scope:
        await supervise(SupervisorSpec(children=[idle("a")]))
    assert scope.cancelled_caught


async def test_the_whole_stop_has_a_limit_for_nested_children_too(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    deep = SupervisorSpec(
        children=[
            logged(f"d{n}", log, stop_takes=100, shutdown=Shutdown.INFINITY)
            for n in range(3)
        ]
    )
    nested = supervisor("s", SupervisorSpec(children=[supervisor("t", deep)]))
    tree = SupervisorSpec(children=[nested])
    async with open_supervisor(tree, shutdown_limit=5):
        pass
    assert trio.current_time() == pytest.approx(5)
    assert sorted(log[3:]) == ["-d0", "-d1", "-d2"]


async def test_infinity_waits_as_long_as_it_takes(autojump_clock: MockClock) -> None:
    log = list[str]()
    slow = logged("a", log, stop_takes=50, shutdown=Shutdown.INFINITY)
    async with open_supervisor(SupervisorSpec(children=[slow])) as root:
        await root.terminate_child("a")
        assert trio.current_time() == pytest.approx(50)


async def test_a_brutal_kill_asks_nobody(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    log = list[str]()
    spec = logged("a", log, stop_takes=50, shutdown=Shutdown.BRUTAL_KILL)
    tree = SupervisorSpec(children=[spec])
    async with open_supervisor(tree, on_event=events.append):
        pass
    assert trio.current_time() == 0
    assert not ends(events, ShutdownError)


async def test_no_time_at_all_is_one_cancellation(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    tree = SupervisorSpec(children=[idle("a", shutdown=0)])
    async with open_supervisor(tree, on_event=events.append):
        pass
    assert not ends(events, ShutdownError)


async def test_a_function_may_clean_up_until_its_time_is_over(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()

    async def serve() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            log.append("cleaned up")

    async with open_supervisor(SupervisorSpec(children=[child("a", serve)])):
        pass
    assert log == ["cleaned up"]


# Errors on the way out.


async def test_an_error_in_the_cleanup_is_reported_and_nothing_is_restarted(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    log = list[str]()

    def fail() -> None:
        raise Boom

    children = [logged("a", log), logged("b", log, on_stop=fail), logged("c", log)]
    tree = SupervisorSpec(children=children)
    async with open_supervisor(tree, on_event=events.append) as root:
        await root.terminate_child("b")
        ((path, exit_),) = ends(events, ShutdownError)
        assert path == "b"
        assert isinstance(exit_, Crashed)
        assert isinstance(exit_.error, Boom)
    assert log == ["+a", "+b", "+c", "-b", "-c", "-a"]
    assert not ends(events, ChildTerminated)


async def test_an_error_in_the_cleanup_during_a_group_restart_costs_no_restart(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    log = list[str]()

    def fail() -> None:
        raise Boom

    children = [logged("a", log), logged("b", log, on_stop=fail)]
    tree = SupervisorSpec(
        children=children, strategy=Strategy.ONE_FOR_ALL, max_restarts=1
    )
    async with open_supervisor(tree, on_event=events.append) as root:
        root.crash_child("a", Boom())
        await settled()
        assert [node.restarts for node in root.inspect().children] == [1, 1]
    assert len(ends(events, ChildTerminated)) == 1
    assert len(ends(events, ShutdownError)) == 2


# What will not stop.


async def test_a_child_that_shields_itself_is_reported_and_left_behind(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    until = trio.Event()
    log = list[str]()
    children = [logged("a", log), stubborn("b", until, shutdown=1.0)]
    tree = SupervisorSpec(children=children)
    async with open_supervisor(tree, on_event=events.append) as root:
        await root.terminate_child("b")
        assert trio.current_time() == pytest.approx(1 + KILL_GRACE)
        (unkillable,) = [e for e in events if isinstance(e, ChildUnkillable)]
        assert unkillable.path == "b"
        assert any("ignore_all" in line for line in unkillable.stack)
        # The supervisor goes on, and a new incarnation can be started.
        assert await root.restart_child("b")
        assert root.inspect().children[1].state == "running"
        until.set()


async def test_a_block_lasts_as_long_as_the_child_that_was_left_behind(
    autojump_clock: MockClock,
) -> None:
    until = trio.Event()
    left = list[float]()

    async def release() -> None:
        await trio.sleep(100)
        until.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(release)
        async with open_supervisor(SupervisorSpec(children=[stubborn("b", until)])):
            pass
        left.append(trio.current_time())
    # Nothing of the tree is left running when the block has ended.
    assert left == [pytest.approx(100)]


async def test_the_caller_of_an_actor_that_was_left_behind_learns_it(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    spec = attrs.evolve(actor(ref, Worker), shutdown=Shutdown.BRUTAL_KILL)
    tree = SupervisorSpec(children=[spec])
    async with (
        open_supervisor(tree, on_event=events.append) as root,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            with pytest.raises(ActorDied):
                await ref.call(Worker.shielded, 1000)
            assert trio.current_time() == pytest.approx(KILL_GRACE)

        nursery.start_soon(ask)
        await settled()
        await root.terminate_child("a")
        await root.restart_child("a")
        ref.cast(Worker.sleep, 2000)
        for number in range(10):
            ref.cast(Worker.note, number)
        # The old incarnation awakes while the new one is busy, and takes nothing.
        await trio.sleep(3000)
        assert await ref.call(lambda this: this.notes) == list(range(10))


async def test_a_child_in_a_thread_cannot_be_stopped_and_is_reported(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    release = threading.Event()

    async def in_a_thread() -> None:
        await trio.to_thread.run_sync(release.wait)

    tree = SupervisorSpec(children=[child("a", in_a_thread)])
    async with open_supervisor(tree, on_event=events.append) as root:
        await settled()
        await root.terminate_child("a")
        (unkillable,) = [e for e in events if isinstance(e, ChildUnkillable)]
        assert any("to_thread" in line for line in unkillable.stack)
        release.set()


async def test_an_unkillable_child_is_reported_by_its_own_supervisor(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    until = trio.Event()
    low = SupervisorSpec(children=[stubborn("x", until), stubborn("y", until)])
    nested = supervisor("s", low, shutdown=Shutdown.BRUTAL_KILL)
    tree = SupervisorSpec(children=[nested])
    async with open_supervisor(tree, on_event=events.append) as root:
        await root.terminate_child("s")
        assert trio.current_time() == pytest.approx(KILL_GRACE)
        unkillable = [e.path for e in events if isinstance(e, ChildUnkillable)]
        assert unkillable == ["s/y", "s/x"]
        until.set()


# A kill of a supervisor.


async def test_a_kill_of_a_supervisor_stops_those_below_in_order(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    low = SupervisorSpec(
        children=[logged("x", log, stop_takes=1), logged("y", log, stop_takes=1)]
    )
    middle = SupervisorSpec(
        children=[logged("w", log, stop_takes=100), supervisor("t", low)]
    )
    tree = SupervisorSpec(children=[supervisor("s", middle)])
    async with open_supervisor(tree) as root:
        process = root.find("s")
        assert process is not None
        process.kill()
        await process.wait()
        assert process.exit == Killed()
        assert log[3:6] == ["-w", "-y", "-x"]
        assert trio.current_time() == pytest.approx(2)


async def test_a_killed_supervisor_has_a_limit_when_its_own_one_kills_it(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    low = SupervisorSpec(
        children=[logged("x", log, stop_takes=1000, shutdown=Shutdown.INFINITY)]
    )
    middle = SupervisorSpec(children=[supervisor("t", low)])
    nested = supervisor("s", middle, shutdown=Shutdown.BRUTAL_KILL)
    async with open_supervisor(SupervisorSpec(children=[nested])) as root:
        await root.terminate_child("s")
        assert trio.current_time() == pytest.approx(KILL_GRACE)
    assert log == ["+x", "-x"]


# While it starts.


async def test_a_stop_while_a_child_starts_ends_that_child(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()

    async def slow(process: Process) -> None:
        log.append("+slow")
        try:
            await trio.sleep(100)
            process.started()
        finally:
            log.append("-slow")

    tree = SupervisorSpec(children=[logged("a", log)])
    async with trio.open_nursery() as nursery:
        root = await nursery.start(supervise, tree)

        async def add() -> None:
            spec = ChildSpec(id="slow", body=slow)
            with pytest.raises(Exception, match="not running"):
                await root.start_child(spec)

        nursery.start_soon(add)
        await settled()
        root.stop()
    assert log == ["+a", "+slow", "-slow", "-a"]
    assert trio.current_time() == 0


async def test_a_cancellation_while_the_tree_starts_stops_what_is_up(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()

    async def slow(process: Process) -> None:
        await trio.sleep(100)
        process.started()

    children = [logged("a", log), ChildSpec(id="slow", body=slow), logged("b", log)]
    with trio.move_on_after(2) as scope:
        async with open_supervisor(SupervisorSpec(children=children)):
            pytest.fail("it is not up")
    assert scope.cancelled_caught
    assert log == ["+a", "-a"]
    assert trio.current_time() == pytest.approx(2)


async def test_a_start_that_shields_itself_does_not_outlast_its_caller(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    """Like trio's own ``nursery.start`` does: trio issue 2895."""
    until = trio.Event()

    async def shielded(process: Process) -> None:
        with trio.CancelScope(shield=True):
            await until.wait()

    spec = ChildSpec(id="slow", body=shielded, shutdown=1.0)
    async with open_supervisor(SupervisorSpec(), on_event=events.append) as root:
        with trio.move_on_after(2):
            await root.start_child(spec)
        assert trio.current_time() == pytest.approx(2)
        root.stop()
        await trio.sleep(2 + KILL_GRACE)
        assert [e.path for e in events if isinstance(e, ChildUnkillable)] == ["slow"]
        until.set()


# Interrupts.


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("depth", [0, 2])
async def test_an_interrupt_in_a_child_stops_the_tree_and_reaches_the_top(
    autojump_clock: MockClock, interrupt: type[BaseException], grouped: bool, depth: int
) -> None:
    log = list[str]()

    async def interrupted() -> None:
        log.append("+i")
        error = interrupt()
        await trio.sleep(1)
        raise BaseExceptionGroup("together", [error]) if grouped else error

    spec = child("i", interrupted)
    tree = SupervisorSpec(children=[logged("x", log), spec])
    for _ in range(depth):
        tree = SupervisorSpec(children=[supervisor("s", tree), logged("b", log)])
    with pytest.raises(interrupt):
        await supervise(tree)
    started = [note for note in log if note.startswith("+")]
    stopped = [note for note in log if note.startswith("-")]
    assert started == ["+x", "+i", *["+b"] * depth]
    assert stopped == [*["-b"] * depth, "-x"]


async def test_an_interrupt_in_a_handler_reaches_the_top(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor(SupervisorSpec(children=[actor(ref, Worker)])):
            with pytest.raises(ActorDied):
                await ref.call(Worker.crash, KeyboardInterrupt())
            await trio.sleep_forever()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_lost_to_the_call_that_it_fails(
    interrupt: type[BaseException], seed: int
) -> None:
    async def scenario() -> None:
        ref: ActorRef[Worker] = ActorRef("a")
        async with open_supervisor(SupervisorSpec(children=[actor(ref, Worker)])):
            await ref.call(Worker.crash, interrupt())

    with pytest.raises(interrupt):
        simulate(scenario, seed=seed)


async def test_an_interrupt_in_an_init_reaches_the_top(
    autojump_clock: MockClock,
) -> None:
    def interrupted() -> Worker:
        raise KeyboardInterrupt

    ref: ActorRef[Worker] = ActorRef("a")
    with pytest.raises(KeyboardInterrupt):
        await supervise(SupervisorSpec(children=[actor(ref, interrupted)]))


async def test_an_interrupt_in_a_dynamic_child_reaches_the_top(
    autojump_clock: MockClock,
) -> None:
    async def interrupted() -> None:
        await trio.lowlevel.checkpoint()
        raise SystemExit(3)

    dynamic = DynamicSupervisor("d")
    tree = SupervisorSpec(children=[dynamic_supervisor(dynamic)])
    with pytest.raises(SystemExit) as exit_:
        async with open_supervisor(tree):
            await dynamic.start_child(child("x", interrupted))
            await trio.sleep_forever()
    assert exit_.value.code == 3


# Reasons that are many.


async def test_a_group_with_one_crash_is_that_crash(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async def nested() -> None:
        async with trio.open_nursery() as outer:
            outer.start_soon(trio.sleep_forever)
            async with trio.open_nursery() as inner:
                inner.start_soon(trio.sleep_forever)
                raise Boom

    spec = attrs.evolve(child("a", nested), restart=Restart.TEMPORARY)
    tree = SupervisorSpec(children=[spec])
    async with open_supervisor(tree, on_event=events.append):
        await settled()
    ((_, exit_),) = ends(events, ChildTerminated)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, Boom)


async def test_a_group_of_crashes_stays_a_group(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async def many() -> None:
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("both", [Boom(), ValueError()])

    spec = attrs.evolve(child("a", many), restart=Restart.TEMPORARY)
    tree = SupervisorSpec(children=[spec])
    async with open_supervisor(tree, on_event=events.append):
        await settled()
    ((_, exit_),) = ends(events, ChildTerminated)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, ExceptionGroup)
    assert len(exit_.error.exceptions) == 2
