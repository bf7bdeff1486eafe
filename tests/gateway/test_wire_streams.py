from __future__ import annotations

import json
from collections import defaultdict

import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings, strategies as st
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from duckservice.completion import (
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.errors import BadProviderResponse, RateLimited
from duckservice.gateway.wire.anthropic_stream import MessageStreamEncoder
from duckservice.gateway.wire.openai_stream import ChatStreamEncoder
from tests.gateway import strategies as values

ANTHROPIC_EVENT = TypeAdapter(RawMessageStreamEvent)
STARTED = Started(id="c1", model="m-1", created=1_700_000_000)


def events(raw: bytes) -> list[tuple[str | None, str]]:
    """Split a whole stream; fail if an event is not ended."""
    assert not raw or raw.endswith(b"\n\n")
    found = []
    for block in raw.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields.get("event"), fields["data"]))
    return found


def written(encoder, batches) -> bytes:
    return b"".join(map(encoder.encode, batches)) + encoder.finish()


def openai_chunks(raw: bytes) -> list[ChatCompletionChunk]:
    *chunks, last = [data for _, data in events(raw)]
    assert last == "[DONE]"
    return [ChatCompletionChunk.model_validate_json(chunk) for chunk in chunks]


def expected_of(batches):
    """Return text, thoughts, refusals and calls of each choice."""
    texts, thoughts, refusals = defaultdict(str), defaultdict(str), defaultdict(str)
    calls = defaultdict(dict)
    for batch in batches:
        for chunk in batch:
            match chunk:
                case TextDelta():
                    texts[chunk.choice] += chunk.text
                case ReasoningDelta():
                    thoughts[chunk.choice] += chunk.text
                case RefusalDelta():
                    refusals[chunk.choice] += chunk.text
                case ToolCallDelta():
                    call = calls[chunk.choice].setdefault(
                        chunk.index, [chunk.id, chunk.name, ""]
                    )
                    call[2] += chunk.arguments
    return texts, thoughts, refusals, calls


@given(data=st.data(), choices=st.integers(1, 3), include_usage=st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_openai_sdks_chunks_add_up_to_the_stream(data, choices, include_usage):
    batches = data.draw(values.streams(choices=choices))
    encoder = ChatStreamEncoder(include_usage=include_usage)
    chunks = openai_chunks(written(encoder, batches))

    texts, thoughts, refusals = defaultdict(str), defaultdict(str), defaultdict(str)
    calls, finished, greeted = defaultdict(dict), {}, set()
    usage = None
    for chunk in chunks:
        assert chunk.id == batches[0][0].id
        assert chunk.model == batches[0][0].model
        if not chunk.choices:
            usage = chunk.usage
        for choice in chunk.choices:
            assert chunk.usage is None
            assert choice.index not in finished
            if choice.index not in greeted:
                assert choice.delta.role == "assistant"
                greeted.add(choice.index)
            else:
                assert choice.delta.role is None
            texts[choice.index] += choice.delta.content or ""
            refusals[choice.index] += choice.delta.refusal or ""
            extra = choice.delta.model_extra
            thoughts[choice.index] += extra.get("reasoning_content", "")
            for call in choice.delta.tool_calls or []:
                kept = calls[choice.index].setdefault(
                    call.index, [call.id, call.function.name, ""]
                )
                kept[2] += call.function.arguments
            if choice.finish_reason is not None:
                finished[choice.index] = choice.finish_reason

    wanted = expected_of(batches)
    for got, want in zip((texts, thoughts, refusals), wanted, strict=False):
        assert {k: v for k, v in got.items() if v} == {
            k: v for k, v in want.items() if v
        }
    assert calls == wanted[3]
    assert finished.keys() == set(range(choices))
    if include_usage:
        assert usage is not None
        assert usage.total_tokens == batches[-1][-1].usage.total_tokens
    else:
        assert usage is None


class AnthropicReader:
    """Collects a message as the SDK does: by block index."""

    def __init__(self, raw: bytes) -> None:
        self.blocks, self.closed, self.partial = [], set(), defaultdict(str)
        self.start = self.delta = None
        names = []
        for name, data in events(raw):
            event = ANTHROPIC_EVENT.validate_json(data)
            assert event.type == name
            names.append(name)
            self._take(event)
        assert names[0] == "message_start"
        assert names[-2:] == ["message_delta", "message_stop"]
        assert self.closed == set(range(len(self.blocks)))

    def _take(self, event) -> None:
        match event.type:
            case "message_start":
                self.start = event.message
            case "content_block_start":
                assert event.index == len(self.blocks)
                assert len(self.closed) == len(self.blocks)
                self.blocks.append(event.content_block)
            case "content_block_stop":
                assert event.index not in self.closed
                self.closed.add(event.index)
            case "message_delta":
                self.delta = event
            case "content_block_delta":
                self._add(self.blocks[event.index], event.index, event.delta)

    def _add(self, block, index, delta) -> None:
        assert index not in self.closed or delta.type == "input_json_delta"
        match delta.type:
            case "text_delta":
                block.text += delta.text
            case "thinking_delta":
                block.thinking += delta.thinking
            case "signature_delta":
                assert not block.signature
                block.signature = delta.signature
            case "input_json_delta":
                self.partial[index] += delta.partial_json


@given(batches=values.streams())
@settings(max_examples=150, deadline=None)
def test_the_anthropic_sdks_events_add_up_to_the_stream(batches):
    reader = AnthropicReader(written(MessageStreamEncoder(), batches))
    texts, thoughts, refusals, calls = expected_of(batches)
    assert reader.start.id == batches[0][0].id
    assert reader.start.model == batches[0][0].model
    text = "".join(b.text for b in reader.blocks if b.type == "text")
    assert text == texts[0] + refusals[0]
    thought = "".join(b.thinking for b in reader.blocks if b.type == "thinking")
    assert thought == thoughts[0]
    signatures = [b.signature for b in reader.blocks if b.type == "thinking"]
    wanted = [
        chunk.signature
        for batch in batches
        for chunk in batch
        if isinstance(chunk, ReasoningDelta) and chunk.signature
    ]
    assert [signature for signature in signatures if signature] == wanted
    tool_uses = [
        [block.id, block.name, reader.partial[index]]
        for index, block in enumerate(reader.blocks)
        if block.type == "tool_use"
    ]
    assert tool_uses == list(calls[0].values())
    usage, report = reader.delta.usage, batches[-1][-1].usage
    assert usage.output_tokens == report.output_tokens
    assert (
        usage.input_tokens
        + usage.cache_read_input_tokens
        + usage.cache_creation_input_tokens
        == report.input_tokens
    )
    assert reader.delta.delta.stop_reason


@given(batches=values.streams(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_how_chunks_are_batched_changes_nothing_but_the_first_usage(batches, data):
    chunks = [chunk for batch in batches for chunk in batch]
    single = [[chunk] for chunk in chunks]
    assert written(ChatStreamEncoder(include_usage=True), single) == written(
        ChatStreamEncoder(include_usage=True), batches
    )
    # The last batch alone may tell message_start how long the prompt is.
    one_by_one = events(written(MessageStreamEncoder(), single))
    as_drawn = events(written(MessageStreamEncoder(), batches))
    assert one_by_one[1:] == as_drawn[1:]


def test_a_single_text_delta_is_a_chunk_of_its_own():
    encoder = ChatStreamEncoder(include_usage=True)
    encoder.encode([STARTED])
    ((_, data),) = events(encoder.encode([TextDelta(text='a"\n\u2028')]))
    assert json.loads(data) == {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "delta": {"content": 'a"\n\u2028'},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        "usage": None,
    }


def test_log_probabilities_and_extras_have_their_places_in_a_chunk():
    encoder = ChatStreamEncoder()
    encoder.encode([STARTED])
    extra = {"logprobs": {"content": []}, "annotations": [1], "index": 9, "x": 2}
    ((_, data),) = events(encoder.encode([TextDelta(text="a", extra=extra)]))
    (choice,) = json.loads(data)["choices"]
    assert choice == {
        "index": 0,
        "delta": {"content": "a", "annotations": [1]},
        "logprobs": {"content": []},
        "x": 2,
        "finish_reason": None,
    }


def test_what_must_come_back_with_a_call_streams_with_it():
    signed = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    first = ToolCallDelta(index=0, id="t", name="f", extra=signed | {"caller": 1})
    chunks = events(
        ChatStreamEncoder().encode([STARTED, first, ToolCallDelta(index=0)])
    )
    calls = [
        call
        for _, data in chunks
        for call in json.loads(data)["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert calls[0]["extra_content"] == signed["extra_content"]
    assert "caller" not in calls[0]
    assert "extra_content" not in calls[1]


def test_pictures_and_signatures_stream_in_the_delta():
    signed = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    extra = signed | {"images": [{"type": "image_url"}]}
    raw = ChatStreamEncoder().encode([STARTED, TextDelta(text="", extra=extra)])
    delta = json.loads(events(raw)[-1][1])["choices"][0]["delta"]
    assert delta == {"content": "", **extra}


def test_extras_of_the_start_are_in_every_chunk_and_overwrite_nothing():
    started = Started(id="c1", model="m", extra={"service_tier": "x", "id": "bad"})
    encoder = ChatStreamEncoder(now=5.5)
    raw = encoder.encode([started]) + encoder.encode([TextDelta(text="a")])
    for _, data in events(raw):
        fields = json.loads(data)
        assert fields["service_tier"] == "x"
        assert fields["id"] == "c1"
        assert fields["created"] == 5


def test_a_call_of_an_old_function_streams_as_one():
    encoder = ChatStreamEncoder(legacy_functions=True)
    raw = written(
        encoder,
        [
            [STARTED],
            [ToolCallDelta(index=0, id="t", name="f", arguments="{")],
            [ToolCallDelta(index=0, arguments="}")],
            [Finished(reason="tool_calls")],
        ],
    )
    *deltas, end = [chunk.choices[0] for chunk in openai_chunks(raw)][1:]
    calls = [choice.delta.function_call for choice in deltas]
    assert [(call.name, call.arguments) for call in calls] == [("f", "{"), (None, "}")]
    assert end.finish_reason == "function_call"


def test_a_failed_openai_stream_ends_with_an_error_and_without_done():
    encoder = ChatStreamEncoder()
    encoder.encode([STARTED, TextDelta(text="a")])
    ((name, data),) = events(encoder.error(RateLimited("slow down")))
    assert name is None
    assert json.loads(data)["error"]["code"] == "rate_limited"


def test_a_failed_anthropic_stream_ends_with_an_error_event():
    encoder = MessageStreamEncoder()
    encoder.encode([STARTED, TextDelta(text="a")])
    ((name, data),) = events(encoder.error(BadProviderResponse("cut off")))
    assert name == "error"
    assert json.loads(data)["error"]["type"] == "api_error"


def test_message_start_has_the_prompts_length_where_it_is_known():
    encoder = MessageStreamEncoder()
    usage = Usage(input_tokens=50, cached_tokens=20)
    ((_, data),) = events(encoder.encode([STARTED, UsageReport(usage=usage)]))
    told = json.loads(data)["message"]["usage"]
    assert (told["input_tokens"], told["cache_read_input_tokens"]) == (30, 20)


def test_a_late_piece_of_an_ended_call_goes_to_its_own_block():
    encoder = MessageStreamEncoder()
    raw = written(
        encoder,
        [
            [STARTED],
            [ToolCallDelta(index=0, id="a", name="f", arguments="{")],
            [ToolCallDelta(index=1, id="b", name="g", arguments="{}")],
            [ToolCallDelta(index=0, arguments="}")],
            [Finished(reason="tool_calls")],
        ],
    )
    reader = AnthropicReader(raw)
    assert dict(reader.partial) == {0: "{}", 1: "{}"}
    assert reader.delta.delta.stop_reason == "tool_use"


def test_a_block_that_nothing_has_ended_ends_with_the_stream():
    raw = written(MessageStreamEncoder(), [[STARTED, TextDelta(text="a")]])
    assert AnthropicReader(raw).delta.delta.stop_reason == "end_turn"


def test_redacted_thinking_is_a_block_of_its_own():
    encoder = MessageStreamEncoder()
    deltas = [
        ReasoningDelta(text="a"),
        ReasoningDelta(redacted="xyz"),
        ReasoningDelta(text="b"),
    ]
    raw = written(encoder, [[STARTED], deltas, [Finished(reason="stop")]])
    kinds = [block.type for block in AnthropicReader(raw).blocks]
    assert kinds == ["thinking", "redacted_thinking", "thinking"]


@pytest.mark.parametrize("make", [ChatStreamEncoder, MessageStreamEncoder])
def test_what_is_only_usage_sends_nothing_yet(make):
    encoder = make()
    encoder.encode([STARTED])
    assert encoder.encode([UsageReport(usage=Usage())]) == b""
