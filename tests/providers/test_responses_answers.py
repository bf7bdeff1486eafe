from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    Completion,
    Finished,
    Message,
    OpaquePart,
    ReasoningDelta,
    ReasoningPart,
    RefusalPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)
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
    RequestTooLarge,
)
from duckservice.providers.origin import Origin
from duckservice.providers.responses.items import parts_of
from tests.providers import understanding
from tests.providers.responses_api import (
    COMPATIBLE,
    OPENAI,
    ask,
    call_item,
    sent,
)
from tests.providers.understanding import Said

# Whole answers


def message(*content) -> dict:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}


def text_of(text, **fields) -> dict:
    return {"type": "output_text", "text": text, "annotations": [], **fields}


def response(*output, **fields) -> dict:
    return {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5-x",
        "created_at": 1700000000.0,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "output": list(output),
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 6},
            "total_tokens": 30,
        },
    } | fields


def decoded(body: dict, dialect=OPENAI) -> Completion:
    return dialect.decode(json.dumps(body).encode(), Origin("asked", "duck-1"))


THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [
        {"type": "summary_text", "text": "First. "},
        {"type": "summary_text", "text": "Then."},
    ],
    "encrypted_content": "gAAAAx",
}
CALL = call_item("call_1", "f", '{"a":1}') | {"id": "fc_1", "status": "completed"}


def test_an_answer_is_read_in_the_order_of_its_items():
    citation = {"type": "url_citation", "url": "https://a"}
    said = decoded(
        response(
            THOUGHT,
            message(text_of("Hel"), text_of("lo", annotations=[citation])),
            CALL | {"namespace": "n"},
            service_tier="default",
        )
    )
    (choice,) = said.choices
    assert said.id == "resp_1"
    assert said.model == "gpt-5-x"
    assert said.created == 1700000000
    assert said.extra == {"service_tier": "default"}
    assert choice.parts == (
        ReasoningPart(text="First. Then.", signature="gAAAAx"),
        TextPart(text="Hel"),
        TextPart(text="lo", extra={"annotations": [citation]}),
        ToolCall(id="call_1", name="f", arguments='{"a":1}', extra={"namespace": "n"}),
    )
    assert (choice.finish_reason, choice.native_finish_reason) == (
        "tool_calls",
        "completed",
    )
    assert said.usage == Usage(
        input_tokens=20,
        output_tokens=10,
        cached_tokens=8,
        cache_write_tokens=4,
        reasoning_tokens=6,
    )


def test_a_refusal_and_a_thought_told_openly():
    thought = {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    refusal = {"type": "refusal", "refusal": "No."}
    (choice,) = decoded(response(thought, message(refusal))).choices
    assert choice.parts == (ReasoningPart(text="Hm."), RefusalPart(text="No."))
    assert choice.finish_reason == "stop"


def test_a_thought_of_which_nothing_is_told_is_no_part():
    silent = {"type": "reasoning", "id": "rs_1", "summary": []}
    (choice,) = decoded(response(silent, message(text_of("Hi")))).choices
    assert choice.parts == (TextPart(text="Hi"),)


@pytest.mark.parametrize(
    ("fields", "reason", "native"),
    [
        ({}, "stop", "completed"),
        ({"status": None}, "stop", None),
        (
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            "length",
            "incomplete:max_output_tokens",
        ),
        (
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "content_filter"},
            },
            "content_filter",
            "incomplete:content_filter",
        ),
        ({"status": "incomplete"}, "length", "incomplete"),
    ],
)
def test_the_reason_for_the_end(fields, reason, native):
    for end in (
        decoded(response(message(text_of("Hi")), **fields)).choices[0],
        streamed(closing(message(text_of("Hi")), **fields))[-2],
    ):
        if isinstance(end, Finished):
            assert end.reason == reason
            # An event says the status too.
            assert end.native_reason == (native or "completed")
        else:
            assert end.finish_reason == reason
            assert end.native_finish_reason == native


def test_a_call_that_was_cut_off_ends_by_length():
    details = {"reason": "max_output_tokens"}
    body = response(CALL, status="incomplete", incomplete_details=details)
    assert decoded(body).choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws_1", "action": {"query": "q"}},
        {"type": "mcp_call", "id": "mcp_1", "output": "x"},
        {"type": "code_interpreter_call", "code": "1+1"},
        {"type": "image_generation_call", "result": "AAAA"},
        {"type": "something of next year"},
        {"no": "type"},
    ],
)
def test_what_only_the_format_knows_is_kept_whole(item):
    (choice,) = decoded(response(item, message(text_of("Hi")))).choices
    assert choice.parts == (
        OpaquePart(format="responses", value=item),
        TextPart(text="Hi"),
    )
    assert choice.finish_reason == "stop"
    chunks = streamed(
        created(),
        event("output_item.added", output_index=0, item=item),
        event("output_item.done", output_index=0, item=item),
        closing(item),
    )
    assert chunks[1:-2] == [TextDelta(text="", extra={"output_item": item})]


def test_a_call_of_a_custom_tool_waits_for_the_client():
    item = {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}
    assert decoded(response(item)).choices[0].finish_reason == "tool_calls"
    chunks = streamed(event("output_item.done", item=item), closing(item))
    assert [c.reason for c in chunks if isinstance(c, Finished)] == ["tool_calls"]


def test_what_is_not_said_is_made_up_or_estimated():
    call = {"type": "function_call", "name": "f", "arguments": {"a": 1}}
    body = {"output": [call, dict(call), {"type": "message", "content": "Hi"}]}
    said = decoded(body)
    assert said.id == "duck-1"
    assert said.model == "asked"
    assert said.usage == Usage(estimated=True)
    first, second = said.choices[0].tool_calls
    assert first.id != second.id
    assert first.arguments == '{"a":1}'
    assert said.text == "Hi"


def test_probabilities_come_as_a_chats_do():
    token = {"token": "Hi", "logprob": -0.1, "bytes": [72], "top_logprobs": []}
    said = decoded(response(message(text_of("Hi", logprobs=[token]))))
    assert said.choices[0].extra == {"logprobs": {"content": [token]}}
    chunks = streamed(
        created(),
        event("output_text.delta", output_index=0, delta="Hi", logprobs=[token]),
        closing(message(text_of("Hi"))),
    )
    assert chunks[1] == TextDelta(text="Hi", extra={"logprobs": {"content": [token]}})


# Errors


FAILURES = [
    ({"code": "server_error", "message": "x"}, ProviderError, True, 500),
    ({"code": "rate_limit_exceeded", "message": "x"}, RateLimited, True, 429),
    (
        {"code": "rate_limit_exceeded", "message": "Request too large for gpt-4o"},
        RateLimited,
        False,
        429,
    ),
    ({"code": "insufficient_quota", "message": "x"}, QuotaExceeded, False, 429),
    ({"code": "invalid_prompt", "message": "no JSON"}, InvalidRequest, False, 400),
    (
        {"code": "invalid_prompt", "message": "Your prompt was flagged as harmful."},
        ContentFiltered,
        False,
        400,
    ),
    ({"code": "bio_policy", "message": "x"}, ContentFiltered, False, 400),
    (
        {"code": "image_content_policy_violation", "message": "x"},
        ContentFiltered,
        False,
        400,
    ),
    ({"code": "invalid_base64_image", "message": "x"}, InvalidRequest, False, 400),
    ({"code": "image_file_too_large", "message": "x"}, RequestTooLarge, False, 413),
    (
        {"code": "context_length_exceeded", "message": "x"},
        ContextLengthExceeded,
        False,
        400,
    ),
    ({"code": "model_not_found", "message": "x"}, ModelNotFound, False, 404),
    ({"code": "invalid_api_key", "message": "x"}, ProviderAuthError, False, 401),
    ({"code": "vector_store_timeout", "message": "x"}, ProviderTimeout, True, 504),
    ({"code": "of next year", "message": "x"}, ProviderError, True, None),
    ({"code": 503, "message": "x"}, ProviderError, True, 503),
    ("a text", ProviderError, True, None),
]


@pytest.mark.parametrize(("error", "kind", "retryable", "status"), FAILURES)
@pytest.mark.parametrize("way", ["whole", "failed", "event", "flat", "nameless"])
def test_an_error_in_a_200_is_of_the_right_kind(error, kind, retryable, status, way):
    body = response(status="failed", error=error)
    with pytest.raises(DuckError) as caught:
        match way:
            case "whole":
                decoded(body)
            case "failed":
                streamed(created(), event("failed", response=body))
            case "event":
                streamed(created(), {"type": "error", "error": error})
            case "flat":
                fields = error if isinstance(error, dict) else {"message": error}
                streamed(created(), {"type": "error", **fields})
            case "nameless":
                streamed(created(), {"error": error})
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert caught.value.provider == "duck"
    assert caught.value.upstream_status == status


def test_the_wait_that_an_error_names_is_kept():
    error = {"code": "rate_limit_exceeded", "message": "Please try again in 1.5s."}
    with pytest.raises(RateLimited) as caught:
        streamed(created(), {"type": "error", "error": error})
    assert caught.value.retry_after == 1.5


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_came_to_nothing_is_an_error(status):
    with pytest.raises(ProviderError):
        decoded(response(message(text_of("Hi")), status=status))
    with pytest.raises(ProviderError):
        streamed(created(), event(status, response=response(status=status)))
    with pytest.raises(ProviderError):
        streamed(created(), event(status))


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_is_not_finished_is_no_answer(status):
    with pytest.raises(BadProviderResponse, match="not finished"):
        decoded(response(message(text_of("Hi")), status=status))


def test_what_came_before_an_error_is_not_lost():
    stream = OPENAI.open_stream()
    body = sse(
        created(),
        event("output_text.delta", output_index=0, delta="Hi"),
        {"type": "error", "code": "server_error", "message": "x"},
    )
    assert stream.feed(body)[-1] == TextDelta(text="Hi")
    with pytest.raises(ProviderError):
        stream.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"<html></html>",
        b'{"output":null}',
        b'{"output":{}}',
        b'{"output":[1]}',
        b'{"output":["text"]}',
        b'{"output":[{"type":"message","content":[{"type":"output_text"}]}]}',
        b'{"output":[{"type":"message","content":[{"type":"refusal","refusal":3}]}]}',
        b'{"output":[' + b"{}," * 5000 + b"{}]}",
        b'{"output":[' + b"[" * 100_000,
        b'{"output":[]',
        b'{"output":[{"type":"\xff"}]}',
    ],
)
def test_a_body_that_is_no_answer_is_said_to_be_none(body):
    with pytest.raises(BadProviderResponse) as caught:
        OPENAI.decode(body)
    assert caught.value.retryable
    assert len(str(caught.value)) < 300


WRONG = st.sampled_from(
    [None, 0, -1, 1.5, "x", True, [], {}, [1], {"a": 1}, "💥", [{}]]
)


@settings(max_examples=300)
@given(st.data())
def test_wrong_types_anywhere_give_an_answer_or_say_that_it_is_none(data):
    item = data.draw(st.sampled_from([THOUGHT, message(text_of("Hi")), CALL]))
    whole = json.loads(json.dumps(response(item)))
    field = data.draw(st.sampled_from([*whole, "item"]))
    if field == "item":
        inner = data.draw(st.sampled_from([*whole["output"][0]]))
        whole["output"][0][inner] = data.draw(WRONG)
    else:
        whole[field] = data.draw(WRONG)
    done = event("output_item.done", output_index=0, item=whole["output"])
    if isinstance(whole["output"], list) and whole["output"]:
        done["item"] = whole["output"][0]
    for attempt in (
        lambda: decoded(whole),
        lambda: streamed(created(), done, event("completed", response=whole)),
    ):
        with suppress(DuckError):
            attempt()


# Streams


def event(kind, **fields) -> dict:
    return {"type": f"response.{kind}", "sequence_number": 0, **fields}


def created(**fields) -> dict:
    started = {"id": "resp_1", "model": "gpt-5-x", "created_at": 1700000000}
    return event("created", response=started | {"status": "in_progress"} | fields)


def closing(*output, **fields) -> dict:
    body = response(*output, **fields)
    kind = "incomplete" if body["status"] == "incomplete" else "completed"
    return event(kind, response=body)


def sse(*events) -> bytes:
    return b"".join(
        f"event: {each.get('type')}\ndata: {json.dumps(each)}\n\n".encode()
        for each in events
    )


def streamed(*events, dialect=OPENAI) -> list:
    stream = dialect.open_stream(Origin("asked", "duck-1"))
    chunks = stream.feed(sse(*events))
    chunks += stream.close()
    understanding.of_chunks(chunks)  # which looks after their order
    assert stream.complete
    return chunks


WHOLE = (
    created(),
    event("in_progress", response={"id": "resp_1"}),
    event("output_item.added", output_index=0, item={"type": "reasoning", "id": "r"}),
    event("reasoning_summary_part.added", output_index=0),
    event("reasoning_summary_text.delta", output_index=0, delta="First. "),
    event("reasoning_summary_text.delta", output_index=0, delta="Then."),
    event("output_item.done", output_index=0, item=THOUGHT),
    event("output_item.added", output_index=1, item=message()),
    event("content_part.added", output_index=1),
    event("output_text.delta", output_index=1, content_index=0, delta="Hé"),
    event("output_text.delta", output_index=1, content_index=0, delta="llo"),
    event("output_text.done", output_index=1, text="Héllo"),
    event("output_item.done", output_index=1, item=message(text_of("Héllo"))),
    event("output_item.added", output_index=2, item=CALL | {"arguments": ""}),
    event("function_call_arguments.delta", output_index=2, delta='{"a"'),
    event("function_call_arguments.delta", output_index=2, delta=":1}"),
    event("function_call_arguments.done", output_index=2, arguments='{"a":1}'),
    event("output_item.done", output_index=2, item=CALL),
    closing(THOUGHT, message(text_of("Héllo")), CALL),
)
USED = Usage(
    input_tokens=20,
    output_tokens=10,
    cached_tokens=8,
    cache_write_tokens=4,
    reasoning_tokens=6,
)


def test_a_stream_is_read_as_it_comes():
    assert streamed(*WHOLE) == [
        Started(id="resp_1", model="gpt-5-x", created=1700000000),
        ReasoningDelta(text="First. "),
        ReasoningDelta(text="Then."),
        ReasoningDelta(signature="gAAAAx"),
        TextDelta(text="Hé"),
        TextDelta(text="llo"),
        ToolCallDelta(index=0, id="call_1", name="f"),
        ToolCallDelta(index=0, arguments='{"a"'),
        ToolCallDelta(index=0, arguments=":1}"),
        Finished(reason="tool_calls", native_reason="completed"),
        UsageReport(usage=USED),
    ]


def test_every_cut_of_the_bytes_gives_the_same_chunks():
    body = sse(*WHOLE)
    wanted = streamed(*WHOLE)
    for at in range(len(body)):
        stream = OPENAI.open_stream()
        chunks = stream.feed(body[:at]) + stream.feed(body[at:]) + stream.close()
        assert chunks == wanted
    stream = OPENAI.open_stream()
    chunks = [chunk for i in range(len(body)) for chunk in stream.feed(body[i : i + 1])]
    assert chunks + stream.close() == wanted
    assert stream.usage_seen


def test_a_stream_without_its_last_event_is_never_complete():
    body = sse(*WHOLE[:-1]) + b"data: [DONE]\n\n"
    for size in (*range(0, len(body), 37), len(body)):
        stream = OPENAI.open_stream()
        stream.feed(body[:size])
        assert not stream.complete
        with pytest.raises(BadProviderResponse):
            stream.close()


def test_what_comes_behind_the_end_is_not_read():
    stream = OPENAI.open_stream()
    chunks = stream.feed(sse(*WHOLE, *WHOLE) + b"data: [DONE]\n\n{")
    assert stream.ended
    assert chunks + stream.close() == streamed(*WHOLE)


def told(*events) -> Said:
    (said,), _ = understanding.of_chunks(streamed(*events))
    return said


@pytest.mark.parametrize("skipped", ["delta", "added", "done", "all"])
def test_what_is_told_only_once_is_not_lost(skipped):
    """Everything is told in pieces, at an item's end, and at the end of all."""
    kept = {
        "delta": [e for e in WHOLE if not e["type"].endswith("delta")],
        "added": [e for e in WHOLE if not e["type"].endswith("added")],
        "done": [e for e in WHOLE if not e["type"].endswith("done")],
        "all": [WHOLE[-1]],
    }[skipped]
    said = told(*kept)
    assert said.reasoning == "First. Then."
    assert said.text == "Héllo"
    assert said.tool_calls() == [("call_1", "f", {"a": 1})]
    assert said.finish_reason == "tool_calls"
    signatures = [c for c in streamed(*kept) if getattr(c, "signature", None)]
    assert signatures == [ReasoningDelta(signature="gAAAAx")]


def test_what_the_end_of_an_item_has_beyond_its_pieces_is_told_then():
    said = told(
        created(),
        event("output_text.delta", output_index=0, delta="He"),
        event("output_item.done", output_index=0, item=message(text_of("Hello"))),
        event("output_text.delta", output_index=1, delta="Other"),
        event(
            "output_item.done", output_index=1, item=message(text_of("Text, longer"))
        ),
        closing(message(text_of("Hello")), message(text_of("Text, longer"))),
    )
    # A text that is another one cannot be called back.
    assert said.text == "HelloOther"


def test_arguments_said_with_the_call_are_not_said_twice():
    said = told(
        created(),
        event("output_item.added", output_index=0, item=CALL),
        event("function_call_arguments.delta", output_index=0, delta='{"a":1}'),
        event("output_item.done", output_index=0, item=CALL),
        closing(CALL),
    )
    assert said.tool_calls() == [("call_1", "f", {"a": 1})]


@pytest.mark.parametrize("places", ["output_index", "item_id", "none"])
def test_calls_are_told_apart_however_the_server_names_them(places):
    calls = [
        call_item(f"call_{n}", f"f{n}", json.dumps({"n": n})) | {"id": f"fc_{n}"}
        for n in range(3)
    ]
    if places == "none":
        calls = [{k: v for k, v in call.items() if k != "id"} for call in calls]
    events = [created()]
    for n, call in enumerate(calls):
        where = {
            "output_index": {"output_index": n},
            "item_id": {"item_id": f"fc_{n}"},
            "none": {"item_id": "never told before"},
        }[places]
        events += [
            event("output_item.added", item=call | {"arguments": ""}, **where),
            event("function_call_arguments.delta", delta=call["arguments"], **where),
        ]
        if places == "none":
            events.append(event("output_item.done", item=call))
    if places != "none":
        events += [
            event("output_item.done", item=call, output_index=n)
            for n, call in enumerate(calls)
        ]
    said = told(*events, closing(*calls))
    assert said.tool_calls() == [(f"call_{n}", f"f{n}", {"n": n}) for n in range(3)]


def test_a_server_that_gives_all_items_one_place_is_understood():
    said = told(
        *({**e, "output_index": 0} if "output_index" in e else e for e in WHOLE)
    )
    assert said.text == "Héllo"
    assert said.tool_calls() == [("call_1", "f", {"a": 1})]


def test_items_that_share_a_place_are_told_apart_by_their_kind():
    thought = {key: THOUGHT[key] for key in ("type", "summary")}
    said = told(
        created(),
        event("output_item.added", output_index=0, item={"type": "reasoning"}),
        event("output_item.added", output_index=0, item={"type": "message"}),
        event("output_item.done", output_index=0, item=thought),
        event("output_text.delta", output_index=0, delta="Hi"),
        closing(thought, {"type": "message", "content": [text_of("Hi")]}),
    )
    assert (said.reasoning, said.text) == ("First. Then.", "Hi")


def test_items_without_any_name_follow_one_another():
    events = []
    for text in ("One.", "Two."):
        item = {"type": "message", "content": [text_of(text)]}
        events += [
            event("output_text.delta", delta=text[:2]),
            event("output_item.done", item=item),
        ]
    chunks = streamed(created(), *events, closing())
    texts = [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)]
    assert texts == ["On", "e.", "Tw", "o."]


def test_arguments_go_on_as_they_come_though_their_item_has_no_name():
    call = {key: CALL[key] for key in ("type", "call_id", "name")}
    chunks = streamed(
        created(),
        event("output_item.added", item=call),
        event("function_call_arguments.delta", delta='{"a"'),
        event("function_call_arguments.delta", delta=":1}"),
        event("output_item.done", item=CALL),
        closing(CALL),
    )
    pieces = [chunk.arguments for chunk in chunks if isinstance(chunk, ToolCallDelta)]
    assert pieces == ["", '{"a"', ":1}"]


def test_an_item_that_is_done_twice_is_told_once():
    done = [e for e in WHOLE if e["type"].endswith("item.done")]
    assert streamed(*WHOLE[:-1], *done, WHOLE[-1]) == streamed(*WHOLE)


def test_a_message_that_comes_whole_has_its_annotations():
    citation = {"type": "url_citation", "url": "https://a"}
    item = message(text_of("Hi", annotations=[citation]), text_of(" you"))
    chunks = streamed(created(), event("output_item.done", item=item), closing(item))
    assert chunks[1:3] == [
        TextDelta(text="Hi", extra={"annotations": [citation]}),
        TextDelta(text=" you"),
    ]


def test_a_call_waits_for_the_client_though_its_end_is_not_told():
    said = told(
        created(),
        event("output_item.added", output_index=0, item=CALL | {"arguments": ""}),
        event("function_call_arguments.delta", output_index=0, delta="{}"),
        event("completed", response={"status": "completed"}),
    )
    assert said.finish_reason == "tool_calls"
    assert said.tool_calls() == [("call_1", "f", {})]


def test_a_refusal_is_streamed_as_one():
    refusal = {"type": "refusal", "refusal": "No way."}
    said = told(
        created(),
        event("refusal.delta", output_index=0, delta="No"),
        event("refusal.delta", output_index=0, delta=" way."),
        event("refusal.done", output_index=0, refusal="No way."),
        event("output_item.done", output_index=0, item=message(refusal)),
        closing(message(refusal)),
    )
    assert said == Said(
        refusal="No way.", finish_reason="stop", native_finish_reason="completed"
    )


def test_an_annotation_is_told_when_it_comes():
    citation = {"type": "url_citation", "url": "https://a"}
    chunks = streamed(
        created(),
        event("output_text.delta", output_index=0, delta="Hi"),
        event("output_text.annotation.added", output_index=0, annotation=citation),
        event(
            "output_item.done",
            output_index=0,
            item=message(text_of("Hi", annotations=[citation])),
        ),
        closing(),
    )
    assert chunks[1:3] == [
        TextDelta(text="Hi"),
        TextDelta(text="", extra={"annotations": [citation]}),
    ]
    assert len(chunks) == 5


def test_keepalives_and_events_of_the_future_are_passed_over():
    stream = OPENAI.open_stream()
    chunks = stream.feed(
        b": OPENROUTER PROCESSING\n\n: keepalive\n\n"
        + sse({"type": "keepalive"}, created(), event("of.next.year", delta="x"))
        + b"data: [DONE]\n\n"  # which means nothing here
        + sse(closing(message(text_of("Hi"))))
    )
    chunks += stream.close()
    assert [c.text for c in chunks if isinstance(c, TextDelta)] == ["Hi"]


def test_a_stream_that_says_no_names_and_no_usage_gets_ours():
    stream = COMPATIBLE.open_stream(Origin("asked", "duck-1"))
    chunks = stream.feed(
        sse(
            event("output_text.delta", delta="Hello"),
            event("output_item.added", item={"type": "function_call", "name": "f"}),
            event("completed", response={"status": "completed"}),
        )
    )
    chunks += stream.close()
    assert chunks[0] == Started(id="duck-1", model="asked")
    (call,) = [c for c in chunks if isinstance(c, ToolCallDelta)]
    assert "duck-1" in (call.id or "")
    assert stream.complete
    assert not stream.usage_seen
    assert stream.reply_characters == len("Hello") + len("f")


@pytest.mark.parametrize(
    "data",
    [
        "nonsense",
        "[]",
        "{}",
        "null",
        '{"type":3}',
        '{"type":"response.output_text.delta","output_index":"x"}',
        '{"type":"response.completed","response":[]}',
        '{"type":"response.completed","response":{"output":[3]}}',
        '{"type":"response.output_item.done","item":7}',
        '{"type":"response.created"',
    ],
)
def test_an_event_that_makes_no_sense_ends_the_stream(data):
    stream = OPENAI.open_stream()
    stream.feed(f"data: {data}\n\n".encode())
    assert stream.ended
    with pytest.raises(BadProviderResponse):
        stream.close()


def test_items_without_end_are_not_remembered():
    stream = OPENAI.open_stream()
    for n in range(20_000):
        stream.feed(sse(event("output_item.added", output_index=n, item={"type": "x"})))
        if stream.ended:
            break
    with pytest.raises(BadProviderResponse, match="too many items"):
        stream.close()


def test_an_event_may_hold_a_whole_picture():
    picture = {"type": "image_generation_call", "result": "A" * 3_000_000}
    chunks = streamed(created(), event("output_item.done", item=picture), closing())
    assert chunks[1] == TextDelta(text="", extra={"output_item": picture})


def test_half_a_surrogate_pair_breaks_nothing():
    stream = OPENAI.open_stream()
    body = sse(created(), event("output_text.delta", delta="XX"), closing())
    chunks = stream.feed(body.replace(b"XX", b"\\ud83d"))
    with pytest.raises(BadProviderResponse):
        chunks += stream.close()


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("text"), st.lists(st.text(), max_size=4)),
            st.tuples(st.just("thought"), st.lists(st.text(), max_size=4)),
            st.tuples(st.just("call"), st.lists(st.text(), max_size=4)),
        ),
        max_size=6,
    ),
    st.data(),
)
def test_a_stream_says_what_the_whole_answer_says(outline, data):
    """However much of it comes in pieces: the item's end has the rest."""
    events, output = [created()], []
    for index, (kind, pieces) in enumerate(outline):
        item, delta = item_of(kind, "".join(pieces), index)
        output.append(item)
        events.append(event("output_item.added", output_index=index, item=begun(item)))
        sent_pieces = pieces[: data.draw(st.integers(0, len(pieces)))]
        events += [event(delta, output_index=index, delta=p) for p in sent_pieces]
        events.append(event("output_item.done", output_index=index, item=item))
    events.append(closing(*output))
    (of_stream,), used = understanding.of_chunks(streamed(*events))
    (of_whole,), whole_used = understanding.of_completion(
        decoded(events[-1]["response"])
    )
    assert of_stream == of_whole
    assert used == whole_used


def item_of(kind, text, index) -> tuple[dict, str]:
    match kind:
        case "text":
            return message(text_of(text)) | {"id": f"m{index}"}, "output_text.delta"
        case "thought":
            summary = [{"type": "summary_text", "text": text}]
            item = {"type": "reasoning", "id": f"r{index}", "summary": summary}
            return item, "reasoning_summary_text.delta"
        case _:
            item = call_item(f"c{index}", "f", text) | {"id": f"f{index}"}
            return item, "function_call_arguments.delta"


def begun(item: dict) -> dict:
    empty = {"content": [], "summary": [], "arguments": ""}
    return {key: empty.get(key, value) for key, value in item.items()}


def test_what_is_read_goes_back_as_it_came():
    parts = [part for item in (THOUGHT, CALL) for part in parts_of(item, "x")]
    message = Message(role="assistant", parts=tuple(parts))
    (thought, call) = sent(ask(messages=(message,)))["input"]
    assert thought["encrypted_content"] == THOUGHT["encrypted_content"]
    assert call == call_item("call_1", "f", '{"a":1}')
