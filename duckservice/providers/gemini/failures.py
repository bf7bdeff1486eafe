"""What Google's errors mean: a ``google.rpc.Status``, as JSON.

    {"error": {"code", "message", "status", "details": [{"@type", "reason",
                                                         "retryDelay", ...}]}}

A stream that was not asked for as server-sent events answers with an array of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from duckservice.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    ModelNotFound,
    NotFound,
    ProviderAuthError,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
)
from duckservice.providers.failures import Complaint, Rule, read_complaint, rule
from duckservice.providers.reading import mapping_or_empty, text_or
from duckservice.providers.retry_after import parse_duration

PER_DAY: Final = "per_day"
"""Our word for a quota that no waiting of minutes brings back."""

RULES: Final[tuple[Rule, ...]] = (
    rule(
        ProviderAuthError,
        400,
        403,
        words="api_key_invalid api_key_expired api_key_service_blocked",
        says=r"api key (not valid|expired|not found)|user location is not supported"
        r"|free tier is not available",
    ),
    rule(
        QuotaExceeded,
        429,
        says=r"credits are depleted|spend(ing)? cap",
        retryable=False,
    ),
    rule(
        RateLimited,
        429,
        words=PER_DAY,
        says=r"per[ _]day\b|\blimit: 0\b",
        retryable=False,
    ),
    # "You exceeded your current quota" is what Google says of every limit, those of
    # a minute included; elsewhere it means an empty account.
    rule(RateLimited, 429),
    rule(RequestTooLarge, 400, says=r"request payload size exceeds"),
    rule(
        ContextLengthExceeded,
        400,
        says=r"input token count.{0,60}(exceeds the maximum|only supports up to)",
    ),
    rule(ContentFiltered, 400, says=r"responsible ai"),
    rule(
        ModelNotFound,
        404,
        says=r"^\W?(tuned)?models/\S+ is not found|publisher model .{0,300}not found",
    ),
    rule(NotFound, 404, says=r"\bcache"),
)


def read_status(status: int, headers: Mapping[str, str], body: object) -> Complaint:
    """Read an error in Google's envelope, or in any of the common ones."""
    value = unwrapped(body)
    complaint = read_complaint(status, headers, value)
    error = mapping_or_empty(mapping_or_empty(value).get("error"))
    words = {text_or(error.get("status"), "")}
    wait = complaint.wait
    for detail in _mappings(error.get("details")):
        words.add(text_or(detail.get("reason"), ""))
        delay = parse_duration(text_or(detail.get("retryDelay"), ""))
        wait = wait if delay is None else delay
        for violation in _mappings(detail.get("violations")):
            quota = text_or(violation.get("quotaId"), "") or text_or(
                violation.get("quotaMetric"), ""
            )
            if "perday" in quota.lower().replace("_", ""):
                words.add(PER_DAY)
    said = frozenset(word.lower() for word in words if word)
    return attrs.evolve(complaint, words=complaint.words | said, wait=wait)


def unwrapped(body: object) -> object:
    """Return the one error of an array, and anything else as it is."""
    if isinstance(body, list) and body:
        return body[0]  # pyright: ignore[reportUnknownVariableType]  # any JSON
    return body  # pyright: ignore[reportUnknownVariableType]  # as above


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from map(mapping_or_empty, value)  # pyright: ignore[reportUnknownArgumentType]  # any JSON
