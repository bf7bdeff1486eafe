"""Who learns of the end of an actor that it does not own: when, how often, and why."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    Backoff,
    CleanExit,
    Crashed,
    Down,
    Killed,
    Monitor,
    Normal,
    NotRunning,
    OnFull,
    Restart,
    ShutDown,
    Supervisor,
    SupervisorSpec,
    actor,
    monitor,
    notify,
    open_supervisor,
)
from supervisors._process import KILL_GRACE, Process
from tests.supervisors.children import Boom, Worker, settled, worker

BOOM = Boom()


@attrs.define
class Listener:
    """An actor that notes whose end it learns of."""

    heard: list[Any] = attrs.field(factory=list[Any])

    def down(self, down: Down, *more: Any, **named: Any) -> None:
        self.heard.append((down, *more, *named.values()) if more or named else down)

    def crash(self) -> None:
        raise Boom

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


def listener(**options: Any) -> ActorRef[Listener]:
    return ActorRef[Listener]("listener", **options)


async def heard(ref: ActorRef[Listener]) -> list[Any]:
    """Return what it has learnt by now."""
    await settled()
    return (await ref.get_state()).heard


# The reasons.


@asynccontextmanager
async def swallowing() -> AsyncGenerator[Worker]:
    """Live as an actor that ends normally: its crash is swallowed."""
    with suppress(Boom):
        yield Worker()


async def crash(root: Supervisor, ref: ActorRef[Worker]) -> None:
    ref.cast(Worker.crash, BOOM)


async def crash_from_outside(root: Supervisor, ref: ActorRef[Worker]) -> None:
    root.crash_child("a", BOOM)


async def exit_cleanly(root: Supervisor, ref: ActorRef[Worker]) -> None:
    ref.cast(Worker.crash, CleanExit("enough"))


async def terminate(root: Supervisor, ref: ActorRef[Worker]) -> None:
    await root.terminate_child("a")


async def terminate_busy(root: Supervisor, ref: ActorRef[Worker]) -> None:
    ref.cast(Worker.sleep, 1000)
    await settled()
    await root.terminate_child("a")


async def terminate_stubborn(root: Supervisor, ref: ActorRef[Worker]) -> None:
    ref.cast(Worker.shielded, 1000)
    await settled()
    await root.terminate_child("a")


async def stop_the_tree(root: Supervisor, ref: ActorRef[Worker]) -> None:
    root.stop()


REASONS = [
    pytest.param(swallowing, crash, Normal(), id="normal"),
    pytest.param(Worker, crash, Crashed(BOOM), id="crash"),
    pytest.param(Worker, crash_from_outside, Crashed(BOOM), id="crash-from-outside"),
    pytest.param(Worker, exit_cleanly, ShutDown("enough"), id="clean-exit"),
    pytest.param(Worker, terminate, ShutDown(), id="stop"),
    pytest.param(Worker, stop_the_tree, ShutDown(), id="stop-of-the-tree"),
    pytest.param(Worker, terminate_busy, Killed(), id="kill"),
    pytest.param(Worker, terminate_stubborn, Killed(), id="abandoned"),
]


@pytest.mark.parametrize(("factory", "end", "reason"), REASONS)
@pytest.mark.parametrize("restart", Restart)
async def test_a_monitor_tells_how_the_actor_ended_and_tells_it_once(
    autojump_clock: MockClock, factory: Any, end: Any, reason: Any, restart: Restart
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    told = list[Down]()
    spec = attrs.evolve(actor(ref, factory), restart=restart)
    # As a block of its own: the tree may end before the actor that listens.
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        watch = Monitor(ref, told.append)
        await end(root, ref)
        if end is not stop_the_tree:
            assert await watch.wait() is watch.down
        else:
            await trio.sleep_forever()
    # What was left behind has ended by now, too.
    assert told == [Down(ref, reason)] == [watch.down]


async def test_an_actor_that_was_left_behind_is_down_when_it_is_given_up(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", shutdown=1.0)
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        ref.cast(Worker.shielded, 1000)
        await settled()
        with monitor(ref) as watch:
            await root.terminate_child("a")
            assert watch.down == Down(ref, Killed())
            assert trio.current_time() == pytest.approx(1 + KILL_GRACE)
            assert monitor(ref).down == Down(ref, NotRunning())


async def test_what_does_not_run_is_down_at_once(autojump_clock: MockClock) -> None:
    ref, spec = worker("a", backoff=Backoff(first=5, jitter=0))
    nobody = Down(ref, NotRunning())
    with monitor(ref) as never_started:
        assert never_started.down == await never_started.wait() == nobody
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        ref.cast(Worker.crash)
        await settled()
        assert monitor(ref).down == nobody
        await ref.call(Worker.note, 1)
        with monitor(ref) as running:
            await settled()
            assert running.down is None
        await root.terminate_child("a")
        assert monitor(ref).down == nobody
    assert monitor(ref).down == nobody


async def test_an_init_that_fails_is_an_end_as_well(autojump_clock: MockClock) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    watches = list[Monitor]()

    @asynccontextmanager
    async def failing() -> AsyncGenerator[Worker]:
        watches.append(monitor(ref))
        await trio.sleep(1)
        raise BOOM
        yield Worker()  # type: ignore[unreachable] # it makes this a generator

    with pytest.raises(Exception, match="failed to start"):
        async with open_supervisor(SupervisorSpec(children=[actor(ref, failing)])):
            pytest.fail("it is up")
    assert [watch.down for watch in watches] == [Down(ref, Crashed(BOOM))]


# When.


async def test_the_end_is_told_before_the_next_incarnation_starts(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    watches, seen = list[Monitor](), list[Down | None]()

    def init() -> Worker:
        seen.extend(watch.down for watch in watches)
        return Worker()

    async with open_supervisor(SupervisorSpec(children=[actor(ref, init)])):
        watches.append(monitor(ref))
        ref.cast(Worker.crash, BOOM)
        await settled()
        # Of this incarnation, and not of the next.
        assert seen == [Down(ref, Crashed(BOOM))]
        ref.cast(Worker.crash, BOOM)
        await settled()
        assert watches[0].down is seen[0] is seen[1]


async def test_the_name_of_an_actor_is_free_for_its_next_incarnation(
    autojump_clock: MockClock,
) -> None:
    """As a registry has it: one process to a name, released by its end."""
    names, starts = dict[str, Process](), list[Process]()
    ref: ActorRef[Worker] = ActorRef("a")

    def release(process: Process) -> None:
        assert names.pop("the worker") is process

    def init() -> Worker:
        process = ref.process
        assert process is not None
        assert process.exit is None
        assert "the worker" not in names
        names["the worker"] = process
        process.at_end(release)
        starts.append(process)
        return Worker()

    tree = SupervisorSpec(children=[actor(ref, init)], max_restarts=100)
    async with open_supervisor(tree) as root:
        for _ in range(20):
            ref.cast(Worker.crash)
        await ref.call(Worker.note, 1)
        assert names == {"the worker": starts[-1]}
        assert root.find("a") is ref.process is starts[-1]
        assert len(set(starts)) == 21
        # And that of one that was left behind.
        ref.cast(Worker.shielded, 1000)
        await settled()
        await root.terminate_child("a")
        assert not names
        await root.restart_child("a")
        assert names == {"the worker": starts[-1]}
        await trio.sleep(2000)
        assert names == {"the worker": starts[-1]}
    assert not names


# Who does not want to know any more.


async def test_who_has_left_the_block_is_told_nothing(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    told = list[Down]()
    async with open_supervisor(SupervisorSpec(children=[spec])):
        with Monitor(ref, told.append) as left:
            pass
        with pytest.raises(Boom), Monitor(ref, told.append) as failed:
            raise Boom
        demonitored = Monitor(ref, told.append)
        demonitored.demonitor()
        demonitored.demonitor()
        stays = Monitor(ref, told.append)
        ref.cast(Worker.crash, BOOM)
        await settled()
        assert left.down is failed.down is demonitored.down is None
        assert told == [stays.down]
        with trio.move_on_after(100) as waited:
            await left.wait()
        assert waited.cancelled_caught


async def test_to_demonitor_after_the_end_keeps_what_was_told(
    autojump_clock: MockClock,
) -> None:
    ref, _ = worker("a")
    watch = monitor(ref)
    watch.demonitor()
    assert watch.down == await watch.wait() == Down(ref, NotRunning())


def monitors_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Monitor) for thing in gc.get_objects())


async def test_monitors_that_were_left_leave_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        before = monitors_alive()
        for _ in range(100):
            with monitor(ref):
                pass
        assert monitors_alive() <= before + 1


async def test_a_monitor_that_is_done_does_not_keep_the_process_alive(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        process = ref.process

        def then(_down: Down) -> None:
            """Be what a monitor has to do."""

        left, told = Monitor(ref, then), Monitor(ref, then)
        for watch in (left, told):
            assert {process, then} <= {*keeps(watch)}
        left.demonitor()
        ref.cast(Worker.crash)
        await settled()
        for watch in (left, told):
            assert not {process, then} & {*keeps(watch)}


def keeps(watch: Monitor) -> list[object]:
    return [kept for kept in gc.get_referents(watch) if not isinstance(kept, Down)]


async def test_several_may_watch_and_each_is_told(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    downs = list[Down]()

    async def watch() -> None:
        downs.append(await monitor(ref).wait())

    async with (
        open_supervisor(SupervisorSpec(children=[spec])),
        trio.open_nursery() as nursery,
    ):
        for _ in range(10):
            nursery.start_soon(watch)
        await settled()
        ref.cast(Worker.crash, BOOM)
    assert downs == [Down(ref, Crashed(BOOM))] * 10


# Told as a message.


async def test_an_actor_is_told_by_a_message(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    me = listener()
    tree = SupervisorSpec(children=[spec, actor(me, Listener)])
    async with open_supervisor(tree):
        notify(ref, me, Listener.down)
        notify(ref, me, Listener.down, 1, name=2)
        ref.cast(Worker.crash, BOOM)
        ref.cast(Worker.crash, BOOM)
        down = Down(ref, Crashed(BOOM))
        # Once for each, whatever ends after that.
        assert await heard(me) == [down, (down, 1, 2)]


async def test_an_actor_is_told_at_once_of_what_does_not_run(
    autojump_clock: MockClock,
) -> None:
    ref, _ = worker("a")
    me = listener()
    async with open_supervisor(SupervisorSpec(children=[actor(me, Listener)])):
        notify(ref, me, Listener.down)
        assert await heard(me) == [Down(ref, NotRunning())]


async def test_an_actor_that_does_not_want_to_know_any_more_is_told_nothing(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    me = listener()
    tree = SupervisorSpec(children=[spec, actor(me, Listener)])
    async with open_supervisor(tree):
        notify(ref, me, Listener.down).demonitor()
        ref.cast(Worker.crash)
        assert await heard(me) == []


@pytest.mark.parametrize("on_full", OnFull)
async def test_a_full_inbox_does_not_keep_the_end_off(
    autojump_clock: MockClock, on_full: OnFull
) -> None:
    ref, spec = worker("a")
    me = listener(max_inbox=1, on_full=on_full)
    tree = SupervisorSpec(children=[spec, actor(me, Listener)])
    async with open_supervisor(tree):
        me.cast(Listener.sleep, 5)
        await settled()
        me.cast(Listener.sleep, 5)
        notify(ref, me, Listener.down)
        ref.cast(Worker.crash, BOOM)
        await settled()
        assert me.depth == 2
        # Ahead of what has filled it.
        assert await heard(me) == [Down(ref, Crashed(BOOM))]
        assert trio.current_time() == pytest.approx(5)


async def test_the_next_incarnation_is_not_told_what_the_last_one_asked_for(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    me = listener()
    async with open_supervisor(SupervisorSpec(children=[spec, actor(me, Listener)])):
        watch = notify(ref, me, Listener.down)
        me.cast(Listener.crash)
        await settled()
        ref.cast(Worker.crash, BOOM)
        await settled()
        assert watch.down is None
        assert await heard(me) == []


async def test_a_monitor_that_is_set_in_init_is_the_new_incarnations(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    me = listener()

    def listening() -> Listener:
        notify(ref, me, Listener.down)
        return Listener()

    async with open_supervisor(SupervisorSpec(children=[spec, actor(me, listening)])):
        for _ in range(2):
            me.cast(Listener.crash)
            await settled()
        ref.cast(Worker.crash, BOOM)
        await settled()
        assert await heard(me) == [Down(ref, Crashed(BOOM))]


async def test_the_end_of_an_actor_harms_nobody_when_its_listener_is_gone(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a", restart=Restart.TEMPORARY)
    me = listener()
    tree = SupervisorSpec(children=[spec, actor(me, Listener)])
    async with open_supervisor(tree) as root:
        notify(ref, me, Listener.down)
        await root.terminate_child("listener")
        ref.cast(Worker.crash, BOOM)
        await settled()
        assert me.depth == 0
        await root.restart_child("listener")
        assert await heard(me) == []


async def test_an_actor_may_watch_itself_and_learns_it_in_its_next_life(
    autojump_clock: MockClock,
) -> None:
    me = listener()
    async with open_supervisor(SupervisorSpec(children=[actor(me, Listener)])):
        notify(me, me, Listener.down)
        me.cast(Listener.crash)
        (down,) = await heard(me)
        assert isinstance(down.reason, Crashed)
