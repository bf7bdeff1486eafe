"""A tree from its root: as a block, or in a nursery; how it ends, and what comes out."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    ActorStopped,
    CallError,
    Event,
    RestartIntensityReached,
    StartFailed,
    Supervisor,
    SupervisorSpec,
    actor,
    child,
    open_supervisor,
    supervise,
    supervisor,
)
from tests.supervisors.children import (
    Boom,
    Worker,
    failing,
    idle,
    logged,
    settled,
    worker,
)


async def test_the_block_is_the_life_of_the_tree(autojump_clock: MockClock) -> None:
    log = list[str]()
    async with open_supervisor(SupervisorSpec(children=[logged("a", log)])) as root:
        assert log == ["+a"]
        assert isinstance(root, Supervisor)
    assert log == ["+a", "-a"]


async def test_a_tree_starts_like_any_service_in_a_nursery(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    async with trio.open_nursery() as nursery:
        root = await nursery.start(
            supervise, SupervisorSpec(children=[logged("a", log)])
        )
        assert log == ["+a"]
        root.stop()
    assert log == ["+a", "-a"]


async def test_what_the_block_raises_comes_out_as_itself(
    autojump_clock: MockClock,
) -> None:
    log = list[str]()
    with pytest.raises(Boom):
        async with open_supervisor(SupervisorSpec(children=[logged("a", log)])):
            raise Boom
    assert log == ["+a", "-a"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_the_block_comes_out_after_the_stop(
    autojump_clock: MockClock,
    interrupt: type[BaseException],
) -> None:
    log = list[str]()
    with pytest.raises(interrupt):
        async with open_supervisor(SupervisorSpec(children=[logged("a", log)])):
            raise interrupt
    assert log == ["+a", "-a"]


async def test_a_tree_that_gives_up_ends_the_block(autojump_clock: MockClock) -> None:
    tree = SupervisorSpec(children=[idle("a")], max_restarts=0)
    with pytest.raises(RestartIntensityReached):
        async with open_supervisor(tree) as root:
            root.crash_child("a", Boom())
            await trio.sleep_forever()


async def test_a_tree_that_gives_up_names_the_crash_far_below(
    autojump_clock: MockClock,
) -> None:
    async def crashing() -> None:
        await trio.sleep(0.1)
        raise Boom

    tree = SupervisorSpec(children=[child("worker", crashing)])
    for name in ("inner", "outer"):
        tree = SupervisorSpec(children=[supervisor(name, tree)])
    with pytest.raises(RestartIntensityReached) as gave_up:
        await supervise(tree)
    told = list[BaseException]()
    error: BaseException | None = gave_up.value
    while error is not None:
        told.append(error)
        error = error.__cause__
    assert [str(error).rpartition(" ")[2] for error in told] == [
        "'outer'",
        "'outer/inner'",
        "'outer/inner/worker'",
        "",
    ]
    assert isinstance(told[-1], Boom)


async def test_a_call_that_fails_with_the_tree_is_no_second_error(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    with pytest.raises(RestartIntensityReached) as gave_up:
        async with open_supervisor(SupervisorSpec(children=[spec], max_restarts=0)):
            ref.cast(Worker.crash)
            await ref.call(Worker.note, 1)
    assert isinstance(gave_up.value.__cause__, Boom)


async def test_two_errors_are_a_group(autojump_clock: MockClock) -> None:
    tree = SupervisorSpec(children=[idle("a")], max_restarts=0)
    with pytest.RaisesGroup(RestartIntensityReached, ValueError):
        async with open_supervisor(tree) as root:
            root.crash_child("a", Boom())
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError


async def test_the_block_is_not_entered_if_the_tree_does_not_start(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(StartFailed):
        async with open_supervisor(SupervisorSpec(children=[failing("a", Boom())])):
            pytest.fail("entered")


async def test_a_failed_start_reaches_who_started_the_tree_in_a_nursery(
    autojump_clock: MockClock,
) -> None:
    broken = SupervisorSpec(children=[failing("a", Boom())])
    with pytest.RaisesGroup(StartFailed):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await nursery.start(supervise, broken)


async def test_a_tree_that_was_stopped_ends_the_block_without_an_error(
    autojump_clock: MockClock,
) -> None:
    async with open_supervisor(SupervisorSpec(children=[idle("a")])) as root:
        root.stop()
        await trio.sleep_forever()
    with pytest.raises(ActorStopped):
        await root.which_children()


async def test_no_task_is_left_when_the_block_has_ended(
    autojump_clock: MockClock,
) -> None:
    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    before = tasks()
    for _ in range(3):
        async with open_supervisor(SupervisorSpec(children=[idle("a"), idle("b")])):
            assert tasks() > before
        assert tasks() == before


async def test_a_hook_that_raises_ends_nothing_and_is_not_hushed_up(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unraisable = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    def hook(event: Event) -> None:
        raise Boom("broken logger")

    tree = SupervisorSpec(children=[idle("a")])
    async with open_supervisor(tree, on_event=hook) as root:
        root.crash_child("a", Boom())
        await settled()
        assert root.inspect().children[0].restarts == 1
    assert [type(each.exc_value) for each in unraisable] == [Boom] * 3
    assert "The event hook failed on ChildStarted" in unraisable[0].err_msg


async def test_a_hook_that_raises_ends_nothing_in_a_plain_interpreter(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # pytest's own takes any object; the interpreter's does not.
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    ref, spec = worker("a")

    def hook(event: Event) -> None:
        raise Boom("broken logger")

    async with open_supervisor(SupervisorSpec(children=[spec]), on_event=hook):
        assert await ref.call(Worker.note, 1) == 1
    printed = capfd.readouterr().err
    assert "The event hook failed on ChildStarted" in printed
    assert "broken logger" in printed


async def test_a_hook_for_unraisable_errors_that_raises_ends_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(_anything: object) -> None:
        raise Boom("broken logger")

    monkeypatch.setattr(sys, "unraisablehook", hook)
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec]), on_event=hook):
        assert await ref.call(Worker.note, 1) == 1


async def test_what_follows_from_a_failed_call_is_not_a_second_failure(autojump_clock):
    ref = ActorRef("worker")

    class Worker:
        def fail(self) -> None:
            raise ValueError

        async def wait(self) -> None:
            await trio.sleep_forever()

    with pytest.raises(RestartIntensityReached):
        async with open_supervisor(
            SupervisorSpec(children=[actor(ref, Worker)], max_restarts=0)
        ):
            ref.cast(Worker.fail)
            try:
                await ref.call(Worker.wait)
            except CallError as error:
                raise RuntimeError("no answer") from error
