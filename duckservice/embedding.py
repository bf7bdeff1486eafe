"""The service for a trio program that embeds it, without a socket.

async with open_service(config) as duck: ...
duck = await nursery.start(run, config)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import final

import attrs
import structlog
import trio

from duckservice.call import CallOptions
from duckservice.completion import (
    ChatRequest,
    Chunk,
    Completion,
    EmbeddingRequest,
    Embeddings,
)
from duckservice.config import Config
from duckservice.events import Event, to_log
from duckservice.providers.base import Provider
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams


@final
@attrs.frozen(eq=False)
class Duck:
    """A running service, in your own process."""

    service: RunningService
    """Answers with reports, status, costs, the tree."""

    async def complete(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> Completion:
        """Return the completion that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return (await self.service.complete(request, options)).value

    def stream(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """Stream the completion; entered when its first chunks are here.

        Raises:
            DuckError: at the entrance, or while iterating.
        """
        return _stream(self.service, request, options)

    async def embed(
        self, request: EmbeddingRequest, options: CallOptions | None = None
    ) -> Embeddings:
        """Return the embeddings that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return (await self.service.embed(request, options)).value


@asynccontextmanager
async def open_service(
    config: Config,
    *,
    providers: Mapping[str, Provider] | None = None,
    seams: Seams | None = None,
) -> AsyncGenerator[Duck]:
    """Run the service for the length of a block.

    *providers* replace the configured adapters, by name. Requests under way
    when the block ends are the block's to wait for. Events go to structlog if
    the program has configured it, and nowhere otherwise; *seams* say otherwise.

    Raises:
        RestartIntensityReached: the tree has given up; the block was cancelled.
    """
    if seams is None:
        # An unconfigured structlog prints to stdout, which is not ours to write to.
        seams = Seams(emit=to_log if structlog.is_configured() else _ignore)
    async with open_running(config, providers=providers, seams=seams) as service:
        yield Duck(service)


async def run(
    config: Config,
    *,
    providers: Mapping[str, Provider] | None = None,
    seams: Seams | None = None,
    task_status: trio.TaskStatus[Duck] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the service until cancelled: ``duck = await nursery.start(run, config)``."""
    async with open_service(config, providers=providers, seams=seams) as duck:
        task_status.started(duck)
        await trio.sleep_forever()


@asynccontextmanager
async def _stream(
    service: RunningService, request: ChatRequest, options: CallOptions | None
) -> AsyncGenerator[AsyncIterator[Chunk]]:
    async with (
        service.stream(request, options) as answer,
        aclosing(_one_by_one(answer.batches)) as chunks,
    ):
        yield chunks


def _ignore(_event: Event) -> None:
    pass


async def _one_by_one(
    batches: AsyncIterator[Sequence[Chunk]],
) -> AsyncGenerator[Chunk]:
    async for batch in batches:
        for chunk in batch:
            yield chunk
