"""What a provider lacks is left out where its config says so, and refused elsewhere."""

from __future__ import annotations

import json

import attrs
import pytest

from duckservice.config import ProviderConfig, Secret
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.catalog import make_provider
from tests.e2e.makers import MAKERS
from tests.upstream import open_upstream

HELLO = [{"role": "user", "content": "go"}]
PICTURE = {"url": "https://a.example/b.png", "detail": "low"}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]


async def sent(adapter: str, request, *leave_out: str) -> dict:
    maker = MAKERS[adapter]
    async with open_upstream([[maker.text]]) as upstream:
        provider = make_provider(
            ProviderConfig(
                name="up",
                adapter=maker.adapter,
                api_key=Secret("canary-key-64c09b3f7e15"),
                base_url=upstream.base_url + maker.path,
                leave_out=leave_out,
                **maker.config,
            )
        )
        await provider.complete(request)
        await provider.aclose()
    return json.loads(upstream.requests[0].body)


def chat(**fields):
    return decode_chat(
        json.dumps({"model": "m", "messages": HELLO} | fields).encode()
    ).request


def refused(adapter: str, request, *leave_out: str) -> str | None:
    provider = make_provider(
        ProviderConfig(
            name="up",
            adapter=MAKERS[adapter].adapter,
            base_url="http://127.0.0.1:9",
            leave_out=leave_out,
            **MAKERS[adapter].config,
        )
    )
    try:
        provider.check(request)
    except InvalidRequest as error:
        return error.param
    return None


@pytest.mark.parametrize(
    ("adapter", "option", "fields", "field"),
    [
        ("anthropic", "seed", {"seed": 1}, "seed"),
        ("anthropic", "n", {"n": 2}, "n"),
        (
            "anthropic",
            "presence_penalty",
            {"presence_penalty": 0.5},
            "presence_penalty",
        ),
        ("openai", "top_k", {"top_k": 5}, "top_k"),
        (
            "gemini",
            "parallel_tool_calls",
            {"parallel_tool_calls": False, "tools": TOOLS},
            "parallel_tool_calls",
        ),
        (
            "anthropic",
            "image_detail",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": PICTURE}],
                    }
                ]
            },
            "messages[0].content[0].image_url.detail",
        ),
        (
            "anthropic",
            "names",
            {"messages": [{"role": "user", "content": "go", "name": "bob"}]},
            "messages[0].name",
        ),
        ("anthropic", "extra", {"logit_bias": {"1": 2}}, "logit_bias"),
    ],
)
async def test_an_option_that_is_lacking_is_left_out_if_the_config_says_so(
    adapter, option, fields, field
):
    request = chat(**fields)
    assert refused(adapter, request) == field
    assert refused(adapter, request, "temperature") == field
    body = json.dumps(await sent(adapter, request, option))
    assert "go" in body or "b.png" in body
    for word in ("seed", "bob", "logit_bias", "detail", "top_k", "parallel"):
        assert word not in body


async def test_several_are_left_out_and_what_can_be_said_is_said():
    request = chat(seed=1, presence_penalty=0.5, temperature=0.5)
    body = await sent("anthropic", request, "seed", "presence_penalty", "temperature")
    assert body["temperature"] == 0.5
    assert refused("anthropic", request, "seed") == "presence_penalty"


def test_it_goes_by_the_clients_own_word_for_it():
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, "top_k": 3}
    request = decode_messages(json.dumps(body).encode()).request
    assert refused("openai", request) == "top_k"
    assert refused("openai", request, "top_k") is None
    many = attrs.evolve(request, top_k=None, stop=tuple("abcdef"))
    assert refused("openai", many) == "stop_sequences"
    assert refused("openai", many, "stop") is None
