"""A trace with everything that OTP leaves unordered put into a fixed order.

Children of one ``simple_one_for_one`` supervisor are stopped in parallel, so
their exits, their reports and their listing are sorted by label; in a step
marked ``"cmp": "multiset"`` all events and reports are sorted.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Json: TypeAlias = Any
Parts: TypeAlias = tuple[str, ...]
Pattern: TypeAlias = tuple[str | None, ...]


def normalise(scenario: Json, trace: Json) -> Json:
    """Return *trace* in its normal form; the scenario tells what is dynamic."""
    patterns = [*_dynamic_supervisors(scenario)]
    steps = scenario.get("steps", [])
    return {
        "start": _observation(patterns, {}, trace["start"]),
        "steps": [
            _observation(patterns, step, seen)
            for step, seen in zip(steps, trace["steps"], strict=False)
        ],
        "exit": trace["exit"],
        "stop": trace["stop"] and _observation(patterns, {}, trace["stop"]),
    }


def _dynamic_supervisors(scenario: Json) -> Iterator[Pattern]:
    yield from _patterns(scenario["sup"], ())
    for step in _all_steps(scenario.get("steps", [])):
        spec = step.get("spec", {})
        if "sup" in spec:
            yield from _patterns(spec["sup"], (*_parts(step["sup"]), spec["id"]))


def _patterns(config: Json, path: Pattern) -> Iterator[Pattern]:
    dynamic = config.get("strategy") == "simple_one_for_one"
    if dynamic:
        yield path
    for child in config.get("children", []):
        if "sup" in child:
            # Any label may stand for the id of a template.
            yield from _patterns(
                child["sup"], (*path, None if dynamic else child["id"])
            )


def _all_steps(steps: Iterable[Json]) -> Iterator[Json]:
    for step in steps:
        yield step
        yield from _all_steps(step.get("items", []))
        yield from _all_steps(step.get("during", []))


def _parts(path: str) -> Parts:
    return tuple(path.split("/")) if path else ()


def _is_dynamic(patterns: list[Pattern], path: Parts) -> bool:
    return any(
        len(pattern) == len(path)
        and all(a in (None, b) for a, b in zip(pattern, path, strict=True))
        for pattern in patterns
    )


def _place(patterns: list[Pattern], path: str) -> tuple[Parts, Parts] | None:
    """Split *path* behind its outermost dynamic supervisor, if it is below one."""
    parts = _parts(path)
    for length in range(len(parts)):
        if _is_dynamic(patterns, parts[:length]):
            return parts[:length], parts[length:]
    return None


def _observation(patterns: list[Pattern], step: Json, seen: Json) -> Json:
    events = _sorted_runs(seen["events"], lambda event: _exit_key(patterns, event))
    reports = _sorted_runs(seen["reports"], lambda line: _report_key(patterns, line))
    if step.get("cmp") == "multiset":
        events.sort(key=json.dumps)
        reports.sort(key=json.dumps)
    normal = {
        "events": events,
        "reports": reports,
        "state": {
            path: {
                "children": _listing(patterns, path, state["children"]),
                "counts": state["counts"],
            }
            for path, state in seen["state"].items()
        },
    }
    if "result" in seen:
        normal["result"] = _result(patterns, step, seen["result"])
    return normal


def _sorted_runs(
    items: list[Json], key: Callable[[Json], tuple[Json, str] | None]
) -> list[Json]:
    """Sort stably each run of items that belong to one parallel shutdown."""
    keyed = [(key(item) or (None, ""), item) for item in items]
    runs = itertools.groupby(keyed, lambda pair: pair[0][0])
    # Outside of such runs all sort keys are equal, and nothing moves.
    return [
        item for _, run in runs for _, item in sorted(run, key=lambda pair: pair[0][1])
    ]


def _exit_key(patterns: list[Pattern], event: Json) -> tuple[Json, str] | None:
    place = _place(patterns, event[1]) if event[0] == "exit" else None
    return None if place is None else (place[0], place[1][0])


def _report_key(patterns: list[Pattern], report: Json) -> tuple[Json, str] | None:
    if len(report) == 5:
        return ("aggregated", report[1]), json.dumps(report)
    place = _place(patterns, report[1]) if report[0] == "shutdown_error" else None
    return None if place is None else (place[0], place[1][0])


def _result(patterns: list[Pattern], step: Json, result: Json) -> Json:
    inner = step.get("items") or step.get("during")
    if inner and isinstance(result, list):
        pairs = zip(inner, result, strict=False)
        return [_result(patterns, item, one) for item, one in pairs]
    if step.get("op") == "which_children" and isinstance(result, list):
        return _listing(patterns, step["sup"], result)
    return result


def _listing(patterns: list[Pattern], path: str, children: Json) -> Json:
    return sorted(children) if _is_dynamic(patterns, _parts(path)) else children
