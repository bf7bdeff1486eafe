"""Children that ignore their cancellation: what their supervisors do about them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    ActorStopped,
    ChildSpec,
    ChildTerminated,
    ChildUnkillable,
    DynamicSupervisor,
    Event,
    GaveUp,
    OnUnkillable,
    Restart,
    RestartIntensityReached,
    StillRunning,
    Strategy,
    SupervisorSpec,
    UnkillableChild,
    actor,
    child,
    dynamic_supervisor,
    open_supervisor,
    supervise,
    supervisor,
)
from supervisors._process import KILL_GRACE
from tests.supervisors.children import (
    Boom,
    Worker,
    ends,
    idle,
    logged,
    settled,
    stubborn,
)

ESCALATE = OnUnkillable.ESCALATE


def unkillable(events: list[Event]) -> list[str]:
    """Return the paths of those that were given up."""
    return [event.path for event in events if isinstance(event, ChildUnkillable)]


def still_running(events: list[Event]) -> list[list[str]]:
    """Return the paths of those that the end of the tree has waited for."""
    return [
        [left.path for left in event.children]
        for event in events
        if isinstance(event, StillRunning)
    ]


def gave_up(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.path, event.child) for event in events if isinstance(event, GaveUp)]


# A supervisor that goes on without it.


async def test_a_supervisor_goes_on_without_it_unless_told_otherwise(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    log = list[str]()
    tree = SupervisorSpec(children=[stubborn("b", until), logged("c", log)])
    async with open_supervisor(tree, on_event=events.append) as root:
        await root.terminate_child("b")
        assert unkillable(events) == ["b"]
        assert log == ["+c"]
        assert await root.restart_child("b")
        until.set()
    assert not gave_up(events)


async def test_one_of_a_group_that_ignores_its_stop_does_not_keep_the_others_down(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    log = list[str]()
    tree = SupervisorSpec(
        children=[logged("a", log), stubborn("b", until, shutdown=1.0)],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with open_supervisor(tree, on_event=events.append) as root:
        root.crash_child("a", Boom())
        await trio.sleep(1 + KILL_GRACE + 1)
        assert [node.state for node in root.inspect().children] == ["running"] * 2
        assert log == ["+a", "-a", "+a"]
        until.set()
    assert unkillable(events) == ["b"]


async def test_a_child_that_was_left_behind_and_crashes_is_nobodys_restart(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async def crash_late() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
        raise Boom

    tree = SupervisorSpec(children=[child("b", crash_late), idle("c")])
    async with open_supervisor(tree, on_event=events.append) as root:
        await root.terminate_child("b")
        await trio.sleep(200)
        assert [node.state for node in root.inspect().children] == [
            "stopped",
            "running",
        ]
    assert not ends(events, ChildTerminated)
    assert not still_running(events)


# The end of the tree.


async def test_the_end_of_the_tree_says_what_it_waits_for(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    gone = trio.Event()
    low = SupervisorSpec(children=[stubborn("x", until), stubborn("y", until)])
    tree = SupervisorSpec(
        children=[supervisor("s", low), stubborn("b", until), stubborn("g", gone)]
    )
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await supervise(tree, on_event=events.append, shutdown_limit=1000)
            assert until.is_set()

        nursery.start_soon(run)
        await settled()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            # g is given up, and then ends after all.
            await trio.sleep(15)
            assert unkillable(events) == ["g"]
            gone.set()
            await trio.sleep(50)
            assert still_running(events) == [["b", "s/y", "s/x"]]
            last = events[-1]
            assert isinstance(last, StillRunning)
            for left in last.children:
                assert any("ignore_all" in line for line in left.stack)
            until.set()
    assert len(still_running(events)) == 1


async def test_the_end_of_a_tree_with_nothing_left_says_nothing(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async with open_supervisor(
        SupervisorSpec(children=[idle("a")]), on_event=events.append
    ):
        pass
    assert not still_running(events)


async def test_the_stack_says_where_it_hangs(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    tree = SupervisorSpec(children=[stubborn("b", until)])
    async with open_supervisor(tree, on_event=events.append) as root:
        await settled()
        await root.terminate_child("b")
        (event,) = [e for e in events if isinstance(e, ChildUnkillable)]
        places = [line.split(" (")[0] for line in event.stack]
        assert places.index("stubborn.<locals>.ignore_all") < places.index("Event.wait")
        assert all(line.endswith(")") and ":" in line for line in event.stack)
        until.set()


# A supervisor that gives up.


async def test_a_supervisor_that_escalates_stops_the_others_and_ends(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    log = list[str]()
    tree = SupervisorSpec(
        children=[logged("a", log), stubborn("b", until), logged("c", log)],
        on_unkillable=ESCALATE,
    )

    async def ask() -> None:
        async with open_supervisor(tree, on_event=events.append) as root:
            with pytest.raises(ActorStopped):
                await root.terminate_child("b")
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:

        async def release() -> None:
            await trio.sleep(100)
            until.set()

        nursery.start_soon(release)
        with pytest.raises(UnkillableChild, match="'b' of supervisor 'root'") as failed:
            await ask()
    assert failed.value.child == "b"
    assert any("ignore_all" in line for line in failed.value.stack)
    assert log == ["+a", "+c", "-c", "-a"]
    assert unkillable(events) == ["b"]
    assert gave_up(events) == [("", "b")]
    assert still_running(events) == [["b"]]
    assert trio.current_time() == pytest.approx(100)


@pytest.mark.parametrize("shutdown", [0.0, 1.0, 5.0])
async def test_a_supervisor_does_not_escalate_what_stops_in_the_end(
    autojump_clock: MockClock, events: list[Event], shutdown: float
) -> None:
    log = list[str]()
    tree = SupervisorSpec(
        children=[logged("a", log, stop_takes=1000, shutdown=shutdown)],
        on_unkillable=ESCALATE,
    )
    async with open_supervisor(tree, on_event=events.append) as root:
        await root.terminate_child("a")
        # To stop what is stopped is nothing new.
        await root.terminate_child("a")
        assert await root.restart_child("a")
    assert not gave_up(events)
    assert not unkillable(events)


async def test_a_group_that_cannot_be_stopped_is_not_started_again(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    log = list[str]()
    low = SupervisorSpec(
        children=[logged("a", log), stubborn("b", until, shutdown=1.0)],
        strategy=Strategy.ONE_FOR_ALL,
        on_unkillable=ESCALATE,
    )
    nested = supervisor("s", low, restart=Restart.TEMPORARY)
    async with open_supervisor(
        SupervisorSpec(children=[nested]), on_event=events.append
    ) as root:
        root.crash_child("s/a", Boom())
        await trio.sleep(100)
        assert root.inspect().children == ()
        until.set()
    assert log == ["+a", "-a"]
    assert gave_up(events) == [("s", "b")]


async def test_what_escalates_is_restarted_by_the_supervisor_above(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    ref: ActorRef[Worker] = ActorRef("w")
    low = SupervisorSpec(
        children=[actor(ref, Worker), stubborn("b", until)], on_unkillable=ESCALATE
    )
    middle = SupervisorSpec(children=[supervisor("t", low)], on_unkillable=ESCALATE)
    tree = SupervisorSpec(children=[supervisor("s", middle)], on_unkillable=ESCALATE)
    async with open_supervisor(tree, on_event=events.append) as root:
        handle = low_handle(middle)
        with pytest.raises(ActorStopped):
            await handle.terminate_child("b")
        # Nobody above has failed to stop anything: one level only gives up.
        assert await ref.call(Worker.note, 1) == 1
        await settled()
        (s,) = root.inspect().children
        (t,) = s.children
        assert (s.restarts, t.restarts) == (0, 1)
        assert [node.state for node in t.children] == ["running"] * 2
        until.set()
    assert gave_up(events) == [("s/t", "b")]


def low_handle(spec: SupervisorSpec) -> Any:
    """Return the handle of the only supervisor in *spec*."""
    (only,) = spec.children
    return only.subtree


async def test_escalations_in_a_row_reach_the_top(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    untils = trio.Event()
    low = SupervisorSpec(children=[stubborn("b", untils)], on_unkillable=ESCALATE)
    nested = supervisor("s", low)
    tree = SupervisorSpec(children=[nested], max_restarts=2, max_seconds=1000)
    caught = list[BaseException]()

    async def run() -> None:
        try:
            await supervise(tree, on_event=events.append)
        except Exception as error:  # noqa: BLE001 - looked at below
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await settled()
        for _ in range(3):
            with pytest.raises(ActorStopped):
                await low_handle(tree).terminate_child("b")
            await settled()
        await trio.sleep(100)
        assert gave_up(events) == [("s", "b")] * 3 + [("", "s")]
        assert still_running(events) == [["s/b"] * 3]
        untils.set()
    assert [type(error) for error in caught] == [RestartIntensityReached]


async def test_the_end_of_a_tree_escalates_nothing(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    log = list[str]()
    tree = SupervisorSpec(
        children=[logged("a", log), stubborn("b", until), stubborn("c", until)],
        on_unkillable=ESCALATE,
    )
    async with trio.open_nursery() as nursery:

        async def release() -> None:
            await trio.sleep(100)
            until.set()

        nursery.start_soon(release)
        async with open_supervisor(tree, on_event=events.append):
            pass
    # All in their order, and each is reported.
    assert unkillable(events) == ["c", "b"]
    assert still_running(events) == [["c", "b"]]
    assert log == ["+a", "-a"]
    assert not gave_up(events)


# Under a dynamic supervisor.


def dynamic_tree(
    on_unkillable: OnUnkillable, restart: Restart = Restart.PERMANENT
) -> tuple[DynamicSupervisor, SupervisorSpec]:
    handle = DynamicSupervisor("d", on_unkillable=on_unkillable)
    spec = dynamic_supervisor(handle, restart=restart)
    return handle, SupervisorSpec(children=[spec])


async def test_a_dynamic_supervisor_goes_on_without_it(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    dynamic, tree = dynamic_tree(OnUnkillable.ABANDON)
    async with open_supervisor(tree, on_event=events.append):
        for _ in range(3):
            await dynamic.start_child(stubborn("b", until, shutdown=1.0))
        await dynamic.terminate_child("b")
        assert len(await dynamic.which_children()) == 2
        assert unkillable(events) == ["d/b"]
        assert trio.current_time() == pytest.approx(1 + KILL_GRACE)
        until.set()
    assert not gave_up(events)


async def test_a_dynamic_supervisor_that_escalates_ends_with_all_its_children(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    log = list[str]()
    dynamic, tree = dynamic_tree(ESCALATE)
    async with open_supervisor(tree, on_event=events.append) as root:
        await dynamic.start_child(logged("a", log))
        await dynamic.start_child(stubborn("b", until))
        with pytest.raises(ActorStopped):
            await dynamic.terminate_child("b")
        await settled()
        assert log == ["+a", "-a"]
        # The next incarnation starts empty, as dynamic supervisors do.
        assert await dynamic.which_children() == ()
        assert root.inspect().children[0].restarts == 1
        until.set()
    assert gave_up(events) == [("d", "b")]


async def test_several_dynamic_children_that_ignore_the_end_share_one_grace(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    until = trio.Event()
    dynamic, tree = dynamic_tree(ESCALATE)
    async with trio.open_nursery() as nursery:

        async def release() -> None:
            await trio.sleep(100)
            until.set()

        nursery.start_soon(release)
        async with open_supervisor(tree, on_event=events.append):
            for _ in range(5):
                await dynamic.start_child(stubborn("b", until, shutdown=1.0))

            async def look() -> None:
                await trio.sleep(1 + KILL_GRACE + 1)
                assert len(unkillable(events)) == 5

            nursery.start_soon(look)
    (left,) = still_running(events)
    assert len(left) == 5
    assert not gave_up(events)


async def test_an_actor_that_was_left_behind_can_be_escalated_too(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    spec: ChildSpec = attrs.evolve(actor(ref, Worker), shutdown=1.0)
    tree = SupervisorSpec(children=[spec], on_unkillable=ESCALATE)
    with pytest.raises(UnkillableChild) as failed:
        async with open_supervisor(tree, on_event=events.append) as root:
            ref.cast(Worker.shielded, 50)
            await settled()
            await root.terminate_child("a")
    assert any("Worker.shielded" in line for line in failed.value.stack)
    with pytest.raises(ActorStopped):
        ref.cast(Worker.note, 1)
    assert trio.current_time() == pytest.approx(50)
