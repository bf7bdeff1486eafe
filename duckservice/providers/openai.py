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
from duckservice.providers import openai_answer, openai_images, openai_request
from duckservice.providers.answer_stream import AnswerStream, what_it_is
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.model_segment import model_segment
from duckservice.providers.openai_embeddings import OpenAIEmbeddings
from duckservice.providers.openai_images import ImageVariant
from duckservice.providers.openai_variant import OPENAI, OpenAIVariant
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    number_or,
    text_or,
)
from duckservice.providers.remote import ImagesDialect

MODELS: Final = (
    "gpt-3.5-*",
    "gpt-4*",
    "gpt-5*",
    "gpt-6*",
    "o[1-9]",
    "o[1-9]-*",
    "chatgpt-*",
    "dall-e-*",
    "ft:*",
    "gpt-image-*",
    "text-embedding-*",
)
"""What OpenAI serves by its names; ``gpt-oss`` is not among it."""


@attrs.frozen
class Paths:
    """Where things are at a server; most have them where OpenAI has."""

    prefix: str = ""
    """In front of all that belongs to a model; ``{model}`` is its name."""
    query: str = ""
    """Behind every path, with its question mark."""
    health: str = "/models"
    """What to GET to see whether the server answers, and takes the key."""

    def of(self, model: str, path: str, provider: str) -> str:
        """Return where *path* of *model* is.

        Raises `ModelNotFound` for a name that would lead elsewhere.
        """
        prefix = self.prefix
        if "{model}" in prefix:
            prefix = prefix.replace("{model}", model_segment(model, provider))
        return prefix + path + self.query

    @property
    def models(self) -> str:
        """Where models are listed."""
        return f"/models{self.query}"


PLAIN_PATHS: Final = Paths()


@final
@attrs.frozen(kw_only=True)
class OpenAIDialect:
    """The dialect of OpenAI and of all who speak its format.

    In what they differ is their *variant*. *pictures* are asked for only where its
    capabilities have them.
    """

    provider: str
    errors: Classifier = attrs.field(repr=False)
    variant: OpenAIVariant = OPENAI
    paths: Paths = PLAIN_PATHS
    pictures: ImageVariant = openai_images.COMPATIBLE

    @property
    def capabilities(self) -> Capabilities:
        """What the provider can do."""
        return self.variant.capabilities

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:  # noqa: ARG002 - the protocol's
        """Return where chats are sent."""
        return self.paths.of(request.model, "/chat/completions", self.provider)

    @property
    def models_path(self) -> str:
        """Where models are listed."""
        return self.paths.models

    @property
    def health_path(self) -> str:
        """What to GET to see whether the provider answers."""
        return self.paths.health + self.paths.query

    @property
    def images(self) -> ImagesDialect | None:
        """How pictures are asked for, where there are any."""
        if not self.capabilities.image_generation:
            return None
        return openai_images.openai_images(
            provider=self.provider,
            errors=self.errors,
            variant=self.pictures,
            path=lambda request: self.paths.of(
                request.model, openai_images.PATH, self.provider
            ),
        )

    @property
    def embeddings(self) -> OpenAIEmbeddings | None:
        """How embeddings are asked for, where there are any."""
        if not self.capabilities.embeddings:
            return None
        return OpenAIEmbeddings(
            provider=self.provider,
            errors=self.errors,
            variant=self.variant,
            path_of=lambda request: self.paths.of(
                request.model, "/embeddings", self.provider
            ),
        )

    @property
    def counting(self) -> None:
        """Say that tokens of chats are not counted."""
        return

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest` for what this format has no words for."""
        openai_request.check(request, provider=self.provider, variant=self.variant)

    def headers(self, request: ChatRequest) -> None:  # noqa: ARG002 - the protocol's
        """Say that a chat is all in its body."""
        return

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:
        """Return the body of a chat request."""
        return openai_request.encode(
            request, stream=stream, provider=self.provider, variant=self.variant
        )

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        return openai_answer.decode(
            body, self.errors, origin, billed=self.variant.billed
        )

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        events = openai_answer.ChatEvents(
            self.errors,
            origin,
            done_required=self.variant.done_required,
            billed=self.variant.billed,
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
