"""What Cohere's errors mean: ``{"id", "message"}``, and how a generation failed.

The last words of a stream, and an answer, may be an error too: a finish reason of
``ERROR`` with an ``error_type``. They are read here as if they were a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from duckservice.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
)
from duckservice.providers.failures import Complaint, read_complaint, rule
from duckservice.providers.reading import mapping_or_empty

FAILURES: Final = frozenset(
    {"ERROR", "TIMEOUT", "ERROR_TOXIC", "ERROR_LIMIT", "USER_CANCEL"}
)
"""Finish reasons that say that there is no answer."""


def read_error(status: int, headers: Mapping[str, str], body: object) -> Complaint:
    """Read an error of Cohere's; its words are in ``error_type`` where there are any."""
    fields = mapping_or_empty(body)
    words = (fields.get("error_type"), fields.get("finish_reason"))
    complaint = read_complaint(status, headers, body)
    more = {word.lower() for word in words if isinstance(word, str)}
    return attrs.evolve(complaint, words=complaint.words | more)


RULES: Final = (
    # The model wrote a call that Cohere itself refuses; another try may be better.
    rule(
        ProviderError,
        words="invalid_tool_generation",
        says="invalid tool generation",
        retryable=True,
    ),
    # A trial key is good for so many calls a month. By the minute it is limited
    # too, and that passes.
    rule(
        QuotaExceeded,
        429,
        says=r"/ ?month\b|\b(per|a) month\b|monthly",
        retryable=False,
    ),
    rule(InvalidRequest, 400, says="max tokens must be"),
    rule(ContextLengthExceeded, words="too_many_tokens error_limit"),
    rule(ContextLengthExceeded, 400, 422, 500, says="^too many tokens"),
    rule(ContentFiltered, words="error_toxic"),
    rule(ContentFiltered, 498),  # a word of Cohere's deny list
    rule(ProviderError, 499, retryable=True),  # cancelled, and not by us
    rule(ProviderTimeout, words="timeout"),
    rule(ModelNotFound, 400, 404, says=r"^model '.*' (was|has been) (removed|retired)"),
)
"""What Cohere's own words and statuses mean."""
