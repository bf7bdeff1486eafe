"""The one place where HTTP happens, and where its failures become our errors.

A key that an answer echoes is masked before anything else reads it.

A client talks to one origin, that of its ``base_url``, and to no other:
redirects are not followed, and no proxy is read from the environment: who has one
names it, and its tunnel ends where the TLS of that origin begins. What an
upstream can cost is bounded: in bytes by `HttpLimits` (nothing is ever
decompressed), in time by the four limits of `TimeoutConfig`:

    connect      until the connection stands, TLS included
    first_byte   from when the request is begun until the head of the answer;
                 anew, where it is sent again with another key
    idle         between two pieces of the body
    total        from when the request is first begun until the end of the body,
                 without the time in which the reader does not wait for it

Waiting for credentials, such as a token, is part of ``first_byte`` and ``total``.

    how it fails                                         what is raised
    a time limit is over                                 ProviderTimeout
    cannot connect, no tunnel through the proxy, TLS     ProviderError
      refused, closed before it answered
    we close the connections, because the provider's     Unavailable
      client is restarted or stopped; we have no file
      descriptor or memory left for a connection
    not HTTP, too large, compressed, a redirect, a       BadProviderResponse
      body that is cut off
    a status of 400 and above                            what `Classify` returns

Where a key or a token is refused and its `Credentials` know a better one, the
request is sent again with that at once; only the last refusal is raised. The
provider has done nothing for what it refused, so this is no second request.

What any answer says of rate limits is told to the attempt that it belongs to.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, final

import attrs
import httpx
import trio

from duckservice.config import Secret, TimeoutConfig
from duckservice.core.grants import ANY_KEY
from duckservice.errors import (
    BadProviderResponse,
    DuckError,
    InvalidRequest,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from duckservice.providers.auth import Again, Credentials
from duckservice.providers.auth.key_state import KeyState
from duckservice.providers.auth.keys import Keys
from duckservice.providers.connection import ClosedHere, NothingLeft
from duckservice.providers.endpoint import Endpoint, RawHeaders
from duckservice.providers.fast_transport import FastTransport
from duckservice.providers.http_body import Body, closed_here, total_is_over
from duckservice.providers.rate_headers import rate_hints, says_limits
from duckservice.providers.redaction import Secrets
from duckservice.providers.request_context import current_sending
from duckservice.providers.way_out import DIRECT, WayOut
from duckservice.redaction import SECRET_NAME

Classify: TypeAlias = Callable[[int, Mapping[str, str], bytes], DuckError]
"""From status, headers (names in lower case) and body to the error to raise.

The body is the beginning of the real one, at most ``error_body_bytes_max``.
"""

_MIB: Final = 1024 * 1024
_URLS_KEPT_MAX: Final = 256
_FIRST_BYTE: Final = TimeoutConfig().first_byte

SENT_MAX: Final = 16
"""So often a request is sent, each time with another key or token."""

# They log URLs and headers of every request.
for _logger in ("httpx", "httpcore"):
    logging.getLogger(_logger).setLevel(logging.WARNING)


@attrs.frozen(kw_only=True)
class HttpLimits:
    """What one answer may cost in memory."""

    body_bytes_max: int = 32 * _MIB
    """Of a body, streamed or not."""
    error_body_bytes_max: int = _MIB
    """Of an error's body; what is beyond is not read."""
    event_bytes_max: int = _MIB
    """Of one server-sent event; adapters give it to their `SseParser`."""


@attrs.frozen
class Response:
    """A 2xx answer with the whole body."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; several of one name are joined by a comma."""
    body: bytes


@final
class HttpClient:
    """Sends requests to one provider. Many tasks may use it at once.

    Cancelling a request, at any point, closes its connection.
    """

    def __init__(
        self,
        *,
        provider: str,
        base_url: str,
        headers: Mapping[str, str | Secret],
        timeout: TimeoutConfig,
        classify: Classify,
        credentials: Credentials | None = None,
        secrets: Secrets | None = None,
        limits: HttpLimits = HttpLimits(),
        way: WayOut = DIRECT,
        ssl_context: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Check what there is to check; nothing is sent yet.

        *headers* go with every request, and what *credentials* say about it.
        *secrets*, by default those in *headers*, are masked in answers, and learn
        what the credentials send. *way* is how connections are made; *ssl_context*
        replaces what it would verify with. *transport* replaces all that is below
        this module, and is to go the same *way*. *wall_clock* is for answers that name a time and no date.

        Raises `ValueError` for a *base_url* or a header that cannot be used,
        as `Endpoint` does.
        """
        self._endpoint = Endpoint(
            base_url, headers, authenticated=credentials is not None
        )
        self.credentials: Final = credentials
        """What authenticates the requests; another client may share it."""
        self._provider = provider
        self._timeout = timeout
        self._classify = classify
        self._limits = limits
        self._secrets = Secrets(secrets_of(headers)) if secrets is None else secrets
        self._proxy = way.proxy_to(self._endpoint.origin)
        if transport is None:
            if ssl_context is None and self._endpoint.origin.startswith("https:"):
                ssl_context = way.ssl_context()
            transport = FastTransport(ssl_context=ssl_context, proxy=self._proxy)
        self.transport: Final = transport
        """What is below HTTP; another client of the same origin may share it."""
        self._wall_clock = wall_clock
        self._extensions = {"timeout": {"connect": timeout.connect}}
        self._urls: dict[str, tuple[httpx.URL, str]] = {}

    def __repr__(self) -> str:
        return f"<HttpClient {self._provider} {self._endpoint.origin}>"

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        first_byte: float | None = None,
    ) -> Response:
        """Send one request and return the answer, if it is a 2xx.

        *path* starts with a slash and comes behind the base URL's own path.
        *first_byte* takes the place of that limit's default; what the config says
        instead of the default holds.
        """
        if first_byte is None or self._timeout.first_byte != _FIRST_BYTE:
            first_byte = self._timeout.first_byte
        answer = await self._send(_Asked(method, path, content, headers, first_byte))
        return Response(answer.status, answer.headers, await answer.body.read())

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[StreamResponse]:
        """Send one request; the block gets the answer, if it is a 2xx.

        Entering waits for the head of the answer, and raises what `request`
        raises. Leaving before the body's end closes the connection.
        """
        first_byte = self._timeout.first_byte
        answer = await self._send(_Asked(method, path, content, headers, first_byte))
        try:
            yield answer
        finally:
            await answer.body.aclose()

    def key_states(self) -> Sequence[KeyState]:
        """Return how each key is, where keys authenticate the requests."""
        its = self.credentials
        return its.states() if isinstance(its, Keys) else ()

    async def aclose(self) -> None:
        """Close all connections; requests under way fail with a `ProviderError`."""
        await self.transport.aclose()
        if self.credentials is not None:
            await self.credentials.aclose()

    async def _send(self, asked: _Asked) -> StreamResponse:
        started = trio.current_time()
        sent = 0
        while True:
            proof, answer = await self._answer(asked, started)
            self._tell_limits(answer.headers, proof)
            if 200 <= answer.status < 300 and _is_identity(answer.headers):
                return answer
            error = await self._refusal(answer)
            sent += 1
            credentials = self.credentials
            if credentials is None or proof is None or not _of_the_key(error):
                raise error
            error = credentials.refused(proof, error)
            if not isinstance(error, Again):
                raise error
            if sent == SENT_MAX:
                raise error.refusal

    def _tell_limits(
        self, headers: Mapping[str, str], proof: Mapping[str, str] | None
    ) -> None:
        sending = current_sending()
        if sending is None or not says_limits(headers):
            return
        hints = rate_hints(headers, self._wall_clock())
        if hints:
            its = self.credentials
            key = its.index(proof) if isinstance(its, Keys) else ANY_KEY
            sending.on_hints(hints, key)

    async def _answer(
        self, asked: _Asked, started: float
    ) -> tuple[Mapping[str, str] | None, StreamResponse]:
        """Send the request once; return what has authenticated it, and the answer.

        *started* is when the caller began to wait for an answer.
        """
        first_byte = trio.current_time() + asked.first_byte
        total = started + self._timeout.total
        proof, is_proven = None, False
        with trio.CancelScope(deadline=min(first_byte, total)):
            if self.credentials is not None:
                proof = await self._prove(self.credentials, asked)
            is_proven = True
            # Others may have it forget this token before the answer comes.
            masked = self._secrets.masked
            raw = await self._head_of_answer(self._request(asked, proof))
            stream = raw.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            body = Body(
                stream,
                provider=self._provider,
                timeout=self._timeout,
                started=started,
                bytes_max=self._limits.body_bytes_max,
                masked=masked,
            )
            plain = _plain(raw.headers.raw)
            return proof, StreamResponse(raw.status_code, plain, body)
        raise self._too_late(asked, is_total=total < first_byte, is_proven=is_proven)

    async def _prove(
        self, credentials: Credentials, asked: _Asked
    ) -> Mapping[str, str]:
        """Return the headers that authenticate a request; they are masked from now on."""
        _, url = self._url(asked.path)
        proof = await credentials.headers(asked.method, url, asked.content or b"")
        if not self._endpoint.knows(proof):
            for secret in secrets_of(proof):
                self._secrets.learn(secret)
        return proof

    def _request(self, asked: _Asked, proof: Mapping[str, str] | None) -> httpx.Request:
        url, _ = self._url(asked.path)
        return httpx.Request(
            asked.method,
            url,
            headers=self._raw_headers(asked.headers, proof),
            stream=httpx.ByteStream(asked.content or b""),
            extensions=self._extensions,
        )

    def _raw_headers(
        self, headers: Mapping[str, str] | None, proof: Mapping[str, str] | None
    ) -> RawHeaders:
        try:
            return self._endpoint.headers(headers, proof)
        except ValueError as error:
            raise ProviderAuthError(
                f"{self._provider} has a key or a token that cannot be sent: {error}",
                provider=self._provider,
            ) from error

    async def _head_of_answer(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self.transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise self._no_answer(error) from error

    def _too_late(
        self, asked: _Asked, *, is_total: bool, is_proven: bool
    ) -> ProviderTimeout:
        """Return the error for a request without even the head of an answer."""
        name = self._provider
        if is_proven and is_total:
            return total_is_over(name, self._timeout)
        limit = (
            f"{self._timeout.total:g} s (timeout.total)"
            if is_total
            else f"{asked.first_byte:g} s (timeout.first_byte)"
        )
        what = (
            "sent no answer"
            if is_proven
            else "was not asked: its credentials, a token or a login, did not come"
        )
        error = ProviderTimeout(f"{name} {what} within {limit}", provider=name)
        error.never_sent = not is_proven
        return error

    def _no_answer(self, error: httpx.TransportError) -> DuckError:
        """Return the error for a request that failed before the head of its answer."""
        name = self._provider
        match error:
            case ClosedHere():
                return closed_here(name)
            case httpx.ConnectTimeout():
                way = f" through the proxy {self._proxy}" if self._proxy else ""
                return ProviderTimeout(
                    f"{name} could not be connected to{way} within "
                    f"{self._timeout.connect:g} s (timeout.connect)",
                    provider=name,
                )
            case NothingLeft():
                # Ours to mend: its breaker must not count it.
                return Unavailable(
                    f"{name} cannot be connected to: {error}", provider=name
                )
            case httpx.ConnectError():
                # Its text is the system's, or ours: host, port, proxy, reason.
                return ProviderError(
                    f"{name} cannot be reached: {error}", provider=name
                )
            case httpx.RemoteProtocolError():
                return BadProviderResponse(
                    f"{name} did not answer in valid HTTP", provider=name
                )
            case _:
                return ProviderError(
                    f"{name} closed the connection before it answered", provider=name
                )

    async def _refusal(self, answer: StreamResponse) -> DuckError:
        """Return the error that an answer is which is no plain 2xx; close it."""
        status, headers = answer.status, answer.headers
        if status >= 400:
            # The status says what is wrong, even where the body says nothing.
            cap = self._limits.error_body_bytes_max if _is_identity(headers) else 0
            return self._classify(status, headers, await answer.body.read_start(cap))
        await answer.body.aclose()
        reason = (
            "with a compressed body, which was not asked for"
            if 200 <= status < 300
            else f"with status {status}; redirects are not followed"
        )
        return BadProviderResponse(
            f"{self._provider} answered {reason}", provider=self._provider
        )

    def _url(self, path: str) -> tuple[httpx.URL, str]:
        """Return the URL, and how it is written in the request."""
        known = self._urls.get(path)
        if known is None:
            if len(self._urls) >= _URLS_KEPT_MAX:
                self._urls.clear()
            try:
                url = httpx.URL(self._endpoint.url(path))
            except httpx.InvalidURL as error:
                raise InvalidRequest(
                    "the path of the request cannot be part of a URL",
                    provider=self._provider,
                ) from error
            known = self._urls[path] = url, str(url)
        return known


@attrs.frozen
class _Asked:
    """What the caller wants sent."""

    method: str
    path: str
    content: bytes | None
    headers: Mapping[str, str] | None
    first_byte: float


@final
class StreamResponse:
    """A 2xx answer whose body is still coming in."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: Body) -> None:
        self.status = status
        self.headers = headers
        """Names in lower case; several of one name are joined by a comma."""
        self.body = body

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Iterate over the body's pieces as they arrive, none of them empty.

        To be used once. It is no async generator, so it may be left at any time
        without `contextlib.aclosing`. Whoever stops at the stream's own end marker
        should still read on to the end of the body: only then can the connection
        be used again.
        """
        return self.body


def secrets_of(headers: Mapping[str, str | Secret]) -> Iterator[str]:
    """Yield what is secret in *headers*: what is said to be, or is named like it."""
    for name, value in headers.items():
        if isinstance(value, Secret):
            yield value.reveal().removeprefix("Bearer ")
        elif value.startswith("Bearer "):
            yield value.removeprefix("Bearer ")
        # A signature is of one request, and of no use to who reads it later.
        elif SECRET_NAME.search(name) and name != "authorization":
            yield value


def _of_the_key(error: DuckError) -> bool:
    return isinstance(error, ProviderAuthError | QuotaExceeded | RateLimited)


def _plain(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    plain: dict[str, str] = {}
    for key, value in raw:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        plain[name] = f"{plain[name]}, {text}" if name in plain else text
    return plain


def _is_identity(headers: Mapping[str, str]) -> bool:
    coding = headers.get("content-encoding")
    return coding is None or coding.strip().lower() in {"", "identity"}
