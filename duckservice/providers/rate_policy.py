"""The IETF's ``RateLimit`` headers, in the forms of its drafts.

    ratelimit-policy: "default";q=100;w=60      what there is: quota, window
    ratelimit: "default";r=50;t=30              what is left: remaining, seconds
    ratelimit: limit=100, remaining=50, reset=30
    ratelimit-limit: 100, 100;w=60              in three headers, policies behind

Of the policies only those count that are about requests, as all are that do not
say what they count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from duckservice.providers.retry_after import parse_duration

_CHARACTERS_MAX: Final = 1000
_POLICIES_MAX: Final = 8
_UNITS: Final = frozenset({"", "request", "requests"})


@attrs.frozen(kw_only=True)
class Policy:
    """One limit, as it is written; what is empty was not said."""

    window: float | None = None
    quota: str = ""
    remaining: str = ""
    reset: str = ""


def policies(headers: Mapping[str, str]) -> Iterator[Policy]:
    """Yield the limits in ``ratelimit`` and ``ratelimit-policy``; names in lower case."""
    state = headers.get("ratelimit", "")
    offered = headers.get("ratelimit-policy", "")
    if not state or max(len(state), len(offered)) > _CHARACTERS_MAX:
        return
    flat = dict(_ASSIGNED.findall(state))
    if "limit" in flat or "remaining" in flat:
        windows = [its["w"] for _, its in _items(offered) if "w" in its]
        yield Policy(
            window=parse_duration(windows[0]) if len(windows) == 1 else None,
            quota=flat.get("limit", ""),
            remaining=flat.get("remaining", ""),
            reset=flat.get("reset", ""),
        )
        return
    by_name = dict(_items(offered))
    for name, left in _items(state):
        its = by_name.get(name, {})
        if its.get("qu", "") in _UNITS:
            yield Policy(
                window=parse_duration(its.get("w", "")),
                quota=its.get("q", ""),
                remaining=left.get("r", ""),
                reset=left.get("t", ""),
            )


def window_behind(value: str) -> tuple[str, float | None]:
    """Return the limit in ``100, 100;w=60``, and its window, where it is said."""
    limit, comma, rest = value[:_CHARACTERS_MAX].partition(",")
    if not comma:
        return value, None
    windows = [
        its["w"] for name, its in _items(rest) if name == limit.strip() and "w" in its
    ]
    if len(windows) != 1:
        return value, None  # said twice, or of several windows: not ours to choose
    return limit, parse_duration(windows[0])


def _items(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each member of a list, with its parameters, all without quotes."""
    for item in value.split(",")[:_POLICIES_MAX]:
        name, *rest = (part.strip() for part in item.split(";"))
        pairs = (part.partition("=") for part in rest)
        yield name.strip('"'), {key: word.strip('"') for key, _, word in pairs}


_ASSIGNED: Final = re.compile(
    r"(?:^|,)\s*(limit|remaining|reset)=([0-9]{1,16})\s*(?=,|$)", re.ASCII
)
