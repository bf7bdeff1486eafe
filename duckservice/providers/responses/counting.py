"""How OpenAI counts the tokens of a prompt: ``POST /responses/input_tokens``."""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import ChatRequest
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.reading import UNREADABLE, Malformed, whole_count
from duckservice.providers.responses import request as responses_request
from duckservice.providers.responses.variant import ResponsesVariant


@final
@attrs.frozen(kw_only=True)
class ResponsesCounting:
    """How the tokens of a prompt are counted; it says a prompt as a response does."""

    provider: str
    errors: Classifier = attrs.field(repr=False)
    variant: ResponsesVariant = attrs.field(repr=False)

    def path(self, request: ChatRequest) -> str:  # noqa: ARG002 - the protocol's
        """Return where requests to count are sent."""
        return "/responses/input_tokens"

    def encode(self, request: ChatRequest) -> bytes:
        """Return the body of a request."""
        return responses_request.encode_for_count(
            request, self.variant, provider=self.provider
        )

    def decode(self, body: bytes) -> int:
        """Return the number of tokens in an answer's body."""
        try:
            answer = _count.decode(body)
            if answer.error:
                raise self.errors.in_band({"error": answer.error})
            if type(answer.input_tokens) is not int:
                raise Malformed("JSON without a count")
            return whole_count(answer.input_tokens)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error


class _Count(msgspec.Struct, gc=False):
    input_tokens: Any = None
    error: Any = None


_count: Final = msgspec.json.Decoder(_Count)
