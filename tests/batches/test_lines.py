"""Reading a batch's lines, whatever their bytes are; writing its results."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, strategies as st

from duckservice.batches import lines as batch_lines
from duckservice.batches.lines import (
    BadLine,
    BatchLine,
    LineReader,
    LineSplitter,
    answer_line,
    endpoint_of,
    failure_line,
    line_number,
)

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


def split(*pieces: bytes) -> list[tuple[int, bytes | None]]:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    lines += splitter.finish()
    return [(line.number, line.data) for line in lines]


def read(*lines: bytes | dict, endpoint=CHAT, model=None) -> list:
    reader, splitter = LineReader(endpoint, model), LineSplitter()
    data = b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
    )
    raw = [*splitter.feed(data), *splitter.finish()]
    return [reader.read(line) for line in raw]


def openai_line(custom_id="a", **more) -> dict:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    line = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}
    return {**line, **more}


# Lines.


@given(
    st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=8),
    st.booleans(),
    st.data(),
)
def test_lines_and_their_numbers_do_not_depend_on_how_the_bytes_come(
    lines, ended, data
) -> None:
    whole = b"\n".join(lines) + (b"\n" if ended else b"")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    expected = [each[:-1] if each.endswith(b"\r") else each for each in expected]
    if expected and expected[0].startswith(b"\xef\xbb\xbf"):
        expected[0] = expected[0][3:]
    assert split(*pieces) == list(enumerate(expected, 1))


def test_a_line_that_is_too_long_is_bad_and_costs_no_memory(monkeypatch) -> None:
    monkeypatch.setattr(batch_lines, "LINE_BYTES_MAX", 10)
    assert split(b"a\n" + b"b" * 6, b"b" * 6, b"b\nc\n" + b"d" * 11) == [
        (1, b"a"),
        (2, None),
        (3, b"c"),
        (4, None),
    ]
    splitter = LineSplitter()
    for _ in range(100):
        assert not list(splitter.feed(b"x" * 10))
        assert len(splitter._pending) <= 10


anything = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "custom_id",
                        "method",
                        "url",
                        "body",
                        "prompt",
                        "messages",
                        "model",
                    ]
                )
                | st.text(max_size=4),
                inner,
                max_size=5,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(st.lists(anything, max_size=6), st.sampled_from([CHAT, EMBEDDINGS]))
@example([b"[" * 100_000], CHAT)
@example([b'{"prompt": "\\ud800", "model": "m"}'], CHAT)
@example([b'{"body": {"model": NaN}}', b"\xff"], CHAT)
def test_no_bytes_crash_the_reader_and_each_line_has_its_number(
    lines, endpoint
) -> None:
    reader, splitter = LineReader(endpoint, "m"), LineSplitter()
    raw = [*splitter.feed(b"\n".join(lines)), *splitter.finish()]
    for line in raw:
        its = reader.read(line)
        assert its is None or its.number == line.number
        assert isinstance(its, BatchLine | BadLine | None)
        if isinstance(its, BatchLine):
            assert json.loads(its.body)["model"]


def test_both_forms_may_stand_in_one_file() -> None:
    one, none, two, three = read(
        openai_line(),
        b"  ",
        {"prompt": "hi", "system": "short", "model": "m", "max_tokens": 5},
        {
            "messages": [{"role": "user", "content": "yo"}],
            "model": "n",
            "custom_id": "x",
        },
    )
    assert none is None
    assert (one.number, one.custom_id, one.request.model) == (1, "a", "m")
    assert (two.number, two.custom_id, two.request.max_tokens) == (3, "line-3", 5)
    assert json.loads(two.body) == {
        "model": "m",
        "max_tokens": 5,
        "messages": [
            {"role": "system", "content": "short"},
            {"role": "user", "content": "hi"},
        ],
    }
    assert (three.number, three.custom_id, three.request.model) == (4, "x", "n")


def test_a_body_is_taken_byte_for_byte() -> None:
    body = b'{ "messages":[{"role":"user","content":"h\\u0069"}],  "model":"m" }'
    line = b'{"custom_id":"a","method":"POST","url":"%b","body":%b}'
    [its] = read(line % (CHAT.encode(), body))
    assert its.body == body


def test_a_model_is_given_to_lines_that_name_none_and_to_no_other() -> None:
    nameless = {"messages": [{"role": "user", "content": "hi"}]}
    lines = read(
        {"prompt": "hi"},
        openai_line(body=nameless),
        openai_line("b"),
        model="usual",
    )
    assert [line.request.model for line in lines] == ["usual", "usual", "m"]
    assert json.loads(lines[1].body)["model"] == "usual"


@pytest.mark.parametrize(
    ("line", "param"),
    [
        ({"prompt": "hi"}, "model"),
        ({"model": "m"}, "prompt"),
        ({"model": "m", "prompt": 7}, "prompt"),
        ({"model": "m", "prompt": "a", "messages": []}, "messages"),
        (openai_line(url="/v1/elsewhere"), "url"),
        (openai_line(url=EMBEDDINGS), "url"),
        (openai_line(method="GET"), "method"),
        (openai_line(custom_id=None), "custom_id"),
        (openai_line(custom_id="x" * 513), "custom_id"),
        (openai_line(body=None), "body"),
        (openai_line(more=1), "more"),
        (b"[1]", None),
        (b"nonsense", None),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_field(line, param) -> None:
    [_, bad] = read(b"", line)
    assert isinstance(bad, BadLine)
    assert (bad.number, bad.param) == (2, param)
    assert bad.message


def test_a_custom_id_is_used_once() -> None:
    one, two, three = read(openai_line("x"), openai_line("x"), openai_line("y"))
    assert isinstance(one, BatchLine)
    assert (two.param, two.number) == ("custom_id", 2)
    assert isinstance(three, BatchLine)


def test_a_line_that_is_too_much_for_a_batch_is_bad(monkeypatch) -> None:
    monkeypatch.setattr(batch_lines, "LINES_MAX", 2)
    lines = read(*(openai_line(str(number)) for number in range(3)))
    assert isinstance(lines[1], BatchLine)
    assert "at most 2" in lines[2].message


def test_embeddings_are_lines_too() -> None:
    wrapped = openai_line(url=EMBEDDINGS, body={"model": "e", "input": "hi"})
    one, two = read(wrapped, {"model": "e", "input": ["a"]}, endpoint=EMBEDDINGS)
    assert one.kind == two.kind == "embedding"
    assert endpoint_of(json.dumps(wrapped).encode()) == EMBEDDINGS
    assert endpoint_of(b'{"prompt": "hi"}') is None
    assert endpoint_of(b"nonsense") is None


# Results.


@given(st.integers(1, 10**9), st.text(max_size=20), st.text(max_size=20))
def test_a_result_is_one_line_and_knows_its_number(number, custom_id, text) -> None:
    custom_id = custom_id.encode("utf-8", "replace").decode()
    text = text.encode("utf-8", "replace").decode()
    body = json.dumps({"text": text}).encode()
    answer = answer_line("batch_a1", number, custom_id, job="j", status=200, body=body)
    failure = failure_line("batch_a1", number, custom_id, code="c", message=text)
    for line in (answer, failure):
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert line_number(line[:-1]) == number
        assert json.loads(line)["custom_id"] == custom_id
    assert json.loads(answer)["response"]["body"] == {"text": text}
    assert json.loads(answer)["error"] is None
    assert json.loads(failure)["response"] is None


@given(st.binary(max_size=40))
@example(b'{"id": "batch_req_a_9999999999999999999999"}')
@example(b'{"id": 7}')
@example(b'{"id":"batch_req_a_1"')
def test_what_is_no_result_has_no_number(line) -> None:
    assert line_number(line) is None
