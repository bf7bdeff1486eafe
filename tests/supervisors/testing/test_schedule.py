"""Schedules decide the order of steps; a trio that does not let them is found out."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import trio
from hypothesis import find, given, settings
from trio._core import _run as trio_run

from supervisors.testing import (
    PCT,
    Delays,
    Fifo,
    Raised,
    Schedule,
    Seeded,
    UnsupportedTrio,
    _hook,
    check_trio,
    delays,
    schedules,
    simulate,
    try_simulate,
    using,
)
from tests.supervisors.testing.programs import increment_without_lock, take_turns

SEARCH = settings(max_examples=2000, derandomize=True, database=None, deadline=None)
KINDS: list[Callable[[int], Schedule]] = [
    Seeded,
    PCT,
    lambda seed: Delays([(seed, 1), (0, 2)]),
]


def order_under(schedule: Schedule) -> list[int]:
    with using(schedule):
        return trio.run(take_turns)


def test_fifo_lets_the_oldest_run_first() -> None:
    assert order_under(Fifo()) == [0, 1, 2, 3, 4] * 4


def test_a_delay_moves_the_first_tasks_of_one_turn_to_its_end() -> None:
    seen = order_under(Delays([(2, 2)]))
    assert seen == [*range(5), 2, 3, 4, 0, 1, *range(5), *range(5)]


def test_every_seeded_turn_runs_every_task_once() -> None:
    seen = order_under(Seeded(3))
    turns = [seen[n : n + 5] for n in range(0, 20, 5)]
    assert all(sorted(turn) == [0, 1, 2, 3, 4] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_pct_lets_a_task_fall_behind_by_many_turns() -> None:
    def lead(seen: list[int]) -> int:
        return max(abs(seen[:n].count(0) - seen[:n].count(1)) for n in range(len(seen)))

    assert max(lead(order_under(PCT(seed))) for seed in range(10)) == 4
    assert max(lead(order_under(Seeded(seed))) for seed in range(10)) == 1


def test_pct_is_fair_to_whom_a_spinning_task_waits_for() -> None:
    async def main() -> None:
        done = False

        async def finish() -> None:
            nonlocal done
            await trio.lowlevel.checkpoint()
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            while not done:
                await trio.lowlevel.checkpoint()

    for seed in range(20):
        simulate(main, schedule=PCT(seed, depth=1), max_steps=1000)


@pytest.mark.parametrize("kind", KINDS, ids=["Seeded", "PCT", "Delays"])
def test_the_same_schedule_gives_the_same_order_and_another_another(kind) -> None:
    orders = [order_under(kind(seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_without_a_schedule_runs_differ() -> None:
    assert len({tuple(trio.run(take_turns)) for _ in range(30)}) > 1


def test_a_schedule_ends_with_its_block_even_by_an_error() -> None:
    before = trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    with pytest.raises(ZeroDivisionError), using(Fifo()), using(Seeded(1)):
        assert trio_run._r is not before[0]
        raise ZeroDivisionError
    assert (trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING) == before


def test_a_schedule_says_in_its_repr_how_to_make_it_again() -> None:
    for schedule in (Fifo(), Seeded(7), Delays([(1, 2)]), PCT(7, depth=2)):
        assert eval(repr(schedule)) == schedule


def test_a_found_race_shrinks_to_one_delay() -> None:
    def loses_an_update(schedule: Schedule) -> bool:
        result = try_simulate(increment_without_lock, schedule=schedule)
        return isinstance(result.outcome, Raised)

    assert not loses_an_update(Fifo())
    assert loses_an_update(find(schedules(), loses_an_update, settings=SEARCH))
    ((_gap, places),) = find(delays(), loses_an_update, settings=SEARCH).plan
    assert places == 1


@given(schedules())
@settings(max_examples=50)
def test_every_drawn_schedule_runs_every_task_to_its_end(schedule: Schedule) -> None:
    result = simulate(take_turns, schedule=schedule)
    assert sorted(result.value) == sorted([0, 1, 2, 3, 4] * 4)


def test_what_always_fails_shrinks_to_fifo() -> None:
    assert find(schedules(), lambda _: True, settings=SEARCH) == Fifo()


# A trio that is not what we know.


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(_hook, "_checked", [])
    return monkeypatch


def test_this_trio_can_be_given_schedules(unchecked) -> None:
    check_trio()


@pytest.mark.parametrize("name", _hook._NAMES)
def test_a_missing_private_name_is_said_with_the_version_and_what_still_works(
    unchecked, name: str
) -> None:
    unchecked.delattr(trio_run, name)
    with pytest.raises(UnsupportedTrio) as caught:
        check_trio()
    text = str(caught.value)
    assert f"trio {trio.__version__} " in text
    assert f"no trio._core._run.{name}" in text
    assert "Without schedules there still are: fault plans" in text
    with pytest.raises(UnsupportedTrio), using(Fifo()):
        pass


def test_a_name_that_goes_missing_after_the_check_is_noticed(monkeypatch) -> None:
    check_trio()
    monkeypatch.delattr(trio_run, "_r")
    with pytest.raises(UnsupportedTrio):
        simulate(take_turns)


def test_a_hook_without_effect_is_noticed(unchecked) -> None:
    """As if trio kept its Random elsewhere: our names are there, and nobody reads them."""
    elsewhere = SimpleNamespace(
        _r=random.Random(0),
        _ALLOW_DETERMINISTIC_SCHEDULING=False,
        GLOBAL_RUN_CONTEXT=trio_run.GLOBAL_RUN_CONTEXT,
    )
    unchecked.setattr(_hook, "_trio_run", lambda: elsewhere)
    with pytest.raises(UnsupportedTrio, match="asked for the order"):
        check_trio()
    with pytest.raises(UnsupportedTrio):
        simulate(take_turns)


@pytest.mark.parametrize("queue", [None, deque()], ids=["missing", "unused"])
def test_a_queue_that_takes_nobody_back_is_noticed(unchecked, queue) -> None:
    unchecked.setattr(_hook._Shuffler, "_waiting_tasks", lambda self: queue)
    with pytest.raises(UnsupportedTrio, match="its loop failed"):
        check_trio()


def test_batches_in_another_order_are_noticed(unchecked) -> None:
    """As if the flag that sorts them had lost its meaning."""
    shuffle = _hook._Shuffler.shuffle

    def shuffle_unsorted(self, batch) -> None:
        batch.reverse()
        shuffle(self, batch)

    unchecked.setattr(_hook._Shuffler, "shuffle", shuffle_unsorted)
    with pytest.raises(UnsupportedTrio, match="asked for the order"):
        check_trio()
