"""One HTTP/1.1 answer, from the bytes of a connection; does no I/O.

httptools (llhttp, without any leniency) reads it. On top of that: a largest
head, interim answers skipped, no transfer coding but ``chunked``, and a body
that has neither length nor chunks ends with the connection.
"""

from __future__ import annotations

from typing import Final, final

import httptools
import httpx

_HEAD_BYTES_MAX: Final = 64 * 1024
_NO_BODY: Final = frozenset({204, 304})


class BrokenAnswer(httpx.RemoteProtocolError):
    """What came is not the answer to a request. The text quotes none of it."""


@final
class AnswerParser:
    """Takes the bytes of one answer in any pieces.

    ``status`` and ``headers`` (names in lower case) are final once
    ``head_complete`` is set, and ``reusable`` once ``complete`` is.
    """

    __slots__ = (
        "_barren",
        "_fault",
        "_framed",
        "_llhttp",
        "_pieces",
        "_received",
        "complete",
        "head_complete",
        "headers",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_complete = False
        self.complete = False
        self.reusable = False
        """Whether another request may follow on the connection."""
        self._pieces: list[bytes] = []
        self._received = 0
        self._barren = 0
        """Bytes since the last of the body: sizes of chunks, or trailers."""
        self._fault: BrokenAnswer | None = None
        self._framed = False
        """Whether the head says where the body ends."""
        self._llhttp: httptools.HttpResponseParser | None = (
            httptools.HttpResponseParser(self)
        )

    @property
    def started(self) -> bool:
        """Whether a single byte has come."""
        return self._received > 0

    def feed(self, data: bytes) -> None:
        """Take what has come next.

        Raises `BrokenAnswer` for a broken head. For a broken body `take` does, in
        its place behind what is sound: it must not matter how the bytes came.
        """
        assert self._llhttp is not None, "nothing is fed after `close`"
        self._received += len(data)
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserError as error:
            self._break_off(error)
        if not self.head_complete:
            if self._received > _HEAD_BYTES_MAX:
                raise BrokenAnswer(f"its head exceeds {_HEAD_BYTES_MAX} bytes")
        elif not self._pieces and not self.complete:
            self._barren += len(data)
            if self._barren > _HEAD_BYTES_MAX:
                self._fault = BrokenAnswer("it goes on without a body")

    def feed_eof(self) -> None:
        """Take note that the connection has ended. Raises `BrokenAnswer`."""
        if not self.head_complete or self._framed:
            raise BrokenAnswer("it is cut off")
        self.complete = True

    def close(self) -> None:
        """Take note that nothing more is fed; what is here may still be taken.

        The two parsers know each other, which would keep them, and what they have
        read, until the garbage collector looks for such pairs.
        """
        self._llhttp = None

    @property
    def is_here(self) -> bool:
        """Whether `take` has something to return, or nothing more can come."""
        return bool(self._pieces) or (self.complete and self._fault is None)

    def take(self) -> bytes:
        """Return what has come of the body since the last time.

        Raises `BrokenAnswer` if that is nothing and nothing can follow.
        """
        pieces = self._pieces
        if not pieces:
            if self._fault is not None:
                raise self._fault
            return b""
        self._pieces = []
        self._barren = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _break_off(self, error: httptools.HttpParserError) -> None:
        if self.complete:
            # More than the answer has come. Whatever it is, it must not be
            # taken for the answer to the next request.
            self.reusable = False
            return
        fault = error.__context__  # what one of our callbacks has raised
        if not isinstance(fault, BrokenAnswer):
            fault = BrokenAnswer("it breaks the protocol")
            fault.__cause__ = error
        if not self.head_complete:
            raise fault from fault.__cause__
        self._fault = fault

    # What follows is called by httptools.

    def on_message_begin(self) -> None:
        if self.complete:
            raise BrokenAnswer("there is more than one")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:
            return  # a trailer
        name, value = name.lower(), value.strip()
        self.headers.append((name, value))
        if name == b"transfer-encoding":
            if self._framed or value.lower() != b"chunked":
                raise BrokenAnswer("its transfer coding is not supported")
            self._framed = True
        elif name == b"content-length":
            self._framed = True

    def on_headers_complete(self) -> None:
        assert self._llhttp is not None, "it is its callback"
        self.status = self._llhttp.get_status_code()
        if sum(len(n) + len(v) for n, v in self.headers) > _HEAD_BYTES_MAX:
            raise BrokenAnswer("its head is too large")
        if self.status == 101 or not 100 <= self.status <= 599:
            raise BrokenAnswer("its status is out of place")
        if self.status >= 200:
            self.head_complete = True
            self._framed = self._framed or self.status in _NO_BODY

    def on_body(self, piece: bytes) -> None:
        if not self.head_complete:
            # It must not become the beginning of the answer's own.
            raise BrokenAnswer("an interim answer has a body")
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if not self.head_complete:  # an interim answer
            self.headers.clear()
            self._framed = False
            return
        assert self._llhttp is not None, "it is its callback"
        self.complete = True
        self.reusable = self._llhttp.should_keep_alive()
