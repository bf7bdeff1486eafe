"""An httpx transport over trio's sockets and httptools, with its own free list.

httpx's own pool looks at every connection for every request, so its cost grows
with their number. Here a request takes the connection that was used last, which
costs the same however many there are. HTTP/1.1 only, and a request's body is one
piece.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator
from typing import Final, TypeAlias, final

import httpx
import trio

from duckservice.config import Proxy
from duckservice.providers.connection import ClosedHere, Connection
from duckservice.providers.http1_answer import AnswerParser
from duckservice.providers.http_body import AheadStream
from duckservice.providers.idle_connections import IdleConnections

IDEMPOTENT: Final = frozenset({"GET", "PUT", "DELETE", "OPTIONS"})
"""Sending these twice does what sending them once does (RFC 9110, 9.2.2)."""

_Origin: TypeAlias = tuple[str, str, int | None]

# Their answers have no body whatever their heads say.
_WITHOUT_USUAL_BODY: Final = frozenset({"HEAD", "CONNECT"})

_PORTS: Final = {"http": 80, "https": 443}


@final
class FastTransport(httpx.AsyncBaseTransport):
    """Sends each request over the connection that became idle last.

    A request that fails on a connection which had been idle is sent once more,
    on a fresh one, if that cannot make the provider do it twice. A server may
    close an idle connection in the very moment in which we use it; but the same
    signs are seen when it falls over while it works on our request. So, where
    no byte of an answer has come, what is idempotent is repeated, and a POST
    only if the operating system has taken no byte of it either.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        idle_connections_max: int = 64,
        keepalive_expiry: float = 60.0,
    ) -> None:
        """Make a transport; *keepalive_expiry* is in seconds.

        Without *ssl_context* it refuses https; with a *proxy*, all but https.
        """
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._idle = IdleConnections[Connection](
            connections_max=idle_connections_max, expiry=keepalive_expiry
        )
        self._open: set[Connection] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<FastTransport: {len(self._open)} open, {len(self._idle)} idle>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*; the body of the answer is still to be read."""
        # To read bytes that are here asynchronously takes 8 µs more.
        plain = isinstance(request.stream, httpx.ByteStream)
        body = request.read() if plain else await request.aread()
        head = _head(request, len(body))
        url = request.url
        # As it stands in the config: of an `xn--` name, `url.host` is the Unicode, of
        # which no proxy can be told.
        origin = (url.scheme, url.raw_host.decode("ascii"), url.port)
        exchange = self._exchange_on_idle(origin)
        if exchange is not None:
            try:
                return await exchange.run(head, body)
            except ClosedHere:
                raise
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if not exchange.may_be_repeated(request.method):
                    raise
        connection = await self._connect(origin, request)
        return await _Exchange(self, origin, connection).run(head, body)

    async def aclose(self) -> None:
        """Close all connections; those in use break off, and none is made anew."""
        self._closed = True
        self._idle.take_all()
        for connection in list(self._open):
            self.close(connection)
        await trio.lowlevel.checkpoint()

    def _exchange_on_idle(self, origin: _Origin) -> _Exchange | None:
        for connection in self._idle.take_expired(trio.current_time()):
            self.close(connection)
        while (idle := self._idle.take(origin)) is not None:
            if idle.is_quiet():
                return _Exchange(self, origin, idle)
            # The server has closed it, or says something unasked.
            self.close(idle)
        return None

    async def _connect(self, origin: _Origin, request: httpx.Request) -> Connection:
        scheme, host, port = origin
        if scheme == "https" and self._ssl_context is None:
            raise httpx.ConnectError("https needs an SSL context")
        if scheme != "https" and self._proxy is not None:
            raise httpx.ConnectError("only https goes through a proxy")
        context = self._ssl_context if scheme == "https" else None
        limit = request.extensions.get("timeout", {}).get("connect", math.inf)
        with trio.move_on_after(limit):
            connection = await Connection.open(
                host, port or _PORTS[scheme], context, self._proxy
            )
            self._open.add(connection)
            if self._closed:
                self.close(connection)
                raise ClosedHere("the transport is closed")
            return connection
        raise httpx.ConnectTimeout(f"{host}: no connection within {limit:g} s")

    def release(self, origin: _Origin, connection: Connection) -> None:
        """Keep *connection* for the next request."""
        if connection not in self._open:
            return  # the transport was closed meanwhile
        surplus = self._idle.put(origin, connection, trio.current_time())
        if surplus is not None:
            self.close(surplus)

    def close(self, connection: Connection) -> None:
        """Close *connection*, which is not used again."""
        self._open.discard(connection)
        connection.close()


@final
class _Exchange(AheadStream):
    """One request and its answer on one connection; iterating gives the body.

    When the last byte of the answer is in, the connection is given back, though
    the body may not have been taken yet. On any failure it is closed.
    """

    __slots__ = (
        "_connection",
        "_keep",
        "_origin",
        "_parser",
        "_sent_before",
        "_transport",
        "_was_sent",
    )

    def __init__(
        self, transport: FastTransport, origin: _Origin, connection: Connection
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection: Connection | None = connection
        self._parser = AnswerParser()
        self._sent_before = connection.bytes_sent
        self._was_sent = True
        self._keep = True

    async def run(self, head: bytes, body: bytes) -> httpx.Response:
        """Send the request and wait for the head of the answer."""
        connection = self._connection
        assert connection is not None
        try:
            await self._send(connection, head, body)
            while not self._parser.head_complete:
                await self._receive()
        except BaseException:
            self._drop()
            raise
        parser = self._parser
        return httpx.Response(parser.status, headers=parser.headers, stream=self)

    def may_be_repeated(self, method: str) -> bool:
        """Say whether sending the request again cannot make it happen twice."""
        if self._parser.started:
            return False
        return method in IDEMPOTENT or not self._was_sent

    @property
    def is_here(self) -> bool:
        """Whether the next piece of the body, or its end, has come already."""
        return self._parser.is_here

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        parser = self._parser
        try:
            while not (piece := parser.take()) and not parser.complete:
                await self._receive()
        except BaseException:
            self._drop()
            raise
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close the connection, if the answer is not complete."""
        self._drop()

    async def _send(self, connection: Connection, head: bytes, body: bytes) -> None:
        try:
            await connection.send(head, body)
        except httpx.WriteError:
            # A server may refuse a request before it has read all of it, and
            # close. Its answer is there to be read then.
            self._was_sent = connection.bytes_sent > self._sent_before
            self._keep = False

    async def _receive(self) -> None:
        parser, connection = self._parser, self._connection
        if connection is None:
            raise httpx.ReadError("the connection is closed")
        if data := await connection.receive():
            parser.feed(data)
        elif parser.started:
            parser.feed_eof()
        else:
            raise httpx.ReadError("the server closed the connection")
        if parser.complete:
            reusable = parser.reusable and self._keep and await connection.is_drained()
            self._connection = None
            parser.close()
            if reusable:
                self._transport.release(self._origin, connection)
            else:
                self._transport.close(connection)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._parser.close()
            self._transport.close(connection)


def _head(request: httpx.Request, content_length: int) -> bytes:
    """Return the request line and the headers. Raises `httpx.LocalProtocolError`."""
    method, target = request.method, request.url.raw_path
    if method in _WITHOUT_USUAL_BODY or not method.isalpha():
        raise httpx.LocalProtocolError(f"the method {method} is not supported")
    headers = framed_headers(request, content_length)
    lines = [b"%s %s HTTP/1.1" % (method.encode("ascii"), target)]
    lines += [b"%s: %s" % header for header in headers]
    head = b"\r\n".join(lines)
    # Whoever can put a line end into a header could write requests of his own.
    if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers):
        raise httpx.LocalProtocolError("a header holds a line end")
    return head + b"\r\n\r\n"


def framed_headers(
    request: httpx.Request, content_length: int
) -> list[tuple[bytes, bytes]]:
    """Return *request*'s headers with the one true statement of its body's length."""
    headers = [
        (name, value)
        for name, value in request.headers.raw
        if name.lower() not in {b"content-length", b"transfer-encoding"}
    ]
    if content_length or request.method not in IDEMPOTENT:
        headers.append((b"content-length", b"%d" % content_length))
    return headers
