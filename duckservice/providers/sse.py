"""Server-sent events: bytes go in, in any pieces, and whole events come out.

The parser keeps to the WHATWG text (lines end in LF, CRLF or CR, a blank line
ends an event, an event without ``data`` is none), with three differences that a
client of LLM providers wants:

* ``data`` stays bytes, because it goes to a JSON decoder that wants bytes; text
  that is not UTF-8 is left for that decoder to refuse.
* an event that the end of the stream cut off is not dropped: `SseParser.close`
  returns it, and the adapter decides.
* an event has a largest size, so that an endless line costs bounded memory.

``id`` and ``retry`` are ignored: nobody reconnects to a completion.
"""

from __future__ import annotations

from typing import Final, final

from duckservice.providers.framing import FramingError, StreamEvent

_BOM: Final = b"\xef\xbb\xbf"


class SseOverflow(FramingError):
    """One event is larger than the limit. The parser is of no use after it."""


@final
class SseParser:
    """Turns the pieces of one stream into events.

    Cutting the same bytes into other pieces gives the same events. Not to be
    fed further after `SseOverflow` or `close`.
    """

    __slots__ = ("_event_bytes_max", "_head", "_pending", "_skip_lf")

    def __init__(self, *, event_bytes_max: int = 1024 * 1024) -> None:
        self._event_bytes_max = event_bytes_max
        self._head: bytes | None = b""
        """What has come of a byte order mark; None once that is settled."""
        self._pending = bytearray()
        """The event that is not whole yet, with LF for all line ends."""
        self._skip_lf = False
        """Whether the last piece ended in CR: an LF now is the rest of a CRLF."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next piece of the stream; return the events that are now whole.

        Raises `SseOverflow` as soon as one event, its comments included, is
        larger than ``event_bytes_max`` (one byte later, at its latest).
        """
        if self._head is not None:
            data = self._without_bom(self._head + data)
        if self._skip_lf or b"\r" in data:
            data = self._with_lf_only(data)
        if self._pending:
            # Only what is new is searched: a stream that comes byte by byte
            # must not cost the square of its length.
            searched = len(self._pending) - 1
            self._pending += data
            if self._pending.find(b"\n\n", searched) < 0:
                self._check_size(len(self._pending) - 1, [])
                return []
            data = bytes(self._pending)
            self._pending.clear()
        return self._split(data)

    def close(self) -> StreamEvent | None:
        """Say that the stream has ended; return the event that it cut off, if any.

        Its data may end anywhere, inside of a character even, and may be empty.
        None means that the stream ended between two events.
        """
        rest = (self._head or b"") + bytes(self._pending)
        self._head = None
        self._pending.clear()
        event, data = _fields(rest)
        last_line = rest[rest.rfind(b"\n") + 1 :]
        if data is None and event is None and last_line[:1] in (b"", b":"):
            return None
        return StreamEvent(event, data or b"")

    def _split(self, data: bytes) -> list[StreamEvent]:
        whole, blank_line, rest = data.rpartition(b"\n\n")
        events: list[StreamEvent] = []
        may_be_too_large = len(whole) > self._event_bytes_max
        for block in whole.split(b"\n\n") if blank_line else ():
            if may_be_too_large:
                # Of three line ends in a row, where the piece ends decides which of two
                # events the one in the middle is with: it counts for none.
                self._check_size(len(block.strip(b"\n")), events)
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(StreamEvent(None, block[6:]))
                continue
            event, value = _fields(block)
            if value is not None:
                events.append(StreamEvent(event, value))
        self._pending += rest.removeprefix(b"\n")
        # Its last byte may be half of a blank line, which does not count.
        self._check_size(len(self._pending) - 1, events)
        return events

    def _check_size(self, size: int, before: list[StreamEvent]) -> None:
        if size > self._event_bytes_max:
            reason = f"an event is larger than {self._event_bytes_max} bytes"
            raise SseOverflow(reason, before)

    def _without_bom(self, start: bytes) -> bytes:
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._head = start
            return b""
        self._head = None
        return start.removeprefix(_BOM)

    def _with_lf_only(self, data: bytes) -> bytes:
        if data:
            if self._skip_lf:
                data = data.removeprefix(b"\n")
            self._skip_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _fields(block: bytes) -> tuple[str | None, bytes | None]:
    """Return the event's name and its data, each None where it has none."""
    event = None
    data: list[bytes] = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            event = value.removeprefix(b" ").decode("utf-8", "replace") or None
    return event, b"\n".join(data) if data else None
