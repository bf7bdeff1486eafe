"""The supervisor with a fixed list of children: strategies, restarts, requests.

What OTP does in each case is held by `tests/otp_conformance.py`; here are the
promises a reader looks for, and what only this library has.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    ActorStopped,
    AlreadyPresent,
    AlreadyStarted,
    AutoShutdown,
    ChildCount,
    ChildInfo,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildStarted,
    ChildTerminated,
    DynamicSupervisor,
    Event,
    GaveUp,
    Ignore,
    Restart,
    RestartIntensityReached,
    StartError,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorSpec,
    actor,
    child,
    open_supervisor,
    supervise,
    supervisor,
)
from supervisors._process import Process
from tests.supervisors.children import (
    Boom,
    Worker,
    ends,
    failing,
    idle,
    logged,
    settled,
    worker,
)

# Strategies.


@pytest.mark.parametrize(
    ("strategy", "then"),
    [
        (Strategy.ONE_FOR_ONE, ["-b", "+b"]),
        (Strategy.ONE_FOR_ALL, ["-b", "-c", "-a", "+a", "+b", "+c"]),
        (Strategy.REST_FOR_ONE, ["-b", "-c", "+b", "+c"]),
    ],
)
async def test_a_crash_restarts_what_the_strategy_says(
    autojump_clock: MockClock, strategy: Strategy, then: list[str]
) -> None:
    log = list[str]()
    children = [logged(name, log) for name in "abc"]
    tree = SupervisorSpec(children=children, strategy=strategy)
    async with open_supervisor(tree) as root:
        log.clear()
        root.crash_child("b", Boom())
        await settled()
        assert log == then


async def test_two_crashes_at_once_count_once_under_one_for_all(
    autojump_clock: MockClock,
) -> None:
    children = [idle("a"), idle("b")]
    tree = SupervisorSpec(
        children=children, strategy=Strategy.ONE_FOR_ALL, max_restarts=1
    )
    async with open_supervisor(tree) as root:
        root.crash_child("a", Boom())
        root.crash_child("b", Boom())
        await settled()
        assert [node.restarts for node in root.inspect().children] == [1, 1]


async def test_a_temporary_sibling_is_dropped_by_a_group_restart(
    autojump_clock: MockClock,
) -> None:
    children = [idle("a"), idle("b", restart=Restart.TEMPORARY)]
    tree = SupervisorSpec(children=children, strategy=Strategy.ONE_FOR_ALL)
    async with open_supervisor(tree) as root:
        root.crash_child("a", Boom())
        await settled()
        assert [info.id for info in await root.which_children()] == ["a"]


# Restart types.


async def finish() -> None:
    """End cleanly, after a while."""
    await trio.sleep(1)


async def crash() -> None:
    """End with a crash, after a while."""
    await trio.sleep(1)
    raise Boom


@pytest.mark.parametrize(
    ("restart", "function", "state", "reports"),
    [
        (Restart.PERMANENT, finish, "running", 1),
        (Restart.PERMANENT, crash, "running", 1),
        (Restart.TRANSIENT, finish, "stopped", 0),
        (Restart.TRANSIENT, crash, "running", 1),
        (Restart.TEMPORARY, finish, None, 0),
        (Restart.TEMPORARY, crash, None, 1),
    ],
)
async def test_the_restart_type_says_what_becomes_of_a_child(
    autojump_clock: MockClock,
    events: list[Event],
    restart: Restart,
    function: Any,
    state: str | None,
    reports: int,
) -> None:
    spec = attrs.evolve(child("a", function), restart=restart)
    tree = SupervisorSpec(children=[spec])
    async with open_supervisor(tree, on_event=events.append) as root:
        await trio.sleep(1.5)
        assert [info.state for info in await root.which_children()] == (
            [] if state is None else [state]
        )
    assert len(ends(events, ChildTerminated)) == reports


# Intensity.


async def test_too_many_restarts_end_the_supervisor_in_reverse_order(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    log = list[str]()
    tree = SupervisorSpec(children=[logged("a", log), logged("b", log)], max_restarts=1)
    with pytest.raises(
        RestartIntensityReached, match="more than 1 restarts"
    ) as gave_up:
        async with open_supervisor(tree, on_event=events.append) as root:
            root.crash_child("a", Boom())
            await settled()
            log.clear()
            root.crash_child("b", Boom())
            await trio.sleep_forever()
    assert log == ["-b", "-a"]
    assert gave_up.value.supervisor == "root"
    assert isinstance(gave_up.value.__cause__, Boom)
    assert events[-1] == GaveUp("", "b")


async def test_restarts_are_counted_for_all_children_together(
    autojump_clock: MockClock,
) -> None:
    tree = SupervisorSpec(children=[idle(name) for name in "abc"], max_restarts=2)
    with pytest.raises(RestartIntensityReached):
        async with open_supervisor(tree) as root:
            for name in "abc":
                root.crash_child(name, Boom())
                await settled()


async def test_old_restarts_are_forgotten(autojump_clock: MockClock) -> None:
    tree = SupervisorSpec(children=[idle("a")], max_restarts=1, max_seconds=5)
    async with open_supervisor(tree) as root:
        for _ in range(10):
            root.crash_child("a", Boom())
            await trio.sleep(5.5)
        assert root.inspect().children[0].restarts == 10


async def test_restart_child_is_free(autojump_clock: MockClock) -> None:
    tree = SupervisorSpec(children=[idle("a")], max_restarts=0)
    async with open_supervisor(tree) as root:
        for _ in range(5):
            await root.terminate_child("a")
            assert await root.restart_child("a")


@pytest.mark.parametrize(
    ("restart", "state"),
    [
        (Restart.PERMANENT, "running"),
        (Restart.TRANSIENT, "stopped"),
        (Restart.TEMPORARY, None),
    ],
)
async def test_giving_up_is_a_clean_end_for_the_supervisor_above(
    autojump_clock: MockClock, restart: Restart, state: str | None
) -> None:
    low = SupervisorSpec(children=[idle("x")], max_restarts=0)
    tree = SupervisorSpec(children=[supervisor("s", low, restart=restart)])
    async with open_supervisor(tree) as root:
        root.crash_child("s/x", Boom())
        await settled()
        assert [info.state for info in await root.which_children()] == (
            [] if state is None else [state]
        )


async def test_a_supervisor_can_be_crashed_and_comes_back(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    low = SupervisorSpec(children=[logged("x", log), logged("y", log)])
    async with open_supervisor(SupervisorSpec(children=[supervisor("s", low)])) as root:
        root.crash_child("s", Boom())
        await settled()
        assert log == ["+x", "+y", "-y", "-x", "+x", "+y"]
        assert root.inspect().children[0].last_crash == "Boom"


# Starts that fail.


async def test_a_failed_start_rolls_back_in_reverse_order(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    log = list[str]()
    children = [logged("a", log), logged("b", log), failing("c", Boom()), idle("d")]
    with pytest.raises(StartFailed, match="'c'"):
        await supervise(SupervisorSpec(children=children), on_event=events.append)
    assert log == ["+a", "+b", "-b", "-a"]
    assert [path for path, _ in ends(events, StartError)] == ["c"]


async def test_a_failed_restart_is_tried_again_until_it_succeeds(
    autojump_clock: MockClock,
    events: list[Event],
) -> None:
    spec = failing("a", None, Boom(), Boom(), None)
    tree = SupervisorSpec(children=[spec], max_restarts=3)
    async with open_supervisor(tree, on_event=events.append) as root:
        root.crash_child("a", Boom())
        await settled()
        assert root.inspect().children[0].state == "running"
    assert len(ends(events, StartError)) == 2


async def test_a_failed_restart_counts_as_a_restart(autojump_clock: MockClock) -> None:
    spec = failing("a", None, Boom(), Boom(), None)
    with pytest.raises(RestartIntensityReached):
        async with open_supervisor(
            SupervisorSpec(children=[spec], max_restarts=2)
        ) as root:
            root.crash_child("a", Boom())
            await trio.sleep_forever()


def gated(id_: str, gate: trio.Event, *fails: bool) -> ChildSpec:
    """Return a child whose later starts wait at the gate, and fail as told."""
    left = [False, *fails, False]

    async def body(process: Process) -> None:
        fail = left.pop(0)
        if len(left) <= len(fails):
            await gate.wait()
        if fail:
            raise Boom
        process.started()
        await trio.sleep_forever()

    return ChildSpec(id=id_, body=body)


async def test_requests_are_served_between_two_tries_of_a_restart(
    autojump_clock: MockClock,
) -> None:
    gate = trio.Event()
    tree = SupervisorSpec(children=[gated("a", gate, True), idle("b")], max_restarts=9)
    async with open_supervisor(tree) as root, trio.open_nursery() as nursery:
        found = list[Any]()

        async def look() -> None:
            found.append([info.state for info in await root.which_children()])

        async def restart() -> None:
            with pytest.raises(ChildRestarting):
                await root.restart_child("a")

        root.crash_child("a", Boom())
        await settled()
        nursery.start_soon(look)
        nursery.start_soon(restart)
        await settled()
        gate.set()
        await settled()
        assert found == [["restarting", "running"]]
    assert gate.is_set()


async def test_a_child_can_be_terminated_between_two_tries(
    autojump_clock: MockClock,
) -> None:
    gate = trio.Event()
    tree = SupervisorSpec(children=[gated("a", gate, True)], max_restarts=9)
    async with open_supervisor(tree) as root, trio.open_nursery() as nursery:
        root.crash_child("a", Boom())
        await settled()
        nursery.start_soon(root.terminate_child, "a")
        await settled()
        gate.set()
        await settled()
        assert root.inspect().children[0].state == "stopped"


async def test_a_stop_comes_between_two_tries_of_a_restart(
    autojump_clock: MockClock,
) -> None:
    tries = list[float]()

    async def body(process: Process) -> None:
        tries.append(trio.current_time())
        if len(tries) > 1:
            await trio.sleep(1)
            raise Boom
        process.started()
        await trio.sleep_forever()

    tree = SupervisorSpec(children=[ChildSpec(id="a", body=body)], max_restarts=10**6)
    with trio.fail_after(100):
        async with open_supervisor(tree) as root:
            root.crash_child("a", Boom())
            await trio.sleep(5.5)
    assert trio.current_time() == pytest.approx(5.5)
    assert len(tries) == 7


async def test_a_start_that_is_not_needed_is_no_error(
    autojump_clock: MockClock,
) -> None:
    children = [
        failing("kept", Ignore(), None),
        failing("forgotten", Ignore(), None, restart=Restart.TEMPORARY),
    ]
    async with open_supervisor(SupervisorSpec(children=children)) as root:
        infos = await root.which_children()
        assert infos == (ChildInfo(id="kept", state="stopped", kind="worker"),)
        assert await root.restart_child("kept")


# Requests.


async def test_children_can_be_added_stopped_started_and_removed(
    autojump_clock: MockClock,
) -> None:
    async with open_supervisor(SupervisorSpec(children=[idle("a")])) as root:
        assert await root.start_child(idle("b"))
        assert [info.id for info in await root.which_children()] == ["a", "b"]
        with pytest.raises(AlreadyStarted):
            await root.start_child(idle("b"))
        with pytest.raises(ChildRunning):
            await root.restart_child("b")
        with pytest.raises(ChildRunning):
            await root.delete_child("b")
        await root.terminate_child("b")
        with pytest.raises(AlreadyPresent):
            await root.start_child(idle("b"))
        assert await root.count_children() == ChildCount(
            specs=2, active=1, supervisors=0, workers=2
        )
        assert (await root.get_childspec("b")).id == "b"
        await root.delete_child("b")
        with pytest.raises(ChildNotFound) as missing:
            await root.get_childspec("b")
        assert missing.value.child == "b"


async def test_a_child_that_fails_to_start_is_not_kept(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")

    async def body(process: Process) -> None:
        await trio.lowlevel.checkpoint()
        raise Boom

    broken = attrs.evolve(spec, body=body)
    async with open_supervisor(SupervisorSpec()) as root:
        with pytest.raises(StartFailed):
            await root.start_child(broken)
        assert await root.which_children() == ()
        with pytest.raises(ActorStopped):
            await ref.call(Worker.note, 1)


async def test_a_child_whose_restart_by_hand_fails_stays_stopped(
    autojump_clock: MockClock,
) -> None:
    spec = failing("a", None, Boom(), None)
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await root.terminate_child("a")
        with pytest.raises(StartFailed):
            await root.restart_child("a")
        assert await root.restart_child("a")


async def test_a_request_whose_asker_gave_up_is_not_carried_out(
    autojump_clock: MockClock,
) -> None:
    async def slow(process: Process) -> None:
        await trio.sleep(10)
        process.started()
        await trio.sleep_forever()

    async with (
        open_supervisor(SupervisorSpec()) as root,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(root.start_child, ChildSpec(id="slow", body=slow))
        await settled()
        with trio.move_on_after(1):
            await root.start_child(idle("never"))
        await trio.sleep(20)
        assert [info.id for info in await root.which_children()] == ["slow"]


async def test_a_supervisor_that_is_not_running_refuses_requests(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor(SupervisorSpec(children=[idle("a")]), name="main")
    with pytest.raises(ActorStopped, match="'main' is not running"):
        await root.which_children()
    async with open_supervisor(root):
        await root.which_children()
    with pytest.raises(ActorStopped):
        await root.terminate_child("a")


async def test_requests_that_wait_when_the_supervisor_ends_are_refused(
    autojump_clock: MockClock,
) -> None:
    gate = trio.Event()
    tree = SupervisorSpec(children=[gated("a", gate)])
    refused = list[str]()
    async with trio.open_nursery() as nursery:
        root = await nursery.start(supervise, tree)

        async def ask() -> None:
            with pytest.raises(ActorStopped):
                await root.which_children()
            refused.append("asked")

        root.crash_child("a", Boom())
        await settled()
        nursery.start_soon(ask)
        await settled()
        root.stop()
    assert refused == ["asked"]


async def test_a_handle_below_the_root_is_valid_through_restarts(
    autojump_clock: MockClock,
) -> None:
    low = Supervisor(SupervisorSpec(children=[idle("x")], max_restarts=0), name="low")
    async with open_supervisor(SupervisorSpec(children=[supervisor("s", low)])) as root:
        await low.start_child(idle("y"))
        root.crash_child("s/x", Boom())
        await settled()
        # What was added at run time is lost with the incarnation, as in OTP.
        assert [info.id for info in await low.which_children()] == ["x"]


# Automatic shutdown.


async def test_any_significant_end_ends_the_supervisor(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    done = attrs.evolve(
        child("done", finish), restart=Restart.TRANSIENT, significant=True
    )
    tree = SupervisorSpec(
        children=[logged("a", log), done], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT
    )
    await supervise(tree)
    assert log == ["+a", "-a"]
    assert trio.current_time() == pytest.approx(1)


async def test_all_significant_children_must_have_ended(
    autojump_clock: MockClock,
) -> None:
    def significant(id_: str, seconds: float) -> ChildSpec:
        spec = child(id_, trio.sleep, seconds)
        return attrs.evolve(spec, restart=Restart.TEMPORARY, significant=True)

    tree = SupervisorSpec(
        children=[significant("a", 1), significant("b", 7), idle("c")],
        auto_shutdown=AutoShutdown.ALL_SIGNIFICANT,
    )
    await supervise(tree)
    assert trio.current_time() == pytest.approx(7)


# What does not fit.


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SupervisorSpec(children=[idle("a"), idle("a")]),
        lambda: SupervisorSpec(max_restarts=-1),
        lambda: SupervisorSpec(max_seconds=0),
        lambda: idle("a", shutdown=-1.0),
        lambda: idle("a", shutdown=float("inf")),
        lambda: SupervisorSpec(children=[idle("a", significant=True)]),
        lambda: SupervisorSpec(
            children=[idle("a", significant=True)],
            auto_shutdown=AutoShutdown.ALL_SIGNIFICANT,
        ),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"must|two|significant"):
        wrong()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SupervisorSpec(children=[SupervisorSpec()]),
        lambda: SupervisorSpec(children=[ActorRef("a")]),
        lambda: SupervisorSpec(strategy="one_for_all"),
        lambda: SupervisorSpec(auto_shutdown="never"),
        lambda: SupervisorSpec(on_unkillable="abandon"),
        lambda: idle("a", restart="permanent"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_anything_starts(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"a child is|must be <enum"):
        wrong()


async def test_a_child_that_does_not_fit_cannot_be_added(
    autojump_clock: MockClock,
) -> None:
    async with open_supervisor(SupervisorSpec()) as root:
        with pytest.raises(ValueError, match="significant"):
            await root.start_child(idle("a", significant=True))


async def test_crashing_a_child_that_does_not_run_is_an_error(
    autojump_clock: MockClock,
) -> None:
    async with open_supervisor(SupervisorSpec(children=[idle("a")])) as root:
        for path in ("b", "a/x", "s/x"):
            with pytest.raises(ChildNotFound):
                root.crash_child(path, Boom())


async def test_every_start_is_an_event(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    low = SupervisorSpec(children=[idle("x")])
    tree = SupervisorSpec(children=[idle("a"), supervisor("s", low)])
    async with open_supervisor(tree, on_event=events.append):
        pass
    assert events == [
        ChildStarted("a", 1),
        ChildStarted("s/x", 1),
        ChildStarted("s", 1),
    ]


@pytest.mark.parametrize("wrong", [1.5, True, -1, "3"])
def test_an_intensity_that_is_no_count_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_restarts must be a whole number"):
        SupervisorSpec(max_restarts=wrong)
    with pytest.raises(ValueError, match="max_restarts must be a whole number"):
        DynamicSupervisor("d", max_restarts=wrong)
    with pytest.raises(ValueError, match="max_children must be a whole number"):
        DynamicSupervisor("d", max_children=wrong)


async def test_a_child_whose_restart_on_request_fails_takes_no_calls(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    starts = iter([Worker, Boom])

    def init() -> Worker:
        made = next(starts)()
        if isinstance(made, Boom):
            raise made
        return made

    async with open_supervisor(SupervisorSpec(children=[actor(ref, init)])) as root:
        await root.terminate_child("a")
        with pytest.raises(StartFailed):
            await root.restart_child("a")
        with pytest.raises(ActorStopped), trio.fail_after(5):
            await ref.call(Worker.note, 1)
