"""What the dashboard forwards to the daemon: this list, and nothing else.

A path is taken apart, each part is decoded and checked, and a new one is put together
from them: what the daemon gets was never written by the browser as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

import attrs

_QUERY_BYTES_MAX: Final = 2048
_PARTS_MAX: Final = 16
_PART_CHARS_MAX: Final = 256
_QUICK: Final = 10.0
_CHECK: Final = 60.0
"""Seconds that asking a provider may take."""

_LOOK: Final[Mapping[str, frozenset[str]]] = {
    "status": frozenset(),
    "tree": frozenset(),
    "providers": frozenset(),
    "queue": frozenset(),
    "budgets": frozenset(),
    "version": frozenset(),
    "costs": frozenset({"by", "since"}),
    "jobs": frozenset({"state", "model", "tag", "batch", "since", "limit", "cursor"}),
}
"""What may be looked at, and which parameters it takes."""
_OF_A_JOB: Final = frozenset({"attempts", "request", "result"})
_JOB_ACTIONS: Final = frozenset({"cancel", "retry", "hold", "release"})
_PROVIDER_ACTIONS: Final = frozenset({"enable", "disable", "reset", "check"})
_QUEUE_ACTIONS: Final = frozenset({"pause", "resume"})
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f/\\\\]")


class Forward(NamedTuple):
    """What to ask the daemon."""

    method: str
    target: str
    patience: float = _QUICK
    """Seconds that the daemon may be silent."""


@attrs.frozen
class NotForwarded:
    """Why it is not asked."""

    status: int
    message: str
    allow: str = ""
    """The methods that there are, for a 405."""


Verdict: TypeAlias = Forward | NotForwarded

_NONE: Final[frozenset[str]] = frozenset()
_NOTHING: Final = NotForwarded(404, "there is nothing at this path")


def verdict(method: str, raw_path: bytes, query: bytes) -> Verdict:
    """Return what to ask the daemon for this request, or why not."""
    parts = _parts(raw_path)
    if parts is None:
        return _NOTHING
    allowed = _method(parts)
    if allowed is None:
        return _NOTHING
    if method != allowed:
        return NotForwarded(405, f"only {allowed} is understood here", allowed)
    names = _LOOK.get(parts[0], _NONE) if len(parts) == 1 else _NONE
    text = _query(query, names)
    if text is None:
        return NotForwarded(400, "the query is not one that is understood here")
    path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
    patience = _CHECK if parts[-1] == "check" else _QUICK
    return Forward(method, f"{path}?{text}" if text else path, patience)


def _parts(raw_path: bytes) -> list[str] | None:
    """Return the decoded parts behind ``/v1/``; None if one of them is a trick."""
    if not raw_path.startswith(b"/v1/"):
        return None
    raw = raw_path.split(b"/")[2:]
    if not 1 <= len(raw) <= _PARTS_MAX:
        return None
    parts = [_part(each) for each in raw]
    plain = [part for part in parts if part is not None]
    return plain if len(plain) == len(parts) else None


def _part(raw: bytes) -> str | None:
    try:
        part = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
    if part in {"", ".", ".."} or len(part) > _PART_CHARS_MAX:
        return None
    return None if _CONTROL.search(part) else part


def _method(parts: Sequence[str]) -> str | None:
    """Return the one method of that path; None: it is not in the list."""
    match parts:
        case [what] if what in _LOOK:
            return "GET"
        case ["jobs", _]:
            return "GET"
        case ["jobs", _, what] if what in _OF_A_JOB:
            return "GET"
        case ["jobs", _, action] if action in _JOB_ACTIONS:
            return "POST"
        case ["providers", _, action] if action in _PROVIDER_ACTIONS:
            return "POST"
        case ["queue", action] if action in _QUEUE_ACTIONS:
            return "POST"
        case ["tree", _, *_, "restart"]:
            return "POST"
        case _:
            return None


def _query(query: bytes, names: frozenset[str]) -> str | None:
    """Return the query anew; None if it holds something else than *names*."""
    if not query:
        return ""
    if len(query) > _QUERY_BYTES_MAX:
        return None
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
        )
    except ValueError:
        return None
    if any(name not in names for name, _ in pairs):
        return None
    return urlencode(pairs)
