"""OpenAI's dialect: Chat Completions, Embeddings, Models."""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import (
    ChatRequest,
    Completion,
    ModelInfo,
)
from duckservice.providers import openai_answer, openai_request
from duckservice.providers.answer_stream import AnswerStream, what_it_is
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.openai_embeddings import OpenAIEmbeddings
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    number_or,
    text_or,
)

BASE_URL: Final = "https://api.openai.com/v1"

CAPABILITIES: Final = Capabilities(
    embeddings=True, image_generation=True, stop_max=4, top_k=False
)

LENIENT_CAPABILITIES: Final = Capabilities(
    embeddings=True, n_max=None, temperature_max=None
)

MODELS: Final = (
    "gpt-3.5-*",
    "gpt-4*",
    "gpt-5*",
    "gpt-6*",
    "o[1-9]",
    "o[1-9]-*",
    "chatgpt-*",
    "ft:*",
    "text-embedding-*",
)
"""What OpenAI serves by its names; ``gpt-oss`` is not among it."""


@final
@attrs.frozen(kw_only=True)
class OpenAIDialect:
    """The dialect of OpenAI and, *lenient*, of those who only speak its format.

    A lenient dialect passes on what OpenAI does not know (``top_k``, reasoning
    of earlier turns), calls developers system, and takes a stream for complete
    that ends without ``[DONE]`` but with a finish reason for every choice: 8 of
    17 recorded streams of Hugging Face's router end so.
    """

    provider: str
    errors: Classifier = attrs.field(repr=False)
    lenient: bool = False

    @property
    def capabilities(self) -> Capabilities:
        """What OpenAI, and those who speak its format, can do."""
        return LENIENT_CAPABILITIES if self.lenient else CAPABILITIES

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:  # noqa: ARG002 - the protocol's
        """Return where chats are sent."""
        return "/chat/completions"

    @property
    def models_path(self) -> str:
        """Where models are listed."""
        return "/models"

    @property
    def health_path(self) -> str:
        """What to GET to see whether the provider answers."""
        return "/models"

    @property
    def images(self) -> None:
        """Say that there are none."""
        return

    @property
    def embeddings(self) -> OpenAIEmbeddings:
        """How embeddings are asked for."""
        return OpenAIEmbeddings(provider=self.provider, errors=self.errors)

    @property
    def counting(self) -> None:
        """Say that tokens of chats are not counted."""
        return

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        openai_request.check(request, provider=self.provider, lenient=self.lenient)

    def headers(self, request: ChatRequest) -> None:  # noqa: ARG002 - the protocol's
        """Say that a chat is all in its body."""
        return

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:
        """Return the body of a chat request."""
        return openai_request.encode(
            request, stream=stream, provider=self.provider, lenient=self.lenient
        )

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        return openai_answer.decode(body, self.errors, origin)

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        events = openai_answer.ChatEvents(
            self.errors, origin, done_required=not self.lenient
        )
        return AnswerStream(events, self.errors)

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body; there is one page."""
        try:
            listed = _models.decode(body)
            if listed.data is None:
                raise Malformed("JSON without a list of models")
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error
        return (
            tuple(
                ModelInfo(
                    id=model.id,
                    created=number_or(model.created, 0),
                    owned_by=text_or(model.owned_by, ""),
                )
                for model in listed.data
            ),
            None,
        )


class _Model(msgspec.Struct, gc=False):
    id: str
    created: Any = None
    owned_by: Any = None


class _Models(msgspec.Struct, gc=False):
    data: list[_Model] | None = None


_models: Final = msgspec.json.Decoder(_Models)
