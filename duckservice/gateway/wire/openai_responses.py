"""OpenAI's Responses body, read into a `ChatRequest`.

Stateless: what would have to be stored, or run by OpenAI's servers, is refused by
name. A field that only this format knows goes into ``extra`` unchanged; one that is
understood only in part (``text``, ``reasoning``) is there too, as it was written.
`responses_input` reads the items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from duckservice.completion import (
    ChatRequest,
    Reasoning,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from duckservice.gateway.wire.fields import (
    Fields,
    at,
    decode_object,
    extras,
    flag,
    integer,
    mapping,
    number,
    objects,
    refuse_extras,
    refused,
    required_mapping,
    required_name,
    required_text,
    text,
    texts,
    unknown,
)
from duckservice.gateway.wire.responses_envelope import settings_of
from duckservice.gateway.wire.responses_input import read_messages

LOGPROBS_MAX = 20

_TOP = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "max_output_tokens",
        "temperature",
        "top_p",
        "user",
        "stream",
        "stream_options",
        "truncation",
        "background",
    }
)
_STATE = ("previous_response_id", "conversation", "prompt")
_INCLUDED = "reasoning.encrypted_content"
_TEXT = frozenset({"format"})
_REASONING = frozenset({"effort"})
_PLAIN = frozenset({"type"})
_SCHEMA = frozenset({"type", "name", "schema", "strict", "description"})
_TOOL = frozenset({"type", "name", "description", "parameters", "strict"})
_STREAM_OPTIONS = frozenset({"include_obfuscation"})


@attrs.frozen(kw_only=True)
class ResponsesWire:
    """A request, and how its reply is to be written."""

    request: ChatRequest
    stream: bool = False
    settings: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """What the response repeats of the request."""


def decode_responses(body: bytes) -> ResponsesWire:
    """Read a body of ``/v1/responses``; raise only `InvalidRequest`."""
    fields = decode_object(body)
    _refuse_state(fields)
    request = _request(fields)
    _check_the_rest(fields)
    return ResponsesWire(
        request=request,
        stream=flag(fields, "stream", "") is True,
        settings=settings_of(fields),
    )


def _request(fields: Fields) -> ChatRequest:
    extra = dict(extras(fields, _TOP))
    user = text(fields, "user", "")
    return ChatRequest(
        model=required_name(fields, "model", ""),
        messages=read_messages(fields),
        max_tokens=integer(fields, "max_output_tokens", "", least=1),
        temperature=number(fields, "temperature", ""),
        top_p=number(fields, "top_p", ""),
        tools=_tools(fields),
        tool_choice=_tool_choice(fields, extra),
        parallel_tool_calls=flag(fields, "parallel_tool_calls", ""),
        response_format=_response_format(fields, extra),
        reasoning=_reasoning(fields, extra),
        # OpenAI's newer word for the same.
        user=text(fields, "safety_identifier", "") if user is None else user,
        format="responses",
        extra=extra,
    )


def _refuse_state(fields: Fields) -> None:
    for name in _STATE:
        if fields.get(name) is not None:
            reason = "nothing is stored here to refer to; send the whole conversation"
            raise refused(name, reason)
    if flag(fields, "store", ""):
        raise refused("store", "responses are not stored here; say false, or nothing")
    if flag(fields, "background", ""):
        reason = "nothing is stored here to fetch later; POST /v1/jobs runs a chat so"
        raise refused("background", reason)
    truncation = text(fields, "truncation", "")
    if truncation not in {None, "disabled"}:
        raise unknown("truncation", truncation, "disabled: prompts are not shortened")
    for index, what in enumerate(texts(fields, "include", "")):
        if what != _INCLUDED:
            raise unknown(f"include[{index}]", what, _INCLUDED)


def _check_the_rest(fields: Fields) -> None:
    """Check what is not read, but repeated or sent on as it is."""
    metadata = mapping(fields, "metadata", "") or {}
    for key in metadata:
        required_text(metadata, key, "metadata")
    integer(fields, "max_tool_calls", "", least=1)
    integer(fields, "top_logprobs", "", least=0, most=LOGPROBS_MAX)
    for name in ("service_tier", "prompt_cache_key", "prompt_cache_retention"):
        text(fields, name, "")
    options = mapping(fields, "stream_options", "")
    if options is not None:
        refuse_extras(options, _STREAM_OPTIONS, "stream_options")
        # Obfuscation pads events against eavesdroppers on a network; there is none.
        flag(options, "include_obfuscation", "stream_options")


def _tools(fields: Fields) -> tuple[Tool, ...]:
    if "tools" not in fields:
        return ()
    return tuple(_tool(tool, where) for where, tool in objects(fields, "tools", ""))


def _tool(fields: Fields, where: str) -> Tool:
    kind = required_text(fields, "type", where)
    if kind != "function":
        raise unknown(at(where, "type"), kind, "function, which the client runs")
    return Tool(
        name=required_name(fields, "name", where),
        description=text(fields, "description", where),
        parameters=mapping(fields, "parameters", where),
        strict=flag(fields, "strict", where),
        extra=extras(fields, _TOOL),
    )


def _tool_choice(fields: Fields, extra: Fields) -> ToolChoice | None:
    choice = fields.get("tool_choice")
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case {"type": "allowed_tools"}:
            extra["tool_choice"] = choice
            return None
        case {"type": "function"}:
            return ToolChoice(
                mode="tool", name=required_name(choice, "name", "tool_choice")
            )
        case {"type": kind}:
            raise unknown("tool_choice.type", kind, "function, allowed_tools")
        case _:
            raise unknown("tool_choice", choice, "auto, none, required, or an object")


def _response_format(fields: Fields, extra: Fields) -> ResponseFormat | None:
    its = _part_of(fields, "text", _TEXT, extra)
    where = "text.format"
    value = mapping(its, "format", "text")
    if value is None:
        return None
    match kind := required_name(value, "type", where):
        case "text" | "json_object":
            refuse_extras(value, _PLAIN, where)
            return ResponseFormat(type=kind)
        case "json_schema":
            refuse_extras(value, _SCHEMA, where)
            return ResponseFormat(
                type="json_schema",
                name=required_name(value, "name", where),
                schema=required_mapping(value, "schema", where),
                strict=flag(value, "strict", where),
                description=text(value, "description", where),
            )
        case _:
            raise unknown(at(where, "type"), kind, "text, json_object, json_schema")


def _reasoning(fields: Fields, extra: Fields) -> Reasoning | None:
    its = _part_of(fields, "reasoning", _REASONING, extra)
    text(its, "summary", "reasoning")
    effort = text(its, "effort", "reasoning")
    return None if effort is None else Reasoning(effort=effort)


def _part_of(
    fields: Fields, key: str, understood: frozenset[str], extra: Fields
) -> Fields:
    """Return an object's fields; keep it in *extra* if some are not understood."""
    value = mapping(fields, key, "")
    if value is None:
        return {}
    if extras(value, understood):
        extra[key] = value
    return value
