"""Ollama's own dialect: Chat, Embed, Tags."""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import ChatRequest, Completion, ModelInfo
from duckservice.providers.answer_stream import AnswerStream, what_it_is
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.ollama import answer, request as _request
from duckservice.providers.ollama.embeddings import OllamaEmbeddings
from duckservice.providers.ollama.ndjson import NdjsonFraming
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import UNREADABLE, Malformed

CAPABILITIES: Final = Capabilities(
    parallel_tools=False,
    tool_choice=frozenset({"auto", "none"}),
    images_in=frozenset({"data"}),
    cached_usage=False,
    embeddings=True,
    n_max=1,
    temperature_max=None,
)

MODELS_PATH: Final = "/api/tags"


@final
@attrs.frozen(kw_only=True)
class OllamaDialect:
    """The dialect of Ollama, on one's own machine or in its cloud."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    @property
    def capabilities(self) -> Capabilities:
        """What Ollama can do; what a model of it can is the model's."""
        return CAPABILITIES

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:  # noqa: ARG002 - the protocol's
        """Return where chats are sent."""
        return "/api/chat"

    @property
    def models_path(self) -> str:
        """Where models are listed: those that have been pulled."""
        return MODELS_PATH

    @property
    def health_path(self) -> str:
        """What to GET to see whether Ollama answers."""
        return MODELS_PATH

    @property
    def embeddings(self) -> OllamaEmbeddings:
        """How embeddings are asked for."""
        return OllamaEmbeddings(provider=self.provider, errors=self.errors)

    @property
    def images(self) -> None:
        """Say that there are none."""
        return

    @property
    def counting(self) -> None:
        """Say that tokens of chats are not counted."""
        return

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        _request.check(request, provider=self.provider)

    def headers(self, request: ChatRequest) -> None:  # noqa: ARG002 - the protocol's
        """Say that a chat is all in its body."""
        return

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:
        """Return the body of a chat request."""
        return _request.encode(request, stream=stream, provider=self.provider)

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        return answer.decode(body, self.errors, origin)

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        lines = answer.ChatLines(self.errors, origin)
        return AnswerStream(lines, self.errors, NdjsonFraming())

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body; there is one page."""
        try:
            listed = _models.decode(body)
            if listed.models is None:
                raise Malformed("JSON without a list of models")
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error
        models = tuple(
            ModelInfo(id=model.name, created=answer.epoch(model.modified_at))
            for model in listed.models
        )
        return models, None


class _Model(msgspec.Struct, gc=False):
    name: str
    modified_at: Any = None


class _Models(msgspec.Struct, gc=False):
    models: list[_Model] | None = None


_models: Final = msgspec.json.Decoder(_Models)
