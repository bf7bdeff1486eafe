"""A whole response, read into a completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from duckservice.completion import (
    NOTHING,
    Choice,
    Completion,
    FinishReason,
    Part,
    Usage,
)
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    number_or,
    text_or,
    usage_of,
)
from duckservice.providers.responses.items import (
    CLIENT_CALLS,
    list_or_empty,
    parts_of,
)

Billed: TypeAlias = Callable[[Mapping[str, Any]], int | None]
"""From an answer's usage to the picodollars that it says are charged."""

ITEMS_MAX: Final = 4096
"""Of one answer; what is beyond is an attack on our memory, not an answer."""

_STATUSES: Final = {
    "data_residency_mismatch": 400,
    "invalid_prompt": 400,
    "vector_store_timeout": 504,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_base64_image": 400,
    "invalid_image_url": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "image_parse_error": 400,
    "invalid_image_mode": 400,
    "image_file_too_large": 413,
    "unsupported_image_media_type": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
    "image_file_not_found": 400,
    "context_length_exceeded": 400,
}
"""Which status a code stands for: a response that fails has come with a 200."""

_AGAINST_POLICY: Final = {
    "bio_policy",
    "cyber_policy",
    "image_content_policy_violation",
}


class Response(msgspec.Struct, gc=False):
    """A response, whole or as the events of a stream have it; nothing is trusted."""

    id: Any = None
    model: Any = None
    created_at: Any = None
    status: Any = None
    output: list[dict[str, Any]] | None = None
    usage: Any = None
    error: Any = None
    incomplete_details: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None


_response: Final = msgspec.json.Decoder(Response)


def decode(
    body: bytes,
    errors: Classifier,
    origin: Origin = NAMELESS,
    billed: Billed | None = None,
) -> Completion:
    """Return the completion that *body* is.

    Its usage is marked as estimated, and 0, where the server does not say; *billed*
    finds in it what is charged. Raises `BadProviderResponse` for what is none, and the fitting error for a
    response that has failed.
    """
    try:
        response = _response.decode(body)
        raise_failure(response, errors)
        if response.output is None:
            raise Malformed("JSON without output")
        if response.status in ("queued", "in_progress"):
            raise Malformed("an answer that is not finished")
        usage = usage_in(response, billed) or Usage(estimated=True)
        return _completion(response, response.output, usage, origin)
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


def raise_failure(response: Response, errors: Classifier) -> None:
    """Raise the error that *response* means, if it means one."""
    if response.error:
        raise errors.in_band({"error": meaning(response.error)})
    if response.status in ("failed", "cancelled"):
        message = f"the response is {response.status}, and does not say why"
        raise errors.in_band({"error": {"message": message}})


def meaning(error: object) -> object:
    """Return *error* with the status that its code stands for."""
    fields = mapping_or_empty(error)
    code = fields.get("code")
    if not isinstance(code, str):
        return error
    if code in _AGAINST_POLICY:
        return {**fields, "type": "content_policy_violation", "status_code": 400}
    if code in _STATUSES:
        return {**fields, "status_code": _STATUSES[code]}
    return error


def finish(response: Response, *, called: bool) -> tuple[FinishReason, str | None]:
    """Return why the answer has ended, and that in the provider's words."""
    status = text_or(response.status, "") or None
    if status != "incomplete":
        return "tool_calls" if called else "stop", status
    details = mapping_or_empty(response.incomplete_details)
    reason = text_or(details.get("reason"), "")
    native = f"{status}:{reason}" if reason else status
    return "content_filter" if reason == "content_filter" else "length", native


def usage_in(response: Response, billed: Billed | None = None) -> Usage | None:
    """Return what the answer has used; None where that is not said."""
    usage = mapping_or_empty(response.usage)
    if not usage:
        return None
    sent = mapping_or_empty(usage.get("input_tokens_details"))
    written = mapping_or_empty(usage.get("output_tokens_details"))
    counted = usage_of(
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        cached=sent.get("cached_tokens"),
        cache_write=sent.get("cache_write_tokens"),
        reasoning=written.get("reasoning_tokens"),
    )
    charged = None if billed is None else billed(usage)
    return counted if charged is None else attrs.evolve(counted, billed=charged)


def answer_extra(response: Response) -> Mapping[str, Any]:
    """Return what the server says beside the answer."""
    extra = {
        "service_tier": response.service_tier,
        "system_fingerprint": response.system_fingerprint,
    }
    return {name: value for name, value in extra.items() if value is not None}


def made_up_id(answer: str, index: int) -> str:
    """Return an id for call number *index* of an answer, for servers that give none."""
    return f"call_{answer}_{index}"


def _completion(
    response: Response, output: list[dict[str, Any]], usage: Usage, origin: Origin
) -> Completion:
    if len(output) > ITEMS_MAX:
        raise Malformed("too many items of output")
    answer_id = text_or(response.id, "") or origin.answer_id
    parts: list[Part] = []
    for index, item in enumerate(output):
        parts += parts_of(item, made_up_id(answer_id, index))
    called = any(item.get("type") in CLIENT_CALLS for item in output)
    reason, native = finish(response, called=called)
    choice = Choice(
        parts=tuple(parts),
        finish_reason=reason,
        native_finish_reason=native,
        extra=_logprobs(output),
    )
    return Completion(
        id=answer_id,
        model=text_or(response.model, "") or origin.model,
        created=number_or(response.created_at, 0),
        choices=(choice,),
        usage=usage,
        extra=answer_extra(response),
    )


def _logprobs(output: list[dict[str, Any]]) -> Mapping[str, Any]:
    found = [
        token
        for item in output
        for part in list_or_empty(item.get("content"))
        for token in list_or_empty(mapping_or_empty(part).get("logprobs"))
    ]
    return {"logprobs": {"content": found}} if found else NOTHING
