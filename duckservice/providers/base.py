"""What a provider is: the protocol that every adapter keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    Chunk,
    Completion,
    EmbeddingRequest,
    Embeddings,
    HealthReport,
    ImageRequest,
    Images,
    ModelInfo,
    Usage,
)
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.prices import Quote


class Provider(Protocol):
    """One configured provider.

    A test or a plug-in implements it without a base class. Every method that
    talks to the provider raises only :class:`duckservice.errors.DuckError`
    subclasses (and ``trio.Cancelled``), with ``provider`` set. Providers hold
    no locks and no limits: whoever calls them has asked the breaker and the
    limiter already.
    """

    @property
    def name(self) -> str:
        """The name of the provider's table in the config."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What all models of this provider may be asked for."""
        ...

    def supports_model(self, model: str) -> bool:
        """Say whether *model* (or an alias of it) is served here."""
        ...

    def names_model(self, model: str) -> bool:
        """Say whether *model* is served here by its name, and not as any other is."""
        ...

    def own_name(self, model: str) -> str:
        """Return what the provider is asked for where a client asks for *model*.

        Its limits, its failures and its prices are of the model of that name, however
        many aliases there are.
        """
        ...

    def check(self, request: AnyRequest) -> None:
        """Raise `InvalidRequest`, naming the field, if *request* cannot be translated.

        It sends nothing, so routing can ask before it picks this provider.
        """
        ...

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole reply."""
        ...

    def stream(
        self, request: ChatRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Chunk]]]:
        """Stream the reply, as batches of the chunks that arrived together.

        Entering sends the request and waits for the head of the answer, so an
        error status is raised there. Iterating raises `BadProviderResponse` if
        the stream ends without its terminal marker or holds what cannot be
        decoded. Leaving closes the upstream connection if the stream is not
        at its end.
        """
        ...

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the embeddings of the inputs."""
        ...

    async def generate_images(self, request: ImageRequest) -> Images:
        """Return the pictures that are asked for."""
        ...

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Ask the provider which models it has."""
        ...

    async def count_tokens(self, request: ChatRequest) -> Usage:
        """Return the prompt's size as `Usage.input_tokens`.

        From the provider's own endpoint where there is one, otherwise an
        estimate, marked as ``estimated``.
        """
        ...

    def image_bound(self, request: ImageRequest) -> Usage | None:
        """Return what making the pictures cannot exceed, None where nobody can say."""
        ...

    def estimate_cost(self, usage: Usage, model: str) -> int | None:
        """Return the price of *usage* in picodollars (1e-12 USD), None if unknown."""
        ...

    def quote(self, model: str) -> Quote | None:
        """Return the price of *model* and who says so, None if unknown."""
        ...

    async def health_check(self) -> HealthReport:
        """Find out whether the provider answers, without spending tokens."""
        ...

    async def aclose(self) -> None:
        """Close what is open. The provider is not used again."""
        ...
