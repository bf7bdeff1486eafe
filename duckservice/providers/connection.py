"""One TCP connection, with TLS or without, or through a proxy; it fails as httpx does."""

from __future__ import annotations

import errno
import re
import select
import socket
import ssl
from typing import Final, cast, final

import httpx
import trio

from duckservice.config import Proxy
from duckservice.providers import tunnel

_READ_BYTES: Final = 64 * 1024
_JOINED_BYTES_MAX: Final = 64 * 1024
_USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ClosedHere(httpx.NetworkError):
    """Our own side has closed the connection while it was in use."""


class NothingLeft(httpx.ConnectError):
    """This process may open no more, or this machine has no memory for it."""


@final
class Connection:
    """Bytes out, bytes in, and an end that needs no waiting."""

    __slots__ = ("_closed", "_poll", "_socket", "_stream")

    def __init__(self, wire: _Socket, stream: trio.abc.Stream) -> None:
        self._socket = wire
        self._stream = stream
        self._closed = False
        self._poll = select.poll()
        self._poll.register(wire.fileno(), select.POLLIN)

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None,
        proxy: Proxy | None = None,
    ) -> Connection:
        """Connect, with TLS if there is a context for it, through the *proxy*'s tunnel.

        Raises `httpx.ConnectError`, whose text is host, port and the system's
        reason; `NothingLeft` where that is no fault of the server's.
        """
        place = f"{host}:{port}"
        try:
            if proxy is None:
                wire = await _connected(host, port)
            else:
                place = f"the proxy {proxy}"
                wire = await _connected(proxy.host, proxy.port)
                await _through(wire, proxy, host, port)
                place = f"{host}:{port} through the proxy {proxy}"
            if ssl_context is None:
                return cls(wire, wire)
            return cls(wire, await _with_tls(wire, ssl_context, host))
        except (OSError, trio.BrokenResourceError) as error:
            reason = f"{place}: {connect_reason(error)}"
            cause = _root_cause(error)
            if isinstance(cause, OSError) and cause.errno in _USED_UP:
                raise NothingLeft(reason) from error
            raise httpx.ConnectError(reason) from error

    @property
    def bytes_sent(self) -> int:
        """How many bytes the operating system has taken, TLS's own included."""
        return self._socket.bytes_sent

    def is_quiet(self) -> bool:
        """Say whether there is nothing to read: no data, no error, and no end."""
        return not self._poll.poll(0)

    async def send(self, head: bytes, body: bytes) -> None:
        """Send both. Raises `httpx.WriteError`, or `ClosedHere`."""
        try:
            if len(body) <= _JOINED_BYTES_MAX:
                await self._stream.send_all(head + body)
            else:
                await self._stream.send_all(head)
                await self._stream.send_all(body)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if self._closed:
                raise ClosedHere("the connection was closed here") from error
            raise httpx.WriteError("the connection broke off") from error

    async def receive(self) -> bytes:
        """Return what has come, or nothing at the end.

        Raises `httpx.ReadError`, or `ClosedHere`.
        """
        try:
            return bytes(await self._stream.receive_some(_READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if self._closed:
                raise ClosedHere("the connection was closed here") from error
            raise httpx.ReadError("the connection broke off") from error

    async def is_drained(self) -> bool:
        """Say whether all that came has been received.

        TLS may have more in its buffers, where `is_quiet` does not look.
        """
        if self._stream is self._socket:
            return True
        self._socket.is_dry = True
        try:
            await self._stream.receive_some(1)
        except trio.WouldBlock:
            return True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        finally:
            self._socket.is_dry = False
        return False

    def close(self) -> None:
        """Close it without a farewell. Whoever waits for it gets an error."""
        self._closed = True
        self._socket.close()


@final
class _Socket(trio.abc.Stream):
    """A socket that counts what it sends and closes without waiting.

    The socket is used directly, and trio is asked to wait only when the kernel
    would block: trio's own methods pass through the scheduler every time. Reading
    waits first, because an answer, or the next piece of one, is seldom there yet.
    """

    def __init__(self, connected: trio.socket.SocketType) -> None:
        self._socket = socket.socket(fileno=connected.detach())
        self._socket.setblocking(False)
        self._has_more = False
        """Whether the last read was as large as it may be."""
        self.bytes_sent = 0
        self.is_dry = False
        """Whether reading raises `trio.WouldBlock` in place of reading."""

    def fileno(self) -> int:
        return self._socket.fileno()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        sent = await self._send(data)
        if sent < len(data):
            with memoryview(data) as rest:
                while sent < len(data):
                    sent += await self._send(rest[sent:])

    async def _send(self, data: bytes | bytearray | memoryview) -> int:
        while True:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            else:
                self.bytes_sent += sent
                return sent

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self.is_dry:
            raise trio.WouldBlock
        size = max_bytes or _READ_BYTES
        if self._has_more:
            await trio.lowlevel.checkpoint()
        while True:
            try:
                if not self._has_more:
                    await trio.lowlevel.wait_readable(self._socket)
                data = self._socket.recv(size)
            except BlockingIOError:
                self._has_more = False
            except (OSError, ValueError) as error:
                # ValueError: a closed socket has no file descriptor to wait for.
                raise trio.BrokenResourceError(str(error)) from error
            else:
                self._has_more = len(data) == size
                return data

    def close(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


async def _connected(host: str, port: int) -> _Socket:
    # trio sets TCP_NODELAY for every SocketStream that it makes.
    return _Socket((await trio.open_tcp_stream(host, port)).socket)


async def _through(wire: _Socket, proxy: Proxy, host: str, port: int) -> None:
    """Have the proxy at the other end of *wire* connect it to *host*."""
    try:
        await tunnel.ask(wire, proxy, host, port)
    except BaseException:
        wire.close()
        raise


async def _with_tls(
    wire: _Socket, ssl_context: ssl.SSLContext, host: str
) -> trio.SSLStream[_Socket]:
    tls = trio.SSLStream(wire, ssl_context, server_hostname=host, https_compatible=True)
    try:
        await tls.do_handshake()
    except BaseException:
        wire.close()
        raise
    return tls


_TRIOS_WORDS: Final = re.compile(r"^Error connecting to \(.*?\): ")
"""They name the address, which is named already."""


def connect_reason(error: BaseException) -> str:
    """Return in a few words why connecting failed, as the system puts it."""
    match _root_cause(error):
        case ssl.SSLCertVerificationError() as refusal:
            return f"its certificate is refused: {refusal.verify_message}"
        case tunnel.Denied() as denial:
            return str(denial)
        case ssl.SSLError() as failure:
            return f"TLS failed: {failure.reason or 'it was cut off'}"
        case OSError(strerror=str(text)):
            return _TRIOS_WORDS.sub("", text)
        case _:
            return "the connection broke off"


def _root_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__) is not None:
        if isinstance(cause, ExceptionGroup):
            # One for every address of the host; the first was the preferred one.
            group = cast("ExceptionGroup[Exception]", cause)
            return group.exceptions[0]
        error = cause
    return error
