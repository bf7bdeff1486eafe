from __future__ import annotations

import json

import pytest

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    ImagePart,
    Message,
    OpaquePart,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from duckservice.config import AuthConfig, ProviderConfig, Secret
from duckservice.errors import (
    BadProviderResponse,
    InvalidRequest,
)
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.auth.aws import AwsCredentials
from duckservice.providers.auth.keys import Keys
from duckservice.providers.bedrock import place
from duckservice.providers.catalog import make_provider
from tests.providers.bedrock import (
    BEDROCK,
    CLAUDE,
    HELLO,
    LLAMA,
    NEW_CLAUDE,
    NOVA,
    NOVA_2,
    PNG,
    WEATHER,
    answer,
    ask,
    assert_valid,
    sent,
)
from tests.upstream import FIN, open_upstream


def refused(request: ChatRequest) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        sent(request)
    assert caught.value.provider == "duck"
    return caught.value.param


# Requests


def test_the_smallest_request_is_its_message():
    assert sent(ask()) == {
        "messages": [{"role": "user", "content": [{"text": "hello"}]}]
    }


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        (NOVA, "amazon.nova-lite-v1%3A0"),
        (
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/k3",
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fk3",
        ),
        ("a/b..c?d#e f", "a%2Fb..c%3Fd%23e%20f"),
    ],
)
def test_the_model_is_one_segment_of_the_path(model, segment):
    request = ask(model=model)
    assert BEDROCK.chat_path(request, stream=False) == f"/model/{segment}/converse"
    assert (
        BEDROCK.chat_path(request, stream=True) == f"/model/{segment}/converse-stream"
    )


def test_the_options_go_under_converses_names():
    body = sent(
        ask(
            model=NOVA,
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            top_k=3,
            n=1,
            stop=("a", "b"),
            presence_penalty=0.0,
            user="me@example.com",
            extra={"logprobs": False, "store": None, "service_tier": "flex"},
        )
    )
    assert body == {
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {
            "maxTokens": 5,
            "temperature": 0.5,
            "topP": 0.9,
            "stopSequences": ["a", "b"],
        },
        "additionalModelRequestFields": {"inferenceConfig": {"topK": 3}},
        "requestMetadata": {"user": "me@example.com"},
        "serviceTier": {"type": "flex"},
    }


def test_a_temperature_of_zero_is_said():
    assert sent(ask(temperature=0.0))["inferenceConfig"] == {"temperature": 0.0}


def test_claude_is_asked_which_stop_sequence_it_met():
    body = sent(ask(stop=("x",)))
    paths = ["/stop_sequence", "/delta/stop_sequence"]
    assert body["additionalModelResponseFieldPaths"] == paths


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (CLAUDE, {"top_k": 3}),
        (NOVA_2, {"inferenceConfig": {"topK": 3}}),
        ("cohere.command-r-v1:0", {"k": 3}),
    ],
)
def test_top_k_goes_where_the_models_maker_has_it(model, fields):
    body = sent(ask(model=model, top_k=3))
    assert body["additionalModelRequestFields"] == fields


def test_a_schema_goes_as_text():
    wanted = ResponseFormat(
        type="json_schema",
        name="City",
        schema={"type": "object"},
        description="d",
        strict=True,
    )
    assert sent(ask(response_format=wanted))["outputConfig"] == {
        "textFormat": {
            "type": "json_schema",
            "structure": {
                "jsonSchema": {
                    "name": "City",
                    "schema": '{"type":"object"}',
                    "description": "d",
                }
            },
        }
    }
    unnamed = ResponseFormat(type="json_schema", schema={"type": "object"})
    output = sent(ask(response_format=unnamed))["outputConfig"]["textFormat"]
    assert output["structure"]["jsonSchema"]["name"] == "response"
    assert "outputConfig" not in sent(ask(response_format=ResponseFormat(type="text")))


def test_what_the_system_says_first_is_the_system_prompt():
    given = (
        Message.of("system", "a"),
        Message.of("developer", "b"),
        *HELLO,
        Message.of("system", "later"),
    )
    body = sent(ask(messages=given))
    assert body["system"] == [{"text": "a"}, {"text": "b"}]
    assert body["messages"][1] == {"role": "system", "content": [{"text": "later"}]}


def test_calls_and_their_results_take_turns():
    given = (
        *HELLO,
        Message(
            role="assistant",
            parts=(
                TextPart(text=""),
                ToolCall(id="1", name="f", arguments='{"x": 1.0}'),
                ToolCall(id="2", name="g", arguments=""),
            ),
        ),
        Message(
            role="tool",
            parts=(ToolResult(tool_call_id="1", content=(TextPart(text="one"),)),),
        ),
        Message(
            role="tool",
            parts=(
                ToolResult(
                    tool_call_id="2",
                    content=(
                        TextPart(text=""),
                        ImagePart(data=PNG, media_type="image/png"),
                    ),
                    is_error=True,
                ),
            ),
        ),
        Message.of("user", "and now?"),
    )
    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    assert sent(ask(messages=given, tools=(WEATHER,)))["messages"] == [
        {"role": "user", "content": [{"text": "hello"}]},
        {
            "role": "assistant",
            "content": [
                {"toolUse": {"toolUseId": "1", "name": "f", "input": {"x": 1.0}}},
                {"toolUse": {"toolUseId": "2", "name": "g", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "1", "content": [{"text": "one"}]}},
                {
                    "toolResult": {
                        "toolUseId": "2",
                        "content": [image],
                        "status": "error",
                    }
                },
                {"text": "and now?"},
            ],
        },
    ]


def test_numbers_in_arguments_stay_as_the_model_wrote_them():
    arguments = '{"x":1.10,"y":12345678901234567890123}'
    call = ToolCall(id="1", name="f", arguments=arguments)
    turn = Message(role="assistant", parts=(call,))
    body = BEDROCK.encode(ask(messages=(*HELLO, turn)), stream=False)
    assert arguments.encode() in body


def test_turns_of_one_role_side_by_side_become_one():
    given = (*HELLO, Message.of("user", "again"), Message.of("assistant", "hm"))
    assert sent(ask(messages=given))["messages"] == [
        {"role": "user", "content": [{"text": "hello"}, {"text": "again"}]},
        {"role": "assistant", "content": [{"text": "hm"}]},
    ]


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        ("image/png", "png"),
        ("image/jpeg", "jpeg"),
        ("image/jpg", "jpeg"),
        ("image/gif", "gif"),
        ("image/webp", "webp"),
    ],
)
def test_pictures_go_as_bytes_with_their_format(media_type, kind):
    parts = (ImagePart(data=PNG, media_type=media_type, detail="auto"),)
    body = sent(ask(messages=(Message(role="user", parts=parts),)))
    assert body["messages"][0]["content"] == [
        {"image": {"format": kind, "source": {"bytes": PNG}}}
    ]


def test_thoughts_go_back_with_their_signature():
    parts = (
        ReasoningPart(text="hm", signature="sig"),
        ReasoningPart(redacted="b64="),
        RefusalPart(text="no"),
    )
    body = sent(ask(messages=(*HELLO, Message(role="assistant", parts=parts))))
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "b64="}},
        {"text": "no"},
    ]


def test_models_without_signatures_get_their_thoughts_back_without():
    turn = Message(role="assistant", parts=(ReasoningPart(text="hm"),))
    body = sent(ask(model="us.deepseek.r1-v1:0", messages=(*HELLO, turn)))
    thought = {"reasoningContent": {"reasoningText": {"text": "hm"}}}
    assert body["messages"][1]["content"] == [thought]
    assert refused(ask(messages=(*HELLO, turn))) == "messages[1].content[0]"


# Tools


def test_tools_go_as_specifications():
    tools = (
        Tool(name="f", description="d", parameters={"type": "object"}, strict=True),
        Tool(name="g", description="", strict=False),
    )
    nothing = {"type": "object", "properties": {}}
    assert sent(ask(tools=tools))["toolConfig"] == {
        "tools": [
            {
                "toolSpec": {
                    "name": "f",
                    "inputSchema": {"json": {"type": "object"}},
                    "description": "d",
                    "strict": True,
                }
            },
            {"toolSpec": {"name": "g", "inputSchema": {"json": nothing}}},
        ]
    }


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (None, None),
        (ToolChoice(mode="auto"), None),
        (ToolChoice(mode="required"), {"any": {}}),
        (ToolChoice(mode="tool", name="weather"), {"tool": {"name": "weather"}}),
    ],
)
def test_the_choice_of_tools_is_translated(choice, said):
    config = sent(ask(tools=(WEATHER,), tool_choice=choice))["toolConfig"]
    assert config.get("toolChoice") == said
    assert "toolConfig" not in sent(ask(tool_choice=choice))


def test_tools_that_must_not_be_used_are_not_offered():
    none = ToolChoice(mode="none")
    assert "toolConfig" not in sent(ask(tools=(WEATHER,), tool_choice=none))


def test_tools_that_were_used_cannot_be_taken_away():
    call = Message(
        role="assistant", parts=(ToolCall(id="1", name="f", arguments="{}"),)
    )
    used = ask(
        messages=(*HELLO, call), tools=(WEATHER,), tool_choice=ToolChoice(mode="none")
    )
    assert refused(used) == "tool_choice"


def test_one_call_at_a_time_is_claudes_own_field():
    one = ask(tools=(WEATHER,), parallel_tool_calls=False)
    assert sent(one)["additionalModelRequestFields"] == {
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}
    }
    forced = ask(
        tools=(WEATHER,),
        parallel_tool_calls=False,
        tool_choice=ToolChoice(mode="required"),
    )
    body = sent(forced)
    assert body["toolConfig"]["toolChoice"] == {"any": {}}
    only = {"disable_parallel_tool_use": True}
    assert body["additionalModelRequestFields"] == {"tool_choice": only}
    for harmless in (
        ask(tools=(WEATHER,), parallel_tool_calls=True),
        ask(parallel_tool_calls=False),
        ask(model=NOVA, parallel_tool_calls=False),
    ):
        assert "additionalModelRequestFields" not in sent(harmless)


# Reasoning


def reasoned(model: str, reasoning: Reasoning, **fields) -> dict:
    body = sent(ask(model=model, reasoning=reasoning, **fields))
    return body.get("additionalModelRequestFields", {})


ADAPTIVE = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        (CLAUDE, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (CLAUDE, "none", {}),
        (
            NEW_CLAUDE,
            "minimal",
            {"thinking": ADAPTIVE, "output_config": {"effort": "low"}},
        ),
        (NEW_CLAUDE, "max", {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}),
        (NEW_CLAUDE, "none", {"thinking": {"type": "disabled"}}),
        (
            NOVA_2,
            "minimal",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
        ),
        (NOVA_2, "none", {"reasoningConfig": {"type": "disabled"}}),
        ("openai.gpt-oss-120b-1:0", "high", {"reasoning_effort": "high"}),
        ("moonshot.kimi-k2-thinking", "low", {"reasoning_effort": "low"}),
        ("us.openai.gpt-5.6-luna", "xhigh", {"reasoning": {"effort": "xhigh"}}),
        ("openai.gpt-5.5", "minimal", {"reasoning": {"effort": "low"}}),
        ("openai.gpt-5.5", "none", {"reasoning": {"effort": "none"}}),
        (LLAMA, "none", {}),
    ],
)
def test_an_effort_is_said_in_the_makers_words(model, effort, fields):
    assert reasoned(model, Reasoning(effort=effort)) == fields


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
        (
            NOVA_2,
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}},
        ),
        ("openai.gpt-oss-20b-1:0", {"reasoning_effort": "medium"}),
        ("openai.gpt-5.5", {"reasoning": {"effort": "medium"}}),
    ],
)
def test_a_budget_is_brought_to_the_nearest_word(model, fields):
    budget = Reasoning(mode="enabled", budget_tokens=5000)
    assert reasoned(model, budget, format="anthropic") == fields


def test_what_anthropics_clients_say_to_claude_goes_on_as_it_is():
    assert reasoned(
        NEW_CLAUDE, Reasoning(mode="adaptive", effort="high"), format="anthropic"
    ) == {"thinking": ADAPTIVE, "output_config": {"effort": "high"}}
    assert reasoned(NEW_CLAUDE, Reasoning(effort="low"), format="anthropic") == {
        "output_config": {"effort": "low"}
    }
    assert reasoned(CLAUDE, Reasoning(mode="disabled"), format="anthropic") == {}


def test_a_budget_leaves_room_for_the_reply():
    thinking = reasoned(CLAUDE, Reasoning(effort="high"), max_tokens=4000)["thinking"]
    assert thinking["budget_tokens"] == 3999
    tight = ask(reasoning=Reasoning(effort="high"), max_tokens=1024)
    assert refused(tight) == "reasoning_effort"


@pytest.mark.parametrize("model", [LLAMA, NOVA, "cohere.command-r-v1:0"])
@pytest.mark.parametrize(
    ("written", "field"),
    [
        ("openai", "reasoning_effort"),
        ("anthropic", "thinking"),
        ("responses", "reasoning"),
    ],
)
def test_models_that_cannot_be_told_to_think_are_not(model, written, field):
    effort = Reasoning(effort="high")
    assert refused(ask(model=model, reasoning=effort, format=written)) == field


def test_gpt_oss_cannot_be_told_not_to_think():
    never = ask(model="openai.gpt-oss-20b-1:0", reasoning=Reasoning(effort="none"))
    assert refused(never) == "reasoning_effort"


# From Anthropic's clients


def from_anthropic(betas=(), **fields) -> ChatRequest:
    body = {"model": CLAUDE, "max_tokens": 9, "messages": []} | fields
    if not body["messages"]:
        body["messages"] = [{"role": "user", "content": "hello"}]
    return decode_messages(json.dumps(body).encode(), betas).request


def test_cache_control_becomes_a_cache_point_behind_its_block():
    cached = {"cache_control": {"type": "ephemeral"}}
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = sent(
        from_anthropic(
            system=[{"type": "text", "text": "s", **hour}],
            tools=[{"name": "f", "input_schema": {"type": "object"}, **cached}],
            messages=[
                {"role": "user", "content": "q"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "1", "name": "f", "input": {}}
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "1",
                            "content": "r",
                            **cached,
                        },
                        {"type": "text", "text": "t", **cached},
                    ],
                },
            ],
        )
    )
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [
        {"text": "s"},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
    ]
    assert body["toolConfig"]["tools"][1] == point
    assert body["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "1", "content": [{"text": "r"}]}},
        point,
        {"text": "t"},
        point,
    ]


def test_cache_control_of_the_whole_request_is_behind_its_last_block():
    body = sent(from_anthropic(cache_control={"type": "ephemeral", "ttl": "5m"}))
    point = {"cachePoint": {"type": "default", "ttl": "5m"}}
    assert body["messages"][-1]["content"] == [{"text": "hello"}, point]


def test_betas_that_bedrock_knows_go_on_and_others_stay():
    betas = ("interleaved-thinking-2025-05-14", "claude-code-20250219")
    body = sent(from_anthropic(betas))
    known = ["interleaved-thinking-2025-05-14"]
    assert body["additionalModelRequestFields"] == {"anthropic_beta": known}
    assert "additionalModelRequestFields" not in sent(from_anthropic(betas, model=NOVA))


def test_what_an_openai_client_sends_by_habit_is_no_obstacle():
    body = {
        "model": NOVA,
        "messages": [{"role": "user", "content": "hello"}],
        "n": 1,
        "logprobs": False,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "logit_bias": {},
        "store": False,
        "stream": True,
        "stream_options": {"include_usage": True},
        "service_tier": "auto",
        "response_format": {"type": "text"},
        "tool_choice": "none",
        "parallel_tool_calls": True,
    }
    request = decode_chat(json.dumps(body).encode()).request
    assert sent(request) == {
        "messages": [{"role": "user", "content": [{"text": "hello"}]}]
    }


# What is refused


def of_user(*parts, **fields) -> ChatRequest:
    return ask(messages=(Message(role="user", parts=parts),), **fields)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ask(n=2), "n"),
        (ask(seed=1), "seed"),
        (ask(temperature=1.5), "temperature"),
        (ask(presence_penalty=0.5), "presence_penalty"),
        (ask(frequency_penalty=0.5), "frequency_penalty"),
        (ask(model=LLAMA, top_k=3), "top_k"),
        (ask(response_format=ResponseFormat(type="json_object")), "response_format"),
        (
            ask(response_format=ResponseFormat(type="json_schema", name="n")),
            "response_format.json_schema.schema",
        ),
        (ask(extra={"logprobs": True}), "logprobs"),
        (ask(extra={"service_tier": "scale"}), "service_tier"),
        (ask(format="anthropic", extra={"container": "c"}), "container"),
        (ask(messages=(Message.of("user", "x"),), extra={"audio": {}}), "audio"),
        (
            ask(messages=(Message(role="user", parts=(), name="bob"),)),
            "messages[0].name",
        ),
        (
            ask(model=NOVA, tools=(WEATHER,), parallel_tool_calls=False),
            "parallel_tool_calls",
        ),
        (
            ask(
                model=NOVA,
                tools=(WEATHER,),
                parallel_tool_calls=False,
                format="anthropic",
            ),
            "tool_choice.disable_parallel_tool_use",
        ),
        (of_user(ImagePart(url="https://a.example/b.png")), "messages[0].content[0]"),
        (
            of_user(ImagePart(data=PNG, media_type="image/tiff")),
            "messages[0].content[0]",
        ),
        (
            of_user(ImagePart(data=PNG, media_type="image/png", detail="low")),
            "messages[0].content[0].image_url.detail",
        ),
        (
            of_user(ToolCall(id="1", name="f", arguments="[1]")),
            "messages[0].content[0].function.arguments",
        ),
        (
            of_user(OpaquePart(format="openai", value={"type": "input_audio"})),
            "messages[0].content[0] (input_audio)",
        ),
        (
            of_user(
                OpaquePart(format="anthropic", value={"type": "document"}),
                format="anthropic",
            ),
            "messages[0].content[0] (document)",
        ),
        (
            of_user(
                ToolResult(
                    tool_call_id="1",
                    content=(TextPart(text="x", extra={"cache_control": {}}),),
                ),
                format="anthropic",
            ),
            "messages[0].content[0].content[0].cache_control",
        ),
        (
            of_user(
                TextPart(text="x", extra={"citations": []}),
                format="anthropic",
            ),
            "messages[0].content[0].citations",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_the_name_that_the_client_wrote(
    request_, field
):
    assert refused(request_) == field


def test_half_of_a_surrogate_pair_is_refused_without_quoting_the_prompt():
    request = ask(messages=(Message.of("user", "secret \ud800"),))
    with pytest.raises(InvalidRequest) as caught:
        BEDROCK.encode(request, stream=False)
    assert "secret" not in str(caught.value)


# Counting and embeddings


def test_tokens_are_counted_by_the_model_of_a_profile():
    counting = BEDROCK.counting
    request = ask(
        messages=(Message.of("system", "s"), *HELLO),
        tools=(WEATHER,),
        max_tokens=5000,
        temperature=0.5,
        reasoning=Reasoning(effort="low"),
    )
    path = "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens"
    assert counting.path(request) == path
    body = json.loads(counting.encode(request))
    assert body["input"]["converse"].keys() == {
        "messages",
        "system",
        "toolConfig",
        "additionalModelRequestFields",
    }
    assert_valid("CountTokens", {"modelId": request.model} | body)
    assert counting.decode(b'{"inputTokens": 11}') == 11
    for bad in (b"{}", b'{"inputTokens": "11"}', b'{"inputTokens": null}', b"<p>"):
        with pytest.raises(BadProviderResponse):
            counting.decode(bad)


def embedded(model: str, *texts, **fields) -> dict:
    request = EmbeddingRequest(model=model, input=texts, **fields)
    return json.loads(BEDROCK.embeddings.encode(request))


def test_each_maker_is_asked_for_embeddings_in_its_format():
    titan = "amazon.titan-embed-text-v2:0"
    assert embedded(titan, "a", dimensions=256, extra={"normalize": False}) == {
        "inputText": "a",
        "dimensions": 256,
        "normalize": False,
    }
    assert embedded("cohere.embed-english-v3", "a", "b") == {
        "texts": ["a", "b"],
        "input_type": "search_document",
    }
    query = {"input_type": "search_query", "truncate": "END"}
    assert embedded("us.cohere.embed-v4:0", "a", dimensions=512, extra=query) == {
        "texts": ["a"],
        "input_type": "search_query",
        "truncate": "END",
        "output_dimension": 512,
    }
    nova = "amazon.nova-2-multimodal-embeddings-v1:0"
    purpose = {"embedding_purpose": "GENERIC_RETRIEVAL"}
    assert embedded(nova, "a", dimensions=256, extra=purpose) == {
        "taskType": "SINGLE_EMBEDDING",
        "singleEmbeddingParams": {
            "embeddingPurpose": "GENERIC_RETRIEVAL",
            "embeddingDimension": 256,
            "text": {"truncationMode": "NONE", "value": "a"},
        },
    }
    request = EmbeddingRequest(model=titan, input=("a",))
    path = "/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert BEDROCK.embeddings.path(request) == path


@pytest.mark.parametrize(
    ("model", "texts", "fields", "field"),
    [
        ("amazon.titan-embed-text-v2:0", ("a", "b"), {}, "input"),
        ("amazon.titan-embed-text-v2:0", (), {}, "input"),
        ("cohere.embed-english-v3", ((1, 2),), {}, "input"),
        ("cohere.embed-english-v3", ("a",), {"dimensions": 5}, "dimensions"),
        ("cohere.embed-english-v3", ("a",), {"user": "me"}, "user"),
        (
            "cohere.embed-english-v3",
            ("a",),
            {"extra": {"normalize": True}},
            "normalize",
        ),
        ("twelvelabs.marengo-embed-2-7-v1:0", ("a",), {}, "model"),
    ],
)
def test_embeddings_that_a_model_cannot_make_are_refused(model, texts, fields, field):
    with pytest.raises(InvalidRequest) as caught:
        embedded(model, *texts, **fields)
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (
            b'{"embedding": [0.5, 1], "inputTextTokenCount": 3}',
            Usage(input_tokens=3),
        ),
        (b'{"embeddings": [[0.5, 1]], "texts": ["a"]}', Usage(estimated=True)),
        (b'{"embeddings": {"float": [[0.5, 1]]}}', Usage(estimated=True)),
        (
            b'{"embeddings": [{"embeddingType": "TEXT", "embedding": [0.5, 1]}]}',
            Usage(estimated=True),
        ),
    ],
)
def test_embeddings_are_read_in_every_makers_format(body, usage):
    reply = BEDROCK.embeddings.decode(body, 1)
    assert reply.vectors == ((0.5, 1.0),)
    assert reply.usage == usage


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"embedding": ["x"]}',
        b'{"embeddings": [[1], [2]]}',
        b'{"embeddings": {"int8": [[1]]}}',
        b'{"embeddings": "x"}',
        b"<p>",
        b"",
    ],
)
def test_what_are_no_embeddings_is_said_to_be_none(body):
    with pytest.raises(BadProviderResponse):
        BEDROCK.embeddings.decode(body, 1)


# The place


def config(**fields) -> ProviderConfig:
    return ProviderConfig(**{"name": "duck", "adapter": "bedrock"} | fields)


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ("us-gov-west-1", "https://bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_region_is_the_place(region, url):
    assert place.base_url(config(region=region), {}) == url
    assert place.base_url(config(), {"AWS_REGION": region}) == url
    assert place.base_url(config(), {"AWS_DEFAULT_REGION": region}) == url
    assert place.base_url(config(base_url="http://localhost:1"), {}) == (
        "http://localhost:1"
    )


def test_a_region_must_be_known_and_be_one():
    with pytest.raises(ValueError, match="duck needs to know its AWS region"):
        place.base_url(config(), {})
    for bad in ("evil.example/", "eu", "EU-central-1", "a-b" * 30):
        with pytest.raises(ValueError, match="is no AWS region"):
            place.base_url(config(region=bad), {})


def test_requests_are_authenticated_by_what_is_nearest():
    bearer = {"AWS_BEARER_TOKEN_BEDROCK": "token"}
    here = {"region": "eu-central-1"}
    aws = AuthConfig(type="aws", profile="pond")
    oauth = AuthConfig(type="oauth2")
    assert place.credentials(config(api_key=Secret("k"), **here), bearer) is None
    assert place.credentials(config(auth=oauth, **here), bearer) is None
    assert isinstance(place.credentials(config(**here), bearer), Keys)
    for found in (
        place.credentials(config(**here), {}),
        place.credentials(config(auth=aws, **here), bearer),
        place.credentials(
            config(base_url="https://bedrock-runtime-fips.us-east-1.amazonaws.com"), {}
        ),
    ):
        assert isinstance(found, AwsCredentials)
    with pytest.raises(ValueError, match="region"):
        place.credentials(config(base_url="http://localhost:1"), {})


async def test_a_bearer_token_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-duck")
    body = answer({"text": "hi"})
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    )
    async with open_upstream([[head % len(body), b"\r\n", body]]) as upstream:
        provider = make_provider(config(base_url=upstream.base_url))
        assert (await provider.complete(ask(model=NOVA))).text == "hi"
        await provider.health_check()
        await provider.aclose()
    chat, health = upstream.requests
    assert chat.line == "POST /model/amazon.nova-lite-v1%3A0/converse HTTP/1.1"
    assert chat.header("authorization") == "Bearer bedrock-api-key-duck"
    assert health.line == "GET /async-invoke?maxResults=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("reply", "healthy"),
    [
        (b"200 OK\r\n\r\n{}", True),
        (
            b'403 No\r\n\r\n{"message": "may not perform bedrock:ListAsyncInvokes"}',
            True,
        ),
        (b'403 No\r\n\r\n{"message": "The security token is invalid"}', False),
        (b"503 No\r\n\r\n{}", False),
    ],
)
async def test_who_may_not_see_the_list_is_healthy_all_the_same(reply, healthy):
    script = [[b"HTTP/1.0 " + reply, FIN]]
    async with open_upstream(script) as upstream:
        provider = make_provider(
            config(base_url=upstream.base_url, api_key=Secret("k" * 20))
        )
        assert (await provider.health_check()).healthy is healthy
        await provider.aclose()


def test_models_of_bedrock_are_served_and_others_are_not():
    provider = make_provider(config(region="eu-central-1", api_key=Secret("k" * 20)))
    for model in (CLAUDE, NEW_CLAUDE, NOVA, LLAMA, "arn:aws:bedrock:eu:1:x/y"):
        assert provider.supports_model(model)
    for model in ("gpt-5.5", "claude-opus-5", "us.example.com", "openai/gpt-5"):
        assert not provider.supports_model(model)
    cost = provider.estimate_cost(Usage(input_tokens=1_000_000), CLAUDE)
    assert cost is not None


@pytest.mark.parametrize("user", ["a" * 257, '{"id": 1}'])
def test_who_asks_is_left_out_where_awss_alphabet_cannot_say_it(user):
    assert "requestMetadata" not in sent(ask(user=user))
