"""Errors as the three families of endpoints write them."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, assert_never

import attrs
import msgspec

from duckservice.errors import (
    DuckError,
    ProviderTimeout,
    QuotaExceeded,
    RequestError,
)
from duckservice.gateway.wire.headers import Header, header_value

Family: TypeAlias = Literal["openai", "anthropic", "duck"]
"""Whose error shape an endpoint uses."""

_OPENAI_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_OPENAI_PREFIXES = (
    "/v1/chat/",
    "/v1/embeddings",
    "/v1/models",
    "/v1/images/",
    "/v1/responses",
    "/v1/files",
    "/v1/batches",
    "/v1/completions",
)

_encode = msgspec.json.Encoder().encode


@attrs.frozen
class ErrorAnswer:
    """An HTTP answer that says what went wrong."""

    status: int
    headers: list[Header]
    body: bytes


def family_of(path: str) -> Family:
    """Return whose error shape the endpoint at *path* uses."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return "anthropic"
    if path.startswith(_OPENAI_PREFIXES):
        return "openai"
    return "duck"


def encode_error(
    error: DuckError, family: Family, *, status: int | None = None
) -> ErrorAnswer:
    """Return the answer for *error*; *status* where the class's own is too broad.

    ``code`` is always the contract's. The official SDKs choose their exception
    by status, and obey ``Retry-After`` and ``X-Should-Retry``: what we know to
    be hopeless, they do not repeat.
    """
    match family:
        case "openai":
            fields = openai_error(error)
        case "anthropic":
            fields = anthropic_error(error, status=status)
        case "duck":
            fields = duck_error(error)
        case _:
            assert_never(family)
    body = _encode(fields)
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-should-retry", b"true" if error.retryable else b"false"),
    ]
    if (seconds := retry_after_seconds(error)) is not None:
        headers.append((b"retry-after", b"%d" % seconds))
    if error.job is not None:
        headers.append((b"duck-job", header_value(error.job)))
    if error.provider is not None:
        headers.append((b"duck-provider", header_value(error.provider)))
    if error.request_id is not None:
        headers.append((b"x-request-id", header_value(error.request_id)))
        if family == "anthropic":
            headers.append((b"request-id", header_value(error.request_id)))
    return ErrorAnswer(error.status if status is None else status, headers, body)


def openai_error(error: DuckError) -> dict[str, Any]:
    """Return *error* in OpenAI's shape."""
    return {
        "error": {
            "message": error.message,
            "type": _openai_type(error),
            "param": error.param,
            "code": error.code,
        }
    }


def anthropic_error(error: DuckError, *, status: int | None = None) -> dict[str, Any]:
    """Return *error* in Anthropic's shape, which has our code beside its type."""
    status = error.status if status is None else status
    fields: dict[str, Any] = {
        "type": "error",
        "error": {
            "type": _ANTHROPIC_TYPES.get(status, "api_error"),
            "message": error.message,
            "code": error.code,
        },
    }
    if error.request_id is not None:
        fields["request_id"] = error.request_id
    return fields


def duck_error(error: DuckError) -> dict[str, Any]:
    """Return *error* in our own shape."""
    fields: dict[str, Any] = {"code": error.code, "message": error.message}
    if (seconds := retry_after_seconds(error)) is not None:
        fields["retry_after"] = seconds
    if error.job is not None:
        fields["job"] = error.job
    return {"error": fields}


def retry_after_seconds(error: DuckError) -> int | None:
    """Return the whole seconds to wait, rounded up; None where nobody knows."""
    wait = error.retry_after
    if wait is None or not math.isfinite(wait):
        return None
    return max(0, math.ceil(wait))


def _openai_type(error: DuckError) -> str:
    if isinstance(error, QuotaExceeded):
        return "insufficient_quota"
    if isinstance(error, ProviderTimeout):
        return "timeout_error"
    if error.status in _OPENAI_TYPES:
        return _OPENAI_TYPES[error.status]
    return "invalid_request_error" if isinstance(error, RequestError) else "api_error"
