"""The optional loopback listener, ready to serve: its port, its token, its door."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final, final

import attrs

from duckservice.calls.call import Submitter
from duckservice.config import Secret, ServiceConfig
from duckservice.config_toml.refused import Refused
from duckservice.config_toml.secrets import read_token
from duckservice.gateway.asgi import ASGIApp
from duckservice.gateway.loopback_door import LoopbackDoor
from duckservice.gateway.tcp_socket import TcpListener, bind_tcp
from duckservice.loopback import loopback_address
from duckservice.paths import StartupError
from duckservice.redaction import register_secret

_NO_PROCESS: Final = 0
"""In place of the client's pid, which TCP does not tell."""


@final
@attrs.frozen(kw_only=True)
class HttpListener:
    """What the daemon serves beside its Unix socket: one TCP port, or nothing."""

    listeners: Sequence[TcpListener] = ()
    host: str = ""
    token: Secret | None = None

    @property
    def address(self) -> str | None:
        """Where clients find it; None: nowhere."""
        for listener in self.listeners:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"http://{host}:{listener.port}"
        return None

    def guarded(self, app: ASGIApp) -> ASGIApp:
        """Return *app* with a door for whoever comes over TCP, if anybody can."""
        for listener in self.listeners:
            assert self.token is not None, "there is no listener without a token"
            owner = Submitter(uid=os.geteuid(), gid=os.getegid(), pid=_NO_PROCESS)
            return LoopbackDoor(
                app, host=self.host, port=listener.port, token=self.token, owner=owner
            )
        return app


@contextmanager
def open_http(service: ServiceConfig) -> Generator[HttpListener]:
    """Listen where ``service.http`` says for the length of a block, or nowhere.

    Raises:
        StartupError: the port or the token cannot be had.
    """
    if not service.http:
        yield HttpListener()
        return
    address = loopback_address(service.http)
    if address is None:
        raise StartupError(f"service.http: {service.http!r} is no loopback address")
    if service.token_file is None:
        raise StartupError("service.http needs service.token_file")
    try:
        token = read_token(service.token_file)
    except Refused as error:
        msg = f"service.token_file: found {error.found}; allowed: {error.allowed}"
        raise StartupError(msg) from None
    register_secret(token)
    with bind_tcp(*address) as listener:
        yield HttpListener(listeners=[listener], host=address.host, token=token)
