"""Messages that carry the deadline of the cancel scope that they were sent in."""

# ruff: noqa: ASYNC100 - a message takes the deadline of its scope without waiting

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    CallExpired,
    InboxStatistics,
    Reply,
    SupervisorSpec,
    actor,
    open_supervisor,
)
from tests.supervisors.children import Worker, settled


def punctual() -> tuple[ActorRef[Worker], SupervisorSpec]:
    """Return an actor whose messages have deadlines, and its tree."""
    ref: ActorRef[Worker] = ActorRef("a", deadlines=True)
    return ref, SupervisorSpec(children=[actor(ref, Worker)])


def figures(*, expired: int = 0, abandoned: int = 0) -> InboxStatistics:
    return InboxStatistics(
        depth=0, max_inbox=1000, refused=0, expired=expired, abandoned=abandoned
    )


async def test_a_cast_whose_deadline_has_passed_is_skipped(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()
    async with open_supervisor(tree):
        ref.cast(Worker.sleep, 10)
        with trio.move_on_after(10):
            ref.cast(Worker.note, "at the deadline")
        with trio.move_on_after(11):
            ref.cast(Worker.note, "in time")
        ref.cast(Worker.note, "whenever")
        with trio.move_on_after(5):
            await ref.wait_cast(Worker.note, "too late")
        await trio.sleep(20)
        assert await ref.call(lambda this: this.notes) == ["in time", "whenever"]
    assert ref.statistics() == figures(expired=2)


async def test_the_nearest_of_several_scopes_is_the_deadline(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()
    async with open_supervisor(tree):
        ref.cast(Worker.sleep, 10)
        with trio.move_on_after(5), trio.move_on_after(100):
            ref.cast(Worker.note, 1)
        with trio.move_on_after(5), trio.CancelScope(shield=True):
            ref.cast(Worker.note, 2)
        await trio.sleep(20)
        assert await ref.call(lambda this: this.notes) == [2]


async def test_a_call_that_expires_ends_its_caller_as_its_scope_says(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()
    async with open_supervisor(tree):
        ref.cast(Worker.sleep, 10)
        with trio.move_on_after(5) as scope:
            await ref.call(Worker.note, 1)
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(5)
        assert await ref.call(lambda this: this.notes) == []
    # Its caller had left before its turn.
    assert ref.statistics() == figures(abandoned=1)


async def test_a_caller_sees_its_scope_even_if_the_actor_was_the_first_to_notice(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()
    async with open_supervisor(tree):
        # Time passes while no other task can run.
        ref.cast(lambda _: autojump_clock.jump(10))
        with trio.move_on_after(5) as scope:
            await ref.call(Worker.note, 1)
        assert scope.cancelled_caught
        assert await ref.call(lambda this: this.notes) == []
    assert ref.statistics() == figures(expired=1)


async def test_a_deadline_that_was_moved_after_the_call_was_sent_expires_the_call(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()
    async with open_supervisor(tree), trio.open_nursery() as nursery:
        with trio.move_on_after(5) as scope:

            async def move() -> None:
                await trio.sleep(1)
                scope.deadline = 100

            nursery.start_soon(move)
            ref.cast(Worker.sleep, 10)
            with pytest.raises(CallExpired, match="deadline of the call") as expired:
                await ref.call(Worker.note, 1)
            assert expired.value.actor == "a"
            assert trio.current_time() == pytest.approx(10)
        assert not scope.cancelled_caught
        assert await ref.call(lambda this: this.notes) == []
    assert ref.statistics() == figures(expired=1)


async def test_a_request_that_expires_fails_its_reply(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()
    async with open_supervisor(tree):
        ref.cast(Worker.sleep, 10)
        replies = list[Reply[int]]()
        with trio.move_on_after(5):
            replies.append(ref.send_request(Worker.note, 1))
        with pytest.raises(CallExpired):
            await replies[0]
        assert trio.current_time() == pytest.approx(10)


async def test_what_has_begun_is_carried_out_after_its_deadline(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()

    async def slow(this: Worker) -> None:
        await trio.sleep(10)
        this.note("done")

    async with open_supervisor(tree):
        with trio.move_on_after(5):
            await ref.call(slow)
        assert trio.current_time() == pytest.approx(5)
        assert await ref.call(lambda this: this.notes) == ["done"]
    assert ref.statistics() == figures()


async def test_deadlines_pass_while_the_actor_is_down(
    autojump_clock: MockClock,
) -> None:
    ref, tree = punctual()
    with trio.move_on_after(5):
        ref.cast(Worker.note, "too late")
        await trio.sleep_forever()
    async with open_supervisor(tree):
        await settled()
        assert await ref.call(lambda this: this.notes) == []
    assert ref.statistics() == figures(expired=1)


async def test_the_lane_ahead_has_no_deadlines(autojump_clock: MockClock) -> None:
    ref, tree = punctual()
    async with open_supervisor(tree):
        ref.cast(Worker.sleep, 10)
        await settled()
        with trio.move_on_after(5):
            ref.ahead.cast(Worker.note, "ahead")
        await trio.sleep(20)
        assert await ref.call(lambda this: this.notes) == ["ahead"]


async def test_refs_are_without_deadlines_unless_they_ask(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Worker)])):
        ref.cast(Worker.sleep, 10)
        with trio.move_on_after(5):
            ref.cast(Worker.note, 1)
        await trio.sleep(20)
        assert await ref.call(lambda this: this.notes) == [1]
    assert ref.statistics() == figures()
