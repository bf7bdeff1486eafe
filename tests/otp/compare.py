"""Whether two normal traces are equal, and where they first differ."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

Json: TypeAlias = Any


def first_difference(
    scenario: Json, wanted: Json, got: Json, *, reports: bool = True
) -> str | None:
    """Say where *got* first leaves *wanted*; None if they are equal."""
    labels = ["start", *(json.dumps(step) for step in scenario.get("steps", []))]
    wanted_looks = [wanted["start"], *wanted["steps"]]
    got_looks = [got["start"], *got["steps"]]
    for label, want, have in zip(labels, wanted_looks, got_looks, strict=False):
        found = _look(want, have, reports=reports)
        if found is not None:
            return f"{label}: {found}"
    if wanted["exit"] != got["exit"]:
        return _unequal("exit", wanted["exit"], got["exit"])
    if len(wanted_looks) != len(got_looks):
        return _unequal("steps taken", len(wanted_looks), len(got_looks))
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
    return f"{what} {json.dumps(got)}, not {json.dumps(wanted)}"
