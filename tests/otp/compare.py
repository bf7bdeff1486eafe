"""Whether two normal traces are equal, and where they first differ."""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

import json
from typing import Any, TypeAlias

Json: TypeAlias = Any

STEP_CHARS_MAX = 200


def first_difference(
    scenario: Json, wanted: Json, got: Json, *, reports: bool = True
) -> str | None:
    """Say where *got* first leaves *wanted*; None if they are equal."""
    labels = ["start"]
    for number, step in enumerate(scenario.get("steps", []), 1):
        labels.append(f"step {number} {_shortened(json.dumps(step))}")
    wanted_looks = [wanted["start"], *wanted["steps"]]
    got_looks = [got["start"], *got["steps"]]
    for label, want, have in zip(labels, wanted_looks, got_looks, strict=False):
        found = _look(want, have, reports=reports)
        if found is not None:
            return f"{label}: {found}"
    if wanted["exit"] != got["exit"]:
        return _unequal("exit", wanted["exit"], got["exit"])
    if len(wanted_looks) != len(got_looks):
        return _unequal("steps taken", len(wanted_looks) - 1, len(got_looks) - 1)
    found = _look(wanted["stop"], got["stop"], reports=reports)
    return None if found is None else f"stop: {found}"


def _look(wanted: Json, got: Json, *, reports: bool) -> str | None:
    if wanted is None or got is None:
        return None if wanted == got else _unequal("seen", wanted, got)
    for part in ("events", "result", "state", "reports"):
        if part == "reports" and not reports:
            continue
        if wanted.get(part) != got.get(part):
            return _unequal(part, wanted.get(part), got.get(part))
    return None


def _unequal(what: str, wanted: Json, got: Json) -> str:
    """Say what differs, as far inside as it can be named."""
    match wanted, got:
        case dict(), dict():
            for key in sorted(wanted.keys() | got.keys()):
                if wanted.get(key) != got.get(key):
                    return _unequal(f"{what}[{key!r}]", wanted.get(key), got.get(key))
        case list(), list() if _are_rows(wanted) and _are_rows(got):
            for place, (want, have) in enumerate(zip(wanted, got, strict=False)):
                if want != have:
                    return _unequal(f"{what}[{place}]", want, have)
            common = min(len(wanted), len(got))
            if len(wanted) > common:
                missing = json.dumps(wanted[common:])
                return f"{what} ends before {missing}"
            return f"{what} goes on with {json.dumps(got[common:])}"
        case _:
            pass
    return f"{what} is {json.dumps(got)}, not {json.dumps(wanted)}"


def _are_rows(value: list[Json]) -> bool:
    return all(isinstance(each, list) for each in value)


def _shortened(text: str) -> str:
    if len(text) <= STEP_CHARS_MAX:
        return text
    return text[: STEP_CHARS_MAX - 1] + "…"
