from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    ChatRequest,
    Finished,
    ImagePart,
    Message,
    ModelInfo,
    OpaquePart,
    Reasoning,
    ReasoningDelta,
    ReasoningPart,
    ResponseFormat,
    Started,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Usage,
    UsageReport,
)
from duckservice.errors import (
    BadProviderResponse,
    DuckError,
    InvalidRequest,
    ProviderError,
)
from duckservice.gateway.wire.anthropic_reply import usage_fields
from duckservice.providers.anthropic import AnthropicDialect
from duckservice.providers.anthropic_request import MAX_TOKENS
from duckservice.providers.failures import Classifier
from tests.providers import understanding

CLAUDE = AnthropicDialect(provider="duck", errors=Classifier("duck"))

HELLO = (Message.of("user", "hello"),)


def ask(**fields) -> ChatRequest:
    return ChatRequest(**{"model": "claude-opus-5", "messages": HELLO} | fields)


def sent(request, *, stream=False) -> dict:
    CLAUDE.check(request)
    return json.loads(CLAUDE.encode(request, stream=stream))


# Requests


def test_the_smallest_request_has_a_limit_because_it_must():
    assert sent(ask()) == {
        "model": "claude-opus-5",
        "max_tokens": MAX_TOKENS,
        "messages": [{"role": "user", "content": "hello"}],
    }
    assert sent(ask(), stream=True)["stream"] is True


def test_the_options_go_under_anthropics_names():
    tool = Tool(name="f", description="d", parameters={"type": "object"}, strict=True)
    schema = ResponseFormat(type="json_schema", name="n", schema={"type": "object"})
    body = sent(
        ask(
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            n=1,
            stop=("a",),
            presence_penalty=0.0,
            tools=(tool,),
            tool_choice=ToolChoice(mode="tool", name="f"),
            parallel_tool_calls=False,
            response_format=schema,
            user="me",
            extra={"logprobs": False, "store": None},
        )
    )
    assert body == {
        "model": "claude-opus-5",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["a"],
        "output_config": {
            "format": {"type": "json_schema", "schema": {"type": "object"}}
        },
        "metadata": {"user_id": "me"},
        "tools": [
            {
                "name": "f",
                "input_schema": {"type": "object"},
                "description": "d",
                "strict": True,
            }
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    }


@pytest.mark.parametrize(
    ("mode", "kind"), [("auto", "auto"), ("none", "none"), ("required", "any")]
)
def test_the_choice_of_tools_is_translated(mode, kind):
    choice = ToolChoice(mode=mode)
    assert sent(ask(tool_choice=choice))["tool_choice"] == {"type": kind}


def test_one_call_at_a_time_needs_a_choice_to_say_it_with():
    body = sent(ask(tools=(Tool(name="f"),), parallel_tool_calls=False))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert body["tools"] == [
        {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    ]
    assert "tool_choice" not in sent(ask(parallel_tool_calls=False))


def test_what_the_system_says_first_is_the_system_prompt():
    given = (
        Message.of("system", "a"),
        Message.of("developer", "b"),
        *HELLO,
        Message.of("system", "later"),
    )
    body = sent(ask(messages=given))
    assert body["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    assert body["messages"][1] == {"role": "system", "content": "later"}
    assert sent(ask(messages=given[1:3]))["system"] == "b"


def test_images_are_sources():
    parts = (
        ImagePart(url="https://x/y.png", detail="auto"),
        ImagePart(data="QUJD", media_type="image/png"),
    )
    [message] = sent(ask(messages=(Message(role="user", parts=parts),)))["messages"]
    assert message["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"},
        },
    ]


def call(own_id="c1", arguments='{"n": 1.0, "big": 123456789012345678901234567890}'):
    return ToolCall(id=own_id, name="f", arguments=arguments)


def result(own_id="c1", *content):
    return ToolResult(tool_call_id=own_id, content=content or (TextPart(text="42"),))


def test_the_results_of_one_turn_are_one_user_turn():
    given = (
        *HELLO,
        Message(role="assistant", parts=(TextPart(text=""), call(), call("c2", ""))),
        Message(role="tool", parts=(result(),), name="f"),
        Message(role="tool", parts=(result("c2", ImagePart(url="https://x")),)),
        Message.of("user", "so?"),
    )
    raw = CLAUDE.encode(ask(messages=given), stream=False)
    # The model's own numbers, not what a float makes of them.
    assert b'"input":{"n": 1.0, "big": 123456789012345678901234567890}' in raw
    _, assistant, results, last = json.loads(raw)["messages"]
    assert [block["type"] for block in assistant["content"]] == ["tool_use", "tool_use"]
    assert assistant["content"][1]["input"] == {}
    assert results == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "42"},
            {
                "type": "tool_result",
                "tool_use_id": "c2",
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://x"}}
                ],
            },
        ],
    }
    assert last == {"role": "user", "content": "so?"}


def test_what_only_anthropic_knows_goes_on_unchanged():
    document = {"type": "document", "source": {"type": "text", "data": "x"}}
    parts = (
        OpaquePart(format="anthropic", value=document),
        TextPart(text="t", extra={"cache_control": {"type": "ephemeral"}}),
        ToolResult(tool_call_id="c", content=(), is_error=True, extra={"x": 1}),
    )
    thoughts = (
        ReasoningPart(text="hm", signature="s"),
        ReasoningPart(redacted="r"),
        ToolCall(
            id="c", name="f", arguments="{}", extra={"caller": {"type": "direct"}}
        ),
    )
    given = {"name": "bash", "type": "bash_20250124", "cache_control": {}}
    bash = Tool(name="bash", extra=given)
    body = sent(
        ask(
            format="anthropic",
            messages=(
                Message(role="user", parts=parts),
                Message(role="assistant", parts=thoughts),
            ),
            tools=(bash,),
            top_k=5,
            reasoning=Reasoning(mode="enabled", budget_tokens=2000),
            extra={"container": "c", "thinking": {"display": "omitted"}},
        )
    )
    user, assistant = body["messages"]
    assert user["content"] == [
        document,
        {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
        {
            "type": "tool_result",
            "tool_use_id": "c",
            "content": [],
            "is_error": True,
            "x": 1,
        },
    ]
    assert assistant["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "r"},
        {
            "type": "tool_use",
            "id": "c",
            "name": "f",
            "input": {},
            "caller": {"type": "direct"},
        },
    ]
    assert body["tools"] == [given]
    assert body["top_k"] == 5
    assert body["container"] == "c"
    assert body["thinking"] == {
        "type": "enabled",
        "budget_tokens": 2000,
        "display": "omitted",
    }


@pytest.mark.parametrize(
    "model",
    ["claude-3-7-sonnet-20250219", "claude-sonnet-4-5", "claude-opus-4-20250514"],
)
def test_an_effort_is_a_budget_for_models_that_know_no_effort(model):
    body = sent(ask(model=model, reasoning=Reasoning(effort="medium")))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert body["max_tokens"] > 8192
    assert "output_config" not in body
    limited = sent(
        ask(model=model, reasoning=Reasoning(effort="high"), max_tokens=3000)
    )
    assert limited["thinking"]["budget_tokens"] == 2999


@pytest.mark.parametrize(
    "model", ["claude-sonnet-4-6", "claude-opus-4-7", "claude-opus-5"]
)
def test_an_effort_is_an_effort_for_models_that_know_it(model):
    body = sent(ask(model=model, reasoning=Reasoning(effort="high")))
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "high"}
    minimal = sent(ask(model=model, reasoning=Reasoning(effort="minimal")))
    assert minimal["output_config"] == {"effort": "low"}
    none = sent(ask(model=model, reasoning=Reasoning(effort="none")))
    assert none["thinking"] == {"type": "disabled"}
    assert "output_config" not in none


def test_an_effort_and_a_schema_share_their_place():
    schema = ResponseFormat(type="json_schema", schema={})
    request = ask(
        format="anthropic", reasoning=Reasoning(effort="low"), response_format=schema
    )
    assert sent(request)["output_config"] == {
        "format": {"type": "json_schema", "schema": {}},
        "effort": "low",
    }
    assert "thinking" not in sent(request)


def user(*parts, **fields) -> dict:
    return {"messages": (Message(role="user", parts=parts, **fields),)}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"extra": {"logit_bias": {"1": 1}}}, "logit_bias"),
        ({"extra": {"logprobs": True}}, "logprobs"),
        ({"response_format": ResponseFormat(type="json_object")}, "response_format"),
        (user(TextPart(text="x"), name="ann"), "messages[0].name"),
        (
            user(ImagePart(url="https://x", detail="high")),
            "messages[0].content[0].image_url.detail",
        ),
        (
            user(OpaquePart(format="openai", value={"type": "input_audio"})),
            "messages[0].content[0] (input_audio)",
        ),
        (
            {"messages": (Message(role="assistant", parts=(call(arguments="{"),)),)},
            "messages[0].content[0].function.arguments",
        ),
        (
            {"messages": (Message(role="assistant", parts=(call(arguments="[1]"),)),)},
            "messages[0].content[0].function.arguments",
        ),
        (
            {
                "messages": (
                    Message(role="assistant", parts=(ReasoningPart(text="h"),)),
                )
            },
            "messages[0].content[0] (reasoning without a signature)",
        ),
        ({"tools": (Tool(name="t", extra={"type": "custom"}),)}, "tools[0].type"),
        (
            {
                "model": "claude-sonnet-4-5",
                "reasoning": Reasoning(effort="low"),
                "max_tokens": 1000,
            },
            "reasoning_effort",
        ),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(fields, field):
    with pytest.raises(InvalidRequest) as caught:
        CLAUDE.check(ask(**fields))
    assert caught.value.param == field
    assert caught.value.provider == "duck"


def test_deeply_nested_arguments_are_refused():
    given = Message(role="assistant", parts=(call(arguments='{"a":' + "[" * 99_999),))
    for attempt in (CLAUDE.check, lambda r: CLAUDE.encode(r, stream=False)):
        with pytest.raises(InvalidRequest):
            attempt(ask(messages=(given,)))


def test_a_count_is_asked_for_without_what_it_does_not_take():
    request = ask(temperature=0.5, tools=(Tool(name="f"),), stop=("a",))
    assert json.loads(CLAUDE.counting.encode(request)).keys() == {
        "model",
        "messages",
        "tools",
    }
    assert CLAUDE.counting.decode(b'{"input_tokens": 14}') == 14
    for bad in (b"{}", b"<html>", b'{"input_tokens": 1' + b"0" * 30 + b"}"):
        with pytest.raises(BadProviderResponse):
            CLAUDE.counting.decode(bad)


def test_models_are_listed_page_by_page():
    page = {"data": [{"id": "a", "created_at": "1970-01-01T00:01:00Z"}, {"id": "b"}]}
    models = (
        ModelInfo(id="a", created=60, owned_by="anthropic"),
        ModelInfo(id="b", owned_by="anthropic"),
    )
    assert CLAUDE.decode_models(json.dumps(page).encode()) == (models, None)
    raw = json.dumps(page | {"has_more": True}).encode()
    assert CLAUDE.decode_models(raw) == (models, "/v1/models?limit=1000&after_id=b")
    assert CLAUDE.decode_models(b'{"data": [], "has_more": true}') == ((), None)


# Answers


def body(*content, **fields) -> bytes:
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    return json.dumps(whole | fields).encode()


def test_a_message_is_read_into_parts():
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    completion = CLAUDE.decode(
        body(
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xyz"},
            search,
            {"type": "text", "text": "hi", "citations": [{"url": "u"}]},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
            stop_reason="tool_use",
        )
    )
    assert completion.id == "msg_1"
    assert completion.choices[0].parts == (
        ReasoningPart(text="hm", signature="sig"),
        ReasoningPart(redacted="xyz"),
        OpaquePart(format="anthropic", value=search),
        TextPart(text="hi", extra={"citations": [{"url": "u"}]}),
        ToolCall(id="c", name="f", arguments='{"a":1}'),
    )
    assert completion.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("of_the_future", "stop"),
    ],
)
def test_why_it_stopped_is_kept_in_both_words(native, reason):
    completion = CLAUDE.decode(body(stop_reason=native, stop_sequence="x"))
    [choice] = completion.choices
    assert choice.finish_reason == reason
    assert choice.native_finish_reason == native
    assert choice.stop_sequence == "x"


def test_cached_tokens_are_a_part_of_the_input():
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 5},
    }
    assert CLAUDE.decode(body(usage=usage)).usage == Usage(
        input_tokens=33,
        cached_tokens=10,
        cache_write_tokens=20,
        output_tokens=7,
        reasoning_tokens=5,
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>secret</html>",
        b'{"id": "secret"}',
        b'{"content": "secret"}',
        b'{"content": [1]}',
        b'{"content":' + b"[" * 100_000,
        b'{"content": [{"type": "text", "text": 1e999}]}',
        body()[:-1],
    ],
)
def test_what_is_no_message_says_so_without_quoting_it(raw):
    with pytest.raises(BadProviderResponse) as caught:
        CLAUDE.decode(raw)
    assert "secret" not in str(caught.value)


def test_an_error_in_a_200_is_an_error():
    raw = b'{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}'
    with pytest.raises(ProviderError, match="busy"):
        CLAUDE.decode(raw)


# Streams


def event(kind, **fields) -> bytes:
    data = json.dumps({"type": kind} | fields)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start(**usage) -> bytes:
    message = {"id": "msg_1", "model": "claude-x", "usage": usage or None}
    return event("message_start", message=message)


def block(index, *deltas, **fields) -> bytes:
    return (
        event("content_block_start", index=index, content_block=fields)
        + b"".join(event("content_block_delta", index=index, delta=d) for d in deltas)
        + event("content_block_stop", index=index)
    )


def text(index, *texts) -> bytes:
    deltas = ({"type": "text_delta", "text": t} for t in texts)
    return block(index, *deltas, type="text", text="")


def end(reason="end_turn", **usage) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage=usage or None) + STOP


STOP = event("message_stop")
PING = event("ping")


def read(raw, size=11):
    stream = CLAUDE.open_stream()
    chunks = []
    for at in range(0, len(raw), size):
        chunks += stream.feed(raw[at : at + size])
        if stream.ended:
            break
    return chunks + stream.close()


def test_a_stream_is_read_chunk_by_chunk():
    raw = start(input_tokens=3, output_tokens=1) + PING + text(0, "he", "llo")
    assert read(raw + end(output_tokens=9)) == [
        Started(id="msg_1", model="claude-x"),
        UsageReport(usage=Usage(input_tokens=3, output_tokens=1)),
        TextDelta(text="he"),
        TextDelta(text="llo"),
        Finished(reason="stop", native_reason="end_turn"),
        UsageReport(usage=Usage(input_tokens=3, output_tokens=9)),
    ]


def test_the_last_words_about_usage_count_and_say_only_what_has_changed():
    raw = start(input_tokens=3, cache_read_input_tokens=5, output_tokens=1)
    raw += end(input_tokens=4, output_tokens=9)
    _, usage = understanding.of_chunks(read(raw))
    assert usage == Usage(input_tokens=9, cached_tokens=5, output_tokens=9)


def test_calls_thoughts_and_signatures_come_in_pieces():
    raw = (
        start()
        + block(
            0,
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "sig"},
            type="thinking",
            thinking="",
            signature="",
        )
        + block(1, type="redacted_thinking", data="xyz")
        + block(
            2,
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"a":'},
            {"type": "input_json_delta", "partial_json": "1}"},
            type="tool_use",
            id="c1",
            name="f",
            input={},
        )
        + block(3, type="tool_use", id="c2", name="g", input={})
        + block(4, type="tool_use", id="c3", name="h", input={"b": 2})
        + end("tool_use")
    )
    chunks = read(raw)
    assert chunks[1:4] == [
        ReasoningDelta(text="hm"),
        ReasoningDelta(signature="sig"),
        ReasoningDelta(redacted="xyz"),
    ]
    assert chunks[4] == ToolCallDelta(index=0, id="c1", name="f")
    [choice], _ = understanding.of_chunks(chunks)
    assert choice.tool_calls() == [
        ("c1", "f", {"a": 1}),
        ("c2", "g", {}),
        ("c3", "h", {"b": 2}),
    ]


def test_a_servers_own_tool_is_no_call_for_the_client():
    raw = (
        start()
        + block(
            0,
            {"type": "input_json_delta", "partial_json": '{"query": "x"}'},
            type="server_tool_use",
            id="s",
            name="web_search",
            input={},
        )
        + block(
            1,
            {"type": "citations_delta", "citation": {"url": "u"}},
            {"type": "text_delta", "text": "found"},
            type="text",
            text="",
        )
        + end()
    )
    whole = {
        "type": "server_tool_use",
        "id": "s",
        "name": "web_search",
        "input": {"query": "x"},
    }
    assert read(raw)[1:-1] == [
        TextDelta(text="", extra={"content_block": whole}),
        TextDelta(text="", extra={"citations": [{"url": "u"}]}),
        TextDelta(text="found"),
    ]


def test_events_of_the_future_are_ignored():
    raw = start() + event("wonder", index=99) + text(0, "x") + end()
    assert understanding.of_chunks(read(raw))[0][0].text == "x"


def test_an_end_without_a_reason_is_an_end():
    chunks = read(start() + text(0, "x") + STOP)
    assert chunks[-1] == Finished(reason="stop")


@pytest.mark.parametrize(
    "bad",
    [
        event(
            "content_block_delta", index=7, delta={"type": "text_delta", "text": "x"}
        ),
        event("content_block_stop", index=7),
        event("content_block_start", index=7),
        event("message_start"),
        start(),
        b"data: {}\n\n",
        b"data: {\n\n",
        b"data: [DONE]\n\n",
        b"data: \xff\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"",
    ],
)
def test_text_before_nonsense_is_delivered_then_it_is_no_answer(bad):
    stream = CLAUDE.open_stream()
    chunks = stream.feed(start() + text(0, "before") + bad)
    assert chunks[1] == TextDelta(text="before")
    assert stream.ended == bool(bad)
    with pytest.raises(BadProviderResponse):
        stream.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "busy"}, ProviderError),
        ({"type": "api_error", "message": "busy"}, ProviderError),
        ({"type": "invalid_request_error", "message": "busy"}, InvalidRequest),
    ],
)
def test_an_error_event_is_raised_behind_the_text(error, kind):
    stream = CLAUDE.open_stream()
    chunks = stream.feed(
        start() + text(0, "before") + event("error", error=error) + STOP
    )
    assert chunks[-1] == TextDelta(text="before")
    with pytest.raises(kind, match="busy"):
        stream.close()


@pytest.mark.parametrize("raw", [STOP, PING, b"", text(0, "x")])
def test_a_stream_without_its_start_is_no_answer(raw):
    with pytest.raises(BadProviderResponse):
        read(raw)


def test_a_block_without_end_costs_bounded_memory():
    stream = CLAUDE.open_stream()
    stream.feed(start())
    stream.feed(
        event("content_block_start", index=0, content_block={"type": "server_tool_use"})
    )
    delta = {"type": "input_json_delta", "partial_json": "x" * 500_000}
    for _ in range(20):
        if stream.ended:
            break
        stream.feed(event("content_block_delta", index=0, delta=delta))
    with pytest.raises(BadProviderResponse):
        stream.close()


WHOLE = start(input_tokens=1) + text(0, "hé") + end(output_tokens=2)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_one_wrong_byte_never_crashes_and_never_hangs(place, change):
    raw = bytearray(WHOLE)
    raw[place] ^= change
    with suppress(DuckError):
        read(bytes(raw))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_stream_cut_anywhere_is_cut_off(length):
    cut = WHOLE[:length]
    if b"message_stop" in cut.rpartition(b"data:")[2] and cut.rstrip().endswith(b"}"):
        return  # only the blank line is missing: all has been said
    with pytest.raises(BadProviderResponse):
        read(cut)


def test_what_is_cached_for_an_hour_is_counted_and_told():
    raw = {
        "id": "msg_1",
        "model": "claude-x",
        "content": [],
        "usage": {
            "input_tokens": 5,
            "output_tokens": 1,
            "cache_creation_input_tokens": 300,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 200,
                "ephemeral_1h_input_tokens": 100,
            },
        },
    }
    usage = CLAUDE.decode(json.dumps(raw).encode()).usage
    assert (usage.cache_write_tokens, usage.hour_write_tokens) == (300, 100)
    assert usage_fields(usage)["cache_creation"] == raw["usage"]["cache_creation"]
