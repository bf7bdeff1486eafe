"""Recorded answers that we understand otherwise than the SDK, and why that is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.recordings import Record

BY_ID = {
    "22b6736ba4": "a message that begins anew in the middle of a tool call is refused:"
    " the SDK makes broken arguments of it",
    "51ab4ed786": "an error inside of a 200 is an error: the SDK takes it for an answer",
    "a9cd2b141e": "a function_call that is empty is none",
    "1abc31a988": "two choices are two: Mistral's SDK adds them up",
    "df448afe0e": "two choices are two: Mistral's SDK adds them up",
}

FAILED_AT_COHERE = {"ERROR", "ERROR_TOXIC", "ERROR_LIMIT", "TIMEOUT"}


def reason(record: Record) -> str | None:
    """Return why *record* is not to be understood as the SDK did; None: it is."""
    if record.id in BY_ID:
        return BY_ID[record.id]
    expected = record.expected
    if expected is None or not expected["ok"]:
        return None
    if _begins_again(record):
        return "several answers in one body: we end with the first, the SDK adds up"
    if record.api == "gemini.embedContent" and not expected["embeddings"]["count"]:
        return "one vector, which the SDK overlooks"
    choices: list[Mapping[str, Any]] = expected.get("choices", [])
    ends = {choice.get("finish_reason") for choice in choices}
    if record.api == "cohere.v2_chat" and ends & FAILED_AT_COHERE:
        return "a reply that ended with an error is an error, not a reply"
    if record.api == "gemini.generateContent":
        return _of_gemini(record, choices)
    return None


def _begins_again(record: Record) -> bool:
    text = record.response.get("body_text")
    beginning = {
        "anthropic.messages": "event: message_start",
        "responses": "event: response.created",
    }.get(record.api)
    return isinstance(text, str) and beginning is not None and text.count(beginning) > 1


def _of_gemini(record: Record, choices: list[Mapping[str, Any]]) -> str | None:
    assert record.expected is not None
    if "choices" not in record.expected and "prompt_feedback" not in record.expected:
        return "no answer of a model"
    if record.streaming and not all(choice.get("finish_reason") for choice in choices):
        return "a stream without a finish reason has been cut off"
    calls = [call for choice in choices for call in choice.get("tool_calls", ())]
    if any(call["name"] is None for call in calls):
        return "a call that comes in pieces is one call: the SDK does not join them"
    return None
