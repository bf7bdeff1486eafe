"""The colour of each state."""

from __future__ import annotations

from typing import Final

_STYLES: Final = {
    "running": "green",
    "closed": "green",
    "ok": "green",
    "completed": "green",
    "executing": "green",
    "draining": "yellow",
    "retryable": "yellow",
    "restarting": "yellow",
    "half_open": "yellow",
    "half-open": "yellow",
    "warning": "yellow",
    "open": "red",
    "stopped": "red",
    "failed": "red",
    "discarded": "red",
    "expired": "red",
    "cancelled": "dim",
    "suspended": "dim",
    "disabled": "dim",
}


def of(state: str) -> str:
    """Return the style for *state*, none for one that is not known."""
    return _STYLES.get(state, "")
