"""One request of a client and its answer, on plain ASGI.

Starlette's `Request` and `Response` cost 20 µs a request; the endpoints that
make requests to providers do without them.
"""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, Protocol, TypeAlias, cast, final

import attrs
import trio

from duckservice.calls.call import CallOptions, CallReport, StreamAnswer, Submitter
from duckservice.completion import Chunk
from duckservice.errors import DuckError, InternalError, forget_frames
from duckservice.gateway.app.api import ServiceApi
from duckservice.gateway.asgi import Receive, Scope, Send
from duckservice.gateway.wire.errors import Family, encode_error
from duckservice.gateway.wire.headers import (
    Header,
    header_value,
    read_options,
    report_headers,
)

_JSON: Header = (b"content-type", b"application/json")
_SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies of nginx's kind hold a stream back unless they are told.
    (b"x-accel-buffering", b"no"),
)


class StreamEncoder(Protocol):
    """Writes the chunks of one stream in a client's format."""

    def encode(self, batch: Sequence[Chunk]) -> bytes:
        """Return the events of chunks that arrived together."""
        ...

    def finish(self) -> bytes:
        """Return what ends a stream that is complete."""
        ...

    def error(self, error: DuckError) -> bytes:
        """Return what ends a stream that has failed."""
        ...


@attrs.frozen(kw_only=True)
class Host:
    """What every endpoint has."""

    service: ServiceApi
    wall_clock: Callable[[], float] = time.time
    """Seconds since the epoch."""


class ClientGone(Exception):
    """The client has hung up before its request was complete."""


@final
@attrs.define
class Exchange:
    """A request under way."""

    scope: Scope
    family: Family
    host: Host
    _receive: Receive
    _send: Send
    _options: CallOptions | None = None
    _started: bool = False
    _encoder: StreamEncoder | None = None
    """While a stream is under way: what can still say that it has failed."""

    def options(self) -> CallOptions:
        """Read the request's headers; raise `InvalidRequest`, naming one."""
        options = read_options(
            self.scope["headers"],
            submitter=peer(self.scope),
            now_wall=self.host.wall_clock(),
            now_trio=trio.current_time(),
            new_request_id=self.host.service.new_request_id,
        )
        # The server names the request so in its log.
        self.scope.get("state", {})["request_id"] = options.request_id
        self._options = options
        return options

    async def body(self) -> bytes:
        """Read the request's body, whose size the server limits."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            # Nearly every body is one piece, and is not copied.
            body: bytes = message.get("body", b"")
            return body
        pieces: list[bytes] = []
        while message["type"] == "http.request":
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(pieces)
            message = await self._receive()
        raise ClientGone

    async def reply(self, body: bytes, report: CallReport) -> None:
        """Answer 200 with a body of JSON and the account of the request."""
        await self._answer(200, [_JSON, *self._about(report)], body)

    async def reply_plain(self, body: bytes) -> None:
        """Answer 200 with a body of JSON, where no provider's account is kept."""
        request_id = self._options.request_id if self._options is not None else ""
        await self._answer(200, [_JSON, *self._named(request_id)], body)

    async def stream(
        self,
        answer: AbstractAsyncContextManager[StreamAnswer],
        encoder: StreamEncoder,
    ) -> None:
        """Answer with a stream of events, one piece of body for each batch.

        The head leaves when the provider has answered, so what fails before
        gets its own status; what fails later is an event.
        """
        async with answer as reply:
            headers = [*_SSE, *self._about(reply.report, streaming=True)]
            await self._start(200, headers)
            self._encoder = encoder
            async with _closing(reply.batches) as batches:
                async for batch in batches:
                    if data := encoder.encode(batch):
                        await self._write(data, more=True)
        # The account is closed before the client learns that all went well.
        last = encoder.finish()
        self._encoder = None
        await self._write(last, more=False)

    async def fail(self, error: DuckError) -> None:
        """Answer with *error*, as far as the answer has not left already."""
        if error.request_id is None:
            error.request_id = (
                self._options.request_id
                if self._options is not None
                else self.host.service.new_request_id()
            )
        if not self._started:
            answer = encode_error(error, self.family)
            await self._start(answer.status, answer.headers)
            await self._write(answer.body, more=False)
        elif self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            await self._write(encoder.error(error), more=False)

    def _about(self, report: CallReport, *, streaming: bool = False) -> list[Header]:
        headers = report_headers(report, streaming=streaming)
        if self.family == "anthropic":
            # The SDK shows this one as a reply's _request_id.
            headers.append((b"request-id", header_value(report.request_id)))
        return headers

    def _named(self, request_id: str) -> list[Header]:
        headers = [(b"x-request-id", header_value(request_id))]
        if self.family == "anthropic":
            headers.append((b"request-id", header_value(request_id)))
        return headers

    async def _answer(self, status: int, headers: list[Header], body: bytes) -> None:
        headers.append((b"content-length", b"%d" % len(body)))
        await self._start(status, headers)
        await self._write(body, more=False)

    async def _start(self, status: int, headers: list[Header]) -> None:
        self._started = True
        await self._send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )

    async def _write(self, body: bytes, *, more: bool) -> None:
        await self._send(
            {"type": "http.response.body", "body": body, "more_body": more}
        )


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


@final
@attrs.frozen(eq=False)
class Endpoint:
    """An ASGI application for one path; every failure is answered in its family."""

    family: Family
    host: Host
    handle: Handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, self.family, self.host, receive, send)
        try:
            await self.handle(exchange)
        except ClientGone:
            return
        except DuckError as error:
            await exchange.fail(error)
            forget_frames(error)
            return
        except Exception as error:  # noqa: BLE001 - raised again below
            bug = error
        else:
            return
        # The connection's boundary: the client gets an answer, and the server,
        # which logs it, the exception.
        await exchange.fail(internal_error())
        raise bug


def internal_error() -> InternalError:
    """Return what a client learns of a bug."""
    return InternalError("an internal error; the log has it under the request's id")


def peer(scope: Scope) -> Submitter | None:
    """Return who is at the other end, where the server knows."""
    extensions: Mapping[str, Any] = scope.get("extensions") or {}
    submitter = extensions.get("duck.peer")
    return submitter if isinstance(submitter, Submitter) else None


def _closing(
    batches: AsyncIterator[Sequence[Chunk]],
) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Chunk]]]:
    if isinstance(batches, AsyncGenerator):
        return aclosing(cast("AsyncGenerator[Sequence[Chunk]]", batches))
    return nullcontext(batches)
