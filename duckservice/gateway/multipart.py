"""multipart/form-data, read as it comes: parts of any size in bounded memory; no I/O.

    PREAMBLE ──boundary──> HEAD ──blank line──> BODY ──boundary──> HEAD ...
                                                     └─boundary-- > END

What browsers, curl and the SDKs send is understood (RFC 7578). Names may be quoted;
other charsets, transfer encodings and nested multiparts are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias, final

import attrs

from duckservice.errors import InvalidRequest

HEAD_BYTES_MAX: Final = 8 * 1024
PARTS_MAX: Final = 32
PREAMBLE_BYTES_MAX: Final = 8 * 1024

_BOUNDARY: Final = re.compile(
    r'multipart/form-data\s*;(?:[^"]*;)?\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))\s*(?:;.*)?',
    re.IGNORECASE | re.DOTALL,
)
_NAME: Final = re.compile(r';\s*name=(?:"([^"\r\n]*)"|([^\s;"]+))', re.IGNORECASE)
_FILENAME: Final = re.compile(
    r';\s*filename=(?:"([^"\r\n]*)"|([^\s;"]+))', re.IGNORECASE
)


@attrs.frozen
class PartBegins:
    """A part's head."""

    name: str
    filename: str | None


@attrs.frozen
class PartData:
    """A piece of the body of the part that has begun last."""

    data: bytes = attrs.field(repr=False)


MultipartEvent: TypeAlias = PartBegins | PartData


@final
@attrs.define
class MultipartReader:
    """Takes a body's bytes as they come, and says what is in them."""

    _boundary: bytes
    _state: Literal["preamble", "after", "head", "body", "end"] = "preamble"
    _buffer: bytes = b"\r\n"
    """A body may begin with its boundary: then the line end before it is missing."""
    _parts: int = 0

    @classmethod
    def of(cls, content_type: str) -> MultipartReader:
        """Return a reader for a body of that type.

        Raises:
            InvalidRequest: it is no multipart/form-data, or has no boundary.
        """
        found = _BOUNDARY.fullmatch(content_type)
        if found is None:
            msg = (
                "Content-Type: must be multipart/form-data with a boundary,"
                " such as an SDK or `curl -F` sends"
            )
            raise InvalidRequest(msg, param="Content-Type")
        name: str = found[1] or found[2]
        return cls(b"\r\n--" + name.encode("latin-1", "replace"))

    def feed(self, data: bytes) -> Iterator[MultipartEvent]:
        """Yield what *data* completes.

        Raises:
            InvalidRequest: the body is malformed, or over a limit.
        """
        self._buffer += data
        while True:
            before = self._state, len(self._buffer)
            yield from self._step()
            if before == (self._state, len(self._buffer)):
                return

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            InvalidRequest: it should not have.
        """
        if self._state != "end":
            raise _malformed("it ends before its last boundary")

    def _step(self) -> Iterator[MultipartEvent]:
        match self._state:
            case "preamble":
                self._skip_preamble()
            case "after":
                self._after_boundary()
            case "head":
                yield from self._head()
            case "body":
                yield from self._body()
            case "end":
                self._buffer = b""

    def _skip_preamble(self) -> None:
        _, found, rest = self._buffer.partition(self._boundary)
        if found:
            self._state, self._buffer = "after", rest
        elif len(self._buffer) > PREAMBLE_BYTES_MAX:
            raise _malformed("its boundary does not come")

    def _after_boundary(self) -> None:
        if len(self._buffer) < 2:
            return
        if self._buffer.startswith(b"--"):
            self._state = "end"
            return
        end = self._buffer.find(b"\r\n")
        if end >= 0 and not self._buffer[:end].strip(b" \t"):
            # The line end stays: a part without any header has a blank line at once.
            self._state, self._buffer = "head", self._buffer[end:]
        elif end >= 0 or len(self._buffer) > HEAD_BYTES_MAX:
            raise _malformed("a boundary has something behind it")

    def _head(self) -> Iterator[MultipartEvent]:
        end = self._buffer.find(b"\r\n\r\n")
        if end > HEAD_BYTES_MAX or (end < 0 and len(self._buffer) > HEAD_BYTES_MAX):
            raise _malformed(f"a part has a head of more than {HEAD_BYTES_MAX} bytes")
        if end < 0:
            return
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise _malformed(f"it has more than {PARTS_MAX} parts")
        begins = _part(self._buffer[:end])
        self._state, self._buffer = "body", self._buffer[end + 4 :]
        yield begins

    def _body(self) -> Iterator[MultipartEvent]:
        data, found, rest = self._buffer.partition(self._boundary)
        if found:
            self._state, self._buffer = "after", rest
        else:
            # The end may be the beginning of the boundary.
            kept = len(self._boundary) - 1
            data, self._buffer = self._buffer[:-kept], self._buffer[-kept:]
        if data:
            yield PartData(data)


def _part(head: bytes) -> PartBegins:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            text = value.decode("utf-8", "replace")
            field = _NAME.search(text)
            if field is None or not text.strip().lower().startswith("form-data"):
                break
            filename = _FILENAME.search(text)
            return PartBegins(
                field[1] or field[2] or "",
                None if filename is None else filename[1] or filename[2] or "",
            )
    raise _malformed("a part has no name")


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"the body is no valid multipart/form-data: {why}")
