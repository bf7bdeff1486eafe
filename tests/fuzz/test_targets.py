"""What fuzzing has found stays mended, and every target holds for what it begins with."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import TextDelta
from duckservice.errors import BadProviderResponse
from duckservice.gateway.http1 import Refusal, RequestHead, parse_request_head
from duckservice.providers.framing import FramingError
from duckservice.providers.http1_answer import AnswerParser, BrokenAnswer
from duckservice.providers.ollama.ndjson import NdjsonFraming
from duckservice.providers.sse import SseOverflow, SseParser
from tests.fuzz.cuts import with_cuts
from tests.fuzz.targets import TARGETS
from tests.providers.test_openai import OPENAI

SEEDS = [(name, seed) for name, its in TARGETS.items() for seed in its.seeds()]


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_run_begins_with_breaks_no_promise(name):
    seeds = TARGETS[name].seeds()
    assert len(seeds) > 5
    for seed in seeds:
        TARGETS[name].check(seed)


@settings(max_examples=200)
@given(st.sampled_from(SEEDS), st.data())
def test_what_is_like_it_breaks_none_either(seed, data):
    name, sample = seed
    start = data.draw(st.integers(0, len(sample)))
    end = data.draw(st.integers(start, min(len(sample), start + 20)))
    put = data.draw(st.binary(max_size=8))
    TARGETS[name].check(sample[:start] + put + sample[end:])


# What was found.


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n", b"\0", b"\x0b"])
@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_a_line_end_in_the_target_is_no_request_of_http_0_9(line_end, version):
    line = b"GET /" + line_end + b"Connection: " + version + b"\r\nHost: x\r\n\r\n"
    assert isinstance(parse_request_head(line), Refusal)
    TARGETS["http1"].check(with_cuts(line, 8, 20))
    assert isinstance(
        parse_request_head(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), RequestHead
    )


@pytest.mark.parametrize("size", [1, 100])
def test_the_body_of_an_interim_answer_never_begins_the_real_one(size):
    raw = b"HTTP/1.1 199 OK\r\ncontent-length: 1\r\n\r\na"
    raw += b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb"
    parser = AnswerParser()
    with pytest.raises(BrokenAnswer, match="interim"):
        for start in range(0, len(raw), size):
            parser.feed(raw[start : start + size])


def test_an_interim_answer_may_say_that_it_has_no_body():
    parser = AnswerParser()
    parser.feed(b"HTTP/1.1 103 Early Hints\r\ncontent-length: 0\r\n\r\n")
    parser.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb")
    assert (parser.status, parser.take(), parser.complete) == (200, b"b", True)


@pytest.mark.parametrize("feed", ["in one piece", "byte by byte"])
@pytest.mark.parametrize(
    ("framing", "whole", "large"),
    [
        (lambda: SseParser(event_bytes_max=20), b"data: a\n\n", b"data: " + b"x" * 20),
        (
            lambda: SseParser(event_bytes_max=20),
            b"data: a\n\n",
            b"data: " + b"x" * 20 + b"\n\n",
        ),
        (lambda: NdjsonFraming(line_bytes_max=20), b"a\n", b"x" * 21),
        (lambda: NdjsonFraming(line_bytes_max=20), b"a\n", b"x" * 21 + b"\n"),
    ],
    ids=["sse", "sse, whole", "ndjson", "ndjson, whole"],
)
def test_what_came_before_an_event_that_is_too_large_is_not_lost(
    feed, framing, whole, large
):
    data, its, found = whole + large, framing(), []
    size = len(data) if feed == "in one piece" else 1
    with pytest.raises(FramingError) as caught:
        for start in range(0, len(data), size):
            found += its.feed(data[start : start + size])
    assert [event.data for event in (*found, *caught.value.events)] == [b"a"]


@pytest.mark.parametrize("before", [b"", b"\n", b"data: a\n\n\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_largest_event_is_the_same_however_it_is_cut(before, size):
    def events(length: int) -> int:
        data = before + b"data:" + b"x" * (length - 5) + b"\n\n\n"
        parser = SseParser(event_bytes_max=50)
        pieces = (data[i : i + size] for i in range(0, len(data), size))
        return sum(len(parser.feed(piece)) for piece in pieces)

    assert events(50) == 1 + (b"a" in before)
    with pytest.raises(SseOverflow):
        events(51)


def test_the_text_before_an_event_that_is_too_large_reaches_the_client():
    delta = {"choices": [{"index": 0, "delta": {"content": "quack"}}], "model": "m"}
    stream = OPENAI.open_stream()
    data = b"data: " + json.dumps(delta).encode() + b"\n\ndata: " + b"x" * (2 << 20)
    chunks = stream.feed(data)
    assert [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)] == ["quack"]
    assert stream.ended
    with pytest.raises(BadProviderResponse, match="larger than"):
        stream.close()
