"""What a client's ``traceparent`` header says, by W3C's Trace Context; pure."""

from __future__ import annotations

import re
from typing import Final

import attrs

_HEADER: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)


@attrs.frozen
class Traceparent:
    """The client's span, which a request is a part of."""

    trace_id: int
    span_id: int
    sampled: bool
    """Whether the client's own part of the trace is kept."""


def parse_traceparent(text: str) -> Traceparent | None:
    """Return what *text* says; None where it is none: then a trace begins here.

    A version that is not known yet is read as far as it is like the first.
    """
    found = _HEADER.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return Traceparent(trace_id, span_id, bool(int(flags, 16) & 1))
