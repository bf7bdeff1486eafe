"""Scenarios by chance or by Hypothesis, for the library and the model side by side.

What real OTP leaves open is not drawn, or is marked so that it is compared
without its order (`Manner` says how):

* a killed supervisor, or one under ``brutal_kill``: its children end while its
  parent goes on already, so such steps are ``"cmp": "multiset"``;
* the edge of the period: OTP counts whole seconds. The library and the model do
  not, and agree to the edge, but only if stopping children takes no time;
* ``hang`` under ``infinity`` never ends; ``shutdown: 0`` for anything but ``ok``,
  or for a supervisor, is a race between the request and the kill;
* an intensity that is no whole number, a significance that is no bool, a period
  that is no whole number: not for a statically typed library to refuse;
* dynamic supervisors below dynamic ones: both stop their children in parallel,
  and a trace is sorted by the outer label only;
* a label for a second child: OTP addresses a process, the library an id.
"""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
from hypothesis import strategies as st

Json: TypeAlias = Any

STEPS_MAX = 25
CHILDREN = [2, 3, 4, 2, 3, 1, 0]
DEPTH_MAX = 2
RESTARTS = ["permanent", "transient", "temporary"]
STATIC = ["one_for_one", "one_for_all", "rest_for_one"]
AUTO = ["never", "any_significant", "all_significant"]
CLEAN_ENDS = ["normal", "shutdown", ["shutdown", "t"]]
CALLS = [
    "terminate_child",
    "restart_child",
    "start_child",
    "delete_child",
    "which_children",
    "count_children",
    "get_childspec",
]
CRASH = ["crash", "x"]
INTENSITIES = [3, 9, 5, 30, 9, 2, 30, 1, 0]
FEW = [1, 2, 3, 1, 2, 0, 9]
SLEEPS_MS = [1000, 500, 2000, 250, 1250, 5000]
FAILURES = [
    {"fail": ["crash", "i"]},
    {"fail": "normal"},
    {"fail": "shutdown"},
    {"exit": ["shutdown", "i"]},
    {"raise": "boom"},
]


class Manner(enum.Enum):
    """What a scenario is free to do, given what it does not do."""

    ORDERED = "nothing is killed that has children; every order is compared"
    TIMED = "time passes between steps only; short periods, met to the edge"
    KILLED = "supervisors are killed; no order is compared"


@st.composite
def scenarios(draw: st.DrawFn) -> Json:
    """Draw a scenario without its trace."""
    return written(lambda values: draw(st.sampled_from(values)))


def written(pick: Callable[[Sequence[Any]], Any]) -> Json:
    """Return a scenario without its trace; *pick* makes all the choices in it."""
    return _Author(pick, pick([*Manner])).scenario()


@attrs.define
class _Author:
    """The one who writes a scenario, and knows what there may be by now."""

    pick: Callable[[Sequence[Any]], Any]
    manner: Manner
    sups: dict[str, Json] = attrs.field(factory=dict[str, Json])
    """Each supervisor that was ever mentioned, by its path."""
    children: dict[str, list[Json]] = attrs.field(factory=dict[str, list[Json]])
    """Likewise its children; of a dynamic one, with the label as the id."""
    names: int = 0

    def scenario(self) -> Json:
        # In a trace the start is compared in order. So what may be killed
        # when a start is rolled back comes later, in a step.
        root = self.sup(0, empty=self.manner is Manner.KILLED)
        self.know("", root)
        steps = [self.call(sup, "start_child") for sup in self.to_be_filled()]
        more = self.pick(range(1, STEPS_MAX - len(steps) + 1))
        steps += [self.step() for _ in range(more)]
        if self.manner is Manner.KILLED:
            steps.append({"op": "stop"})
            for step in steps:
                step["cmp"] = "multiset"
        return {"sup": root, "steps": steps}

    def to_be_filled(self) -> list[str]:
        """Return the supervisors that are of little use as they are."""
        empty = [sup for sup in self.sups if not self.children[sup]]
        return sorted(empty[:2] * 2)

    def know(self, path: str, config: Json) -> None:
        self.sups[path] = config
        dynamic = config.get("strategy") == "simple_one_for_one"
        self.children.setdefault(path, [])
        if not dynamic:
            for spec in config["children"]:
                self.know_child(path, spec)

    def know_child(self, sup: str, spec: Json) -> None:
        self.children[sup].append(spec)
        if "sup" in spec:
            self.know(_join(sup, spec["id"]), spec["sup"])

    def is_below_dynamic(self, path: str) -> bool:
        parts = path.split("/")
        above = ["", *("/".join(parts[:n]) for n in range(1, len(parts)))]
        configs = [self.sups[each] for each in above]
        return any(each.get("strategy") == "simple_one_for_one" for each in configs)

    # Choices.

    def one_in(self, number: int) -> bool:
        # What is rare is the larger number, so that shrinking removes it.
        return bool(self.pick(range(number)) == number - 1)

    def name(self, letter: str) -> str:
        self.names += 1
        return f"{letter}{self.names}"

    # Specs.

    def sup(self, depth: int, *, empty: bool = False, static: bool = False) -> Json:
        made: Json = {}
        dynamic = not empty and not static and self.one_in(4)
        if dynamic:
            made["strategy"] = "simple_one_for_one"
        elif not self.one_in(8):
            made["strategy"] = self.pick(STATIC)
        if not self.one_in(8):
            made["intensity"] = self.pick(
                FEW if self.manner is Manner.TIMED else INTENSITIES
            )
        if self.manner is not Manner.TIMED:
            made["period"] = 3600
        elif not self.one_in(4):
            made["period"] = self.pick([2, 1])
        if self.one_in(3):
            made["auto_shutdown"] = self.pick(AUTO)
        auto = made.get("auto_shutdown", "never")
        number = 1 if dynamic else 0 if empty else self.pick(CHILDREN)
        below = {"static": static or dynamic}
        made["children"] = [self.spec(depth + 1, auto, **below) for _ in range(number)]
        if self.one_in(40):
            self.spoil_sup(made)
        return made

    def spoil_sup(self, made: Json) -> None:
        match self.pick(["intensity", "period", "auto_shutdown", "strategy", "id"]):
            case "intensity":
                made["intensity"] = self.pick([-1, "many"])
            case "period":
                made["period"] = self.pick([0, -5, "long"])
            case "auto_shutdown":
                made["auto_shutdown"] = "sometimes"
            case "strategy" if made.get("strategy") != "simple_one_for_one":
                made["strategy"] = "one_for_two"
            case _:
                made["children"] += made["children"][:1]

    def spec(self, depth: int, auto: str, *, static: bool) -> Json:
        is_sup = depth <= DEPTH_MAX and self.one_in(3)
        made: Json = {"id": self.name("s" if is_sup else "c")}
        if not self.one_in(8):
            made["restart"] = self.pick(RESTARTS)
        if auto != "never" and made.get("restart", "permanent") != "permanent":
            made["significant"] = self.pick([True, False])
        if self.one_in(3):
            made["init"] = self.inits()
        if is_sup:
            made["type"] = "supervisor"
            made["sup"] = self.sup(depth, static=static)
            limits = ["infinity", 5000]
            if self.manner is Manner.KILLED:
                limits.append("brutal_kill")
            if self.one_in(4):
                made["shutdown"] = self.pick(limits)
        else:
            self.how_it_stops(made)
        if self.one_in(40):
            self.spoil_spec(made)
        return made

    def spoil_spec(self, made: Json) -> None:
        match self.pick(["restart", "shutdown", "type", "significant"]):
            case "restart":
                made["restart"] = "always"
            case "shutdown":
                made["shutdown"] = self.pick([-1, "soon"])
            case "significant":
                made["significant"] = True
            case _:
                made["type"] = "manager"

    def how_it_stops(self, made: Json) -> None:
        manner = self.on_shutdown() if self.one_in(3) else "ok"
        if manner != "ok":
            made["on_shutdown"] = manner
        limits: list[Json] = ["brutal_kill", 1000, "brutal_kill", "infinity", 0]
        if manner != "ok":
            limits.remove(0)
        if manner == "hang":
            limits = [12, "brutal_kill"]
        if manner == "hang" or self.one_in(3):
            made["shutdown"] = self.pick(limits)

    def on_shutdown(self) -> str:
        manners = ["clean", "normal", "crash"]
        if self.manner is not Manner.TIMED:
            manners += ["slow", "hang"]
        return str(self.pick(manners))

    def inits(self) -> list[Json]:
        if self.one_in(2):
            gates = [{"gate": self.pick(FAILURES)}, self.init()]
            return ["ok", *gates * self.pick([1, 2, 3])]
        # The first start of most children succeeds, or there is little to see.
        first: list[Json] = [] if self.one_in(8) else ["ok"]
        return first + [self.init() for _ in range(self.pick(range(1 - len(first), 5)))]

    def init(self) -> Json:
        entry = "ok"
        if self.one_in(2):
            entry = "ignore" if self.one_in(4) else self.pick(FAILURES)
        return {"gate": entry} if self.one_in(3) else entry

    # Steps.

    def step(self) -> Json:
        sup = self.pick([*self.sups])
        match self.pick(range(20)):
            case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                return self.exit(sup)
            case 7 | 8 | 9:
                return self.exit_during()
            case 10 | 11 | 12:
                return self.batch(sup)
            case 13 | 14 | 15 | 16 if self.manner is Manner.TIMED:
                return {"op": "sleep", "ms": self.pick(SLEEPS_MS)}
            case 17 if self.one_in(40):
                return {"op": "stop"}
            case _:
                return self.call(sup)

    def exit(self, sup: str) -> Json:
        if self.manner is Manner.KILLED and self.one_in(4):
            return {"op": "exit", "child": sup, "reason": "kill"}
        workers = [worker for each in self.sups for worker in self.workers(each)]
        return self.end_of(self.pick(workers)) if workers else self.call(sup)

    def batch(self, sup: str) -> Json:
        child = self.pick([*self.workers(sup), _join(sup, "nobody")])
        items: list[Json] = [self.end_of(child)]
        for _ in range(self.pick(range(1, 5))):
            if self.one_in(2):
                child = self.pick([*self.workers(sup), _join(sup, "nobody")])
                items.append(self.end_of(child))
            else:
                items.append(self.call_about(child, sup))
        # Mostly the end of a child comes before the calls about it.
        first = self.pick(range(len(items))) if self.one_in(4) else 0
        return {"op": "batch", "sup": sup, "items": items[first:] + items[:first]}

    def end_of(self, worker: str) -> Json:
        reason = self.pick([CRASH, "kill", CRASH, *CLEAN_ENDS])
        return {"op": "exit", "child": worker, "reason": reason}

    def workers(self, sup: str) -> list[str]:
        known = self.children[sup]
        return [_join(sup, each["id"]) for each in known if "sup" not in each]

    def exit_during(self) -> Json:
        # To be reached, a gate must be in the way of a restart.
        gated = [
            _join(sup, spec["id"])
            for sup in self.sups
            for spec in self.children[sup]
            if any("gate" in entry for entry in spec.get("init", []))
        ]
        if self.manner is not Manner.KILLED:
            gated = [path for path in gated if path not in self.sups]
        child = self.pick(gated) if gated else _join(self.pick([*self.sups]), "nobody")
        parent = child.rpartition("/")[0]
        made = self.end_of(child)
        if child in self.sups:
            made["reason"] = "kill"
        made["during"] = [
            self.call(self.pick([*self.sups]))
            if self.one_in(8)
            else self.call_about(child, parent)
            for _ in range(self.pick(range(1, 5)))
        ]
        return made

    def call_about(self, child: str, sup: str) -> Json:
        """Return a call to *sup* that is likely to be about *child*."""
        made = self.call(sup)
        for key in ("id", "label"):
            if key in made and made[key] != "nobody" and self.one_in(2):
                made[key] = child.rpartition("/")[2]
        return made

    def call(self, sup: str, op: str | None = None) -> Json:
        if self.sups[sup].get("strategy") == "simple_one_for_one":
            return self.dynamic_call(sup, op)
        known = [each["id"] for each in self.children[sup]]
        op = op or self.pick(CALLS)
        made: Json = {"op": op, "sup": sup}
        if op == "start_child":
            made["spec"] = self.new_spec(sup)
        elif op not in ("which_children", "count_children"):
            made["id"] = self.pick([*known, "nobody"])
        return made

    def new_spec(self, sup: str) -> Json:
        if self.children[sup] and self.one_in(3):
            # Of the same kind as before: a path stands for one thing.
            spec = dict(self.pick(self.children[sup]))
            if "significant" not in spec:
                spec["restart"] = self.pick(RESTARTS)
            return spec
        depth = 1 + len(sup.split("/")) if sup else 1
        auto = self.sups[sup].get("auto_shutdown", "never")
        spec = self.spec(depth, auto, static=self.is_below_dynamic(sup))
        self.know_child(sup, spec)
        return spec

    def dynamic_call(self, sup: str, op: str | None) -> Json:
        made: Json = {"op": op or self.pick(CALLS), "sup": sup}
        template = self.sups[sup]["children"][0]
        labels = [each["id"] for each in self.children[sup]]
        match made["op"]:
            case "start_child":
                made["args"] = self.new_args(template)
                changed = {**template, **made["args"], "id": made["args"]["label"]}
                self.know_child(sup, changed)
            case "terminate_child" if not self.one_in(5):
                made["label"] = self.pick([*labels, "nobody"])
            case "which_children" | "count_children":
                pass
            case _:
                made["id"] = self.pick([template["id"], "nobody"])
        return made

    def new_args(self, template: Json) -> Json:
        made: Json = {"label": self.name("d")}
        if self.one_in(3):
            made["init"] = self.inits()
        if "sup" not in template and self.one_in(4):
            manner = self.on_shutdown()
            limit = template.get("shutdown", 5000)
            if limit != 0 and (manner != "hang" or limit in (12, "brutal_kill")):
                made["on_shutdown"] = manner
        return made


def _join(sup: str, child: str) -> str:
    return f"{sup}/{child}" if sup else child
