"""Bedrock's dialect: Converse, /invoke for embeddings, the counting of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from duckservice.completion import ChatRequest, Completion, ModelInfo
from duckservice.providers.answer_stream import AnswerStream
from duckservice.providers.bedrock import answer, request as converse
from duckservice.providers.bedrock.counting import BedrockCounting
from duckservice.providers.bedrock.embeddings import BedrockEmbeddings
from duckservice.providers.bedrock.events import ConverseEvents
from duckservice.providers.bedrock.eventstream import EventStreamFraming
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.model_segment import model_segment
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.turns import check_turns

CAPABILITIES: Final = Capabilities(
    cache_control=True,
    images_in=frozenset({"data"}),
    json_object=False,
    embeddings=True,
    list_models=False,
    count_tokens="endpoint",
    n_max=1,
    stop_max=2500,
    temperature_max=1.0,
    seed=False,
    penalties=False,
)

HEALTH_PATH: Final = "/async-invoke?maxResults=1"
"""A list that every account has, empty mostly: the models' own is on another host."""


@final
@attrs.frozen(kw_only=True)
class BedrockDialect:
    """The dialect of Bedrock's runtime."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    @property
    def capabilities(self) -> Capabilities:
        """What Bedrock can do."""
        return CAPABILITIES

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:
        """Return where chats are sent: the model is in the path, not in the body."""
        operation = "converse-stream" if stream else "converse"
        return f"/model/{model_segment(request.model, self.provider)}/{operation}"

    @property
    def models_path(self) -> None:
        """Say that models are listed on another host only."""
        return

    @property
    def health_path(self) -> str:
        """What to GET to see whether Bedrock answers and knows our keys."""
        return HEALTH_PATH

    @property
    def embeddings(self) -> BedrockEmbeddings:
        """How embeddings are asked for."""
        return BedrockEmbeddings(provider=self.provider, errors=self.errors)

    @property
    def images(self) -> None:
        """Say that there are none."""
        return

    @property
    def counting(self) -> BedrockCounting:
        """How tokens are counted."""
        return BedrockCounting(provider=self.provider, errors=self.errors)

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        converse.check(request, provider=self.provider)
        check_turns(request, provider=self.provider)

    def headers(self, request: ChatRequest) -> Mapping[str, str] | None:  # noqa: ARG002 - the protocol's
        """Say that there are none of a single request."""
        return None

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:  # noqa: ARG002 - the path says it
        """Return the body of a chat request."""
        return converse.encode(request, provider=self.provider)

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        return answer.decode(body, origin, self.errors)

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        events = ConverseEvents(origin, self.errors)
        return AnswerStream(events, self.errors, EventStreamFraming())

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:  # noqa: ARG002 - as above
        """Return nothing: there is no list."""
        return (), None
