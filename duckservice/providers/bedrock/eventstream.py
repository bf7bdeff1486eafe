"""AWS's binary event stream (``application/vnd.amazon.eventstream``), cut into events.

One message, all numbers big-endian, both checksums CRC-32:

    total length 4 | headers' length 4 | checksum of these 8 bytes 4
    headers: (name length 1 | name | type 1 | value)*
    payload
    checksum of all before 4

A payload does not say what it is; the headers do. An event comes out as JSON that
says it, the way AWS's own SDKs show it: ``{"<event type>": <payload>}``, and an
exception as ``{"exception": "<its type>", "body": <payload>}``.
"""

from __future__ import annotations

import re
from binascii import crc32
from collections.abc import Mapping
from struct import Struct, error as StructError  # noqa: N812 - it is a class
from typing import Final, final

import msgspec

from duckservice.providers.framing import FramingError, StreamEvent

MESSAGE_BYTES_MAX: Final = 1024 * 1024
HEADERS_BYTES_MAX: Final = 128 * 1024
"""AWS's own limit."""

_PRELUDE: Final = Struct(">III")
_CHECKSUM: Final = Struct(">I")
_LENGTH: Final = Struct(">H")
_OVERHEAD: Final = _PRELUDE.size + _CHECKSUM.size
_NAME: Final = re.compile(r"[A-Za-z0-9_.:#-]{1,128}", re.ASCII)
"""It goes into JSON as it is."""

_STRING: Final = 7
_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The bytes of header values of the other types: true, false, the integers, a
timestamp, a UUID."""
_SIZED: Final = frozenset({6, _STRING})

_encode: Final = msgspec.json.Encoder().encode


@final
class EventStreamFraming:
    """Turns the pieces of one binary stream into events: a `Framing`.

    Whole events that came in one piece with a broken one are returned first; the
    next call to `feed` raises then.
    """

    __slots__ = ("_fault", "_message_bytes_max", "_pending")

    def __init__(self, *, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._message_bytes_max = message_bytes_max
        self._pending = bytearray()
        self._fault: FramingError | None = None

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next piece of the stream; return the events that are now whole.

        Raises `FramingError` for a wrong checksum, and as soon as a message
        announces that it is larger than allowed.
        """
        if self._fault is not None:
            raise self._fault
        self._pending += data
        events: list[StreamEvent] = []
        at = 0
        try:
            while (end := self._end_of_message(at)) is not None:
                events.append(_event(bytes(self._pending[at:end])))
                at = end
        except FramingError as fault:
            if not events:
                raise
            self._fault = fault
        del self._pending[:at]
        return events

    def close(self) -> StreamEvent | None:
        """Say that the stream has ended; return what no decoder can read, if it was cut off."""
        if self._fault is None and not self._pending:
            return None
        return StreamEvent(None, b"{")

    def _end_of_message(self, start: int) -> int | None:
        """Return where the message ends that begins at *start*; None if it is not all there."""
        if len(self._pending) - start < _PRELUDE.size:
            return None
        total, headers, checksum = _PRELUDE.unpack_from(self._pending, start)
        # Checked before it is believed: a wrong length would wait for ever.
        if crc32(self._pending[start : start + 8]) != checksum:
            raise FramingError("a message whose beginning has a wrong checksum")
        if total > self._message_bytes_max:
            raise FramingError(
                f"a message that is larger than {self._message_bytes_max} bytes"
            )
        if headers > HEADERS_BYTES_MAX or headers + _OVERHEAD > total:
            raise FramingError("a message whose lengths do not fit together")
        end: int = start + total
        return end if len(self._pending) >= end else None


def _event(message: bytes) -> StreamEvent:
    body = message[: -_CHECKSUM.size]
    if crc32(body) != _CHECKSUM.unpack_from(message, len(body))[0]:
        raise FramingError("a message with a wrong checksum")
    _, headers_size, _ = _PRELUDE.unpack_from(message)
    payload_start = _PRELUDE.size + headers_size
    try:
        headers = _headers(body[_PRELUDE.size : payload_start])
    except (StructError, IndexError, UnicodeDecodeError) as error:
        raise FramingError("a message whose headers cannot be read") from error
    return _as_json(headers, body[payload_start:] or b"{}")


def _headers(data: bytes) -> dict[str, str]:
    """Return the headers that are text."""
    headers: dict[str, str] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        name = data[at + 1 : name_end].decode()
        kind = data[name_end]
        start = name_end + 1
        if kind in _SIZED:
            size: int = _LENGTH.unpack_from(data, start)[0]
            start += _LENGTH.size
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise FramingError("a message with a header of an unknown type")
        at = start + size
        if at > len(data):
            raise FramingError("a message with a header that is cut off")
        if kind == _STRING:
            headers[name] = data[start:at].decode()
    return headers


def _as_json(headers: Mapping[str, str], payload: bytes) -> StreamEvent:
    match headers.get(":message-type"):
        case "event":
            name = _name(headers, ":event-type")
            return StreamEvent(name, b'{"%s":%s}' % (name.encode(), payload))
        case "exception":
            name = _name(headers, ":exception-type")
        case "error":
            name = _name(headers, ":error-code")
            payload = _encode({"message": headers.get(":error-message", "")})
        case _:
            raise FramingError("a message that does not say what it is")
    return StreamEvent(name, b'{"exception":"%s","body":%s}' % (name.encode(), payload))


def _name(headers: Mapping[str, str], header: str) -> str:
    name = headers.get(header, "")
    if not _NAME.fullmatch(name):
        raise FramingError("a message that does not say what it is")
    return name
