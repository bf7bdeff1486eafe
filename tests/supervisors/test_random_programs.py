"""Random small programs against one tree, in drawn orders and at drawn times.

Whatever is called, cast, crashed, terminated and restarted, and whenever:

* every call ends, with its own answer or an error that says why (I11, I12);
* every message is handled at most once, and one that was accepted by an actor
  that was never stopped is not lost;
* a supervisor gives up exactly when OTP's list of restarts says so (I14);
* children are stopped in reverse order, and no task survives the tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio
from hypothesis import event, given, strategies as st
from trio.testing import MockClock

from supervisors import (
    ActorDied,
    ActorRef,
    ActorStopped,
    ChildError,
    ChildSpec,
    ChildStarted,
    ChildTerminated,
    Event,
    GaveUp,
    InboxFull,
    Normal,
    Restart,
    RestartIntensityReached,
    ShutDown,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorSpec,
    actor,
    open_supervisor,
    supervisor,
)
from tests.supervisors.children import Boom
from tests.supervisors.test_restart_pure import OtpWindow

NAMES = ["a", "b", "s/x", "s/y", "c"]
"""In start order; ``s`` is a supervisor."""


@attrs.define
class Echo:
    """An actor that says who answered what."""

    world: World
    incarnation: int

    def echo(self, number: int) -> tuple[int, int]:
        self.world.handled[number] += 1
        return self.incarnation, number

    async def slowly(self, number: int) -> tuple[int, int]:
        self.world.handled[number] += 1
        await trio.sleep(0.5)
        return self.incarnation, number

    def crash(self, number: int) -> tuple[int, int]:
        self.world.handled[number] += 1
        raise Boom

    async def crash_slowly(self, number: int) -> tuple[int, int]:
        await self.slowly(number)
        raise Boom


METHODS = {
    "echo": Echo.echo,
    "slowly": Echo.slowly,
    "crash": Echo.crash,
    "crash_slowly": Echo.crash_slowly,
}


@attrs.frozen
class Plan:
    """One program: a tree, and what is done to it when."""

    strategy: Strategy
    restarts: tuple[Restart, ...]
    max_restarts: int
    stop_takes: float
    max_inbox: int
    steps: tuple[Step, ...]


@attrs.frozen
class Step:
    """Do *what* to *name*, at a time and behind so many checkpoints."""

    what: str
    name: str
    at: float
    checkpoints: int


steps = st.builds(
    Step,
    what=st.sampled_from(
        [
            *(f"call {name}" for name in METHODS),
            *(f"cast {name}" for name in METHODS),
            *("impatient slowly", "kill", "crash", "terminate", "restart"),
        ]
    ),
    name=st.sampled_from(NAMES),
    at=st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 6.0]),
    checkpoints=st.integers(0, 3),
)
plans = st.builds(
    Plan,
    strategy=st.sampled_from(Strategy),
    restarts=st.tuples(*[st.sampled_from(Restart)] * len(NAMES)),
    max_restarts=st.integers(0, 4),
    stop_takes=st.sampled_from([0.0, 0.0, 0.25]),
    max_inbox=st.sampled_from([2, 100]),
    steps=st.lists(steps, min_size=1, max_size=12).map(tuple),
)


@attrs.define(eq=False)
class World:
    """The refs, and all that was seen."""

    plan: Plan
    root: Supervisor = attrs.field(init=False)
    refs: dict[str, ActorRef[Echo]] = attrs.field(factory=dict)
    handled: Counter[int] = attrs.field(factory=Counter)
    accepted: dict[int, str] = attrs.field(factory=dict)
    died_at: dict[str, list[float]] = attrs.field(factory=dict)
    lives: list[tuple[str, str]] = attrs.field(factory=list)
    """Starts, crashes and orderly stops, with whose they were."""
    events: list[tuple[float, int, Event]] = attrs.field(factory=list)
    """When, how long the list of lives was, and what."""
    stopped_by_hand: set[str] = attrs.field(factory=set)

    def tree(self) -> SupervisorSpec:
        a, b, x, y, c = (
            self.child(name, restart)
            for name, restart in zip(NAMES, self.plan.restarts, strict=True)
        )
        return self.supervisor(a, b, supervisor("s", self.supervisor(x, y)), c)

    def supervisor(self, *children: ChildSpec) -> SupervisorSpec:
        return SupervisorSpec(
            children=children,
            strategy=self.plan.strategy,
            max_restarts=self.plan.max_restarts,
            max_seconds=5.0,
        )

    def child(self, name: str, restart: Restart) -> ChildSpec:
        incarnations = Counter[str]()

        @asynccontextmanager
        async def living() -> AsyncGenerator[Echo]:
            incarnations[name] += 1
            self.lives.append(("start", name))
            try:
                yield Echo(self, incarnations[name])
            except BaseException:
                self.died_at.setdefault(name, []).append(trio.current_time())
                self.lives.append(("crash", name))
                raise
            # Asked to stop: what was promised fails before the cleanup.
            self.died_at.setdefault(name, []).append(trio.current_time())
            await trio.sleep(self.plan.stop_takes)
            self.lives.append(("stop", name))

        ref: ActorRef[Echo] = ActorRef(name, max_inbox=self.plan.max_inbox)
        self.refs[name] = ref
        spec = actor(ref, living)
        return attrs.evolve(spec, id=name.rpartition("/")[2], restart=restart)

    def on_event(self, seen: Event) -> None:
        self.events.append((trio.current_time(), len(self.lives), seen))

    async def take(self, number: int, step: Step) -> None:
        await trio.sleep(step.at)
        for _ in range(step.checkpoints):
            await trio.lowlevel.checkpoint()
        match step.what.split():
            case ["call", method]:
                await self.call(step.name, method, number)
            case ["impatient", method]:
                with trio.move_on_after(0.25):
                    await self.call(step.name, method, number)
            case ["cast", method]:
                self.cast(step.name, method, number)
            case [operation]:
                await self.operate(self.root, operation, step.name)
            case _:
                raise AssertionError(step)

    async def call(self, name: str, method: str, number: int) -> None:
        try:
            incarnation, answer = await self.refs[name].call(METHODS[method], number)
        except ActorDied:
            event("a caller of a crash")
            assert trio.current_time() in self.died_at[name]
            assert self.handled[number] <= 1
        except (ActorStopped, InboxFull) as error:
            event(type(error).__name__)
            assert self.handled[number] == 0
        else:
            assert answer == number
            assert incarnation > 0
            assert self.handled[number] == 1

    def cast(self, name: str, method: str, number: int) -> None:
        try:
            self.refs[name].cast(METHODS[method], number)
        except (ActorStopped, InboxFull):
            return
        self.accepted[number] = name

    async def operate(self, root: Supervisor, operation: str, name: str) -> None:
        low = root.spec.children[2].subtree
        assert isinstance(low, Supervisor)
        handle, id_ = (low, name[2:]) if name.startswith("s/") else (root, name)
        process = root.find(name)
        try:
            match operation:
                case "kill" if process is not None:
                    process.kill()
                case "crash":
                    root.crash_child(name, Boom())
                case "terminate":
                    self.stopped_by_hand.add(name)
                    await handle.terminate_child(id_)
                case "restart":
                    await handle.restart_child(id_)
                case _:
                    pass
        except (ChildError, ActorStopped, StartFailed):
            pass


@given(plans)
def test_random_programs_keep_the_promises(plan: Plan) -> None:
    trio.run(run_program, plan, clock=MockClock(autojump_threshold=0))


async def run_program(plan: Plan) -> None:
    world = World(plan)
    tasks = trio.lowlevel.current_statistics().tasks_living
    gave_up = False
    end_began = 0
    # Every call ends: an hour passes in no time if one does not.
    with trio.fail_after(3600):
        async with trio.open_nursery() as askers:
            try:
                async with open_supervisor(
                    world.tree(), on_event=world.on_event
                ) as root:
                    world.root = root
                    for number, step in enumerate(plan.steps):
                        askers.start_soon(world.take, number, step)
                    await trio.sleep(20)
                    end_began = len(world.lives)
                    check_messages(world, root)
            except RestartIntensityReached:
                gave_up = True
                event("the root gave up")
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    root_gave_up = check_intensity(world, gave_up)
    check_order(world, end_began if root_gave_up is None else root_gave_up)
    for ref in world.refs.values():
        assert ref.depth == 0
        try:
            ref.cast(Echo.echo, -1)
        except ActorStopped:
            continue
        raise AssertionError("a message for nobody was accepted")


def check_messages(world: World, root: Supervisor) -> None:
    """Everything has come to rest: what was accepted has been handled once."""
    assert all(times <= 1 for times in world.handled.values())
    running = {node.path for node in root.inspect().walk() if node.state == "running"}
    for number, name in world.accepted.items():
        permanent = world.plan.restarts[NAMES.index(name)] is Restart.PERMANENT
        if permanent and name in running and name not in world.stopped_by_hand:
            assert world.handled[number] == 1, (number, name)


def check_intensity(world: World, gave_up: bool) -> int | None:
    """Replay the ends against OTP's list; return when in the lives the root gave up."""
    root, low = (OtpWindow(world.plan.max_restarts, 5.0) for _ in range(2))
    restart = dict(zip(NAMES, world.plan.restarts, strict=True))
    restart["s"] = Restart.PERMANENT
    expected = list[str]()
    root_gave_up = None
    for now, lives_so_far, seen in world.events:
        match seen:
            case ChildStarted(path="s/x", incarnation=1):
                # The first child of a new incarnation, which counts anew.
                low = OtpWindow(world.plan.max_restarts, 5.0)
            case GaveUp():
                assert seen.path in expected
                expected.remove(seen.path)
                root_gave_up = root_gave_up if seen.path else lives_so_far
            case ChildTerminated():
                above = seen.path.rpartition("/")[0]
                window = low if above else root
                if will_restart(restart[seen.path], seen) and not window.admit(now):
                    expected.append(above)
            case _:
                pass
    assert not expected
    assert gave_up == (root_gave_up is not None)
    return root_gave_up


def will_restart(restart: Restart, seen: ChildTerminated) -> bool:
    """Say whether the end is to be followed by a restart."""
    clean = isinstance(seen.exit, Normal | ShutDown)
    return restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and not clean)


def check_order(world: World, end_began: int) -> None:
    """What each supervisor stopped at the end, it stopped in reverse order."""
    last = {name: number for number, (_, name) in enumerate(world.lives)}
    stopped = [
        name
        for number, (what, name) in enumerate(world.lives)
        if what == "stop"
        and number == last[name]
        and number >= end_began
        and name not in world.stopped_by_hand
    ]
    for level in (False, True):
        order = [NAMES.index(name) for name in stopped if ("/" in name) is level]
        assert order == sorted(order, reverse=True), world.lives[end_began:]
