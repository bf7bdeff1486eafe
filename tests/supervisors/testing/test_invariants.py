"""The invariants are silent about a sound tree, and speak about a broken one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    Event,
    Strategy,
    SupervisorSpec,
    actor,
    child,
    open_supervisor,
    supervisor,
)
from supervisors._actor import _Loop
from supervisors._restart import RestartWindow
from supervisors._supervisor import StaticRuntime
from supervisors.testing import Crash, Injector, InvariantViolated, Message, Watcher
from tests.supervisors.children import Worker, idle, logged, settled, stubborn, worker


async def scenario(watcher: Watcher, **options: Any) -> None:
    """Two levels; a crash, a request to stop, and the end."""
    inner, inner_spec = worker("inner")
    ref, spec = worker("outer")
    below = SupervisorSpec(children=[inner_spec, idle("i"), idle("j")], **options)
    above = SupervisorSpec(
        children=[spec, idle("k"), supervisor("sub", below), idle("l")]
    )
    with watcher.installed():
        async with open_supervisor(above) as root:
            for _ in range(2):
                inner.cast(Worker.crash)
                ref.cast(Worker.crash)
                for each in (inner, ref):
                    with suppress(ActorDied):
                        await each.call(Worker.note, "x")
            await root.terminate_child("k")
            with trio.move_on_after(1):
                await ref.call(Worker.promise)
            with trio.move_on_after(1):
                await ref.call(Worker.sleep, 2)


@pytest.mark.parametrize("strategy", Strategy)
async def test_a_sound_tree_passes(
    strategy: Strategy, autojump_clock: MockClock
) -> None:
    watcher = Watcher(Injector((Crash("*", at=Message(4)),)))
    await scenario(watcher, strategy=strategy)
    watcher.check()


async def test_an_order_of_stops_that_is_not_reversed_is_seen(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forwards(self: StaticRuntime) -> None:
        for each in self._children.values():
            await each.stop(self.tree)

    monkeypatch.setattr(StaticRuntime, "_stop_children", forwards)
    watcher = Watcher()
    await scenario(watcher)
    with pytest.raises(InvariantViolated) as violated:
        watcher.check()
    text = str(violated.value)
    assert "'outer' was stopped before 'sub', not after" in text
    assert "'sub/inner' was stopped before 'sub/i', not after" in text
    assert "'k' was stopped" not in text


async def test_too_many_restarts_are_seen(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generous(*_: object) -> bool:
        return True

    monkeypatch.setattr(RestartWindow, "admit", generous)
    ref, spec = worker("a")
    tree = SupervisorSpec(children=[spec], max_restarts=2, max_seconds=5)
    watcher = Watcher()
    with watcher.installed():
        async with open_supervisor(tree):
            for _ in range(3):
                assert not watcher.violations
                await trio.sleep(2.5)
                ref.cast(Worker.crash)
                await settled()
    assert watcher.violations == (
        "supervisor '' restarted 3 times in 5 s, not 2 times",
    )


async def test_as_many_restarts_as_are_allowed_are_no_violation(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    tree = SupervisorSpec(children=[spec], max_restarts=2, max_seconds=5)
    watcher = Watcher()
    with watcher.installed():
        async with open_supervisor(tree):
            for _ in range(10):
                await trio.sleep(2.6)
                ref.cast(Worker.crash)
                await settled()
    watcher.check()


async def test_restarts_of_different_incarnations_of_a_supervisor_are_not_added(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    below = SupervisorSpec(children=[spec], max_restarts=1, max_seconds=100)
    tree = SupervisorSpec(children=[supervisor("sub", below)])
    watcher = Watcher()
    with watcher.installed():
        async with open_supervisor(tree):
            for _ in range(4):
                ref.cast(Worker.crash)
                await settled()
    watcher.check()


async def test_a_child_that_is_killed_has_no_turn_in_the_order_of_stops(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = trio.Event()

    async def at_once(self: StaticRuntime) -> None:
        for each in self._children.values():
            if each.process is not None:
                each.process.stopping = True
                each.process.kill()
        await settled()
        until.set()
        for each in self._children.values():
            await each.stop(self.tree)

    monkeypatch.setattr(StaticRuntime, "_stop_children", at_once)
    watcher = Watcher()
    tree = SupervisorSpec(children=[idle("a"), stubborn("b", until)])
    with watcher.installed():
        async with open_supervisor(tree):
            await settled()
    watcher.check()


async def test_a_restart_before_the_end_is_seen(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def impatient(self: StaticRuntime, failed: object) -> None:
        for each in self._children.values():
            if each.process is not None:
                each.process.stop()
            await self._start(each)

    monkeypatch.setattr(StaticRuntime, "_restart", impatient)
    ref, spec = worker("a")
    tree = SupervisorSpec(
        children=[spec, logged("b", [], stop_takes=1)], strategy=Strategy.ONE_FOR_ALL
    )
    watcher = Watcher()
    with watcher.installed():
        async with open_supervisor(tree):
            ref.cast(Worker.crash)
            await settled()
    assert "'b' was started again before it had ended" in watcher.violations


async def test_a_call_without_an_answer_is_seen(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(*_: object) -> None:
        pass

    monkeypatch.setattr(_Loop, "_fail_pending", forget)
    ref, spec = worker("a")
    watcher = Watcher()
    with watcher.installed():
        async with open_supervisor(SupervisorSpec(children=[spec])):
            reply = ref.send_request(Worker.crash)
            await settled()
            reply.abandon()
    assert watcher.violations == (
        "'a' ended and left a call of Worker.crash without an answer",
    )


async def test_two_children_with_one_address_are_seen(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The library does not start the second one. Whether that holds is to be seen.
    monkeypatch.setattr(ActorRef, "_running", lambda _: None)
    ref: ActorRef[Worker] = ActorRef("a")
    spec = actor(ref, Worker)
    watcher = Watcher()
    with watcher.installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec, attrs.evolve(spec, id="b")])
        ):
            pass
    assert watcher.violations == ("'b' has the address of 'a'",)


async def test_a_task_that_outlives_its_tree_is_seen(autojump_clock: MockClock) -> None:
    watcher = Watcher()
    async with trio.open_nursery() as mine:

        async def starter() -> None:
            mine.start_soon(trio.sleep, 10, name="stray")
            await trio.sleep_forever()

        with watcher.installed():
            async with open_supervisor(SupervisorSpec(children=[child("a", starter)])):
                await settled()
    assert watcher.violations == ("task 'stray' of 'a' outlived its tree",)


async def test_events_still_go_to_the_trees_own_hook(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    _, spec = worker("a")
    with Watcher().installed():
        async with open_supervisor(
            SupervisorSpec(children=[spec]), on_event=events.append
        ):
            assert len(events) == 1


async def test_a_check_before_the_end_says_who_still_runs(
    autojump_clock: MockClock,
) -> None:
    watcher = Watcher()
    with watcher.installed():
        async with open_supervisor(SupervisorSpec(children=[idle("a")])):
            with pytest.raises(InvariantViolated, match="'a' still runs"):
                watcher.check()
    watcher.check()
