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
from duckservice.errors import (
    BadProviderResponse,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    QuotaExceeded,
    RateLimited,
)
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.adapter import Speaker
from duckservice.providers.adapters.ollama import ADAPTER
from duckservice.providers.capabilities import check_capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin
from tests.providers import understanding
from tests.recordings import cut, load, needs_recordings, response_parts

ERRORS = Classifier("duck", reader=ADAPTER.reader, rules=ADAPTER.rules)
ORIGIN = Origin("qwen3", "answer")


def dialect_at(base_url: str):
    config = ProviderConfig(name="duck", adapter="ollama", base_url=base_url)
    return ADAPTER.dialect(Speaker(provider="duck", errors=ERRORS, config=config))


DIALECT = dialect_at("")
OPENAI = dialect_at("http://127.0.0.1:11434/v1")

ADD = Tool(name="add", description="Adds.", parameters={"type": "object"}, strict=True)
CALL = ToolCall(id="c1", name="add", arguments='{"x": 1.0}')


def ask(*messages: Message, **fields) -> ChatRequest:
    given = messages or (Message.of("user", "hello"),)
    return ChatRequest(**{"model": "qwen3", "messages": given} | fields)


def sent(request: ChatRequest, *, stream: bool = False, dialect=DIALECT) -> dict:
    check_capabilities(request, dialect.capabilities, provider="duck")
    dialect.check(request)
    return json.loads(dialect.encode(request, stream=stream))


def refused(request: ChatRequest, dialect=DIALECT) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        sent(request, dialect=dialect)
    assert caught.value.provider == "duck"
    return caught.value.param


# Requests


def test_a_plain_chat_says_that_it_shall_not_stream():
    body = {
        "model": "qwen3",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": False,
    }
    assert sent(ask()) == body
    assert sent(ask(), stream=True) == body | {"stream": True}


def test_options_are_said_in_ollamas_words_and_the_context_is_left_alone():
    body = sent(
        ask(
            max_tokens=5,
            temperature=2.5,
            top_p=0.9,
            top_k=3,
            stop=("a", "b"),
            seed=7,
            presence_penalty=-0.1,
            frequency_penalty=0.2,
            n=1,
            user="someone",
        )
    )
    assert body.keys() == {"model", "messages", "stream", "options"}
    assert body["options"] == {
        "num_predict": 5,
        "temperature": 2.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop": ["a", "b"],
        "seed": 7,
        "presence_penalty": -0.1,
        "frequency_penalty": 0.2,
    }


def test_ollamas_own_fields_go_on_as_the_client_wrote_them():
    extra = {
        "keep_alive": "10m",
        "think": "low",
        "options": {"num_ctx": 8192, "seed": 1},
        "logprobs": False,
    }
    body = sent(
        ask(extra=extra, seed=7, max_tokens=5, reasoning=Reasoning(effort="high"))
    )
    assert body["keep_alive"] == "10m"
    assert body["think"] == "low"
    assert body["options"] == {"num_ctx": 8192, "seed": 1, "num_predict": 5}
    assert "logprobs" not in body
    nothing = sent(ask(extra={"keep_alive": None, "options": None}))
    assert nothing.keys() == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("n", ask(n=2)),
        ("options", ask(extra={"options": "num_ctx 8192"})),
        ("logit_bias", ask(extra={"logit_bias": {"1": 2}})),
        ("tool_choice", ask(tools=(ADD,), tool_choice=ToolChoice(mode="required"))),
        (
            "tool_choice",
            ask(tools=(ADD,), tool_choice=ToolChoice(mode="tool", name="add")),
        ),
        ("parallel_tool_calls", ask(tools=(ADD,), parallel_tool_calls=False)),
        (
            "tool_choice.disable_parallel_tool_use",
            ask(tools=(ADD,), parallel_tool_calls=False, format="anthropic"),
        ),
        (
            "response_format.json_schema.description",
            ask(
                response_format=ResponseFormat(
                    type="json_schema", schema={}, description="an answer"
                )
            ),
        ),
        (
            "messages[0].content[0]",
            ask(Message(role="user", parts=(ImagePart(url="https://duck/1.png"),))),
        ),
        (
            "messages[0].content[0].image_url.detail",
            ask(
                Message(
                    role="user",
                    parts=(
                        ImagePart(data="QUJD", media_type="image/png", detail="low"),
                    ),
                )
            ),
        ),
        (
            "messages[0].name",
            ask(Message(role="user", name="Ann", parts=(TextPart(text="hi"),))),
        ),
        (
            "messages[0].content[0] (file)",
            ask(
                Message(
                    role="user",
                    parts=(OpaquePart(format="openai", value={"type": "file"}),),
                )
            ),
        ),
        (
            "messages[0].content[0]",
            ask(
                Message(
                    role="assistant", parts=(ReasoningPart(text="hm", signature="s"),)
                )
            ),
        ),
        (
            "messages[1].tool_calls[1].function.arguments",
            ask(
                Message.of("user", "add"),
                Message(
                    role="assistant",
                    parts=(
                        TextPart(text="well"),
                        CALL,
                        attrs.evolve(CALL, arguments="[1]"),
                    ),
                ),
            ),
        ),
        (
            "messages[0].content[0].is_error",
            ask(
                Message(
                    role="user",
                    parts=(
                        ToolResult(
                            tool_call_id="c1",
                            content=(ImagePart(data="eA==", media_type="image/png"),),
                            is_error=True,
                        ),
                    ),
                ),
                format="anthropic",
            ),
        ),
    ],
)
def test_what_ollama_has_no_words_for_is_refused_by_name(field, request_):
    assert refused(request_) == field


def test_a_content_is_one_text_with_its_pictures_beside_it():
    parts = (
        TextPart(text="see"),
        ImagePart(data="QUJD", media_type="image/png"),
        TextPart(text="there"),
    )
    [message] = sent(ask(Message(role="user", parts=parts)))["messages"]
    assert message == {"role": "user", "content": "see\nthere", "images": ["QUJD"]}


def test_tools_and_their_calls_and_results_go_through():
    body = sent(
        ask(
            Message.of("developer", "be short"),
            Message.of("user", "add"),
            Message(
                role="assistant",
                parts=(
                    ReasoningPart(text="hm"),
                    CALL,
                    ToolCall(id="c2", name="now", arguments=""),
                ),
            ),
            Message(
                role="user",
                parts=(
                    ToolResult(tool_call_id="c1", content=(TextPart(text="1"),)),
                    ToolResult(tool_call_id="c2", content=(TextPart(text="noon"),)),
                    TextPart(text="and then?"),
                ),
            ),
            Message(
                role="tool",
                name="lost",
                parts=(ToolResult(tool_call_id="c9", content=(TextPart(text="?"),)),),
            ),
            tools=(ADD, Tool(name="now")),
        )
    )
    assert body["messages"] == [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "add"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "add", "arguments": {"x": 1.0}},
                },
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "now", "arguments": {}},
                },
            ],
        },
        {"role": "tool", "content": "1", "tool_name": "add", "tool_call_id": "c1"},
        {"role": "tool", "content": "noon", "tool_name": "now", "tool_call_id": "c2"},
        {"role": "user", "content": "and then?"},
        {"role": "tool", "content": "?", "tool_name": "lost", "tool_call_id": "c9"},
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "Adds.",
                "parameters": {"type": "object"},
                "strict": True,
            },
        },
        {
            "type": "function",
            "function": {
                "name": "now",
                "parameters": {"type": "object", "properties": {}},
            },
        },
    ]


def test_arguments_go_back_as_the_model_wrote_them():
    call = attrs.evolve(CALL, arguments='{"x": 12345678901234567890.10, "x": 1e400}')
    request = ask(Message(role="assistant", parts=(call,)))
    assert call.arguments.encode() in DIALECT.encode(request, stream=False)


def test_no_tool_is_offered_where_none_may_be_called():
    none = ToolChoice(mode="none")
    request = ask(tools=(ADD,), tool_choice=none, parallel_tool_calls=False)
    assert "tools" not in sent(request)
    auto = ToolChoice(mode="auto")
    request = ask(tools=(ADD,), tool_choice=auto, parallel_tool_calls=True)
    assert len(sent(request)["tools"]) == 1


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (ResponseFormat(type="text"), None),
        (ResponseFormat(type="json_object"), "json"),
        (
            ResponseFormat(type="json_schema", name="x", schema={"a": 1}, strict=True),
            {"a": 1},
        ),
    ],
)
def test_a_schema_is_a_format(wanted, said):
    assert sent(ask(response_format=wanted)).get("format") == said


@pytest.mark.parametrize(
    ("reasoning", "others", "gpt_oss"),
    [
        (Reasoning(), None, None),
        (Reasoning(effort="none"), False, False),
        (Reasoning(mode="disabled"), False, False),
        (Reasoning(effort="minimal"), True, "low"),
        (Reasoning(effort="medium"), True, "medium"),
        (Reasoning(effort="xhigh"), True, "high"),
        (Reasoning(mode="adaptive"), True, True),
        (Reasoning(mode="enabled", budget_tokens=1024), True, "low"),
        (Reasoning(mode="enabled", budget_tokens=8000), True, "medium"),
        (Reasoning(mode="enabled", budget_tokens=32000), True, "high"),
    ],
)
def test_only_gpt_oss_is_told_how_much_to_think(reasoning, others, gpt_oss):
    assert sent(ask(reasoning=reasoning)).get("think") == others
    for model in ("gpt-oss:20b", "hf/gpt-oss"):
        assert sent(ask(model=model, reasoning=reasoning)).get("think") == gpt_oss


@needs_recordings
def test_a_recorded_request_that_an_openai_client_could_have_made_is_what_we_send():
    judged = 0
    for record in load("ollama"):
        body = record.request.get("body")
        if record.api != "ollama.chat" or not isinstance(body, dict):
            continue
        if any("thinking" in m or m.get("images") for m in body["messages"]):
            continue
        calls = [m for m in body["messages"] if m.get("tool_calls")]
        results = [m for m in body["messages"] if m["role"] == "tool"]
        if sum(len(m["tool_calls"]) for m in calls) != len(results):
            continue
        wire = decode_chat(json.dumps(as_openai(body)).encode())
        assert shape(sent(wire.request, stream=wire.stream)) == shape(body), record
        judged += 1
    assert judged >= 20


def as_openai(body: dict) -> dict:
    body = json.loads(json.dumps(body))
    options = body.pop("options", None) or {}
    options["max_tokens"] = options.pop("num_predict", None)
    body |= options
    body.setdefault("stream", True)
    if (think := body.pop("think", None)) is not None:
        body["reasoning_effort"] = "high" if think else "none"
    wanted = body.pop("format", None)
    if wanted == "json":
        body["response_format"] = {"type": "json_object"}
    elif wanted:
        json_schema = {"name": "response", "schema": wanted}
        body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    ids = iter(f"c{number}" for number in range(99))
    open_calls = []
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            call |= {"id": next(ids), "type": "function"}
            open_calls.append(call["id"])
            function = call["function"]
            function["arguments"] = json.dumps(function["arguments"])
        if message["role"] == "tool":
            message["tool_call_id"] = open_calls.pop(0)
            message.pop("tool_name", None)
    return body


def shape(body: dict) -> dict:
    """Return *body* without what says nothing, and without ids, which are newer."""
    body = {k: v for k, v in body.items() if v not in (None, [], {}, "")}
    body.setdefault("stream", True)
    for message in body["messages"]:
        message.pop("tool_call_id", None)
        message.pop("tool_name", None)
        for call in message.get("tool_calls", ()):
            call.pop("id", None)
            call["type"] = "function"
    return body


# Answers


def line(**fields) -> bytes:
    body = {
        "model": "qwen3:4b",
        "created_at": "2024-05-24T20:01:31.01558123-07:00",
        "message": {"role": "assistant", "content": "hi"},
        "done": False,
    }
    return json.dumps(body | fields, ensure_ascii=False).encode() + b"\n"


DONE = {
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 17,
    "eval_count": 66,
    "total_duration": 10,
    "load_duration": "soon",
}


def calls(*given) -> dict:
    return {"role": "assistant", "content": "", "tool_calls": list(given)}


def call(name: object = "add", arguments: object = None, **fields) -> dict:
    return {"function": {"name": name, "arguments": arguments}} | fields


def test_an_answer_is_read_with_all_that_it_says():
    completion = DIALECT.decode(line(**DONE), ORIGIN)
    assert (completion.id, completion.model) == ("answer", "qwen3:4b")
    assert completion.created == 1716606091
    assert completion.text == "hi"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].native_finish_reason == "stop"
    assert completion.usage == Usage(input_tokens=17, output_tokens=66)
    assert completion.extra == {"total_duration": 10}


def test_an_answer_that_names_no_usage_is_estimated():
    body = line(done=True)
    assert DIALECT.decode(body, ORIGIN).usage.estimated
    # A prompt that is in the cache was not counted by older servers.
    body = line(done=True, eval_count=3)
    assert DIALECT.decode(body, ORIGIN).usage == Usage(output_tokens=3)


def test_an_answer_of_generate_is_read_too():
    body = line(message=None, response="hi", thinking="hm", **DONE)
    assert DIALECT.decode(body, ORIGIN).choices[0].parts == (
        ReasoningPart(text="hm"),
        TextPart(text="hi"),
    )


def test_calls_keep_the_ids_that_are_unique_and_get_one_where_there_is_none():
    message = calls(
        call("add", {"x": 1.50}, id="c1"),
        call("add", {}, id="c1"),
        call("now", None),
        call("now", '{"as": "text"}', id=7),
    )
    [choice] = DIALECT.decode(line(message=message, **DONE), ORIGIN).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.native_finish_reason == "stop"
    assert choice.tool_calls == (
        ToolCall(id="c1", name="add", arguments='{"x": 1.5}'),
        ToolCall(id="call_answer_1", name="add", arguments="{}"),
        ToolCall(id="call_answer_2", name="now", arguments="{}"),
        ToolCall(id="call_answer_3", name="now", arguments='{"as": "text"}'),
    )


def test_arguments_are_the_models_own_words():
    written = b'{"x":1.00,"y":12345678901234567890123}'
    body = line(message=calls(call("add", "HERE")), **DONE)
    body = body.replace(b'"HERE"', written)
    [choice] = DIALECT.decode(body, ORIGIN).choices
    assert choice.tool_calls[0].arguments == written.decode()


@pytest.mark.parametrize(
    ("native", "ours"),
    [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop")],
)
def test_every_reason_to_finish_has_one_of_ours(native, ours):
    body = line(done=True, done_reason=native)
    [choice] = DIALECT.decode(body, ORIGIN).choices
    assert (choice.finish_reason, choice.native_finish_reason) == (ours, native)


@pytest.mark.parametrize("date", [None, 7, "yesterday", "1970-01-01T00:00:00Z"])
def test_a_date_that_is_none_is_not_known(date):
    assert DIALECT.decode(line(created_at=date, done=True), ORIGIN).created == 0


NO_ANSWERS = [
    b"",
    b"[]",
    b"null",
    b"<html>",
    b"{}",
    b'{"done": false}',
    b'{"message": "s3cret", "done": true}',
    b'{"message": {"content": ["s3cret"]}, "done": true}',
    b'{"message": {"content": "cut',
    b'{"message": {"tool_calls": {}}, "done": true}',
    line(message=calls({}), done=True),
    line(message=calls(call(name="")), done=True),
    line(message=calls(call(arguments=[1])), done=True),
    line(message=calls(call(arguments=3)), done=True),
    line(done="yes"),
    line(done_reason=3, done=True),
    b'{"message": ' + b"[" * 100_000,
    b'{"message": {"content": "\xff"}, "done": true}',
]


@pytest.mark.parametrize("body", [*NO_ANSWERS, line()])
def test_what_is_no_answer_is_a_bad_response_that_quotes_nothing(body):
    with pytest.raises(BadProviderResponse) as caught:
        DIALECT.decode(body, ORIGIN)
    assert "s3cret" not in str(caught.value)


def test_an_error_inside_of_a_200_is_an_error():
    with pytest.raises(ProviderError, match="runner has died") as caught:
        DIALECT.decode(b'{"error": "the runner has died"}', ORIGIN)
    assert caught.value.upstream_status is None


# Streams


WHOLE = b"".join(
    [
        line(message={"role": "assistant", "content": "", "thinking": "hm ü"}),
        line(message={"role": "assistant", "content": "o"}),
        b"\n",
        line(),
        line(message=calls(call("add", {"x": 1}, id="c1"), call("now"))),
        line(message=calls(call("add", {"x": 2}))),
        line(message={"role": "assistant", "content": ""}, **DONE),
    ]
)
CHUNKS = [
    Started(id="answer", model="qwen3:4b", created=1716606091),
    ReasoningDelta(text="hm ü"),
    TextDelta(text="o"),
    TextDelta(text="hi"),
    ToolCallDelta(index=0, id="c1", name="add", arguments='{"x": 1}'),
    ToolCallDelta(index=1, id="call_answer_1", name="now", arguments="{}"),
    ToolCallDelta(index=2, id="call_answer_2", name="add", arguments='{"x": 2}'),
    Finished(reason="tool_calls", native_reason="stop"),
    UsageReport(usage=Usage(input_tokens=17, output_tokens=66)),
]


def read(*pieces: bytes) -> list:
    stream = DIALECT.open_stream(ORIGIN)
    chunks = []
    for piece in pieces:
        chunks += stream.feed(piece)
        if stream.ended:
            break
    return chunks + stream.close()


def test_a_stream_is_read_line_by_line():
    assert read(WHOLE) == CHUNKS
    assert read(WHOLE.removesuffix(b"\n")) == CHUNKS


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
@settings(deadline=None)
def test_any_way_to_cut_a_stream_gives_the_same_chunks(cuts):
    places = [0, *sorted(cuts), len(WHOLE)]
    assert read(*(WHOLE[a:b] for a, b in pairwise(places))) == CHUNKS


def test_a_stream_that_comes_byte_by_byte_gives_the_same_chunks():
    assert read(*(bytes([byte]) for byte in WHOLE)) == CHUNKS


def test_a_stream_that_names_no_usage_says_so():
    stream = DIALECT.open_stream(ORIGIN)
    stream.feed(line(**DONE))
    assert stream.usage_seen
    stream = DIALECT.open_stream(ORIGIN)
    stream.feed(line() + line(done=True, message=None, response=""))
    assert stream.complete
    assert not stream.usage_seen
    assert stream.reply_characters == 2


def test_an_error_line_is_raised_after_the_text_before_it():
    stream = DIALECT.open_stream(ORIGIN)
    chunks = stream.feed(line() + b'{"error": "an error was encountered"}\n')
    assert chunks[-1] == TextDelta(text="hi")
    with pytest.raises(ProviderError, match="an error was encountered") as caught:
        stream.close()
    assert caught.value.retryable


@pytest.mark.parametrize(
    "bytes_",
    [*(line() + body + b"\n" for body in NO_ANSWERS), line()],
)
def test_a_stream_that_breaks_off_or_makes_no_sense_is_a_bad_response(bytes_):
    with pytest.raises(BadProviderResponse) as caught:
        read(bytes_)
    assert "s3cret" not in str(caught.value)


def test_a_stream_cannot_hold_an_endless_line():
    with pytest.raises(BadProviderResponse, match="a line is longer"):
        read(b"x" * (5 << 20))


def test_a_stream_cannot_hold_endless_tool_calls():
    many = line(message=calls(*[call()] * 1025))
    with pytest.raises(BadProviderResponse, match="too many tool calls"):
        read(many)


# Errors


@pytest.mark.parametrize(
    ("status", "said", "kind", "retryable"),
    [
        (400, '"llama3" does not support tools', InvalidRequest, False),
        (
            400,
            "the input length exceeds the context length",
            ContextLengthExceeded,
            False,
        ),
        (
            500,
            "input length exceeds maximum context length",
            ContextLengthExceeded,
            False,
        ),
        (401, "unauthorized", ProviderAuthError, False),
        (
            403,
            "this model requires a subscription, upgrade for access",
            QuotaExceeded,
            False,
        ),
        (404, "model 'x' not found", ModelNotFound, False),
        (404, 'model "x" not found, try pulling it first', ModelNotFound, False),
        (404, "404 page not found", ProviderError, False),
        (429, "too many concurrent requests", RateLimited, True),
        (429, "you have reached your weekly usage limit", QuotaExceeded, False),
        (
            500,
            "model requires more system memory (9 GiB) than is available (1 GiB)",
            ProviderError,
            False,
        ),
        (500, "llama runner process has terminated", ProviderError, True),
        (502, "upstream unreachable", ProviderError, True),
        (
            503,
            "server busy, please try again. maximum pending requests exceeded",
            ProviderError,
            True,
        ),
    ],
)
def test_every_error_of_ollamas_has_its_class(status, said, kind, retryable):
    error = ERRORS(status, {}, json.dumps({"error": said}).encode())
    assert (type(error), error.retryable) == (kind, retryable)
    assert said in str(error)


# Embeddings, models


def embedding(**fields) -> dict:
    request = EmbeddingRequest(**{"model": "nomic", "input": ("a", "b")} | fields)
    assert DIALECT.embeddings.path(request) == "/api/embed"
    return json.loads(DIALECT.embeddings.encode(request))


def test_embeddings_are_asked_for_in_ollamas_words():
    body = {"model": "nomic", "input": ["a", "b"]}
    assert embedding(user="someone") == body
    extra = {"truncate": False, "options": {"num_ctx": 9}, "keep_alive": None}
    assert embedding(extra=extra, dimensions=256) == body | {
        "truncate": False,
        "options": {"num_ctx": 9},
        "dimensions": 256,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ("a", (1, 2))}, "input[1]"),
        ({"extra": {"input_type": "query"}}, "input_type"),
    ],
)
def test_embeddings_of_what_is_no_text_are_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        embedding(**fields)
    assert caught.value.param == param


def test_embeddings_are_read():
    body = {"model": "nomic:latest", "embeddings": [[1, 2.5], [3, 4]]}
    got = DIALECT.embeddings.decode(json.dumps(body).encode(), 2)
    assert got.model == "nomic:latest"
    assert got.vectors == ((1.0, 2.5), (3.0, 4.0))
    assert got.usage.estimated
    body["prompt_eval_count"] = 5
    got = DIALECT.embeddings.decode(json.dumps(body).encode(), 2)
    assert got.usage == Usage(input_tokens=5)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", BadProviderResponse),
        (b"no", BadProviderResponse),
        (b'{"embeddings": [[1]]}', BadProviderResponse),
        (b'{"embeddings": [["a"], ["b"]]}', BadProviderResponse),
        (b'{"error": "the runner has died"}', ProviderError),
    ],
)
def test_what_is_no_embeddings_is_an_error(body, kind):
    with pytest.raises(DuckError) as caught:
        DIALECT.embeddings.decode(body, 2)
    assert type(caught.value) is kind


def test_the_models_are_those_that_have_been_pulled():
    listed = {"models": [{"name": "qwen3:4b", "modified_at": "2026-01-01T00:00:00Z"}]}
    models, more = DIALECT.decode_models(json.dumps(listed).encode())
    assert models == (ModelInfo(id="qwen3:4b", created=1767225600),)
    assert more is None
    for hostile in (b"{}", b"[]", b'{"models": [{}]}', b"<p>"):
        with pytest.raises(BadProviderResponse):
            DIALECT.decode_models(hostile)


# OpenAI's format


@pytest.mark.parametrize(
    ("base_url", "own", "path"),
    [
        ("", "http://127.0.0.1:11434", "/api/chat"),
        ("https://ollama.com/api/", "https://ollama.com", "/api/chat"),
        ("http://box:1/v1/", "http://box:1/v1", "/chat/completions"),
    ],
)
def test_the_base_url_says_which_format_is_spoken(base_url, own, path):
    config = ProviderConfig(name="duck", adapter="ollama", base_url=base_url)
    assert ADAPTER.base_url(config) == own
    assert dialect_at(base_url).chat_path(ask(), stream=True) == path


def test_in_openais_format_too_pictures_come_as_data_only():
    picture = ImagePart(url="https://duck/1.png")
    request = ask(Message(role="user", parts=(picture,)))
    assert refused(request, OPENAI) == "messages[0].content[0]"
    inline = ImagePart(data="QUJD", media_type="image/png")
    body = sent(ask(Message(role="user", parts=(inline,))), dialect=OPENAI)
    [content] = body["messages"][0]["content"]
    assert content["image_url"] == {"url": "data:image/png;base64,QUJD"}


def test_in_openais_format_thoughts_go_back_under_ollamas_name():
    parts = (ReasoningPart(text="hm"), TextPart(text="hi"))
    body = sent(ask(Message(role="assistant", parts=parts)), dialect=OPENAI)
    assert body["messages"][0]["reasoning"] == "hm"


# Recordings


@needs_recordings
def test_every_recorded_answer_is_understood_as_by_ollamas_own_sdk():
    judged = 0
    for record in load("ollama"):
        if record.api not in ("ollama.chat", "ollama.generate"):
            continue
        judged += 1
        understood = understand(record)
        if not record.expected["ok"]:
            assert type(understood) is ModelNotFound, record
            continue
        assert not isinstance(understood, DuckError), (record, understood)
        judge(record, understood)
    assert judged >= 45


def understand(record):
    status, headers, body = response_parts(record)
    try:
        if status >= 400:
            return ERRORS(status, headers, body)
        if not record.streaming:
            return understanding.of_completion(DIALECT.decode(body, ORIGIN))
        return understanding.of_chunks(read(*cut(body, random.Random(0))))
    except DuckError as error:
        return error


def judge(record, understood):
    [said], usage = understood
    [wanted] = record.expected["choices"]
    assert said.text == (wanted.get("text") or ""), record
    assert said.reasoning == (wanted.get("reasoning") or ""), record
    assert said.native_finish_reason == wanted["finish_reason"], record
    wanted_calls = [(c["name"], c["arguments"]) for c in wanted.get("tool_calls", [])]
    assert [c[1:] for c in said.tool_calls()] == wanted_calls, record
    assert (said.finish_reason == "tool_calls") == bool(wanted_calls), record
    used = record.expected["usage"]
    assert usage.input_tokens == used.get("input_tokens", 0), record
    assert usage.output_tokens == used["output_tokens"], record


@needs_recordings
def test_every_recorded_embedding_and_list_of_models_is_read():
    seen = set()
    for record in load("ollama"):
        body = response_parts(record)[2]
        if record.api == "ollama.embed":
            expected = record.expected["embeddings"]
            got = DIALECT.embeddings.decode(body, expected["count"])
            assert [len(vector) for vector in got.vectors] == expected["dims"], record
        elif record.api == "ollama.tags":
            names = [model.id for model in DIALECT.decode_models(body)[0]]
            assert names == record.expected["models"]
        else:
            continue
        seen.add(record.api)
    assert seen == {"ollama.embed", "ollama.tags"}


@needs_recordings
def test_a_recorded_stream_cut_short_is_never_taken_for_complete():
    chance = random.Random(0)
    streams = [r for r in load("ollama") if r.streaming and "ollama" in r.api]
    assert len(streams) >= 15
    for record in streams:
        body = response_parts(record)[2]
        end = body.index(b'"done":true')
        for _ in range(5):
            with pytest.raises(BadProviderResponse):
                read(body[: chance.randrange(end)])
