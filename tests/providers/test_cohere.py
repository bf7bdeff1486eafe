from __future__ import annotations

import json
import random
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
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
from duckservice.config import ProviderConfig
from duckservice.core.pricing import Price, cost, usd
from duckservice.errors import (
    BadProviderResponse,
    ContentFiltered,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
    Unprocessable,
)
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.adapter import Speaker
from duckservice.providers.adapters.cohere import ADAPTER
from duckservice.providers.capabilities import check_capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin
from tests.providers import understanding
from tests.recordings import cut, load, needs_recordings, response_parts

ERRORS = Classifier("duck", reader=ADAPTER.reader, rules=ADAPTER.rules)
CONFIG = ProviderConfig(name="duck", adapter="cohere")
DIALECT = ADAPTER.dialect(Speaker(provider="duck", errors=ERRORS, config=CONFIG))
ORIGIN = Origin("command-a-03-2025", "answer")

ADD = Tool(name="add", description="Adds.", parameters={"type": "object"})
SUB = Tool(name="sub")
CALL = ToolCall(id="c1", name="add", arguments='{"x": 1}')


def ask(*messages: Message, **fields) -> ChatRequest:
    given = messages or (Message.of("user", "hello"),)
    return ChatRequest(model="command-a-03-2025", messages=given, **fields)


def sent(request: ChatRequest, *, stream: bool = False) -> dict:
    check_capabilities(request, DIALECT.capabilities, provider="duck")
    DIALECT.check(request)
    return json.loads(DIALECT.encode(request, stream=stream))


def refused(request: ChatRequest) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        sent(request)
    assert caught.value.provider == "duck"
    return caught.value.param


# Requests


def test_a_plain_chat_is_three_fields():
    assert sent(ask()) == {
        "model": "command-a-03-2025",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": False,
    }
    assert sent(ask(), stream=True)["stream"] is True


def test_options_are_said_in_coheres_words():
    body = sent(
        ask(
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            top_k=3,
            stop=("a", "b"),
            seed=7,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            n=1,
            user="someone",
        )
    )
    del body["model"], body["messages"], body["stream"]
    assert body == {
        "max_tokens": 5,
        "temperature": 0.5,
        "p": 0.9,
        "k": 3,
        "stop_sequences": ["a", "b"],
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
    }


def test_all_of_the_probability_is_as_much_as_cohere_takes():
    assert sent(ask(top_p=1.0))["p"] == 0.99


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("n", ask(n=2)),
        ("stop", ask(stop=tuple("abcdef"))),
        ("stop_sequences", ask(stop=tuple("abcdef"), format="anthropic")),
        ("top_k", ask(top_k=501)),
        ("presence_penalty", ask(presence_penalty=1.5)),
        ("frequency_penalty", ask(frequency_penalty=-0.5)),
        ("parallel_tool_calls", ask(tools=(ADD,), parallel_tool_calls=False)),
        (
            "tool_choice.disable_parallel_tool_use",
            ask(tools=(ADD,), parallel_tool_calls=False, format="anthropic"),
        ),
        (
            "tool_choice",
            ask(tools=(ADD,), tool_choice=ToolChoice(mode="tool", name="mul")),
        ),
        ("logit_bias", ask(extra={"logit_bias": {"1": 2}})),
        ("service_tier", ask(extra={"service_tier": "standard"}, format="anthropic")),
        (
            "response_format.json_schema.description",
            ask(
                response_format=ResponseFormat(
                    type="json_schema", schema={}, description="an answer"
                )
            ),
        ),
        (
            "messages[0].name",
            ask(Message(role="user", name="Ann", parts=(TextPart(text="hi"),))),
        ),
        (
            "messages[0].audio",
            ask(
                Message(
                    role="assistant",
                    parts=(TextPart(text="hi"),),
                    extra={"audio": {"id": "1"}},
                )
            ),
        ),
        (
            "messages[0].content[0] (input_audio)",
            ask(
                Message(
                    role="user",
                    parts=(OpaquePart(format="openai", value={"type": "input_audio"}),),
                )
            ),
        ),
        (
            "messages[0].content[0]",
            ask(
                Message(
                    role="assistant",
                    parts=(ReasoningPart(text="hm", signature="s"),),
                )
            ),
        ),
        (
            "system[0]",
            ask(
                Message(role="system", parts=(ImagePart(url="https://x/y.png"),)),
                Message.of("user", "hi"),
                format="anthropic",
            ),
        ),
        (
            "messages[0].content[0].content",
            ask(
                Message(
                    role="tool",
                    parts=(
                        ToolResult(
                            tool_call_id="c1",
                            content=(ImagePart(url="https://x/y.png"),),
                        ),
                    ),
                )
            ),
        ),
    ],
)
def test_what_cohere_has_no_words_for_is_refused_by_name(field, request_):
    assert refused(request_) == field


def test_coheres_own_fields_go_on_as_an_openai_client_wrote_them():
    extra = {
        "documents": [{"id": "1", "data": {"text": "ducks quack"}}],
        "safety_mode": "STRICT",
        "citation_options": {"mode": "FAST"},
        "thinking": {"type": "enabled", "token_budget": 9},
        "priority": None,
        "logprobs": False,
    }
    body = sent(ask(extra=extra, reasoning=Reasoning(effort="low")))
    assert {name: body[name] for name in list(extra)[:4]} == dict(
        list(extra.items())[:4]
    )
    assert not {"priority", "logprobs"} & body.keys()


def test_pictures_go_as_urls_and_as_data_urls():
    parts = (
        TextPart(text="see"),
        ImagePart(url="https://duck/1.png", detail="low"),
        ImagePart(data="QUJD", media_type="image/png"),
    )
    [message] = sent(ask(Message(role="user", parts=parts)))["messages"]
    assert message["content"] == [
        {"type": "text", "text": "see"},
        {
            "type": "image_url",
            "image_url": {"url": "https://duck/1.png", "detail": "low"},
        },
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
    ]


def test_tools_and_their_calls_and_results_go_through():
    body = sent(
        ask(
            Message.of("developer", "be short"),
            Message.of("user", "add"),
            Message(
                role="assistant",
                parts=(
                    ReasoningPart(text="hm"),
                    TextPart(text=""),
                    CALL,
                    attrs.evolve(CALL, id="c2"),
                ),
                extra={"tool_plan": "I will add."},
            ),
            Message(
                role="user",
                parts=(
                    ToolResult(tool_call_id="c1", content=(TextPart(text="1"),)),
                    ToolResult(
                        tool_call_id="c2",
                        content=(TextPart(text="too"), TextPart(text="large")),
                        is_error=True,
                    ),
                    TextPart(text="and now?"),
                ),
            ),
            tools=(ADD, SUB),
        )
    )
    function = {"name": "add", "arguments": '{"x": 1}'}
    assert body["messages"] == [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "add"},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm"}],
            "tool_calls": [
                {"id": "c1", "type": "function", "function": function},
                {"id": "c2", "type": "function", "function": function},
            ],
            "tool_plan": "I will add.",
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [
                {"type": "document", "document": {"data": {"error": "too\nlarge"}}}
            ],
        },
        {"role": "user", "content": "and now?"},
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "Adds.",
                "parameters": {"type": "object"},
            },
        },
        {
            "type": "function",
            "function": {
                "name": "sub",
                "parameters": {"type": "object", "properties": {}},
            },
        },
    ]
    assert not {"tool_choice", "strict_tools"} & body.keys()


@pytest.mark.parametrize(
    ("choice", "word", "offered"),
    [
        (ToolChoice(mode="auto"), None, ["add", "sub"]),
        (ToolChoice(mode="none"), "NONE", ["add", "sub"]),
        (ToolChoice(mode="required"), "REQUIRED", ["add", "sub"]),
        (ToolChoice(mode="tool", name="sub"), "REQUIRED", ["sub"]),
    ],
)
def test_one_tool_is_demanded_by_offering_no_other(choice, word, offered):
    body = sent(ask(tools=(ADD, SUB), tool_choice=choice))
    assert body.get("tool_choice") == word
    assert [tool["function"]["name"] for tool in body["tools"]] == offered


def test_a_strict_tool_makes_all_of_them_strict():
    tools = (ADD, attrs.evolve(SUB, strict=True))
    assert sent(ask(tools=tools))["strict_tools"] is True
    tools = (ADD, attrs.evolve(SUB, strict=False))
    assert "strict_tools" not in sent(ask(tools=tools))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (ResponseFormat(type="text"), None),
        (ResponseFormat(type="json_object"), {"type": "json_object"}),
        (
            ResponseFormat(type="json_schema", name="x", schema={"a": 1}, strict=True),
            {"type": "json_object", "json_schema": {"a": 1}},
        ),
    ],
)
def test_a_schema_is_a_kind_of_json_object(wanted, said):
    assert sent(ask(response_format=wanted)).get("response_format") == said


@pytest.mark.parametrize(
    ("reasoning", "said"),
    [
        (Reasoning(), None),
        (Reasoning(effort="none"), {"type": "disabled"}),
        (Reasoning(mode="disabled"), {"type": "disabled"}),
        (Reasoning(effort="low"), {"type": "enabled", "token_budget": 2048}),
        (Reasoning(effort="high"), {"type": "enabled"}),
        (Reasoning(mode="adaptive"), {"type": "enabled"}),
        (
            Reasoning(mode="enabled", budget_tokens=5000),
            {"type": "enabled", "token_budget": 5000},
        ),
    ],
)
def test_effort_and_budget_are_thinking(reasoning, said):
    assert sent(ask(reasoning=reasoning)).get("thinking") == said


@needs_recordings
def test_a_recorded_request_that_an_openai_client_could_have_made_is_what_we_send():
    judged = 0
    for record in load("cohere"):
        body = record.request.get("body")
        if record.api != "cohere.v2_chat" or not isinstance(body, dict):
            continue
        said = json.dumps(body)
        if '"document"' in said or '"thinking":' in json.dumps(body["messages"]):
            continue  # an OpenAI client has no such parts
        if "schema" in body.get("response_format", {}):
            continue  # a name of version 1
        wire = decode_chat(json.dumps(as_openai(body)).encode())
        assert shape(sent(wire.request, stream=wire.stream)) == shape(body), record
        judged += 1
    assert judged >= 50


def as_openai(body: dict) -> dict:
    body = json.loads(json.dumps(body))
    if "stop_sequences" in body:
        body["stop"] = body.pop("stop_sequences")
    if "tool_choice" in body:
        body["tool_choice"] = body["tool_choice"].lower()
    if schema := body.get("response_format", {}).get("json_schema"):
        json_schema = {"name": "response", "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    for message in body["messages"]:
        message.pop("citations", None)
    return body


def shape(body: dict) -> dict:
    """Return *body* without what says nothing, and with all texts as blocks."""
    body = without_nothing(body)
    body.setdefault("stream", False)
    for message in body["messages"]:
        content = message.pop("content", [])
        blocks = (
            [{"type": "text", "text": content}] if isinstance(content, str) else content
        )
        message["content"] = [block for block in blocks if block.get("text") != ""]
    return body


def without_nothing(value):
    match value:
        case dict():
            kept = {k: without_nothing(v) for k, v in value.items()}
            return {k: v for k, v in kept.items() if v is not None and v != []}
        case list():
            return [without_nothing(item) for item in value]
        case _:
            return value


# Answers


def answer(**fields) -> bytes:
    body = {
        "id": "a1",
        "message": {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
        "finish_reason": "COMPLETE",
        "usage": {
            "billed_units": {"input_tokens": 1, "output_tokens": 2},
            "tokens": {"input_tokens": 496, "output_tokens": 4, "reasoning_tokens": 3},
            "cached_tokens": 448,
        },
    }
    return json.dumps(body | fields).encode()


def test_an_answer_is_read_with_all_that_it_has_used():
    completion = DIALECT.decode(answer(), ORIGIN)
    assert (completion.id, completion.model) == ("a1", "command-a-03-2025")
    assert completion.text == "hi"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].native_finish_reason == "COMPLETE"
    assert completion.usage == Usage(
        input_tokens=496,
        output_tokens=4,
        cached_tokens=448,
        reasoning_tokens=3,
        billed_input_tokens=1,
        billed_output_tokens=2,
    )
    assert completion.extra == {"billed_units": {"input_tokens": 1, "output_tokens": 2}}


def test_an_answer_that_names_no_usage_is_estimated():
    assert DIALECT.decode(answer(usage={}), ORIGIN).usage.estimated
    billed = {"billed_units": {"input_tokens": 1.0, "output_tokens": 2.0}}
    completion = DIALECT.decode(answer(usage=billed), ORIGIN)
    assert completion.usage == Usage(
        input_tokens=1,
        output_tokens=2,
        billed_input_tokens=1,
        billed_output_tokens=2,
    )


@pytest.mark.parametrize(
    "units", [None, {}, {"input_tokens": -1}, {"input_tokens": "1"}]
)
def test_where_cohere_does_not_say_what_it_charges_all_tokens_are_priced(units):
    said = {"tokens": {"input_tokens": 9, "output_tokens": 3}, "billed_units": units}
    usage = DIALECT.decode(answer(usage=said), ORIGIN).usage
    assert usage == Usage(input_tokens=9, output_tokens=3)


@needs_recordings
def test_a_recorded_answer_costs_what_cohere_charges_for_it():
    price = Price.usd_per_mtok(input="2.50", output="10")
    [record] = [r for r in load("cohere") if r.id == "82ed57ca12"]
    usage = DIALECT.decode(response_parts(record)[2], ORIGIN).usage
    assert usage.total_tokens == 496 + 11
    assert usd(cost(usage, price)) == "0.0000925"


@needs_recordings
def test_each_recorded_stream_says_what_is_charged_as_the_expected_reading_does():
    seen = 0
    for record in load("cohere"):
        wanted = (record.expected or {}).get("usage") or {}
        if not record.streaming or wanted.get("billed_input_tokens") is None:
            continue
        reports = [
            chunk.usage
            for chunk in read(response_parts(record)[2])
            if isinstance(chunk, UsageReport)
        ]
        charged = [(u.billed_input_tokens, u.billed_output_tokens) for u in reports]
        words = ("billed_input_tokens", "billed_output_tokens")
        assert charged == [tuple(wanted[word] for word in words)], record
        seen += 1
    assert seen >= 15


def test_thoughts_plans_citations_and_calls_are_kept_apart():
    message = {
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "hi"},
            {"type": "of the future"},
        ],
        "tool_plan": "I will add.",
        "tool_calls": [
            {"id": "c1", "function": {"name": "add", "arguments": "{}"}},
            {"function": {"name": "add"}},
        ],
        "citations": [{"start": 0, "end": 2, "text": "hi"}],
    }
    body = answer(message=message, finish_reason="TOOL_CALL")
    [choice] = DIALECT.decode(body, ORIGIN).choices
    assert choice.parts == (
        ReasoningPart(text="hm"),
        TextPart(text="hi"),
        ToolCall(id="c1", name="add", arguments="{}"),
        ToolCall(id="call_answer_1", name="add", arguments=""),
    )
    assert choice.extra == {
        "tool_plan": "I will add.",
        "cohere_citations": message["citations"],
    }
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("native", "ours"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("OF_THE_FUTURE", "stop"),
    ],
)
def test_every_reason_to_finish_has_one_of_ours(native, ours):
    [choice] = DIALECT.decode(answer(finish_reason=native), ORIGIN).choices
    assert (choice.finish_reason, choice.native_finish_reason) == (ours, native)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"finish_reason": "ERROR"}, ProviderError),
        ({"finish_reason": "TIMEOUT"}, ProviderTimeout),
        ({"finish_reason": "ERROR_TOXIC"}, ContentFiltered),
        ({"message": "internal server error"}, ProviderError),
        ({"message": "too many tokens: 9"}, ContextLengthExceeded),
    ],
)
def test_an_error_inside_of_a_200_is_an_error(fields, kind):
    with pytest.raises(DuckError) as caught:
        DIALECT.decode(answer(**fields), ORIGIN)
    assert type(caught.value) is kind
    assert caught.value.upstream_status is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b"{}",
        b'{"message": {"content": "text"}}',
        b'{"message": []}',
        b'{"message": {"content": [{"text": 1}]}}',
        b'{"message": {"content": [7]}}',
        b'{"message": {"tool_calls": [{"id": "x"}]}}',
        b'{"message": {"tool_calls": [{"function": {"name": "", "arguments": ""}}]}}',
        b'{"message": {}, "finish_reason": 3}',
        b'{"message": {"content": [{"type": "text", "text": "s3cret"}',
        b'{"message": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_a_bad_response_that_quotes_nothing(body):
    with pytest.raises(BadProviderResponse) as caught:
        DIALECT.decode(body, ORIGIN)
    assert "s3cret" not in str(caught.value)


# Streams


def event(kind: str, **fields) -> bytes:
    data = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def message(**fields) -> dict:
    return {"delta": {"message": fields}}


START = event("message-start", id="a1", **message(role="assistant", content=[]))
TEXT = event("content-delta", index=0, **message(content={"text": "hi"}))
END = event(
    "message-end",
    delta={
        "finish_reason": "TOOL_CALL",
        "usage": {"tokens": {"input_tokens": 9, "output_tokens": 3}},
    },
)
WHOLE = b"".join(
    [
        START,
        event("tool-plan-delta", **message(tool_plan="I will ")),
        event("tool-plan-delta", **message(tool_plan="add.")),
        event("content-start", index=0, **message(content={"type": "thinking"})),
        event("content-delta", index=0, **message(content={"thinking": "hm ü"})),
        event("content-end", index=0),
        event("content-start", index=1, **message(content={"text": "o"})),
        event("content-delta", index=1, **message(content={"text": "h"})),
        event("citation-start", index=0, **message(citations={"text": "oh"})),
        event("citation-end", index=0),
        event(
            "tool-call-start",
            index=3,
            **message(tool_calls={"id": "c1", "function": {"name": "add"}}),
        ),
        event(
            "tool-call-delta",
            index=3,
            **message(tool_calls={"function": {"arguments": "{}"}}),
        ),
        event("tool-call-end", index=3),
        event(
            "tool-call-start",
            index=4,
            **message(tool_calls={"function": {"name": "sub", "arguments": ""}}),
        ),
        event("of-the-future", surprise=True),
        END,
        b"data: [DONE]\n\n",
    ]
)
CHUNKS = [
    Started(id="a1", model="command-a-03-2025"),
    TextDelta(text="", extra={"tool_plan": "I will "}),
    TextDelta(text="", extra={"tool_plan": "add."}),
    ReasoningDelta(text="hm ü"),
    TextDelta(text="o"),
    TextDelta(text="h"),
    TextDelta(text="", extra={"cohere_citations": [{"text": "oh"}]}),
    ToolCallDelta(index=0, id="c1", name="add"),
    ToolCallDelta(index=0, arguments="{}"),
    ToolCallDelta(index=1, id="call_answer_1", name="sub"),
    Finished(reason="tool_calls", native_reason="TOOL_CALL"),
    UsageReport(usage=Usage(input_tokens=9, output_tokens=3)),
]


def read(*pieces: bytes) -> list:
    stream = DIALECT.open_stream(ORIGIN)
    chunks = []
    for piece in pieces:
        chunks += stream.feed(piece)
        if stream.ended:
            break
    return chunks + stream.close()


def test_a_stream_is_read_chunk_by_chunk():
    assert read(WHOLE) == CHUNKS


def test_the_end_of_a_message_ends_it_with_and_without_done():
    assert read(WHOLE.removesuffix(b"data: [DONE]\n\n")) == CHUNKS


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
@settings(deadline=None)
def test_any_way_to_cut_a_stream_gives_the_same_chunks(cuts):
    places = [0, *sorted(cuts), len(WHOLE)]
    assert read(*(WHOLE[a:b] for a, b in pairwise(places))) == CHUNKS


def test_a_stream_that_comes_byte_by_byte_gives_the_same_chunks():
    assert read(*(bytes([byte]) for byte in WHOLE)) == CHUNKS


def test_a_stream_that_names_no_usage_says_so():
    stream = DIALECT.open_stream(ORIGIN)
    stream.feed(START + TEXT + END)
    assert stream.usage_seen
    stream = DIALECT.open_stream(ORIGIN)
    stream.feed(START + TEXT + event("message-end", delta={}))
    assert stream.complete
    assert not stream.usage_seen
    assert stream.reply_characters == 2


@pytest.mark.parametrize(
    ("delta", "kind", "retryable"),
    [
        (
            {"finish_reason": "ERROR", "error_type": "INVALID_TOOL_GENERATION"},
            ProviderError,
            True,
        ),
        ({"finish_reason": "ERROR"}, ProviderError, True),
        ({"finish_reason": "TIMEOUT"}, ProviderTimeout, True),
        (
            {"finish_reason": "ERROR", "error_type": "TOO_MANY_TOKENS"},
            ContextLengthExceeded,
            False,
        ),
        ({"finish_reason": "COMPLETE", "error": "it broke"}, ProviderError, True),
    ],
)
def test_a_generation_that_failed_is_an_error_after_what_it_said(
    delta, kind, retryable
):
    stream = DIALECT.open_stream(ORIGIN)
    chunks = stream.feed(START + TEXT + event("message-end", delta=delta))
    assert chunks[-1] == TextDelta(text="hi")
    with pytest.raises(DuckError) as caught:
        stream.close()
    assert (type(caught.value), caught.value.retryable) == (kind, retryable)


def test_an_envelope_of_errors_in_a_stream_is_an_error():
    stream = DIALECT.open_stream(ORIGIN)
    stream.feed(START + b'data: {"id": "x", "message": "internal server error"}\n\n')
    with pytest.raises(ProviderError, match="internal server error"):
        stream.close()


@pytest.mark.parametrize(
    "bytes_",
    [
        b"",
        b"data: [DONE]\n\n",
        START,
        START + TEXT,
        WHOLE[: WHOLE.index(b"message-end")],
        TEXT,
        START + START + TEXT + END,
        START + b"data: {}\n\n",
        START + b"data: [1]\n\n",
        START + b"data: {nonsense\n\n",
        START + event("content-delta", **message(content=["s3cret"])),
        START + event("content-delta", **message(content={"text": 1})),
        START + event("tool-call-delta", index=0, **message(tool_calls={})),
        START + event("tool-call-start", index=0, **message(tool_calls={"id": "c"})),
        START + event("tool-call-start", index=0, **message(tool_calls=[])),
        START
        + 2
        * event(
            "tool-call-start",
            index=0,
            **message(tool_calls={"function": {"name": "add"}}),
        ),
        START + b"data: " + b"x" * (2 << 20),
    ],
)
def test_a_stream_that_breaks_off_or_makes_no_sense_is_a_bad_response(bytes_):
    with pytest.raises(BadProviderResponse) as caught:
        read(bytes_)
    assert "s3cret" not in str(caught.value)


def test_a_stream_cannot_hold_endless_tool_calls():
    calls = b"".join(
        event(
            "tool-call-start",
            index=i,
            **message(tool_calls={"function": {"name": "add"}}),
        )
        for i in range(1025)
    )
    with pytest.raises(BadProviderResponse, match="too many tool calls"):
        read(START + calls + END)


# Errors


TRIAL = "You are using a Trial key, which is limited to {} API calls / {}."


@pytest.mark.parametrize(
    ("status", "said", "kind", "retryable"),
    [
        (400, "invalid request: bad role", InvalidRequest, False),
        (
            400,
            "too many tokens: total number of tokens in the prompt cannot exceed 4081",
            ContextLengthExceeded,
            False,
        ),
        (
            400,
            "too many tokens: max tokens must be less than or equal to 4096",
            InvalidRequest,
            False,
        ),
        (401, "invalid api token", ProviderAuthError, False),
        (402, "please add or update your payment method", QuotaExceeded, False),
        (403, "forbidden", ProviderAuthError, False),
        (404, "model 'x' not found, make sure it is right", ModelNotFound, False),
        (404, "model 'command' was removed on May 1, 2025.", ModelNotFound, False),
        (404, "no such path", ProviderError, False),
        (422, "cannot be processed", Unprocessable, False),
        (422, "it resulted in an invalid tool generation", ProviderError, True),
        (429, TRIAL.format(20, "minute"), RateLimited, True),
        (429, TRIAL.format(1000, "month"), QuotaExceeded, False),
        (498, "a deny-listed token", ContentFiltered, False),
        (499, "request cancelled", ProviderError, True),
        (500, "internal server error", ProviderError, True),
        (501, "not implemented", ProviderError, False),
        (503, "service unavailable", ProviderError, True),
        (504, "timeout", ProviderTimeout, True),
    ],
)
def test_every_error_of_coheres_has_its_class(status, said, kind, retryable):
    body = json.dumps({"id": "x", "message": said}).encode()
    error = ERRORS(status, {}, body)
    assert (type(error), error.retryable) == (kind, retryable)
    assert said in str(error)


def test_a_type_of_error_decides_where_there_is_one():
    body = {"message": "no", "error_type": "TOO_MANY_TOKENS"}
    assert type(ERRORS(400, {}, json.dumps(body).encode())) is ContextLengthExceeded


def test_the_limits_of_a_trial_key_on_an_answer_are_no_time_to_wait():
    headers = {
        "x-endpoint-monthly-call-limit": "1000",
        "x-trial-endpoint-call-limit": "20",
        "x-trial-endpoint-call-remaining": "0",
    }
    body = json.dumps({"message": TRIAL.format(20, "minute")}).encode()
    assert ERRORS(429, headers, body).retry_after is None
    assert ERRORS(429, headers | {"retry-after": "9"}, body).retry_after == 9


# Embeddings, models, tokens


def embedding(**fields) -> dict:
    request = EmbeddingRequest(**{"model": "embed-v4.0", "input": ("a", "b")} | fields)
    assert DIALECT.embeddings is not None
    assert DIALECT.embeddings.path(request) == "/v2/embed"
    return json.loads(DIALECT.embeddings.encode(request))


def test_embeddings_are_of_documents_unless_the_client_says_otherwise():
    body = {
        "model": "embed-v4.0",
        "texts": ["a", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
    }
    assert embedding(user="someone") == body
    extra = {"input_type": "search_query", "truncate": "END", "priority": None}
    assert embedding(extra=extra, dimensions=256) == body | {
        "input_type": "search_query",
        "truncate": "END",
        "output_dimension": 256,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ("a", (1, 2))}, "input[1]"),
        ({"input": ("a",) * 97}, "input"),
        ({"extra": {"input_type": "image"}}, "input_type"),
        ({"extra": {"images": ["data:..."]}}, "images"),
    ],
)
def test_embeddings_of_what_is_no_text_are_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        embedding(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "vectors",
    [
        {"float": [[1, 2.5], [3, 4]]},
        {"int8": None, "float": [[1, 2.5], [3, 4]]},
        {"uint8": [[1, 2.5], [3, 4]]},
        [[1, 2.5], [3, 4]],
    ],
)
def test_embeddings_are_read_whichever_way_they_are_written(vectors):
    assert DIALECT.embeddings is not None
    meta = {"billed_units": {"input_tokens": 2}}
    body = json.dumps({"embeddings": vectors, "meta": meta}).encode()
    got = DIALECT.embeddings.decode(body, 2)
    assert got.vectors == ((1.0, 2.5), (3.0, 4.0))
    assert got.usage == Usage(input_tokens=2)
    body = json.dumps({"embeddings": vectors}).encode()
    assert DIALECT.embeddings.decode(body, 2).usage.estimated


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", BadProviderResponse),
        (b"no", BadProviderResponse),
        (b'{"embeddings": {"base64": ["AA=="]}}', BadProviderResponse),
        (b'{"embeddings": {"float": [[1]]}}', BadProviderResponse),
        (b'{"embeddings": {"float": [["a"], ["b"]]}}', BadProviderResponse),
        (b'{"message": "internal server error"}', ProviderError),
    ],
)
def test_what_is_no_embeddings_is_an_error(body, kind):
    assert DIALECT.embeddings is not None
    with pytest.raises(DuckError) as caught:
        DIALECT.embeddings.decode(body, 2)
    assert type(caught.value) is kind


def test_models_are_listed_page_by_page():
    body = {"models": [{"name": "command-r"}, {"name": "x"}], "next_page_token": "a/b="}
    models, more = DIALECT.decode_models(json.dumps(body).encode())
    assert models[0] == ModelInfo(id="command-r", owned_by="cohere")
    assert more == "/v1/models?page_size=1000&page_token=a%2Fb%3D"
    assert DIALECT.decode_models(b'{"models": []}') == ((), None)
    for hostile in (b"{}", b"[]", b'{"models": [{}]}', b"<p>"):
        with pytest.raises(BadProviderResponse):
            DIALECT.decode_models(hostile)


def test_tokens_are_counted_of_all_the_texts():
    counting = DIALECT.counting
    assert counting is not None
    call = Message(role="assistant", parts=(CALL,))
    result = ToolResult(tool_call_id="c1", content=(TextPart(text="1"),))
    request = ask(
        Message.of("user", "hello"),
        call,
        Message(role="tool", parts=(result,)),
        tools=(ADD,),
    )
    assert counting.path(request) == "/v1/tokenize"
    body = json.loads(counting.encode(request))
    assert body.pop("model") == "command-a-03-2025"
    tool, *texts = body.pop("text").split("\n")
    assert "Adds." in tool
    assert texts == ["hello", 'add {"x": 1}', "1"]
    assert not body
    assert counting.decode(b'{"tokens": [1, 2, 3], "token_strings": []}') == 3


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (ImagePart(url="https://duck/1.png"), "messages[0].content[0]"),
        (TextPart(text="x" * 65_537), "messages"),
        (TextPart(text=""), "messages"),
    ],
)
def test_what_cohere_does_not_count_is_refused_by_name(part, param):
    assert DIALECT.counting is not None
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.counting.encode(ask(Message(role="user", parts=(part,))))
    assert caught.value.param == param


def test_what_is_no_count_is_an_error():
    assert DIALECT.counting is not None
    for hostile in (b"{}", b'{"tokens": "many"}', b"no"):
        with pytest.raises(BadProviderResponse):
            DIALECT.counting.decode(hostile)
    with pytest.raises(ProviderError, match="internal"):
        DIALECT.counting.decode(b'{"message": "internal server error"}')


@pytest.mark.parametrize("base_url", ["", "https://api.cohere.com/v2/"])
def test_the_base_url_may_name_the_version_or_not(base_url):
    config = attrs.evolve(CONFIG, base_url=base_url)
    assert ADAPTER.base_url(config) == "https://api.cohere.com"


# Recordings

GENERATION_FAILED = {"447c2a4214", "9acbac6a60"}
"""Streams that end with ERROR: the SDK takes them for answers without content."""


@needs_recordings
def test_every_recorded_answer_is_understood_as_by_coheres_own_sdk():
    judged = 0
    for record in load("cohere"):
        if record.api != "cohere.v2_chat":
            continue
        understood = understand(record)
        expected = record.expected
        judged += 1
        if record.id in GENERATION_FAILED:
            assert type(understood) is ProviderError, record
            assert understood.retryable, record
        elif not expected["ok"]:
            kinds = {401: ProviderAuthError, 404: ModelNotFound}
            status = expected["error"]["status_code"]
            assert type(understood) is kinds[status], record
        else:
            judge(record, understood, expected)
    assert judged >= 60


def understand(record, seed=0):
    status, headers, body = response_parts(record)
    try:
        if status >= 400:
            return ERRORS(status, headers, body)
        if not record.streaming:
            return understanding.of_completion(DIALECT.decode(body, ORIGIN))
        return understanding.of_chunks(read(*cut(body, random.Random(seed))))
    except DuckError as error:
        return error


def judge(record, understood, expected):
    assert not isinstance(understood, DuckError), (record, understood)
    [said], usage = understood
    [wanted] = expected["choices"]
    assert said.text == (wanted.get("text") or ""), record
    assert said.reasoning == (wanted.get("reasoning") or ""), record
    assert said.native_finish_reason == wanted["finish_reason"], record
    calls = [
        (call["id"], call["name"], understanding.json_or_text(call["arguments"]))
        for call in wanted.get("tool_calls", [])
    ]
    assert said.tool_calls() == calls, record
    assert (said.finish_reason == "tool_calls") == bool(calls), record
    if used := expected.get("usage"):
        assert usage.input_tokens == used["input_tokens"], record
        assert usage.output_tokens == used["output_tokens"], record
        cached = min(used.get("cached_input_tokens", 0), used["input_tokens"])
        assert usage.cached_tokens == cached, record


@needs_recordings
def test_a_recorded_plan_is_kept_word_for_word():
    plans = 0
    for record in load("cohere"):
        if record.api != "cohere.v2_chat" or record.id in GENERATION_FAILED:
            continue
        for choice in record.expected.get("choices", []):
            if not choice.get("tool_plan"):
                continue
            body = response_parts(record)[2]
            if record.streaming:
                deltas = (c for c in read(body) if isinstance(c, TextDelta))
                plan = "".join(c.extra.get("tool_plan", "") for c in deltas)
            else:
                plan = DIALECT.decode(body, ORIGIN).choices[0].extra["tool_plan"]
            assert plan == choice["tool_plan"], record
            plans += 1
    assert plans >= 15


@needs_recordings
def test_every_recorded_embedding_count_and_model_is_read():
    seen = set()
    for record in load("cohere"):
        status, _, body = response_parts(record)
        if status != 200:
            continue
        if record.api == "cohere.embed":
            expected = record.expected["embeddings"]
            assert DIALECT.embeddings is not None
            got = DIALECT.embeddings.decode(body, expected["count"])
            assert [len(vector) for vector in got.vectors] == expected["dims"], record
            assert got.usage.input_tokens > 0
        elif record.api == "cohere.tokenize":
            assert DIALECT.counting is not None
            assert DIALECT.counting.decode(body) == len(json.loads(body)["tokens"])
        else:
            continue
        seen.add(record.api)
    assert seen == {"cohere.embed", "cohere.tokenize"}


@needs_recordings
def test_a_recorded_stream_cut_short_is_never_taken_for_complete():
    chance = random.Random(0)
    streams = [r for r in load("cohere") if r.streaming and r.api == "cohere.v2_chat"]
    assert len(streams) >= 20
    for record in streams:
        body = response_parts(record)[2]
        end = body.index(b'"finish_reason"')
        for _ in range(5):
            with pytest.raises(BadProviderResponse):
                read(body[: chance.randrange(end)])
