"""Equal runs are equal to the last step; what is stuck fails, and says where."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from supervisors import ActorRef, SupervisorSpec, actor, open_supervisor
from supervisors.testing import (
    PCT,
    Delays,
    Fifo,
    Hang,
    Livelock,
    Raised,
    Returned,
    Seeded,
    Trace,
    current_random,
    record,
    schedules,
    simulate,
    try_simulate,
    where_everybody_is,
)
from tests.supervisors.testing.programs import (
    busy_tree,
    go_round,
    go_round_shielded,
    increment_without_lock,
    take_turns,
    wait_for_ever,
    wait_for_ever_shielded,
)

SCHEDULES = [Fifo(), Seeded(5), PCT(5), Delays([(3, 1), (10, 2)])]


def plain_digest() -> str:
    trace = Trace()
    trio.run(take_turns, instruments=[trace])
    return trace.digest


# Equal runs.


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_equal_runs_have_equal_digests_events_and_values(schedule) -> None:
    runs = [simulate(busy_tree, schedule=schedule, seed=1) for _ in range(3)]
    assert len({(run.digest, run.steps) for run in runs}) == 1
    assert len({tuple(run.value) for run in runs}) == 1
    assert len({repr(run.events) for run in runs}) == 1
    assert runs[0].events


def test_other_seeds_give_other_runs() -> None:
    assert len({simulate(busy_tree, seed=seed).digest for seed in range(10)}) == 10


def test_plain_trio_runs_differ() -> None:
    """The control: without it, equal digests could mean a blind trace."""
    assert len({plain_digest() for _ in range(30)}) > 1


@given(schedules(), st.integers(0, 1000))
@settings(max_examples=25)
def test_any_run_repeats(schedule, seed: int) -> None:
    first, second = (
        try_simulate(busy_tree, schedule=schedule, seed=seed) for _ in range(2)
    )
    assert first.digest == second.digest
    assert type(first.outcome) is type(second.outcome)


DIGESTS = """
from tests.supervisors.testing.programs import busy_tree
from supervisors.testing import PCT, Delays, Fifo, Seeded, simulate
for schedule in (Fifo(), Seeded(5), PCT(5), Delays([(3, 1), (10, 2)])):
    result = simulate(busy_tree, schedule=schedule, seed=1)
    print(schedule, result.digest, result.steps, len(result.events))
"""


@pytest.mark.slow
def test_digests_do_not_depend_on_the_hash_seed_or_the_process() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("1", "2", "2")
    ]
    assert said[0].count("\n") == 4
    assert said[0] == said[1] == said[2]


def test_random_numbers_repeat_by_seed_and_leave_the_order_alone() -> None:
    async def draw(times: int) -> tuple[list[int], list[int]]:
        drawn = [current_random().randrange(1000) for _ in range(times)]
        return drawn, await take_turns()

    few, many = simulate(draw, 2, seed=3).value, simulate(draw, 20, seed=3).value
    assert many[0][:2] == few[0]
    assert many[1] == few[1]
    assert simulate(draw, 20, seed=4).value[0] != many[0]


def test_time_is_virtual_and_starts_at_nought() -> None:
    async def main() -> float:
        assert trio.current_time() == 0
        await trio.sleep(3000)
        return trio.current_time()

    assert simulate(main).value == 3000


# What is recorded.


def test_events_are_kept_with_their_time_and_are_part_of_the_digest() -> None:
    async def main(event: str) -> None:
        await trio.sleep(2)
        record(event)

    runs = [simulate(main, event) for event in ("a", "a", "b")]
    assert runs[0].events == ((2.0, "a"),)
    assert runs[0].digest == runs[1].digest != runs[2].digest


def test_an_address_in_a_repr_is_not_part_of_the_digest() -> None:
    async def main(events: list[object]) -> None:
        events.append(object())  # kept, so that no address comes twice
        record(events[-1])

    kept = list[object]()
    assert simulate(main, kept).digest == simulate(main, kept).digest
    assert repr(kept[0]) != repr(kept[1])


@pytest.mark.parametrize("call", [current_random, lambda: record("event")])
def test_outside_of_a_simulation_there_is_nothing_to_record_in(call) -> None:
    with pytest.raises(RuntimeError, match="outside of simulate"):
        call()


def test_a_trace_keeps_its_last_lines() -> None:
    trace, everything = Trace(keep=3), Trace(keep=10_000)
    simulate(take_turns, trace=trace)
    simulate(take_turns, trace=everything)
    assert len(everything.lines) == everything.steps == trace.steps
    assert trace.lines == everything.lines[-3:]
    assert any("take_turns.<locals>.run" in line for line in everything.lines)
    assert any("(programs.py:" in line for line in everything.lines)


def test_a_trace_of_a_task_that_waits_for_no_coroutine_goes_on() -> None:
    """An instrument that raises would be switched off by trio."""

    async def main() -> None:
        for _ in range(5):
            await _BareIterator(trio.lowlevel.checkpoint)

    trace = Trace(keep=100)
    result = simulate(main, trace=trace)
    assert sum("main" in line for line in trace.lines) == 6
    assert result.digest == simulate(main).digest


class _BareIterator:
    """Awaits a coroutine, but is neither a coroutine nor a generator."""

    def __init__(self, afn: Callable[[], Any]) -> None:
        self._inner = afn().__await__()
        self.send = self._inner.send
        self.throw = self._inner.throw

    def __await__(self) -> Iterator[Any]:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._inner)


# Failures.


def test_a_failure_says_how_to_repeat_it() -> None:
    failing = next(
        seed
        for seed in range(100)
        if isinstance(try_simulate(increment_without_lock, seed=seed).outcome, Raised)
    )
    with pytest.raises(AssertionError, match="a lost update") as caught:
        simulate(increment_without_lock, seed=failing)
    notes = caught.value.__notes__
    assert any(
        f"simulate(increment_without_lock, ..., seed={failing})" in note
        for note in notes
    )
    with pytest.raises(AssertionError, match="a lost update") as again:
        simulate(increment_without_lock, seed=failing)
    assert again.value.__notes__ == notes


def test_a_failure_names_a_schedule_that_is_not_the_seeds_own() -> None:
    async def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError) as caught:
        simulate(fail, schedule=PCT(2), seed=7)
    schedule = "schedule=PCT(seed=2, depth=3, horizon=500), seed=7"
    assert schedule in caught.value.__notes__[-1]


def test_a_result_can_be_looked_at_more_than_once() -> None:
    async def fail() -> None:
        raise KeyError

    result = simulate(take_turns)
    assert result.value == result.value
    assert result.outcome == Returned(result.value)
    failed = try_simulate(fail)
    for _ in range(2):
        with pytest.raises(KeyError):
            _ = failed.value


def test_ctrl_c_is_no_result() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_simulate(interrupt)
    assert simulate(take_turns).value


def test_a_hang_fails_with_a_list_of_where_everybody_is() -> None:
    with pytest.raises(Hang, match="60 virtual seconds") as caught:
        simulate(wait_for_ever, timeout=60)
    main, sleeper = caught.value.tasks
    assert main.startswith("tests.supervisors.testing.programs.wait_for_ever: ")
    assert "wait_for_ever (programs.py:" in main
    assert sleeper.strip() == "the sleeper"
    assert main in str(caught.value)


def test_the_list_of_tasks_has_the_shape_of_the_nurseries() -> None:
    async def main() -> tuple[str, ...]:
        async def parent() -> None:
            async with trio.open_nursery() as inner:
                inner.start_soon(trio.sleep_forever, name="child b")
                inner.start_soon(trio.sleep_forever, name="child a")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(parent, name="parent")
            await trio.testing.wait_all_tasks_blocked()
            lines = where_everybody_is()
            nursery.cancel_scope.cancel()
        return lines

    lines = [line.split(":")[0] for line in simulate(main).value]
    assert lines[1:] == ["  parent", "    child a", "    child b"]


def test_a_hang_that_ignores_its_cancellation_fails_as_well() -> None:
    with pytest.raises(Hang) as caught:
        simulate(wait_for_ever_shielded)
    assert "wait_for_ever_shielded (programs.py:" in caught.value.tasks[0]
    assert simulate(take_turns).value, "the next run is as good as ever"


@pytest.mark.parametrize("program", [go_round, go_round_shielded])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_livelock_fails(program, schedule) -> None:
    with pytest.raises(Livelock, match="500 steps") as caught:
        simulate(program, schedule=schedule, max_steps=500)
    assert "go_round (programs.py:" in caught.value.tasks[0]


def test_a_program_that_swallows_the_cancellation_fails_all_the_same() -> None:
    async def stubborn() -> str:
        with trio.CancelScope() as scope:
            try:
                await trio.sleep_forever()
            finally:
                scope.cancel()
        return "fine"

    with pytest.raises(Hang):
        simulate(stubborn)


def test_what_a_hang_broke_off_can_be_read_in_its_failure() -> None:
    async def wait_and_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError

    with pytest.raises(Hang) as caught:
        simulate(wait_and_clean_up)
    assert isinstance(caught.value.__context__, KeyError)


class Spinner:
    """An actor that goes round in circles in a message."""

    async def spin(self) -> None:
        await go_round()


async def spin_in_a_tree() -> None:
    ref: ActorRef[Spinner] = ActorRef("spinner")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Spinner)])):
        await ref.call(Spinner.spin)


def test_a_livelock_in_a_child_ends_by_the_shutdown_times_of_its_tree() -> None:
    """Children are shielded, and their shutdown times would not pass in a livelock."""
    ended = list[str]()

    async def main() -> None:
        try:
            await spin_in_a_tree()
        finally:
            ended.append("in order")

    with pytest.raises(Livelock) as caught:
        simulate(main, max_steps=2000)
    assert ended == ["in order"]
    assert any("Spinner.spin" in line for line in caught.value.tasks)


# Faults.


@attrs.define
class Watching:
    """Faults that do nothing but watch."""

    log: list[str] = attrs.field(factory=list)
    trace: Trace = attrs.field(factory=Trace)

    @property
    def instruments(self) -> list[Trace]:
        return [self.trace]

    @contextmanager
    def installed(self) -> Generator[None]:
        self.log.append("installed")
        try:
            yield
        finally:
            self.log.append("removed")


def test_faults_are_installed_around_the_run_and_named_in_its_failure() -> None:
    faults = Watching()

    async def fail() -> None:
        faults.log.append("run")
        raise KeyError

    with pytest.raises(KeyError) as caught:
        simulate(fail, faults=faults)
    assert faults.log == ["installed", "run", "removed"]
    assert faults.trace.steps > 0
    assert "faults=Watching(" in caught.value.__notes__[-1]
