"""A bounded inbox: what becomes of a message that finds it full, and the figures."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    ActorStopped,
    CallError,
    CallingSelf,
    InboxFull,
    InboxStatistics,
    MessageDropped,
    OnFull,
    SupervisorSpec,
    actor,
    open_supervisor,
    supervise,
)
from supervisors._inbox import Awaited, Envelope, Inbox
from supervisors._reply import Reply
from tests.supervisors.children import Worker, settled


def bounded(
    on_full: OnFull, max_inbox: float = 2
) -> tuple[ActorRef[Worker], SupervisorSpec]:
    """Return an actor with such an inbox, and a tree with nothing else."""
    ref: ActorRef[Worker] = ActorRef("a", max_inbox=max_inbox, on_full=on_full)
    return ref, SupervisorSpec(children=[actor(ref, Worker)])


def fill(ref: ActorRef[Worker]) -> None:
    """Leave 1, 2, ... as notes until the inbox is full."""
    for number in range(1, int(ref.max_inbox) + 1):
        ref.cast(Worker.note, number)


async def note(ref: ActorRef[Worker], value: Any, answers: list[Any]) -> None:
    """Call, and keep what came of it."""
    try:
        answers.append(await ref.call(Worker.note, value))
    except CallError as error:
        answers.append(type(error))


async def notes(ref: ActorRef[Worker]) -> list[Any]:
    """Return what the actor has noted, whatever waits."""
    await settled()
    return list((await ref.get_state()).notes)


# What is there keeps its place: `raise`.


async def test_an_inbox_that_raises_keeps_what_it_has(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.RAISE)
    fill(ref)
    with pytest.raises(InboxFull, match="actor 'a' has 2 messages waiting") as full:
        ref.cast(Worker.note, 3)
    assert not isinstance(full.value, MessageDropped)
    with pytest.raises(InboxFull):
        await ref.call(Worker.note, 3)
    with pytest.raises(InboxFull):
        _ = ref.send_request(Worker.note, 3)
    assert ref.statistics() == InboxStatistics(depth=2, max_inbox=2, refused=3)
    async with open_supervisor(tree):
        assert await notes(ref) == [1, 2]
        ref.cast(Worker.note, 4)
        assert await notes(ref) == [1, 2, 4]


# Callers wait: `wait`.


async def test_an_inbox_that_waits_refuses_casts_and_lets_calls_wait(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.WAIT)
    fill(ref)
    answers = list[Any]()
    with pytest.raises(InboxFull):
        ref.cast(Worker.note, 3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, ref, 4, answers)
        await settled()
        assert ref.statistics() == InboxStatistics(
            depth=2, max_inbox=2, refused=1, waiting_senders=1
        )
        await nursery.start(supervise, tree)
        await settled()
        assert answers == [3]
        assert ref.statistics().waiting_senders == 0
        nursery.cancel_scope.cancel()


async def test_a_refused_request_is_counted_where_calls_would_wait(
    autojump_clock: MockClock,
) -> None:
    ref, _ = bounded(OnFull.WAIT)
    fill(ref)
    with pytest.raises(InboxFull):
        _ = ref.send_request(Worker.note, 3)
    assert ref.statistics().refused == 1


async def test_callers_that_wait_for_room_get_it_in_the_order_of_their_coming(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.WAIT, max_inbox=1)
    fill(ref)
    answers = list[Any]()
    async with trio.open_nursery() as nursery:
        for number in range(2, 101):
            nursery.start_soon(note, ref, number, answers)
            await settled()
        assert ref.statistics().waiting_senders == 99
        async with open_supervisor(tree):
            assert await notes(ref) == list(range(1, 101))
    assert sorted(answers) == list(range(2, 101))


async def test_a_caller_that_gives_up_its_wait_for_room_is_never_heard(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.WAIT, max_inbox=1)
    fill(ref)
    answers = list[Any]()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as gave_up:
            await ref.call(Worker.note, "given up")
        assert gave_up.cancelled_caught
        nursery.start_soon(note, ref, 2, answers)
        await settled()
        async with open_supervisor(tree):
            assert await notes(ref) == [1, 2]
    assert ref.statistics().abandoned == 0


async def test_callers_that_wait_for_room_learn_that_the_actor_was_stopped(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.WAIT, max_inbox=1)
    answers = list[Any]()
    async with open_supervisor(tree) as root, trio.open_nursery() as nursery:
        ref.cast(Worker.sleep, 3)
        await settled()
        for number in range(5):
            nursery.start_soon(note, ref, number, answers)
        await settled()
        assert ref.statistics().waiting_senders == 4
        await root.terminate_child("a")
        await settled()
        assert answers == [ActorStopped] * 5
        assert ref.statistics() == InboxStatistics(depth=0, max_inbox=1, refused=0)
        await root.restart_child("a")
        assert await notes(ref) == []
    assert trio.current_time() == pytest.approx(3)


async def test_callers_that_wait_for_room_outlast_a_crash(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.WAIT, max_inbox=1)
    answers = list[Any]()

    async def crash() -> None:
        with pytest.raises(ActorDied):
            await ref.call(Worker.crash_after, 2)

    async with open_supervisor(tree):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            await settled()
            for number in range(5):
                nursery.start_soon(note, ref, number, answers)
                await settled()
            assert ref.statistics().waiting_senders == 4
        assert sorted(answers) == [1, 2, 3, 4, 5]
        assert await notes(ref) == [0, 1, 2, 3, 4]


# Something is lost: `drop_oldest`, `drop_newest`.


async def test_an_inbox_that_drops_the_oldest_keeps_the_newest(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.DROP_OLDEST)
    for number in range(1, 6):
        ref.cast(Worker.note, number)
    assert ref.statistics() == InboxStatistics(
        depth=2, max_inbox=2, refused=0, dropped=3
    )
    async with open_supervisor(tree):
        assert await notes(ref) == [4, 5]


async def test_a_call_that_is_dropped_as_the_oldest_fails_at_once(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.DROP_OLDEST)
    async with open_supervisor(tree), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(MessageDropped, match="'a' has 2 messages waiting"):
                await ref.call(Worker.note, 1)
            assert trio.current_time() == 0

        ref.cast(Worker.sleep, 3)
        await settled()
        nursery.start_soon(ask)
        await settled()
        ref.cast(Worker.note, 2)
        assert await ref.call(Worker.note, 3) == 2


async def test_an_inbox_that_drops_the_newest_says_so_to_callers_only(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.DROP_NEWEST)
    fill(ref)
    ref.cast(Worker.note, 3)
    with pytest.raises(MessageDropped):
        await ref.call(Worker.note, 4)
    with pytest.raises(MessageDropped):
        _ = ref.send_request(Worker.note, 5)
    assert ref.statistics() == InboxStatistics(
        depth=2, max_inbox=2, refused=0, dropped=3
    )
    async with open_supervisor(tree):
        assert await notes(ref) == [1, 2]


async def test_a_cast_that_drops_the_oldest_ends_while_others_wait_for_room(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.DROP_OLDEST)
    many = 1000
    fill(ref)

    async def send(number: int) -> None:
        await ref.wait_cast(Worker.note, number)

    async with trio.open_nursery() as nursery:
        for number in range(3, many):
            nursery.start_soon(send, number)
            await settled()
        assert ref.statistics().waiting_senders == many - 3
        ref.cast(Worker.note, many)
    # The newest stay: those that waited for room came before the cast.
    assert ref.statistics() == InboxStatistics(
        depth=2, max_inbox=2, refused=0, dropped=many - 2
    )
    async with open_supervisor(tree):
        assert await notes(ref) == [many - 1, many]


# No faster than the actor: `wait_cast`.


@pytest.mark.parametrize("on_full", OnFull)
async def test_a_sender_that_waits_for_room_loses_nothing(
    autojump_clock: MockClock, on_full: OnFull
) -> None:
    ref, tree = bounded(on_full)
    depths = set[int]()
    async with open_supervisor(tree):
        for _ in range(10):
            await ref.wait_cast(Worker.sleep, 1)
            depths.add(ref.depth)
        assert trio.current_time() >= 7
        await ref.wait_cast(Worker.note, "last")
        await trio.sleep(10)
        assert await notes(ref) == ["last"]
    assert max(depths) == 2
    assert ref.statistics() == InboxStatistics(depth=0, max_inbox=2, refused=0)


async def test_a_wait_for_room_wakes_an_idle_actor(autojump_clock: MockClock) -> None:
    ref, tree = bounded(OnFull.RAISE)
    async with open_supervisor(tree):
        await settled()
        await ref.wait_cast(Worker.note, 1)
        assert await notes(ref) == [1]


async def test_nobody_waits_for_room_at_a_stopped_actor(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.RAISE)
    async with open_supervisor(tree):
        pass
    with pytest.raises(ActorStopped):
        await ref.wait_cast(Worker.note, 1)
    with pytest.raises(ActorStopped):
        await ref.ahead.wait_cast(Worker.note, 1)


async def test_a_sender_that_waits_for_room_learns_that_the_actor_was_stopped(
    autojump_clock: MockClock,
) -> None:
    ref, tree = bounded(OnFull.RAISE, max_inbox=1)
    async with open_supervisor(tree) as root, trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(ActorStopped):
                await ref.wait_cast(Worker.note, 2)

        ref.cast(Worker.sleep, 3)
        await settled()
        fill(ref)
        nursery.start_soon(send)
        await settled()
        await root.terminate_child("a")


@attrs.define
class Sender:
    """An actor that sends to others, and waits for room there."""

    heard: list[Any] = attrs.field(factory=list[Any])

    async def send(self, *path: ActorRef[Sender]) -> None:
        """Send along the path."""
        if path:
            await path[0].wait_cast(Sender.send, *path[1:])

    async def ask(self, other: ActorRef[Sender]) -> None:
        """Call *other* while handling this."""
        self.heard.append(await other.call(Sender.hear))

    async def leave(self, other: ActorRef[Sender], back: ActorRef[Sender]) -> None:
        """Leave *other* a message on which it calls *back*."""
        await other.wait_cast(Sender.ask, back)

    def hear(self) -> str:
        return "heard"


async def test_an_actor_cannot_wait_for_room_in_its_own_inbox(
    autojump_clock: MockClock,
) -> None:
    ref = ActorRef[Sender]("a")
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Sender)])):
        with pytest.raises(ActorDied) as died:
            await ref.call(Sender.send, ref)
        assert isinstance(died.value.__cause__, CallingSelf)


async def test_an_actor_may_be_called_by_whom_it_has_left_a_message(
    autojump_clock: MockClock,
) -> None:
    a, b = ActorRef[Sender]("a"), ActorRef[Sender]("b")
    async with open_supervisor(
        SupervisorSpec(children=[actor(a, Sender), actor(b, Sender)])
    ):
        # It has waited for room only, and waits no more.
        await a.call(Sender.leave, b, a)
        assert await b.call(lambda this: this.heard) == ["heard"]


# Limits.


@pytest.mark.parametrize("max_inbox", [0, -1, 1.5, math.nan])
@pytest.mark.parametrize("on_full", OnFull)
def test_an_inbox_has_room_for_one_message_at_least(
    max_inbox: float, on_full: OnFull
) -> None:
    with pytest.raises(ValueError, match="max_inbox must be at least 1"):
        ActorRef("a", max_inbox=max_inbox, on_full=on_full)


@pytest.mark.parametrize("on_full", OnFull)
async def test_an_inbox_for_one_message_works(
    autojump_clock: MockClock, on_full: OnFull
) -> None:
    ref, tree = bounded(on_full, max_inbox=1)
    async with open_supervisor(tree):
        assert [await ref.call(Worker.note, n) for n in range(3)] == [1, 2, 3]
        await ref.wait_cast(Worker.note, 3)
        assert await notes(ref) == [0, 1, 2, 3]


async def test_an_inbox_may_have_no_limit(autojump_clock: MockClock) -> None:
    ref, tree = bounded(OnFull.RAISE, max_inbox=math.inf)
    for number in range(5000):
        ref.cast(Worker.note, number)
    assert ref.statistics() == InboxStatistics(
        depth=5000, max_inbox=math.inf, refused=0
    )
    async with open_supervisor(tree):
        assert await ref.call(lambda this: len(this.notes)) == 5000


# Against a model: a list that is cut.


@attrs.define
class Model:
    """What an inbox holds, by hand: numbers in lists."""

    max_messages: int
    on_full: OnFull
    messages: list[int] = attrs.field(factory=list[int])
    control: list[int] = attrs.field(factory=list[int])
    suspended: bool = False
    dropped: list[int] = attrs.field(factory=list[int])
    refused: int = 0

    def put(self, number: int, *, call: bool) -> type[CallError] | None:
        if len(self.messages) < self.max_messages:
            self.messages.append(number)
            return None
        if self.on_full is OnFull.DROP_OLDEST:
            self.dropped.append(self.messages[0])
            self.messages = [*self.messages[1:], number]
            return None
        if self.on_full is OnFull.DROP_NEWEST:
            self.dropped.append(number)
            return MessageDropped if call else None
        self.refused += 1  # a call that will wait for room takes it back
        return InboxFull

    def take(self) -> int | None:
        if self.control:
            return self.control.pop(0)
        return None if self.suspended or not self.messages else self.messages.pop(0)


STEPS = st.lists(
    st.sampled_from(["call", "call", "cast", "cast", "ahead", "take", "toggle", "end"]),
    max_size=40,
)


@given(st.sampled_from(OnFull), st.integers(1, 3), STEPS)
def test_an_inbox_does_what_a_list_that_is_cut_would_do(
    on_full: OnFull, size: int, steps: list[str]
) -> None:
    inbox, model = Inbox("a", size, on_full), Model(size, on_full)
    replies = dict[int, Reply[Any]]()
    method = Worker.note
    for number, step in enumerate(steps):
        match step:
            case "call" | "cast":
                reply = Reply[Any]() if step == "call" else None
                envelope = Awaited(method, (number,), {}, reply, ())
                raised: type[CallError] | None = None
                try:
                    inbox.put(envelope)
                except CallError as error:
                    raised = type(error)
                assert raised == model.put(number, call=step == "call")
                if reply is not None and raised is None:
                    replies[number] = reply
            case "ahead":
                inbox.put_ahead(Envelope(method, (number,), {}))
                model.control.append(number)
            case "toggle":
                model.suspended = not model.suspended
                inbox.suspend(model.suspended)
            case "end":
                inbox.refuse_all()
                assert all(replies[n].settled for n in model.messages if n in replies)
                model.messages, model.control = [], []
                model.suspended = False
            case _:
                taken = inbox.take()
                assert (taken and taken.args[0]) == model.take()
        waiting = [*model.control, *model.messages]
        assert inbox.depth == len(waiting)
        assert inbox.statistics().refused == model.refused
        assert inbox.statistics().dropped == len(model.dropped)
        lost = [replies[n].settled for n in model.dropped if n in replies]
        kept = [replies[n].settled for n in waiting if n in replies]
        assert all(lost)
        assert not any(kept)
    assert isinstance(inbox.control, deque | None)
