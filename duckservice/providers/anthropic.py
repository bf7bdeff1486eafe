"""Anthropic's dialect: Messages, the counting of tokens, Models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import (
    ChatRequest,
    Completion,
    ModelInfo,
)
from duckservice.providers import anthropic_answer, anthropic_request
from duckservice.providers.answer_stream import AnswerStream, what_it_is
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import UNREADABLE, Malformed, text_or, whole_count
from duckservice.providers.turns import check_turns

BASE_URL: Final = "https://api.anthropic.com"

VERSION: Final = "2023-06-01"
"""Of the API, sent with every request; the only one in use."""

MODELS: Final = ("claude-*",)

CAPABILITIES: Final = Capabilities(
    cache_control=True,
    messages_as_written=True,
    hidden_prompt_tokens=64,
    n_max=1,
    temperature_max=1.0,
    json_object=False,
    seed=False,
    penalties=False,
    count_tokens="endpoint",
)

MODELS_PATH: Final = "/v1/models?limit=1000"


@final
@attrs.frozen(kw_only=True)
class AnthropicDialect:
    """The dialect of Anthropic."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    @property
    def capabilities(self) -> Capabilities:
        """What Anthropic can do."""
        return CAPABILITIES

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:  # noqa: ARG002 - the protocol's
        """Return where chats are sent."""
        return "/v1/messages"

    @property
    def models_path(self) -> str:
        """Where models are listed."""
        return MODELS_PATH

    @property
    def health_path(self) -> str:
        """What to GET to see whether Anthropic answers."""
        return "/v1/models?limit=1"

    @property
    def embeddings(self) -> None:
        """Say that there are none."""
        return

    @property
    def images(self) -> None:
        """Say that there are none."""
        return

    @property
    def counting(self) -> AnthropicCounting:
        """How tokens are counted."""
        return AnthropicCounting(provider=self.provider, errors=self.errors)

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        anthropic_request.check(request, provider=self.provider)
        if request.format != "anthropic":  # whose client's words Anthropic judges
            check_turns(request, provider=self.provider)

    def headers(self, request: ChatRequest) -> Mapping[str, str] | None:
        """Return the features that the client asks for."""
        if not request.betas:
            return None
        return {"anthropic-beta": ",".join(request.betas)}

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:
        """Return the body of a chat request."""
        return anthropic_request.encode(request, stream=stream, provider=self.provider)

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:  # noqa: ARG002 - it says its names itself
        """Return the completion in an answer's body."""
        return anthropic_answer.decode(body, self.errors)

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:  # noqa: ARG002 - as above
        """Return the reader of one streamed answer."""
        return AnswerStream(anthropic_answer.MessageEvents(self.errors), self.errors)

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body, and the path of the next page."""
        try:
            listed = _models.decode(body)
            if listed.data is None:
                raise Malformed("JSON without a list of models")
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error
        models = tuple(
            ModelInfo(
                id=model.id,
                created=_epoch(text_or(model.created_at, "")),
                owned_by="anthropic",
            )
            for model in listed.data
        )
        more = listed.has_more is True and models
        return models, f"{MODELS_PATH}&after_id={models[-1].id}" if more else None


@final
@attrs.frozen(kw_only=True)
class AnthropicCounting:
    """How the tokens of a prompt are counted."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: ChatRequest) -> str:  # noqa: ARG002 - the protocol's
        """Return where requests to count are sent."""
        return "/v1/messages/count_tokens"

    def encode(self, request: ChatRequest) -> bytes:
        """Return the body of a request."""
        return anthropic_request.encode_for_count(request, provider=self.provider)

    def decode(self, body: bytes) -> int:
        """Return the number of tokens in an answer's body."""
        try:
            answer = _count.decode(body)
            if answer.input_tokens is None:
                raise Malformed("JSON without a count")
            return whole_count(answer.input_tokens)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error


class _Count(msgspec.Struct, gc=False):
    input_tokens: Any = None


class _Model(msgspec.Struct, gc=False):
    id: str
    created_at: Any = None


class _Models(msgspec.Struct, gc=False):
    data: list[_Model] | None = None
    has_more: Any = None


_count: Final = msgspec.json.Decoder(_Count)
_models: Final = msgspec.json.Decoder(_Models)


def _epoch(date: str) -> int:
    try:
        return int(datetime.fromisoformat(date).timestamp())
    except (ValueError, OverflowError):
        return 0
