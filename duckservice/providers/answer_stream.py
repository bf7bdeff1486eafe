"""Bytes of a streamed answer in, chunks out, whatever the format of the events.

The reader cuts the bytes into events and keeps the order of things when one of
them fails; an `EventDecoder`, one per wire format, says what an event means.
"""

from __future__ import annotations

from typing import Protocol, final

from duckservice.completion import Chunk
from duckservice.errors import DuckError
from duckservice.providers.failures import Classifier
from duckservice.providers.framing import Framing, FramingError, StreamEvent
from duckservice.providers.reading import UNREADABLE, Malformed, why_unreadable
from duckservice.providers.sse import SseParser


class EventDecoder(Protocol):
    """What the events of one answer mean."""

    complete: bool
    """Whether the terminal marker was read."""
    reply_characters: int
    """Of all that the model wrote, for an estimate where no usage comes."""

    @property
    def usage_seen(self) -> bool:
        """Whether the server has said what the answer has used."""
        ...

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what an event means to *chunks*.

        Raises `DuckError` if it is an error, and what is in `UNREADABLE` if it
        makes no sense.
        """
        ...

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:
        """Say whether the answer is complete, though without its terminal marker.

        If it is, what was still to come is appended to *chunks*.
        """
        ...


@final
class AnswerStream:
    """Reads one streamed answer; sans-IO.

    ``feed`` it the bytes as they arrive, until `ended` or until there are no
    more; then `close`. What was decoded before a failure is returned first, and
    the failure raised by the next call: no text that arrived is lost.
    """

    __slots__ = ("_decoder", "_errors", "_failure", "_framing")

    def __init__(
        self,
        decoder: EventDecoder,
        errors: Classifier,
        framing: Framing | None = None,
    ) -> None:
        """Read events of *framing* (server-sent events where none is given)."""
        self._decoder = decoder
        self._errors = errors
        self._framing: Framing = SseParser() if framing is None else framing
        self._failure: DuckError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be read: it is complete, or has failed."""
        return self._decoder.complete or self._failure is not None

    @property
    def complete(self) -> bool:
        """Whether the terminal marker was read."""
        return self._decoder.complete

    @property
    def usage_seen(self) -> bool:
        """Whether the server has said what the answer has used."""
        return self._decoder.usage_seen

    @property
    def reply_characters(self) -> int:
        """Of all that the model wrote so far."""
        return self._decoder.reply_characters

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next piece of the body; return the chunks in it."""
        if self._failure is not None:
            raise self._failure
        chunks: list[Chunk] = []
        if self._decoder.complete:
            return chunks
        failure: DuckError | None = None
        try:
            events = self._framing.feed(data)
        except FramingError as error:
            events = error.events
            failure = self._errors.bad_response(str(error))
        for event in events:
            self._take(event, chunks)
            if self.ended:
                return chunks
        self._failure = failure
        return chunks

    def close(self) -> list[Chunk]:
        """Say that there are no more bytes; return what was still to come.

        Raises the failure if there was one, and `BadProviderResponse` if the
        answer was cut off.
        """
        chunks: list[Chunk] = []
        if not self.ended:
            rest = self._framing.close()
            if rest is not None and rest.data:
                self._take(rest, chunks)
        if self._failure is not None:
            raise self._failure
        if not self._decoder.complete and not self._decoder.end_of_bytes(chunks):
            raise self._errors.bad_response("a stream that breaks off before its end")
        return chunks

    def _take(self, event: StreamEvent, chunks: list[Chunk]) -> None:
        try:
            self._decoder.take(event.data, chunks)
        except UNREADABLE as error:
            self._failure = self._errors.bad_response(
                f"an event that is no answer: {why_unreadable(error)}"
            )
        except DuckError as error:
            self._failure = error


def what_it_is(body: bytes, error: BaseException) -> str:
    """Say what a body is that was to be an answer, without quoting it."""
    match body.lstrip()[:1]:
        case b"":
            return "an empty body"
        case b"<":
            return "HTML or XML in place of an answer"
        case _ if isinstance(error, Malformed):
            return str(error)
        case _:
            return f"a body that is no answer: {why_unreadable(error)}"
