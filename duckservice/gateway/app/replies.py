"""Starlette answers of JSON, and the errors that Starlette's routing meets."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from duckservice.errors import DuckError, InvalidRequest, NotFound, forget_frames
from duckservice.gateway.app.exchange import internal_error
from duckservice.gateway.wire.errors import encode_error, family_of
from duckservice.gateway.wire.headers import Header


def json_bytes(body: bytes) -> Response:
    """Return an answer of JSON that is written already."""
    return Response(body, media_type="application/json")


def json_value(value: Any) -> Response:
    """Return an answer of plain data."""
    return json_bytes(msgspec.json.encode(value))


def answer_error(request: Request, error: Exception) -> Response:
    """Answer a `DuckError` in the shape of the path's family."""
    assert isinstance(error, DuckError)
    forget_frames(error)
    return _error(request, error)


def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer for a path that does not exist, or a method that it does not have."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        return _error(request, NotFound("there is nothing at this path"))
    allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    refusal = InvalidRequest(f"the method is not allowed here; allowed: {allowed}")
    return _error(request, refusal, status=405, also=(b"allow", allowed.encode()))


def answer_bug(request: Request, _: Exception) -> Response:
    """Answer for an exception that nobody expected; Starlette raises it again."""
    return _error(request, internal_error())


def _error(
    request: Request,
    error: DuckError,
    *,
    status: int | None = None,
    also: Header | None = None,
) -> Response:
    answer = encode_error(error, family_of(request.scope["path"]), status=status)
    response = Response(answer.body, status_code=answer.status)
    response.raw_headers = answer.headers if also is None else [*answer.headers, also]
    return response
