"""Recorded answers that we understand otherwise than the SDK, and why that is right."""

from __future__ import annotations

from tests.recordings import Record

BY_ID = {
    "22b6736ba4": "a message that begins anew in the middle of a tool call is refused:"
    " the SDK makes broken arguments of it",
    "51ab4ed786": "an error inside of a 200 is an error: the SDK takes it for an answer",
    "a9cd2b141e": "a function_call that is empty is none",
    "1abc31a988": "two choices are two: Mistral's SDK adds them up",
    "df448afe0e": "two choices are two: Mistral's SDK adds them up",
}


def reason(record: Record) -> str | None:
    """Return why *record* is not to be understood as the SDK did; None: it is."""
    if record.id in BY_ID:
        return BY_ID[record.id]
    text = record.response.get("body_text")
    if (
        record.api == "anthropic.messages"
        and isinstance(text, str)
        and text.count("event: message_start") > 1
    ):
        return "several messages in one body: we end with the first, the SDK adds up"
    return None
