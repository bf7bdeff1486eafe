"""One client's connection: read requests and have the application answer them.

One task does everything for a connection, the application included: a request
costs no task and no hop between tasks. Everything that ends a connection early
(the client hangs up, a limit is exceeded, the server stops) cancels the one
scope in which this task works, and with it whatever the application waits for,
an upstream call too. After that the connection is closed, so a request needs no
scope of its own.

    asleep --bytes--> head --complete--> application --answered--> asleep
      |                |                      |
      +----------------+------ cancelled -----+--> refusal, where nothing was
                                                   answered yet --> closed

Half-closing is hanging up: a client that shuts down its sending side while it
waits for the answer looks like one that died, and is treated like one.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, final

import attrs
import structlog
import trio

from duckservice.calls.call import Submitter
from duckservice.gateway.asgi import ASGIApp
from duckservice.gateway.client_socket import ClientSocket
from duckservice.gateway.exchange import Exchange
from duckservice.gateway.http1 import (
    HEAD_TOO_LATE,
    HEAD_TOO_LONG,
    OF_NO_USE_TO_PAGES,
    TOO_MUCH_AT_ONCE,
    Refusal,
    RequestHead,
    body_too_long,
    encode_refusal,
    internal_error,
    is_hopeless,
    malformed,
    parse_request_head,
)
from duckservice.gateway.limits import ServerLimits

_RECEIVE_BYTES: Final = 64 * 1024
_CRLF: Final = b"\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_PEER_CREDENTIALS: Final = struct.Struct("iII")

_log = structlog.get_logger("duckservice.gateway")


@attrs.define
class Shared:
    """What all connections of one server have in common."""

    app: ASGIApp
    limits: ServerLimits
    new_request_id: Callable[[], str]
    own_headers: Sequence[tuple[bytes, bytes]] = OF_NO_USE_TO_PAGES
    """On the answers that the application has no part in."""
    draining: bool = False
    requests: int = 0
    """Passed to the application so far."""
    bodies_bytes: int = 0
    """Received of the bodies of requests that are being answered."""


@final
class Connection:
    """The state of the conversation with one client."""

    __slots__ = (
        "_asleep",
        "_deadline",
        "_exchange",
        "_hung_up",
        "_refusal",
        "_scope",
        "_shared",
        "buffer",
        "client",
        "limits",
        "origin",
    )

    def __init__(self, sock: socket.socket, shared: Shared) -> None:
        self.client = ClientSocket(sock)
        self.limits = shared.limits
        self.origin = _origin(sock)
        """The entries of the ASGI scope that are the same for all requests here."""
        self.buffer = b""
        """Received, and not taken yet."""
        self._shared = shared
        self._scope = trio.CancelScope()
        self._exchange: Exchange | None = None
        self._hung_up = False
        self._refusal: Refusal | None = None
        """What to answer once the scope is cancelled."""
        self._asleep = False
        """Waits for a request, and has no byte of it."""
        self._deadline = math.inf
        """When `expire` ends the wait for a head. A plain number, which the server
        looks at now and then: a trio deadline would cost each request 3 µs."""

    @property
    def busy(self) -> bool:
        """Whether the application works for this client."""
        return self._exchange is not None

    @property
    def over_tcp(self) -> bool:
        """Whether the client has an address, and no credentials of the kernel's."""
        return self.origin["client"] is not None

    @property
    def is_admins(self) -> bool:
        """Whether root or the user who runs this process is at the other end.

        Over TCP nobody knows, before the token is shown.
        """
        peer: Submitter | None = self.origin["extensions"].get("duck.peer")
        return peer is not None and peer.uid in {0, os.geteuid()}

    @property
    def draining(self) -> bool:
        return self._shared.draining

    # What the server does to a connection; synchronous, from outside its task.

    def hang_up(self) -> None:
        """The client is gone: end the work for it at once."""
        self._hung_up = True
        if self._exchange is not None and not self._exchange.answered:
            self._scope.cancel(reason="the client hung up")

    def expire(self, now: float) -> None:
        """End the wait for a head, if its time is up."""
        if now < self._deadline:
            return
        self._deadline = math.inf
        if self._asleep:
            self.close_if_asleep()
        else:
            self._refusal = HEAD_TOO_LATE
            self._scope.cancel(reason="the head took too long")

    def close_if_asleep(self) -> None:
        """Close if no request is on its way, in the kernel's buffer neither."""
        if self._asleep and not self.client.has_input():
            self._scope.cancel(reason="the connection is idle")

    # What the exchange does.

    async def hold(self, size: int, whole: int) -> None:
        """Count *size* bytes more of a body, of which *whole* have come in all.

        Raises as `give_up` does, where all bodies together are too much.
        """
        shared, limits = self._shared, self.limits
        shared.bodies_bytes += size
        if (
            shared.bodies_bytes > limits.bodies_bytes_max
            and whole > limits.body_bytes_small
        ):
            await self.give_up(TOO_MUCH_AT_ONCE)

    def let_go(self, size: int) -> None:
        """Count a body no more."""
        self._shared.bodies_bytes -= size

    async def give_up(self, refusal: Refusal | None) -> NoReturn:
        """End the connection; with None, because nothing can be said to the client.

        Raises `trio.Cancelled`, or `trio.BrokenResourceError` if the caller is
        shielded from it.
        """
        if refusal is None:
            self._hung_up = True
        elif self._refusal is None:
            self._refusal = refusal
        self._scope.cancel(reason="the client broke a limit, or is gone")
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("the connection has ended")

    # The connection's own task.

    async def run(self) -> None:
        """Serve requests until the client or the server has had enough."""
        try:
            with self._scope:
                await self._serve_requests()
            await self._part()
        except Exception as error:  # noqa: BLE001 - a bug here must not end the others
            _report("gateway.connection_failed", error, "")

    async def refuse(self, refusal: Refusal) -> None:
        """Serve nothing; answer this and close."""
        self._refusal = refusal
        self._scope.cancel(reason="refused")
        await self.run()

    def close(self) -> None:
        """Close the socket, and let go of the last request, which knows its connection:
        two that hold each other stay in memory until somebody looks for such pairs."""
        self.client.close()
        self._exchange = None

    async def _serve_requests(self) -> None:
        while True:
            head = await self._read_head()
            match head:
                case None:
                    return
                case Refusal():
                    self._refusal = head
                    return
                case RequestHead():
                    if self._hung_up or not await self._serve(head):
                        return

    async def _serve(self, head: RequestHead) -> bool:
        """Have one request answered; return whether another one may follow."""
        if head.body > self.limits.body_bytes_max:
            self._refusal = body_too_long(self.limits.body_bytes_max)
            return False
        self._shared.requests += 1
        exchange = self._exchange = Exchange(self, head)
        try:
            await self._shared.app(exchange.scope(), exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - its client is told, others go on
            self._fail(exchange, error)
            return False
        finally:
            self.let_go(exchange.body_bytes)
        if not exchange.answered:
            # Who is cancelled may well stop without an answer.
            if not self._scope.cancel_called:
                self._fail(exchange, RuntimeError("the application did not answer"))
            return False
        if not exchange.skip_body() or not exchange.keep_alive:
            return False
        self._exchange = None
        return True

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        request_id = exchange.request_id(self._shared.new_request_id)
        _report("gateway.request_failed", error, request_id)
        if self._refusal is None:
            self._refusal = internal_error(request_id)

    async def _part(self) -> None:
        """Tell the client why this is the end, where it can still be told."""
        exchange = self._exchange
        if exchange is not None and exchange.started and not exchange.answered:
            if exchange.ends_with_connection:
                # Closing would look like the regular end of a half-sent answer.
                self.client.reset_on_close()
            return
        if self._hung_up:
            return
        if exchange is not None and exchange.answered:
            if not exchange.skip_body():
                await self._linger()
        elif self._refusal is not None:
            without_body = exchange is not None and exchange.is_head
            await self._send_refusal(self._refusal, without_body=without_body)

    async def _send_refusal(self, refusal: Refusal, *, without_body: bool) -> None:
        own = self._shared.own_headers
        answer = encode_refusal(refusal, without_body=without_body, headers=own)
        try:
            await self.client.send(answer, stall=self.limits.linger_time)
        except (trio.BrokenResourceError, trio.TooSlowError):
            return
        await self._linger()

    async def _linger(self) -> None:
        limits = self.limits
        await self.client.discard_input(limits.linger_time, limits.linger_bytes_max)

    # Heads.

    async def _read_head(self) -> RequestHead | Refusal | None:
        """Return the next request, or None at the end."""
        if self.buffer:
            # A row of pipelined requests must not keep other connections waiting.
            await trio.lowlevel.checkpoint()
        elif (
            self._shared.draining and not self.client.has_input()
        ) or not await self._sleep():
            return None
        buffer = self.buffer
        end = buffer.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD) or buffer.startswith(_CRLF):
            raw = await self._read_pieces()
            if not isinstance(raw, bytes):
                return raw
        elif end == len(buffer):
            raw, self.buffer = buffer, b""
        else:
            raw, self.buffer = buffer[:end], buffer[end:]
        if len(raw) > self.limits.head_bytes_max:
            return HEAD_TOO_LONG
        return parse_request_head(raw)

    async def _sleep(self) -> bool:
        """Wait for the next request's first bytes; return False at the end."""
        self._asleep = True
        self._deadline = trio.current_time() + self.limits.idle_time
        data = None
        while data is None:
            await trio.lowlevel.wait_readable(self.client.fd)
            data = self.client.receive_nowait(_RECEIVE_BYTES)
        self.buffer = data
        self._asleep = False
        self._deadline = math.inf
        return bool(data)

    async def _read_pieces(self) -> bytes | Refusal | None:
        """Return a head that did not come in one piece, or with CRLFs before it."""
        head = bytearray(self.buffer)
        self.buffer = b""
        scanned = 0
        self._deadline = trio.current_time() + self.limits.head_time
        while True:
            while head.startswith(_CRLF):
                del head[: len(_CRLF)]
            end = head.find(_END_OF_HEAD, scanned)
            if end >= 0:
                break
            if len(head) > self.limits.head_bytes_max:
                return HEAD_TOO_LONG
            if is_hopeless(head, scanned):
                return malformed("a line does not end in CRLF, or holds NUL")
            scanned = max(0, len(head) - len(_END_OF_HEAD) + 1)
            data = await self.client.receive(_RECEIVE_BYTES, math.inf)
            if not data:
                return None
            head += data
        self._deadline = math.inf
        end += len(_END_OF_HEAD)
        self.buffer = bytes(head[end:])
        return bytes(head[:end])


def _origin(sock: socket.socket) -> dict[str, Any]:
    origin: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "scheme": "http",
        "root_path": "",
        "extensions": {},
    }
    if sock.family == socket.AF_UNIX:
        credentials = sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size
        )
        pid, uid, gid = _PEER_CREDENTIALS.unpack(credentials)
        peer = Submitter(uid=uid, gid=gid, pid=pid)
        origin["extensions"]["duck.peer"] = peer
        origin["client"] = None
        origin["server"] = (sock.getsockname(), None)
    else:
        origin["client"] = tuple(sock.getpeername()[:2])
        origin["server"] = tuple(sock.getsockname()[:2])
    return origin


def _report(event: str, error: Exception, request_id: str) -> None:
    # A text, because structlog renders `exc_info` with the locals of each frame
    # unless it is set up not to.
    _log.error(
        event,
        request_id=request_id,
        error=type(error).__qualname__,
        traceback="".join(traceback.format_exception(error)),
    )
