"""The calls of a stream are put together again, however a server tells them apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import ToolCallDelta
from duckservice.providers.failures import Classifier
from duckservice.providers.openai_answer import ChatEvents

A, B = ("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')


def piece(arguments="", *, index=None, id=None, name=None):  # noqa: A002 - the wire's name
    said = {"index": index, "id": id}
    function = {"name": name, "arguments": arguments}
    return {
        **{key: value for key, value in said.items() if value is not None},
        "function": {k: v for k, v in function.items() if v is not None},
    }


def told(pieces):
    """Return id, name and arguments of each call that a client is told of."""
    events = ChatEvents(Classifier("up"), done_required=True)
    chunks = []
    for its in pieces:
        body = {"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [its]}}]}
        events.take(json.dumps(body).encode(), chunks)
    calls = {}
    for chunk in chunks:
        if isinstance(chunk, ToolCallDelta):
            call = calls.setdefault(chunk.index, ["", "", ""])
            call[0] += chunk.id or ""
            call[1] += chunk.name or ""
            call[2] += chunk.arguments
    assert list(calls) == list(range(len(calls)))
    return [tuple(call) for call in calls.values()]


STREAMS = {
    "index 0 for all, the rest without an id": [
        piece(index=0, id="a", name="f"),
        piece('{"x":1}', index=0),
        piece(index=0, id="b", name="g"),
        piece('{"y":2}', index=0),
    ],
    "index 0 for all, the id with each piece": [
        piece(index=0, id="a", name="f"),
        piece('{"x":1}', index=0, id="a"),
        piece(index=0, id="b", name="g"),
        piece('{"y":2}', index=0, id="b"),
    ],
    "index 0 for all, id and name with each piece": [
        piece('{"x"', index=0, id="a", name="f"),
        piece(":1}", index=0, id="a", name="f"),
        piece('{"y"', index=0, id="b", name="g"),
        piece(":2}", index=0, id="b", name="g"),
    ],
    "no index, by turns": [
        piece(id="a", name="f"),
        piece(id="b", name="g"),
        piece('{"x":1}', id="a"),
        piece('{"y":2}', id="b"),
    ],
    "index 0 for all, by turns": [
        piece(index=0, id="a", name="f"),
        piece(index=0, id="b", name="g"),
        piece('{"x":1}', index=0, id="a"),
        piece('{"y":2}', index=0, id="b"),
    ],
    "no index, the rest without an id": [
        piece(id="a", name="f"),
        piece('{"x":1}'),
        piece(id="b", name="g"),
        piece('{"y":2}'),
    ],
    "another id with each piece": [
        piece(index=0, id="a", name="f"),
        piece(index=1, id="b", name="g"),
        piece('{"x":1}', index=0, id="c"),
        piece('{"y":2}', index=1, id="d"),
    ],
}


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS.keys())
def test_each_call_gets_its_own_arguments(pieces):
    assert told(pieces) == [A, B]


def test_calls_of_one_id_are_told_apart_by_their_index():
    pieces = [
        piece(index=0, id="x", name="f"),
        piece(index=1, id="x", name="g"),
        piece("1", index=0, id="x"),
        piece("2", index=1, id="x"),
    ]
    assert told(pieces) == [("x", "f", "1"), ("x", "g", "2")]


def test_calls_without_ids_get_some_of_their_own():
    (first, *_), (second, *_) = told([piece("1", name="f"), piece("2", name="f")])
    assert first
    assert second
    assert first != second


texts = st.lists(st.text("abc{}", min_size=1, max_size=4), max_size=4)


@settings(max_examples=100)
@given(
    calls=st.lists(st.tuples(st.sampled_from("fgh"), texts), min_size=1, max_size=4),
    by=st.sampled_from(["index", "id", "both", "index 0 and id"]),
    names_repeated=st.booleans(),
    data=st.data(),
)
def test_pieces_by_turns_come_to_their_calls(calls, by, names_repeated, data):
    def key(number):
        index = {"index": number, "both": number, "index 0 and id": 0}.get(by)
        return {"index": index, "id": None if by == "index" else f"c{number}"}

    begun = [
        piece(name=name, **key(number) | {"id": f"c{number}"})
        for number, (name, _) in enumerate(calls)
    ]
    named = names_repeated and by != "index"
    left = {number: list(parts) for number, (_, parts) in enumerate(calls)}
    pieces = begun
    while waiting := [number for number, parts in left.items() if parts]:
        number = data.draw(st.sampled_from(waiting))
        name = calls[number][0] if named else None
        pieces.append(piece(left[number].pop(0), name=name, **key(number)))
    assert told(pieces) == [
        (f"c{number}", name, "".join(parts))
        for number, (name, parts) in enumerate(calls)
    ]
