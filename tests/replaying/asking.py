"""The request that is made for a recorded answer: the recorded one where we can read it."""

from __future__ import annotations

import json
from typing import Any

import attrs

from duckservice.completion import ChatRequest, Message
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.anthropic_messages import (
    decode_count_tokens,
    decode_messages,
)
from duckservice.gateway.wire.openai_chat import decode_chat
from tests.recordings import Record

READERS: dict[str, Any] = {
    "chat_completions": decode_chat,
    "anthropic.messages": decode_messages,
}
try:
    from duckservice.gateway.wire.openai_responses import decode_responses

    READERS["responses"] = decode_responses
except ImportError:
    pass


@attrs.frozen(kw_only=True)
class Asked:
    """A chat request, and how it came about."""

    request: ChatRequest
    recorded: bool = False
    """Whether it is the recorded one, so that what is sent can be compared with it."""
    refused: str = ""
    """Why the gateway does not take the recorded one."""


def asked(record: Record) -> Asked:
    """Return the chat request to make for *record*."""
    body = record.request.get("body")
    if not isinstance(body, dict):
        return plainly(record)
    raw = json.dumps(body).encode()
    try:
        if record.base_operation == "count_tokens" and "anthropic" in record.api:
            return Asked(request=decode_count_tokens(raw), recorded=True)
        if (reader := READERS.get(record.api)) is not None:
            return Asked(request=reader(raw).request, recorded=True)
    except InvalidRequest as error:
        return attrs.evolve(plainly(record), refused=str(error))
    return plainly(record)


def plainly(record: Record) -> Asked:
    """Return a greeting of the recorded model, as the request for any answer."""
    hello = (Message.of("user", "hello"),)
    return Asked(request=ChatRequest(model=_model(record), messages=hello))


def _model(record: Record) -> str:
    body = record.request.get("body")
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        return body["model"]
    if record.api == "vertex.anthropic":
        return "claude-sonnet-4-5"
    url = record.request.get("url") or ""
    for before in ("/models/", "/model/", "/deployments/"):
        if before in url:
            return url.split(before)[1].split("/")[0].split(":")[0].split("?")[0]
    return "model"
