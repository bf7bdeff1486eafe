"""Calls and their results are in legal order, or the message that is not is named."""

from __future__ import annotations

import json

import pytest

from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.providers.turns import check_turns
from tests.e2e.makers import MAKERS
from tests.providers.asking import made

ASKED = {"role": "user", "content": "go"}


SAID = {"role": "assistant", "content": "one moment"}


def calling(*ids: str) -> dict:
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": its, "type": "function", "function": function} for its in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str) -> dict:
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


def read(*messages: dict):
    body = {"model": "m", "messages": [ASKED, *messages]}
    return decode_chat(json.dumps(body).encode()).request


LEGAL = [
    (),
    (calling("a"), result("a")),
    (calling("a", "b"), result("b"), result("a"), ASKED),
    (calling("a"), result("a"), calling("b"), result("b"), ASKED),
    (calling("a"),),
    (calling("a"), calling("b"), result("b"), result("a"), ASKED),
    (calling("a"), SAID, result("a"), ASKED),
]

ILLEGAL = [
    ((result("a"),), "messages[1].content[0]"),
    ((calling("a"), result("b")), "messages[2].content[0]"),
    ((calling("a"), ASKED), "messages[1]"),
    ((calling("a", "b"), result("a"), ASKED), "messages[1]"),
    ((calling("a"), calling("b"), result("b"), ASKED), "messages[1]"),
    ((calling("a", "b"), result("a"), SAID, result("b")), "messages[1]"),
]


@pytest.mark.parametrize("messages", LEGAL)
def test_calls_with_their_results_are_in_order(messages):
    check_turns(read(*messages), provider="up")


@pytest.mark.parametrize(("messages", "field"), ILLEGAL)
def test_a_result_without_its_call_and_a_call_without_its_result_are_named(
    messages, field
):
    with pytest.raises(InvalidRequest) as caught:
        check_turns(read(*messages), provider="up")
    assert caught.value.param == field
    assert caught.value.provider == "up"


def test_a_call_that_is_an_item_of_its_own_is_named_itself():
    said = {"type": "message", "role": "assistant", "content": "one moment"}
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    body = {"model": "m", "input": [ASKED, said, call, ASKED]}
    with pytest.raises(InvalidRequest) as caught:
        check_turns(decode_responses(json.dumps(body).encode()).request, provider="up")
    assert caught.value.param == "input[2]"


@pytest.mark.parametrize("name", ["anthropic", "bedrock", "cohere"])
async def test_who_would_refuse_such_turns_is_not_even_asked(name):
    provider = made(MAKERS[name], "http://127.0.0.1:9")
    provider.check(read(*LEGAL[2]))
    for messages, _ in ILLEGAL:
        with pytest.raises(InvalidRequest):
            provider.check(read(*messages))
    await provider.aclose()
