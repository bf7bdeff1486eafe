"""How `duck doctor` judges what a daemon says of its parts: tree, providers, money."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from duckservice.cli.budget import percent
from duckservice.cli.doctor.finding import Finding
from duckservice.cli.session import Session
from duckservice.cli.text import elapsed, plural

_BAD: Final = ("request.exception", "restart", "breaker", "store", "budget")
_SILENCE: Final = 0.5
"""Seconds after which a stream of what is past is taken to have told it all."""
_EVENTS_MAX: Final = 10_000
_SHOWN: Final = 3


def of_tree(root: Mapping[str, Any]) -> Finding:
    """Judge the tree: what was restarted, and what does not run."""
    parts = list(_parts(root))
    down = [f"{p['path']} ({p['state']})" for p in parts if p["state"] != "running"]
    again = [
        f"{p['path']} {plural(p['restarts'], 'time')}"
        for p in sorted(parts, key=lambda p: -int(p["restarts"]))
        if p["restarts"]
    ]
    if not down and not again:
        return Finding(
            "tree", "ok", f"{plural(len(parts), 'part')} run, none restarted"
        )
    told = [
        *([f"not running: {_few(down)}"] if down else []),
        *([f"restarted: {_few(again)}"] if again else []),
    ]
    advice = "`duck tree` shows their last crashes"
    return Finding("tree", "warning", "; ".join(told), advice)


def _parts(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("children", ()):
        yield from _parts(child)


def _few(told: list[str]) -> str:
    more = len(told) - _SHOWN
    return ", ".join(told[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def of_providers(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge each provider by its breaker, its switch and its keys."""
    providers = answer["providers"]
    for its in providers:
        yield _of_provider(its)
    usable = [its for its in providers if its["enabled"] and its["breaker"] != "open"]
    if not usable:
        detail = "none can be asked now: every request fails"
        yield Finding("providers", "failed", detail, "see each provider above")


def _of_provider(its: Mapping[str, Any]) -> Finding:
    subject = f"provider {its['name']}"
    if not its["enabled"]:
        detail = "is disabled: nothing is sent to it"
        return Finding(
            subject, "warning", detail, f"duck providers enable {its['name']}"
        )
    if its["breaker"] != "closed":
        wait = its.get("breaker_wait_s")
        until = f", for {elapsed(wait)} more" if wait else ""
        why = its.get("breaker_why") or "it failed too often"
        detail = f"breaker {its['breaker'].replace('_', ' ')}{until}: {why}"
        advice = "it is tried again by itself; `duck providers reset NAME` does at once"
        return Finding(subject, "warning", detail, advice)
    resting = [
        f"{key['key']} is {key['state'].replace('_', ' ')}"
        for key in its.get("keys", ())
        if key["state"] != "ok"
    ]
    if resting:
        detail = f"keys are set aside: {_few(resting)}"
        return Finding(subject, "warning", detail, "see what its maker's console says")
    return Finding(subject, "ok", f"breaker closed, {its['in_flight']} in flight")


def of_budgets(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge each budget by what is left of it."""
    for its in answer["budgets"]:
        used = percent(its)
        told = f"{used} % used"
        if used < 100:
            yield Finding(f"budget {its['name']}", "ok", told)
            continue
        until = its.get("until")
        ends = f" until {until[:16].replace('T', ' ')} UTC" if until else ""
        yield Finding(
            f"budget {its['name']}",
            "warning",
            f"{told}: what it binds is refused{ends}",
            "raise limit_usd in the config and `duck reload`, or wait",
        )


def of_last_hour(session: Session) -> Finding:
    """Count what went wrong in the last hour, as far as the daemon still knows."""
    from duckservice.gateway.client import (
        DaemonClient,
        DaemonError,
        DaemonNotRunning,
        DaemonUnreachable,
    )

    counted = Counter[str]()
    target = f"/v1/events?since=1h&types={','.join(_BAD)}"
    stream = DaemonClient(session.socket()).stream("GET", target, timeout=_SILENCE)
    try:
        with closing(stream) as events:
            for event in events:
                counted[_kind(event.data)] += 1
                if counted.total() >= _EVENTS_MAX:
                    break
    except DaemonUnreachable as error:
        if not isinstance(error.__cause__, TimeoutError):
            return Finding("last hour", "skipped", str(error))
        # The stream goes on with what is to come: all of the past has been told.
    except (DaemonError, DaemonNotRunning) as error:
        return Finding("last hour", "skipped", f"the daemon does not say: {error}")
    del counted[""]
    if not counted:
        return Finding("last hour", "ok", "nothing failed")
    told = ", ".join(f"{number} x {kind}" for kind, number in counted.most_common())
    return Finding("last hour", "warning", told, "duck events --since 1h")


def _kind(data: str) -> str:
    """Return what an event counts as; nothing for one that tells nothing bad."""
    try:
        its = json.loads(data)
    except ValueError:
        return ""
    match its.get("type"):
        case "request.exception":
            return "request failed"
        case "restart" if its.get("what") == "crashed":
            return "crash"
        case "restart" if its.get("what") == "gave_up":
            return "supervisor gave up"
        case "breaker" if its.get("now") == "open":
            return "breaker opened"
        case "store" if its.get("what") in ("failed", "entry_lost"):
            return "store failed"
        case "budget":
            return "budget alert"
        case _:
            return ""
