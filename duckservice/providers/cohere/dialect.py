"""Cohere's dialect: Chat and Embed of version 2, Models and Tokenize of version 1."""

from __future__ import annotations

from typing import Any, Final, final
from urllib.parse import quote

import attrs
import msgspec

from duckservice.completion import ChatRequest, Completion, ModelInfo
from duckservice.providers.answer_stream import AnswerStream, what_it_is
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.cohere import answer, request as _request
from duckservice.providers.cohere.counting import CohereCounting
from duckservice.providers.cohere.embeddings import CohereEmbeddings
from duckservice.providers.cohere.stream import ChatEvents
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import UNREADABLE, Malformed, text_or
from duckservice.providers.turns import check_turns

CAPABILITIES: Final = Capabilities(
    parallel_tools=False,
    embeddings=True,
    count_tokens="endpoint",
    n_max=1,
    stop_max=5,
    temperature_max=None,
    # Up to 1,390 are recorded. They are charged only where Cohere forgets to say that
    # they are not.
    hidden_prompt_tokens=2048,
)

MODELS: Final = ("command*", "c4ai-*", "embed-*")

MODELS_PATH: Final = "/v1/models?page_size=1000"


@final
@attrs.frozen(kw_only=True)
class CohereDialect:
    """The dialect of Cohere."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    @property
    def capabilities(self) -> Capabilities:
        """What Cohere can do."""
        return CAPABILITIES

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:  # noqa: ARG002 - the protocol's
        """Return where chats are sent."""
        return "/v2/chat"

    @property
    def models_path(self) -> str:
        """Where models are listed."""
        return MODELS_PATH

    @property
    def health_path(self) -> str:
        """What to GET to see whether Cohere answers."""
        return "/v1/models?page_size=1"

    @property
    def embeddings(self) -> CohereEmbeddings:
        """How embeddings are asked for."""
        return CohereEmbeddings(provider=self.provider, errors=self.errors)

    @property
    def images(self) -> None:
        """Say that there are none."""
        return

    @property
    def counting(self) -> CohereCounting:
        """How tokens are counted."""
        return CohereCounting(provider=self.provider, errors=self.errors)

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        _request.check(request, provider=self.provider)
        check_turns(request, provider=self.provider)

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
        return AnswerStream(ChatEvents(self.errors, origin), self.errors)

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body, and the path of the next page."""
        try:
            listed = _models.decode(body)
            if listed.models is None:
                raise Malformed("JSON without a list of models")
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error
        models = tuple(
            ModelInfo(id=model.name, owned_by="cohere") for model in listed.models
        )
        token = text_or(listed.next_page_token, "")
        if not token:
            return models, None
        return models, f"{MODELS_PATH}&page_token={quote(token, safe='')}"


class _Model(msgspec.Struct, gc=False):
    name: str


class _Models(msgspec.Struct, gc=False):
    models: list[_Model] | None = None
    next_page_token: Any = None


_models: Final = msgspec.json.Decoder(_Models)
