from __future__ import annotations

import json
import struct
import zlib

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.providers.bedrock.eventstream import (
    HEADERS_BYTES_MAX,
    EventStreamFraming,
)
from duckservice.providers.framing import FramingError, StreamEvent
from tests.providers.event_bytes import (
    event,
    exception,
    framed,
    header,
    message,
    string,
)

NAMES = st.sampled_from(["contentBlockDelta", "messageStop", "metadata", "initial-x"])
VALUES = st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3)


def read(data: bytes, sizes=(10**9,)) -> list[StreamEvent]:
    framing = EventStreamFraming()
    events: list[StreamEvent] = []
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        events += framing.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert framing.close() is None
    return events


def test_an_event_says_in_its_json_what_it_is():
    data = event("messageStart", {"role": "assistant"})
    assert read(data) == [
        StreamEvent("messageStart", b'{"messageStart":{"role": "assistant"}}')
    ]
    assert read(message({":event-type": "initial-response", ":message-type": "event"}))[
        0
    ] == StreamEvent("initial-response", b'{"initial-response":{}}')


def test_exceptions_and_errors_come_under_their_names():
    thrown = exception("throttlingException", {"message": "slow down"})
    failed = message(
        {
            ":message-type": "error",
            ":error-code": "InternalFailure",
            ":error-message": 'a "bad" day',
        }
    )
    assert [json.loads(found.data) for found in read(thrown + failed)] == [
        {"exception": "throttlingException", "body": {"message": "slow down"}},
        {"exception": "InternalFailure", "body": {"message": 'a "bad" day'}},
    ]


@settings(deadline=None)
@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
)
def test_any_cut_gives_the_events_that_awss_own_reader_finds(said, sizes):
    buffer = pytest.importorskip("botocore.eventstream").EventStreamBuffer()
    data = b"".join(event(name, value) for name, value in said)
    buffer.add_data(data)
    theirs = [(m.headers[":event-type"], json.loads(m.payload)) for m in buffer]
    ours = [(e.event, json.loads(e.data)[e.event]) for e in read(data, sizes)]
    assert ours == theirs == said


def test_no_bit_can_turn_unnoticed():
    before, data = event("a", {}), event("contentBlockDelta", {"text": "duck"})
    for place in range(len(data)):
        for bit in (1, 128):
            turned = bytearray(data)
            turned[place] ^= bit
            framing = EventStreamFraming()
            assert len(framing.feed(before + bytes(turned))) == 1
            with pytest.raises(FramingError):
                framing.feed(b"")


def test_what_is_whole_comes_before_what_is_broken_wherever_the_bytes_are_cut():
    good, bad = event("a", {"x": 1}), event("b", {})[:-1] + b"\0"
    for cut in range(len(good + bad)):
        framing = EventStreamFraming()
        events: list[StreamEvent] = []
        with pytest.raises(FramingError, match="wrong checksum"):
            for piece in ((good + bad)[:cut], (good + bad)[cut:], b""):
                events += framing.feed(piece)
        assert [found.event for found in events] == ["a"]


def test_a_message_that_is_too_large_is_refused_before_it_is_here():
    prelude = struct.pack(">II", 2000, 100)
    prelude += struct.pack(">I", zlib.crc32(prelude))
    with pytest.raises(FramingError, match="larger than 1999 bytes"):
        EventStreamFraming(message_bytes_max=1999).feed(prelude)
    assert EventStreamFraming(message_bytes_max=2000).feed(prelude) == []


@pytest.mark.parametrize(
    ("total", "headers"), [(15, 0), (0, 0), (40, 25), (2**20, HEADERS_BYTES_MAX + 1)]
)
def test_lengths_that_do_not_fit_together_are_refused(total, headers):
    prelude = struct.pack(">II", total, headers)
    prelude += struct.pack(">I", zlib.crc32(prelude))
    with pytest.raises(FramingError, match="do not fit"):
        EventStreamFraming().feed(prelude)


def test_headers_of_every_type_are_passed_over():
    others = b"".join(
        header(f"h{kind}", kind, value)
        for kind, value in enumerate(
            (
                b"",
                b"",
                b"\x01",
                b"\x01\x02",
                b"\x01\x02\x03\x04",
                b"12345678",
                b"\x00\x03\xff\xff\xff",
                b"\x00\x02ok",
                b"12345678",
                b"0123456789abcdef",
            )
        )
    )
    names = string(":event-type", "ping") + string(":message-type", "event")
    assert read(framed(others + names, b"{}"))[0].event == "ping"
    assert read(framed(names + others, b"{}"))[0].event == "ping"


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        string(":message-type", "event"),
        string(":message-type", "event") + string(":event-type", ""),
        string(":message-type", "event") + string(":event-type", 'a":1,"b'),
        string(":message-type", "event") + string(":event-type", "a\n"),
        string(":message-type", "event") + string(":event-type", "ä"),
        string(":message-type", "surprise") + string(":event-type", "a"),
        string(":message-type", "exception"),
        header("x", 10, b""),
        header("x", 7, b"\xff\xff"),
        header("x", 7, b"\x00"),
        header("x", 9, b"short"),
        header("x", 7, b"\x00\x01\xff"),
        b"\xff",
        b"\x01",
    ],
)
def test_headers_that_make_no_sense_are_refused(headers):
    with pytest.raises(FramingError, match="a message"):
        EventStreamFraming().feed(framed(headers, b"{}"))


def test_a_stream_that_is_cut_off_leaves_what_no_decoder_takes_for_an_event():
    data = event("messageStop", {})
    for end in range(1, len(data)):
        framing = EventStreamFraming()
        assert framing.feed(data[:end]) == []
        rest = framing.close()
        assert rest is not None
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(rest.data)
    assert EventStreamFraming().close() is None
