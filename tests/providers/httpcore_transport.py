"""What `FastTransport` is measured beside: the same free list over httpcore's connections."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Generator
from contextlib import contextmanager
from typing import TypeAlias, final

import httpcore
import httpx
import trio

from duckservice.providers.connection import connect_reason
from duckservice.providers.fast_transport import IDEMPOTENT, framed_headers
from duckservice.providers.idle_connections import IdleConnections

_Connection: TypeAlias = httpcore.AsyncHTTPConnection


@final
class LifoTransport(httpx.AsyncBaseTransport):
    """Sends each request over the connection that became idle last.

    A request that fails on a connection which had been idle is sent once more,
    on a fresh one, if that cannot make the provider do it twice. A server may
    close an idle connection in the very moment in which we use it; but the same
    signs are seen when it fell over while it worked on our request. So a POST
    is only repeated where httpcore says that it has not begun to send it.

    Known to be weaker than `FastTransport`: what a server sends behind the end
    of an answer is taken for the answer to the next request, as h11 keeps it and
    httpcore does not tell (test_what_follows_an_answer_is_never_the_next_answer).
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        idle_connections_max: int = 64,
        keepalive_expiry: float = 60.0,
    ) -> None:
        self._ssl_context = ssl_context
        self._idle = IdleConnections[_Connection](
            connections_max=idle_connections_max, expiry=keepalive_expiry
        )
        self._open: set[_Connection] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*; the answer's body is still to be read."""
        body = await request.aread()
        outgoing = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=framed_headers(request, len(body)),
            content=_OnePiece(body),
            extensions=request.extensions,
        )
        with _httpx_errors(f"{request.url.host}:{request.url.port or ''}"):
            connection = await self._take_idle(outgoing.url.origin)
            if connection is not None:
                try:
                    return await self._exchange(connection, outgoing)
                except httpcore.ConnectionNotAvailable:
                    pass
                except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                    if self._closed or request.method not in IDEMPOTENT:
                        raise
            return await self._exchange(self._new(outgoing.url.origin), outgoing)

    async def aclose(self) -> None:
        """Close all connections, those in use included."""
        self._closed = True
        self._idle.take_all()
        for connection in list(self._open):
            await self._close(connection)

    async def _exchange(
        self, connection: _Connection, request: httpcore.Request
    ) -> httpx.Response:
        try:
            answer = await connection.handle_async_request(request)
        except BaseException:
            with trio.move_on_after(1, shield=True):
                await self._close(connection)
            raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(self, connection, request.url.origin, answer),
        )

    def _new(self, origin: httpcore.Origin) -> _Connection:
        connection = httpcore.AsyncHTTPConnection(
            origin, self._ssl_context, http1=True, http2=False
        )
        self._open.add(connection)
        return connection

    async def _take_idle(self, origin: httpcore.Origin) -> _Connection | None:
        for connection in self._idle.take_expired(trio.current_time()):
            await self._close(connection)
        while (idle := self._idle.take(str(origin))) is not None:
            if idle.is_idle() and not idle.has_expired():
                return idle
            # The server has closed it, or says something unasked.
            await self._close(idle)
        return None

    async def release(self, connection: _Connection, origin: httpcore.Origin) -> None:
        """Keep *connection* if it may be used again, else close it."""
        if not connection.is_idle():
            await self._close(connection)
            return
        now = trio.current_time()
        surplus = self._idle.put(str(origin), connection, now)
        if surplus is not None:
            await self._close(surplus)

    async def _close(self, connection: _Connection) -> None:
        self._open.discard(connection)
        # As `trio.aclose_forcefully`: closed, but without farewell or wait.
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await connection.aclose()


@final
class _Body(httpx.AsyncByteStream):
    """The body of one answer; its end gives the connection back."""

    def __init__(
        self,
        transport: LifoTransport,
        connection: _Connection,
        origin: httpcore.Origin,
        answer: httpcore.Response,
    ) -> None:
        self._transport = transport
        self._connection = connection
        self._origin = origin
        assert isinstance(answer.stream, AsyncIterable)
        self._answer = answer
        self._pieces = aiter(answer.stream)
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            with _httpx_errors():
                return await anext(self._pieces)
        except BaseException:
            # The end, too, comes as an exception.
            with trio.move_on_after(1, shield=True):
                await self._release()
            raise

    async def aclose(self) -> None:
        if self._closed:
            return
        # httpcore's pieces come from nested async generators, of which closing
        # the outer one leaves the inner one to the garbage collector, and trio
        # complains. Run to their end they are gone: what is buffered is read,
        # the first read from the network is cancelled.
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            async for _ in self._pieces:
                pass
        await self._release()

    async def _release(self) -> None:
        if not self._closed:
            self._closed = True
            # Nothing but this tells httpcore that the answer has been read.
            await self._answer.aclose()
            await self._transport.release(self._connection, self._origin)


@final
class _OnePiece:
    """The body of a request. httpcore's own is a generator, which leaks if cancelled."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __aiter__(self) -> _OnePiece:
        # A request that is repeated iterates once more.
        return _OnePiece(self._body)

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body


@contextmanager
def _httpx_errors(where: str = "") -> Generator[None]:
    """Raise httpcore's errors as those of httpx that mean the same."""
    try:
        yield
    except httpcore.ConnectTimeout as error:
        raise httpx.ConnectTimeout(str(error)) from error
    except httpcore.ConnectError as error:
        raise httpx.ConnectError(f"{where}: {connect_reason(error)}") from error
    except httpcore.RemoteProtocolError as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise httpx.ReadError(str(error)) from error
