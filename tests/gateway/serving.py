"""A server on real sockets, and a client that sends whatever bytes it is told."""

import contextlib
import tempfile
from pathlib import Path

import attrs
import trio

from duckservice.gateway.server import Server, ServerLimits, serve
from duckservice.gateway.tcp_socket import TcpListener, bind_tcp
from duckservice.gateway.unix_socket import UnixListener, bind_unix

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, *more: bytes) -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join([*lines, b"", body])


@attrs.define
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


@attrs.define
class RawClient:
    """Reads responses strictly: what ends early, or says so wrongly, raises."""

    stream: trio.SocketStream
    pending: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(self, data: bytes, *, head: bool = False) -> Response:
        await self.send(data)
        return await self.response(head=head)

    async def response(self, *, head: bool = False) -> Response:
        with trio.fail_after(5):
            status, headers = await self.head()
            if head or status in (204, 304):
                return Response(status, headers, b"")
            return Response(status, headers, await self._body(headers))

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = [line.split(": ", 1) for line in lines[1:-2]]
        headers = dict(fields)
        assert len(headers) == len(fields), "a header came twice"
        return int(lines[0].split(" ")[1]), headers

    async def chunk(self) -> bytes:
        size = int(await self._until(b"\r\n"), 16)
        data = await self._exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := await self.chunk():
                body += chunk
            return body
        if "content-length" in headers:
            return await self._exactly(int(headers["content-length"]))
        return await self.rest()

    async def _until(self, end: bytes) -> bytes:
        while end not in self.pending:
            await self._more()
        found, _, self.pending = self.pending.partition(end)
        return found + end

    async def _exactly(self, size: int) -> bytes:
        while len(self.pending) < size:
            await self._more()
        found, self.pending = self.pending[:size], self.pending[size:]
        return found

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError(self.pending)
        self.pending += data

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        with trio.fail_after(5):
            while data := await self.stream.receive_some():
                self.pending += data
        found, self.pending = self.pending, b""
        return found

    async def at_end(self) -> bool:
        """Whether the server closes without another byte."""
        return await self.rest() == b""


@attrs.define
class Serving:
    server: Server
    listener: UnixListener | TcpListener
    nursery: trio.Nursery
    clients: contextlib.AsyncExitStack

    async def connect(self) -> RawClient:
        with trio.fail_after(5):
            if isinstance(self.listener, UnixListener):
                stream = await trio.open_unix_socket(self.listener.path)
            else:
                stream = await trio.open_tcp_stream("127.0.0.1", self.listener.port)
        await self.clients.enter_async_context(stream)
        return RawClient(stream)

    async def disconnected(self) -> None:
        """Wait until the server has noticed that all clients are gone."""
        with trio.fail_after(5):
            await self.server.wait_idle()


@contextlib.asynccontextmanager
async def serving(app, *, tcp: bool = False, **limits):
    """Serve *app* until the block ends, then abort."""
    with contextlib.ExitStack() as stack:
        if tcp:
            listener = stack.enter_context(bind_tcp("127.0.0.1", 0))
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            listener = stack.enter_context(bind_unix(Path(directory, "s")))
        async with (
            contextlib.AsyncExitStack() as clients,
            trio.open_nursery() as nursery,
        ):
            server = await nursery.start(_serve, app, listener, ServerLimits(**limits))
            yield Serving(server, listener, nursery, clients)
            nursery.cancel_scope.cancel()


async def _serve(app, listener, limits, *, task_status):
    await serve(app, [listener], limits=limits, task_status=task_status)


async def until(condition) -> None:
    """Wait until the condition holds, for what no event tells."""
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - no event tells
            await trio.sleep(0.001)


async def read_body(receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    return body


async def answer(send, status=200, body=b"", headers=()) -> None:
    start = {"type": "http.response.start", "status": status, "headers": list(headers)}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send) -> None:
    """Answer with method, path and body of the request."""
    body = await read_body(receive)
    text = f"{scope['method']} {scope['path']} ".encode()
    await answer(send, body=text + body)


class Hanging:
    """An application that works for ever, and says when it starts and stops."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.stopped = trio.Event()

    async def __call__(self, scope, receive, send) -> None:
        await read_body(receive)
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.stopped.set()
