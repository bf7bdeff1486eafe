"""How long restarts wait: the delays by themselves, and what a supervisor makes of them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    ActorStopped,
    Backoff,
    ChildNotFound,
    ChildRestarting,
    ChildSpec,
    DynamicSupervisor,
    Event,
    Restart,
    RestartDelayed,
    RestartIntensityReached,
    StartError,
    Strategy,
    Supervisor,
    SupervisorSpec,
    TooManyChildren,
    child,
    dynamic_supervisor,
    open_supervisor,
    supervise,
    supervisor,
)
from supervisors._process import Process, Tree
from supervisors.testing import simulate
from tests.supervisors.children import (
    Boom,
    Worker,
    failing,
    logged,
    settled,
    worker,
)

# The delays.

POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False)
CHANCES = st.floats(0, 1)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    first = draw(POSITIVE)
    return Backoff(
        first=first,
        factor=draw(st.floats(1) | st.integers(1, 10)),
        limit=draw(st.floats(first, allow_infinity=False)),
        jitter=draw(st.floats(0, 1)),
    )


@given(backoffs(), st.integers(1, 10**5), CHANCES)
def test_a_delay_is_never_over_the_limit_and_never_under_its_part_without_chance(
    backoff: Backoff, failures: int, chance: float
) -> None:
    delay = backoff.delay(failures, chance)
    longest = backoff.delay(failures, 0)
    assert delay <= longest <= backoff.limit
    assert longest >= backoff.first
    assert delay >= longest * (1 - backoff.jitter) * (1 - 1e-9)


@given(backoffs(), st.integers(1, 2000))
def test_delays_grow_by_their_factor_up_to_the_limit(
    backoff: Backoff, failures: int
) -> None:
    now, then = backoff.delay(failures, 0), backoff.delay(failures + 1, 0)
    assert then == pytest.approx(min(backoff.limit, now * backoff.factor), rel=1e-6)


@given(backoffs(), st.integers(1, 2000), CHANCES, CHANCES)
def test_more_chance_is_never_a_longer_delay(
    backoff: Backoff, failures: int, one: float, other: float
) -> None:
    less, more = sorted([one, other])
    assert backoff.delay(failures, more) <= backoff.delay(failures, less)


def test_the_first_delay_is_the_first() -> None:
    assert Backoff(first=3, jitter=0).delay(1, 0.5) == 3
    delays = [Backoff(jitter=0).delay(failures, 0.5) for failures in range(1, 12)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    assert Backoff().delay(3, 0) == 0.4
    assert Backoff().delay(3, 0.5) == pytest.approx(0.3)
    assert Backoff().delay(3, 1) == pytest.approx(0.2)
    assert Backoff(jitter=1).delay(3, 1) == 0


def test_a_delay_may_be_always_the_same() -> None:
    backoff = Backoff(first=5, factor=1, limit=5, jitter=0)
    assert {backoff.delay(failures, 0) for failures in range(1, 100)} == {5}


def test_failures_are_forgotten_after_a_quiet_time() -> None:
    backoff = Backoff(reset_after=60)
    assert backoff.failures_after(0, 0) == 1
    assert backoff.failures_after(7, 59.9) == 8
    assert backoff.failures_after(7, 60) == 1
    assert backoff.failures_after(7, 1000) == 1
    assert Backoff(reset_after=math.inf).failures_after(7, 1e9) == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": 0},
        {"first": -1},
        {"first": math.nan},
        {"first": math.inf},
        {"factor": 0.99},
        {"factor": math.nan},
        {"limit": 0.09},
        {"limit": math.inf},
        {"limit": math.nan},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": math.nan},
        {"reset_after": -1},
        {"reset_after": math.nan},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join([*wrong, "limit"])):
        Backoff(**wrong)


# Through a supervisor.


STEADY = Backoff(first=1, factor=2, limit=10, jitter=0, reset_after=100)


def delays(events: list[Event]) -> list[tuple[str, float]]:
    """Return who was delayed, and how long."""
    return [(e.path, e.seconds) for e in events if isinstance(e, RestartDelayed)]


def tree_of(*children: ChildSpec, **options: Any) -> SupervisorSpec:
    """Return a tree that does not give up."""
    return SupervisorSpec(children=children, max_restarts=1000, **options)


def states(root: Supervisor) -> list[str]:
    return [node.state for node in root.inspect().children]


async def crash_at(ref: ActorRef[Worker], when: float) -> None:
    await trio.sleep_until(when)
    ref.cast(Worker.crash)
    await settled()


async def test_a_restart_waits_longer_each_time(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    async with open_supervisor(tree_of(spec), on_event=events.append) as root:
        for number, delay in enumerate([1, 2, 4, 8, 10, 10], 1):
            before = trio.current_time()
            ref.cast(Worker.crash)
            await settled()
            assert states(root) == ["restarting"]
            assert ref.depth == 0
            await ref.call(Worker.note, 1)
            assert trio.current_time() == pytest.approx(before + delay)
            assert delays(events)[-1] == ("a", delay)
            assert root.inspect().children[0].restarts == number


async def test_a_quiet_time_brings_the_first_delay_back(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    async with open_supervisor(tree_of(spec), on_event=events.append):
        await crash_at(ref, 0)  # up at 1
        await crash_at(ref, 50)  # up at 52
        await crash_at(ref, 52 + 99.5)  # up at 155.5
        await crash_at(ref, 155.5 + 100)
    assert [delay for _, delay in delays(events)] == [1, 2, 4, 1]


async def test_no_time_is_lost_without_a_backoff(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(tree_of(spec), on_event=events.append):
        ref.cast(Worker.crash)
        assert await ref.call(Worker.note, 1) == 1
        assert trio.current_time() == 0
    assert not delays(events)


@pytest.mark.parametrize("chance", [0.0, 0.25, 1.0])
async def test_a_part_of_the_delay_is_left_to_chance(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, chance: float
) -> None:
    monkeypatch.setattr("supervisors._root.Tree", partial(Tree, chance=lambda: chance))
    ref, spec = worker("a", backoff=Backoff(first=4, jitter=0.5))
    async with open_supervisor(tree_of(spec)):
        ref.cast(Worker.crash)
        await ref.call(Worker.note, 1)
        assert trio.current_time() == pytest.approx(4 - 2 * chance)


def test_a_simulated_run_repeats_with_all_that_is_left_to_chance() -> None:
    async def main() -> list[tuple[str, float]]:
        events = list[Event]()
        ref, spec = worker("a", backoff=Backoff())
        async with open_supervisor(tree_of(spec), on_event=events.append):
            for _ in range(5):
                ref.cast(Worker.crash)
            await ref.call(Worker.note, 1)
        return delays(events)

    assert simulate(main, seed=7).value == simulate(main, seed=7).value


async def test_restarts_that_wait_count_as_all_others_do(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a", backoff=Backoff(first=1, factor=1, limit=1, jitter=0))
    tree = SupervisorSpec(children=[spec], max_restarts=2, max_seconds=5)
    with pytest.raises(RestartIntensityReached):
        async with open_supervisor(tree, on_event=events.append):
            for _ in range(3):
                ref.cast(Worker.crash)
            await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(3)
    assert len(delays(events)) == 3


async def test_a_child_that_may_end_is_not_restarted_later_either(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async def end() -> None:
        await trio.sleep(1)

    async def crash() -> None:
        raise Boom

    specs = [
        attrs.evolve(child("t", end), restart=Restart.TRANSIENT, backoff=STEADY),
        attrs.evolve(child("x", crash), restart=Restart.TEMPORARY, backoff=STEADY),
    ]
    async with open_supervisor(tree_of(*specs), on_event=events.append) as root:
        await trio.sleep(100)
        assert [(i.id, i.state) for i in await root.which_children()] == [
            ("t", "stopped")
        ]
    assert not delays(events)


async def test_an_init_that_fails_waits_longer_each_time(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    spec = failing("f", None, Boom(), Boom(), Boom(), None, backoff=STEADY)
    async with open_supervisor(tree_of(spec), on_event=events.append) as root:
        await trio.sleep(0.5)
        root.crash_child("f", Boom())
        await trio.sleep(100)
        assert states(root) == ["running"]
        assert root.inspect().children[0].restarts == 4
    assert delays(events) == [("f", 1), ("f", 2), ("f", 4), ("f", 8)]
    assert [e.path for e in events if isinstance(e, StartError)] == ["f"] * 3


async def test_an_init_that_fails_at_the_first_start_is_not_tried_again(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    spec = failing("f", Boom(), None, backoff=STEADY)
    with pytest.raises(Exception, match="failed to start"):
        async with open_supervisor(tree_of(spec), on_event=events.append):
            pytest.fail("it is up")
    assert not delays(events)


async def test_a_slow_init_that_fails_is_no_quiet_time(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    starts = 0

    async def slow(process: Process) -> None:
        nonlocal starts
        starts += 1
        if starts in (2, 3):
            await trio.sleep(500)
            raise Boom
        process.started()
        await trio.sleep_forever()

    spec = ChildSpec(id="s", body=slow, backoff=STEADY)
    async with open_supervisor(tree_of(spec), on_event=events.append) as root:
        root.crash_child("s", Boom())
        await trio.sleep(2000)
    assert [delay for _, delay in delays(events)] == [1, 2, 4]


async def test_others_are_served_while_a_restart_waits(
    autojump_clock: MockClock,
) -> None:
    a, a_spec = worker("a", backoff=STEADY)
    b, b_spec = worker("b", backoff=attrs.evolve(STEADY, first=0.25))
    async with open_supervisor(tree_of(a_spec, b_spec)) as root:
        a.cast(Worker.crash)
        b.cast(Worker.crash)
        await settled()
        assert states(root) == ["restarting", "restarting"]
        assert await root.start_child(logged("c", []))
        await b.call(Worker.note, 1)
        assert trio.current_time() == pytest.approx(0.25)
        assert states(root) == ["restarting", "running", "running"]
        count = await root.count_children()
        assert (count.specs, count.active) == (3, 2)
        await a.call(Worker.note, 1)
        assert trio.current_time() == pytest.approx(1)


# What comes between.


async def test_a_child_that_is_terminated_while_it_waits_stays_down(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    async with open_supervisor(tree_of(spec)) as root:
        await crash_at(ref, 0)
        reply = ref.send_request(Worker.note, 1)
        await root.terminate_child("a")
        with pytest.raises(ActorStopped):
            reply.unwrap()
        await trio.sleep(100)
        assert states(root) == ["stopped"]
        assert root.inspect().children[0].restarts == 0
        await root.delete_child("a")
        assert states(root) == []


async def test_a_child_that_waits_is_about_to_be_restarted(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    async with open_supervisor(tree_of(spec)) as root:
        await crash_at(ref, 0)
        with pytest.raises(ChildRestarting):
            await root.restart_child("a")
        with pytest.raises(ChildRestarting):
            await root.delete_child("a")
        await ref.call(Worker.note, 1)
        assert trio.current_time() == pytest.approx(1)


async def test_a_child_that_was_started_by_hand_meanwhile_is_left_alone(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    async with open_supervisor(tree_of(spec)) as root:
        await crash_at(ref, 0)
        await trio.sleep(0.5)
        await root.terminate_child("a")
        await root.restart_child("a")
        assert await ref.call(Worker.note, "kept") == 1
        await trio.sleep(10)
        assert await ref.call(Worker.note, "kept") == 2
        assert root.inspect().children[0].restarts == 1
        # Nor is its next delay cut short by what is left of the last one.
        await crash_at(ref, 20)
        await root.terminate_child("a")
        await root.restart_child("a")
        await crash_at(ref, 20.5)
        before = trio.current_time()
        await ref.call(Worker.note, 1)
        assert trio.current_time() - before == pytest.approx(4)


async def test_a_new_child_of_the_same_id_does_not_inherit_the_delay(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    async with open_supervisor(tree_of(spec)) as root:
        await crash_at(ref, 0)
        await root.terminate_child("a")
        await root.delete_child("a")
        await root.start_child(spec)
        assert await ref.call(Worker.note, 1) == 1
        await trio.sleep(10)
        assert await ref.call(Worker.note, 1) == 2


async def test_the_tree_stops_at_once_while_a_restart_waits(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    deep, deep_spec = worker("deep", backoff=STEADY)
    nested = supervisor("s", tree_of(deep_spec))
    async with open_supervisor(tree_of(spec, nested)):
        await crash_at(ref, 0)
        await crash_at(deep, 0)
    assert trio.current_time() == 0
    for each in (ref, deep):
        with pytest.raises(ActorStopped):
            each.cast(Worker.note, 1)


async def test_a_cancellation_stops_a_tree_in_which_a_restart_waits(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    with trio.move_on_after(0.5) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervise, tree_of(spec))
            await crash_at(ref, 0)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(0.5)


async def test_messages_wait_for_the_next_incarnation_of_a_supervisor_above(
    autojump_clock: MockClock,
) -> None:
    deep, deep_spec = worker("deep", backoff=STEADY)
    nested = supervisor("s", tree_of(deep_spec))
    async with open_supervisor(tree_of(nested)) as root:
        await crash_at(deep, 0)
        deep.cast(Worker.note, "kept")
        root.crash_child("s", Boom())
        # Its children start anew with it, and wait for nothing.
        assert await deep.call(lambda this: this.notes) == ["kept"]
        assert trio.current_time() == 0


# Groups.


def group(
    strategy: Strategy, log: list[str], *, failing_one: str, **options: Any
) -> tuple[ActorRef[Worker], SupervisorSpec]:
    """Return the one that fails, and a tree of a, b and c."""
    ref, spec = worker(failing_one, backoff=STEADY)
    children = [
        spec if id_ == failing_one else logged(id_, log, stop_takes=0.25, **options)
        for id_ in "abc"
    ]
    return ref, tree_of(*children, strategy=strategy)


@pytest.mark.parametrize(
    ("strategy", "stopped", "started"),
    [
        (Strategy.ONE_FOR_ONE, [], []),
        (Strategy.REST_FOR_ONE, ["-c"], ["+c"]),
        (Strategy.ONE_FOR_ALL, ["-c", "-a"], ["+a", "+c"]),
    ],
)
async def test_a_group_stops_at_once_and_starts_together(
    autojump_clock: MockClock,
    strategy: Strategy,
    stopped: list[str],
    started: list[str],
) -> None:
    log = list[str]()
    ref, tree = group(strategy, log, failing_one="b")
    async with open_supervisor(tree) as root:
        del log[:]
        ref.cast(Worker.crash)
        await trio.sleep(0.75)
        assert log == stopped
        assert states(root) == [
            "stopped" if "-a" in stopped else "running",
            "restarting",
            "stopped" if "-c" in stopped else "running",
        ]
        assert await ref.call(Worker.note, 1) == 1
        # The delay begins when the others have stopped.
        assert trio.current_time() == pytest.approx(1 + 0.25 * len(stopped))
        await settled()
        assert states(root) == ["running"] * 3
        assert log == [*stopped, *started]


async def test_a_temporary_sibling_is_gone_when_the_group_starts_again(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    ref, tree = group(
        Strategy.ONE_FOR_ALL, log, failing_one="b", restart=Restart.TEMPORARY
    )
    async with open_supervisor(tree) as root:
        ref.cast(Worker.crash)
        await trio.sleep(10)
        assert [info.id for info in await root.which_children()] == ["b"]
        assert log == ["+a", "+c", "-c", "-a"]


async def test_a_sibling_that_fails_at_the_start_of_the_group_is_retried_by_its_own(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    ref, spec = worker("a", backoff=STEADY)
    other = failing(
        "f", None, Boom(), None, backoff=attrs.evolve(STEADY, first=3, limit=3)
    )
    tree = tree_of(spec, other, strategy=Strategy.ONE_FOR_ALL)
    async with open_supervisor(tree, on_event=events.append) as root:
        ref.cast(Worker.crash)
        await trio.sleep(2)
        assert states(root)[1] == "restarting"
        await trio.sleep(10)
        assert states(root) == ["running"] * 2
    assert delays(events) == [("a", 1), ("f", 3)]


async def test_a_crash_of_another_in_the_group_takes_the_place_of_a_restart_that_waits(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    late, late_spec = worker("late", backoff=attrs.evolve(STEADY, first=5))
    soon, soon_spec = worker("soon", backoff=STEADY)
    tree = tree_of(soon_spec, late_spec, strategy=Strategy.REST_FOR_ONE)
    async with open_supervisor(tree, on_event=events.append) as root:
        await crash_at(late, 0)
        assert states(root) == ["running", "restarting"]
        await crash_at(soon, 2)
        assert states(root) == ["restarting", "stopped"]
        await late.call(Worker.note, 1)
        assert trio.current_time() == pytest.approx(3)
        await trio.sleep(20)
        # Both once; the first delay is forgotten.
        assert [node.restarts for node in root.inspect().children] == [1, 1]
        assert await late.call(Worker.note, 2) == 2
    assert delays(events) == [("late", 5), ("soon", 1)]


# Under a dynamic supervisor.


async def test_a_dynamic_child_waits_for_its_restart_too(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    dynamic = DynamicSupervisor("d", max_restarts=1000, max_children=1)
    ref, spec = worker("a", backoff=STEADY)
    async with open_supervisor(
        tree_of(dynamic_supervisor(dynamic)), on_event=events.append
    ):
        assert await dynamic.start_child(spec) == "a"
        await crash_at(ref, 0)
        (info,) = await dynamic.which_children()
        assert info.state == "restarting"
        with pytest.raises(TooManyChildren):
            await dynamic.start_child(logged("b", []))
        assert await ref.call(Worker.note, 1) == 1
        assert trio.current_time() == pytest.approx(1)
        await crash_at(ref, 2)
        await dynamic.terminate_child("a")
        with pytest.raises(ChildNotFound):
            await dynamic.terminate_child("a")
        with pytest.raises(ActorStopped):
            ref.cast(Worker.note, 1)
        await trio.sleep(100)
        assert await dynamic.which_children() == ()
        assert await dynamic.start_child(spec) == "a"
        await crash_at(ref, 200)
    assert trio.current_time() == pytest.approx(200)
    assert delays(events) == [("d/a", 1), ("d/a", 2), ("d/a", 1)]


async def test_a_dynamic_child_whose_init_fails_waits_longer_each_time(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    dynamic = DynamicSupervisor("d", max_restarts=1000)
    spec = failing("f", None, Boom(), Boom(), None, backoff=STEADY)
    async with open_supervisor(
        tree_of(dynamic_supervisor(dynamic)), on_event=events.append
    ) as root:
        await dynamic.start_child(spec)
        root.crash_child("d/f", Boom())
        await trio.sleep(100)
        (info,) = await dynamic.which_children()
        assert info.state == "running"
    assert delays(events) == [("d/f", 1), ("d/f", 2), ("d/f", 4)]
