from __future__ import annotations

import base64
import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    ImagePart,
    Message,
    ModelInfo,
    OpaquePart,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    Started,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    UsageReport,
)
from duckservice.errors import (
    BadProviderResponse,
    ContentFiltered,
    DuckError,
    InvalidRequest,
    ProviderError,
    RateLimited,
)
from duckservice.providers.failures import Classifier
from duckservice.providers.openai import OpenAIDialect
from duckservice.providers.openai_variant import COMPATIBLE as ANY_SERVER
from tests.providers import understanding
from tests.recordings import load, needs_recordings, response_parts

ERRORS = Classifier("duck")
OPENAI = OpenAIDialect(provider="duck", errors=ERRORS)
COMPATIBLE = OpenAIDialect(provider="duck", errors=ERRORS, variant=ANY_SERVER)

HELLO = (Message.of("user", "hello"),)


def ask(**fields) -> ChatRequest:
    return ChatRequest(**{"model": "gpt-4o", "messages": HELLO} | fields)


def sent(request, dialect=OPENAI, *, stream=False) -> dict:
    dialect.check(request)
    return json.loads(dialect.encode(request, stream=stream))


def messages(*given, dialect=OPENAI, **fields) -> list:
    return sent(ask(messages=given, **fields), dialect)["messages"]


# Requests


def test_the_smallest_request_says_no_more_than_it_must():
    assert OPENAI.encode(ask(), stream=False) == (
        b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}'
    )


def test_the_options_go_under_openais_names():
    tool = Tool(name="f", description="d", parameters={"type": "object"}, strict=True)
    body = sent(
        ask(
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            n=2,
            stop=("a", "b"),
            seed=7,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            tools=(tool,),
            tool_choice=ToolChoice(mode="tool", name="f"),
            parallel_tool_calls=False,
            reasoning=Reasoning(effort="low"),
            user="me",
            extra={"logit_bias": {"1": 2}, "store": True},
        )
    )
    assert body == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "stop": ["a", "b"],
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "reasoning_effort": "low",
        "user": "me",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "logit_bias": {"1": 2},
        "store": True,
    }


@pytest.mark.parametrize("model", ["o1", "o3-mini", "gpt-5", "gpt-5.2-pro", "x/gpt-5"])
def test_reasoning_models_get_max_completion_tokens(model):
    body = sent(ask(model=model, max_tokens=5))
    assert body["max_completion_tokens"] == 5
    assert "max_tokens" not in body


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-35-turbo", "gpt-oss-20b", "llama3.2"])
def test_other_models_get_max_tokens(model):
    assert sent(ask(model=model, max_tokens=5), COMPATIBLE)["max_tokens"] == 5


def test_a_stream_is_always_asked_for_its_usage():
    body = sent(
        ask(extra={"stream_options": {"include_obfuscation": False}}), stream=True
    )
    assert body["stream"] is True
    assert body["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }


def test_roles_and_names_stay_as_they_are():
    given = [
        Message.of("system", "s"),
        Message.of("developer", "d"),
        Message(role="user", parts=(TextPart(text="u"),), name="ann"),
    ]
    assert messages(*given) == [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u", "name": "ann"},
    ]


def test_developers_are_system_where_only_the_format_is_spoken():
    given = Message.of("developer", "d")
    assert messages(given, dialect=COMPATIBLE) == [{"role": "system", "content": "d"}]


def test_images_are_urls_and_data_urls():
    parts = (
        TextPart(text="look"),
        ImagePart(url="https://x/y.png", detail="low"),
        ImagePart(data="QUJD", media_type="image/png"),
    )
    assert messages(Message(role="user", parts=parts))[0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
    ]


def test_an_assistant_turn_has_content_calls_and_refusal():
    call = ToolCall(id="c1", name="f", arguments='{"a": 1}')
    given = Message(role="assistant", parts=(TextPart(text="so"), call))
    refused = Message(role="assistant", parts=(RefusalPart(text="no"),))
    only_call = Message(role="assistant", parts=(call,))
    with_call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a": 1}'},
    }
    assert messages(given, refused, only_call) == [
        {"role": "assistant", "content": "so", "tool_calls": [with_call]},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": None, "tool_calls": [with_call]},
    ]


def test_an_empty_text_stays_an_empty_text():
    call = ToolCall(id="c1", name="f", arguments="{}")
    given = Message(role="assistant", parts=(TextPart(text=""), call))
    assert messages(given)[0]["content"] == ""


def test_the_results_in_a_user_turn_become_messages_of_their_own():
    parts = (
        ToolResult(tool_call_id="c1", content=(TextPart(text="1"),)),
        ToolResult(tool_call_id="c2", content=(TextPart(text="2"), TextPart(text="3"))),
        TextPart(text="go on"),
    )
    given = Message(role="user", parts=parts)
    assert messages(given, format="anthropic") == [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
        },
        {"role": "user", "content": "go on"},
    ]


def test_what_only_openai_knows_goes_on_unchanged():
    audio = {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}
    part = OpaquePart(format="openai", value=audio)
    given = Message(role="user", parts=(part,), extra={"foo": 1})
    assert messages(given) == [{"role": "user", "content": [audio], "foo": 1}]
    tool = Tool(name="t", extra={"type": "custom", "custom": {"name": "t"}})
    assert sent(ask(tools=(tool,)))["tools"] == [
        {"type": "custom", "custom": {"name": "t"}}
    ]


def test_what_is_understood_in_part_goes_on_as_it_was_written():
    wanted = ResponseFormat(type="json_schema", name="n", schema={})
    whole = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "x": 1}}
    body = sent(ask(response_format=wanted, extra={"response_format": whole}))
    assert body["response_format"] == whole


def test_a_schema_from_anthropic_gets_a_name_and_is_kept_to():
    wanted = ResponseFormat(type="json_schema", schema={"type": "object"})
    body = sent(ask(response_format=wanted, format="anthropic"))
    assert body["response_format"]["json_schema"] == {
        "name": "response",
        "schema": {"type": "object"},
        "strict": True,
    }
    plain = ask(response_format=ResponseFormat(type="json_object"))
    assert sent(plain)["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("budget", "effort"), [(1024, "low"), (8000, "medium"), (30000, "high")]
)
def test_a_budget_for_thoughts_becomes_an_effort(budget, effort):
    reasoning = Reasoning(mode="enabled", budget_tokens=budget)
    body = sent(ask(model="o3", reasoning=reasoning, format="anthropic"))
    assert body["reasoning_effort"] == effort


def test_thoughts_go_back_to_compatible_servers_and_nowhere_else():
    given = Message(
        role="assistant", parts=(ReasoningPart(text="hm"), TextPart(text="a"))
    )
    [message] = messages(given, dialect=COMPATIBLE, format="anthropic")
    assert message == {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    with pytest.raises(InvalidRequest):
        OPENAI.check(ask(messages=(given,), format="anthropic"))


IMAGE = ImagePart(url="https://x/y.png")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"top_k": 5}, "top_k"),
        ({"format": "anthropic", "extra": {"container": "c"}}, "container"),
        ({"format": "anthropic", "stop": ("a",) * 5}, "stop_sequences"),
        (
            {
                "format": "anthropic",
                "model": "o3",
                "reasoning": Reasoning(mode="disabled"),
            },
            "thinking.type",
        ),
        (
            {
                "format": "anthropic",
                "messages": (
                    Message(
                        role="user",
                        parts=(TextPart(text="x", extra={"cache_control": {}}),),
                    ),
                ),
            },
            "messages[0].content[0].cache_control",
        ),
        (
            {
                "messages": (
                    Message(
                        role="user",
                        parts=(
                            OpaquePart(format="anthropic", value={"type": "document"}),
                        ),
                    ),
                ),
            },
            "messages[0].content[0] (document)",
        ),
        (
            {
                "format": "anthropic",
                "messages": (
                    Message(
                        role="user",
                        parts=(ToolResult(tool_call_id="c", content=(IMAGE,)),),
                    ),
                ),
            },
            "messages[0].content[0].content",
        ),
        (
            {
                "format": "anthropic",
                "tools": (Tool(name="bash", extra={"type": "bash_1"}),),
            },
            "tools[0].type",
        ),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(fields, field):
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.check(ask(**fields))
    assert caught.value.param == field
    assert field in str(caught.value)
    assert caught.value.provider == "duck"


@pytest.mark.parametrize(
    ("place", "field"),
    [(0, "system[0].cache_control"), (1, "messages[0].content[0].cache_control")],
)
def test_a_field_is_named_as_the_client_wrote_it_with_its_system_beside(place, field):
    hint = {"cache_control": {"type": "ephemeral"}}
    given = tuple(
        Message(
            role=role, parts=(TextPart(text="x", extra=hint if at == place else {}),)
        )
        for at, role in enumerate(("system", "user"))
    )
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.check(ask(messages=given, format="anthropic"))
    assert caught.value.param == field


def test_a_request_in_openais_own_format_is_left_to_openai_to_judge():
    result = ToolResult(tool_call_id="c", content=(IMAGE,))
    OPENAI.check(
        ask(
            messages=(Message(role="tool", parts=(result,)),),
            stop=("a",) * 9,
            extra={"anything": 1},
        )
    )


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_half_a_surrogate_pair_is_refused_before_it_is_sent(text):
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.encode(ask(messages=(Message.of("user", text),)), stream=False)
    assert text not in str(caught.value)


# Answers


def body(**fields) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "hi"},
        "finish_reason": "stop",
    }
    whole = {"id": "c-1", "model": "gpt-4o-x", "created": 5, "choices": [choice]}
    return json.dumps(whole | fields).encode()


def answer_with(**message) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return body(choices=[choice])


def test_a_completion_is_read_with_what_belongs_to_it():
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    completion = OPENAI.decode(
        body(usage=usage, system_fingerprint="fp", service_tier="default", foo=1)
    )
    assert completion.id == "c-1"
    assert completion.model == "gpt-4o-x"
    assert completion.created == 5
    assert completion.text == "hi"
    assert completion.extra == {"system_fingerprint": "fp", "service_tier": "default"}
    assert completion.usage == Usage(
        input_tokens=10, output_tokens=7, cached_tokens=4, reasoning_tokens=3
    )


def test_what_a_message_may_hold_is_read_into_parts():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    completion = OPENAI.decode(
        answer_with(
            reasoning_content="hm",
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]},
                {"type": "text", "text": "hi"},
                {"type": "reference", "reference_ids": [1]},
            ],
            refusal="no",
            tool_calls=[call],
        )
    )
    assert completion.choices[0].parts == (
        ReasoningPart(text="hm"),
        ReasoningPart(text="so"),
        TextPart(text="hi"),
        RefusalPart(text="no"),
        ToolCall(id="c", name="f", arguments="{}"),
    )


def test_a_call_without_an_id_gets_one_and_arguments_become_text():
    function = {"name": "f", "arguments": {"a": 1}}
    completion = OPENAI.decode(
        answer_with(content=None, tool_calls=[{"function": function}] * 2)
    )
    first, second = completion.choices[0].tool_calls
    assert first.id != second.id
    assert first.arguments == '{"a":1}'


ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize("usage", [None, {}, ZEROS, {"prompt_tokens": -5}])
def test_without_usage_the_reply_is_marked_for_an_estimate(usage):
    assert OPENAI.decode(body()).usage == Usage(estimated=True)
    assert OPENAI.decode(body(usage=usage)).usage == Usage(estimated=True)


def test_a_stream_whose_usage_is_nothing_is_left_for_an_estimate():
    stream = OPENAI.open_stream()
    end = event(usage=ZEROS)
    chunks = stream.feed(event(piece("stop", content="Hi")) + end + DONE)
    assert not any(isinstance(chunk, UsageReport) for chunk in chunks)
    assert not stream.usage_seen


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"prompt_tokens": -5, "completion_tokens": 1}, Usage(output_tokens=1)),
        ({"prompt_tokens": "7", "completion_tokens": 2.0}, Usage(output_tokens=2)),
        (
            {"prompt_tokens": 2, "completion_tokens": 1.5, "total_tokens": True},
            Usage(input_tokens=2),
        ),
        (
            {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 99}},
            Usage(input_tokens=3, cached_tokens=3),
        ),
        (
            {
                "completion_tokens": 3,
                "completion_tokens_details": {"reasoning_tokens": 9},
            },
            Usage(output_tokens=3, reasoning_tokens=3),
        ),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(input_tokens=3)),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 2,
                "total_tokens": 9,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(input_tokens=3, output_tokens=6, reasoning_tokens=4),
        ),
    ],
)
def test_broken_usage_is_clamped_and_never_negative(given, read):
    assert OPENAI.decode(body(usage=given)).usage == read


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "an empty body"),
        (b"<html>secret prompt</html>", "HTML"),
        (b"plain secret prompt", "malformed"),
        (b'{"object": "secret prompt"}', "JSON without choices"),
        (b'{"choices": []}', "JSON without choices"),
        (b'{"choices": [{}]}', "without a message"),
        (b'{"choices": "secret prompt"}', "Expected `array"),
        (b'{"choices": 1e400}', "out of range"),
        (b'{"choices": NaN}', "malformed"),
        (b'[{"choices": []}]', "Expected `object`"),
        (b'{"usage":' + b"[" * 100_000, "nested too deeply"),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"id": "\xff"}', "UTF-8"),
        (b'{"id": "\\ud800"}', "no answer"),
        (body()[:-1], "truncated"),
        (answer_with(content=5), "neither text nor a list"),
    ],
)
def test_what_is_no_completion_says_so_without_quoting_it(raw, says):
    with pytest.raises(BadProviderResponse) as caught:
        OPENAI.decode(raw)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.provider == "duck"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"error": {"code": "content_filter", "status": 400}}', ContentFiltered),
        (b'{"error": {"code": 429, "message": "slow"}}', RateLimited),
        (b'{"error": "boom"}', ProviderError),
        (b'{"detail": "boom"}', ProviderError),
        (b'{"message": "boom", "code": 3}', ProviderError),
    ],
)
def test_an_error_in_a_200_is_an_error(raw, kind):
    with pytest.raises(DuckError) as caught:
        OPENAI.decode(raw)
    assert type(caught.value) is kind


# Streams


def event(*choices, **fields) -> bytes:
    chunk = {"id": "c-1", "model": "m", "created": 5, "choices": list(choices)}
    return b"data: " + json.dumps(chunk | fields).encode() + b"\n\n"


def piece(finish_reason=None, index=0, **delta) -> dict:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


DONE = b"data: [DONE]\n\n"


def read(raw, dialect=OPENAI, size=7):
    stream = dialect.open_stream()
    chunks = []
    for at in range(0, len(raw), size):
        chunks += stream.feed(raw[at : at + size])
        if stream.ended:
            break
    return chunks + stream.close()


def said(raw, dialect=OPENAI):
    return understanding.of_chunks(read(raw, dialect))


def test_a_stream_is_read_chunk_by_chunk():
    raw = (
        event(piece(role="assistant", content=""))
        + event(piece(content="he"))
        + event(piece(content="llo"))
        + event(piece("stop"))
        + event(usage={"prompt_tokens": 3, "completion_tokens": 2})
        + DONE
    )
    chunks = read(raw)
    assert chunks[:3] == [
        Started(id="c-1", model="m", created=5),
        TextDelta(text="he"),
        TextDelta(text="llo"),
    ]
    assert chunks[-1] == UsageReport(usage=Usage(input_tokens=3, output_tokens=2))
    [choice], _ = understanding.of_chunks(chunks)
    assert choice.native_finish_reason == "stop"


def test_usage_that_comes_twice_is_reported_once():
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    raw = (
        event(piece("stop", content="x"), usage=usage, x_groq={"usage": usage})
        + event(usage=usage)
        + DONE
    )
    assert sum(isinstance(c, UsageReport) for c in read(raw)) == 1


def test_the_finish_reason_waits_for_the_end_of_all_calls():
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    raw = (
        event(piece("tool_calls", tool_calls=[call]))
        + event(piece("tool_calls", tool_calls=[call | {"index": 1, "id": "b"}]))
        + DONE
    )
    [choice], _ = said(raw)
    assert [c[0] for c in choice.tool_calls()] == ["a", "b"]


@pytest.mark.parametrize(
    "deltas",
    [
        # with indexes, in pieces
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
            {"index": 0, "function": {"arguments": '{"x":'}},
            {"index": 0, "function": {"arguments": "1}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        # without
        [
            {"id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"function": {"arguments": "1}"}},
            {"id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        # all with index 0
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        # with id and name repeated
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        # arguments as objects
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": {}}},
        ],
    ],
)
def test_tool_calls_are_told_apart_however_they_are_numbered(deltas):
    raw = b"".join(event(piece(tool_calls=[delta])) for delta in deltas)
    [choice], _ = said(raw + event(piece("tool_calls")) + DONE)
    assert choice.tool_calls() == [("a", "f", {"x": 1}), ("b", "g", {})]


def test_reasoning_refusal_and_logprobs_come_along():
    raw = (
        event(piece(reasoning_content="h", content=None))
        + event(piece(reasoning="m"))
        + event(
            piece(
                content=[
                    {"type": "thinking", "thinking": [{"type": "text", "text": "!"}]}
                ]
            )
        )
        + event(piece(refusal="no"))
        + event(piece(content="x") | {"logprobs": {"content": [1]}})
        + event(piece("stop"))
        + DONE
    )
    [choice], _ = said(raw)
    assert (choice.reasoning, choice.refusal, choice.text) == ("hm!", "no", "x")
    assert TextDelta(text="x", extra={"logprobs": {"content": [1]}}) in read(raw)


def test_comments_pings_and_chunks_without_choices_are_nothing():
    raw = (
        b": OPENROUTER PROCESSING\n\n"
        + event(id="", model="", prompt_filter_results=[])
        + event(piece(content="x"))
        + b": keepalive\n\n"
        + event(piece("stop"))
        + DONE
    )
    [choice], usage = said(raw)
    assert choice.text == "x"
    assert usage is None


def test_every_choice_gets_its_own_end():
    raw = (
        event(piece(content="a"), piece(index=1, content="b"))
        + event(piece("stop"))
        + event(piece("length", index=1))
        + DONE
    )
    choices, _ = said(raw)
    assert [(c.text, c.finish_reason) for c in choices] == [
        ("a", "stop"),
        ("b", "length"),
    ]


def test_without_done_a_stream_of_openai_is_cut_off():
    raw = event(piece(content="x")) + event(piece("stop"))
    with pytest.raises(BadProviderResponse, match="breaks off"):
        read(raw)
    [choice], _ = said(raw, COMPATIBLE)
    assert choice.finish_reason == "stop"


def test_without_done_and_without_a_finish_reason_every_stream_is_cut_off():
    for raw in (event(piece(content="x")), event(piece("stop"), piece(index=1)), b""):
        with pytest.raises(BadProviderResponse):
            read(raw, COMPATIBLE)


def test_done_without_a_blank_line_behind_it_is_done():
    raw = event(piece("stop", content="x")) + b"data: [DONE]"
    assert said(raw)[0][0].text == "x"


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (
            b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n',
            ProviderError,
        ),
        (b'event: error\ndata: {"error": {"code": 429}}\n\n', RateLimited),
        (b'data: {"error": "boom"}\n\n', ProviderError),
        (event(piece("error"), error={"code": "server_error"}), ProviderError),
        (event(piece("error")), ProviderError),
        (b'data: {"choices": [}\n\n', BadProviderResponse),
        (b"data: {\n\n", BadProviderResponse),
        (b"data: \xff\n\n", BadProviderResponse),
        (b"data: hello\n\n", BadProviderResponse),
        (b"data: 5\n\n", BadProviderResponse),
        (b"data: " + b"[" * 100_000 + b"\n\n", BadProviderResponse),
        (
            b'data: {"choices": [{"delta": {"content": 1e999}}]}\n\n',
            BadProviderResponse,
        ),
        (b"data: " + b"x" * 2_000_000, BadProviderResponse),
    ],
)
def test_text_before_a_failure_is_delivered_then_the_failure_is_raised(bad, kind):
    stream = OPENAI.open_stream()
    raw = event(piece(content="before")) + bad
    pieces = [raw[at : at + 65536] for at in range(0, len(raw), 65536)]
    chunks = []
    while pieces and not stream.ended:
        chunks += stream.feed(pieces.pop(0))
    assert chunks[1] == TextDelta(text="before")
    assert stream.ended
    for call in (stream.close, lambda: stream.feed(DONE)):
        with pytest.raises(DuckError) as caught:
            call()
        assert type(caught.value) is kind
        assert caught.value.provider == "duck"


def test_nothing_behind_the_end_is_read():
    stream = OPENAI.open_stream()
    stream.feed(event(piece("stop", content="x")) + DONE + b"data: garbage\n\n")
    assert stream.feed(b"data: more garbage\n\n") == []
    assert stream.close() == []


def test_done_alone_is_no_answer():
    with pytest.raises(BadProviderResponse):
        read(DONE)


def test_endless_calls_and_choices_are_refused():
    call = {"id": "a", "function": {"name": "f"}}
    many = [call | {"index": i} for i in range(2000)]
    with pytest.raises(BadProviderResponse):
        read(event(piece(tool_calls=many)) + DONE, size=10**6)
    with pytest.raises(BadProviderResponse):
        read(event(*(piece(index=i) for i in range(200))) + DONE, size=10**6)


WHOLE = (
    event(piece(content="hé")) + event(piece("stop"), usage={"prompt_tokens": 1}) + DONE
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_one_wrong_byte_never_crashes_and_never_hangs(place, change):
    raw = bytearray(WHOLE)
    raw[place] ^= change
    with suppress(DuckError):
        read(bytes(raw))


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "delta",
                        "message",
                        "content",
                        "tool_calls",
                        "function",
                        "usage",
                        "error",
                        "index",
                        "id",
                        "name",
                        "arguments",
                        "finish_reason",
                        "reasoning_details",
                        "extra_content",
                        "images",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_an_answer_or_a_typed_error(value):
    raw = json.dumps(value).encode()
    for understand in (
        OPENAI.decode,
        lambda raw: read(b"data: " + raw + b"\n\n" + DONE),
    ):
        try:
            understand(raw)
        except DuckError as error:
            assert error.provider == "duck"  # noqa: PT017 - both outcomes are fine


# Embeddings and models


def test_embeddings_are_asked_for_as_numbers_and_come_back_in_order():
    request = EmbeddingRequest(model="e", input=("a", (1, 2)), dimensions=2)
    raw = OPENAI.embeddings.encode(request)
    assert json.loads(raw) == {
        "model": "e",
        "input": ["a", [1, 2]],
        "dimensions": 2,
        "encoding_format": "float",
    }
    data = [{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1, 2]}]
    body = {"model": "e-1", "data": data, "usage": {"prompt_tokens": 5}}
    found = OPENAI.embeddings.decode(json.dumps(body).encode(), 2)
    assert found.vectors == ((1.0, 2.0), (3.0, 4.5))
    assert found.usage == Usage(input_tokens=5)


def in_base64(*vectors) -> bytes:
    data = [{"embedding": base64.b64encode(raw).decode()} for raw in vectors]
    return json.dumps({"data": data}).encode()


def test_embeddings_that_come_in_base64_are_read_all_the_same():
    raw = in_base64(struct.pack("<3f", 1.0, -0.5, 0.25), struct.pack("<1f", 2.0))
    found = OPENAI.embeddings.decode(raw, 2)
    assert found.vectors == ((1.0, -0.5, 0.25), (2.0,))


def test_bytes_with_a_sign_are_a_vector_only_of_servers_that_are_not_known():
    raw = in_base64(bytes([0, 1, 127, 128, 255]))
    found = COMPATIBLE.embeddings.decode(raw, 1)
    assert found.vectors == ((0.0, 1.0, 127.0, -128.0, -1.0),)
    with pytest.raises(BadProviderResponse, match="32-bit floats"):
        OPENAI.embeddings.decode(raw, 1)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e30])
def test_floats_that_are_out_of_reason_are_no_vector(number):
    raw = in_base64(struct.pack("<2f", 0.5, number))
    with pytest.raises(BadProviderResponse):
        OPENAI.embeddings.decode(raw, 1)


@needs_recordings
@pytest.mark.parametrize(
    ("provider", "least"),
    [
        ("openai", 19),
        ("azure", 3),
        ("mistral", 7),
        ("openrouter", 4),
        ("ollama", 4),
        ("llamacpp", 2),
        ("openai_compat", 1),
        ("huggingface", 1),
    ],
)
def test_recorded_embeddings_are_read_as_by_the_official_sdk(provider, least):
    records = [
        record
        for record in load(provider)
        if record.api == "embeddings" and record.expected and record.expected["ok"]
    ]
    assert len(records) >= least
    dialect = OPENAI if provider == "openai" else COMPATIBLE
    for record in records:
        wanted = record.expected["embeddings"]
        got = dialect.embeddings.decode(response_parts(record)[2], wanted["count"])
        assert got.usage.input_tokens == record.expected["usage"]["input_tokens"]
        for vector, size in zip(got.vectors, wanted["dims"], strict=False):
            bytes_each = 1 if provider == "openai_compat" else 4
            assert abs(len(vector) * bytes_each - size_in_bytes(size)) <= 2
        if wanted["first"]:
            first = [round(value, 6) for value in got.vectors[0][:4]]
            assert first == pytest.approx(wanted["first"], abs=2e-6)


def size_in_bytes(size: int | str) -> int:
    """Return the size of a vector; the SDK says that of base64 in letters."""
    if isinstance(size, int):
        return 4 * size
    return int(size.removeprefix("base64:")) // 4 * 3


@pytest.mark.parametrize(
    "raw",
    [
        b'{"data": []}',
        b'{"data": [{"embedding": [1]}, {"embedding": [2]}]}',
        b'{"data": [{"index": 7, "embedding": [1]}]}',
        b'{"data": [{"embedding": "AAAA"}]}',
        b'{"data": [{"embedding": [1e999]}]}',
        b"<html>",
        b"",
    ],
)
def test_embeddings_that_do_not_fit_the_inputs_are_no_answer(raw):
    with pytest.raises(BadProviderResponse):
        OPENAI.embeddings.decode(raw, 1)


def test_models_are_listed():
    raw = b'{"data": [{"id": "a", "created": 5, "owned_by": "x"}, {"id": "b"}]}'
    assert OPENAI.decode_models(raw) == (
        (ModelInfo(id="a", created=5, owned_by="x"), ModelInfo(id="b")),
        None,
    )
    for bad in (b"{}", b"<html>", b'{"data": [{}]}'):
        with pytest.raises(BadProviderResponse):
            OPENAI.decode_models(bad)
