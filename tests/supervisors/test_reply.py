"""One answer to one call."""

from __future__ import annotations

import outcome
import pytest
import trio
from trio.testing import MockClock

from supervisors import Reply
from tests.supervisors.children import settled


async def test_an_answer_that_is_there_is_returned(autojump_clock: MockClock) -> None:
    reply: Reply[int] = Reply()
    reply.send(1)
    assert reply.settled
    assert await reply == 1


async def test_an_answer_wakes_its_waiter_at_once(autojump_clock: MockClock) -> None:
    reply: Reply[int] = Reply()

    async def answer() -> None:
        await trio.sleep(1)
        reply.send(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await reply.wait() == 1
    assert trio.current_time() == pytest.approx(1)


async def test_an_error_is_raised_at_the_waiter(autojump_clock: MockClock) -> None:
    reply: Reply[int] = Reply()
    reply.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await reply


async def test_only_the_first_answer_counts(autojump_clock: MockClock) -> None:
    reply: Reply[int] = Reply()
    reply.send(1)
    reply.send(2)
    reply.fail(ValueError())
    reply.settle(outcome.Value(3))
    assert await reply == 1


async def test_a_reply_after_its_caller_gave_up_goes_nowhere(
    autojump_clock: MockClock,
) -> None:
    reply: Reply[int] = Reply()
    with trio.move_on_after(1) as scope:
        await reply
    assert scope.cancelled_caught
    assert reply.abandoned
    assert repr(reply) == "<Reply abandoned>"
    reply.send(1)
    await settled()


async def test_an_answer_before_the_cancellation_arrives_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    reply: Reply[int] = Reply()
    answers = list[int]()

    async def wait() -> None:
        answers.append(await reply)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await settled()
        reply.send(1)
        nursery.cancel_scope.cancel()
    assert answers == [1]
    assert not reply.abandoned


async def test_two_tasks_cannot_wait_for_one_reply(autojump_clock: MockClock) -> None:
    reply: Reply[int] = Reply()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reply.wait)
        await settled()
        with pytest.raises(RuntimeError, match="another task"):
            await reply
        reply.send(1)


async def test_a_forwarded_reply_answers_the_other_one(
    autojump_clock: MockClock,
) -> None:
    late, call = Reply[int](), Reply[int]()
    done = list[Reply[int]]()
    late.forward_to(call, done.append)
    assert not done
    late.send(1)
    assert done == [late]
    assert await call == 1


async def test_a_settled_reply_answers_the_other_one_at_once(
    autojump_clock: MockClock,
) -> None:
    late, call = Reply[int](), Reply[int]()
    late.send(1)
    late.forward_to(call, lambda _: pytest.fail("it was never promised"))
    assert await call == 1


async def test_a_forwarded_reply_is_abandoned_with_the_other_one(
    autojump_clock: MockClock,
) -> None:
    late, call = Reply[int](), Reply[int]()
    done = list[Reply[int]]()
    late.forward_to(call, done.append)
    assert not late.abandoned
    with trio.move_on_after(1):
        await call
    assert late.abandoned
    assert done == [late]
    late.send(1)
    assert done == [late]


def test_a_reply_cannot_be_promised_to_two_calls() -> None:
    late = Reply[int]()
    late.forward_to(Reply(), lambda _: None)
    with pytest.raises(RuntimeError, match="already"):
        late.forward_to(Reply(), lambda _: None)


def test_a_reply_shows_its_state() -> None:
    reply: Reply[int] = Reply()
    assert repr(reply) == "<Reply open>"
    reply.send(1)
    assert repr(reply) == "<Reply settled>"
