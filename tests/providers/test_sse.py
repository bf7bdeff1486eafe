"""The SSE parser against a slow one, written from the WHATWG text for this test."""

import itertools

import pytest
from hypothesis import example, given, strategies as st

from duckservice.providers.framing import StreamEvent
from duckservice.providers.sse import SseOverflow, SseParser

# Pieces of streams, among them all that has a meaning and some that has none.
TOKENS = [
    "\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "\r\r", "\ufeff", ":", " ", ": ping\n\n",
    "data", "data:", "data: ", "data: a\n\n", "data:b\r\n\r\n", "data: a\r\n", "data: a\r", "data:  c\n", "DATA: x\n",
    "event", "event:", "event: ping\n", "event:é\n", "id: 1\n", "retry: 5\n", "id", "foo: 1\n",
    '{"k": "v"}', "é", "日本", "🦆", "x", "\x00", "\x0b", "\x85", "\u2028",
]  # fmt: skip

streams = st.lists(st.sampled_from(TOKENS), max_size=25).map(
    lambda tokens: "".join(tokens).encode()
)


def reference(stream: bytes) -> list[StreamEvent]:
    """Dispatch events as section 9.2.6 of the HTML standard says, word by word."""
    events = []
    data_buffer, event_type = "", ""
    for line in reference_lines(stream.decode().removeprefix("\ufeff")):
        if line == "":
            if data_buffer != "":
                events.append(
                    StreamEvent(event_type or None, data_buffer[:-1].encode())
                )
            data_buffer, event_type = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:  # a comment's field is empty
            case "event":
                event_type = value
            case "data":
                data_buffer += value + "\n"
    return events


def reference_lines(text: str) -> list[str]:
    """Return the lines that are whole; what follows the last of them is not."""
    lines = [""]
    previous = ""
    for character in text:
        if character == "\n" and previous == "\r":
            pass  # the second half of one line end
        elif character in "\r\n":
            lines.append("")
        else:
            lines[-1] += character
        previous = character
    return lines[:-1]


def parse(*pieces: bytes) -> list[StreamEvent]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def cut(stream: bytes, places: set[int]) -> list[bytes]:
    cuts = [0, *sorted(p for p in places if p <= len(stream)), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(cuts)]


@given(streams)
@example(b"\xef\xbb\xbfdata: a\n\n")
@example(b"data: a\ndata: b\n\n")
@example(b"event: x\nevent:\ndata: a\n\n")
@example(b"data\n\nevent: x\n\ndata: y\n\n")
def test_the_events_are_those_of_the_standard(stream):
    assert parse(stream) == reference(stream)


@given(streams, st.sets(st.integers(0, 80), max_size=8))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", {8, 9, 10, 11})
@example(b"\xef\xbb\xbfdata: a\n\n", {1, 2})
def test_how_the_bytes_are_cut_changes_nothing(stream, places):
    whole, pieces = SseParser(), SseParser()
    expected = whole.feed(stream)
    found = [event for piece in cut(stream, places) for event in pieces.feed(piece)]
    assert found == expected
    assert pieces.close() == whole.close()


@given(streams)
@example(b"data: a\r\ndata: b\r\n\r\n")
def test_byte_by_byte_is_the_same_as_at_once(stream):
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == parse(stream)


def test_an_empty_piece_changes_nothing():
    assert parse(b"", b"data: a\r", b"", b"\ndata: b\r\n\r\n", b"") == [
        StreamEvent(None, b"a\nb")
    ]


def test_an_event_is_out_with_its_last_byte_and_not_later():
    parser = SseParser()
    assert parser.feed(b"data: a\r\n\r") == [StreamEvent(None, b"a")]
    assert parser.feed(b"\ndata: b\n") == []
    assert parser.feed(b"\n") == [StreamEvent(None, b"b")]


@pytest.mark.parametrize(
    ("stream", "rest"),
    [
        (b"", None),
        (b"data: a\n\n", None),
        (b"data: a\n\n: bye", None),
        (b"data: a\n\n: bye\n", None),
        (b"data: a\n\n\r\n", None),
        (b"data: a\n", StreamEvent(None, b"a")),
        (b"data: a", StreamEvent(None, b"a")),
        (b'event: error\ndata: {"m', StreamEvent("error", b'{"m')),
        (b"event: error\n", StreamEvent("error", b"")),
        (b"data: x\n\nda", StreamEvent(None, b"")),
        (b"data: \xc3", StreamEvent(None, b"\xc3")),
        (b"\xef\xbb", StreamEvent(None, b"")),
    ],
)
def test_what_the_end_cuts_off_is_reported(stream, rest):
    parser = SseParser()
    parser.feed(stream)
    assert parser.close() == rest
    assert parser.close() is None


def test_bytes_that_are_no_text_reach_the_decoder_as_they_are():
    assert parse(b"event: \xff\ndata: \xff\xfe\n\n") == [
        StreamEvent("\ufffd", b"\xff\xfe")
    ]


@pytest.mark.parametrize("stream", [b"data: ", b"data: x\n", b": ping\n", b"x", b"\r"])
@pytest.mark.parametrize("piece_size", [1, 7, 1000])
def test_an_endless_event_overflows(stream, piece_size):
    endless = stream * 300 if stream != b"\r" else b"data: x\r" * 300
    parser = SseParser(event_bytes_max=200)
    with pytest.raises(SseOverflow):
        for start in range(0, len(endless), piece_size):
            parser.feed(endless[start : start + piece_size])


@pytest.mark.parametrize("piece_size", [1, 64, 10_000])
def test_the_largest_event_is_taken_and_one_byte_more_is_not(piece_size):
    def feed(size):
        parser = SseParser(event_bytes_max=100)
        stream = b"data: " + b"x" * (size - 6) + b"\n\n"
        pieces = (stream[i : i + piece_size] for i in range(0, len(stream), piece_size))
        return [event for piece in pieces for event in parser.feed(piece)]

    assert feed(100) == [StreamEvent(None, b"x" * 94)]
    with pytest.raises(SseOverflow):
        feed(102)


def test_many_events_may_be_larger_than_the_limit_together():
    parser = SseParser(event_bytes_max=10)
    assert len(parser.feed(b"data: 123\n\n" * 50)) == 50


def test_single_bytes_do_not_cost_the_square_of_the_length():
    parser = SseParser()
    for _ in range(300_000):  # minutes, if every byte looked at all before it
        parser.feed(b"x")
    assert parser.feed(b"\n\n") == []
