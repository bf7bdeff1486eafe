"""A listening TCP socket on a loopback address, for the optional HTTP listener."""

from __future__ import annotations

import ipaddress
import socket
from types import TracebackType
from typing import Final, Self, final

import attrs

from duckservice.paths import StartupError

_BACKLOG: Final = 1024


@final
@attrs.define(eq=False)
class TcpListener:
    """A listening socket; close it, or use it as a context."""

    socket: socket.socket
    """Non-blocking, listening."""

    @property
    def port(self) -> int:
        """The port, also where the system has chosen it."""
        port: int = self.socket.getsockname()[1]
        return port

    def close(self) -> None:
        """Stop listening. A second call does nothing."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def bind_tcp(host: str, port: int) -> TcpListener:
    """Return a listener at a loopback address; port 0 lets the system choose.

    Anybody on the machine can connect: who may do what is for a token to say.

    Raises `StartupError` if *host* is not a loopback IP address, or the system
    refuses.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise StartupError(f"service.http: {host!r} is not an IP address") from None
    if not address.is_loopback:
        raise StartupError(f"service.http: {host} is not a loopback address")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A daemon that restarts must not wait for its old connections to expire.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise StartupError(
            f"cannot listen at {host} port {port}: {error.strerror}"
        ) from error
    return TcpListener(listening)
