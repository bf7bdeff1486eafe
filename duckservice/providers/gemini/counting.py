"""How the tokens of a prompt are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import ChatRequest
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.models import model_path
from duckservice.providers.gemini.request import body_of
from duckservice.providers.reading import UNREADABLE, Malformed, whole_count
from duckservice.providers.translation import to_json


@final
@attrs.frozen(kw_only=True)
class GeminiCounting:
    """How the Gemini API counts: the whole request, wrapped."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: ChatRequest) -> str:
        """Return where requests to count are sent."""
        return f"/{model_path(request.model, self.provider)}:countTokens"

    def encode(self, request: ChatRequest) -> bytes:
        """Return the body of a request."""
        model = model_path(request.model, self.provider)
        whole = {"model": model, **body_of(request)}
        return to_json({"generateContentRequest": whole}, self.provider)

    def decode(self, body: bytes) -> int:
        """Return the number of tokens in an answer's body."""
        return read_count(body, self.errors)


class _Count(msgspec.Struct, gc=False):
    totalTokens: Any = None  # noqa: N815 - the wire's name
    input_tokens: Any = None
    error: Any = None


_count: Final[Callable[[bytes], _Count]] = msgspec.json.Decoder(_Count).decode


def read_count(body: bytes, errors: Classifier) -> int:
    """Return the number of tokens in Google's answer, or in Anthropic's."""
    try:
        answer = _count(body)
        if answer.error:
            raise errors.in_band({"error": answer.error})
        said = answer.totalTokens
        said = answer.input_tokens if said is None else said
        if said is None:
            raise Malformed("JSON without a count")
        return whole_count(said)
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error
