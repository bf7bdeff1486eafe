"""Ollama's SDK and our Ollama adapter send requests that mean the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.openai_embeddings import decode_embedding
from tests.e2e.makers import OLLAMA
from tests.e2e.running import json_answer
from tests.sdks import talks
from tests.sdks.meaning import differences, without_nulls
from tests.sdks.sending import KEY, sent_by_sdk, sent_by_us
from tests.sdks.talks import CALLS, PARAMETERS, RESULTS, TALKS, sayable

ollama = pytest.importorskip("ollama", reason="ollama is not installed")

pytestmark = pytest.mark.slow

MODEL = "gpt-oss:20b"
VECTORS = json_answer({"model": MODEL, "embeddings": [[0.1], [0.2]]})

NO_WORDS = ("required", "named")
"""The SDK has no argument for a choice of tools."""


def using(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with the SDK's client of an upstream."""

    def at(url: str) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        with ollama.Client(host=url, headers=headers, timeout=20) as sdk:
            use(sdk)

    return at


def message(role: str, content: str | None = None, **more: Any):
    return ollama.Message(role=role, content=content, **more)


def tool(name: str):
    function = ollama.Tool.Function(
        name=name, description=talks.DESCRIPTION, parameters=PARAMETERS
    )
    return ollama.Tool(function=function)


def calls(*places: int) -> list:
    functions = (
        ollama.Message.ToolCall.Function(
            name=CALLS[place][1], arguments=CALLS[place][2]
        )
        for place in places
    )
    return [ollama.Message.ToolCall(function=function) for function in functions]


def result(place: int):
    content = json.dumps(RESULTS[place])
    return message("tool", content, tool_name=CALLS[place][1])


BOTH = [tool(talks.TOOL), tool(talks.OTHER_TOOL)]
PROMPT = message("user", talks.PROMPT)

NATIVE: dict[str, dict[str, Any]] = {
    "greeting": {},
    "turns": {
        "messages": [
            PROMPT,
            message("assistant", talks.REPLY),
            message("user", talks.MORE),
        ]
    },
    "sampling": {"options": {"temperature": 0.5, "top_p": 0.9}},
    "stop": {"options": {"stop": talks.STOPS}},
    "penalties": {
        "options": {"seed": 7, "presence_penalty": 0.25, "frequency_penalty": 0.5}
    },
    "result": {
        "messages": [PROMPT, message("assistant", tool_calls=calls(0)), result(0)],
        "tools": BOTH[:1],
    },
    "results": {
        "messages": [
            PROMPT,
            message("assistant", talks.PLAN, tool_calls=calls(0, 1)),
            result(0),
            result(1),
            message("user", talks.MORE),
        ],
        "tools": BOTH,
    },
    "picture": {
        "messages": [
            message(
                "user",
                talks.PROMPT,
                images=[ollama.Image(value=base64.b64decode(talks.PICTURE))],
            )
        ]
    },
    "schema": {"format": talks.SCHEMA},
    "none": {},  # who wants no tool gives none
    "effort": {"think": "low"},
    "budget": {"think": "low"},
}


def asked(name: str) -> dict[str, Any]:
    given = NATIVE[name]
    limit = {"num_predict": talks.MAX_TOKENS}
    return {
        "model": MODEL,
        **given,
        "messages": [message("system", talks.SYSTEM), *given.get("messages", [PROMPT])],
        "options": ollama.Options(**limit, **given.get("options", {})),
    }


def normal(body: dict[str, Any]) -> dict[str, Any]:
    body = without_nulls(body)
    for turn in body.get("messages", ()):
        # Ids came after the SDK; a server without them does not look.
        turn.pop("tool_call_id", None)
        for call in turn.get("tool_calls", ()):
            call.pop("id", None)
            call.pop("type", None)
        if turn["role"] == "assistant" and not turn.get("content"):
            turn.pop("content", None)  # beside a call nothing and "" are the same
    if not body.get("tools"):
        body.pop("tools", None)
    return body


@pytest.mark.parametrize(("name", "form"), sayable(*NO_WORDS))
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(OLLAMA, request, OLLAMA.text)
    theirs = await sent_by_sdk(OLLAMA.text, using(lambda sdk: sdk.chat(**asked(name))))
    assert not differences(ours, theirs, normal)


@pytest.mark.parametrize("form", ["openai", "anthropic"])
@pytest.mark.parametrize("name", NO_WORDS)
async def test_what_the_sdk_has_no_words_for_is_refused_by_name(name, form):
    request = TALKS[name].request(form, MODEL)
    with pytest.raises(ExceptionGroup) as raised:
        await sent_by_us(OLLAMA, request, OLLAMA.text)
    assert raised.group_contains(InvalidRequest, match="tool_choice")


async def test_a_request_for_a_stream_is_what_the_sdk_sends():
    request = TALKS["greeting"].request("openai", MODEL)
    ours = await sent_by_us(OLLAMA, request, OLLAMA.text_stream, stream=True)
    theirs = await sent_by_sdk(
        OLLAMA.text_stream,
        using(lambda sdk: list(sdk.chat(**asked("greeting"), stream=True))),
    )
    assert not differences(ours, theirs, normal)


async def test_a_request_for_embeddings_is_what_the_sdk_sends():
    body = b'{"model": "embeddinggemma", "input": ["sun", "rain"], "dimensions": 256}'
    ours = await sent_by_us(OLLAMA, decode_embedding(body).request, VECTORS)
    theirs = await sent_by_sdk(
        VECTORS,
        using(
            lambda sdk: sdk.embed(
                model="embeddinggemma", input=talks.TEXTS, dimensions=256
            )
        ),
    )
    assert not differences(ours, theirs, normal)
