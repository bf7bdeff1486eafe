from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)
from duckservice.core.extra_bound import Unbounded
from duckservice.core.input_bound import input_tokens_bound


def bound(*parts, **fields) -> int:
    message = Message(role="user", parts=parts)
    return input_tokens_bound(ChatRequest(model="m", messages=(message,), **fields))


EMPTY = bound()


@given(st.text())
def test_every_byte_may_be_a_token(text):
    size = len(text.encode())
    assert bound(TextPart(text=text)) >= EMPTY + size
    assert bound(TextPart(text=text)) <= EMPTY + size + 20


@pytest.mark.parametrize(
    "part",
    [
        TextPart(text="x" * 1000),
        ReasoningPart(text="x" * 1000),
        ReasoningPart(signature="x" * 1000),
        ReasoningPart(redacted="x" * 1000),
        RefusalPart(text="x" * 1000),
        ToolCall(id="x" * 1000, name="f", arguments=""),
        ToolCall(id="1", name="x" * 1000, arguments=""),
        ToolCall(id="1", name="f", arguments="x" * 1000),
        ToolResult(tool_call_id="x" * 1000, content=()),
        ToolResult(tool_call_id="1", content=(TextPart(text="x" * 1000),)),
    ],
)
def test_all_that_a_part_says_counts(part):
    assert EMPTY + 1000 <= bound(part) <= EMPTY + 1100


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (Tool(name="x" * 1000),)},
        {"tools": (Tool(name="f", description="x" * 1000),)},
        {"tools": (Tool(name="f", parameters={"type": "x" * 1000}),)},
        {
            "response_format": ResponseFormat(
                type="json_schema", schema={"a": "x" * 1000}
            )
        },
        {"response_format": ResponseFormat(type="json_schema", description="x" * 1000)},
    ],
)
def test_all_that_a_request_says_beside_its_messages_counts(fields):
    assert bound(**fields) >= EMPTY + 1000


def test_names_count():
    named = Message(role="user", parts=(), name="x" * 1000)
    assert input_tokens_bound(ChatRequest(model="m", messages=(named,))) == EMPTY + 1000


def test_a_schema_may_be_any_kind_of_mapping():
    class Schema(dict):
        pass

    assert bound(tools=(Tool(name="f", parameters=Schema(a=Schema(b=1))),)) > EMPTY


def test_each_image_counts_as_the_dearest_known():
    assert bound(ImagePart(url="https://x/y")) >= EMPTY + 48_169
    assert bound(ImagePart(url="https://x/y", detail="high")) >= EMPTY + 48_169
    assert (
        EMPTY + 2_833
        <= bound(ImagePart(url="https://x/y", detail="low"))
        < EMPTY + 9_999
    )
    inside = ToolResult(tool_call_id="1", content=(ImagePart(data="aGk="),))
    assert bound(inside) >= EMPTY + 48_169


def message_bound(**extra) -> int:
    message = Message(role="assistant", parts=(), extra=extra)
    return input_tokens_bound(ChatRequest(model="m", messages=(message,)))


@pytest.mark.parametrize(
    "part",
    [
        TextPart(text="", extra={"citations": [{"url": "x" * 1000}]}),
        ImagePart(url="u", detail="low", extra={"anything": "x" * 1000}),
        ToolCall(
            id="1",
            name="f",
            arguments="",
            extra={"extra_content": {"google": {"thought_signature": "x" * 1000}}},
        ),
        ToolResult(tool_call_id="1", content=(), extra={"anything": "x" * 1000}),
        OpaquePart(
            format="anthropic",
            value={
                "type": "document",
                "source": {"type": "text", "data": "x" * 1000},
            },
        ),
        OpaquePart(format="responses", value={"type": "reasoning", "id": "x" * 1000}),
        OpaquePart(
            format="anthropic", value={"type": "thinking", "thinking": "x" * 1000}
        ),
        TextPart(text="", extra={"text": "x" * 1000}),
    ],
)
def test_what_only_one_format_knows_counts_by_its_bytes(part):
    without = 3000 if isinstance(part, ImagePart) else 0
    assert EMPTY + 1000 <= bound(part) - without <= EMPTY + 1300


def test_what_a_turn_brings_back_counts_by_its_bytes():
    details = [{"type": "reasoning.encrypted", "data": "x" * 1000, "id": None}]
    assert EMPTY + 1000 <= message_bound(reasoning_details=details) <= EMPTY + 1200
    assert EMPTY + 1000 <= message_bound(tool_plan="x" * 1000) <= EMPTY + 1100
    # As many bytes as it has in UTF-8, at least.
    assert message_bound(tool_plan="\u2713" * 1000) >= EMPTY + 3000


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (OpaquePart(format="openai", value={"type": "file"}), "file"),
        (OpaquePart(format="openai", value={"type": "input_audio"}), "input_audio"),
        (
            OpaquePart(
                format="anthropic",
                value={"type": "document", "source": {"type": "base64", "data": ""}},
            ),
            "base64",
        ),
        (
            OpaquePart(
                format="responses",
                value={
                    "type": "custom_tool_call_output",
                    "output": [{"type": "input_image", "file_id": "1"}],
                },
            ),
            "input_image",
        ),
        (TextPart(text="", extra={"source": {"url": "u"}}), "url"),
        (ToolResult(tool_call_id="1", content=(), extra={"file_id": "1"}), "file_id"),
    ],
)
def test_what_refers_to_something_elsewhere_has_no_bound(part, why):
    with pytest.raises(Unbounded, match=f"'{why}'"):
        bound(part)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"extra": {"web_search_options": {}}}, "web_search_options"),
        ({"extra": {"previous_response_id": "1"}}, "previous_response_id"),
        ({"tools": (Tool(name="web", extra={"type": "web_search"}),)}, "'web'"),
    ],
)
def test_what_brings_in_more_than_is_said_has_no_bound(fields, why):
    with pytest.raises(Unbounded, match=why):
        bound(**fields)


def test_a_tool_may_speak_of_urls_and_files():
    schema = {"type": ["object", "null"], "properties": {"url": {"type": "file"}}}
    tool = Tool(name="f", extra={"output_schema": schema, "more": "x" * 1000})
    assert EMPTY + 1000 <= bound(tools=(tool,)) <= EMPTY + 2500


def test_types_that_are_no_text_and_any_depth_are_taken():
    assert message_bound(tool_plan={"type": ["file"]}) < EMPTY + 100
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(Unbounded, match="nested too deeply"):
        message_bound(tool_plan=deep)


def test_a_reply_that_was_spoken_has_no_bound():
    with pytest.raises(Unbounded, match="audio"):
        message_bound(audio={"id": "1"})
    assert message_bound(audio=None) < EMPTY + 50


def test_documents_of_a_request_are_part_of_its_prompt():
    assert bound(extra={"documents": [{"data": {"text": "x" * 1000}}]}) >= EMPTY + 1000
    with pytest.raises(Unbounded, match="url"):
        bound(extra={"documents": [{"url": "u"}]})


def test_what_a_provider_adds_unseen_is_added():
    request = ChatRequest(model="m", messages=(Message(role="user", parts=()),))
    assert input_tokens_bound(request, hidden_prompt=500) == EMPTY + 500


def test_fields_that_only_say_how_to_serve_change_nothing():
    assert bound(extra={"service_tier": "flex", "metadata": {"a": "b"}}) == EMPTY
    cached = TextPart(text="", extra={"cache_control": {"type": "ephemeral"}})
    assert bound(cached) == bound(TextPart(text=""))


def test_a_lone_surrogate_does_not_crash_it():
    assert bound(TextPart(text="\ud800")) >= EMPTY + 3
