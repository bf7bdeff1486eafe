"""What the tests of the Responses format share."""

from __future__ import annotations

import json

from duckservice.completion import (
    ChatRequest,
    Message,
)
from duckservice.config import ProviderConfig
from duckservice.providers.adapter import Speaker
from duckservice.providers.capabilities import check_capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import Classifier
from duckservice.providers.openai_variant import (
    COMPATIBLE as COMPATIBLE_CHAT,
    OPENAI as OPENAI_CHAT,
)

ERRORS = Classifier("duck")


def dialect_of(adapter, *, errors=ERRORS):
    config = ProviderConfig(name="duck", adapter=adapter, api="responses")
    speaker = Speaker(provider="duck", errors=errors, config=config)
    variant = OPENAI_CHAT if adapter in ("openai", "azure") else COMPATIBLE_CHAT
    return chat_or_responses(speaker, variant)


OPENAI = dialect_of("openai")
AZURE = dialect_of("azure")
XAI = dialect_of("xai")
COMPATIBLE = dialect_of("openai-compatible")

HELLO = (Message.of("user", "hello"),)


def ask(**fields) -> ChatRequest:
    return ChatRequest(**{"model": "gpt-4o", "messages": HELLO} | fields)


def sent(request, dialect=OPENAI, *, stream=False) -> dict:
    check_capabilities(request, dialect.capabilities, provider="duck")
    dialect.check(request)
    return json.loads(dialect.encode(request, stream=stream))


def call_item(call_id, name, arguments) -> dict:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
