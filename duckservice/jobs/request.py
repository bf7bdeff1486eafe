"""A request of a Python program as the submission of a durable job."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, assert_never, get_args

import attrs
import msgspec
from attrs import validators

from duckservice.calls.call import PRIORITIES, Priority
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
)
from duckservice.core.job import JobKind, OnInterrupt, Submission
from duckservice.jobs.as_json import ATTEMPTS_MAX
from duckservice.providers import openai_request
from duckservice.providers.openai_variant import COMPATIBLE

_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


def _moment(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (
        isinstance(value, int | float) and math.isfinite(value)
    ):
        msg = f"{field.name} must be seconds since the epoch, not {value!r}"
        raise TypeError(msg)


_text = validators.instance_of(str)
_flag = validators.instance_of(bool)


@attrs.frozen(kw_only=True)
class JobOptions:
    """What may be said about a job, beside its request.

    It is checked here, in the caller's task: of what is in the store, one wrong
    value would crash the dispatcher each time that it looks at the job.

    Raises:
        TypeError: a value is of the wrong type.
        ValueError: it is none of those that are allowed.
    """

    priority: Priority = attrs.field(
        default="normal", validator=validators.in_(PRIORITIES)
    )
    tags: Mapping[str, str] = attrs.field(
        factory=dict[str, str],
        validator=validators.deep_mapping(_text, _text),
    )
    deadline: float | None = attrs.field(default=None, validator=_moment)
    """Seconds since the epoch, as `not_before`."""
    not_before: float | None = attrs.field(default=None, validator=_moment)
    max_cost: int | None = attrs.field(
        default=None,
        validator=validators.optional([validators.instance_of(int), validators.ge(0)]),
    )
    """Picodollars."""
    max_attempts: int = attrs.field(
        default=3,
        validator=[
            validators.instance_of(int),
            validators.ge(1),
            validators.le(ATTEMPTS_MAX),
        ],
    )
    on_interrupt: OnInterrupt = attrs.field(
        default="retry", validator=validators.in_(get_args(OnInterrupt))
    )
    hold: bool = attrs.field(default=False, validator=_flag)
    idempotency_key: str | None = attrs.field(
        default=None, validator=validators.optional(_text)
    )
    stream: bool = attrs.field(default=False, validator=_flag)
    """Whether the reply is to be recorded as it comes, for `Jobs.follow`."""


def submission_of(request: AnyRequest, options: JobOptions) -> Submission:
    """Return the submission of *request*, written in OpenAI's format.

    Raises:
        InvalidRequest: it has something in it that the format has no words for.
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
