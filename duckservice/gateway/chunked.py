r"""Decode a body in HTTP/1.1's chunked coding, strictly; no input or output here.

    SIZE --"5\r\n"--> DATA --5 bytes--> DATA_END --"\r\n"--> SIZE
      \--"0\r\n"--> TRAILER --"Name: value\r\n"--> TRAILER --"\r\n"--> COMPLETE

Whatever RFC 9112 leaves to leniency is refused: a bare LF, a space around the
size, a sign, ``0x``. Two parsers that disagree about where a body ends are how
requests get smuggled. Extensions and trailers are checked and dropped.
"""

from __future__ import annotations

import enum
import re
from typing import Final, final

_CRLF: Final = b"\r\n"
_LINE_BYTES_MAX: Final = 4096
_DROPPED_BYTES_MAX: Final = 16 * 1024
"""Extensions and trailers of one body together."""

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE: Final = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*"
)


class MalformedBody(Exception):
    """The bytes are not a body in chunked coding."""


class BodyTooLong(Exception):
    """The chunks add up to more than is allowed."""


class _State(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    COMPLETE = enum.auto()


@final
class ChunkedDecoder:
    """Decodes one body; `complete` once its last byte was fed."""

    __slots__ = ("_dropped", "_line", "_room", "_size", "_state")

    def __init__(self, body_bytes_max: int) -> None:
        self._state = _State.SIZE
        self._line = b""
        self._size = 0
        self._room = body_bytes_max
        self._dropped = 0

    @property
    def complete(self) -> bool:
        return self._state is _State.COMPLETE

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what *data* holds of the body, and what comes after the body.

        Raises `MalformedBody`, or `BodyTooLong` as soon as a chunk announces too
        much. The decoder is of no use after that.
        """
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and self._state is not _State.COMPLETE:
            if self._state is _State.DATA:
                piece = data[at : at + self._size]
                pieces.append(piece)
                at += len(piece)
                self._size -= len(piece)
                if not self._size:
                    self._state = _State.DATA_END
            else:
                at = self._read_line(data, at)
        return b"".join(pieces), data[at:]

    def _read_line(self, data: bytes, at: int) -> int:
        """Take bytes up to the end of a line, and act on a line that is whole."""
        end = data.find(b"\n", at) + 1
        self._line += data[at : end or len(data)]
        if len(self._line) > _LINE_BYTES_MAX:
            raise MalformedBody("a line between chunks is too long")
        if not end:
            return len(data)
        line, self._line = self._line, b""
        if not line.endswith(_CRLF):
            raise MalformedBody("a line between chunks does not end in CRLF")
        self._end_line(line[:-2])
        return end

    def _end_line(self, line: bytes) -> None:
        match self._state:
            case _State.SIZE:
                self._begin_chunk(line)
            case _State.DATA_END:
                if line:
                    raise MalformedBody("a chunk is longer than its size")
                self._state = _State.SIZE
            case _State.TRAILER:
                self._end_trailer(line)
            case _State.DATA | _State.COMPLETE:
                raise AssertionError(f"no line is read in {self._state}")

    def _begin_chunk(self, line: bytes) -> None:
        parts = _SIZE_LINE.fullmatch(line)
        if parts is None:
            raise MalformedBody("a chunk's size is malformed")
        self._drop(len(parts[2] or b""))
        self._size = int(parts[1], 16)
        if self._size > self._room:
            raise BodyTooLong
        self._room -= self._size
        self._state = _State.DATA if self._size else _State.TRAILER

    def _end_trailer(self, line: bytes) -> None:
        if not line:
            self._state = _State.COMPLETE
            return
        if _TRAILER_LINE.fullmatch(line) is None:
            raise MalformedBody("a trailer field is malformed")
        self._drop(len(line))

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > _DROPPED_BYTES_MAX:
            raise MalformedBody("too many chunk extensions or trailer fields")
