"""What the tests of the HTTP layer share: a client to an upstream, and fds."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest
import trustme

from duckservice.config import Secret, TimeoutConfig
from duckservice.errors import DuckError, ProviderError
from duckservice.providers.fast_transport import FastTransport
from duckservice.providers.http import HttpClient

KEY = "sk-canary-7f3a9c51d2"

TRANSPORTS = {"fast": FastTransport}

both_transports = pytest.mark.parametrize("kind", sorted(TRANSPORTS))


class Refused(ProviderError):
    """What `classify` makes of a status: it keeps what it was given."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"status {status}", provider="duck")
        self.given = (status, headers, body)


@asynccontextmanager
async def open_client(
    base_url: str,
    kind: str | None = "fast",
    *,
    ssl_context: ssl.SSLContext | None = None,
    timeout: Mapping[str, float] | None = None,  # noqa: ASYNC109 - a config, no deadline
    transport: httpx.AsyncBaseTransport | None = None,
    **more,
) -> AsyncGenerator[HttpClient]:
    """Open a client whose time limits are long, except for those of *timeout*.

    With None for *kind*, it has the transport that it would choose itself.
    """
    limits = {"connect": 20.0, "first_byte": 20.0, "idle": 20.0, "total": 20.0}
    if transport is None and kind is not None:
        transport = TRANSPORTS[kind](ssl_context=ssl_context)
    client = HttpClient(
        provider="duck",
        base_url=base_url,
        timeout=TimeoutConfig(**limits | dict(timeout or {})),
        ssl_context=ssl_context,
        transport=transport,
        **{
            "headers": {"authorization": Secret(f"Bearer {KEY}")},
            "classify": Refused,
        }
        | more,
    )
    try:
        yield client
    finally:
        await client.aclose()


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def chain(error: BaseException | None) -> str:
    """Return all that a traceback would print of *error* and its causes."""
    text = ""
    while error is not None:
        text += f"{error!r} {error} "
        error = error.__cause__ or error.__context__
    return text


def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server called localhost and of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


__all__ = [
    "KEY",
    "TRANSPORTS",
    "DuckError",
    "Refused",
    "both_transports",
    "chain",
    "open_client",
    "open_fds",
    "tls",
]
