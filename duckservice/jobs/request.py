"""A request of a Python program as the submission of a durable job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, assert_never

import attrs
import msgspec

from duckservice.calls.call import Priority, check_tags
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
)
from duckservice.core.job import JobKind, OnInterrupt, Submission
from duckservice.providers import openai_request
from duckservice.providers.openai_variant import COMPATIBLE

_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


@attrs.frozen(kw_only=True)
class JobOptions:
    """What may be said about a job, beside its request; `Submission` checks it."""

    priority: Priority = "normal"
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str], validator=check_tags)
    deadline: float | None = None
    """Seconds since the epoch, as `not_before`."""
    not_before: float | None = None
    max_cost: int | None = None
    """Picodollars."""
    max_attempts: int = 3
    on_interrupt: OnInterrupt = "retry"
    hold: bool = False
    idempotency_key: str | None = None
    stream: bool = False
    """Whether the reply is to be recorded as it comes, for `Jobs.follow`."""


def submission_of(request: AnyRequest, options: JobOptions) -> Submission:
    """Return the submission of *request*, written in OpenAI's format.

    Raises:
        InvalidRequest: it has something in it that the format has no words for.
        TypeError, ValueError: an option is none; see `Submission`.
    """
    kind, body = _written(request, options)
    said = _canonical(attrs.asdict(options))
    return Submission(
        kind=kind,
        model=request.model,
        request=body,
        priority=options.priority,
        tags=options.tags,
        deadline=options.deadline,
        not_before=options.not_before,
        max_cost=options.max_cost,
        max_attempts=options.max_attempts,
        on_interrupt=options.on_interrupt,
        hold=options.hold,
        idempotency_key=options.idempotency_key,
        fingerprint=hashlib.sha256(said + b"\n" + body).hexdigest(),
    )


def _written(request: AnyRequest, options: JobOptions) -> tuple[JobKind, bytes]:
    match request:
        case ChatRequest():
            return "chat", _chat(request, stream=options.stream)
        case EmbeddingRequest():
            return "embedding", _embedding(request)
        case ImageRequest():
            return "image", _image(request)
        case _:
            assert_never(request)


def _chat(request: ChatRequest, *, stream: bool) -> bytes:
    # Who will be asked is not known yet.
    openai_request.check(request, provider="jobs", variant=COMPATIBLE)
    return openai_request.encode(
        request, stream=stream, provider="jobs", variant=COMPATIBLE
    )


def _embedding(request: EmbeddingRequest) -> bytes:
    body: dict[str, Any] = {
        **request.extra,
        "model": request.model,
        "input": request.input,
        "dimensions": request.dimensions,
        "user": request.user,
    }
    return _encode({key: value for key, value in body.items() if value is not None})


def _image(request: ImageRequest) -> bytes:
    body: dict[str, Any] = {
        **request.extra,
        "model": request.model,
        "prompt": request.prompt,
        "n": request.n,
        "size": request.size,
        "quality": request.quality,
        "response_format": request.response_format,
        "user": request.user,
    }
    return _encode({key: value for key, value in body.items() if value is not None})
