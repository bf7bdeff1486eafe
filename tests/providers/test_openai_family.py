"""The servers that speak OpenAI's format with differences of their own."""

from __future__ import annotations

import json
from itertools import combinations

import pytest

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    Finished,
    ImagePart,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningPart,
    ResponseFormat,
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
from duckservice.config import ProviderConfig, Secret, TimeoutConfig
from duckservice.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    QuotaExceeded,
    RateLimited,
)
from duckservice.providers.adapter import Speaker
from duckservice.providers.adapters import adapter_of
from duckservice.providers.catalog import make_provider
from duckservice.providers.failures import Classifier
from duckservice.providers.models import ModelNames
from tests.providers import understanding
from tests.recordings import load, needs_recordings
from tests.upstream import answer, open_upstream

FAMILY = (
    "openai",
    "azure",
    "groq",
    "openrouter",
    "mistral",
    "deepseek",
    "xai",
    "together",
    "huggingface",
    "openai-compatible",
)

HELLO = (Message.of("user", "hello"),)
CALL = ToolCall(id="c1", name="f", arguments="{}")
RESULT = Message(
    role="tool", parts=(ToolResult(tool_call_id="c1", content=(TextPart(text="1"),)),)
)
TOOL = Tool(name="f", parameters={"type": "object"})


def config_of(adapter, **fields) -> ProviderConfig:
    url = "https://duck.example/v1"
    return ProviderConfig(
        **{"name": "duck", "adapter": adapter, "base_url": url} | fields
    )


def provider_of(adapter, **fields):
    return make_provider(config_of(adapter, **fields))


def dialect_of(adapter):
    its = adapter_of(adapter)
    errors = Classifier("duck", rules=its.rules, reader=its.reader)
    config = config_of(adapter)
    return its.dialect(Speaker(provider="duck", errors=errors, config=config))


def ask(**fields) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": HELLO} | fields)


def sent(adapter, request, *, stream=False) -> dict:
    """Return the body that the adapter sends; all that is asked before is asked."""
    provider_of(adapter).check(request)
    return json.loads(dialect_of(adapter).encode(request, stream=stream))


def refused(adapter, request) -> str:
    with pytest.raises(InvalidRequest) as caught:
        provider_of(adapter).check(request)
    assert caught.value.provider == "duck"
    assert caught.value.param in str(caught.value)
    return caught.value.param


# What is asked for


@pytest.mark.parametrize("adapter", FAMILY)
def test_the_smallest_request_is_the_same_everywhere(adapter):
    assert dialect_of(adapter).encode(ask(), stream=False) == (
        b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
    )


def test_mistral_has_its_own_words():
    body = sent(
        "mistral",
        ask(
            max_tokens=5,
            seed=7,
            tools=(TOOL,),
            tool_choice=ToolChoice(mode="required"),
            parallel_tool_calls=False,
            user="somebody",
        ),
        stream=True,
    )
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "random_seed": 7,
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object"}},
            }
        ],
        "tool_choice": "any",
        "parallel_tool_calls": False,
        "stream": True,
    }


@pytest.mark.parametrize("adapter", FAMILY)
def test_a_stream_is_asked_for_its_usage_but_at_mistral_which_always_tells(adapter):
    body = sent(adapter, ask(), stream=True)
    asked = None if adapter == "mistral" else {"include_usage": True}
    assert body.get("stream_options") == asked
    assert body["stream"] is True


@pytest.mark.parametrize("adapter", FAMILY)
def test_developers_are_called_system_where_there_are_none(adapter):
    [message] = sent(adapter, ask(messages=(Message.of("developer", "d"),)))["messages"]
    has_developers = adapter in ("openai", "azure", "openrouter")
    assert message["role"] == ("developer" if has_developers else "system")


@pytest.mark.parametrize(
    ("adapter", "model", "name"),
    [
        ("openai", "o3", "max_completion_tokens"),
        ("openai", "gpt-4o", "max_tokens"),
        ("openrouter", "openai/gpt-5", "max_completion_tokens"),
        ("openrouter", "anthropic/claude-haiku-4.5", "max_tokens"),
        ("azure", "o4-mini", "max_completion_tokens"),
        ("azure", "our-deployment", "max_completion_tokens"),
        ("azure", "gpt-4o", "max_tokens"),
        ("azure", "gpt-35-turbo", "max_tokens"),
        ("azure", "Mistral-large", "max_tokens"),
        ("azure", "prod-grok-4", "max_tokens"),
        ("groq", "openai/gpt-oss-20b", "max_tokens"),
        ("mistral", "magistral-small-latest", "max_tokens"),
        ("deepseek", "deepseek-v4-pro", "max_tokens"),
        ("xai", "grok-4", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_model_takes(adapter, model, name):
    body = sent(adapter, ask(model=model, max_tokens=5))
    assert {key for key in body if key.startswith("max_")} == {name}


OFF = Reasoning(mode="disabled")
ON = Reasoning(mode="enabled")
BUDGET = Reasoning(mode="enabled", budget_tokens=3000)
ADAPTIVE = Reasoning(mode="adaptive", effort="high")


def effort(word) -> dict:
    return {"reasoning_effort": word}


@pytest.mark.parametrize(
    ("adapter", "model", "wanted", "asked"),
    [
        ("openai", "o3", BUDGET, effort("medium")),
        ("openai", "o3", ON, {}),
        ("openai", "o3", Reasoning(mode="adaptive", effort="max"), effort("high")),
        ("openai", "gpt-5.2", ON, effort("medium")),
        ("openai", "gpt-5.2", OFF, effort("none")),
        ("openai", "gpt-5.2", Reasoning(effort="max"), effort("xhigh")),
        ("openai", "gpt-4o", OFF, {}),
        ("azure", "ours", ADAPTIVE, effort("high")),
        ("azure", "gpt-5.1", OFF, effort("none")),
        ("xai", "grok-4.3", BUDGET, effort("medium")),
        ("xai", "grok-4.3", OFF, effort("none")),
        ("xai", "grok-4-1-fast-non-reasoning", OFF, {}),
        ("huggingface", "openai/gpt-oss-20b", ADAPTIVE, effort("high")),
        ("deepseek", "d", OFF, {"thinking": {"type": "disabled"}}),
        ("deepseek", "d", ON, {"thinking": {"type": "enabled"}}),
        (
            "deepseek",
            "d",
            BUDGET,
            {"thinking": {"type": "enabled"}, "reasoning_effort": "medium"},
        ),
        ("deepseek", "d", ADAPTIVE, effort("high")),
        ("openrouter", "a/b", OFF, {"reasoning": {"enabled": False}}),
        ("openrouter", "a/b", ON, {"reasoning": {"enabled": True}}),
        ("openrouter", "a/b", BUDGET, {"reasoning": {"max_tokens": 3000}}),
        ("openrouter", "a/b", ADAPTIVE, {"reasoning": {"effort": "high"}}),
        ("together", "a/B", OFF, {"reasoning": {"enabled": False}}),
        ("together", "a/B", ON, {"reasoning": {"enabled": True}}),
        ("together", "a/B", BUDGET, effort("medium")),
        ("mistral", "mistral-small-latest", BUDGET, effort("high")),
        ("mistral", "mistral-small-latest", OFF, effort("none")),
        ("mistral", "magistral-small-latest", BUDGET, {}),
        (
            "groq",
            "openai/gpt-oss-20b",
            BUDGET,
            {"reasoning_effort": "medium", "reasoning_format": "parsed"},
        ),
        (
            "groq",
            "qwen/qwen3-32b",
            ON,
            {"reasoning_effort": "default", "reasoning_format": "parsed"},
        ),
        ("groq", "qwen/qwen3-32b", OFF, effort("none")),
        ("openai-compatible", "qwen3", BUDGET, effort("medium")),
        ("openai-compatible", "qwen3", OFF, {}),
    ],
)
def test_thinking_as_anthropic_asks_for_it_is_asked_for_in_the_servers_words(
    adapter, model, wanted, asked
):
    request = ask(model=model, reasoning=wanted, format="anthropic", max_tokens=9000)
    body = sent(adapter, request)
    told = {"reasoning", "reasoning_effort", "reasoning_format", "thinking"}
    assert {key: body[key] for key in told & body.keys()} == asked


@pytest.mark.parametrize(
    ("adapter", "word", "asked"),
    [
        ("openai", "minimal", effort("minimal")),
        ("xai", "high", effort("high")),
        ("groq", "medium", effort("medium")),
        ("deepseek", "low", effort("low")),
        ("deepseek", "none", {"thinking": {"type": "disabled"}}),
        ("mistral", "low", effort("high")),
        ("mistral", "minimal", effort("none")),
        ("openrouter", "none", {"reasoning": {"effort": "none"}}),
        ("together", "none", {"reasoning": {"enabled": False}}),
        ("together", "low", effort("low")),
        ("openai-compatible", "anything", effort("anything")),
    ],
)
def test_an_effort_as_openai_asks_for_it_is_said_in_the_servers_words(
    adapter, word, asked
):
    body = sent(adapter, ask(reasoning=Reasoning(effort=word)))
    del body["model"], body["messages"]
    assert body == asked


@pytest.mark.parametrize(
    ("adapter", "model", "wanted"),
    [
        ("openai", "o3", OFF),
        ("openai", "gpt-4o", BUDGET),
        ("azure", "o3", OFF),
        ("groq", "openai/gpt-oss-20b", OFF),
        ("mistral", "magistral-medium-latest", OFF),
        ("openai-compatible", "o3", OFF),
    ],
)
def test_thinking_that_cannot_be_asked_for_is_refused_by_name(adapter, model, wanted):
    request = ask(model=model, reasoning=wanted, format="anthropic")
    assert refused(adapter, request) == "thinking.type"


def test_a_field_of_the_clients_own_wins_over_what_is_made_of_another():
    extra = {"reasoning": {"effort": "low", "exclude": True}}
    body = sent("openrouter", ask(reasoning=Reasoning(effort="high"), extra=extra))
    assert body["reasoning"] == extra["reasoning"]


# What goes back


def turn(*parts, **fields) -> Message:
    return Message(role="assistant", parts=parts, **fields)


THOUGHT = ReasoningPart(text="hm")


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        ("openai", {"content": "a"}),
        ("azure", {"content": "a"}),
        ("deepseek", {"content": "a"}),
        ("groq", {"content": "a", "reasoning": "hm"}),
        ("openrouter", {"content": "a", "reasoning": "hm"}),
        ("together", {"content": "a", "reasoning": "hm"}),
        ("huggingface", {"content": "a", "reasoning": "hm"}),
        ("xai", {"content": "a", "reasoning_content": "hm"}),
        ("openai-compatible", {"content": "a", "reasoning_content": "hm"}),
        (
            "mistral",
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "a"},
                ]
            },
        ),
    ],
)
def test_thoughts_of_earlier_turns_go_back_as_each_server_takes_them(adapter, told):
    given = (*HELLO, turn(THOUGHT, TextPart(text="a")), *HELLO)
    message = sent(adapter, ask(messages=given))["messages"][1]
    assert message == {"role": "assistant"} | told


def test_deepseek_gets_its_thoughts_back_with_every_call_once_tools_are_in_play():
    given = (*HELLO, turn(THOUGHT, CALL), RESULT, turn(CALL), RESULT)
    _, first, _, second, _ = sent("deepseek", ask(messages=given))["messages"]
    assert first["reasoning_content"] == "hm"
    assert second["reasoning_content"] == ""  # a 400 otherwise
    given = (*HELLO, turn(THOUGHT, TextPart(text="a")), *HELLO)
    _, said, _ = sent("deepseek", ask(messages=given, tools=(TOOL,)))["messages"]
    assert said["reasoning_content"] == "hm"


def test_a_conversation_with_deepseek_without_thoughts_has_none():
    given = (*HELLO, turn(CALL), RESULT)
    _, message, _ = sent("deepseek", ask(messages=given, tools=(TOOL,)))["messages"]
    assert "reasoning_content" not in message


def test_a_thought_of_mistral_comes_before_a_call_without_text():
    given = (*HELLO, turn(THOUGHT, CALL), RESULT)
    message = sent("mistral", ask(messages=given))["messages"][1]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    assert message["content"] == [thought]


DETAILS = [
    {"type": "reasoning.text", "text": "hm", "signature": "sig", "index": 0},
    {"type": "reasoning.encrypted", "data": "x", "id": "rs_1", "index": 1},
]


@pytest.mark.parametrize("adapter", FAMILY)
def test_what_other_servers_turns_must_carry_is_left_out_where_it_is_not_known(adapter):
    google = {"extra_content": {"google": {"thought_signature": "s"}}}
    call = ToolCall(id="c1", name="f", arguments="{}", extra=google)
    given = (*HELLO, turn(call, extra={"reasoning_details": DETAILS}), RESULT)
    message = sent(adapter, ask(messages=given))["messages"][1]
    knows_all = adapter == "openai-compatible"
    assert ("extra_content" in message["tool_calls"][0]) == knows_all
    assert ("reasoning_details" in message) == (knows_all or adapter == "openrouter")


def test_a_gemini_call_in_an_anthropic_conversation_bars_no_server():
    google = {"extra_content": {"google": {"thought_signature": "s"}}}
    call = ToolCall(id="c1", name="f", arguments="{}", extra=google)
    given = (*HELLO, turn(call), RESULT)
    request = ask(messages=given, format="anthropic")
    [made] = sent("groq", request)["messages"][1]["tool_calls"]
    function = {"name": "f", "arguments": "{}"}
    assert made == {"id": "c1", "type": "function", "function": function}


def test_claudes_thoughts_go_to_openrouter():
    signed = ReasoningPart(text="hm", signature="sig")
    sealed = ReasoningPart(redacted="opaque")
    given = (*HELLO, turn(signed, sealed, TextPart(text="a")), *HELLO)
    model = "anthropic/claude-sonnet-4.5"
    request = ask(model=model, messages=given, format="anthropic")
    message = sent("openrouter", request)["messages"][1]
    assert message["reasoning"] == "hm"
    assert message["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "text": "hm",
            "signature": "sig",
            "format": "anthropic-claude-v1",
        },
        {
            "type": "reasoning.encrypted",
            "data": "opaque",
            "format": "anthropic-claude-v1",
        },
    ]


def test_hints_for_anthropics_cache_go_to_openrouter():
    hint = {"cache_control": {"type": "ephemeral"}}
    part = TextPart(text="long", extra=hint)
    given = (Message(role="user", parts=(part,)),)
    request = ask(messages=given, format="anthropic")
    [message] = sent("openrouter", request)["messages"]
    assert message["content"] == [{"type": "text", "text": "long", **hint}]


# What is refused before it is sent


@pytest.mark.parametrize(
    ("adapter", "fields", "field"),
    [
        ("groq", {"n": 2}, "n"),
        ("groq", {"extra": {"logprobs": True}}, "logprobs"),
        ("groq", {"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ("groq", {"top_k": 3}, "top_k"),
        ("mistral", {"temperature": 1.9}, "temperature"),
        ("mistral", {"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ("mistral", {"top_k": 3}, "top_k"),
        ("deepseek", {"n": 2}, "n"),
        ("deepseek", {"stop": ("x",) * 17}, "stop"),
        ("openai", {"top_k": 3}, "top_k"),
        ("azure", {"top_k": 3}, "top_k"),
        ("xai", {"stop": ("x",) * 5}, "stop"),
    ],
)
def test_what_a_server_does_not_know_is_refused_by_name(adapter, fields, field):
    assert refused(adapter, ask(**fields)) == field


@pytest.mark.parametrize("adapter", ["groq", "mistral"])
def test_names_are_refused_where_there_are_none_and_a_result_needs_none(adapter):
    named = Message(role="user", parts=(TextPart(text="x"),), name="ann")
    assert refused(adapter, ask(messages=(named,))) == "messages[0].name"
    result = Message(role="tool", parts=RESULT.parts, name="f")
    body = sent(adapter, ask(messages=(*HELLO, turn(CALL), result)))
    assert "name" not in body["messages"][2]


@pytest.mark.parametrize("adapter", ["groq", "mistral"])
def test_defaults_that_clients_always_send_are_not_refused_but_left_out(adapter):
    extra = {"logit_bias": {}, "store": False, "logprobs": None}
    body = sent(adapter, ask(extra=extra))
    assert "logit_bias" not in body
    assert "store" not in body


def test_deepseek_takes_no_pictures_and_keeps_to_no_schema():
    picture = ImagePart(url="https://x/y.png")
    given = (Message(role="user", parts=(picture,)),)
    assert refused("deepseek", ask(messages=given)) == "messages[0].content[0]"
    shape = ResponseFormat(type="json_schema", name="n", schema={})
    field = refused("deepseek", ask(response_format=shape))
    assert field.startswith("response_format")


@pytest.mark.parametrize("adapter", FAMILY)
def test_embeddings_and_pictures_are_where_the_capabilities_say(adapter):
    dialect = dialect_of(adapter)
    can = dialect.capabilities
    assert (dialect.embeddings is not None) == can.embeddings
    assert (dialect.images is not None) == can.image_generation
    assert can.embeddings == (adapter not in ("groq", "deepseek", "xai"))
    assert can.image_generation == (
        adapter in ("openai", "azure", "xai", "openai-compatible")
    )


def test_mistral_has_its_own_word_for_the_length_of_an_embedding():
    request = EmbeddingRequest(model="e", input=("a",), dimensions=8, user="me")
    assert json.loads(dialect_of("mistral").embeddings.encode(request)) == {
        "model": "e",
        "input": ["a"],
        "output_dimension": 8,
        "encoding_format": "float",
    }


# What comes back


def completion(**message) -> bytes:
    message = {"role": "assistant", "content": "a"} | message
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "g", "model": "m", "choices": [choice]}).encode()


def with_usage(**usage) -> bytes:
    body = json.loads(completion())
    body["usage"] = {"prompt_tokens": 3, "completion_tokens": 2} | usage
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("adapter", "said", "billed"),
    [
        ("openrouter", {"cost": 0.00012345}, 123_450_000),
        ("openrouter", {"cost": 1e-9}, 1_000),
        ("openrouter", {"cost": 0}, 0),
        ("openrouter", {"cost": 0.5, "is_byok": True}, None),
        ("openrouter", {"cost": {"total": 1}}, None),
        ("openrouter", {"cost": -1}, None),
        ("openrouter", {"cost": 1e12}, None),
        ("openrouter", {"cost": True}, None),
        ("openrouter", {}, None),
        ("xai", {"cost_in_usd_ticks": 1234}, 123_400),
        ("xai", {"cost_in_usd_ticks": "1234"}, None),
        ("xai", {"cost_in_usd_ticks": -1}, None),
        ("openai", {"cost": 0.5}, None),
        ("openai-compatible", {"cost": 0.5}, None),
    ],
)
def test_what_a_server_says_it_charges_is_told(adapter, said, billed):
    dialect = dialect_of(adapter)
    whole = dialect.decode(with_usage(**said))
    assert whole.usage == Usage(input_tokens=3, output_tokens=2, billed=billed)
    usage = {"prompt_tokens": 3, "completion_tokens": 2} | said
    chunks = streamed(dialect, [{"delta": {"content": "a"}}], usage=usage)
    assert chunks[-1] == UsageReport(usage=whole.usage)


def streamed(dialect, pieces, *, usage=None, size=7) -> list:
    """Return the chunks of a stream of *pieces* of the first choice."""
    events = [{"id": "g", "model": "m", "choices": [{"index": 0} | p]} for p in pieces]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage is not None:
        events.append({"choices": [], "usage": usage})
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    raw = b"".join([*lines, b"data: [DONE]\n\n"])
    stream = dialect.open_stream()
    chunks = []
    for at in range(0, len(raw), size):
        chunks += stream.feed(raw[at : at + size])
    return chunks + stream.close()


def test_openrouters_details_come_whole_and_their_seals_apart():
    raw = completion(reasoning="hm", reasoning_details=DETAILS)
    [choice] = dialect_of("openrouter").decode(raw).choices
    thought, sealed, text = choice.parts
    assert thought == ReasoningPart(text="hm", signature="sig")
    assert json.loads(sealed.redacted) == DETAILS[1]
    assert text == TextPart(text="a")
    assert choice.extra == {"reasoning_details": DETAILS}


def test_what_came_sealed_from_openrouter_goes_back_as_it_was():
    raw = completion(reasoning="hm", reasoning_details=DETAILS)
    [choice] = dialect_of("openrouter").decode(raw).choices
    given = (*HELLO, turn(*choice.parts), *HELLO)
    message = sent("openrouter", ask(messages=given, format="anthropic"))["messages"][1]
    signed, sealed = message["reasoning_details"]
    assert (signed["text"], signed["signature"]) == ("hm", "sig")
    assert sealed == DETAILS[1]


def test_thoughts_that_are_signed_one_by_one_stay_apart():
    details = [
        {"type": "reasoning.text", "text": "a", "signature": "1"},
        {"type": "reasoning.text", "text": "b", "signature": "2"},
    ]
    raw = completion(reasoning="ab", reasoning_details=details)
    [choice] = dialect_of("openrouter").decode(raw).choices
    assert choice.parts[:2] == (
        ReasoningPart(text="a", signature="1"),
        ReasoningPart(text="b", signature="2"),
    )


def test_streamed_details_go_on_as_they_came_and_tell_their_seals():
    pieces = [
        {"delta": {"reasoning": "hm", "reasoning_details": [{"text": "hm"}]}},
        {"delta": {"content": "", "reasoning_details": DETAILS}},
        {"delta": {"content": "a"}},
    ]
    chunks = streamed(dialect_of("openrouter"), pieces)
    sealed = [c for c in chunks if isinstance(c, ReasoningDelta) and c.redacted]
    assert [json.loads(c.redacted) for c in sealed] == [DETAILS[1]]
    assert ReasoningDelta(signature="sig") in chunks
    assert TextDelta(text="", extra={"reasoning_details": DETAILS}) in chunks
    [said], _ = understanding.of_chunks(chunks)
    assert (said.reasoning, said.text) == ("hm", "a")


@pytest.mark.parametrize("details", [5, "x", {}, [5, None], [{"type": []}], [[]]])
def test_details_that_are_none_do_no_harm(details):
    raw = completion(reasoning="hm", reasoning_details=details)
    [choice] = dialect_of("openrouter").decode(raw).choices
    assert choice.reasoning == "hm"
    pieces = [{"delta": {"content": "a", "reasoning_details": details}}]
    [said], _ = understanding.of_chunks(streamed(dialect_of("openrouter"), pieces))
    assert said.text == "a"


def test_what_a_gemini_call_must_carry_is_kept():
    extra = {"google": {"thought_signature": "s"}}
    call = {
        "index": 0,
        "id": "c",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": extra,
    }
    dialect = dialect_of("openai-compatible")
    [made] = dialect.decode(completion(tool_calls=[call])).choices[0].tool_calls
    assert made.extra == {"extra_content": extra}
    late = {"index": 0, "function": {"arguments": ""}, "extra_content": extra}
    del call["extra_content"]
    chunks = streamed(dialect, [{"delta": {"tool_calls": [c]}} for c in (call, late)])
    deltas = [c for c in chunks if isinstance(c, ToolCallDelta)]
    assert [delta.extra for delta in deltas] == [{}, {"extra_content": extra}]


def test_pictures_that_a_model_makes_in_a_chat_come_along():
    pictures = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}]
    [choice] = dialect_of("openrouter").decode(completion(images=pictures)).choices
    assert choice.extra == {"images": pictures}
    chunks = streamed(dialect_of("openrouter"), [{"delta": {"images": pictures}}])
    assert TextDelta(text="", extra={"images": pictures}) in chunks


@pytest.mark.parametrize("native", ["stop", "tool_calls"])
def test_why_an_answer_with_calls_has_ended_is_told_as_the_server_says_it(native):
    # OpenAI says "stop" where a call was forced, and its clients know it.
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    raw = json.loads(completion(tool_calls=[call]))
    raw["choices"][0]["finish_reason"] = native
    [choice] = dialect_of("openai").decode(json.dumps(raw).encode()).choices
    assert (choice.finish_reason, choice.native_finish_reason) == (native, native)


@pytest.mark.parametrize("adapter", FAMILY)
def test_a_stream_without_done_is_cut_off_but_where_done_is_left_out(adapter):
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}
    event = json.dumps({"id": "g", "model": "m", "choices": [choice]})
    stream = dialect_of(adapter).open_stream()
    stream.feed(f"data: {event}\n\n".encode())
    if adapter in ("huggingface", "openai-compatible"):
        assert isinstance(stream.close()[-1], Finished)
    else:
        with pytest.raises(DuckError, match="breaks off"):
            stream.close()


# Errors


@pytest.mark.parametrize(
    ("adapter", "status", "body", "kind", "retryable"),
    [
        (
            "groq",
            400,
            {"error": {"code": "json_validate_failed", "message": "no JSON"}},
            ProviderError,
            True,
        ),
        (
            "groq",
            400,
            {"error": {"code": "model_decommissioned", "message": "gone"}},
            ModelNotFound,
            False,
        ),
        ("groq", 498, {"error": {"message": "flex tier"}}, ProviderError, True),
        (
            "openrouter",
            404,
            {"error": {"message": "No endpoints found for a/b.", "code": 404}},
            ModelNotFound,
            False,
        ),
        (
            "openrouter",
            403,
            {
                "error": {
                    "message": "Your chosen model requires moderation",
                    "code": 403,
                }
            },
            ContentFiltered,
            False,
        ),
        (
            "openrouter",
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {"raw": "prompt is too long: 9 tokens > 8 maximum"},
                }
            },
            ContextLengthExceeded,
            False,
        ),
        (
            "deepseek",
            400,
            {"error": {"message": "Content Exists Risk"}},
            ContentFiltered,
            False,
        ),
        (
            "xai",
            403,
            {"error": "Your newly created team doesn't have any credits yet."},
            QuotaExceeded,
            False,
        ),
        (
            "xai",
            403,
            {"error": "Content violates usage guidelines. Failed check: X"},
            ContentFiltered,
            False,
        ),
        (
            "xai",
            400,
            {"code": "invalid-argument", "error": "Incorrect API key provided"},
            ProviderAuthError,
            False,
        ),
        (
            "together",
            404,
            {"error": {"code": "model_not_available", "message": "Unable to access"}},
            ModelNotFound,
            False,
        ),
        (
            "together",
            422,
            {"error": {"message": "`inputs` tokens + `max_new_tokens` must be <= 8"}},
            ContextLengthExceeded,
            False,
        ),
        (
            "huggingface",
            400,
            {"error": {"code": "model_not_supported", "message": "by no provider"}},
            ModelNotFound,
            False,
        ),
        ("huggingface", 503, {"error": "loading"}, ProviderError, True),
        (
            "mistral",
            429,
            {"message": "Service tier capacity exceeded for this model."},
            RateLimited,
            True,
        ),
        ("openai-compatible", 501, {"error": {"code": 501}}, ProviderError, False),
        ("openai-compatible", 503, {"error": {"code": 503}}, ProviderError, True),
    ],
)
def test_the_servers_own_errors_find_their_class(
    adapter, status, body, kind, retryable
):
    errors = dialect_of(adapter).errors
    error = errors(status, {}, json.dumps(body).encode())
    assert type(error) is kind
    assert error.retryable is retryable


# How they are reached


def test_every_name_of_a_model_has_at_most_its_maker_and_those_who_really_have_it():
    """Each name with all adapters that serve it when the config lists none."""
    served = {
        "gpt-4o": {"openai", "azure"},
        "gpt-35-turbo": {"azure"},
        "mistral-small-latest": {"mistral", "openai-compatible"},
        "mistral-small:24b": {"openai-compatible"},
        "deepseek-chat": {"deepseek"},
        "deepseek-v4-pro": {"deepseek", "openai-compatible"},
        "deepseek-r1:latest": {"openai-compatible"},
        "deepseek-ai/DeepSeek-R1": {"huggingface", "openai-compatible", "together"},
        "grok-4": {"xai"},
        "llama-3.3-70b-versatile": {"groq", "openai-compatible"},
        "openai/gpt-oss-120b": {
            "groq",
            "huggingface",
            "openai-compatible",
            "openrouter",
            "together",
        },
        "meta-llama/llama-4-scout-17b-16e-instruct": {"groq", "openai-compatible"},
        "anthropic/claude-haiku-4.5": {"openrouter", "openai-compatible"},
        "meta-llama/Llama-3.3-70B-Instruct-Turbo": {
            "huggingface",
            "openai-compatible",
            "together",
        },
    }
    names = {
        adapter: ModelNames(its.models, excluded=its.foreign_models)
        for adapter in FAMILY
        for its in [adapter_of(adapter)]
    }
    for model, wanted in served.items():
        assert {a for a in FAMILY if names[a].serves(model)} == wanted, model


KEYS = {
    "openai": "sk-proj-" + "a" * 40,
    "azure": "0123456789abcdef" * 2,
    "groq": "gsk_" + "a" * 52,
    "openrouter": "sk-or-v1-" + "0" * 64,
    "mistral": "a" * 32,
    "deepseek": "sk-" + "0" * 32,
    "xai": "xai-" + "a" * 80,
    "together": "tgp_v1_" + "a" * 40,
    "huggingface": "hf_" + "a" * 34,
}


def test_the_keys_of_each_provider_are_known_by_their_shape():
    for adapter, key in KEYS.items():
        shape = adapter_of(adapter).key_shape
        assert shape.fullmatch(key), adapter
        assert not shape.fullmatch(key[:5])
    for one, other in combinations(("groq", "xai", "huggingface", "openrouter"), 2):
        assert not adapter_of(one).key_shape.fullmatch(KEYS[other])


OK = answer(completion())


async def test_a_custom_api_is_a_config_entry_with_headers_of_its_own():
    async with open_upstream([[OK]]) as upstream:
        provider = make_provider(
            ProviderConfig(
                name="ours",
                adapter="openai-compatible",
                base_url=f"{upstream.base_url}/llm/v2",
                headers={"X-Api-Key": "canary-5f1d", "X-Tenant": "ducks"},
                model_map={"fast": "in-house-7"},
                timeout=TimeoutConfig(connect=20, first_byte=20, idle=20, total=20),
            )
        )
        try:
            reply = await provider.complete(
                ask(model="fast", extra={"chat_template_kwargs": {"x": 1}})
            )
        finally:
            await provider.aclose()
    assert reply.text == "a"
    [request] = upstream.requests
    assert request.line == "POST /llm/v2/chat/completions HTTP/1.1"
    assert request.header("x-api-key") == "canary-5f1d"
    assert request.header("x-tenant") == "ducks"
    assert request.header("authorization") is None
    body = json.loads(request.body)
    assert body["model"] == "in-house-7"
    assert body["chat_template_kwargs"] == {"x": 1}
    assert "canary" not in repr(provider)


async def test_openrouter_is_asked_about_the_key_to_see_whether_it_answers():
    async with open_upstream([[answer(b"{}")]]) as upstream:
        provider = make_provider(
            ProviderConfig(
                name="duck",
                adapter="openrouter",
                base_url=f"{upstream.base_url}/api/v1",
                api_key=Secret("canary-5f1d-2b6f"),
                timeout=TimeoutConfig(connect=20, first_byte=20, idle=20, total=20),
            )
        )
        try:
            report = await provider.health_check()
        finally:
            await provider.aclose()
    assert report.healthy
    assert upstream.requests[0].line == "GET /api/v1/key HTTP/1.1"


# Recorded requests as the oracle


@needs_recordings
@pytest.mark.parametrize(
    "adapter", ["mistral", "deepseek", "groq", "openrouter", "xai"]
)
def test_no_field_is_sent_that_no_recorded_request_to_the_provider_has(adapter):
    given = (Message.of("developer", "s"), *HELLO, turn(THOUGHT, CALL), RESULT)
    rich = ask(
        messages=given,
        max_tokens=5,
        tools=(TOOL,),
        tool_choice=ToolChoice(mode="required"),
        reasoning=Reasoning(effort="high"),
        user=None if adapter == "xai" else "me",
        seed=None if adapter in ("groq", "xai") else 7,
    )
    bodies = [
        record.request["body"]
        for record in load(adapter)
        if record.api == "chat_completions" and record.request.get("body")
    ]
    body = sent(adapter, rich)
    if adapter in ("groq", "openrouter"):
        del body["user"]  # never recorded, and in their documents
    assert not body.keys() - set().union(*bodies)
    for role in ("assistant", "tool"):
        recorded = [m for b in bodies for m in b["messages"] if m.get("role") == role]
        made = [m for m in body["messages"] if m["role"] == role]
        known = set().union(*recorded) | {"reasoning", "content"}  # Groq's SDK has it
        assert not set().union(*made) - known
    if adapter == "mistral":
        assert body["tool_choice"] in [b.get("tool_choice") for b in bodies]
