"""Partitions: copies of one child, each for its part of the keys."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trio.testing import MockClock

from supervisors import (
    ActorStopped,
    ChildCount,
    Event,
    GaveUp,
    InboxFull,
    PartitionSupervisor,
    Restart,
    SupervisorSpec,
    actor,
    open_supervisor,
    partition_of,
    partition_supervisor,
)
from tests.supervisors.children import Boom, Worker, idle, settled


def partitions(number: int = 4, **options: Any) -> PartitionSupervisor[Worker]:
    """Return *number* workers."""
    return PartitionSupervisor(
        "w", lambda ref: actor(ref, Worker), partitions=number, **options
    )


async def test_a_key_always_reaches_the_same_copy(autojump_clock: MockClock) -> None:
    workers = partitions()
    async with open_supervisor(
        SupervisorSpec(children=[partition_supervisor(workers)])
    ):
        keys = [f"user {number}" for number in range(50)]
        for _ in range(2):
            for key in keys:
                await workers.ref(key).call(Worker.note, key)
        notes = [await ref.call(lambda this: this.notes) for ref in workers]
        assert Counter(note for each in notes for note in each) == dict.fromkeys(
            keys, 2
        )
        for number, each in enumerate(notes):
            assert each
            assert all(partition_of(key, 4) == number for key in each)


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        ("user 17", 682),
        ("", 0),
        ("schön", 933),
        ("\ud800", 600),
        (b"user 17", 682),
        (("user", 17), 972),
        (("user", (17, b"x")), 530),
        (17, 17),
        (1017, 17),
        (-1, 999),
        (True, 1),
    ],
)
def test_the_partition_of_a_key_is_the_same_in_every_run(
    key: Any, partition: int
) -> None:
    assert partition_of(key, 1000) == partition


@pytest.mark.parametrize("key", [None, 1.0, object(), ["a"], ("a", 1.0)])
def test_a_key_that_may_differ_in_the_next_run_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="a key is text, bytes"):
        partition_of(key, 4)


@given(st.text(), st.integers(2, 8))
def test_no_copy_gets_more_than_twice_its_share(prefix: str, number: int) -> None:
    keys = [f"{prefix}{each}" for each in range(400)]
    shares = Counter(partition_of(key, number) for key in keys)
    assert max(shares.values()) < 2 * len(keys) / number


def test_numbers_in_a_row_go_round() -> None:
    assert [partition_of(number, 3) for number in range(6)] == [0, 1, 2, 0, 1, 2]


async def test_a_copy_that_crashes_is_restarted_alone(
    autojump_clock: MockClock,
) -> None:
    workers = partitions()
    async with open_supervisor(
        SupervisorSpec(children=[partition_supervisor(workers)])
    ) as root:
        for ref in workers:
            ref.cast(Worker.note, "before")
        await settled()
        root.crash_child("w/2", Boom())
        await settled()
        kept = [await ref.call(lambda this: this.notes) for ref in workers]
        assert kept == [["before"], ["before"], [], ["before"]]


async def test_the_copies_have_an_intensity_of_their_own(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    workers = partitions(max_restarts=1, max_seconds=10.0)
    spec = SupervisorSpec(children=[partition_supervisor(workers)])
    async with open_supervisor(spec, on_event=events.append) as root:
        for number in range(2):
            root.crash_child(f"w/{number}", Boom())
            await settled()
        assert [event for event in events if isinstance(event, GaveUp)] == [
            GaveUp("w", "1")
        ]
        assert await workers.ref("x").call(Worker.note, 1) == 1


async def test_the_copies_can_be_listed_and_counted(autojump_clock: MockClock) -> None:
    workers = partitions(3)
    assert (len(workers), list(workers)) == (3, list(workers.refs))
    assert [ref.name for ref in workers] == ["w-0", "w-1", "w-2"]
    assert repr(workers) == "<PartitionSupervisor 'w', 3 partitions>"
    with pytest.raises(ActorStopped):
        await workers.count_children()
    async with open_supervisor(
        SupervisorSpec(children=[partition_supervisor(workers)])
    ):
        assert [info.id for info in await workers.which_children()] == ["0", "1", "2"]
        assert await workers.count_children() == ChildCount(
            specs=3, active=3, supervisors=0, workers=3
        )


async def test_calls_after_the_end_of_the_supervisor_are_refused(
    autojump_clock: MockClock,
) -> None:
    workers = partitions()
    spec = partition_supervisor(workers, restart=Restart.TEMPORARY)
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await root.terminate_child("w")
        for ref in workers:
            with pytest.raises(ActorStopped):
                await ref.call(Worker.note, 1)


async def test_the_inboxes_of_the_copies_have_the_limit_that_was_asked_for(
    autojump_clock: MockClock,
) -> None:
    (ref,) = partitions(1, max_inbox=1)
    ref.cast(Worker.note, 1)
    with pytest.raises(InboxFull):
        ref.cast(Worker.note, 2)


def test_fewer_than_one_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        partitions(0)


def test_a_child_that_does_not_answer_at_its_ref_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody would answer"):
        PartitionSupervisor("w", lambda _: idle("x"), partitions=1)
