"""Bytes to and from one client over a non-blocking socket, with limits on waiting.

The socket is used directly, and trio is asked to wait only when the kernel would
block: trio's own socket methods pass through the scheduler every time, which
costs more than the system call does.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, final

import trio

_JOINED_BYTES_MAX: Final = 64 * 1024
_DISCARD_BYTES: Final = 256 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@final
class ClientSocket:
    """An accepted stream socket, which it owns."""

    __slots__ = ("_sock", "fd")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self.fd = sock.fileno()

    def receive_nowait(self, bytes_max: int) -> bytes | None:
        """Return what has come; empty at the end or after a reset, None: nothing."""
        try:
            return self._sock.recv(bytes_max)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def has_input(self) -> bool:
        """Say whether there is something to receive, the end included."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    async def receive(self, bytes_max: int, silence: float) -> bytes:
        """Return what comes next; empty at the end or after a reset.

        Raises `trio.TooSlowError` after *silence* seconds without a byte.
        """
        data = self.receive_nowait(bytes_max)
        if data is not None:
            # A client that sends faster than we read must not stop the others.
            await trio.lowlevel.checkpoint()
            return data
        with trio.fail_after(silence):
            while data is None:
                await trio.lowlevel.wait_readable(self.fd)
                data = self.receive_nowait(bytes_max)
        return data

    async def send(self, data: bytes, more: bytes = b"", *, stall: float) -> None:
        """Send *data* and then *more*; not a checkpoint where the kernel takes all.

        Raises:
            trio.TooSlowError: the client took nothing for *stall* seconds.
            trio.BrokenResourceError: the client is gone.

        """
        if more and len(more) <= _JOINED_BYTES_MAX:
            data, more = data + more, b""
        try:
            sent = self._sock.sendmsg((data, more)) if more else self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise trio.BrokenResourceError from error
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:], stall)
            sent = len(data)
        if more and sent < len(data) + len(more):
            await self._send_rest(memoryview(more)[sent - len(data) :], stall)

    async def _send_rest(self, data: memoryview, stall: float) -> None:
        while data:
            with trio.fail_after(stall):
                await trio.lowlevel.wait_writable(self.fd)
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def discard_input(self, time: float, bytes_max: int) -> None:
        """Say that nothing more is sent, and read until the client agrees.

        Closing with bytes unread would reset the connection, and the client could
        lose the answer that it has not read yet. Stops after *time* seconds or
        *bytes_max* bytes.
        """
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        with trio.move_on_after(time):
            while bytes_max > 0:
                data = await self.receive(_DISCARD_BYTES, time)
                if not data:
                    return
                bytes_max -= len(data)

    def reset_on_close(self) -> None:
        """Let `close` look like a failure, not like an end, where TCP allows it."""
        if self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def close(self) -> None:
        trio.lowlevel.notify_closing(self.fd)
        self._sock.close()
