"""A walk over the whole API of a real daemon, which holds each answer against the document."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from duckservice.config import Config, parse
from duckservice.daemon import Daemon, open_daemon
from tests.gateway.serving import RawClient
from tests.openapi.described import Asked, answer_faults, request_faults

CONFIG = """
[providers.mock]
models = ["mock-echo", "mock-*"]

[providers.broken]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
api_keys = ["env:ONE", "env:TWO"]
models = ["nobody-serves-it"]
breaker = { failure_threshold = 1 }
limits = { requests_per_minute = 100 }

[retry]
max_attempts = 1
base_delay = "0s"
max_delay = "0s"

[cache]
enabled = true

[budgets.team]
limit_usd = 1.0
match = { tag = "team=core" }

[budgets.ever]
limit_usd = 1000.0
window = "total"
match = { submitter = 4711, provider = "mock", model = "mock-*" }
"""
KEYS = {"ONE": "the-first-key-of-this-test-01", "TWO": "the-second-key-of-this-test-02"}


def config() -> Config:
    return parse(CONFIG, file="tour.toml", environ=KEYS)


@attrs.frozen
class Answer:
    """What the daemon has answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@attrs.define
class Tour:
    """Asks, and looks at every answer."""

    socket: Path
    daemon: Daemon
    visited: set[tuple[str, str, int]] = attrs.field(factory=set[tuple[str, str, int]])
    """Methods, paths and statuses."""
    codes: set[str] = attrs.field(factory=set[str])
    """Of the errors that were met."""

    async def ask(
        self,
        status: int,
        method: str,
        target: str,
        body: Any = b"",
        **headers: str,
    ) -> Answer:
        """Ask; the answer must have *status* and be as the document says."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = Asked(method, target, said, data)
        reply = await self._send(asked)
        found = asked.operation()
        assert found is not None, f"{method} {target} is not in the document"
        path, operation = found
        faults = answer_faults(operation, reply.status, reply.headers, reply.body)
        if reply.status < 300:
            faults += request_faults(asked, operation)
        assert faults == [], f"{method} {target}: {faults}"
        assert reply.status == status, f"{method} {target}: {reply}"
        self.visited.add((method, path, reply.status))
        if status >= 400:
            self.codes.add(reply.json()["error"]["code"])
        return reply

    async def get(self, target: str, status: int = 200, **headers: str) -> Answer:
        """GET; see `ask`."""
        return await self.ask(status, "GET", target, **headers)

    async def post(
        self, target: str, body: Any = b"", status: int = 200, **headers: str
    ) -> Answer:
        """POST; see `ask`."""
        return await self.ask(status, "POST", target, body, **headers)

    async def _send(self, asked: Asked) -> Answer:
        lines = [
            f"{asked.method} {asked.target} HTTP/1.1",
            "host: duck",
            f"content-length: {len(asked.body)}",
            *(f"{name}: {value}" for name, value in asked.headers.items()),
        ]
        head = "\r\n".join([*lines, "", ""]).encode()
        async with await trio.open_unix_socket(self.socket) as stream:
            reply = await RawClient(stream).ask(head + asked.body)
        return Answer(reply.status, reply.headers, reply.body)


@asynccontextmanager
async def touring() -> AsyncGenerator[Tour]:
    """Run a daemon to be toured for the length of a block."""
    with tempfile.TemporaryDirectory() as folder, trio.fail_after(60):
        place = Path(folder, "d")
        async with open_daemon(
            config(), place / "duckd.sock", state_dir=place, read_config=config
        ) as daemon:
            yield Tour(place / "duckd.sock", daemon)
