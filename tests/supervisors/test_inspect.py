"""The tree as a value, and as text."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ChildSpec,
    DynamicSupervisor,
    Node,
    Strategy,
    Supervisor,
    SupervisorSpec,
    dynamic_supervisor,
    format_tree,
    open_supervisor,
    supervisor,
)
from supervisors._process import Process
from tests.supervisors.children import Boom, Worker, idle, logged, settled, worker


async def test_the_tree_shows_itself_at_once(autojump_clock: MockClock) -> None:
    ref, spec = worker("queue")
    dynamic = DynamicSupervisor("jobs")
    low = SupervisorSpec(children=[spec], strategy=Strategy.REST_FOR_ONE)
    tree = SupervisorSpec(
        children=[idle("a"), supervisor("low", low), dynamic_supervisor(dynamic)]
    )
    async with open_supervisor(tree) as root:
        await dynamic.start_child(idle("job"))
        ref.cast(Worker.crash)
        await settled()
        await root.terminate_child("a")
        ref.cast(Worker.note, 1)
        assert root.inspect() == Node(
            id="root",
            path="",
            kind="supervisor",
            state="running",
            strategy="one_for_one",
            children=(
                Node(id="a", path="a", kind="worker", state="stopped"),
                Node(
                    id="low",
                    path="low",
                    kind="supervisor",
                    state="running",
                    strategy="rest_for_one",
                    children=(
                        Node(
                            id="queue",
                            path="low/queue",
                            kind="worker",
                            state="running",
                            restarts=1,
                            inbox=1,
                            last_crash="Boom",
                        ),
                    ),
                ),
                Node(
                    id="jobs",
                    path="jobs",
                    kind="dynamic",
                    state="running",
                    strategy="one_for_one",
                    children=(
                        Node(id="job", path="jobs/job", kind="worker", state="running"),
                    ),
                ),
            ),
        )
        assert format_tree(root.inspect()) == (
            "root (one_for_one)\n"
            "├── a  stopped\n"
            "├── low (rest_for_one)\n"
            "│   └── queue  restarts=1 inbox=1 last_crash=Boom\n"
            "└── jobs (one_for_one)\n"
            "    └── job"
        )


async def test_messages_that_wait_are_counted(autojump_clock: MockClock) -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        ref.cast(Worker.sleep, 1)
        await settled()
        ref.cast(Worker.note, 1)
        ref.cast(Worker.note, 2)
        assert root.inspect().children[0].inbox == 2
        assert format_tree(root.inspect().children[0]) == "a  inbox=2"


async def test_children_on_their_way_are_shown_as_such(
    autojump_clock: MockClock,
) -> None:
    async def slow(process: Process) -> None:
        await trio.sleep(10)
        process.started()
        await trio.sleep_forever()

    log = list[str]()
    tree = SupervisorSpec(children=[logged("a", log, stop_takes=3)])
    async with open_supervisor(tree) as root, trio.open_nursery() as nursery:

        def states() -> list[str]:
            return [node.state for node in root.inspect().children]

        nursery.start_soon(root.start_child, ChildSpec(id="slow", body=slow))
        await settled()
        assert states() == ["running", "starting"]
        await trio.sleep(11)
        nursery.start_soon(root.terminate_child, "a")
        await settled()
        assert states() == ["stopping", "running"]


def test_a_tree_that_does_not_run_shows_no_children() -> None:
    root = Supervisor(SupervisorSpec(children=[idle("a")]), name="main")
    assert format_tree(root.inspect()) == "main (one_for_one)  stopped"
    assert repr(root) == "<Supervisor 'main'>"


@pytest.mark.parametrize("path", ["", "low", "low/queue", "low/queue/x", "nobody"])
async def test_the_path_finds_what_runs(autojump_clock: MockClock, path: str) -> None:
    _, spec = worker("queue")
    tree = SupervisorSpec(children=[supervisor("low", SupervisorSpec(children=[spec]))])
    async with open_supervisor(tree) as root:
        found = root.find(path)
        assert (found is not None and found.path == path) == (
            path in ("low", "low/queue")
        )


async def test_the_last_crash_is_a_name_only(autojump_clock: MockClock) -> None:
    _, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])) as root:
        root.crash_child("a", Boom("secret"))
        await settled()
        assert root.inspect().children[0].last_crash == "Boom"
