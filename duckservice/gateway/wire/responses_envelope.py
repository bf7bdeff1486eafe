"""The response around the output: its state, and what it repeats of the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from duckservice.completion import FinishReason, Usage
from duckservice.errors import DuckError, RateLimited, RequestError
from duckservice.gateway.wire.fields import Fields
from duckservice.gateway.wire.responses_items import Item, usage_fields

ResponseStatus: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed"]

_REPEATED: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": None,
    "temperature": None,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""What a response says of its request, and what it says where the request is
silent. Where only the provider knows its default, that is nothing."""

_TOOL: Mapping[str, Any] = {
    "type": "function",
    "description": None,
    "parameters": None,
    "strict": None,
}

_INCOMPLETE: dict[FinishReason, str] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}


def settings_of(fields: Fields) -> Item:
    """Return what a response repeats of the request with these *fields*."""
    said = {name: _or(fields, name, silent) for name, silent in _REPEATED.items()}
    tools: list[Item] = _or(fields, "tools", [])
    return said | {
        "reasoning": {"effort": None, "summary": None} | _or(fields, "reasoning", {}),
        "store": False,
        "text": {"format": {"type": "text"}} | _without_nulls(fields, "text"),
        "tools": [{**_TOOL, **tool} for tool in tools],
    }


def incomplete_reason(finish: FinishReason) -> str | None:
    """Return why the response is not complete; None if it is."""
    return _INCOMPLETE.get(finish)


def error_fields(error: DuckError) -> Item:
    """Return what a failed response says: OpenAI's list of codes is closed."""
    code = "server_error"
    if isinstance(error, RequestError):
        code = "invalid_prompt"
    if isinstance(error, RateLimited):
        code = "rate_limit_exceeded"
    return {"code": code, "message": error.message}


@attrs.frozen(kw_only=True)
class Envelope:
    """What is known of a response from its beginning."""

    id: str
    model: str
    created: int
    settings: Mapping[str, Any]
    service_tier: str | None = None
    """What the provider says that it was; else what was asked for is repeated."""

    def fields(
        self,
        status: ResponseStatus,
        output: Sequence[Item],
        *,
        usage: Usage | None = None,
        completed_at: int | None = None,
        incomplete: str | None = None,
        error: Item | None = None,
    ) -> Item:
        """Return the response in this state."""
        body: Item = {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "completed_at": completed_at,
            "error": error,
            "incomplete_details": None
            if incomplete is None
            else {"reason": incomplete},
            "model": self.model,
            "output": list(output),
            "usage": None if usage is None else usage_fields(usage),
            **self.settings,
        }
        if self.service_tier is not None:
            body["service_tier"] = self.service_tier
        return body


def open_envelope(
    answer_id: str,
    model: str,
    created: int,
    settings: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> Envelope:
    """Return the envelope of an answer; *extra* is what its provider says beside."""
    tier: Any = extra.get("service_tier")
    return Envelope(
        id=f"resp_{answer_id.removeprefix('resp_')}",
        model=model,
        created=created,
        settings=settings,
        service_tier=tier if type(tier) is str else None,
    )


def _or(fields: Fields, name: str, silent: Any) -> Any:
    value = fields.get(name)
    return silent if value is None else value


def _without_nulls(fields: Fields, name: str) -> Item:
    its: Item = _or(fields, name, {})
    return {key: value for key, value in its.items() if value is not None}
