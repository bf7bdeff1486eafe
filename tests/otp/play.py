"""One scenario played on the library, under a clock that only the player moves.

The root is a child of a supervisor that has no part in the scenario, so that it
is started, watched, stopped and killed like every other. Children are bodies
of the player's own (`ChildSpec.body`), which do what the scenario says and note
what happens. "At rest" is: every task is blocked, and none waits for time.

Three things of the library are used that its users have no need for:
`Process`, which every body gets, to kill a child and to see its exit; and
``_request``, to hold a supervisor while messages gather in its mailbox.
"""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import attrs
import trio
import trio.testing

from supervisors import (
    ActorStopped,
    AlreadyPresent,
    AlreadyStarted,
    ChildError,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildStarted,
    ChildTerminated,
    CleanExit,
    DynamicSupervisor,
    Event,
    GaveUp,
    Ignore,
    ShutdownError,
    StartError,
    StartFailed,
    StillRunning,
    Supervisor,
    SupervisorSpec,
    dynamic_supervisor,
    open_supervisor,
    supervisor,
)
from supervisors._process import Process
from tests.otp.reasons import (
    BadSpec,
    Crash,
    NormalAfterAll,
    Raised,
    end_with,
    reason_of,
    reason_of_error,
)
from tests.otp.scenario import Flags, child_spec, encode, flags

Json: TypeAlias = Any
Handle: TypeAlias = Supervisor | DynamicSupervisor
Call: TypeAlias = Callable[[], Awaitable[Json]]

ERRORS: dict[type[ChildError], str] = {
    ChildNotFound: "not_found",
    ChildRunning: "running",
    ChildRestarting: "restarting",
    AlreadyStarted: "already_started",
    AlreadyPresent: "already_present",
}
STATES = {"running": "running", "restarting": "restarting", "stopped": "undefined"}
ROOT = "root"


def play(scenario: Json) -> Json:
    """Return the trace of *scenario*."""
    clock = trio.testing.MockClock()
    return trio.run(_play, scenario, clock, clock=clock)


async def _play(scenario: Json, clock: trio.testing.MockClock) -> Json:
    stage = _Stage(clock)
    async with (
        open_supervisor(SupervisorSpec(), on_event=stage.on_event) as holder,
        trio.open_nursery() as nursery,
    ):
        player = _Player(stage, nursery, holder)
        trace = await player.trace(scenario)
        nursery.cancel_scope.cancel()
    return trace


def scenario_path(path: str) -> str:
    """Return the path in the scenario of a path in the tree."""
    return path.removeprefix(ROOT).removeprefix("/")


def join(parent: str, id_: str) -> str:
    """Return the path of a child."""
    return f"{parent}/{id_}" if parent else id_


def split(path: str) -> tuple[str, str]:
    """Return the parent's path and the child's id."""
    parent, _, id_ = path.rpartition("/")
    return parent, id_


@attrs.define
class _Worker:
    """A running worker, and what it was told to end with."""

    process: Process
    wake: trio.Event = attrs.field(factory=trio.Event)
    orders: list[Json] = attrs.field(factory=list[Json])

    def end(self, reason: Json) -> None:
        self.orders.append(reason)
        self.wake.set()


@attrs.define
class _Sup:
    """A running supervisor."""

    process: Process
    handle: Handle
    flags: Flags


@attrs.define
class _Stage:
    """What the children share: the notes, and who is there."""

    clock: trio.testing.MockClock
    events: list[Json] = attrs.field(factory=list[Json])
    reports: list[Json] = attrs.field(factory=list[Json])
    attempts: Counter[str] = attrs.field(factory=Counter[str])
    workers: dict[str, _Worker] = attrs.field(factory=dict[str, _Worker])
    sups: dict[str, _Sup] = attrs.field(factory=dict[str, _Sup])
    exits: dict[str, Json] = attrs.field(factory=dict[str, Json])
    closed_gate: tuple[str, trio.Event] | None = None
    """Path of the child that waits in its init."""
    holds_gates: bool = False

    # What the library reports.

    def on_event(self, event: Event) -> None:
        if isinstance(event, StillRunning):
            self.reports.append(["unexpected", repr(event)])
            return
        path = scenario_path(event.path)
        if isinstance(event, ChildStarted):
            self.events.append(["start", path, self.attempts[path]])
            return
        if isinstance(event, GaveUp):
            reason = "reached_max_restart_intensity"
            self.reports.append(["shutdown", path, event.child, reason])
        elif path:
            self._note(self._report(event, *split(path)))

    def _note(self, report: Json) -> None:
        *same, count = report
        for other in self.reports:
            if len(report) == len(other) == 5 and other[:4] == same:
                # Children that ended ``normal`` by themselves and those that did
                # when asked are told apart by the library (`NormalAfterAll`).
                other[4] += count
                return
        self.reports.append(report)

    def _report(self, event: Event, parent: str, id_: str) -> Json:
        match event:
            case ChildTerminated(exit=end):
                return ["child_terminated", parent, id_, reason_of(end)]
            case StartError(exit=end):
                return ["start_error", parent, id_, reason_of(end)]
            case ShutdownError(exit=end, count=count) if id_ == "*":
                template = self.sups[parent].flags.children[0]["id"]
                return ["shutdown_error", parent, template, reason_of(end), count]
            case ShutdownError(exit=end):
                return ["shutdown_error", parent, id_, reason_of(end)]
            case _:
                return ["unexpected", repr(event)]

    # The bodies of children.

    def spec(self, spec: Json, flags_: Flags) -> ChildSpec:
        """Return the child with its body."""
        made = child_spec(spec, flags_.auto_shutdown)
        perform = self.supervise if made.kind == "supervisor" else self.work
        return attrs.evolve(made, body=partial(self.child, spec, perform))

    async def child(
        self,
        spec: Json,
        perform: Callable[[Json, Process, str], Awaitable[None]],
        process: Process,
    ) -> None:
        """Note the start and the end of an incarnation around *perform*."""
        path = scenario_path(process.path)
        self.attempts[path] += 1
        attempt = self.attempts[path]
        if "sup" in spec:
            self.events.append(["sup_init", path, attempt])

        def ended(process: Process) -> None:
            if not process.is_started:
                return
            assert process.exit is not None
            self.exits[path] = reason_of(process.exit)
            self.events.append(["exit", path, attempt, self.exits[path]])

        process.at_end(ended)
        reason: Json = "normal"
        try:
            if await self.init(spec.get("init"), attempt, path):
                await perform(spec, process, path)
        except BaseException as error:
            reason = reason_of_error(error)
            raise
        finally:
            if not process.is_started:
                self.not_started(path, attempt, reason)

    def not_started(self, path: str, attempt: int, reason: Json) -> None:
        if reason == "ignore":
            self.events.append(["start_ignore", path, attempt])
        elif path:
            self.events.append(["start_error", path, attempt, reason])

    async def init(self, inits: Json, attempt: int, path: str) -> bool:
        """Do what the scenario says of this attempt; False if it is to end."""
        entry = inits[min(attempt, len(inits)) - 1] if inits else "ok"
        if isinstance(entry, dict) and "gate" in entry:
            await self.gate(path)
            entry = entry["gate"]
        match entry:
            case "ok":
                return True
            case "ignore":
                raise Ignore
            case {"raise": tag}:
                raise Raised(tag)
            case {"fail": reason} | {"exit": reason}:
                end_with(reason)
                return False
            case _:
                raise AssertionError(entry)

    async def gate(self, path: str) -> None:
        if self.holds_gates:
            self.holds_gates = False
            opened = trio.Event()
            self.closed_gate = path, opened
            await opened.wait()

    async def work(self, spec: Json, process: Process, path: str) -> None:
        worker = _Worker(process)
        process.on_stop = worker.wake.set
        self.workers[path] = worker
        process.started()
        await worker.wake.wait()
        if worker.orders:
            end_with(worker.orders[0])
        else:
            await _clean_up(spec.get("on_shutdown", "ok"))

    async def supervise(self, spec: Json, process: Process, path: str) -> None:
        decoded = flags(spec["sup"])
        if decoded.simple:
            dynamic = DynamicSupervisor(
                path,
                max_restarts=decoded.max_restarts,
                max_seconds=decoded.max_seconds,
                auto_shutdown=decoded.auto_shutdown,
            )
            self.sups[path] = _Sup(process, dynamic, decoded)
            await dynamic_supervisor(dynamic).body(process)
        else:
            static = Supervisor(
                SupervisorSpec(
                    children=[self.spec(child, decoded) for child in decoded.children],
                    strategy=decoded.strategy,
                    max_restarts=decoded.max_restarts,
                    max_seconds=decoded.max_seconds,
                    auto_shutdown=decoded.auto_shutdown,
                ),
                name=path,
            )
            self.sups[path] = _Sup(process, static, decoded)
            await supervisor(spec["id"], static).body(process)

    # What can be seen from outside.

    def sup(self, path: str) -> _Sup | None:
        """Return the supervisor that runs at *path*."""
        found = self.sups.get(path)
        return found if found and _is_running(found.process) else None

    def worker(self, path: str) -> _Worker | None:
        """Return the worker that runs at *path*."""
        found = self.workers.get(path)
        return found if found and _is_running(found.process) else None

    async def rest(self) -> None:
        """Let everything happen that happens without us, timeouts included."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
            if math.isinf(seconds):
                return
            self.clock.jump(max(0.0, seconds))


def _is_running(process: Process) -> bool:
    return process.is_started and process.exit is None


async def _clean_up(manner: str) -> None:
    match manner:
        case "ok" | "clean":
            return
        case "slow":
            await trio.sleep(0.005)
        case "normal":
            raise CleanExit(NormalAfterAll())
        case "crash":
            raise Crash("in_shutdown")
        case "hang":
            await trio.sleep_forever()
        case _:
            raise AssertionError(manner)


@attrs.define
class _Asked:
    """A call that was made, and its result when there is one."""

    sup: str
    result: Json = "no answer"
    down: bool = False


@attrs.define
class _Player:
    """The one who takes the steps, and looks at the tree between them."""

    stage: _Stage
    nursery: trio.Nursery
    holder: Supervisor
    root_result: Json = None

    async def trace(self, scenario: Json) -> Json:
        root = {
            "id": ROOT,
            "restart": "temporary",
            "type": "supervisor",
            "sup": scenario["sup"],
        }
        asked = self.ask("", partial(self._start_root, root))
        await self.stage.rest()
        start = await self.observe(self.result(asked))
        steps = list[Json]()
        for step in scenario.get("steps", []):
            if self.stage.sup("") is None:
                break
            steps.append(await self.observe(await self.step(step)))
        ended = self.stage.exits.get("")
        stop = None
        if self.stage.sup("") is not None:
            await self.stop()
            stop = await self.observe()
        return {"start": start, "steps": steps, "exit": ended, "stop": stop}

    async def _start_root(self, root: Json) -> Json:
        never = flags({})
        try:
            await self.holder.start_child(self.stage.spec(root, never))
        except StartFailed as failed:
            return ["error", reason_of(failed.exit)]
        return "ok"

    async def observe(self, *result: Json) -> Json:
        """Return what happened since the last look, and how the tree stands."""
        stage = self.stage
        seen: Json = {"events": stage.events, "reports": stage.reports, "state": {}}
        stage.events, stage.reports = [], []
        for path in sorted(stage.sups):
            if stage.sup(path) is not None:
                which = self.ask(path, partial(self._which, path))
                counts = self.ask(path, partial(self._count, path))
                await stage.rest()
                seen["state"][path] = {
                    "children": self.result(which),
                    "counts": self.result(counts),
                }
        for value in result:
            seen["result"] = value
        return seen

    # Steps.

    async def step(self, step: Json) -> Json:
        match step["op"]:
            case "exit" if step.get("during"):
                return await self.exit_during(step)
            case "exit":
                ended = self.end(step)
                await self.stage.rest()
                return ended
            case "batch":
                return await self.batch(step)
            case "sleep":
                self.stage.clock.jump(step["ms"] / 1000)
                await self.stage.rest()
                return "ok"
            case "stop":
                await self.stop()
                return "ok"
            case _:
                asked = self.call(step)
                await self.stage.rest()
                return self.result(asked)

    async def stop(self) -> None:
        self.ask("", partial(self.holder.terminate_child, ROOT))
        await self.stage.rest()

    def end(self, step: Json) -> Json:
        path, reason = step["child"], step["reason"]
        worker = self.stage.worker(path)
        if reason == "kill":
            found = worker or self.stage.sup(path)
            if found is None:
                return "not_running"
            found.process.kill()
        elif worker is None:
            return "not_running"
        else:
            worker.end(reason)
        return "ok"

    async def exit_during(self, step: Json) -> Json:
        """End a child; make calls while its supervisor waits for a gated init."""
        stage = self.stage
        stage.holds_gates = True
        ended = self.end(step)
        await stage.rest()
        stage.holds_gates = False
        if ended != "ok":
            return ended
        if stage.closed_gate is None:
            return "no_gate"
        (path, opened), stage.closed_gate = stage.closed_gate, None
        blocked, _ = split(path)
        asked = list[_Asked]()
        for call in step["during"]:
            if call["sup"] != blocked:
                asked.append(_Asked(call["sup"], "not_blocked"))
            else:
                asked.append(self.call(call))
                await trio.testing.wait_all_tasks_blocked()
        opened.set()
        await stage.rest()
        return [self.result(one) for one in asked]

    async def batch(self, step: Json) -> Json:
        """Let things happen while the supervisor is held, then release it."""
        sup = self.stage.sup(step["sup"])
        if sup is None:
            return "noproc"
        release = trio.Event()
        self.nursery.start_soon(sup.handle._request, lambda _: release.wait())
        await trio.testing.wait_all_tasks_blocked()
        asked = list[_Asked]()
        for item in step["items"]:
            if item["op"] == "exit":
                asked.append(_Asked(step["sup"], self.end(item)))
            else:
                asked.append(self.call(item))
            await trio.testing.wait_all_tasks_blocked()
        release.set()
        await self.stage.rest()
        return [self.result(one) for one in asked]

    # Calls.

    def call(self, step: Json) -> _Asked:
        """Send the request of *step*; its supervisor may take its time."""
        sup = self.stage.sup(step["sup"])
        if sup is None:
            return _Asked(step["sup"], "noproc")
        kind = self.on_dynamic if sup.flags.simple else self.on_static
        return self.ask(step["sup"], partial(kind, sup, step))

    def ask(self, sup: str, call: Call) -> _Asked:
        asked = _Asked(sup)

        async def wait_answer() -> None:
            try:
                asked.result = await call()
            except ActorStopped:
                asked.down = True
            except ChildError as error:
                asked.result = ["error", ERRORS[type(error)]]
            except StartFailed as failed:
                asked.result = ["error", reason_of(failed.exit)]
            except BadSpec as bad:
                asked.result = ["error", bad.args[0]]

        self.nursery.start_soon(wait_answer)
        return asked

    def result(self, asked: _Asked) -> Json:
        if asked.down:
            return ["down", self.stage.exits.get(asked.sup)]
        return asked.result

    async def on_static(self, sup: _Sup, step: Json) -> Json:
        handle = sup.handle
        assert isinstance(handle, Supervisor)
        match step["op"]:
            case "start_child":
                return await self._start_static(handle, step["spec"], sup.flags)
            case "terminate_child":
                await handle.terminate_child(step["id"])
                return "ok"
            case "restart_child":
                return _started(await handle.restart_child(step["id"]))
            case "delete_child":
                await handle.delete_child(step["id"])
                return "ok"
            case "get_childspec":
                return encode(await handle.get_childspec(step["id"]))
            case _:
                return await self.on_any(step)

    async def _start_static(
        self, handle: Supervisor, spec: Json, flags_: Flags
    ) -> Json:
        try:
            made = self.stage.spec(spec, flags_)
        except BadSpec as bad:
            refused = bad.args[0]
        else:
            return _started(await handle.start_child(made))
        # OTP checks a spec in the supervisor, in the request's turn.
        await self._in_turn(handle)
        return ["error", refused]

    async def on_dynamic(self, sup: _Sup, step: Json) -> Json:
        handle, template = sup.handle, sup.flags.children[0]
        assert isinstance(handle, DynamicSupervisor)
        match step:
            case {"op": "start_child", "args": {"label": label, **changes}}:
                spec = {**template, **changes, "id": label}
                id_ = await handle.start_child(self.stage.spec(spec, sup.flags))
                return _started(id_ is not None)
            case {"op": "terminate_child", "label": label}:
                try:
                    await handle.terminate_child(label)
                except ChildNotFound:
                    # OTP is given a process, and content if that is dead; an id
                    # says nothing of a process.
                    if join(step["sup"], label) not in self.stage.exits:
                        raise
                return "ok"
            case {"op": "get_childspec", "label": label}:
                return encode(await handle.get_childspec(label))
            case {"op": "get_childspec", "id": id_}:
                # A dynamic supervisor has no template here.
                await self._in_turn(handle)
                if id_ != template["id"]:
                    return ["error", "not_found"]
                return encode(child_spec(template, sup.flags.auto_shutdown))
            case {"op": "which_children" | "count_children"}:
                return await self.on_any(step)
            case _:
                # There are no such methods.
                await self._in_turn(handle)
                return ["error", "simple_one_for_one"]

    async def on_any(self, step: Json) -> Json:
        match step["op"]:
            case "which_children":
                return await self._which(step["sup"])
            case "count_children":
                return await self._count(step["sup"])
            case _:
                raise AssertionError(step)

    async def _in_turn(self, handle: Handle) -> None:
        """Wait until the supervisor would have served the request."""
        await handle.count_children()

    async def _which(self, path: str) -> Json:
        sup = self.stage.sups[path]
        infos = reversed(await sup.handle.which_children())
        return [
            [
                "?" if sup.flags.simple and info.state != "running" else info.id,
                STATES[info.state],
                info.kind,
            ]
            for info in infos
        ]

    async def _count(self, path: str) -> Json:
        sup = self.stage.sups[path]
        count = await sup.handle.count_children()
        # OTP counts the template.
        specs = 1 if sup.flags.simple else count.specs
        return [specs, count.active, count.supervisors, count.workers]


def _started(runs: bool) -> Json:
    return "ok" if runs else ["ok", "undefined"]
