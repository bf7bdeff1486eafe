"""The dialect of those who speak OpenAI's Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from duckservice.completion import ChatRequest, Completion, ModelInfo
from duckservice.providers.answer_stream import AnswerStream
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.openai import OpenAIDialect
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.remote import EmbeddingsDialect, ImagesDialect
from duckservice.providers.responses import (
    answer,
    refusals,
    request as responses_request,
)
from duckservice.providers.responses.counting import ResponsesCounting
from duckservice.providers.responses.stream import ResponseEvents
from duckservice.providers.responses.variant import (
    AZURE,
    COMPATIBLE,
    OPENAI,
    XAI,
    ResponsesVariant,
)
from duckservice.providers.sse import SseParser

EVENT_BYTES_MAX: Final = 32 * 1024 * 1024
"""The events of a response hold it whole, with its tools and its pictures."""

_VARIANTS: Final[Mapping[str, ResponsesVariant]] = {
    "openai": OPENAI,
    "azure": AZURE,
    "xai": XAI,
}


def variant_of(adapter: str) -> ResponsesVariant:
    """Return what is known of *adapter*; of most, only that they speak the format.

    Those (DeepSeek, OpenRouter, llama.cpp, ...) take thoughts that are not encrypted,
    and do not count.
    """
    return _VARIANTS.get(adapter, COMPATIBLE)


@final
@attrs.frozen(kw_only=True)
class ResponsesDialect:
    """The dialect: chats are responses, all else is as in OpenAI's other format."""

    beside: OpenAIDialect
    """How the provider is spoken to about embeddings, pictures, models."""
    errors: Classifier = attrs.field(repr=False)
    variant: ResponsesVariant = attrs.field(repr=False)

    @property
    def provider(self) -> str:
        """The name of the provider's table in the config."""
        return self.beside.provider

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked for in this format."""
        return attrs.evolve(
            self.beside.capabilities,
            n_max=1,
            stop_max=0,
            seed=False,
            penalties=False,
            top_k=self.variant.top_k,
            count_tokens="endpoint" if self.variant.counts else "estimate",
        )

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:  # noqa: ARG002 - the protocol's
        """Return where chats are sent."""
        return "/responses" + self.beside.paths.query

    @property
    def models_path(self) -> str:
        """Where models are listed."""
        return self.beside.models_path

    @property
    def health_path(self) -> str:
        """What to GET to see whether the provider answers."""
        return self.beside.health_path

    @property
    def embeddings(self) -> EmbeddingsDialect | None:
        """How embeddings are asked for."""
        return self.beside.embeddings

    @property
    def images(self) -> ImagesDialect | None:
        """How pictures are asked for."""
        return self.beside.images

    @property
    def counting(self) -> ResponsesCounting | None:
        """How tokens are counted; only OpenAI itself does it."""
        if not self.variant.counts:
            return None
        return ResponsesCounting(
            provider=self.provider, errors=self.errors, variant=self.variant
        )

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        refusals.check(request, self.variant, provider=self.provider)

    def headers(self, request: ChatRequest) -> None:  # noqa: ARG002 - the protocol's
        """Say that a chat is all in its body."""
        return

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:
        """Return the body of a chat request."""
        return responses_request.encode(
            request, self.variant, stream=stream, provider=self.provider
        )

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        return answer.decode(body, self.errors, origin, self.beside.variant.billed)

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        return AnswerStream(
            ResponseEvents(self.errors, origin, self.beside.variant.billed),
            self.errors,
            SseParser(event_bytes_max=EVENT_BYTES_MAX),
        )

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body; there is one page."""
        return self.beside.decode_models(body)
