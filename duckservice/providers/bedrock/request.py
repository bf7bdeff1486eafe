"""A `ChatRequest` in the words of Bedrock's Converse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from duckservice.completion import (
    ChatRequest,
    ResponseFormat,
    Tool,
    ToolChoice,
    WireFormat,
)
from duckservice.providers.bedrock import content
from duckservice.providers.bedrock.models import family_of
from duckservice.providers.bedrock.reasoning import thinking_fields
from duckservice.providers.translation import (
    foreign_fields,
    part_path,
    refusal,
    to_json,
)

Json: TypeAlias = dict[str, Any]

TARGET: Final = "Bedrock's Converse"

SCHEMA_NAME: Final = "response"
"""Converse wants a name for a schema; Anthropic's format has none."""

BETAS: Final = frozenset(
    {
        "interleaved-thinking-2025-05-14",
        "context-1m-2025-08-07",
        "output-128k-2025-02-19",
        "token-efficient-tools-2025-02-19",
        "dev-full-thinking-2025-05-14",
    }
)
"""Anthropic's features without fields of their own that Bedrock knows. It answers
any other with an error, and Anthropic's clients name some in every request."""

_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{1,256}", re.ASCII)
_SERVICE_TIERS: Final = ("default", "flex", "priority")
_CACHE_CONTROL: Final = re.compile(
    r"((system\[\d+\]|messages\[\d+\]\.content\[\d+\]|tools\[\d+\])\.)?cache_control"
)
"""The places behind which Converse can have a cache point; that of the whole request
is behind its last block."""


def check(request: ChatRequest, *, provider: str) -> None:
    """Raise `InvalidRequest` for what this format has no words for."""
    for field, reason in _untranslatable(request):
        raise refusal(provider, TARGET, field, reason)


def encode(request: ChatRequest, *, provider: str) -> bytes:
    """Return the body of the request. What `check` refuses is not looked for again."""
    body = _prompt(request, provider)
    parts: Json = {
        "inferenceConfig": _inference(request),
        "additionalModelRequestFields": _of_the_model(request),
        "outputConfig": _output(request.response_format),
        "requestMetadata": _metadata(request.user),
    }
    if (tier := request.extra.get("service_tier")) in _SERVICE_TIERS:
        parts["serviceTier"] = {"type": tier}
    if request.stop and family_of(request.model) == "claude":
        # Which of them it was; a path that an answer does not have is ignored.
        parts["additionalModelResponseFieldPaths"] = [
            "/stop_sequence",
            "/delta/stop_sequence",
        ]
    body |= {name: value for name, value in parts.items() if value}
    return to_json(body, provider)


def encode_for_count(request: ChatRequest, *, provider: str) -> bytes:
    """Return the body of a request to count the prompt's tokens."""
    prompt = _prompt(request, provider)
    if fields := _of_the_model(request):
        prompt["additionalModelRequestFields"] = fields
    return to_json({"input": {"converse": prompt}}, provider)


def _untranslatable(request: ChatRequest) -> Iterator[tuple[str, str]]:
    # Converse is no client's own format, so nothing of any is exempt.
    other: WireFormat = "openai" if request.format == "anthropic" else "anthropic"
    for field in foreign_fields(request, other):
        if not (_CACHE_CONTROL.fullmatch(field) or _is_a_tier(request, field)):
            yield field, ""
    if request.top_k is not None and not _top_k(request):
        yield (
            "top_k",
            "Bedrock has no word for it that all models know, nor has this one",
        )
    if thinking_fields(request) is None:
        yield _reasoning_field(request), "this model cannot be told so on Bedrock"
    yield from _unfit_tools(request)
    wanted = request.response_format
    if wanted is not None and wanted.type == "json_schema" and wanted.schema is None:
        yield "response_format.json_schema.schema", "Bedrock demands it"
    for i, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            yield f"messages[{i}].name", ""
        for j, part in enumerate(message.parts):
            yield from content.untranslatable(
                part, part_path(request, i, j), model=request.model
            )


def _unfit_tools(request: ChatRequest) -> Iterator[tuple[str, str]]:
    if not request.tools:
        return
    if _is_none(request.tool_choice) and content.has_calls(request.messages):
        yield "tool_choice", _NONE_AFTER_CALLS
    if request.parallel_tool_calls is False and family_of(request.model) != "claude":
        anthropic = request.format == "anthropic"
        yield (
            "tool_choice.disable_parallel_tool_use"
            if anthropic
            else "parallel_tool_calls",
            "this model cannot be told so on Bedrock",
        )


_NONE_AFTER_CALLS: Final = (
    "Bedrock has no 'none', and the tools cannot be left out of a conversation that "
    "has used some"
)


def _is_a_tier(request: ChatRequest, field: str) -> bool:
    return field == "service_tier" and request.extra[field] in _SERVICE_TIERS


def _reasoning_field(request: ChatRequest) -> str:
    match request.format:
        case "anthropic":
            return "thinking"
        case "responses":
            return "reasoning"
        case "openai":
            return "reasoning_effort"


def _prompt(request: ChatRequest, provider: str) -> Json:
    first = content.leading_system(request.messages)
    turns = content.turns(request.messages[first:], provider)
    if turns:
        turns[-1]["content"] += content.cache_points(request.extra)
    body: Json = {"messages": turns}
    if first:
        body["system"] = content.system(request.messages[:first], provider)
    # Tools that must not be used are not offered.
    if request.tools and not _is_none(request.tool_choice):
        config: Json = {
            "tools": [spec for tool in request.tools for spec in _tool(tool)]
        }
        if (choice := _tool_choice(request.tool_choice)) is not None:
            config["toolChoice"] = choice
        body["toolConfig"] = config
    return body


def _metadata(user: str | None) -> Json | None:
    """Return who asks, where AWS's alphabet can say it: no answer depends on it."""
    if user is None or not _METADATA.fullmatch(user):
        return None
    return {"user": user}


def _inference(request: ChatRequest) -> Json:
    config: Json = {
        "maxTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _of_the_model(request: ChatRequest) -> Json:
    """Return the parameters that only this maker's models have."""
    fields = dict(thinking_fields(request) or {})
    if request.top_k is not None:
        fields |= _top_k(request)
    if family_of(request.model) == "claude":
        if betas := [beta for beta in request.betas if beta in BETAS]:
            fields["anthropic_beta"] = betas
        if request.tools and request.parallel_tool_calls is False:
            fields["tool_choice"] = _one_at_a_time(request.tool_choice)
    return fields


def _top_k(request: ChatRequest) -> Json:
    match family_of(request.model):
        case "claude":
            return {"top_k": request.top_k}
        case "nova" | "nova-2":
            return {"inferenceConfig": {"topK": request.top_k}}
        case "cohere":
            return {"k": request.top_k}
        case _:
            return {}


def _one_at_a_time(choice: ToolChoice | None) -> Json:
    only = {"disable_parallel_tool_use": True}
    # The type goes once: Bedrock refuses a second one beside toolChoice.
    return only if _tool_choice(choice) is not None else {"type": "auto", **only}


def _output(wanted: ResponseFormat | None) -> Json:
    if wanted is None or wanted.schema is None:
        return {}
    schema: Json = {
        "name": wanted.name or SCHEMA_NAME,
        "schema": to_json(wanted.schema, TARGET).decode(),
    }
    if wanted.description is not None:
        schema["description"] = wanted.description
    structure = {"jsonSchema": schema}
    return {"textFormat": {"type": "json_schema", "structure": structure}}


def _tool(tool: Tool) -> Iterator[Json]:
    schema = tool.parameters or {"type": "object", "properties": {}}
    spec: Json = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description:  # an empty one is an error there
        spec["description"] = tool.description
    if tool.strict:
        spec["strict"] = True
    yield {"toolSpec": spec}
    yield from content.cache_points(tool.extra)


def _tool_choice(choice: ToolChoice | None) -> Json | None:
    match choice:
        case ToolChoice(mode="required"):
            return {"any": {}}
        case ToolChoice(mode="tool", name=name):
            return {"tool": {"name": name}}
        case _:  # auto is what holds anyway, and not every model takes the word
            return None


def _is_none(choice: ToolChoice | None) -> bool:
    return choice is not None and choice.mode == "none"
