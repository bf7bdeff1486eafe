"""What is kept of replies: nothing is lost, or it is not given."""

from __future__ import annotations

from itertools import chain

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from duckservice.assembly import Assembly
from duckservice.cache.as_json import decode_kept, encode_kept
from duckservice.cache.recording import TIDY_AFTER, Recorder, merged, size_of
from duckservice.cache.reply import (
    Kept,
    Recorded,
    embeddings_of,
    is_worth_keeping,
    stream_of,
    whole_of,
)
from duckservice.completion import (
    Choice,
    Completion,
    Embeddings,
    Finished,
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
from tests.gateway.strategies import completions, json_objects, streams

USAGE = Usage(input_tokens=3, output_tokens=2)


def completion(*parts, extra=None, choice_extra=None, **choice) -> Completion:
    return Completion(
        id="c-1",
        model="m",
        created=7,
        usage=USAGE,
        extra=extra or {},
        choices=(Choice(parts=parts, extra=choice_extra or {}, **choice),),
    )


def recorded(*deltas, reason="stop") -> Recorded:
    head, tail = Started(id="c-1", model="m"), UsageReport(usage=USAGE)
    return Recorded((head, *deltas, Finished(reason=reason), tail))


def kept(reply) -> Kept:
    return Kept(reply=reply, provider="a", model="m")


CALL = ToolCall(id="c1", name="look", arguments='{"at": 1}', extra={"sig": "x"})


@pytest.mark.parametrize(
    "reply",
    [
        completion(TextPart(text="quack")),
        completion(TextPart(text="quack"), extra={"system_fingerprint": "fp"}),
        completion(ReasoningPart(text="hm", signature="s"), TextPart(text="quack")),
        completion(RefusalPart(text="no"), finish_reason="stop"),
        completion(TextPart(text="see"), CALL, CALL, finish_reason="tool_calls"),
        completion(TextPart(text="q"), native_finish_reason="end_turn"),
        completion(TextPart(text="q"), stop_sequence="\n"),
        completion(TextPart(text="q"), finish_reason="length"),
    ],
    ids=repr,
)
def test_a_usual_reply_can_be_given_as_a_stream_and_is_all_there(reply) -> None:
    chunks = stream_of(reply)
    assembly = Assembly()
    assembly.add(chunks)
    assert assembly.completion() == reply
    assert whole_of(Recorded(chunks)) == reply


def test_tool_calls_are_counted_from_0_in_a_stream() -> None:
    chunks = stream_of(completion(TextPart(text="see"), CALL, CALL))
    indexes = [chunk.index for chunk in chunks if isinstance(chunk, ToolCallDelta)]
    assert indexes == [0, 1]


@pytest.mark.parametrize(
    "reply",
    [
        completion(ReasoningPart(redacted="r"), TextPart(text="q")),
        completion(TextPart(text="q", extra={"annotations": [1]})),
        completion(TextPart(text="q"), choice_extra={"logprobs": {"a": 1}}),
        completion(TextPart(text="a"), TextPart(text="b")),
        completion(CALL, TextPart(text="after the call")),
        completion(
            ReasoningPart(text="a", signature="s"),
            ReasoningPart(text="b", signature="t"),
        ),
    ],
    ids=repr,
)
def test_a_reply_that_a_stream_cannot_say_is_not_given_as_one(reply) -> None:
    assert stream_of(reply) is None
    assert whole_of(reply) is reply


@pytest.mark.parametrize(
    "deltas",
    [
        [TextDelta(text="q", extra={"logprobs": [1]})],
        [ReasoningDelta(redacted="r"), TextDelta(text="q")],
        [TextDelta(text="a"), ReasoningDelta(text="b"), TextDelta(text="c")],
        [
            ReasoningDelta(text="a"),
            ReasoningDelta(signature="s"),
            ReasoningDelta(text="b"),
            ReasoningDelta(signature="t"),
        ],
        [ToolCallDelta(index=0, id="c", name="n"), TextDelta(text="after")],
    ],
    ids=repr,
)
def test_a_stream_that_a_whole_reply_cannot_say_is_not_given_as_one(deltas) -> None:
    reply = recorded(*deltas)
    assert whole_of(reply) is None
    assert stream_of(reply) == reply.chunks


@settings(max_examples=40)
@given(completions())
def test_a_whole_reply_comes_back_from_its_stream_or_is_not_streamed(reply) -> None:
    chunks = stream_of(reply)
    if chunks is not None:
        assert whole_of(Recorded(chunks)) == reply


def said(chunks):
    """Return, for each choice, what a client pieces together; in the order of kinds."""
    found = {}
    for chunk in chunks:
        match chunk:
            case TextDelta() | RefusalDelta() | ReasoningDelta():
                key = chunk.choice, type(chunk)
                found[key] = found.get(key, "") + chunk.text
                if isinstance(chunk, ReasoningDelta) and chunk.signature:
                    found.setdefault((chunk.choice, "signed"), []).append(
                        (chunk.signature, found[key])
                    )
            case ToolCallDelta():
                key = chunk.choice, chunk.index
                old = found.get(key, ("", "", ""))
                new = (chunk.id or "", chunk.name or "", chunk.arguments)
                found[key] = tuple(a + b for a, b in zip(old, new, strict=True))
            case _:
                found.setdefault("rest", []).append(chunk)
    return found


@settings(max_examples=40)
@given(streams(choices=2))
def test_a_recorded_stream_says_the_same_in_no_more_chunks(batches) -> None:
    chunks = [chunk for batch in batches for chunk in batch]
    recorder = Recorder(1 << 20)
    for batch in batches:
        recorder.add(batch)
    kept_chunks = recorder.chunks()
    assert said(kept_chunks) == said(chunks)
    assert len(kept_chunks) <= len(chunks)


@settings(max_examples=40)
@given(streams(choices=2))
def test_a_stream_given_whole_says_what_it_said(batches) -> None:
    chunks = tuple(chunk for batch in batches for chunk in batch)
    whole = whole_of(Recorded(chunks))
    if whole is None:
        return
    for choice in whole.choices:
        theirs = said(chunks)
        assert choice.text == theirs.get((choice.index, TextDelta), "")
        assert choice.reasoning == theirs.get((choice.index, ReasoningDelta), "")
        calls = [(its.id, its.name, its.arguments) for its in choice.tool_calls]
        assert calls == [
            value
            for key, value in sorted(
                (key, value)
                for key, value in theirs.items()
                if key[0] == choice.index and type(key[1]) is int
            )
        ]


def test_of_several_reports_of_the_usage_the_last_one_counts() -> None:
    first = UsageReport(usage=Usage(input_tokens=3))
    whole = whole_of(recorded(first, TextDelta(text="q")))
    assert whole is not None
    assert whole.usage == USAGE


def test_a_stream_that_does_not_report_its_usage_is_not_given_whole() -> None:
    assert whole_of(Recorded(recorded(TextDelta(text="q")).chunks[:-1])) is None


def test_a_text_in_many_pieces_is_kept_as_one() -> None:
    pieces = [TextDelta(text="quack ")] * 500
    assert list(merged(pieces)) == [TextDelta(text="quack " * 500)]


@pytest.mark.parametrize(
    "pieces",
    [
        [TextDelta(text="a", extra={"logprobs": 1}), TextDelta(text="b")],
        [TextDelta(text="a"), TextDelta(text="b", extra={"logprobs": 1})],
        [TextDelta(text="a"), TextDelta(text="b", choice=1)],
        [RefusalDelta(text="a"), RefusalDelta(text="b", choice=1)],
        [TextDelta(text="a"), RefusalDelta(text="b")],
        [ReasoningDelta(text="a", signature="s"), ReasoningDelta(text="b")],
        [ReasoningDelta(text="a"), ReasoningDelta(redacted="r")],
        [ReasoningDelta(redacted="r"), ReasoningDelta(text="a")],
        [ReasoningDelta(text="a"), ReasoningDelta(text="b", choice=1)],
        [ToolCallDelta(index=0, id="a"), ToolCallDelta(index=0, id="b")],
        [ToolCallDelta(index=0, id="a"), ToolCallDelta(index=0, name="b")],
        [ToolCallDelta(index=0, id="a"), ToolCallDelta(index=0, extra={"s": 1})],
        [ToolCallDelta(index=0, id="a"), ToolCallDelta(index=1, arguments="1")],
        [ToolCallDelta(index=0, id="a"), ToolCallDelta(index=0, choice=1)],
    ],
    ids=repr,
)
def test_what_does_not_continue_its_neighbour_stays_apart(pieces) -> None:
    assert list(merged(pieces)) == pieces


def test_a_thought_is_kept_with_its_signature() -> None:
    pieces = [ReasoningDelta(text="h"), ReasoningDelta(text="m")]
    signed = ReasoningDelta(signature="s")
    assert list(merged([*pieces, signed])) == [ReasoningDelta(text="hm", signature="s")]


def test_a_stream_that_is_too_large_is_let_go_while_it_runs() -> None:
    recorder = Recorder(50_000)
    piece = TextDelta(text="quack quack quack quack ")
    for _ in range(20 * TIDY_AFTER):
        recorder.add([piece])
        assert len(recorder._chunks) <= 2 * TIDY_AFTER
    assert recorder.chunks() == ()


@pytest.mark.parametrize(
    ("reply", "worth"),
    [
        (completion(TextPart(text="q")), True),
        (completion(TextPart(text="q"), finish_reason="length"), True),
        (completion(TextPart(text="q"), finish_reason="content_filter"), False),
        (completion(), False),
        (attrs.evolve(completion(), choices=()), False),
        (recorded(TextDelta(text="q")), True),
        (recorded(TextDelta(text="q"), reason="content_filter"), False),
        (recorded(), False),
        (Recorded((Started(id="", model=""), TextDelta(text="q"))), False),
        (recorded(TextDelta(text="q"), TextDelta(text="cut", choice=1)), False),
        (Embeddings(model="m", vectors=((0.5,),), usage=USAGE), True),
        (Embeddings(model="m", vectors=(), usage=USAGE), False),
    ],
    ids=repr,
)
def test_only_whole_answers_are_worth_keeping(reply, worth) -> None:
    assert is_worth_keeping(reply) == worth


def test_embeddings_are_neither_a_reply_nor_a_stream() -> None:
    vectors = Embeddings(model="m", vectors=((0.5,),), usage=USAGE)
    assert embeddings_of(vectors) is vectors
    assert whole_of(vectors) is stream_of(vectors) is None
    assert embeddings_of(completion()) is None


@settings(max_examples=40)
@given(st.data())
def test_a_reply_survives_its_file(data) -> None:
    reply = data.draw(
        st.one_of(
            completions(),
            streams(choices=2).map(lambda bs: Recorded(tuple(chain.from_iterable(bs)))),
            st.just(Embeddings(model="m", vectors=((0.1, -1e300),), usage=USAGE)),
        )
    )
    if isinstance(reply, Completion):
        reply = attrs.evolve(reply, extra=data.draw(json_objects))
    body = encode_kept(kept(reply))
    assert body is not None
    assert decode_kept(body) == kept(reply)


def test_half_a_character_is_not_written_to_a_file() -> None:
    assert encode_kept(kept(completion(TextPart(text="\ud800")))) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"1",
        b"[]",
        b'["o"]',
        b'["o","Kept",{}]',
        b'["o","Secret",{"value":"x"}]',
        b'["t",[1]]',
        b'["t",1]',
        b'["x",[1]]',
        b'[["o"],1]',
        b'["m",[1]]',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_reply_is_read_as_none(body) -> None:
    assert decode_kept(body) is None


def test_a_longer_reply_is_larger() -> None:
    small = size_of(kept(completion(TextPart(text="q"))))
    large = size_of(kept(completion(TextPart(text="q" * 1000))))
    assert large == small + 999
