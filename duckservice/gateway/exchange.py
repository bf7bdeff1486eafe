"""One request and its answer, as the ASGI application sees them.

    nothing answered --start, body--> started --last body--> answered

The head of an answer is sent together with its first piece of body, so a small
answer is one system call, and an application that fails between the two can
still be answered with 500. Every further piece is sent at once.

The body is read when the application asks for it: `receive` returns what has
come (all of it, where it came with the head), so no more than one piece is held
here, and a client sends no faster than the application reads.

A client that hangs up, stalls or breaks a limit makes both `receive` and `send`
raise `trio.Cancelled`; ``http.disconnect`` is only received after the answer.
So does the next `send` after one that was cancelled (by a deadline of the
application's, say) while the kernel had not taken all of its piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

import trio

from duckservice.gateway.asgi import Message, Scope
from duckservice.gateway.chunked import BodyTooLong, ChunkedDecoder, MalformedBody
from duckservice.gateway.http1 import (
    BODY_TOO_LATE,
    CHUNKED,
    CONTINUE,
    LAST_CHUNK,
    RequestHead,
    body_too_long,
    encode_response_head,
    malformed,
)

if TYPE_CHECKING:
    from duckservice.gateway.connection import Connection

_RECEIVE_BYTES: Final = 256 * 1024
_SENDS_PER_CHECKPOINT: Final = 16
_BODILESS: Final = frozenset({204, 304})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")

_NO_LENGTH: Final = -1


@final
class Exchange:
    """A request that is being answered."""

    __slots__ = (
        "_awaits_continue",
        "_bodiless",
        "_body_delivered",
        "_chunked",
        "_connection",
        "_decoder",
        "_head",
        "_left",
        "_sends",
        "_start",
        "_state",
        "_torn",
        "_unread",
        "_waited",
        "answered",
        "body_bytes",
        "keep_alive",
        "started",
    )

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        self._connection = connection
        self._head = head
        self._decoder = (
            ChunkedDecoder(connection.limits.body_bytes_max)
            if head.body == CHUNKED
            else None
        )
        self._unread = head.body
        """Bytes of a body of known length that were not delivered yet."""
        self._waited = 0.0
        """Seconds, for bytes of the body."""
        self._body_delivered = False
        self._awaits_continue = head.expects_continue
        self._state: dict[str, object] = {}
        self._start: Message | None = None
        self._bodiless = head.method == "HEAD"
        self._chunked = False
        self._left = _NO_LENGTH
        """What the answer's body still lacks, where its length was announced."""
        self._sends = 0
        self._torn = False
        """Whether a piece is on its way, or was cut off on it for ever."""
        self.started = False
        """Whether the client may have received a part of the answer."""
        self.answered = False
        """Whether it was sent all of the answer."""
        self.keep_alive = head.keep_alive
        self.body_bytes = 0
        """Of the body, delivered to the application so far."""

    @property
    def is_head(self) -> bool:
        return self._head.method == "HEAD"

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the connection's end can tell where the answer's body ends."""
        return not (self._bodiless or self._chunked or self._left != _NO_LENGTH)

    def scope(self) -> Scope:
        """Return the request's ASGI scope."""
        head = self._head
        return {
            **self._connection.origin,
            "http_version": head.http_version,
            "method": head.method,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
            "state": self._state,
        }

    def request_id(self, new: Callable[[], str]) -> str:
        """Return what the application or the client calls the request, or a new id."""
        known = self._state.get("request_id")
        if isinstance(known, str) and _REQUEST_ID.fullmatch(known.encode()):
            return known
        for name, value in self._head.headers:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                return value.decode("ascii")
        return new()

    # The request's body.

    async def receive(self) -> Message:
        """ASGI's ``receive``."""
        if self.answered:
            return {"type": "http.disconnect"}
        if self._body_delivered:
            # Who waits here waits for the client to hang up, which cancels it.
            await trio.sleep_forever()
        if self._decoder is None:
            body = await self._read_counted() if self._unread else b""
            more = self._unread > 0
        else:
            body = await self._read_chunked(self._decoder)
            more = not self._decoder.complete
        self._body_delivered = not more
        self.body_bytes += len(body)
        await self._connection.hold(len(body), self.body_bytes)
        return {"type": "http.request", "body": body, "more_body": more}

    async def _read_counted(self) -> bytes:
        connection = self._connection
        if not connection.buffer:
            await self._fill(min(self._unread, _RECEIVE_BYTES))
        body = connection.buffer
        if len(body) > self._unread:
            connection.buffer = body[self._unread :]
            body = body[: self._unread]
        else:
            connection.buffer = b""
        self._unread -= len(body)
        return body

    async def _read_chunked(self, decoder: ChunkedDecoder) -> bytes:
        connection = self._connection
        while True:
            if not connection.buffer:
                await self._fill(_RECEIVE_BYTES)
            try:
                body, connection.buffer = decoder.feed(connection.buffer)
            except MalformedBody as error:
                await connection.give_up(malformed(str(error)))
            except BodyTooLong:
                limit = connection.limits.body_bytes_max
                await connection.give_up(body_too_long(limit))
            if body or decoder.complete:
                return body

    async def _fill(self, bytes_max: int) -> None:
        connection = self._connection
        if self._awaits_continue and not self.started:
            self._awaits_continue = False
            await self._transmit(CONTINUE)
        began = trio.current_time()
        try:
            data = await connection.client.receive(bytes_max, self._patience())
        except trio.TooSlowError:
            await connection.give_up(BODY_TOO_LATE)
        if not data:
            await connection.give_up(None)
        self._waited += trio.current_time() - began
        connection.buffer = data

    def _patience(self) -> float:
        """Return how long the next bytes of the body may take."""
        limits = self._connection.limits
        if self._decoder is not None:
            return limits.body_silence
        # A byte now and then is no silence, and would hold the connection for a year.
        received = self._head.body - self._unread
        left = limits.body_grace + received / limits.body_rate_min - self._waited
        return min(limits.body_silence, max(0.0, left))

    def skip_body(self) -> bool:
        """Drop what was not delivered; return False if not all of it is here."""
        connection = self._connection
        if self._decoder is None:
            if self._unread > len(connection.buffer):
                return False
            if self._unread > 0:
                connection.buffer = connection.buffer[self._unread :]
                self._unread = 0
            return True
        try:
            _, connection.buffer = self._decoder.feed(connection.buffer)
        except (MalformedBody, BodyTooLong):
            return False
        return self._decoder.complete

    # The answer.

    async def send(self, message: Message) -> None:
        """ASGI's ``send``; a checkpoint now and then only.

        Raises `RuntimeError` for messages out of order, or for a body that does
        not have the announced length: the connection is then aborted.
        """
        kind = message["type"]
        if kind == "http.response.start":
            if self._start is not None:
                raise RuntimeError("the answer was started already")
            self._start = message
        elif kind == "http.response.body":
            if self._start is None or self.answered:
                raise RuntimeError("a body is sent after start and before the end")
            await self._send_body(
                self._start, message.get("body", b""), message.get("more_body", False)
            )
        else:
            raise RuntimeError(f"unknown ASGI message: {kind}")

    async def _send_body(self, start: Message, body: bytes, more: bool) -> None:
        self._sends += 1
        if not self._sends % _SENDS_PER_CHECKPOINT:
            # An application that never waits must not stop the other connections.
            await trio.lowlevel.checkpoint()
        if self._torn:
            # The client would take what follows for the rest of that piece.
            await self._connection.give_up(None)
        head = b"" if self.started else self._begin(start, body, more)
        if self._bodiless:
            body = b""
        elif self._chunked:
            head, body = head + _chunk(body, last=not more), b""
        elif self._left != _NO_LENGTH:
            self._count(body, more)
        # From here on the client may have seen a part of the answer.
        self.started = True
        if head or body:
            await self._transmit(head, body)
        self.answered = not more

    def _begin(self, start: Message, body: bytes, more: bool) -> bytes:
        """Decide how the answer's end is known, and return its head."""
        status: int = start["status"]
        headers: list[tuple[bytes, bytes]] = list(start.get("headers", ()))
        length, closes = _announced(headers)
        framing = b""
        if length == _NO_LENGTH and status not in _BODILESS:
            if not more:
                length = len(body)
                framing = b"content-length: %d\r\n" % length
            elif self._head.http_version == "1.1":
                self._chunked = True
                framing = b"transfer-encoding: chunked\r\n"
            else:
                self.keep_alive = False
        self._left = length
        self._bodiless = self._bodiless or status in _BODILESS
        if closes or self._connection.draining or not self._body_is_here():
            self.keep_alive = False
        if not self.keep_alive:
            if not closes:
                framing += b"connection: close\r\n"
        elif self._head.http_version == "1.0":
            framing += b"connection: keep-alive\r\n"
        return encode_response_head(status, headers, framing)

    def _body_is_here(self) -> bool:
        if self._decoder is None:
            return self._unread <= len(self._connection.buffer)
        return self._decoder.complete

    def _count(self, body: bytes, more: bool) -> None:
        self._left -= len(body)
        if self._left < 0 or (self._left and not more):
            raise RuntimeError("the answer's body has not its announced length")

    async def _transmit(self, data: bytes, more: bytes = b"") -> None:
        connection = self._connection
        self._torn = True
        try:
            await connection.client.send(data, more, stall=connection.limits.send_stall)
        except (trio.BrokenResourceError, trio.TooSlowError):
            await connection.give_up(None)
        self._torn = False


def _announced(headers: list[tuple[bytes, bytes]]) -> tuple[int, bool]:
    """Return the length that the application announces, and whether it closes."""
    length, closes = _NO_LENGTH, False
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"connection":
            closes = closes or value.lower() == b"close"
        elif name == b"transfer-encoding":
            raise RuntimeError("the server decides about Transfer-Encoding")
    return length, closes


def _chunk(body: bytes, *, last: bool) -> bytes:
    # An empty chunk would end the body.
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return chunk + LAST_CHUNK if last else chunk
