"""What an official SDK understood of an answer, in one shape for both formats."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs


@attrs.define
class Said:
    """One choice, in the words of its format."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    finish_reason: str | None = None
    stop_sequence: str | None = None

    def tool_calls(self) -> list[tuple]:
        """Return id, name and arguments of each call, these as values if they can."""
        calls = (call for _, call in sorted(self.calls.items()))
        return [(c["id"], c["name"], json_or_text(c["arguments"])) for c in calls]

    def add_call(
        self, index: int, call_id: str | None, name: str | None, arguments: str | None
    ) -> None:
        call = self.calls.setdefault(index, {"id": None, "name": "", "arguments": ""})
        call["id"] = call_id or call["id"]
        call["name"] += name or ""
        call["arguments"] += arguments or ""


@attrs.define
class Understood:
    """A whole answer."""

    choices: list[Said]
    usage: dict[str, int]


def json_or_text(text: Any) -> Any:
    """Return the value that *text* is the JSON of, if it is any."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


# OpenAI


def of_chat_completion(completion) -> Understood:
    said = [_openai_choice(choice, choice.message) for choice in completion.choices]
    return Understood(said, _openai_usage(completion.usage))


def of_chat_chunks(chunks: Iterable) -> Understood:
    said: dict[int, Said] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            its = said.setdefault(choice.index, Said())
            _add_openai(its, choice, choice.delta)
    return Understood([said[index] for index in sorted(said)], _openai_usage(usage))


def _openai_choice(choice, message) -> Said:
    said = Said()
    _add_openai(said, choice, message)
    return said


def _add_openai(said: Said, choice, message) -> None:
    said.text += message.content or ""
    said.reasoning += getattr(message, "reasoning_content", None) or ""
    said.refusal += message.refusal or ""
    said.finish_reason = choice.finish_reason or said.finish_reason
    for place, call in enumerate(message.tool_calls or ()):
        its, index = call.function, getattr(call, "index", place)
        said.add_call(index, call.id, its and its.name, its and its.arguments)
    if message.function_call is not None:
        call = message.function_call
        said.add_call(0, None, call.name, call.arguments)


def _openai_usage(usage) -> dict[str, int]:
    if usage is None:
        return {}
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_input_tokens": (prompt and prompt.cached_tokens) or 0,
        "cache_write_tokens": getattr(prompt, "cache_write_tokens", 0),
        "reasoning_tokens": (completion and completion.reasoning_tokens) or 0,
    }


# Anthropic


def of_message(message) -> Understood:
    fields = message.model_dump(warnings=False)
    said = Said(
        finish_reason=fields["stop_reason"], stop_sequence=fields["stop_sequence"]
    )
    for index, block in enumerate(fields["content"]):
        _add_block(said, index, block)
        if index in said.calls:
            said.calls[index]["arguments"] = block["input"]
    return Understood([said], _anthropic_usage(fields["usage"]))


def of_message_events(events: Iterable) -> Understood:
    said, usage = Said(), {}
    for event in events:
        fields = event.model_dump(warnings=False)
        match fields["type"]:
            case "message_start":
                usage = fields["message"]["usage"]
            case "content_block_start":
                _add_block(said, fields["index"], fields["content_block"])
            case "content_block_delta":
                _add_delta(said, fields["index"], fields["delta"])
            case "message_delta":
                said.finish_reason = fields["delta"]["stop_reason"]
                said.stop_sequence = fields["delta"]["stop_sequence"]
                now = fields["usage"].items()
                usage |= {name: value for name, value in now if value is not None}
    return Understood([said], _anthropic_usage(usage))


def _add_block(said: Said, index: int, block: dict[str, Any]) -> None:
    match block["type"]:
        case "text":
            said.text += block["text"]
        case "thinking":
            said.reasoning += block["thinking"]
        case "tool_use":
            arguments = json.dumps(block["input"]) if block["input"] else ""
            said.add_call(index, block["id"], block["name"], arguments)


def _add_delta(said: Said, index: int, delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            said.text += delta["text"]
        case "thinking_delta":
            said.reasoning += delta["thinking"]
        case "input_json_delta" if index in said.calls:
            said.add_call(index, None, None, delta["partial_json"])


def _anthropic_usage(usage: dict[str, Any]) -> dict[str, int]:
    details = usage.get("output_tokens_details") or {}
    return {
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "cached_input_tokens": usage.get("cache_read_input_tokens") or 0,
        "cache_write_tokens": usage.get("cache_creation_input_tokens") or 0,
        "reasoning_tokens": details.get("thinking_tokens") or 0,
    }
