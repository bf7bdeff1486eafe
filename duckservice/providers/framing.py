"""How a streamed answer's bytes are cut into events, whatever the format.

Server-sent events are the usual way (`sse.SseParser`); other formats have their
own framing with the same two methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class StreamEvent(NamedTuple):
    """One event. A tuple, since one is made for every token that streams by."""

    event: str | None
    """What kind of event it is, where the framing says so."""
    data: bytes
    """Its content, which is JSON nearly always."""


class FramingError(Exception):
    """The bytes cannot be cut into events; the text says why without quoting them."""

    def __init__(self, reason: str, events: Sequence[StreamEvent] = ()) -> None:
        super().__init__(reason)
        self.events = events
        """Those that came whole, in the same piece, before what is wrong."""


class Framing(Protocol):
    """Cuts the pieces of one stream into events; sans-IO.

    Cutting the same bytes into other pieces gives the same events, those of a
    `FramingError` included. Not to be fed further after that, or after `close`.
    """

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """Take the next piece of the stream; return the events that are now whole.

        Raises `FramingError`, after which no event is whole any more, for bytes
        that are not of this framing and for an event that is too large.
        """
        ...

    def close(self) -> StreamEvent | None:
        """Say that the stream has ended; return the event that it cut off, if any."""
        ...
