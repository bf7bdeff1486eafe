"""Newline-delimited JSON: bytes go in, in any pieces, and whole lines come out."""

from __future__ import annotations

from typing import Final, final

from duckservice.providers.framing import FramingError, StreamEvent

LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A tool call comes in one line, a whole file in it perhaps. What is beyond is an
attack on our memory."""


@final
class NdjsonFraming:
    """Turns the pieces of one stream into lines, each one event: a `Framing`.

    Lines end in LF or CRLF; blank ones are ignored. What the end of the stream cut
    off is returned by `close`, since the last line may lack its end.
    """

    __slots__ = ("_line_bytes_max", "_pending")

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        """Read lines of at most *line_bytes_max* bytes."""
        self._line_bytes_max = line_bytes_max
        self._pending = bytearray()
        """The line that is not whole yet."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next piece of the stream; return the lines that are now whole.

        Raises `FramingError` as soon as one line is too long.
        """
        # Only what is new is searched: a stream that comes byte by byte must not
        # cost the square of its length.
        whole, newline, rest = data.rpartition(b"\n")
        events: list[StreamEvent] = []
        if newline:
            lines = (bytes(self._pending) + whole).split(b"\n")
            self._pending.clear()
            for line in lines:
                self._check_size(len(line), events)
                if content := line.strip():
                    events.append(StreamEvent(None, content))
        self._pending += rest
        self._check_size(len(self._pending), events)
        return events

    def close(self) -> StreamEvent | None:
        """Say that the stream has ended; return the line that had no end, if any."""
        rest = bytes(self._pending).strip()
        self._pending.clear()
        return StreamEvent(None, rest) if rest else None

    def _check_size(self, size: int, before: list[StreamEvent]) -> None:
        if size > self._line_bytes_max:
            reason = f"a line is longer than {self._line_bytes_max} bytes"
            raise FramingError(reason, before)
