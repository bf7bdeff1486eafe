"""What was understood, beside what the provider's own SDK understood.

Each function returns the differences in words; none means that they agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from duckservice.completion import Embeddings, Images, ModelInfo, Usage
from duckservice.errors import (
    BadProviderResponse,
    ContentFiltered,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    Unprocessable,
)
from tests.providers.understanding import Said, json_or_text
from tests.recordings import Record

#: By the name of the SDK's class; where it has one for all, the status decides.
BY_EXCEPTION: dict[str, tuple[type[DuckError], ...]] = {
    "BadRequestError": (
        InvalidRequest,
        ContextLengthExceeded,
        ContentFiltered,
        ModelNotFound,
        ProviderAuthError,
        QuotaExceeded,
    ),
    "AuthenticationError": (ProviderAuthError,),
    "UnauthorizedError": (ProviderAuthError,),
    "PermissionDeniedError": (ProviderAuthError, ContentFiltered),
    "ForbiddenError": (ProviderAuthError, ContentFiltered),
    "NotFoundError": (ModelNotFound, NotFound, ProviderError),
    "ConflictError": (ProviderError,),
    "UnprocessableEntityError": (Unprocessable, InvalidRequest, ContextLengthExceeded),
    "RateLimitError": (RateLimited, QuotaExceeded),
    "TooManyRequestsError": (RateLimited, QuotaExceeded),
    "InternalServerError": (ProviderError, ProviderTimeout),
    "ServiceUnavailableError": (ProviderError,),
    "OverloadedError": (ProviderError,),
    "RequestTooLargeError": (RequestTooLarge,),
}

BY_STATUS: dict[int, tuple[type[DuckError], ...]] = {
    400: BY_EXCEPTION["BadRequestError"],
    401: (ProviderAuthError,),
    402: (QuotaExceeded,),
    403: (ProviderAuthError, ContentFiltered, ModelNotFound),
    404: (ModelNotFound, NotFound, ProviderError),
    408: (ProviderTimeout,),
    409: (ProviderError,),
    413: (RequestTooLarge,),
    422: (Unprocessable, InvalidRequest, ContextLengthExceeded),
    424: (ProviderError,),
    429: (RateLimited, QuotaExceeded),
}

#: Never retried, whatever an SDK would do: waiting cures none of it.
HOPELESS = (QuotaExceeded, RequestTooLarge)


def of_chat(
    record: Record, understood: tuple[list[Said], Usage | None]
) -> Iterator[str]:
    """Compare a completion, whole or streamed."""
    wanted = record.expected
    assert wanted is not None
    choices, usage = understood
    expected = wanted.get("choices", [])
    if len(choices) != len(expected):
        yield f"{len(choices)} choices, not {len(expected)}"
        return
    for said, choice in zip(choices, expected, strict=True):
        yield from _choice(said, choice)
    if wanted.get("usage"):
        if usage is None:
            yield "usage was not understood"
        else:
            yield from _usage(record, usage, wanted["usage"])


def _choice(said: Said, wanted: dict[str, Any]) -> Iterator[str]:
    yield from _differ(
        "text", json_or_text(said.text), json_or_text(wanted.get("text") or "")
    )
    yield from _differ("reasoning", said.reasoning, wanted.get("reasoning") or "")
    yield from _differ("refusal", said.refusal, wanted.get("refusal") or "")
    yield from _differ(
        "finish reason", said.native_finish_reason, wanted.get("finish_reason")
    )
    yield from _differ("stop sequence", said.stop_sequence, wanted.get("stop_sequence"))
    calls, expected = said.tool_calls(), wanted.get("tool_calls") or []
    if len({own_id for own_id, _, _ in calls}) != len(calls):
        yield "two tool calls have one id"
    if len(calls) != len(expected):
        yield f"{len(calls)} tool calls, not {len(expected)}"
        return
    for (own_id, name, arguments), call in zip(calls, expected, strict=True):
        if call.get("id") not in (None, "", "null"):  # else we make one up
            yield from _differ("id of a call", own_id, call["id"])
        yield from _differ("name of a call", name, call["name"])
        yield from _differ(
            "arguments", arguments or "", json_or_text(call["arguments"]) or ""
        )


def _usage(record: Record, usage: Usage, wanted: dict[str, Any]) -> Iterator[str]:
    counts = {name: int(value or 0) for name, value in wanted.items()}
    read = counts.get("cached_input_tokens", 0)
    written = counts.get("cache_write_tokens", 0)
    reasoning = counts.get("reasoning_tokens", 0)
    sent = counts.get("input_tokens", 0)
    replied = counts.get("output_tokens", 0)
    if record.api in ("anthropic.messages", "vertex.anthropic", "bedrock.converse"):
        sent += read + written  # they leave cached tokens out
    elif record.api == "gemini.generateContent":
        sent += counts.get("tool_use_prompt_tokens", 0)
        replied += reasoning
    elif reasoning and counts.get("total_tokens") == sent + replied + reasoning:
        replied += reasoning  # xAI leaves reasoning out
    yield from _differ("input tokens", usage.input_tokens, sent)
    yield from _differ("output tokens", usage.output_tokens, replied)
    # Some answers break every rule; no part is larger than its whole.
    yield from _differ("cached tokens", usage.cached_tokens, min(read, sent))
    left = sent - min(read, sent)
    if "cache_write_tokens" in wanted:
        yield from _differ("cache writes", usage.cache_write_tokens, min(written, left))
    if "reasoning_tokens" in wanted:
        yield from _differ(
            "reasoning tokens", usage.reasoning_tokens, min(reasoning, replied)
        )


def of_error(record: Record, error: DuckError) -> Iterator[str]:
    """Compare an error: its class, whether to retry, and when."""
    assert record.expected is not None
    wanted = record.expected["error"]
    if error.provider != record.provider:
        yield f"the error names the provider {error.provider!r}"
    kinds = _kinds(record, wanted)
    if kinds and not isinstance(error, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        yield f"{type(error).__name__} ({error}), not {names}"
        return
    if "tool_use_failed" in str(wanted):
        return  # the model's fault: another try may be better, whatever SDKs do
    would_retry = wanted.get("sdk_would_retry")
    if would_retry is None:
        would_retry = _would_retry(record, error)
    hopeless = isinstance(error, HOPELESS) or _is_hopeless(record)
    if would_retry is not None and error.retryable != (would_retry and not hopeless):
        yield f"retryable is {error.retryable} for {error}"
    hint = wanted.get("sdk_retry_after_s")
    if hint is not None and isinstance(error, ProviderError):
        yield from _differ("retry_after", error.retry_after, hint)


def _kinds(record: Record, wanted: dict[str, Any]) -> tuple[type[DuckError], ...]:
    kinds = BY_EXCEPTION.get(wanted["exception"])
    if kinds is not None:
        if "tool_use_failed" in str(wanted):
            return (*kinds, ProviderError)  # the model's fault, not the caller's
        return kinds
    status = wanted.get("status_code") or wanted.get("aws_http") or wanted.get("code")
    if not isinstance(status, int):
        status = record.response["status"]
    if status < 400:  # in the midst of a stream, or no answer at all
        return ()
    return BY_STATUS.get(status, (ProviderError, ProviderTimeout))


def _would_retry(record: Record, error: DuckError) -> bool | None:
    """Return what the status says, where the SDK leaves it to its user."""
    status = record.response["status"]
    if isinstance(error, BadProviderResponse) or status < 400:
        return None
    return status in (408, 409, 424, 429) or (status >= 500 and status != 501)


def _is_hopeless(record: Record) -> bool:
    """Say whether its words rule a retry out that its status would suggest."""
    if record.response["status"] == 501:
        return True
    words = str(record.response.get("body") or record.response.get("body_text"))
    hints = ("per day", "PerDay", "Request too large", "monthly", "trial key")
    return any(hint in words for hint in hints)


def of_embeddings(record: Record, got: Embeddings) -> Iterator[str]:
    """Compare the number, sizes and beginnings of vectors, and what they used."""
    assert record.expected is not None
    wanted = record.expected["embeddings"]
    yield from _differ("vectors", len(got.vectors), wanted["count"])
    for vector, size in zip(got.vectors, wanted["dims"], strict=False):
        if isinstance(size, int):
            yield from _differ("dimensions", len(vector), size)
    if wanted.get("first") and got.vectors:
        first = [round(value, 6) for value in got.vectors[0][:4]]
        if any(abs(a - b) > 2e-6 for a, b in zip(first, wanted["first"], strict=True)):
            yield f"the first vector begins with {first}, not {wanted['first']}"
    usage = record.expected.get("usage")
    if usage and usage.get("input_tokens"):
        yield from _differ(
            "input tokens", got.usage.input_tokens, int(usage["input_tokens"])
        )


def of_images(record: Record, got: Images) -> Iterator[str]:
    """Compare the number of pictures, and how they come."""
    assert record.expected is not None
    kinds = ["url" if image.url else "b64" for image in got.images]
    yield from _differ("pictures", kinds, record.expected["images"])


def of_models(record: Record, got: tuple[ModelInfo, ...]) -> Iterator[str]:
    """Compare the names of models."""
    assert record.expected is not None
    ours = [model.id for model in got]
    wanted = [name.removeprefix("models/") for name in record.expected["models"]]
    yield from _differ("models", [n.removeprefix("models/") for n in ours], wanted)


def of_count(record: Record, got: Usage) -> Iterator[str]:
    """Compare a number of tokens."""
    assert record.expected is not None
    if got.estimated:
        yield "the tokens were estimated, not asked for"
    yield from _differ(
        "input tokens", got.input_tokens, record.expected["input_tokens"]
    )


def _differ(what: str, ours: object, wanted: object) -> Iterator[str]:
    if ours != wanted:
        yield f"{what}: {_short(ours)}, not {_short(wanted)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:80]} … {text[-30:]}"
