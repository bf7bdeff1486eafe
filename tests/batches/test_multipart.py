"""Forms, read in whichever pieces they come."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from duckservice.errors import InvalidRequest
from duckservice.gateway.multipart import (
    HEAD_BYTES_MAX,
    MultipartReader,
    PartBegins,
    PartData,
)

TYPE = "multipart/form-data; boundary=xyz"


def form(*parts: tuple[str, bytes], end: bytes = b"--xyz--\r\n") -> bytes:
    head = b'--xyz\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join(head % (name.encode(), body) for name, body in parts) + end


def read(*pieces: bytes, content_type: str = TYPE) -> list[tuple[str, bytes]]:
    reader = MultipartReader.of(content_type)
    parts: list[tuple[str, bytes]] = []
    for piece in pieces:
        for event in reader.feed(piece):
            match event:
                case PartBegins(name=name):
                    parts.append((name, b""))
                case PartData(data):
                    parts[-1] = parts[-1][0], parts[-1][1] + data
    reader.finish()
    return parts


tricky = st.lists(
    st.sampled_from([b"\r\n", b"--xyz", b"-", b"\r", b"\n", b"a", b"--xy", b"\r\n--xy"])
).map(b"".join)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["file", "purpose"]),
            tricky.filter(lambda body: b"\r\n--xyz" not in b"\r\n" + body),
        ),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_a_form_reads_the_same_however_its_bytes_come(parts, data) -> None:
    whole = form(*parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(*pieces) == parts


@given(st.binary(max_size=200) | tricky)
def test_any_bytes_are_read_or_refused(data) -> None:
    with pytest.raises(InvalidRequest):
        read(b"--xyz\r\n" + data)


def test_a_large_part_is_passed_on_as_it_comes() -> None:
    reader = MultipartReader.of(TYPE)
    list(reader.feed(form(("file", b""), end=b"")[:-2]))
    for _ in range(50):
        events = list(reader.feed(b"x" * 10_000))
        assert sum(len(event.data) for event in events) >= 9_900
        assert len(reader._buffer) < 100


def test_names_and_filenames_may_be_quoted_or_not() -> None:
    head = (
        b"preamble\r\n--xyz \r\nContent-Type: text/plain\r\ncontent-disposition:"
        b' form-data; name=file; filename="a b.jsonl"\r\n\r\nhi\r\n--xyz--'
    )
    reader = MultipartReader.of('multipart/form-data; charset=utf-8; boundary="xyz"')
    assert list(reader.feed(head)) == [PartBegins("file", "a b.jsonl"), PartData(b"hi")]


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="],
)
def test_another_type_is_refused_by_name(content_type) -> None:
    with pytest.raises(InvalidRequest, match="Content-Type"):
        MultipartReader.of(content_type)


@pytest.mark.parametrize(
    "body",
    [
        form(("file", b"hi"), end=b""),
        b"x" * 10_000,
        b"--xyz\r\nX: " + b"y" * HEAD_BYTES_MAX,
        b"--xyz\r\n\r\nno name\r\n--xyz--",
        b"--xyzabc\r\n\r\n",
        form(*[("purpose", b"")] * 33),
    ],
)
def test_a_form_that_is_cut_off_or_over_a_limit_is_refused(body) -> None:
    with pytest.raises(InvalidRequest, match="multipart"):
        read(body)
