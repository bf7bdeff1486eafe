"""What the HTTP application needs of the service and of the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias

import trio

from duckservice.batches.batches import Batches
from duckservice.calls.call import Answer, CallOptions, StreamAnswer
from duckservice.completion import (
    ChatRequest,
    Completion,
    EmbeddingRequest,
    Embeddings,
    ImageRequest,
    Images,
    ModelInfo,
    Usage,
)
from duckservice.event_stream.hub import EventHub
from duckservice.jobs.jobs import Jobs

ProviderAction: TypeAlias = Literal["enable", "disable", "reset", "check"]
PROVIDER_ACTIONS: tuple[ProviderAction, ...] = ("enable", "disable", "reset", "check")


class ServiceApi(Protocol):
    """The service, as its HTTP clients reach it.

    Everything raises only `DuckError` on purpose, with ``job`` set where the
    request had become one. A mapping is plain data that encodes as JSON.
    """

    @property
    def jobs(self) -> Jobs:
        """The durable jobs."""
        ...

    @property
    def batch_jobs(self) -> Batches:
        """The batches of durable jobs."""
        ...

    @property
    def events(self) -> EventHub:
        """What happens, for who follows it."""
        ...

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type, as *accept* prefers."""
        ...

    def until_draining(self) -> AbstractContextManager[trio.CancelScope]:
        """Return a scope that is cancelled when the service begins to drain.

        Whoever only waits for jobs waits in it: they may not come about any more.
        """
        ...

    async def complete(
        self, request: ChatRequest, options: CallOptions
    ) -> Answer[Completion]:
        """Return the whole reply."""
        ...

    def stream(
        self, request: ChatRequest, options: CallOptions
    ) -> AbstractAsyncContextManager[StreamAnswer]:
        """Stream the reply.

        It is entered when a provider has answered and the first batch is known;
        what fails before has a status of its own. Leaving ends the request.
        """
        ...

    async def embed(
        self, request: EmbeddingRequest, options: CallOptions
    ) -> Answer[Embeddings]:
        """Return the embeddings of the inputs."""
        ...

    async def generate_images(
        self, request: ImageRequest, options: CallOptions
    ) -> Answer[Images]:
        """Return the pictures that are asked for."""
        ...

    async def count_tokens(self, request: ChatRequest, options: CallOptions) -> Usage:
        """Return the prompt's size as ``input_tokens``."""
        ...

    async def models(self) -> Sequence[ModelInfo]:
        """Return what can be asked for."""
        ...

    async def models_in_detail(self) -> Mapping[str, Any]:
        """Return the ``offers`` of each model by its id, and the ``price_list``."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """Return how the service is, at a glance."""
        ...

    def tree(self) -> Mapping[str, Any]:
        """Return the supervision tree."""
        ...

    async def costs(self, by: str, since: float | None) -> Mapping[str, Any]:
        """Return what was spent since then (seconds since the epoch)."""
        ...

    def budgets(self) -> Sequence[Mapping[str, Any]]:
        """Return what is left of each budget."""
        ...

    async def providers(self) -> Sequence[Mapping[str, Any]]:
        """Return each provider, its health and its account."""
        ...

    async def queue(self) -> Mapping[str, Any]:
        """Return how many requests wait."""
        ...

    async def pause_queue(self, *, paused: bool) -> Mapping[str, Any]:
        """Give no more turns, or give them again; return how many wait."""
        ...

    async def ready(self) -> Mapping[str, Any]:
        """Return what answers; raise `Unavailable` if a part does not."""
        ...

    async def provider_action(
        self, name: str, action: ProviderAction
    ) -> Mapping[str, Any]:
        """Do *action* to a provider; return how it is now."""
        ...

    async def check_providers(self) -> Sequence[Mapping[str, Any]]:
        """Find out, side by side, which providers answer."""
        ...

    async def restart_actor(self, path: str) -> None:
        """Crash an actor, so that its supervisor restarts it."""
        ...

    def new_request_id(self) -> str:
        """Return an id for a request that came without one."""
        ...


class DaemonControl(Protocol):
    """The daemon around the service, where there is one."""

    async def reload(self) -> Mapping[str, Any]:
        """Read the config again; return what was taken over, and what was not.

        Raises `InvalidRequest` for a config that is refused: the old one is kept.
        """
        ...

    def drain(self) -> None:
        """Finish what is there and take nothing new; it returns at once."""
        ...

    def shutdown(self) -> None:
        """Drain, then end the process; it returns at once."""
        ...
