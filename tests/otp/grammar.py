"""What the player knows of scenarios; to name what is beyond it."""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

Json: TypeAlias = Any

SUP = {"strategy", "intensity", "period", "auto_shutdown", "children"}
CHILD = {
    "id",
    "restart",
    "shutdown",
    "significant",
    "type",
    "sup",
    "init",
    "on_shutdown",
}
ARGS = {"label", "init", "on_shutdown"}
ON_SHUTDOWN = {"ok", "clean", "slow", "normal", "crash", "hang"}
STEPS = {
    "exit": {"child", "reason", "during"},
    "batch": {"sup", "items"},
    "sleep": {"ms"},
    "stop": set[str](),
    "start_child": {"sup", "spec", "args"},
    "terminate_child": {"sup", "id", "label"},
    "restart_child": {"sup", "id"},
    "delete_child": {"sup", "id"},
    "get_childspec": {"sup", "id", "label"},
    "which_children": {"sup"},
    "count_children": {"sup"},
}


def unknown(scenario: Json) -> Iterator[str]:
    """Name what the player does not know, and where it stands."""
    yield from _sup(scenario.get("sup"), "sup")
    for number, step in enumerate(scenario.get("steps", []), 1):
        yield from _step(step, f"step {number}")


def _sup(sup: Json, place: str) -> Iterator[str]:
    yield from _keys(sup, SUP, place)
    if isinstance(sup, dict):
        for number, child in enumerate(sup.get("children", []), 1):
            yield from _child(child, f"{place}, child {number}")


def _child(child: Json, place: str) -> Iterator[str]:
    yield from _keys(child, CHILD, place)
    if isinstance(child, dict):
        yield from _script(child, place)
        if "sup" in child:
            yield from _sup(child["sup"], f"{place}, sup")


def _script(child: Json, place: str) -> Iterator[str]:
    for entry in child.get("init", []):
        inner = entry.get("gate", entry) if isinstance(entry, dict) else entry
        match inner:
            case "ok" | "ignore" | {"fail": _} | {"exit": _} | {"raise": _}:
                pass
            case _:
                yield f"{place}: init {entry!r}"
    manner = child.get("on_shutdown", "ok")
    if manner not in ON_SHUTDOWN:
        yield f"{place}: on_shutdown {manner!r}"


def _step(step: Json, place: str) -> Iterator[str]:
    op = step.get("op") if isinstance(step, dict) else step
    if op not in STEPS:
        yield f"{place}: op {op!r}"
        return
    yield from _keys(step, STEPS[op] | {"op", "cmp"}, f"{place} ({op})")
    if step.get("cmp", "multiset") != "multiset":
        yield f"{place}: cmp {step['cmp']!r}"
    if "spec" in step:
        yield from _child(step["spec"], f"{place}, spec")
    if "args" in step:
        yield from _keys(step["args"], ARGS, f"{place}, args")
        yield from _script(step["args"], f"{place}, args")
    for inner in ("items", "during"):
        for number, item in enumerate(step.get(inner, []), 1):
            yield from _step(item, f"{place}, {inner} {number}")


def _keys(value: Json, known: set[str], place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is no object"
        return
    for key in value.keys() - known:
        yield f"{place}: key {key!r}"
