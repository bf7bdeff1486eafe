"""Errors in the document: every code, the three shapes, and which operation has which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from duckservice import errors
from duckservice.errors import DuckError
from duckservice.gateway.app.openapi.parts import (
    JSON,
    Json,
    content,
    obj,
    ref,
    string,
    whole,
    word,
)
from duckservice.gateway.wire.errors import Family

_BASES: Final = frozenset({"RequestError", "ServiceError", "DuckError"})
"""Nobody raises them; each has the code of one of its children."""


def _all(cls: type[DuckError] = DuckError) -> Iterator[type[DuckError]]:
    for sub in cls.__subclasses__():
        if sub.__module__ == errors.__name__:
            if sub.__name__ not in _BASES:
                yield sub
            yield from _all(sub)


STATUS_OF: Final[Mapping[str, int]] = {its.code: its.status for its in _all()}
"""The status of each code."""

ALWAYS: Final = ("invalid_request", "internal_error", "unavailable")
"""What any operation may answer with."""

SHAPES: Final[Mapping[Family, str]] = {
    "openai": "OpenAiError",
    "anthropic": "AnthropicError",
    "duck": "Error",
}

_TOLD: Final = (
    *("X-Should-Retry", "Retry-After"),
    *("Duck-Job", "Duck-Provider", "X-Request-Id"),
)


def error_answers(codes: Iterable[str], family: Family) -> dict[str, Json]:
    """Return the answers for *codes*, and for those that every operation may have."""
    by_status = _by_status((*codes, *ALWAYS))
    return {
        str(status): {
            "$ref": f"#/components/responses/{SHAPES[family]}{status}",
            "description": ", ".join(f"`{code}`" for code in by_status[status]),
        }
        for status in sorted(by_status)
    }


def responses() -> dict[str, Json]:
    """Return the answers that `error_answers` refers to, by their names."""
    return {
        f"{shape}{status}": {
            "description": ", ".join(f"`{code}`" for code in codes),
            "headers": {
                name: {"$ref": f"#/components/headers/{name}"} for name in _TOLD
            },
            "content": content({JSON: ref(shape)}),
        }
        for status, codes in _by_status(STATUS_OF).items()
        for shape in SHAPES.values()
    }


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(STATUS_OF[code], []).append(code)
    return by_status


def _meanings() -> str:
    lines = [
        f"| `{its.code}` | {its.status} | {(its.__doc__ or '').splitlines()[0]} |"
        for its in sorted(_all(), key=lambda its: (its.status, its.code))
    ]
    head = ["What went wrong; each code has one status.", "", "| code | status | |"]
    return "\n".join([*head, "| --- | --- | --- |", *lines])


_MESSAGE: Final[Json] = string("For people; it holds no secret.")

SCHEMAS: Final[Mapping[str, Any]] = {
    "ErrorCode": word(*STATUS_OF, about=_meanings()),
    "Error": obj(
        {
            "error": obj(
                {"code": ref("ErrorCode"), "message": _MESSAGE},
                {
                    "retry_after": whole("Seconds after which it may succeed."),
                    "job": string("The job that the request had become."),
                    "type": string("In answers of the server itself: 408, 413, 431."),
                    "param": {"type": "null"},
                },
            )
        },
        {"type": string("As above: always `error`.")},
        about="What went wrong, in our own shape.",
    ),
    "OpenAiError": obj(
        {
            "error": obj(
                {
                    "message": _MESSAGE,
                    "type": string("OpenAI's word for the kind of error."),
                    "param": {
                        "type": ["string", "null"],
                        "description": "The field at fault.",
                    },
                    "code": ref("ErrorCode"),
                }
            )
        },
        {"type": string("In answers of the server itself.")},
        about="What went wrong, in OpenAI's shape.",
    ),
    "AnthropicError": obj(
        {
            "type": word("error"),
            "error": obj(
                {
                    "type": string("Anthropic's word for the kind of error."),
                    "message": _MESSAGE,
                    "code": ref("ErrorCode"),
                },
                {"param": {"type": "null"}},
            ),
        },
        {"request_id": string()},
        about="What went wrong, in Anthropic's shape, with our code beside its type.",
    ),
}
