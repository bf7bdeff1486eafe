"""A tunnel through an HTTP proxy (CONNECT): what is asked for, and what is made of the answer.

The proxy learns a host and a port, and passes bytes on from then on. It is no end of the
TLS that goes through it, and is shown nothing but its own login.
"""

from __future__ import annotations

import base64
import re
from typing import Final

import trio

from duckservice.config import Proxy

HEAD_BYTES_MAX: Final = 64 * 1024
CUT_OFF: Final = "it closed the connection before it answered"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_END: Final = re.compile(rb"\r?\n\r?\n")


class Denied(OSError):
    """The proxy made no tunnel; ``str`` is why, in our words: its own may echo the login."""


async def ask(stream: trio.abc.Stream, proxy: Proxy, host: str, port: int) -> None:
    """Ask *proxy*, at the other end of *stream*, for a tunnel to *host*.

    Raises `Denied`, and what the stream raises.
    """
    await stream.send_all(request(proxy, host, port))
    answer = b""
    while not is_made(answer, proxy, host, port):
        data = await stream.receive_some()
        if not data:
            raise Denied(CUT_OFF)
        answer += data


def request(proxy: Proxy, host: str, port: int) -> bytes:
    """Return what asks *proxy* for a tunnel to *host*."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", "User-Agent: duckservice"]
    if proxy.login is not None:
        login = base64.b64encode(proxy.login.reveal().encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {login}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def is_made(answer: bytes, proxy: Proxy, host: str, port: int) -> bool:
    """Say whether *answer*, as far as it has come, has made the tunnel.

    Raises `Denied` where it never will.
    """
    end = _END.search(answer)
    if end is None:
        if len(answer) > HEAD_BYTES_MAX:
            raise Denied("it answered with too large a head")
        return False
    status = _STATUS.match(answer)
    if status is None:
        raise Denied("it did not answer in valid HTTP")
    _judge(int(status[1]), proxy, f"{host}:{port}")
    if answer[end.end() :]:
        # A server waits for the client to begin TLS: these bytes are not its.
        raise Denied("it sent something of its own into the tunnel")
    return True


def _judge(status: int, proxy: Proxy, place: str) -> None:
    if 200 <= status < 300:
        return
    if status == 407:
        known = "refuses the login in its URL" if proxy.login else "asks for a login"
        raise Denied(f"it {known} (407)")
    raise Denied(f"it makes no tunnel to {place} (status {status})")
