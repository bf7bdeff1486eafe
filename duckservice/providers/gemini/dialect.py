"""The dialect of the Gemini API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final
from urllib.parse import quote

import attrs
import msgspec

from duckservice.completion import ChatRequest, Completion, ModelInfo
from duckservice.providers.answer_stream import AnswerStream, what_it_is
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini import answer, request as gemini_request
from duckservice.providers.gemini.counting import GeminiCounting
from duckservice.providers.gemini.embeddings import GeminiEmbeddings
from duckservice.providers.gemini.events import GenerateEvents
from duckservice.providers.gemini.images import GoogleImages
from duckservice.providers.gemini.models import bare_name, model_path
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import UNREADABLE, Malformed, text_or
from duckservice.providers.sse import SseParser

CAPABILITIES: Final = Capabilities(
    hidden_prompt_tokens=64,
    parallel_tools=False,
    embeddings=True,
    image_generation=True,
    count_tokens="endpoint",
    n_max=8,
    stop_max=5,
)

EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""A picture comes whole, in one event."""

MODELS_PATH: Final = "/models?pageSize=1000"


@final
@attrs.frozen(kw_only=True)
class GeminiDialect:
    """The dialect of the Gemini API."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    @property
    def capabilities(self) -> Capabilities:
        """What Gemini can do."""
        return CAPABILITIES

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:
        """Return where chats are sent."""
        path = model_path(request.model, self.provider)
        return method_path(f"/{path}", stream=stream)

    @property
    def models_path(self) -> str:
        """Where models are listed."""
        return MODELS_PATH

    @property
    def health_path(self) -> str:
        """What to GET to see whether Gemini answers."""
        return "/models?pageSize=1"

    @property
    def embeddings(self) -> GeminiEmbeddings:
        """How embeddings are asked for."""
        return GeminiEmbeddings(provider=self.provider, errors=self.errors)

    @property
    def images(self) -> GoogleImages:
        """How pictures are asked for."""
        return GoogleImages(provider=self.provider, errors=self.errors)

    @property
    def counting(self) -> GeminiCounting:
        """How tokens are counted."""
        return GeminiCounting(provider=self.provider, errors=self.errors)

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        gemini_request.check(request, provider=self.provider)

    def headers(self, request: ChatRequest) -> Mapping[str, str] | None:  # noqa: ARG002 - the protocol's
        """Return None: nothing of a chat goes into headers."""
        return None

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:  # noqa: ARG002 - the path says it
        """Return the body of a chat request."""
        return gemini_request.encode(request, provider=self.provider)

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        return answer.decode(body, self.errors, origin)

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        events = GenerateEvents(self.errors, origin)
        framing = SseParser(event_bytes_max=EVENT_BYTES_MAX)
        return AnswerStream(events, self.errors, framing)

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body, and the path of the next page."""
        return read_models(body, self.errors, MODELS_PATH)


def method_path(model: str, *, stream: bool) -> str:
    """Return where a chat with the model at that path is sent."""
    if stream:
        return f"{model}:streamGenerateContent?alt=sse"
    return f"{model}:generateContent"


class _Model(msgspec.Struct, gc=False):
    name: str


class _Models(msgspec.Struct, gc=False):
    models: list[_Model] | None = None
    publisherModels: list[_Model] | None = None  # noqa: N815 - the wire's name
    nextPageToken: Any = None  # noqa: N815


_models: Final = msgspec.json.Decoder(_Models)


def read_models(
    body: bytes, errors: Classifier, path: str
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """Return the models in an answer's body, and the path of the page behind *path*."""
    try:
        listed = _models.decode(body)
        found = listed.publisherModels if listed.models is None else listed.models
        if found is None:
            raise Malformed("JSON without a list of models")
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error
    models = tuple(
        ModelInfo(id=bare_name(model.name), owned_by="google") for model in found
    )
    token = text_or(listed.nextPageToken, "")
    return models, f"{path}&pageToken={quote(token, safe='')}" if token else None
