"""A socket as systemd's, which remembers what it is told."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager

import attrs
import trio


@attrs.define
class NotifySocket:
    """Receives notifications, and keeps them in their order."""

    address: str
    _socket: trio.socket.SocketType
    told: list[dict[str, str]] = attrs.field(factory=list[dict[str, str]])

    async def next(self, name: str) -> dict[str, str]:
        """Wait for the next message that assigns *name*, and return it."""
        with trio.fail_after(20):
            while True:
                message = parsed(await self._socket.recv(65536))
                self.told.append(message)
                if name in message:
                    return message

    def waiting(self) -> list[dict[str, str]]:
        """Return what has come and was not waited for."""
        raw = self._socket._sock
        while True:
            try:
                self.told.append(parsed(raw.recv(65536)))
            except BlockingIOError:
                return self.told


def parsed(message: bytes) -> dict[str, str]:
    lines = (line.partition("=") for line in message.decode().splitlines())
    return {name: value for name, _, value in lines}


@contextmanager
def open_notify_socket(address: str) -> Generator[NotifySocket]:
    """Listen at a path, or at ``@name`` in the abstract namespace."""
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name)
        sock.setblocking(False)
        yield NotifySocket(address, trio.socket.from_stdlib_socket(sock))
