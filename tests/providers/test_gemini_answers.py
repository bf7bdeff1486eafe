from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    Finished,
    ImagePart,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.errors import (
    BadProviderResponse,
    ContentFiltered,
    DuckError,
    ProviderError,
)
from duckservice.gateway.wire import anthropic_reply, openai_reply
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.gemini.signatures import signed
from tests.providers import understanding
from tests.providers.gemini import (
    BLOCKED,
    ERRORS,
    GEMINI,
    ORIGIN,
    TWO_CALLS,
    answer,
    decoded,
    fed,
    sent,
    streamed,
)

# Answers


def test_an_answer_is_a_completion():
    got = decoded(answer({"text": "Hel"}, {"text": "lo"}))
    assert (got.id, got.model, got.text) == ("r1", "m-1", "Hello")
    assert got.usage == Usage(input_tokens=3, output_tokens=2)
    [choice] = got.choices
    assert (choice.finish_reason, choice.native_finish_reason) == ("stop", "STOP")


def test_an_answer_that_does_not_name_itself_is_named_by_who_asked():
    got = decoded({"candidates": [{"content": {"parts": [{"text": "a"}]}}]})
    assert (got.id, got.model) == (ORIGIN.answer_id, ORIGIN.model)
    assert got.usage.estimated
    assert got.choices[0].native_finish_reason is None


def test_thoughts_are_reasoning_and_never_text():
    parts = ({"text": "hm", "thought": True}, {"text": "a", "thought": False})
    got = decoded(answer(*parts))
    assert (got.text, got.choices[0].reasoning) == ("a", "hm")
    chunks = streamed(answer(*parts))
    assert ReasoningDelta(text="hm") in chunks
    assert TextDelta(text="a") in chunks


def test_totals_include_their_parts():
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "toolUsePromptTokenCount": 7,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 147,
        "candidatesTokensDetails": [
            {"modality": "TEXT", "tokenCount": 6},
            {"modality": "IMAGE", "tokenCount": 4},
        ],
    }
    body = answer({"text": "a"}, usageMetadata=usage)
    expected = Usage(
        input_tokens=107,
        output_tokens=40,
        cached_tokens=40,
        reasoning_tokens=30,
        image_tokens=4,
    )
    assert decoded(body).usage == expected
    assert expected.total_tokens == usage["totalTokenCount"]
    assert streamed(body)[-1] == UsageReport(usage=expected)


def test_calls_without_ids_get_unique_ones():
    [choice] = decoded(answer(*TWO_CALLS)).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.native_finish_reason == "STOP"
    assert [(c.name, c.arguments) for c in choice.tool_calls] == [
        ("f", '{"a":1}'),
        ("f", "{}"),
    ]
    first, second = choice.tool_calls
    assert (first.id, second.id) == ("call_r1_0_0", "call_r1_0_1")
    assert first.extra == signed("c2ln")
    assert not second.extra


@pytest.mark.parametrize("answer_id", [None, "ü" * 9, "x" * 99])
def test_a_made_up_id_is_one_that_any_provider_takes(answer_id):
    body = answer(*TWO_CALLS, responseId=answer_id)
    for call in decoded(body).choices[0].tool_calls:
        assert len(call.id) <= 40
        assert all(c.isascii() and (c.isalnum() or c in "_-") for c in call.id)


def test_ids_that_google_gives_are_kept():
    call = {"functionCall": {"id": "abc", "name": "f", "args": {}}}
    assert decoded(answer(call)).choices[0].tool_calls[0].id == "abc"
    [delta] = [c for c in streamed(answer(call)) if isinstance(c, ToolCallDelta)]
    assert delta.id == "abc"


def test_a_stream_says_the_same_as_the_whole():
    parts = (
        {"text": "think", "thought": True},
        {"text": "say"},
        *TWO_CALLS,
    )
    pieces = [answer(part, finish=None) for part in parts]
    pieces[-1]["candidates"][0]["finishReason"] = "STOP"
    chunks = streamed(*pieces)
    assert understanding.of_chunks(chunks) == understanding.of_completion(
        decoded(answer(*parts))
    )
    assert chunks[0] == Started(id="r1", model="m-1")
    usage = UsageReport(usage=Usage(input_tokens=3, output_tokens=2))
    assert chunks[-2:] == [Finished(reason="tool_calls", native_reason="STOP"), usage]


def test_an_array_of_pieces_is_one_answer():
    pieces = [answer({"text": "a"}, finish=None), answer({"text": "b"})]
    assert decoded(pieces).text == "ab"


def test_every_candidate_is_a_choice():
    body = answer({"text": "a"})
    body["candidates"].append(
        {
            "index": 1,
            "content": {"parts": [{"text": "b"}]},
            "finishReason": "MAX_TOKENS",
        }
    )
    whole = understanding.of_completion(decoded(body))
    assert [said.text for said in whole[0]] == ["a", "b"]
    assert [said.finish_reason for said in whole[0]] == ["stop", "length"]
    assert understanding.of_chunks(streamed(body)) == whole


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "stop"),
        ("OTHER", "stop"),
        ("A_WORD_OF_THE_FUTURE", "stop"),
    ],
)
def test_why_it_stopped_is_told_in_both_words(native, reason):
    bare = {"candidates": [{"finishReason": native}]}
    [choice] = decoded(bare).choices
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, native)
    assert streamed(bare)[-1] == Finished(reason=reason, native_reason=native)


def test_the_last_reason_counts():
    pieces = [
        answer({"text": "a"}, finish="STOP"),
        answer({"text": "b"}, finish="STOP"),
        answer(finish="RECITATION"),
    ]
    chunks = streamed(*pieces)
    assert [c for c in chunks if isinstance(c, Finished)] == [
        Finished(reason="content_filter", native_reason="RECITATION")
    ]


def test_a_prompt_that_is_blocked_is_an_error():
    for understand in (decoded, streamed):
        with pytest.raises(
            ContentFiltered, match=r"blocked \(SAFETY\) Reasons"
        ) as caught:
            understand(BLOCKED)
        assert caught.value.provider == "duck"
        assert not caught.value.retryable


def test_ratings_of_a_prompt_block_nothing():
    feedback = {"safetyRatings": [{"category": "c", "probability": "LOW"}]}
    body = answer({"text": "a"}, promptFeedback=feedback)
    assert decoded(body).text == "a"
    assert TextDelta(text="a") in streamed({"promptFeedback": feedback}, body)


def test_pictures_of_a_model_are_parts():
    data = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    [part] = decoded(answer(data)).choices[0].parts
    assert part == ImagePart(data="QUJD", media_type="image/png")
    [_, delta, *_] = streamed(answer(data))
    assert delta.extra["images"][0]["image_url"]["url"] == "data:image/png;base64,QUJD"


def test_a_large_picture_streams_whole():
    data = "QUJD" * 1_000_000
    [_, delta, *_] = streamed(
        answer({"inlineData": {"mimeType": "image/png", "data": data}})
    )
    assert delta.extra["images"][0]["image_url"]["url"].endswith(data)


def test_what_is_said_of_an_answer_is_kept():
    body = answer({"text": "a"})
    body["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["q"]}
    extra = {"grounding_metadata": {"webSearchQueries": ["q"]}}
    assert decoded(body).choices[0].extra == extra
    assert TextDelta(text="", extra=extra) in streamed(body)


def test_steps_of_googles_own_tools_are_left_out():
    steps = (
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        {"text": "It is 1."},
    )
    assert decoded(answer(*steps)).text == "It is 1."


def growing(will_continue=True, **call) -> dict:
    if will_continue:
        call["willContinue"] = True
    return answer({"functionCall": call}, finish=None)


def test_arguments_that_come_piece_by_piece_are_put_together():
    pieces = [
        growing(name="f"),
        growing(partialArgs=[{"jsonPath": "$.a.b", "stringValue": "Bos"}]),
        growing(partialArgs=[{"jsonPath": "$.a.b", "stringValue": "ton"}]),
        growing(
            partialArgs=[
                {"jsonPath": "$.list[0]", "numberValue": 2},
                {"jsonPath": "$.list[1]", "numberValue": 3},
                {"jsonPath": "$['odd name'][0].x", "boolValue": True},
                {"jsonPath": "$.none", "nullValue": "NULL_VALUE"},
            ]
        ),
        growing(will_continue=False),
        growing(will_continue=False, name="g", args={}),
        answer(finish="STOP"),
    ]
    calls = [c for c in streamed(*pieces) if isinstance(c, ToolCallDelta)]
    assert [(c.index, c.name, json.loads(c.arguments)) for c in calls] == [
        (
            0,
            "f",
            {
                "a": {"b": "Boston"},
                "list": [2, 3],
                "odd name": [{"x": True}],
                "none": None,
            },
        ),
        (1, "g", {}),
    ]


@pytest.mark.parametrize(
    "path", ["", "a", "$", "$.a[1]", "$.a[99999]", "$..a", "$.a[-1]", 7]
)
def test_arguments_that_name_no_place_are_no_answer(path):
    pieces = [growing(name="f"), growing(partialArgs=[{"jsonPath": path}])]
    with pytest.raises(BadProviderResponse):
        streamed(*pieces)


def test_arguments_without_end_are_no_answer():
    long = {"jsonPath": "$.a", "stringValue": "x" * 300_000}
    short = {"jsonPath": "$.a", "stringValue": ""}
    for pieces in ([long] * 4, [short] * 10_001):
        with pytest.raises(BadProviderResponse, match="without end"):
            streamed(growing(name="f", partialArgs=pieces))


def test_arguments_that_do_not_fit_are_no_answer():
    clash = [
        {"jsonPath": "$.a", "numberValue": 1},
        {"jsonPath": "$.a.b", "numberValue": 1},
    ]
    with pytest.raises(BadProviderResponse):
        streamed(growing(name="f", partialArgs=clash))


# There and back


def test_a_signature_comes_back_from_an_openai_client():
    reply = json.loads(openai_reply.encode_completion(decoded(answer(*TWO_CALLS))))
    message = reply["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "ok"}
        for call in message["tool_calls"]
    ]
    body = {
        "model": "gemini-3-pro-preview",
        "messages": [{"role": "user", "content": "hello"}, message, *results],
    }
    got = sent(decode_chat(json.dumps(body).encode()).request)
    assert [part.get("thoughtSignature") for part in got["contents"][1]["parts"]] == [
        "c2ln",
        None,
    ]


def test_a_signature_comes_back_from_an_anthropic_client():
    reply = json.loads(anthropic_reply.encode_completion(decoded(answer(*TWO_CALLS))))
    body = {
        "model": "gemini-3-pro-preview",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": reply["content"]},
        ],
    }
    got = sent(decode_messages(json.dumps(body).encode()).request)
    assert [part.get("thoughtSignature") for part in got["contents"][1]["parts"]] == [
        "c2ln",
        None,
    ]


def test_a_text_keeps_its_signature_too():
    body = answer({"text": "a"}, {"text": "", "thoughtSignature": "c2ln"})
    reply = json.loads(openai_reply.encode_completion(decoded(body)))
    message = reply["choices"][0]["message"]
    assert message["extra_content"] == signed("c2ln")["extra_content"]
    assert TextDelta(text="", extra=signed("c2ln")) in streamed(body)
    again = {
        "model": "gemini-3-pro-preview",
        "messages": [{"role": "user", "content": "hello"}, message],
    }
    got = sent(decode_chat(json.dumps(again).encode()).request)
    assert got["contents"][1]["parts"] == [{"text": "a", "thoughtSignature": "c2ln"}]
    to_anthropic = json.loads(anthropic_reply.encode_completion(decoded(body)))
    assert to_anthropic["content"] == [{"type": "text", "text": "a"}]


def test_a_picture_comes_back_from_an_openai_client_with_its_signature():
    drawn = {
        "inlineData": {"mimeType": "image/png", "data": "QUJD"},
        "thoughtSignature": "c2ln",
    }
    reply = json.loads(openai_reply.encode_completion(decoded(answer(drawn))))
    message = reply["choices"][0]["message"]
    [_, delta, *_] = streamed(answer(drawn))
    assert delta.extra["images"] == message["images"]
    body = {
        "model": "gemini-3-pro-image",
        "messages": [{"role": "user", "content": "hello"}, message],
    }
    got = sent(decode_chat(json.dumps({**body}).encode()).request)
    assert got["contents"][1]["parts"] == [drawn]


# Streams that break


WHOLE = [answer({"text": "ä€"}, finish=None), answer(*TWO_CALLS)]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_any_way_to_cut_the_bytes_gives_the_same_chunks(newline):
    expected = streamed(*WHOLE, newline=newline)
    for size in range(1, 40):
        assert streamed(*WHOLE, newline=newline, size=size) == expected


def test_a_stream_without_a_reason_is_cut_off():
    with pytest.raises(BadProviderResponse, match="before its end"):
        streamed(answer({"text": "a"}, finish=None))
    with pytest.raises(BadProviderResponse):
        fed(b"", 1)


def test_a_stream_cut_anywhere_before_its_reason_is_never_taken_for_complete():
    raw = b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in WHOLE)
    reason = raw.index(b'"STOP"')
    for end in range(reason):
        stream = GEMINI.open_stream(ORIGIN)
        stream.feed(raw[:end])
        with pytest.raises(BadProviderResponse):
            stream.close()


def test_an_event_that_says_nothing_is_no_answer():
    with pytest.raises(BadProviderResponse, match="without candidates"):
        streamed({"this": [{"is": "not"}]}, answer({"text": "a"}))
    traffic = {"usageMetadata": {"trafficType": "ON_DEMAND"}}
    assert TextDelta(text="a") in streamed(traffic, answer({"text": "a"}))


def test_an_error_in_mid_stream_is_raised_behind_what_came_before():
    stream = GEMINI.open_stream(ORIGIN)
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    first = json.dumps(answer({"text": "a"}, finish=None)).encode()
    chunks = stream.feed(
        b"data: " + first + b"\n\ndata: " + json.dumps(error).encode() + b"\n\n"
    )
    assert TextDelta(text="a") in chunks
    with pytest.raises(ProviderError) as caught:
        stream.close()
    assert caught.value.retryable
    assert caught.value.upstream_status == 503


# Hostile bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"candidates": 1}',
        b'{"candidates": [1]}',
        b'{"candidates": [{"content": []}]}',
        b'{"candidates": [{"content": {}, "index": 0}]}',
        b'{"candidates": [{"content": {"parts": [{"text": 1}]}}]}',
        b'{"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}',
        (
            b'{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f",'
            b' "args": []}}]}}]}'
        ),
        b'{"usageMetadata": {"totalTokenCount": 3}, "name": "cachedContents/x"}',
    ],
)
def test_what_is_no_answer_is_a_bad_response(body):
    with pytest.raises(BadProviderResponse) as caught:
        decoded(body)
    assert caught.value.provider == "duck"


def test_endless_lists_are_no_answer():
    candidate = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}
    with pytest.raises(BadProviderResponse, match="too many candidates"):
        decoded({"candidates": [{**candidate, "index": i} for i in range(65)]})
    calls = [{"functionCall": {"name": "f"}}] * 1025
    with pytest.raises(BadProviderResponse, match="too many function calls"):
        decoded(answer(*calls))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "candidates",
                    "content",
                    "parts",
                    "text",
                    "functionCall",
                    "name",
                    "args",
                    "finishReason",
                    "usageMetadata",
                    "promptTokenCount",
                    "promptFeedback",
                    "blockReason",
                    "error",
                    "partialArgs",
                    "jsonPath",
                    "willContinue",
                    "models",
                    "predictions",
                    "embeddings",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(value=JSON, size=st.integers(1, 50))
@settings(max_examples=300)
def test_no_json_does_worse_than_a_typed_error(value, size):
    raw = json.dumps(value).encode()
    for understand in (
        lambda: GEMINI.decode(raw, ORIGIN),
        lambda: fed(b"data: " + raw + b"\n\n", size),
        lambda: GEMINI.decode_models(raw),
        lambda: GEMINI.images.decode(raw),
        lambda: GEMINI.embeddings.decode(raw, 1),
        lambda: GEMINI.counting.decode(raw),
        lambda: _raise(ERRORS(500, {}, raw)),
    ):
        assert blamed(understand) in (None, "duck")


def blamed(understand) -> str | None:
    """Return whom a failure names; anything but a `DuckError` is a bug."""
    try:
        understand()
    except DuckError as error:
        return error.provider
    return None


def _raise(error: Exception) -> None:
    raise error
