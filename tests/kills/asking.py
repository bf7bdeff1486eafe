"""A client's connection to a daemon that may be gone at any moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

import attrs
import trio

from tests.gateway.serving import RawClient, Response

BROKEN = (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError)


class Gone(Exception):
    """The daemon has died, or was not there: nobody knows what became of the request."""


@attrs.define
class Caller:
    """Sends one request after another, over one connection while it lasts."""

    socket: Path
    _client: RawClient | None = None

    async def ask(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> Response:
        """Return the answer, whatever its status.

        Raises:
            Gone: there was none.
        """
        try:
            client = await self._connected()
            return await client.ask(_request(method, target, body, headers))
        except (*BROKEN, trio.TooSlowError) as error:
            self.close()
            # Too slow is a failure, not a death: who waits for 5 s is not forgotten.
            if isinstance(error, trio.TooSlowError):
                raise
            raise Gone from error

    async def lines(
        self, target: str, body: bytes, **headers: str
    ) -> AsyncGenerator[bytes]:
        """Yield the answer's lines as they come, also of one that breaks off.

        Raises:
            Gone: it broke off.
        """
        pending = b""
        try:
            client = await self._connected()
            await client.send(_request("POST", target, body, headers))
            with trio.fail_after(10):
                status, fields = await client.head()
            if "content-length" in fields:
                self.close()
                yield b"%d" % status
                return
            while True:
                with trio.fail_after(10):
                    chunk = await client.chunk()
                if not chunk:
                    return
                *whole, pending = (pending + chunk).split(b"\n")
                for line in whole:
                    yield line
        except BROKEN as error:
            self.close()
            raise Gone from error

    def close(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            client.stream.socket.close()

    async def _connected(self) -> RawClient:
        if self._client is None:
            self._client = RawClient(await trio.open_unix_socket(self.socket))
        return self._client


async def read_lines(
    caller: Caller, target: str, body: bytes, **headers: str
) -> list[bytes]:
    """Return the lines that have come, whether or not the answer came to its end."""
    found = list[bytes]()
    with suppress(Gone):
        async with aclosing(caller.lines(target, body, **headers)) as lines:
            async for line in lines:
                found.append(line)
    return found


def _request(method: str, target: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [
        f"{method} {target} HTTP/1.1",
        "host: duck",
        f"content-length: {len(body)}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
