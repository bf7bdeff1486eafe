"""A dashboard on a real port, before a real daemon on a real socket."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from pathlib import Path

import attrs
import pytest
import trio

from duckservice.config import Config, ProviderConfig
from duckservice.daemon import open_daemon
from duckservice.dashboard.serving import open_dashboard
from duckservice.gateway.client import DaemonClient
from tests.gateway.serving import RawClient, Response

CONFIG = Config(
    providers={
        "mock": ProviderConfig(name="mock", adapter="mock", models=("mock-*",)),
    }
)
CHAT = {"model": "mock-echo", "messages": [{"role": "user", "content": "quack"}]}


@attrs.define(slots=False)
class Browser:
    """Asks the dashboard as a page of its own would, or however it is told."""

    port: int
    closing: contextlib.AsyncExitStack
    cookie: str = ""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self) -> RawClient:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        return RawClient(await self.closing.enter_async_context(stream))

    def head(self, method, path, headers, host, cookie) -> bytes:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {f'127.0.0.1:{self.port}' if host is None else host}",
        ]
        shown = self.cookie if cookie is None else cookie
        if shown:
            lines.append(f"Cookie: {shown}")
        return "\r\n".join([*lines, *headers, "", ""]).encode()

    async def get(self, path, *headers, method="GET", host=None, cookie=None):
        client = await self.connect()
        data = self.head(method, path, headers, host, cookie)
        return await client.ask(data, head=method == "HEAD")

    async def post(self, path, *headers, **more) -> Response:
        headers = headers or (f"Origin: {self.origin}", "Duck-Dashboard: 1")
        return await self.get(path, *headers, method="POST", **more)

    async def enter(self, url: str, *headers) -> Response:
        path = url.removeprefix(self.origin)
        reply = await self.get(path, *headers, cookie="")
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply

    async def stream(self, *headers) -> Events:
        client = await self.connect()
        await client.send(self.head("GET", "/stream", headers, None, None))
        status, fields = await client.head()
        assert status == 200, await client._body(fields)
        return Events(client)


@attrs.define
class Event:
    name: str
    data: dict
    id: str = ""


@attrs.define
class Events:
    """Reads a page's stream."""

    client: RawClient
    pending: bytes = b""

    async def next(self) -> Event:
        with trio.fail_after(10):
            while True:
                text, end, rest = self.pending.partition(b"\n\n")
                if not end:
                    self.pending += await self.client.chunk()
                    continue
                self.pending = rest
                fields = dict(re.findall(r"^(\w+): (.*)$", text.decode(), re.MULTILINE))
                if "event" in fields:
                    its = fields["event"], json.loads(fields["data"])
                    return Event(*its, fields.get("id", ""))

    async def until(self, name, condition=lambda _: True) -> Event:
        """The next event of that name for whose data the condition holds."""
        with trio.fail_after(10):
            while True:
                event = await self.next()
                if event.name == name and condition(event.data):
                    return event


@attrs.define
class Stage:
    client: DaemonClient
    dashboard: object
    browser: Browser

    async def ask(self, method, path, body=None):
        """Ask the daemon, past the dashboard."""
        answer = await trio.to_thread.run_sync(self.client.request, method, path, body)
        return answer.json()


@contextlib.asynccontextmanager
async def open_stage(socket: Path, **more):
    """Serve a dashboard before whatever is or will be at *socket*, and come in."""
    client = DaemonClient(socket)
    async with (
        open_dashboard(client, period=0.05, **more) as dashboard,
        contextlib.AsyncExitStack() as closing,
    ):
        browser = Browser(dashboard.port, closing)
        assert (await browser.enter(dashboard.new_url())).status == 303
        yield Stage(client, dashboard, browser)


@pytest.fixture
def socket():
    """A path for a socket; short enough to be one."""
    with tempfile.TemporaryDirectory(prefix="duck-") as folder:
        yield Path(folder, "d", "duckd.sock")


@contextlib.asynccontextmanager
async def daemon_at(socket: Path):
    async with open_daemon(CONFIG, socket) as daemon:
        yield daemon


@pytest.fixture
async def stage(socket):
    async with daemon_at(socket), open_stage(socket) as stage:
        yield stage
