"""The dialect of Vertex AI: Gemini's for Google's models, Anthropic's for Claude."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from duckservice.completion import ChatRequest, Completion, ModelInfo
from duckservice.providers.answer_stream import AnswerStream
from duckservice.providers.anthropic import AnthropicDialect
from duckservice.providers.capabilities import Capabilities, check_capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.dialect import (
    CAPABILITIES,
    GeminiDialect,
    method_path,
    read_models,
)
from duckservice.providers.gemini.images import GoogleImages
from duckservice.providers.hints import without_hints
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.remote import Dialect
from duckservice.providers.vertex import claude
from duckservice.providers.vertex.counting import VertexCounting
from duckservice.providers.vertex.embeddings import VertexEmbeddings
from duckservice.providers.vertex.place import GOOGLE_VERSION, Place, is_claude

MODELS_PATH: Final = f"/{GOOGLE_VERSION}/publishers/google/models?pageSize=300"


_CAPABILITIES: Final = attrs.evolve(
    CAPABILITIES, cache_control=True, messages_as_written=True, stop_max=None
)


def _for(speaker: Dialect, request: ChatRequest) -> ChatRequest:
    if speaker.capabilities.messages_as_written or request.format != "anthropic":
        return request
    return without_hints(request, cached=False)


@final
@attrs.frozen(kw_only=True)
class VertexDialect:
    """The dialect of Vertex AI. Which model is asked decides about the format."""

    provider: str
    place: Place
    errors: Classifier = attrs.field(repr=False)

    @property
    def capabilities(self) -> Capabilities:
        """What one or the other of its models can do; `check` knows which is asked."""
        return _CAPABILITIES

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:
        """Return where chats are sent."""
        path = f"/{self.place.path(request.model, self.provider)}"
        if is_claude(request.model):
            return f"{path}:{claude.method(stream=stream)}"
        return method_path(path, stream=stream)

    @property
    def models_path(self) -> str:
        """Where Google's models are listed; Anthropic's are not."""
        return MODELS_PATH

    @property
    def health_path(self) -> str:
        """What to GET to see whether Vertex AI answers."""
        return f"/{GOOGLE_VERSION}/publishers/google/models?pageSize=1"

    @property
    def embeddings(self) -> VertexEmbeddings:
        """How embeddings are asked for."""
        return VertexEmbeddings(
            provider=self.provider, place=self.place, errors=self.errors
        )

    @property
    def images(self) -> GoogleImages:
        """How pictures are asked for."""
        return GoogleImages(
            provider=self.provider, errors=self.errors, place=self.place.path
        )

    @property
    def counting(self) -> VertexCounting:
        """How tokens are counted."""
        return VertexCounting(
            provider=self.provider, place=self.place, errors=self.errors
        )

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what the model's format has no words for."""
        speaker = self._speaker(request.model)
        request = _for(speaker, request)
        check_capabilities(request, speaker.capabilities, provider=self.provider)
        speaker.check(request)

    def headers(self, request: ChatRequest) -> Mapping[str, str] | None:
        """Return the features that a client of Claude asks for."""
        return self._speaker(request.model).headers(request)

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:
        """Return the body of a chat request."""
        speaker = self._speaker(request.model)
        body = speaker.encode(_for(speaker, request), stream=stream)
        return claude.rewrapped(body) if is_claude(request.model) else body

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        return self._speaker(origin.model).decode(body, origin)

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        return self._speaker(origin.model).open_stream(origin)

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body, and the path of the next page."""
        return read_models(body, self.errors, MODELS_PATH)

    def _speaker(self, model: str) -> Dialect:
        if is_claude(model):
            return AnthropicDialect(provider=self.provider, errors=self.errors)
        return GeminiDialect(provider=self.provider, errors=self.errors)
