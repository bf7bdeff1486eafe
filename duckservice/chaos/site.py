"""One run's daemon on a socket of its own, with its upstreams around it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import attrs
import trio

from duckservice.chaos.client import Seen, ask
from duckservice.chaos.rehearsal import Rehearsal
from duckservice.chaos.upstream import Call, Stage, Upstream
from duckservice.daemon import open_daemon

OpenDaemon: TypeAlias = Callable[..., AbstractAsyncContextManager[object]]
"""`open_daemon`, or what stands in for it where the bench itself is tried."""


@attrs.frozen(kw_only=True)
class Site:
    """What a scenario has to do with."""

    socket: Path
    model: str
    stage: Stage
    upstreams: Mapping[str, Upstream]

    async def ask(self, nonce: str, *, stream: bool, limit: float) -> Seen:
        """Ask for a chat."""
        return await ask(
            self.socket, model=self.model, nonce=nonce, stream=stream, limit=limit
        )

    def calls(self, nonce: str) -> list[Call]:
        """Return the calls that were made for a request."""
        return [call for call in self.stage.calls if call.nonce == nonce]


def new_nonce() -> str:
    """Return what makes a request, and its right answer, unlike all others."""
    return f"duck-chaos-{secrets.token_hex(6)}"


@asynccontextmanager
async def open_site(
    rehearsal: Rehearsal,
    model: str,
    folder: Path,
    stage: Stage,
    *,
    daemon: OpenDaemon = open_daemon,
    latency: float = 0.0,
) -> AsyncGenerator[Site]:
    """Run upstreams and a daemon in front of them for the length of a block.

    Raises what `open_daemon` raises.
    """
    upstreams = {
        name: Upstream(
            name, stage, its.timeout.first_byte, rehearsal.owner, latency=latency
        )
        for name, its in rehearsal.config.providers.items()
    }
    async with trio.open_nursery() as nursery:
        for upstream in upstreams.values():
            await nursery.start(upstream.serve)
        config = rehearsal.at({name: its.port for name, its in upstreams.items()})
        socket = folder / "duckd.sock"
        try:
            async with daemon(config, socket, state_dir=folder / "state"):
                yield Site(socket=socket, model=model, stage=stage, upstreams=upstreams)
        finally:
            nursery.cancel_scope.cancel()
            for upstream in upstreams.values():
                upstream.close()
