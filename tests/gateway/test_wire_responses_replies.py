"""What the Responses API answers, whole and streamed, is what OpenAI would write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st
from openai.types.responses import Response

from duckservice.completion import (
    Choice,
    Completion,
    Finished,
    OpaquePart,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    RefusalPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.errors import BadProviderResponse, InvalidRequest, RateLimited
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.gateway.wire.responses_reply import encode_completion
from duckservice.gateway.wire.responses_stream import ResponseStreamEncoder
from tests.gateway import strategies as values
from tests.gateway.responses_reader import Reader, events_of

NOW = 1_700_000_123.7
STARTED = Started(id="c1", model="m-1", created=1_700_000_000)
USAGE = Usage(
    input_tokens=100,
    output_tokens=20,
    cached_tokens=30,
    cache_write_tokens=10,
    reasoning_tokens=5,
)
CALL = ToolCall(id="call_1", name="f", arguments='{"a": 1}')
NOTE = {"type": "url_citation", "url": "https://h/x", "title": "t"}
NOTE |= {"start_index": 0, "end_index": 1}
GOOGLE = {"extra_content": {"google": {"thought_signature": "s"}}}


def settings_of(**fields):
    body = {"model": "m", "input": "hi"} | fields
    return decode_responses(json.dumps(body).encode()).settings


SILENT = settings_of()


def reply(*parts, its=SILENT, extra=None, choice=None, **more):
    """Return the response of a completion with these parts."""
    value = Completion(
        id="c1",
        model="m-1",
        created=1_700_000_000,
        usage=USAGE,
        choices=(Choice(parts=parts, extra=choice or {}, **more),),
        extra=extra or {},
    )
    body = json.loads(encode_completion(value, its, now=NOW))
    Response.model_validate(body)
    return body


def encoder(its=SILENT) -> ResponseStreamEncoder:
    return ResponseStreamEncoder(settings=its, clock=lambda: NOW)


def streamed(*batches, its=SILENT) -> Reader:
    """Return what the events of these batches amount to."""
    writer = encoder(its)
    return Reader(b"".join(map(writer.encode, batches)) + writer.finish())


def stream_of(*chunks, reason="stop") -> Reader:
    end = (Finished(reason=reason), UsageReport(usage=USAGE))
    return streamed((STARTED,), *((chunk,) for chunk in chunks), end)


# Whole.


def test_a_response_is_whole():
    body = reply(
        ReasoningPart(text="hm", signature="s"),
        TextPart(text="Hel"),
        TextPart(text="lo"),
        CALL,
        finish_reason="tool_calls",
    )
    assert body["output"] == [
        {
            "id": "rs_c1_0",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "s",
        },
        {
            "id": "msg_c1_1",
            "type": "message",
            "status": "completed",
            "content": [
                {
                    "type": "output_text",
                    "annotations": [],
                    "logprobs": [],
                    "text": text,
                }
                for text in ("Hel", "lo")
            ],
            "role": "assistant",
        },
        {
            "id": "fc_c1_2",
            "type": "function_call",
            "status": "completed",
            "arguments": '{"a": 1}',
            "call_id": "call_1",
            "name": "f",
        },
    ]
    about = {key: body[key] for key in ("id", "object", "model", "status")}
    assert about == {
        "id": "resp_c1",
        "object": "response",
        "model": "m-1",
        "status": "completed",
    }
    assert (body["created_at"], body["completed_at"]) == (1_700_000_000, 1_700_000_123)
    assert body["incomplete_details"] is body["error"] is None
    assert body["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }
    assert Response.model_validate(body).output_text == "Hello"


def test_a_response_repeats_what_was_asked():
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    asked = {
        "instructions": "be kind",
        "max_output_tokens": 50,
        "max_tool_calls": 2,
        "metadata": {"team": "core"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low"},
        "safety_identifier": "s",
        "service_tier": "auto",
        "temperature": 0.5,
        "text": {"verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [tool],
        "top_p": 0.9,
        "user": "u",
        "store": False,
    }
    body = reply(TextPart(text="x"), its=settings_of(**asked))
    assert (
        body
        | asked
        | {
            "reasoning": {"effort": "low", "summary": None},
            "text": {"format": {"type": "text"}, "verbosity": "low"},
            "tools": [{"description": None, "strict": None, **tool}],
        }
        == body
    )


def test_a_response_says_what_holds_where_nothing_was_asked():
    body = reply(TextPart(text="x"))
    assert body["store"] is body["background"] is False
    assert (body["truncation"], body["tool_choice"]) == ("disabled", "auto")
    assert (body["tools"], body["metadata"]) == ([], {})
    assert body["parallel_tool_calls"] is True
    assert body["text"] == {"format": {"type": "text"}}
    assert body["temperature"] is body["previous_response_id"] is None


def test_the_service_tier_is_the_providers_where_it_says_one():
    its = settings_of(service_tier="auto")
    assert reply(its=its)["service_tier"] == "auto"
    assert reply(its=its, extra={"service_tier": "flex"})["service_tier"] == "flex"
    start = Started(id="c1", model="m", extra={"service_tier": "flex"})
    read = streamed((start,), (Finished(reason="stop"),), its=its)
    assert read.response["service_tier"] == "flex"


@pytest.mark.parametrize(
    ("reason", "detail"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter")],
)
def test_a_reply_that_was_cut_is_not_complete(reason, detail):
    body = reply(TextPart(text="x"), CALL, finish_reason=reason)
    read = stream_of(
        TextDelta(text="x"),
        ToolCallDelta(index=0, id="call_1", name="f", arguments='{"a": 1}'),
        reason=reason,
    )
    assert read.last["type"] == "response.incomplete"
    assert read.response == body
    assert body["status"] == "incomplete"
    assert body["completed_at"] is None
    assert body["incomplete_details"] == {"reason": detail}
    assert [item["status"] for item in body["output"]] == ["completed", "incomplete"]
    assert body["usage"]["total_tokens"] == 120


def test_an_id_that_is_a_responses_already_stays_what_it_is():
    value = Completion(id="resp_1", model="m", usage=USAGE, choices=())
    assert json.loads(encode_completion(value, SILENT))["id"] == "resp_1"


def test_a_refusal_is_part_of_the_message():
    body = reply(TextPart(text="Well,"), RefusalPart(text="no"))
    (item,) = body["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal"]
    assert item["content"][1]["refusal"] == "no"


def test_what_anthropic_has_redacted_is_told_apart_from_a_signature():
    parts = ReasoningPart(redacted="xyz"), ReasoningPart(signature="xyz")
    redacted, signed = reply(*parts)["output"]
    assert redacted["encrypted_content"] == "redacted_thinking:xyz"
    assert signed["encrypted_content"] == "xyz"
    assert redacted["summary"] == signed["summary"] == []


def test_what_must_go_back_with_a_call_comes_with_it():
    call = ToolCall(
        id="call_1", name="f", arguments="{}", extra=GOOGLE | {"name": "evil"}
    )
    (item,) = reply(call)["output"]
    assert item["extra_content"] == GOOGLE["extra_content"]
    assert item["name"] == "f"


def test_what_says_nothing_is_no_item():
    other = OpaquePart(format="anthropic", value={"type": "document"})
    empty = TextPart(text=""), RefusalPart(text=""), ReasoningPart()
    assert reply(other, *empty)["output"] == []
    assert reply(its=SILENT)["output"] == []


def test_annotations_and_probabilities_come_with_the_text():
    token = {"token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": []}
    chat = {"type": "url_citation", "url_citation": {**NOTE}}
    del chat["url_citation"]["type"]
    body = reply(
        TextPart(text="x"),
        TextPart(text="y", extra={"annotations": [NOTE], "citations": [5]}),
        choice={"annotations": [chat], "logprobs": {"content": [token]}},
    )
    first, second = body["output"][0]["content"]
    assert first["annotations"] == second["annotations"] == [NOTE]
    assert first["logprobs"] == [token]
    assert second["logprobs"] == []


def test_items_that_only_this_format_knows_come_as_they_are():
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    search |= {"action": {"type": "search", "query": "q"}}
    song = {"type": "output_audio", "data": "QUJD"}
    body = json.loads(
        encode_completion(
            Completion(
                id="c1",
                model="m",
                usage=USAGE,
                choices=(
                    Choice(
                        parts=(
                            OpaquePart(format="responses", value=search),
                            TextPart(text="x"),
                            OpaquePart(format="responses", value=song),
                        )
                    ),
                ),
            ),
            SILENT,
        )
    )
    assert body["output"][0] == search
    assert body["output"][1]["content"][1] == song
    read = stream_of(
        TextDelta(text="x"),
        TextDelta(text="", extra={"output_item": search}),
        TextDelta(text="y"),
    )
    assert [item["id"] for item in read.output] == ["msg_c1_0", "ws_1", "msg_c1_2"]
    assert read.output[1] == search


@given(completion=values.completions())
@settings(max_examples=100, deadline=None)
def test_the_sdk_accepts_every_reply(completion):
    body = encode_completion(completion, SILENT, now=NOW)
    response = Response.model_validate_json(body)
    first = completion.choices[0]
    assert response.output_text == first.text
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(c.call_id, c.name, c.arguments) for c in calls] == [
        (c.id, c.name, c.arguments) for c in first.tool_calls
    ]
    assert response.usage.total_tokens == completion.usage.total_tokens
    assert len({item.id for item in response.output}) == len(response.output)


# Streams.


def test_the_events_come_in_openais_order():
    read = stream_of(
        ReasoningDelta(text="h"),
        ReasoningDelta(text="m"),
        TextDelta(text="Hel"),
        TextDelta(text="lo"),
        ToolCallDelta(index=0, id="call_1", name="f"),
        ToolCallDelta(index=0, arguments='{"a": 1}'),
        reason="tool_calls",
    )
    assert read.names == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    begun = [e["item"] for e in read.events if e["type"].endswith("item.added")]
    assert [item.get("status") for item in begun] == [
        None,
        "in_progress",
        "in_progress",
    ]
    first = read.events[0]["response"]
    assert (first["status"], first["output"], first["usage"]) == (
        "in_progress",
        [],
        None,
    )
    assert first["completed_at"] is None
    assert read.response == reply(
        ReasoningPart(text="hm"),
        TextPart(text="Hello"),
        CALL,
        finish_reason="tool_calls",
    )


def test_a_refusal_after_a_text_is_the_next_part_of_the_same_message():
    chunks = TextDelta(text="Well,"), RefusalDelta(text="no"), TextDelta(text="but")
    read = stream_of(*chunks)
    (item,) = read.output
    kinds = [part["type"] for part in item["content"]]
    assert kinds == ["output_text", "refusal", "output_text"]
    assert "refusal.done" in read.names


def test_the_seal_of_a_thought_ends_it():
    read = stream_of(
        ReasoningDelta(text="a"),
        ReasoningDelta(signature="1"),
        ReasoningDelta(text="b"),
        ReasoningDelta(redacted="x"),
        ReasoningDelta(signature="2"),
        ReasoningDelta(),
    )
    thoughts = [(i["summary"], i.get("encrypted_content")) for i in read.output]
    said = {text: [{"type": "summary_text", "text": text}] for text in "ab"}
    assert thoughts == [
        (said["a"], "1"),
        (said["b"], None),
        ([], "redacted_thinking:x"),
        ([], "2"),
    ]


def test_calls_that_come_by_turns_keep_apart():
    read = stream_of(
        ToolCallDelta(index=0, id="call_1", name="f", arguments='{"a"'),
        ToolCallDelta(index=1, id="call_2", name="g", arguments="{"),
        ToolCallDelta(index=0, arguments=": 1}"),
        ToolCallDelta(index=1, arguments="}", extra=GOOGLE),
        TextDelta(text="x"),
        reason="tool_calls",
    )
    assert [i.get("arguments") for i in read.output] == ['{"a": 1}', "{}", None]
    assert read.output[1]["extra_content"] == GOOGLE["extra_content"]


def test_a_call_without_an_id_gets_one():
    read = stream_of(ToolCallDelta(index=3), reason="tool_calls")
    assert read.output[0]["call_id"] == "call_0"


def test_annotations_have_an_event_of_their_own():
    token = {"token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": []}
    read = stream_of(
        TextDelta(text="x", extra={"logprobs": {"content": [token]}}),
        TextDelta(text="", extra={"annotations": [NOTE]}),
        TextDelta(text="y"),
        TextDelta(text="", extra={"citations": [5]}),
    )
    (item,) = read.output
    assert item["content"][0]["annotations"] == [NOTE]
    assert item["content"][0]["logprobs"] == [token]
    assert item["content"][0]["text"] == "xy"
    deltas = [e for e in read.events if e["type"].endswith("text.delta")]
    assert [e["logprobs"] for e in deltas] == [[token], []]
    assert read.names.count("output_text.annotation.added") == 1


def test_other_choices_have_no_place():
    read = stream_of(
        TextDelta(text="a"), TextDelta(text="b", choice=1), TextDelta(text="c")
    )
    (item,) = read.output
    assert item["content"][0]["text"] == "ac"


@given(batches=values.streams(choices=2), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_stream_adds_up_however_it_is_cut(batches, data):
    chunks = [chunk for batch in batches for chunk in batch]
    whole = streamed(chunks)
    single = streamed(*([chunk] for chunk in chunks))
    assert streamed(*batches).events == single.events == whole.events

    def own(kind):
        return [c for c in chunks if isinstance(c, kind) and not c.choice]

    said = [p for i in whole.output for p in i.get("content", ())]
    assert "".join(p.get("text", "") for p in said) == "".join(
        c.text for c in own(TextDelta)
    )
    assert "".join(p.get("refusal", "") for p in said) == "".join(
        c.text for c in own(RefusalDelta)
    )
    thoughts = [p["text"] for i in whole.output for p in i.get("summary", ())]
    assert "".join(thoughts) == "".join(c.text for c in own(ReasoningDelta))
    calls = {}
    for delta in own(ToolCallDelta):
        kept = calls.setdefault(delta.index, [delta.id, delta.name, ""])
        kept[2] += delta.arguments
    found = [i for i in whole.output if i["type"] == "function_call"]
    assert [[i["call_id"], i["name"], i["arguments"]] for i in found] == [
        *calls.values()
    ]


# Failures.


def failed(error, *chunks):
    writer = encoder()
    raw = b"".join(writer.encode((chunk,)) for chunk in chunks) + writer.error(error)
    return events_of(raw)


def test_a_stream_that_fails_says_so_twice_as_openais_do():
    *_, error, last = failed(
        BadProviderResponse("cut off"),
        STARTED,
        TextDelta(text="whole"),
        ToolCallDelta(index=0, id="call_1", name="f", arguments="{"),
    )
    assert error["type"] == "error"
    assert error["error"] == {
        "message": "cut off",
        "type": "api_error",
        "param": None,
        "code": "bad_provider_response",
    }
    assert (error["code"], error["message"]) == ("bad_provider_response", "cut off")
    assert last["type"] == "response.failed"
    response = last["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "cut off"}
    assert [i["status"] for i in response["output"]] == ["completed", "incomplete"]
    assert response["usage"] is response["completed_at"] is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("slow down"), "rate_limit_exceeded"),
        (InvalidRequest("no"), "invalid_prompt"),
        (BadProviderResponse("cut off"), "server_error"),
    ],
)
def test_a_failed_response_has_one_of_openais_codes(error, code):
    assert failed(error, STARTED)[-1]["response"]["error"]["code"] == code


def test_a_stream_that_fails_before_it_begins_has_an_error_alone():
    (event,) = failed(RateLimited("slow down"))
    assert event["error"]["code"] == "rate_limited"
