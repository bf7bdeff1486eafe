from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    Finished,
    ReasoningDelta,
    ReasoningPart,
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
    PermissionDenied,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
)
from duckservice.providers.bedrock import failures
from duckservice.providers.bedrock.answer import TokenUsage, usage
from tests.providers import understanding
from tests.providers.bedrock import (
    BEDROCK,
    ERRORS,
    ORIGIN,
    answer,
    chunks_of,
    service,
    stream,
)
from tests.providers.event_bytes import event, exception

# Answers


def test_an_answer_is_named_after_its_request():
    completion = BEDROCK.decode(answer({"text": "hi"}), ORIGIN)
    assert (completion.id, completion.model) == ("duck-1", "m")
    assert completion.text == "hi"
    assert completion.usage == Usage(input_tokens=3, output_tokens=2)
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].native_finish_reason == "end_turn"


def test_every_block_of_an_answer_is_read():
    call = {"toolUseId": "t1", "name": "f", "input": {"x": 1.50}}
    completion = BEDROCK.decode(
        answer(
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
            {"reasoningContent": {"redactedContent": "b64="}},
            {"citationsContent": {"content": [{"text": "ducks"}], "citations": [{}]}},
            {"toolUse": call},
            {"toolUse": {"toolUseId": "t2", "name": "g", "input": None}},
            {"image": {"format": "png"}},
            stopReason="tool_use",
        )
    )
    assert completion.choices[0].parts == (
        ReasoningPart(text="hm", signature="s"),
        ReasoningPart(redacted="b64="),
        TextPart(text="ducks"),
        ToolCall(id="t1", name="f", arguments='{"x": 1.5}'),
        ToolCall(id="t2", name="g", arguments="{}"),
    )


REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "stop",
    "malformed_tool_use": "stop",
    "of the future": "stop",
}


@pytest.mark.parametrize(("native", "ours"), REASONS.items())
def test_reasons_to_stop_are_translated(native, ours):
    choice = BEDROCK.decode(answer(stopReason=native)).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (ours, native)
    _, finished, _ = chunks_of(event("messageStop", {"stopReason": native}), METADATA)
    assert finished == Finished(reason=ours, native_reason=native)


def test_every_reason_that_bedrock_has_is_known():
    shape = service().shape_for("StopReason")
    assert set(shape.enum) <= set(REASONS)


@pytest.mark.parametrize(
    "fields", [{"stop_sequence": "X"}, {"delta": {"stop_sequence": "X"}}]
)
def test_the_stop_sequence_is_where_claude_has_it(fields):
    end = {
        "stopReason": "stop_sequence",
        "additionalModelResponseFields": fields,
    }
    assert BEDROCK.decode(answer(**end)).choices[0].stop_sequence == "X"
    _, finished, _ = chunks_of(event("messageStop", end), METADATA)
    assert finished.stop_sequence == "X"


def test_cached_tokens_are_part_of_the_input():
    said = {
        "inputTokens": 3,
        "outputTokens": 2,
        "totalTokens": 1955,
        "cacheReadInputTokens": 1712,
        "cacheWriteInputTokens": 236,
        "cacheReadInputTokenCount": 1712,
        "cacheDetails": [{"inputTokens": 236, "ttl": "5m"}],
    }
    usage = Usage(
        input_tokens=1951, output_tokens=2, cached_tokens=1712, cache_write_tokens=236
    )
    assert BEDROCK.decode(answer(usage=said)).usage == usage
    *_, report = chunks_of(
        event("messageStop", {"stopReason": "end_turn"}),
        event("metadata", {"usage": said}),
    )
    assert report == UsageReport(usage=usage)


def test_an_answer_without_usage_is_estimated():
    assert BEDROCK.decode(answer(usage=None)).usage.estimated


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>secret</html>",
        b"null",
        b"[]",
        b'"secret"',
        b"{}",
        b'{"output": null}',
        b'{"output": {"message": {"content": null}}}',
        b'{"output": {"message": {"content": {"text": "secret"}}}}',
        b'{"output": {"message": {"content": [{"text": 1}]}}}',
        b'{"output": {"message": {"content": [{"toolUse": {"name": "f"}}]}}}',
        b'{"output": {"message": {"content": ["secret"]}}}',
        answer({"text": "\ufffd"}).replace(b"\\ufffd", b"\xff"),
        answer({"text": "secret"})[:-9],
        answer(stopReason=7),
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_said_to_be_none_without_quoting_it(body):
    with pytest.raises(BadProviderResponse) as caught:
        BEDROCK.decode(body, ORIGIN)
    assert "secret" not in str(caught.value)
    assert caught.value.provider == "duck"


def test_an_error_inside_of_a_200_is_an_error():
    body = b'{"__type": "com.amazon.coral#ThrottlingException", "message": "slow"}'
    with pytest.raises(RateLimited, match="slow"):
        BEDROCK.decode(body)


# Streams

START = event("messageStart", {"role": "assistant"})
USAGE = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
METADATA = event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}, "p": "abc"})
STOP = event("messageStop", {"stopReason": "tool_use"})


def delta(block: int, **fields) -> bytes:
    value = {"contentBlockIndex": block, "delta": fields, "p": "abcdef"}
    return event("contentBlockDelta", value)


def begin(block: int, **call) -> bytes:
    value = {"contentBlockIndex": block, "start": {"toolUse": call}}
    return event("contentBlockStart", value)


def end(block: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": block})


WHOLE = (
    START,
    delta(0, reasoningContent={"text": "hm"}),
    delta(0, reasoningContent={"signature": "sig"}),
    end(0),
    delta(1, reasoningContent={"redactedContent": "b64="}),
    end(1),
    delta(2, text="Two "),
    delta(2, text="ducks"),
    end(2),
    begin(3, toolUseId="t1", name="f"),
    delta(3, toolUse={"input": '{"x"'}),
    delta(3, toolUse={"input": ": 1}"}),
    end(3),
    begin(4, toolUseId="t2", name="g"),
    delta(4, toolUse={"input": ""}),
    end(4),
    STOP,
    METADATA,
)


def test_a_stream_is_read_into_chunks():
    assert chunks_of(*WHOLE) == [
        Started(id="duck-1", model="m"),
        ReasoningDelta(text="hm"),
        ReasoningDelta(signature="sig"),
        ReasoningDelta(redacted="b64="),
        TextDelta(text="Two "),
        TextDelta(text="ducks"),
        ToolCallDelta(index=0, id="t1", name="f"),
        ToolCallDelta(index=0, arguments='{"x"'),
        ToolCallDelta(index=0, arguments=": 1}"),
        ToolCallDelta(index=1, id="t2", name="g"),
        ToolCallDelta(index=1, arguments="{}"),
        Finished(reason="tool_calls", native_reason="tool_use"),
        UsageReport(usage=Usage(input_tokens=3, output_tokens=2)),
    ]
    understanding.of_chunks(chunks_of(*WHOLE))


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_any_way_to_cut_the_bytes_gives_the_same_chunks(sizes):
    data, pieces, at = b"".join(WHOLE), [], 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    assert chunks_of(*pieces) == chunks_of(data)


def test_a_stream_cut_short_is_never_taken_for_complete():
    data = b"".join(WHOLE)
    behind_the_stop = len(data) - len(METADATA)
    for length in range(len(data)):
        reader = stream()
        reader.feed(data[:length])
        if length == behind_the_stop:
            assert reader.close() == []
            assert not reader.usage_seen  # so it is estimated
            continue
        with pytest.raises(BadProviderResponse):
            reader.close()


def test_events_that_nobody_knows_are_passed_over():
    strange = event("initial-response", {}), event("novelty", {"text": "x"})
    image = event("contentBlockStart", {"contentBlockIndex": 9, "start": {"image": {}}})
    result = delta(9, toolResult=[{"json": {}}])
    assert chunks_of(*strange, *WHOLE[:-1], METADATA) == chunks_of(*WHOLE)
    assert chunks_of(START, image, result, *WHOLE[1:]) == chunks_of(*WHOLE)


def test_a_stream_without_its_start_starts_all_the_same():
    assert chunks_of(*WHOLE[1:]) == chunks_of(*WHOLE)


def test_calls_that_are_not_closed_end_with_the_answer():
    assert chunks_of(*(p for p in WHOLE if p != end(4))) == chunks_of(*WHOLE)


def test_usage_may_come_before_the_end():
    *_, finished = chunks_of(START, METADATA, STOP)
    assert finished == Finished(reason="tool_calls", native_reason="tool_use")


@pytest.mark.parametrize(
    "pieces",
    [
        (delta(0, toolUse={"input": "{}"}),),
        (begin(0, toolUseId="a", name="f"), begin(0, toolUseId="b", name="f")),
        (begin(0, name="f"),),
        (delta(0, text=1),),
        (event("contentBlockDelta", {"contentBlockIndex": 0}),),
        (event("contentBlockDelta", "secret"),),
        (event("contentBlockDelta", None).replace(b"null", b"nul!"),),
        (STOP, delta(0, text="secret")),
        (STOP, STOP),
        (STOP, begin(0, toolUseId="a", name="f")),
        (event("messageStop", {"stopReason": []}),),
        (b"data: {}\n\n" * 3,),
        (b"<html>secret</html>",),
    ],
)
def test_what_is_no_stream_is_said_to_be_none_without_quoting_it(pieces):
    with pytest.raises(BadProviderResponse) as caught:
        chunks_of(*pieces, METADATA)
    assert "secret" not in str(caught.value)


# Errors


def error(status: int, name: str = "", message: str = "m", **body) -> DuckError:
    header = f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    headers = {"x-amzn-errortype": header} if name else {}
    return ERRORS(status, headers, json.dumps({"message": message} | body).encode())


PER_DAY = "Too many tokens per day, please wait before trying again."
ON_DEMAND = (
    "Invocation of model ID deepseek.r1-v1:0 with on-demand throughput isn\u2019t "
    "supported. Retry your request with the ID or ARN of an inference profile"
)


@pytest.mark.parametrize(
    ("status", "name", "message", "kind", "retryable"),
    [
        (400, "ValidationException", "m", InvalidRequest, False),
        (400, "", "m", InvalidRequest, False),
        (
            400,
            "ValidationException",
            "The provided model identifier is invalid.",
            ModelNotFound,
            False,
        ),
        (400, "ValidationException", ON_DEMAND, ModelNotFound, False),
        (404, "ResourceNotFoundException", "m", ModelNotFound, False),
        (404, "", "has reached the end of its life", ModelNotFound, False),
        (404, "UnknownOperationException", "", ProviderError, False),
        (
            400,
            "ValidationException",
            "Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
            ContextLengthExceeded,
            False,
        ),
        (
            400,
            "",
            "Input is too long for requested model.",
            ContextLengthExceeded,
            False,
        ),
        (
            400,
            "ValidationException",
            "prompt is too long: 210000 tokens > 200000 maximum",
            ContextLengthExceeded,
            False,
        ),
        (
            400,
            "ValidationException",
            "Output blocked by content filtering policy",
            ContentFiltered,
            False,
        ),
        (403, "AccessDeniedException", "no access", ProviderAuthError, False),
        (403, "UnrecognizedClientException", "m", ProviderAuthError, False),
        (403, "InvalidSignatureException", "m", ProviderAuthError, False),
        (400, "ExpiredTokenException", "m", ProviderAuthError, False),
        (403, "", "The security token is expired", ProviderAuthError, False),
        (
            403,
            "AccessDeniedException",
            "User: x is not authorized to perform: bedrock:ListAsyncInvokes",
            PermissionDenied,
            False,
        ),
        (408, "ModelTimeoutException", "m", ProviderTimeout, True),
        (413, "", "m", RequestTooLarge, False),
        (424, "ModelErrorException", "m", ProviderError, True),
        (429, "ThrottlingException", "Too many tokens", RateLimited, True),
        (429, "", "m", RateLimited, True),
        (429, "ThrottlingException", PER_DAY, RateLimited, False),
        (400, "ThrottlingException", "Rate exceeded", RateLimited, True),
        (429, "ModelNotReadyException", "m", RateLimited, True),
        (400, "ServiceQuotaExceededException", "m", QuotaExceeded, False),
        (500, "InternalServerException", "m", ProviderError, True),
        (503, "ServiceUnavailableException", "m", ProviderError, True),
    ],
)
def test_errors_are_what_bedrock_means_by_them(status, name, message, kind, retryable):
    found = error(status, name, message)
    assert type(found) is kind
    assert found.retryable is retryable
    assert found.upstream_status == status
    assert found.provider == "duck"
    assert found.retry_after is None


def test_the_name_may_stand_in_the_body():
    found = error(400, __type="com.amazon.coral.service#ThrottlingException")
    assert type(found) is RateLimited
    assert "Big" in str(ERRORS(400, {}, b'{"Message": "Big words"}'))


def test_a_wrong_signature_is_not_answered_with_the_session_token():
    said = (
        "The request signature we calculated does not match.\n\n"
        "The Canonical String for this request should have been\n'POST\nx-amz-security-"
        "token:FwoGZXIvYXdzEJr'"
    )
    found = error(403, "InvalidSignatureException", said)
    assert "does not match" in str(found)
    assert "FwoG" not in str(found)


@pytest.mark.parametrize(
    ("name", "kind", "retryable"),
    [
        ("throttlingException", RateLimited, True),
        ("validationException", InvalidRequest, False),
        ("internalServerException", ProviderError, True),
        ("serviceUnavailableException", ProviderError, True),
        ("modelStreamErrorException", ProviderError, True),
        ("modelTimeoutException", ProviderTimeout, True),
        ("someFutureException", ProviderError, True),
    ],
)
def test_an_error_in_mid_stream_is_raised_behind_what_was_said(name, kind, retryable):
    reader = stream()
    said = reader.feed(
        START + delta(0, text="Two ") + exception(name, {"message": "oh"})
    )
    assert said[1:] == [TextDelta(text="Two ")]
    assert reader.ended
    with pytest.raises(kind, match="oh") as caught:
        reader.close()
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable


def test_every_exception_of_a_stream_is_known():
    shape = service().operation_model("ConverseStream").output_shape.members["stream"]
    names = [n for n, m in shape.members.items() if m.metadata.get("exception")]
    assert len(names) >= 5
    for name in names:
        shape = service().shape_for(name[0].upper() + name[1:])
        said = int(shape.metadata["error"]["httpStatusCode"])
        assert failures.status_of(name) == said


def test_a_reason_that_is_no_json_is_still_an_error():
    broken = exception("throttlingException", {}).replace(b"{}", b"no")
    with pytest.raises(BadProviderResponse):
        chunks_of(START, broken)


def test_what_is_cached_for_an_hour_is_counted():
    said = {
        "inputTokens": 5,
        "outputTokens": 1,
        "cacheWriteInputTokens": 300,
        "cacheDetails": [
            {"inputTokens": 200, "ttl": "5m"},
            {"inputTokens": 100, "ttl": "1h"},
            "nonsense",
        ],
    }
    counted = usage(msgspec.convert(said, TokenUsage))
    assert (counted.cache_write_tokens, counted.hour_write_tokens) == (300, 100)
