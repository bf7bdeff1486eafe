"""What a provider's format looks like to a server that speaks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

Json: TypeAlias = dict[str, Any]

Complaint: TypeAlias = Literal[
    "rate", "quota", "server", "overloaded", "key", "context", "filter"
]
"""What a provider complains of; each format has words of its own for it."""


@attrs.frozen(kw_only=True)
class Refusal:
    """An answer with an error status."""

    status: int
    body: Json
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(kw_only=True)
class Streamed:
    """A streamed answer, in the pieces in which it can break."""

    begin: bytes
    """What comes before the first word."""
    words: tuple[bytes, ...]
    end: bytes
    """With the mark that says that the answer is whole."""


@attrs.frozen(kw_only=True)
class Wire:
    """One format, from the server's side."""

    name: str
    whole: Callable[[str], Json]
    """The body of an answer with that text."""
    stream: Callable[[Sequence[str]], Streamed]
    """The same in words."""
    media: str
    """The media type of a stream."""
    refuse: Callable[[Complaint, str], Refusal]
    """A refusal; the second argument is the key that was shown, which some repeat."""
    failed_stream: bytes
    """An error in place of the next event."""
    failed_whole: Json
    """An error in the body of a 200."""
    is_stream: Callable[[str, Json], bool]
    """Whether a request, by its target and body, asks for a stream."""


def asks_in_body(_target: str, body: Json) -> bool:
    """Say whether ``stream`` is true in *body*, where most formats have it."""
    return body.get("stream") is True


def data_event(value: Json) -> bytes:
    """Return a server-sent event without a name."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def named_event(value: Json) -> bytes:
    """Return a server-sent event named by its ``type``."""
    return b"event: " + str(value["type"]).encode() + b"\n" + data_event(value)


INPUT_TOKENS = 12
OUTPUT_TOKENS = 8
"""What every answer says that it has cost."""
SSE = "text/event-stream"
