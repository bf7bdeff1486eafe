"""A ref or a handle is of one running child: a second one fails, and harms nobody."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ActorRef,
    ActorStopped,
    AlreadyStarted,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    StartFailed,
    Supervisor,
    SupervisorSpec,
    actor,
    actor_spec,
    child,
    dynamic_supervisor,
    open_supervisor,
    supervisor,
)
from tests.supervisors.children import Boom, Worker, worker


async def refused(*children: ChildSpec) -> AlreadyStarted:
    """Return why a tree with *children* does not start."""
    with pytest.raises(StartFailed) as failed:
        async with open_supervisor(SupervisorSpec(children=children)):
            pytest.fail("it has started")
    error: BaseException | None = failed.value
    while isinstance(error, StartFailed):
        error = error.__cause__
    assert isinstance(error, AlreadyStarted)
    return error


async def test_a_ref_that_runs_in_one_tree_does_not_start_in_another(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        await ref.call(Worker.note, "before")
        error = await refused(actor(ref, Worker))
        assert "'a' has an actor that runs" in str(error)
        assert await ref.call(Worker.note, "after") == 2  # the same incarnation
        root.crash_child("a", Boom())
        assert await ref.call(Worker.note, "anew") == 1
    with pytest.raises(ActorStopped):
        ref.cast(Worker.note, "over")


async def test_one_spec_is_for_one_tree_at_a_time(autojump_clock: MockClock) -> None:
    ref, leaf = worker("a")
    spec = SupervisorSpec(
        children=[supervisor("s", SupervisorSpec(children=[leaf]))],
    )
    async with open_supervisor(spec):
        await refused(*spec.children)
        assert await ref.call(Worker.note, "x") == 1
    async with open_supervisor(spec):
        assert await ref.call(Worker.note, "x") == 1


async def test_two_children_of_one_tree_cannot_share_a_ref(
    autojump_clock: MockClock,
) -> None:
    ref, spec = worker("a")
    await refused(spec, actor_spec(ref, Worker, id="b"))
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        with pytest.raises(StartFailed) as failed:
            await root.start_child(actor_spec(ref, Worker, id="b"))
        assert isinstance(failed.value.__cause__, AlreadyStarted)
        assert await ref.call(Worker.note, "x") == 1


async def test_a_handle_at_the_root_runs_once(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    root = Supervisor(SupervisorSpec(children=[spec]))
    async with open_supervisor(root):
        with pytest.raises(AlreadyStarted, match="'root' runs already"):
            async with open_supervisor(root):
                pytest.fail("it has started")
        assert await ref.call(Worker.note, "x") == 1
        assert await root.count_children()
    async with open_supervisor(root):
        assert await ref.call(Worker.note, "x") == 1


async def test_a_handle_below_the_root_runs_once(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    handle = Supervisor(SupervisorSpec(children=[spec]), name="s")
    async with open_supervisor(SupervisorSpec(children=[supervisor("s", handle)])):
        await refused(supervisor("t", handle))
        assert [its.id for its in await handle.which_children()] == ["a"]
        assert await ref.call(Worker.note, "x") == 1


async def test_a_dynamic_handle_runs_once(autojump_clock: MockClock) -> None:
    handle, (ref, spec) = DynamicSupervisor("d"), worker("a")
    async with open_supervisor(SupervisorSpec(children=[dynamic_supervisor(handle)])):
        await handle.start_child(spec)
        await refused(dynamic_supervisor(handle))
        assert [its.id for its in await handle.which_children()] == ["a"]
        assert await ref.call(Worker.note, "x") == 1


async def test_what_waits_for_its_restart_keeps_its_messages_when_a_second_tree_fails(
    autojump_clock: MockClock,
) -> None:
    ref: ActorRef[Worker] = ActorRef("a")
    slow = actor_spec(ref, Worker, backoff=Backoff(first=10.0))
    handle = Supervisor(SupervisorSpec(children=[slow]), name="s")
    async with open_supervisor(
        SupervisorSpec(children=[supervisor("s", handle)])
    ) as root:
        root.crash_child("s/a", Boom())
        await trio.testing.wait_all_tasks_blocked()
        ref.cast(Worker.note, "waits")
        await refused(supervisor("s", handle))
        assert await ref.call(Worker.note, "x") == 2


@pytest.mark.parametrize("id_", ["", "a/b", "/"])
async def test_an_id_that_makes_paths_ambiguous_is_refused(
    id_: str, autojump_clock: MockClock
) -> None:
    spec, dynamic = child(id_, trio.sleep_forever), DynamicSupervisor("d")
    with pytest.raises(ValueError, match="child's id"):
        SupervisorSpec(children=[spec])
    tree = SupervisorSpec(children=[dynamic_supervisor(dynamic)])
    async with open_supervisor(tree) as root:
        for its in (root, dynamic):
            with pytest.raises(ValueError, match="child's id"):
                await its.start_child(spec)
