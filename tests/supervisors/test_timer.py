"""Messages that come later: when, in which order, for how long, and when never."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    StateTimeout,
    SupervisorSpec,
    Timer,
    actor,
    open_supervisor,
    send_after,
    send_at,
    send_interval,
)
from supervisors._inbox import STALE_TIMERS, Envelope
from tests.supervisors.children import Boom, settled


@attrs.define
class Watch:
    """An actor that writes down what comes, and when."""

    log: list[tuple[float, Any]] = attrs.field(factory=list[tuple[float, Any]])

    def tick(self, what: Any = "tick") -> None:
        self.log.append((trio.current_time(), what))

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def crash(self) -> None:
        raise Boom


def watch(**options: Any) -> tuple[ActorRef[Watch], SupervisorSpec]:
    """Return the actor, and a tree with nothing else."""
    ref: ActorRef[Watch] = ActorRef("a")
    spec = attrs.evolve(actor(ref, Watch), **options)
    return ref, SupervisorSpec(children=[spec])


async def log_at(ref: ActorRef[Watch], when: float) -> list[tuple[float, Any]]:
    """Return what has come by then."""
    await trio.sleep_until(when)
    await settled()
    return (await ref.get_state()).log


def heap_of(ref: ActorRef[Any]) -> list[Timer]:
    return ref.inbox.timers or []


def stale(ref: ActorRef[Any]) -> int:
    """Return how many cancelled timers there are, and that the inbox knows it."""
    count = sum(timer.cancelled for timer in heap_of(ref))
    assert ref.inbox._stale_timers == count
    return count


# When, and in which order.


async def test_a_message_comes_after_its_seconds(autojump_clock: MockClock) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        await trio.sleep(1)
        send_after(5, ref, Watch.tick, "after")
        send_after(5.5, ref, Watch.tick, what="by keyword")
        send_after(0, ref, Watch.tick, "at once")
        send_at(4, ref, Watch.tick, "at")
        send_at(0.5, ref, Watch.tick, "long ago")
        assert await log_at(ref, 10) == [
            (1, "long ago"),
            (1, "at once"),
            (4, "at"),
            (6, "after"),
            (6.5, "by keyword"),
        ]


async def test_a_message_does_not_come_before_its_time(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        send_after(5, ref, Watch.tick)
        # Whoever is awake anyway does not take it too early.
        assert await log_at(ref, 4.999) == []
        ref.cast(Watch.tick, "message")
        assert await log_at(ref, 4.9999) == [(4.999, "message")]
        assert await log_at(ref, 5) == [(4.999, "message"), (5, "tick")]


async def test_messages_for_the_same_time_come_in_the_order_of_their_making(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        for number in range(50):
            send_at(5, ref, Watch.tick, number)
        assert await log_at(ref, 5) == [(5, number) for number in range(50)]


async def test_an_earlier_timer_wakes_an_actor_that_waits_for_a_later_one(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        send_at(10, ref, Watch.tick, "later")
        await trio.sleep(1)
        send_at(5, ref, Watch.tick, "earlier")
        assert await log_at(ref, 10) == [(5, "earlier"), (10, "later")]


async def test_a_timer_comes_ahead_of_messages_and_a_full_inbox_does_not_stop_it(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Watch] = ActorRef("a", max_inbox=1)
    async with open_supervisor(SupervisorSpec(children=[actor(ref, Watch)])):
        ref.cast(Watch.sleep, 5)
        await settled()
        ref.cast(Watch.tick, "message")
        send_after(2, ref, Watch.tick, "timer")
        assert await log_at(ref, 5) == [(5, "timer"), (5, "message")]


async def test_a_message_does_not_disturb_what_a_timer_has_begun(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        send_at(1, ref, Watch.sleep, 5)
        await trio.sleep(2)
        ref.cast(Watch.tick, "message")
        ref.ahead.cast(Watch.tick, "ahead")
        assert await log_at(ref, 10) == [(6, "ahead"), (6, "message")]


async def test_a_timer_can_be_set_for_an_actor_that_has_not_started(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    send_after(5, ref, Watch.tick, "later")
    send_after(1, ref, Watch.tick, "passed")
    await trio.sleep(2)
    async with open_supervisor(tree):
        assert await log_at(ref, 10) == [(2, "passed"), (5, "later")]


@attrs.define
class Plan:
    """What a drawn test does to one timer."""

    when: float
    cancelled_at: float


HALVES = st.integers(1, 10).map(lambda number: number / 2)
NEVER = 99.0


@given(
    st.lists(st.builds(Plan, HALVES, st.one_of(HALVES, st.just(NEVER))), max_size=60),
    st.sampled_from([0.0, 2.0, 4.0]),
)
def test_what_comes_is_what_was_not_cancelled_in_the_order_of_time(
    plans: list[Plan], busy: float
) -> None:
    async def main() -> None:
        ref, tree = watch()
        async with open_supervisor(tree):
            ref.cast(Watch.sleep, busy)
            timers = [
                send_at(plan.when, ref, Watch.tick, number)
                for number, plan in enumerate(plans)
            ]
            for time in sorted({plan.cancelled_at for plan in plans} - {NEVER}):
                # Just before the timers that are due then.
                await trio.sleep_until(time - 0.125)
                for timer, plan in zip(timers, plans, strict=True):
                    if plan.cancelled_at == time:
                        timer.cancel()
                        timer.cancel()
                        stale(ref)
            log = await log_at(ref, 50)
        expected = [
            (plan.when, number)
            for number, plan in enumerate(plans)
            if plan.cancelled_at > max(plan.when, busy)
        ]
        assert log == [(max(when, busy), number) for when, number in sorted(expected)]
        assert not heap_of(ref)

    trio.run(main, clock=MockClock(autojump_threshold=0))


# Never.


async def test_a_timer_that_is_cancelled_never_comes_however_late(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        timers = [send_after(5, ref, Watch.tick, number) for number in range(4)]
        timers[0].cancel()
        timers[0].cancel()
        ref.cast(Watch.sleep, 10)
        await trio.sleep(9)
        # It is due for four seconds, and the actor was too busy to take it.
        timers[1].cancel()
        # The last one goes by what comes just before.
        send_at(4, ref, lambda _: timers[3].cancel())
        assert await log_at(ref, 20) == [(10, 2)]


async def test_to_cancel_a_timer_that_has_come_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        timer = send_after(1, ref, Watch.tick, 1)
        await trio.sleep(2)
        timer.cancel()
        send_after(1, ref, Watch.tick, 2)
        assert await log_at(ref, 5) == [(1, 1), (3, 2)]


@pytest.mark.parametrize("seconds", [-1, -1e-9, math.nan])
async def test_seconds_that_are_no_time_are_refused(
    autojump_clock: MockClock, seconds: float
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        timeout = StateTimeout(ref)
        with pytest.raises(ValueError, match="must be at least 0, not"):
            send_after(seconds, ref, Watch.tick)
        with pytest.raises(ValueError, match="must be at least 0, not"):
            timeout.set(seconds, Watch.tick)
        with pytest.raises(ValueError, match="must be above 0, not"):
            send_interval(seconds, ref, Watch.tick)
        with pytest.raises(ValueError, match="must be above 0, not 0"):
            send_interval(0, ref, Watch.tick)
        assert not heap_of(ref)


async def test_a_time_that_is_none_is_refused_and_crashes_no_actor(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        with pytest.raises(ValueError, match="not nan"):
            send_at(math.nan, ref, Watch.tick)
        with pytest.raises(ValueError, match="not nan"):
            StateTimeout(ref).set_at(math.nan, Watch.tick)
        assert await log_at(ref, 1) == []


async def test_a_timer_may_be_set_for_the_end_of_time(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        send_after(math.inf, ref, Watch.tick)
        send_interval(math.inf, ref, Watch.tick)
        assert await log_at(ref, 1e6) == []


Setter = Callable[[ActorRef[Watch]], object]
SETTERS: list[Setter] = [
    lambda ref: send_after(5, ref, Watch.tick),
    lambda ref: send_at(5, ref, Watch.tick),
    lambda ref: send_interval(5, ref, Watch.tick),
    lambda ref: StateTimeout(ref).set(5, Watch.tick),
]


@pytest.mark.parametrize("set_timer", SETTERS)
async def test_timers_end_when_nobody_will_come(
    autojump_clock: MockClock, set_timer: Setter
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree) as root:
        timer = set_timer(ref)
        send_after(7, ref, Watch.tick).cancel()
        assert stale(ref) == 1
        await root.terminate_child("a")
        assert not heap_of(ref)
        assert stale(ref) == 0
        with pytest.raises(ActorStopped):
            set_timer(ref)
        await root.restart_child("a")
        assert await log_at(ref, 20) == []
        if isinstance(timer, Timer):
            timer.cancel()
        send_after(1, ref, Watch.tick)
        assert len(await log_at(ref, 22)) == 1


# Restarts.


@attrs.define
class Beat(Watch):
    """An actor that sets its own interval whenever it starts."""

    me: ActorRef[Beat] = attrs.field(kw_only=True)

    def handle_continue(self) -> None:
        send_interval(1.0, self.me, Beat.tick).until_restart()


async def test_an_interval_set_by_every_incarnation_is_there_once(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Beat] = ActorRef("a")
    tree = SupervisorSpec(children=[actor(ref, Beat, me=ref)])
    async with open_supervisor(tree):
        for _ in range(3):
            ref.cast(Beat.crash)
            await trio.sleep(10)
        assert len(await log_at(ref, 40.5)) == 20


async def test_a_timer_until_the_restart_comes_if_there_is_none(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        timer = send_after(5, ref, Watch.tick).until_restart()
        assert isinstance(timer, Timer)
        assert await log_at(ref, 6) == [(5, "tick")]


async def test_timers_survive_a_restart(autojump_clock: MockClock) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        send_at(5, ref, Watch.tick, "once")
        send_interval(2, ref, Watch.tick, "again")
        ref.cast(Watch.crash)
        assert await log_at(ref, 6.5) == [
            (2, "again"),
            (4, "again"),
            (5, "once"),
            (6, "again"),
        ]


async def test_timers_that_were_due_while_the_actor_was_down_come_at_its_start(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch(backoff=Backoff(first=10, jitter=0))
    async with open_supervisor(tree):
        send_at(5, ref, Watch.tick, "once")
        send_interval(3, ref, Watch.tick, "again")
        ref.cast(Watch.crash)
        assert await log_at(ref, 12) == [(10, "again"), (10, "once"), (12, "again")]


async def test_the_message_of_a_timer_that_crashes_its_actor_does_not_come_again(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree) as root:
        send_at(5, ref, Watch.crash)
        assert await log_at(ref, 20) == []
        assert root.inspect().children[0].restarts == 1


# Intervals.


async def test_an_interval_keeps_its_beat_until_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        await trio.sleep(1)
        timer = send_interval(2, ref, Watch.tick)
        await trio.sleep_until(8)
        timer.cancel()
        assert await log_at(ref, 20) == [(3, "tick"), (5, "tick"), (7, "tick")]
        assert not heap_of(ref)


@pytest.mark.parametrize(
    ("busy_until", "comes"),
    [
        (2.5, [(2.5, "tick"), (4, "tick")]),
        (4, [(4, "tick"), (6, "tick")]),
        (4.5, [(4.5, "tick"), (6, "tick")]),
        (9, [(9, "tick"), (10, "tick")]),
        (10, [(10, "tick"), (12, "tick")]),
    ],
)
async def test_ticks_that_a_busy_actor_has_missed_come_once(
    autojump_clock: MockClock, busy_until: float, comes: list[tuple[float, Any]]
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        send_interval(2, ref, Watch.tick)
        ref.cast(Watch.sleep, busy_until)
        assert await log_at(ref, comes[1][0] + 0.5) == comes


async def test_an_interval_may_be_cancelled_by_its_own_message(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    timers = list[Timer]()

    def thrice(this: Watch) -> None:
        this.tick()
        if len(this.log) == 3:
            timers[0].cancel()

    async with open_supervisor(tree):
        timers.append(send_interval(1, ref, thrice))
        assert len(await log_at(ref, 20)) == 3


@given(st.floats(1e-3, 1e3), st.floats(0, 1e6), st.integers(0, 1000))
def test_the_next_tick_is_after_now_and_within_a_beat(
    period: float, when: float, missed: int
) -> None:
    ref, _ = watch()
    now = when + missed * period
    timer = Timer(ref.inbox, when, Envelope(Watch.tick, (), {}), period)
    assert timer.advance(now)
    assert now < timer.when <= now + period * (1 + 1e-6)


@given(
    st.floats(0.001, 100, allow_nan=False),
    st.lists(st.floats(0, 50, allow_nan=False), max_size=6),
)
def test_an_interval_never_ticks_twice_in_one_beat(
    period: float, sleeps: list[float]
) -> None:
    async def main() -> None:
        ref, tree = watch()
        async with open_supervisor(tree):
            (timer,) = [send_interval(period, ref, Watch.tick)]
            for seconds in sleeps:
                await ref.call(Watch.sleep, seconds)
                assert timer.when >= trio.current_time() - period
            timer.cancel()
            log = (await ref.get_state()).log
        times = [time for time, _ in log]
        assert len(set(times)) == len(times)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_an_interval_shorter_than_its_handler_leaves_room_for_messages(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        send_interval(1, ref, Watch.sleep, 2)
        ref.cast(Watch.tick, "message")
        await trio.sleep(1)
        ref.cast(Watch.tick, "late")
        with trio.fail_after(100):
            await ref.call(Watch.tick, "call")


# A state's own deadline.


@attrs.define
class Connection:
    """An actor with states: ``connect`` and ``use`` set the deadline anew."""

    log: list[tuple[float, str]]
    timeout: StateTimeout[Connection]
    state: str = "down"

    def enter(self, state: str, seconds: float | None = None) -> None:
        """Be in *state*, for that time at most."""
        self.state = state
        if seconds is None:
            self.timeout.cancel()
        else:
            self.timeout.set(seconds, Connection.leave, state)

    def enter_until(self, when: float) -> None:
        self.timeout.set_at(when, Connection.leave, state="until")

    def leave(self, state: str) -> None:
        self.log.append((trio.current_time(), state))

    def crash(self) -> None:
        raise Boom


def connection(
    **options: Any,
) -> tuple[ActorRef[Connection], SupervisorSpec, list[tuple[float, str]]]:
    ref: ActorRef[Connection] = ActorRef("a")
    log = list[tuple[float, str]]()

    def init() -> Connection:
        this = Connection(log, StateTimeout(ref))
        this.enter("init", 9)
        return this

    spec = attrs.evolve(actor(ref, init), **options)
    return ref, SupervisorSpec(children=[spec]), log


async def test_a_state_that_lasts_too_long_is_left(autojump_clock: MockClock) -> None:
    ref, tree, log = connection()
    async with open_supervisor(tree):
        await ref.call(Connection.enter, "connecting", 5)
        await trio.sleep(3)
        # Another state, another deadline.
        await ref.call(Connection.enter, "connected", 4)
        await trio.sleep(10)
        assert log == [(7, "connected")]
        await ref.call(Connection.enter, "idle", 2)
        await ref.call(Connection.enter, "closed")
        await trio.sleep(10)
        await ref.call(Connection.enter_until, 30)
        await trio.sleep(20)
        assert log == [(7, "connected"), (30, "until")]


async def test_a_deadline_ends_with_the_incarnation_whose_state_it_is_about(
    autojump_clock: MockClock,
) -> None:
    ref, tree, log = connection(backoff=Backoff(first=1, jitter=0))
    async with open_supervisor(tree):
        await ref.call(Connection.enter, "connecting", 5)
        send_after(6, ref, Connection.leave, "no state's")
        ref.cast(Connection.crash)
        await trio.sleep(20)
        # The next one's init has set its own.
        assert log == [(6, "no state's"), (10, "init")]


async def test_deadlines_of_many_incarnations_leave_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    ref, tree, _ = connection()
    tree = attrs.evolve(tree, max_restarts=10**6)
    async with open_supervisor(tree):
        for _ in range(900):
            ref.cast(Connection.crash)
        await ref.call(Connection.enter, "up", 5)
        assert len(heap_of(ref)) <= STALE_TIMERS + 2


# The heap.


async def test_a_hundred_thousand_cancelled_timers_leave_a_small_heap(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        timeout = StateTimeout(ref)
        most = 0
        for number in range(100_000):
            timeout.set(1000 + number % 7, Watch.tick)
            most = max(most, len(heap_of(ref)))
        assert most <= STALE_TIMERS + 2
        assert len(await log_at(ref, 2000)) == 1


async def test_a_heap_holds_no_more_cancelled_timers_than_others(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        timers = [send_after(1000 - n, ref, Watch.tick, n) for n in range(1000)]
        most = 0
        for gone, timer in enumerate(timers[:900], 1):
            timer.cancel()
            most = max(most, stale(ref))
            left = 1000 - gone
            assert len(heap_of(ref)) <= max(2 * left + 2, left + STALE_TIMERS)
        # Nor is it tidied up for every few of them.
        assert most >= 250
        log = await log_at(ref, 2000)
        assert [number for _, number in log] == list(reversed(range(900, 1000)))


async def test_cancelled_timers_that_were_due_are_counted_off(
    autojump_clock: MockClock,
) -> None:
    ref, tree = watch()
    async with open_supervisor(tree):
        for _ in range(50):
            for timer in [send_after(1, ref, Watch.tick) for _ in range(STALE_TIMERS)]:
                timer.cancel()
            assert len(heap_of(ref)) == STALE_TIMERS
            await trio.sleep(2)
            assert not heap_of(ref)
