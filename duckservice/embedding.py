"""The service for a trio program that embeds it, without a socket.

async with open_service(config) as duck: ...
duck = await nursery.start(run, config)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from typing import TypedDict, Unpack, final

import attrs
import structlog
import trio

from duckservice.calls.call import CallOptions, Priority
from duckservice.calls.offers import Priced, cheapest
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    Chunk,
    Completion,
    EmbeddingRequest,
    Embeddings,
    ImageRequest,
    Images,
)
from duckservice.config import Config
from duckservice.core.job import Job, OnInterrupt
from duckservice.errors import DuckError
from duckservice.events import Event, to_log
from duckservice.jobs.request import JobOptions, submission_of
from duckservice.providers.base import Provider
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams
from supervisors import StartFailed


class JobWishes(TypedDict, total=False):
    """What may be said about a job; see `jobs.request.JobOptions` for each."""

    priority: Priority
    tags: Mapping[str, str]
    deadline: float | None
    not_before: float | None
    max_cost: int | None
    max_attempts: int
    on_interrupt: OnInterrupt
    hold: bool
    idempotency_key: str | None
    stream: bool


@final
@attrs.frozen(eq=False, repr=False)
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
        _must_be(request, ChatRequest)
        return (await self.service.complete(request, options)).value

    def stream(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """Stream the completion; entered when its first chunks are here.

        Raises:
            DuckError: at the entrance, or while iterating.
        """
        _must_be(request, ChatRequest)
        return _stream(self.service, request, options)

    async def embed(
        self, request: EmbeddingRequest, options: CallOptions | None = None
    ) -> Embeddings:
        """Return the embeddings that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        _must_be(request, EmbeddingRequest)
        return (await self.service.embed(request, options)).value

    async def generate_images(
        self, request: ImageRequest, options: CallOptions | None = None
    ) -> Images:
        """Return the pictures that the first able provider makes.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        _must_be(request, ImageRequest)
        return (await self.service.generate_images(request, options)).value

    async def cheapest(self, request: AnyRequest) -> tuple[Priced, ...]:
        """Return who can do *request*, by all that is known, the cheapest first.

        The model that it names does not matter; models without a price are left out.
        Providers whose models the config does not name are asked for theirs.
        """
        return cheapest(request, await self.service.offers())

    async def submit(self, request: AnyRequest, **options: Unpack[JobWishes]) -> Job:
        """Hand *request* in as a durable job; it is in the store when this returns.

        It survives the program where the config says where jobs are kept
        (`service.state_dir`, or a file in `store.url`); else it is in memory.

        Raises:
            DuckError: see `Jobs.submit`.
        """
        _must_be(request, ChatRequest, EmbeddingRequest, ImageRequest)
        submission = submission_of(request, JobOptions(**options))
        return (await self.service.jobs.submit(submission)).job

    async def wait(self, job: str, seconds: float | None = None) -> Job:
        """Return the job of that id when it is over, or as it is after *seconds*.

        Raises:
            NotFound: there is none.
        """
        return (await self.service.jobs.wait(job, seconds)).job

    async def result(self, job: str) -> bytes:
        """Return the result of a completed job: OpenAI's body, as JSON.

        Raises:
            NotFound: there is none of that id.
            Conflict: it is not completed; the message names its state.
        """
        return await self.service.jobs.result(job)

    async def cancel(self, job: str) -> Job:
        """Give a job up; nobody is asked for it any more once this returns.

        Raises:
            NotFound: there is none of that id.
            IllegalTransition: it is over already.
        """
        return await self.service.jobs.cancel(job)

    def __repr__(self) -> str:
        return f"<Duck, providers: {', '.join(self.service.config.providers)}>"


@asynccontextmanager
async def open_service(
    config: Config,
    *,
    providers: Mapping[str, Provider] | None = None,
    seams: Seams | None = None,
) -> AsyncGenerator[Duck]:
    """Run the service for the length of a block.

    *providers* replace the configured adapters, one for each name. Requests under way
    when the block ends are the block's to wait for. Events go to structlog if
    the program has configured it, and nowhere otherwise; *seams* say otherwise.

    Raises:
        StoreUnavailable: another program has the store, or it cannot be opened.
        RestartIntensityReached: the tree has given up; the block was cancelled.
    """
    _must_be(config, Config)
    if not trio.lowlevel.in_trio_run():
        msg = (
            "open_service runs under trio, which does not run here (docs/embedding.md)"
        )
        raise RuntimeError(msg)
    if seams is None:
        # An unconfigured structlog prints to stdout, which is not ours to write to.
        seams = Seams(emit=to_log if structlog.is_configured() else _ignore)
    async with AsyncExitStack() as stack:
        running = open_running(
            config,
            providers=providers,
            seams=seams,
            state_dir=config.service.state_dir,
        )
        try:
            service = await stack.enter_async_context(running)
        except StartFailed as error:
            if isinstance(error.__cause__, DuckError):
                # The reason, in words for users; which part has it is of no use here.
                raise error.__cause__ from None
            raise
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


def _must_be(value: object, *kinds: type) -> None:
    """Raise `TypeError` where a type checker would have."""
    if not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        more = "; config.load() and config.parse() make one" if Config in kinds else ""
        msg = f"this takes: {names}, not {type(value).__name__}{more}"
        raise TypeError(msg)


def _ignore(_event: Event) -> None:
    pass


async def _one_by_one(
    batches: AsyncIterator[Sequence[Chunk]],
) -> AsyncGenerator[Chunk]:
    async for batch in batches:
        for chunk in batch:
            yield chunk
