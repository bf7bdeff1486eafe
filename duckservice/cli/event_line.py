"""One event as one line for people, and its colour."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, TypeAlias

from duckservice.cli.text import elapsed, milliseconds, money

Fields: TypeAlias = dict[str, Any]

_WIDTH: Final = len("request.exception")
_HIDDEN: Final = frozenset({"type", "at", "request_id"})
_QUIET: Final = {
    "priority": "normal",
    "estimated": False,
    "attempts": 1,
    "outcome": "ok",
    "submitter_uid": None,
}
"""What goes without saying; absent values do in any case."""
_BAD: Final = frozenset({"open", "discarded", "expired", "gave_up", "failed"})
_GOOD: Final = frozenset({"ok", "completed", "closed", "recovered"})
_FIRST: Final = (
    *("model", "provider", "actor", "budget", "outcome", "what", "was", "now", "state"),
    *("reason", "job"),
    *("share", "spent_usd", "reserved_usd", "limit_usd", "window", "since", "until"),
)
"""What comes before the rest, in this order: a line may be cut at its end."""
_MOMENTS: Final = frozenset({"since", "until"})
"""Seconds since the epoch, which nobody reads."""
_MINUTE_MS: Final = 60_000


def line_of(its: Fields, without: Collection[str] = ()) -> str:
    """Return an event on one line: time, type, then what it tells.

    The fields in *without* are left out.
    """
    at = datetime.fromtimestamp(its["at"]).astimezone()
    word = f"{its['type']:<{_WIDTH}}"
    return f"{at:%H:%M:%S} {word} {text_of(its, without)}".rstrip()


def style_of(its: Fields) -> str:
    """Return rich's style for an event: green, yellow, red, or none."""
    match its["type"]:
        case "request.exception" | "gap":
            return "red"
        case "restart" | "budget" | "message" | "cache" | "queue.pause":
            return "yellow" if its.get("what") not in _BAD else "red"
        case "request.start" | "cost":
            return "dim"
        case _:
            return _style_of_outcome(its)


def _style_of_outcome(its: Fields) -> str:
    words = {its.get(name) for name in ("outcome", "state", "now", "what")}
    if words & _BAD:
        return "red"
    if words & _GOOD:
        return "green"
    return "yellow" if its.get("outcome") else ""


def text_of(its: Fields, without: Collection[str] = ()) -> str:
    """Return what an event tells, beside its time and its type."""
    if its["type"] == "gap":
        missed = its["missed"]
        return (
            "the daemon was restarted: what it told before may be missing"
            if missed is None
            else f"{missed} events were missed: they came faster than they were read"
        )
    names = sorted(its, key=lambda name: (_rank(name), name))
    return "  ".join(
        _field(name, its[name])
        for name in names
        if name not in without and _is_shown(name, its[name])
    )


def _rank(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _is_shown(name: str, value: object) -> bool:
    if name in _HIDDEN or value is None:
        return False
    return name not in _QUIET or value != _QUIET[name]


def _field(name: str, value: object) -> str:
    """Return a field with its unit behind the number, and not in the name."""
    match value:
        case int() | float() if name.endswith("_ms"):
            return f"{name.removesuffix('_ms')}={_time(value)}"
        case int() | float() if name.endswith("_s"):
            return f"{name.removesuffix('_s')}={_value(elapsed(value))}"
        case int() | float() if name in _MOMENTS:
            moment = datetime.fromtimestamp(value).astimezone()
            return f"{name}={moment:%Y-%m-%dT%H:%M}"
        case int() if name == "share":
            return f"{name}={value}%"
        case str() if name.endswith("_usd"):
            return f"{name.removesuffix('_usd')}={money(value)}"
        case _:
            return f"{name}={_value(value)}"


def _time(value: float) -> str:
    if value < 999.5:
        return milliseconds(value)
    return _value(
        f"{value / 1000:.1f}s" if value < _MINUTE_MS else elapsed(value / 1000)
    )


def _value(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text
