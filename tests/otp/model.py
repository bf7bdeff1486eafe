"""OTP's supervisor as a synchronous model: the oracle for generated scenarios.

It replays the documented semantics and shares nothing with the library: no
tasks, no clock, no cancellation. A mailbox is a deque, a process an object that
is alive or not, and stopping one says at once how it ended. Its traces are those
recorded from OTP, but for two oddities of OTP (`tests/supervisors/test_otp_quirks.py`).
"""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs

Json: TypeAlias = Any

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
ENDS_ON_SHUTDOWN: dict[str, Json] = {
    "ok": "shutdown",
    "clean": "shutdown",
    "slow": "shutdown",
    "normal": "normal",
    "crash": ["crash", "in_shutdown"],
    "hang": "killed",
}


def play(scenario: Json) -> Json:
    """Return the trace of *scenario*."""
    return World(scenario).play()


def join(sup: str, child: str) -> str:
    """Return the path of a child."""
    return f"{sup}/{child}" if sup else child


def is_clean(reason: Json) -> bool:
    """Say whether a transient child that ended so stays down."""
    return reason in ("normal", "shutdown") or (
        isinstance(reason, list) and reason[0] == "shutdown"
    )


class StartError(Exception):
    """A start failed; the reason is in OTP's words."""

    def __init__(self, reason: Json) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.define(eq=False)
class Proc:
    """A process, alive or dead."""

    path: str
    attempt: int
    parent: Sup | None
    on_shutdown: str = "ok"
    sup: Sup | None = None
    """What it supervises, if it is a supervisor."""
    alive: bool = True

    @property
    def label(self) -> str:
        return self.path.rpartition("/")[2]


@attrs.frozen(eq=False)
class Restarting:
    """Stands for a process whose restart has failed and will be tried again."""

    old: Proc | None


@attrs.define(eq=False)
class Child:
    """A child as its supervisor knows it."""

    spec: Json
    proc: Proc | Restarting | None = None

    @property
    def id(self) -> str:
        return str(self.spec["id"])

    @property
    def restart(self) -> str:
        return str(self.spec.get("restart", "permanent"))

    @property
    def type(self) -> str:
        return str(self.spec.get("type", "worker"))

    @property
    def significant(self) -> bool:
        return bool(self.spec.get("significant", False))

    @property
    def shutdown(self) -> Json:
        default = 5000 if self.type == "worker" else "infinity"
        return self.spec.get("shutdown", default)

    def encoded(self) -> Json:
        told = {
            "restart": self.restart,
            "shutdown": self.shutdown,
            "significant": self.significant,
            "type": self.type,
        }
        return ["spec", told]

    def expects(self, reason: Json) -> bool:
        """Say whether it may end so when it is terminated."""
        asked = "killed" if self.shutdown == "brutal_kill" else "shutdown"
        return reason == asked or (self.restart != "permanent" and is_clean(reason))


def check_spec(spec: Json, auto_shutdown: str) -> Json:
    """Return what OTP says of a bad child spec; None of a good one."""
    restart = spec.get("restart", "permanent")
    significant = spec.get("significant", False)
    type_ = spec.get("type", "worker")
    shutdown = spec.get("shutdown", 5000)
    if restart not in ("permanent", "transient", "temporary"):
        return ["invalid_restart_type", restart]
    if significant and auto_shutdown == "never":
        return ["bad_combination", ["auto_shutdown", "never"], ["significant", True]]
    if significant and restart == "permanent":
        return ["bad_combination", ["restart", "permanent"], ["significant", True]]
    if type_ not in ("worker", "supervisor"):
        return ["invalid_child_type", type_]
    if shutdown in ("infinity", "brutal_kill"):
        return None
    if isinstance(shutdown, int) and shutdown >= 0:
        return None
    return ["invalid_shutdown", shutdown]


def check_sup(config: Json) -> None:
    """Raise what a supervisor with that configuration fails with."""
    strategy = config.get("strategy", "one_for_one")
    intensity = config.get("intensity", 1)
    period = config.get("period", 5)
    auto_shutdown = config.get("auto_shutdown", "never")
    specs = config.get("children", [])
    if strategy not in STRATEGIES:
        raise StartError(["bad_flags", ["invalid_strategy", strategy]])
    if not (isinstance(intensity, int) and intensity >= 0):
        raise StartError(["bad_flags", ["invalid_intensity", intensity]])
    if not (isinstance(period, int) and period > 0):
        raise StartError(["bad_flags", ["invalid_period", period]])
    if auto_shutdown not in ("never", "any_significant", "all_significant"):
        raise StartError(["bad_flags", ["invalid_auto_shutdown", auto_shutdown]])
    if strategy == "simple_one_for_one" and len(specs) != 1:
        raise StartError(["bad_spec", "bad_start_spec"])
    seen = set[str]()
    for spec in specs:
        wrong = check_spec(spec, auto_shutdown)
        if wrong is None and spec["id"] in seen:
            wrong = ["duplicate_child_name", spec["id"]]
        if wrong is not None:
            raise StartError(["bad_spec", wrong])
        seen.add(spec["id"])


class Sup:
    """What static and dynamic supervisors have in common."""

    simple: bool

    def __init__(self, world: World, path: str, config: Json) -> None:
        self.world = world
        self.path = path
        self.config = config
        self.proc: Proc | None = None
        self.mail = deque[Json]()
        self.restarts: list[float] = []

    @property
    def auto_shutdown(self) -> str:
        return str(self.config.get("auto_shutdown", "never"))

    def report(self, context: str, who: str, reason: Json) -> None:
        self.world.reports.append([context, self.path, who, reason])

    def start_process(self, child: Child, label: str, args: Json) -> Proc | None:
        return self.world.start(self, join(self.path, label), child, args)

    def handle(self, message: Json) -> None:
        match message:
            case ("EXIT", proc, reason):
                self.child_ended(proc, reason)
            case ("again", who):
                self.try_again(who)
            case ("call", call, slot):
                slot[0] = self.call(call)
            case _:
                raise AssertionError(message)

    def admit_restart(self, who: str) -> bool:
        now = self.world.now
        since = now - self.config.get("period", 5)
        self.restarts = [*(t for t in self.restarts if t >= since), now]
        if len(self.restarts) <= self.config.get("intensity", 1):
            return True
        self.report("shutdown", who, "reached_max_restart_intensity")
        return False

    def is_restarted(self, child: Child, who: str, reason: Json) -> bool:
        """Decide about a child that has ended, and report it."""
        clean = is_clean(reason)
        if child.restart == "permanent" or not clean:
            self.report("child_terminated", who, reason)
        if child.restart == "temporary":
            return False
        return child.restart == "permanent" or not clean

    def give_up(self) -> None:
        self.world.sup_exit(self, "shutdown")

    def stop_one(self, child: Child, proc: Proc) -> Json:
        """Terminate a process; return its exit reason if that is unexpected."""
        reason = self.world.stop_process(proc, child.shutdown, self)
        return None if child.expects(reason) else reason

    # What differs.

    def init(self) -> None:
        raise NotImplementedError

    def child_ended(self, proc: Proc, reason: Json) -> None:
        raise NotImplementedError

    def try_again(self, who: str) -> None:
        raise NotImplementedError

    def terminate_all(self) -> None:
        raise NotImplementedError

    def processes(self) -> list[Proc]:
        raise NotImplementedError

    def call(self, call: Json) -> Json:
        raise NotImplementedError

    def which(self) -> Json:
        raise NotImplementedError

    def counts(self) -> Json:
        raise NotImplementedError


def make_sup(world: World, path: str, config: Json) -> Sup:
    """Return a supervisor of the kind that *config* says."""
    simple = config.get("strategy") == "simple_one_for_one"
    return (SimpleSup if simple else StaticSup)(world, path, config)


class StaticSup(Sup):
    """A supervisor whose children have an order."""

    simple = False

    def __init__(self, world: World, path: str, config: Json) -> None:
        super().__init__(world, path, config)
        self.order: list[Child] = []

    def init(self) -> None:
        check_sup(self.config)
        specs = self.config.get("children", [])
        self.order, failed = self.start_all([Child(spec) for spec in specs])
        if failed is not None:
            child, reason = failed
            self.terminate_all()
            raise StartError(["failed_to_start_child", child.id, reason])

    def start_all(
        self, children: Sequence[Child]
    ) -> tuple[list[Child], tuple[Child, Json] | None]:
        """Start in order; return who is kept, and who failed and why."""
        kept = list[Child]()
        for place, child in enumerate(children):
            try:
                child.proc = self.start_process(child, child.id, {})
            except StartError as error:
                self.report("start_error", child.id, error.reason)
                child.proc = None
                return [*kept, *children[place:]], (child, error.reason)
            if child.proc is not None or child.restart != "temporary":
                kept.append(child)
        return kept, None

    def terminate_all(self) -> None:
        self.order = self.terminate(self.order)

    def terminate(self, children: Sequence[Child]) -> list[Child]:
        """Stop in reverse; return who is kept, which the temporary are not."""
        for child in reversed(children):
            self.terminate_one(child)
            child.proc = None
        return [child for child in children if child.restart != "temporary"]

    def terminate_one(self, child: Child) -> None:
        if isinstance(child.proc, Proc):
            unexpected = self.stop_one(child, child.proc)
            if unexpected is not None:
                self.report("shutdown_error", child.id, unexpected)

    # Ends and restarts.

    def child_ended(self, proc: Proc, reason: Json) -> None:
        child = next((each for each in self.order if each.proc is proc), None)
        if child is None:
            return
        if self.is_restarted(child, child.id, reason):
            self.restart(child)
            return
        self.stays_down(child)
        if not child.significant:
            return
        alive = any(each.significant and each.proc for each in self.order)
        if self.auto_shutdown == "any_significant" or not alive:
            self.give_up()

    def stays_down(self, child: Child) -> None:
        child.proc = None
        if child.restart == "temporary":
            self.order.remove(child)

    def try_again(self, who: str) -> None:
        for child in self.order:
            if child.id == who and isinstance(child.proc, Restarting):
                self.restart(child)
                return

    def restart(self, child: Child) -> None:
        if not self.admit_restart(child.id):
            self.stays_down(child)
            self.give_up()
        elif self.config.get("strategy", "one_for_one") == "one_for_one":
            self.restart_one(child)
        else:
            self.restart_group(child)

    def restart_one(self, child: Child) -> None:
        old = _old(child.proc)
        try:
            child.proc = self.start_process(child, child.id, {})
        except StartError as error:
            self.report("start_error", child.id, error.reason)
            self.retry(child, old)

    def restart_group(self, child: Child) -> None:
        rest_only = self.config["strategy"] == "rest_for_one"
        first = self.order.index(child) if rest_only else 0
        before, group = self.order[:first], self.order[first:]
        old = _old(child.proc)
        # Its process is dead already, and its end has been dealt with.
        child.proc = None
        after, failed = self.start_all(self.terminate(group))
        self.order = before + after
        if failed is not None:
            self.retry(failed[0], old if failed[0] is child else None)

    def retry(self, child: Child, old: Proc | None) -> None:
        child.proc = Restarting(old)
        self.world.send(self, ("again", child.id))

    # Calls.

    def call(self, call: Json) -> Json:
        match call:
            case {"op": "which_children"}:
                return self.which()
            case {"op": "count_children"}:
                return self.counts()
            case {"op": "start_child", "spec": spec}:
                return self.start_child(spec)
            case {"op": op, "id": id_}:
                child = next((each for each in self.order if each.id == id_), None)
                return ["error", "not_found"] if child is None else self.on(op, child)
            case _:
                raise AssertionError(call)

    def start_child(self, spec: Json) -> Json:
        wrong = check_spec(spec, self.auto_shutdown)
        if wrong is not None:
            return ["error", ["bad_spec", wrong]]
        for known in self.order:
            if known.id == spec["id"]:
                runs = isinstance(known.proc, Proc)
                return ["error", "already_started" if runs else "already_present"]
        child = Child(spec)
        result = self.start_by_call(child)
        if result == "ok" or (
            result == ["ok", "undefined"] and child.restart != "temporary"
        ):
            self.order.append(child)
        return result

    def start_by_call(self, child: Child) -> Json:
        try:
            child.proc = self.start_process(child, child.id, {})
        except StartError as error:
            return ["error", error.reason]
        return "ok" if child.proc else ["ok", "undefined"]

    def on(self, op: str, child: Child) -> Json:
        match op:
            case "get_childspec":
                return child.encoded()
            case "terminate_child":
                self.terminate_one(child)
                self.stays_down(child)
                return "ok"
            case _ if isinstance(child.proc, Restarting):
                return ["error", "restarting"]
            case _ if child.proc is not None:
                return ["error", "running"]
            case "delete_child":
                self.order.remove(child)
                return "ok"
            case "restart_child":
                return self.start_by_call(child)
            case _:
                raise AssertionError(op)

    def which(self) -> Json:
        return [[c.id, _state(c.proc), c.type] for c in reversed(self.order)]

    def counts(self) -> Json:
        procs = [child.proc for child in self.order]
        active = sum(isinstance(proc, Proc) and proc.alive for proc in procs)
        sups = sum(child.type == "supervisor" for child in self.order)
        return [len(self.order), active, sups, len(self.order) - sups]

    def processes(self) -> list[Proc]:
        procs = [child.proc for child in self.order]
        return [proc for proc in procs if isinstance(proc, Proc)]


@attrs.define(eq=False)
class Dynamic:
    """A child made from the template."""

    args: Json
    proc: Proc | Restarting

    @property
    def label(self) -> str:
        return str(self.args["label"])


class SimpleSup(Sup):
    """A ``simple_one_for_one`` supervisor."""

    simple = True
    template: Child

    def __init__(self, world: World, path: str, config: Json) -> None:
        super().__init__(world, path, config)
        self.dynamic: dict[str, Dynamic] = {}

    def init(self) -> None:
        check_sup(self.config)
        self.template = Child(self.config["children"][0])

    def terminate_all(self) -> None:
        unexpected: dict[str, tuple[Json, int]] = {}
        for proc in self.processes():
            reason = self.stop_one(self.template, proc)
            if reason is not None:
                _, number = unexpected.get(repr(reason), (reason, 0))
                unexpected[repr(reason)] = reason, number + 1
        for reason, number in unexpected.values():
            report = ["shutdown_error", self.path, self.template.id, reason, number]
            self.world.reports.append(report)
        self.dynamic = {}

    # Ends and restarts.

    def child_ended(self, proc: Proc, reason: Json) -> None:
        child = next((c for c in self.dynamic.values() if c.proc is proc), None)
        if child is None:
            return
        if self.is_restarted(self.template, child.label, reason):
            self.restart(child)
            return
        del self.dynamic[child.label]
        if not self.template.significant:
            return
        if self.auto_shutdown == "any_significant" or not self.dynamic:
            self.give_up()

    def try_again(self, who: str) -> None:
        child = self.dynamic.get(who)
        if child is not None and isinstance(child.proc, Restarting):
            self.restart(child)

    def restart(self, child: Dynamic) -> None:
        # A restarted child is the newest one.
        del self.dynamic[child.label]
        if not self.admit_restart(child.label):
            self.give_up()
            return
        proc: Proc | Restarting | None
        try:
            proc = self.start_process(self.template, child.label, child.args)
        except StartError as error:
            self.report("start_error", child.label, error.reason)
            proc = Restarting(_old(child.proc))
            self.world.send(self, ("again", child.label))
        # OTP keeps a child that is not needed any more, and crashes over it.
        if proc is not None:
            self.dynamic[child.label] = Dynamic(child.args, proc)

    # Calls.

    def call(self, call: Json) -> Json:
        match call:
            case {"op": "which_children"}:
                return self.which()
            case {"op": "count_children"}:
                return self.counts()
            case {"op": "start_child", "args": args}:
                return self.start_child(args)
            case {"op": "terminate_child", "label": label}:
                return self.terminate_child(label)
            case {"op": "get_childspec", "id": id_}:
                if id_ != self.template.id:
                    return ["error", "not_found"]
                return self.template.encoded()
            case {"op": "terminate_child" | "restart_child" | "delete_child"}:
                return ["error", "simple_one_for_one"]
            case _:
                raise AssertionError(call)

    def start_child(self, args: Json) -> Json:
        try:
            proc = self.start_process(self.template, args["label"], args)
        except StartError as error:
            return ["error", error.reason]
        if proc is None:
            return ["ok", "undefined"]
        self.dynamic[args["label"]] = Dynamic(args, proc)
        return "ok"

    def terminate_child(self, label: str) -> Json:
        child = self.dynamic.get(label)
        if child is None:
            # The call names a process; a dead one is as good as terminated.
            proc = self.world.latest.get(join(self.path, label))
            return "ok" if proc and not proc.alive else ["error", "not_found"]
        if isinstance(child.proc, Proc):
            unexpected = self.stop_one(self.template, child.proc)
            if unexpected is not None:
                self.report("shutdown_error", label, unexpected)
        del self.dynamic[label]
        return "ok"

    def which(self) -> Json:
        return sorted(
            [
                "?" if isinstance(child.proc, Restarting) else child.label,
                _state(child.proc),
                self.template.type,
            ]
            for child in self.dynamic.values()
        )

    def counts(self) -> Json:
        number, active = len(self.dynamic), len(self.processes())
        is_sup = self.template.type == "supervisor"
        return [1, active, number, 0] if is_sup else [1, active, 0, number]

    def processes(self) -> list[Proc]:
        procs = [child.proc for child in self.dynamic.values()]
        return [proc for proc in procs if isinstance(proc, Proc)]


def _old(proc: Proc | Restarting | None) -> Proc | None:
    return proc.old if isinstance(proc, Restarting) else proc


def _state(proc: Proc | Restarting | None) -> str:
    if isinstance(proc, Restarting):
        return "restarting"
    return "undefined" if proc is None else "running"


class World:
    """All processes and mailboxes of one scenario, and who takes its steps."""

    def __init__(self, scenario: Json) -> None:
        self.scenario = scenario
        self.events: list[Json] = []
        self.reports: list[Json] = []
        self.now = 0.0
        self.latest: dict[str, Proc] = {}
        """The process that was started last at each path."""
        self.root_exit: Json = None
        self._attempts = Counter[str]()
        self._have_mail = deque[Sup]()
        self._held: Sup | None = None
        self._during: list[Json] | None = None
        """Calls to be made when a gated init is reached."""
        self._slots: list[list[Json]] = []

    # Processes.

    def start(
        self, parent: Sup | None, path: str, child: Child, args: Json
    ) -> Proc | None:
        """Start a process; return None if its init said ``ignore``."""
        self._attempts[path] += 1
        attempt = self._attempts[path]
        spec = {**child.spec, **args}
        sup = make_sup(self, path, spec["sup"]) if "sup" in spec else None
        if sup is not None:
            self.events.append(["sup_init", path, attempt])
        inits = spec.get("init") or ["ok"]
        outcome: Json = inits[min(attempt, len(inits)) - 1]
        if "gate" in outcome:
            outcome = outcome["gate"]
            self._at_gate(parent, path)
        if outcome == "ignore":
            self.events.append(["start_ignore", path, attempt])
            return None
        try:
            _fail(outcome)
            if sup is not None:
                sup.init()
        except StartError as error:
            self.events.append(["start_error", path, attempt, error.reason])
            raise
        proc = Proc(path, attempt, parent, spec.get("on_shutdown", "ok"), sup)
        if sup is not None:
            sup.proc = proc
        self.latest[path] = proc
        self.events.append(["start", path, attempt])
        return proc

    def _at_gate(self, parent: Sup | None, path: str) -> None:
        if self._during is None or parent is None:
            return
        calls, self._during = self._during, None
        for call in calls:
            slot: list[Json] = [None]
            self._slots.append(slot)
            if call["sup"] != parent.path:
                slot[0] = "not_blocked"
            elif not self.alive(call["sup"]):
                slot[0] = "noproc"
            else:
                self.send(parent, ("call", call, slot))

    def stop_process(self, proc: Proc, shutdown: Json, parent: Sup) -> Json:
        """Stop a process for its supervisor; return its exit reason."""
        if not proc.alive:
            # It has ended by itself; the notice of that is not read any more.
            for message in parent.mail:
                if message[0] == "EXIT" and message[1] is proc:
                    parent.mail.remove(message)
                    return message[2]
            raise AssertionError(f"{proc.path} died without notice")
        if shutdown == "brutal_kill":
            reason = "killed"
        elif proc.sup is not None:
            reason = "shutdown"
        else:
            reason = ENDS_ON_SHUTDOWN[proc.on_shutdown]
        if proc.sup is not None and shutdown == "brutal_kill":
            self._kill_sup(proc, proc.sup)
            return reason
        if proc.sup is not None:
            proc.sup.terminate_all()
            self._refuse_mail(proc.sup, reason)
        self._ended(proc, reason)
        return reason

    def _ended(self, proc: Proc, reason: Json) -> None:
        proc.alive = False
        self.events.append(["exit", proc.path, proc.attempt, reason])

    def _kill_sup(self, proc: Proc, sup: Sup) -> None:
        """Kill a supervisor: workers below go with it, supervisors stop in order."""
        self._ended(proc, "killed")
        self._refuse_mail(sup, "killed")
        for below in sup.processes():
            if below.alive and below.sup is not None:
                below.sup.terminate_all()
                self._refuse_mail(below.sup, "killed")
            if below.alive:
                self._ended(below, "killed")

    def sup_exit(self, sup: Sup, reason: Json) -> None:
        """End a supervisor by its own decision."""
        sup.terminate_all()
        assert sup.proc is not None
        self._ended(sup.proc, reason)
        self._refuse_mail(sup, reason)
        if sup.proc.parent is None:
            self.root_exit = reason
        else:
            self.send(sup.proc.parent, ("EXIT", sup.proc, reason))

    def _refuse_mail(self, sup: Sup, reason: Json) -> None:
        for message in sup.mail:
            if message[0] == "call":
                message[2][0] = ["down", reason]
        sup.mail.clear()

    def _exit(self, proc: Proc, reason: Json) -> None:
        """End a process from outside of the tree."""
        reason = "killed" if reason == "kill" else reason
        if proc.sup is None:
            self._ended(proc, reason)
        else:
            self._kill_sup(proc, proc.sup)
        if proc.parent is None:
            self.root_exit = reason
        else:
            self.send(proc.parent, ("EXIT", proc, reason))

    def alive(self, path: str) -> bool:
        """Say whether there is a running process at *path*."""
        return path in self.latest and self.latest[path].alive

    def _sup(self, path: str) -> Sup:
        sup = self.latest[path].sup
        assert sup is not None
        return sup

    # Mail.

    def send(self, sup: Sup, message: Json) -> None:
        """Put a message into a supervisor's mailbox."""
        sup.mail.append(message)
        self._have_mail.append(sup)

    def _settle(self) -> None:
        """Let all mail be handled, and all that comes of it."""
        while self._have_mail:
            sup = self._have_mail.popleft()
            if sup is self._held:
                continue
            if sup.mail and sup.proc and sup.proc.alive:
                sup.handle(sup.mail.popleft())

    # The scenario.

    def play(self) -> Json:
        """Return the trace."""
        root = Child({"id": "", "type": "supervisor", "sup": self.scenario["sup"]})
        result: Json = "ok"
        try:
            self.start(None, "", root, {})
        except StartError as error:
            # A root that failed has never been a process.
            self.events.pop()
            result = ["error", error.reason]
        start = {**self._observe(), "result": result}
        steps = list[Json]()
        for step in self.scenario.get("steps", []):
            if not self.alive(""):
                break
            result = self._step(step)
            steps.append({**self._observe(), "result": result})
        ended, stop = self.root_exit, None
        if self.alive(""):
            self._stop()
            stop = self._observe()
        return {"start": start, "steps": steps, "exit": ended, "stop": stop}

    def _observe(self) -> Json:
        seen: Json = {"events": self.events, "reports": self.reports, "state": {}}
        self.events, self.reports = [], []
        if self.alive(""):
            self._look_at(self._sup(""), seen["state"])
        return seen

    def _look_at(self, sup: Sup, seen: Json) -> None:
        seen[sup.path] = {"children": sup.which(), "counts": sup.counts()}
        for proc in sup.processes():
            if proc.sup is not None and proc.alive:
                self._look_at(proc.sup, seen)

    def _step(self, step: Json) -> Json:
        match step["op"]:
            case "exit" if step.get("during"):
                return self._exit_during(step)
            case "exit":
                return self._exit_step(step)
            case "batch":
                return self._batch(step)
            case "sleep":
                self.now += step["ms"] / 1000
                return "ok"
            case "stop":
                self._stop()
                self.root_exit = "shutdown"
                return "ok"
            case _ if not self.alive(step["sup"]):
                return "noproc"
            case _:
                slot: list[Json] = [None]
                self.send(self._sup(step["sup"]), ("call", step, slot))
                self._settle()
                return slot[0]

    def _exit_step(self, step: Json) -> Json:
        if not self.alive(step["child"]):
            return "not_running"
        self._exit(self.latest[step["child"]], step["reason"])
        self._settle()
        return "ok"

    def _exit_during(self, step: Json) -> Json:
        self._during, self._slots = step["during"], []
        ended = self._exit_step(step)
        reached, self._during = self._during is None, None
        if ended != "ok":
            return ended
        return [slot[0] for slot in self._slots] if reached else "no_gate"

    def _batch(self, step: Json) -> Json:
        if not self.alive(step["sup"]):
            return "noproc"
        sup = self._held = self._sup(step["sup"])
        slots = list[list[Json]]()
        for item in step["items"]:
            slot: list[Json] = [None]
            slots.append(slot)
            if item["op"] == "exit":
                slot[0] = self._exit_step(item)
            else:
                self.send(sup, ("call", item, slot))
        self._held = None
        self._have_mail.extend([sup] * len(sup.mail))
        self._settle()
        return [slot[0] for slot in slots]

    def _stop(self) -> None:
        self._sup("").terminate_all()
        self._ended(self.latest[""], "shutdown")


def _fail(outcome: Json) -> None:
    match outcome:
        case "ok":
            return
        case {"raise": tag}:
            raise StartError(["raised", tag])
        case {"fail": reason} | {"exit": reason}:
            raise StartError(reason)
        case _:
            raise AssertionError(outcome)
