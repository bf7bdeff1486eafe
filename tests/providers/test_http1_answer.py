"""The parser of answers: strict about framing, indifferent to how bytes arrive."""

import pytest
from hypothesis import given, strategies as st

from duckservice.providers.http1_answer import AnswerParser, BrokenAnswer
from tests.upstream import answer, chunked, head

CHUNKED = b"transfer-encoding: chunked"

SOUND = [
    answer(b"ok"),
    answer(b""),
    answer(b"ok", b"connection: close"),
    answer(b"ok", b"x-empty:", b"x-blank:   ", b"x-padded:  y  "),
    answer(b"ok", b"upgrade: h2c", b"connection: upgrade"),
    head(CHUNKED) + chunked(b"first", b"second"),
    head(CHUNKED) + b"2;ext=1\r\nok\r\n0\r\nx-trailer: y\r\n\r\n",
    head(b"Transfer-Encoding: Chunked ") + chunked(b"ok"),
    head(status=b"204 No Content"),
    head(b"content-length: 5", status=b"304 Not Modified"),
    b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + answer(b"ok"),
    head(b"content-length: 5", b"link: x", status=b"103 Hints") + answer(b"ok"),
    b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
]

BROKEN = [
    b"hello\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.1 99 Low\r\n\r\n",
    b"HTTP/1.1 999 High\r\n\r\n",
    b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    head(status=b"101 Switching Protocols"),
    head(b"content-length: 2", b"content-length: 2") + b"ok",
    head(b"content-length: 2", b"content-length: 3") + b"ok",
    head(b"content-length: 2, 2") + b"ok",
    head(b"content-length: -2") + b"ok",
    head(b"content-length: 0x2") + b"ok",
    head(b"content-length: 99999999999999999999"),
    head(b"content-length: 2", CHUNKED) + chunked(b"ok"),
    head(CHUNKED, b"content-length: 2") + chunked(b"ok"),
    head(CHUNKED, CHUNKED) + chunked(b"ok"),
    head(b"transfer-encoding: gzip, chunked") + chunked(b"ok"),
    head(b"transfer-encoding: identity") + b"ok",
    head(b"transfer-encoding:") + b"ok",
    head(b"x : y") + b"ok",
    head(b"x: y", b" folded") + b"ok",
    head(b"x: \x00") + b"ok",
    head(b"x: a\rb") + b"ok",
    head(CHUNKED) + b"2\r\nokX\r\n0\r\n\r\n",
    head(CHUNKED) + b"2 \r\nok\r\n0\r\n\r\n",
    head(CHUNKED) + b"2\nok\r\n0\r\n\r\n",
    head(CHUNKED) + b"-2\r\nok\r\n0\r\n\r\n",
    head(CHUNKED) + b"fffffffffffffffff\r\nok",
]


def outcome(pieces, *, eof=False):
    """Return all that can be seen of an answer that comes in *pieces*."""
    parser = AnswerParser()
    body = b""
    try:
        for piece in pieces:
            if parser.complete:
                break
            parser.feed(piece)
            body += parser.take() if parser.head_complete else b""
        body += parser.take()
        if eof:
            parser.feed_eof()
    except BrokenAnswer:
        return parser.status, "broken", body
    complete = parser.complete and parser.reusable
    return parser.status, tuple(parser.headers), body, parser.complete, complete


@given(st.sampled_from(SOUND + BROKEN), st.data())
def test_how_the_bytes_are_cut_changes_nothing(whole, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert outcome([p for p in pieces if p]) == outcome([whole])


@pytest.mark.parametrize("whole", SOUND)
def test_a_sound_answer_is_complete_and_not_before_its_last_byte(whole):
    assert outcome([whole])[3]
    for end in range(len(whole)):
        seen = outcome([whole[:end]])
        assert seen[1] != "broken"
        assert not seen[3], f"complete after {end} bytes of {len(whole)}"


@pytest.mark.parametrize("whole", BROKEN)
def test_what_is_not_strictly_http_is_refused(whole):
    assert outcome([whole])[1] == "broken"


def test_names_are_lower_case_and_values_without_blanks_around():
    parser = AnswerParser()
    parser.feed(answer(b"ok", b"X-Empty:", b"X-Padded:  y  "))
    assert parser.headers == [
        (b"content-length", b"2"),
        (b"x-empty", b""),
        (b"x-padded", b"y"),
    ]


def test_an_interim_answer_leaves_no_header_behind():
    parser = AnswerParser()
    parser.feed(head(b"link: x", b"content-length: 9", status=b"103 Hints"))
    parser.feed(answer(b"ok"))
    assert (parser.status, parser.headers) == (200, [(b"content-length", b"2")])
    assert parser.take() == b"ok"


def test_a_body_of_many_small_chunks_may_be_as_long_as_it_likes():
    parser = AnswerParser()
    parser.feed(head(CHUNKED))
    for _ in range(30_000):  # 90,000 bytes that are no body, and no end of it
        parser.feed(b"1\r\n")
        parser.feed(b"x\r\n")
        assert parser.take() == b"x"


@pytest.mark.parametrize(
    "framing", [head(b"content-length: 5"), head(CHUNKED) + b"5\r\n"]
)
def test_an_end_before_the_end_is_an_error_whatever_came(framing):
    for body in (b"", b"half"):
        parser = AnswerParser()
        parser.feed(framing + body)
        with pytest.raises(BrokenAnswer):
            parser.feed_eof()


def test_without_framing_the_end_of_the_connection_is_that_of_the_body():
    assert outcome([head(), b"a", b"b"], eof=True) == (200, (), b"ab", True, False)


def test_a_fault_in_the_body_is_raised_behind_what_came_before_it():
    parser = AnswerParser()
    parser.feed(head(CHUNKED) + b"5\r\nfirst\r\nzz\r\n")
    assert parser.take() == b"first"
    with pytest.raises(BrokenAnswer):
        parser.take()


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\n", answer(b"more")])
@pytest.mark.parametrize("more", [b"connection: close", b"x: y"])
def test_a_connection_with_a_surplus_is_not_reusable(surplus, more):
    parser = AnswerParser()
    parser.feed(answer(b"ok", more) + surplus)
    assert (parser.complete, parser.reusable, parser.take()) == (True, False, b"ok")
    assert parser.headers[0] == (b"content-length", b"2")


@pytest.mark.parametrize("size", [1, 1000, 65536])
def test_a_head_has_a_largest_size(size):
    endless = head(*[b"x: " + b"y" * 100] * 1000, b"content-length: 0")
    parser = AnswerParser()
    with pytest.raises(BrokenAnswer, match="head"):
        for start in range(0, len(endless), size):
            parser.feed(endless[start : start + size])


def test_interim_answers_count_towards_the_head():
    parser = AnswerParser()
    with pytest.raises(BrokenAnswer, match="head"):
        for _ in range(10_000):
            parser.feed(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("endless", [b"x-trailer: y\r\n", b"x" * 100])
def test_trailers_and_chunk_extensions_are_bounded(endless):
    parser = AnswerParser()
    parser.feed(head(CHUNKED) + (b"0\r\n" if b":" in endless else b"5;"))
    with pytest.raises(BrokenAnswer, match="without a body"):
        for _ in range(100_000):
            parser.feed(endless)
            parser.take()


def test_what_is_said_to_be_here_can_be_taken_and_what_is_not_cannot():
    parser = AnswerParser()
    parser.feed(head(CHUNKED))
    assert not parser.is_here
    parser.feed(b"2\r\nok\r\n")
    assert parser.is_here
    assert parser.take() == b"ok"
    assert not parser.is_here
    parser.feed(b"0\r\n\r\n")
    assert parser.is_here
    assert parser.take() == b""


def test_an_answer_that_breaks_off_is_not_here():
    parser = AnswerParser()
    parser.feed(head(CHUNKED))
    parser.feed(b"nonsense\r\n")
    assert not parser.is_here
    with pytest.raises(BrokenAnswer):
        parser.take()
