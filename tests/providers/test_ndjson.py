from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.providers.framing import FramingError
from duckservice.providers.ollama.ndjson import NdjsonFraming


def lines_of(*pieces: bytes, **limits) -> list[bytes]:
    framing = NdjsonFraming(**limits)
    lines = [event.data for piece in pieces for event in framing.feed(piece)]
    last = framing.close()
    return lines if last is None else [*lines, last.data]


def test_every_line_is_an_event():
    assert lines_of(b'{"a":1}\n{"b":2}\n') == [b'{"a":1}', b'{"b":2}']


def test_a_line_counts_when_it_is_whole_and_not_before():
    framing = NdjsonFraming()
    assert framing.feed(b'{"a"') == []
    assert framing.feed(b":1}") == []
    assert framing.feed(b'\n{"b":2}') == [(None, b'{"a":1}')]
    assert framing.close() == (None, b'{"b":2}')
    assert framing.close() is None


def test_lines_may_end_in_crlf_and_blank_ones_are_ignored():
    assert lines_of(b"\r\n1\r\n\n  \n2\r\n\r\n") == [b"1", b"2"]


def test_a_stream_that_ends_between_two_lines_has_cut_nothing_off():
    framing = NdjsonFraming()
    framing.feed(b"1\n\r\n")
    assert framing.close() is None


@pytest.mark.parametrize("pieces", [[b"12345\n"], [b"1", b"2", b"3", b"4", b"5"]])
def test_a_line_that_is_too_long_is_refused_however_it_comes(pieces):
    assert lines_of(b"1234\n1234", line_bytes_max=4) == [b"1234", b"1234"]
    with pytest.raises(FramingError, match="longer than 4 bytes"):
        lines_of(*pieces, line_bytes_max=4)


@given(
    st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b" ", b"x" * 9]), max_size=20),
    st.lists(st.integers(0, 60), max_size=10),
)
@settings(deadline=None)
def test_any_way_to_cut_the_bytes_gives_the_same_lines(words, cuts):
    data = b"".join(words)
    places = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]
    expected = [line.strip() for line in data.split(b"\n") if line.strip()]
    assert lines_of(*pieces) == expected
