"""A real HTTP proxy on loopback that makes tunnels (CONNECT), and keeps what it was asked.

Whatever name it is asked for is this machine to it: so a test has an upstream that is not
on loopback, as far as the client can tell.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

MADE = b"HTTP/1.1 200 Connection established\r\n\r\n"


@attrs.define
class ConnectProxy:
    """The proxy, while it runs."""

    reply: bytes
    """What it says instead, unless it is `MADE`."""
    port: int = 0
    heads: list[bytes] = attrs.field(factory=list)
    """Of each request."""
    passed: bytearray = attrs.field(factory=bytearray)
    """What clients have sent through tunnels."""

    @property
    def targets(self) -> list[str]:
        return [head.split(b" ")[1].decode() for head in self.heads]

    async def serve(self, client: trio.SocketStream) -> None:
        try:
            await self._serve(client)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one of the two has gone away
        finally:
            client.socket.close()

    async def _serve(self, client: trio.SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = await client.receive_some()
            if not data:
                return
            head += data
        self.heads.append(head)
        if self.reply == b"HANG":
            await trio.sleep_forever()
        if self.reply != MADE:
            await client.send_all(self.reply)
            return
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        server = await trio.open_tcp_stream("127.0.0.1", port)
        await client.send_all(MADE)
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, server, client)
            async for data in client:
                self.passed += data
                await server.send_all(data)
            nursery.cancel_scope.cancel()

    async def _pass_on(self, server, client) -> None:
        async for data in server:
            await client.send_all(data)


@asynccontextmanager
async def open_proxy(reply: bytes = MADE) -> AsyncGenerator[ConnectProxy]:
    """Serve on a port of loopback that the system chooses."""
    proxy = ConnectProxy(reply)
    async with trio.open_nursery() as nursery:
        listen = functools.partial(trio.serve_tcp, proxy.serve, 0, host="127.0.0.1")
        [listener] = await nursery.start(listen)
        proxy.port = listener.socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()
