"""Bedrock's own counting of a prompt's tokens, which some of its models have."""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import ChatRequest
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.bedrock import request as converse
from duckservice.providers.bedrock.models import without_region
from duckservice.providers.failures import Classifier
from duckservice.providers.model_segment import model_segment
from duckservice.providers.reading import UNREADABLE, Malformed, whole_count


class _Count(msgspec.Struct, rename="camel", gc=False):
    input_tokens: Any = None


_count: Final = msgspec.json.Decoder(_Count)


@final
@attrs.frozen(kw_only=True)
class BedrockCounting:
    """How the tokens of a prompt are counted."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: ChatRequest) -> str:
        """Return where requests to count are sent; profiles over regions cannot count."""
        return f"/model/{model_segment(without_region(request.model), self.provider)}/count-tokens"

    def encode(self, request: ChatRequest) -> bytes:
        """Return the body of a request."""
        return converse.encode_for_count(request, provider=self.provider)

    def decode(self, body: bytes) -> int:
        """Return the number of tokens in an answer's body."""
        try:
            answer = _count.decode(body)
            if type(answer.input_tokens) is not int:
                raise Malformed("JSON without a count")
            return whole_count(answer.input_tokens)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error
