"""The key of a request: all that it says is in it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, settings

from duckservice.cache.key import canonical, key_of
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImagePart,
    ImageRequest,
    Message,
    OpaquePart,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.gateway.strategies import json_values

EXTRA = {"a": [1, {"b": None, "c": True}], "d": "x"}

FULL_CHAT = ChatRequest(
    model="m",
    messages=(
        Message(role="system", parts=(TextPart(text="be brief", extra=EXTRA),)),
        Message(
            role="user",
            name="ann",
            extra=EXTRA,
            parts=(
                TextPart(text="what is this?"),
                ImagePart(url="https://x/y.png", detail="low", extra=EXTRA),
                ImagePart(data="aGk=", media_type="image/png"),
                OpaquePart(format="openai", value={"type": "input_audio", "n": 1}),
            ),
        ),
        Message(
            role="assistant",
            parts=(
                ReasoningPart(text="hm", signature="s", redacted="r"),
                RefusalPart(text="no"),
                ToolCall(id="c1", name="look", arguments="{}", extra=EXTRA),
            ),
        ),
        Message(
            role="tool",
            parts=(
                ToolResult(
                    tool_call_id="c1",
                    content=(TextPart(text="a duck"),),
                    is_error=False,
                    extra=EXTRA,
                ),
            ),
        ),
    ),
    max_tokens=10,
    temperature=0.5,
    top_p=0.9,
    top_k=3,
    n=2,
    stop=("a", "b"),
    seed=1,
    presence_penalty=0.1,
    frequency_penalty=0.2,
    tools=(
        Tool(name="look", description="d", parameters=EXTRA, strict=True, extra=EXTRA),
    ),
    tool_choice=ToolChoice(mode="tool", name="look"),
    parallel_tool_calls=False,
    response_format=ResponseFormat(
        type="json_schema", name="n", schema=EXTRA, strict=True, description="d"
    ),
    reasoning=Reasoning(effort="low", budget_tokens=5, mode="enabled"),
    user="u",
    format="openai",
    extra=EXTRA,
    betas=("x", "y"),
)
BARE_CHAT = ChatRequest(model="m", messages=(Message.of("user", "hi"),))
FULL_EMBEDDING = EmbeddingRequest(
    model="m", input=("a", (1, 2), "b"), dimensions=3, user="u", extra=EXTRA
)


def changed(value: Any) -> Iterator[Any]:
    """Yield *value* with one thing changed, for each thing that there is in it."""
    match value:
        case None:
            yield from ("", 0, False, (), {})
        case bool():
            yield from (not value, None, int(value))
        case str():
            yield from (value + "x", value[:-1] + "\0", None)
        case int() | float():
            yield from (value + 1, -value, str(value), None)
        case tuple() | list():
            yield from changed_sequence(value)
        case Mapping():
            yield from changed_mapping(value)
        case _:
            for field in attrs.fields(type(value)):
                for other in changed(getattr(value, field.name)):
                    yield attrs.evolve(value, **{field.name: other})


def changed_sequence(value: Any) -> Iterator[Any]:
    kind = type(value)
    yield from (None, kind([*value, "more"]), kind([*value, *value, 0]))
    if value:
        yield kind(value[1:])
    if len(value) > 1 and value[0] != value[-1]:
        yield kind(reversed(value))
    for at, item in enumerate(value):
        for other in changed(item):
            yield kind([*value[:at], other, *value[at + 1 :]])


def changed_mapping(value: Mapping[str, Any]) -> Iterator[Any]:
    yield from (None, {**value, "more": None})
    for key, item in value.items():
        rest = {k: v for k, v in value.items() if k != key}
        yield from (rest, {**rest, key + "x": item})
        for other in changed(item):
            yield {**rest, key: other}


def reordered(value: Any) -> Any:
    """Return *value* with the keys of every mapping in the opposite order."""
    if attrs.has(type(value)):
        fields = {
            field.name: reordered(getattr(value, field.name))
            for field in attrs.fields(type(value))
        }
        return attrs.evolve(value, **fields)
    match value:
        case tuple() | list():
            return type(value)(map(reordered, value))
        case Mapping():
            return {key: reordered(value[key]) for key in reversed([*value])}
        case _:
            return value


@pytest.mark.parametrize(
    "request_", [FULL_CHAT, BARE_CHAT, FULL_EMBEDDING], ids=lambda r: type(r).__name__
)
def test_whatever_is_changed_changes_the_key(request_: AnyRequest) -> None:
    keys = {key_of(request_)}
    variants = list(changed(request_))
    assert len(variants) > 50
    for variant in variants:
        assert variant != request_ or repr(variant) != repr(request_)
        keys.add(key_of(variant))
    # Some changes at different places come to the same.
    different = {repr(variant) for variant in variants}
    assert len(keys) == len(different) + 1
    assert None not in keys


def test_every_field_of_every_request_was_filled() -> None:
    full = [
        FULL_CHAT,
        FULL_EMBEDDING,
        FULL_CHAT.tool_choice,
        FULL_CHAT.reasoning,
        FULL_CHAT.response_format,
        *FULL_CHAT.tools,
    ]
    for value in full:
        for field in attrs.fields(type(value)):
            assert getattr(value, field.name) is not None, field.name


def in_another_order(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: fields[key] for key in reversed([*fields])}


SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "why": {"type": "string"}},
}
TURNED = {**SCHEMA, "properties": in_another_order(SCHEMA["properties"])}


def with_format(schema) -> ChatRequest:
    its = ResponseFormat(type="json_schema", name="n", schema=schema)
    return attrs.evolve(BARE_CHAT, response_format=its)


def with_tool(schema) -> ChatRequest:
    return attrs.evolve(BARE_CHAT, tools=(Tool(name="f", parameters=schema),))


def with_extra(schema) -> ChatRequest:
    its = {"guided": [{"json": schema}], "n": 1}
    return attrs.evolve(BARE_CHAT, extra=its)


def with_examples(schema) -> ChatRequest:
    tool = Tool(name="f", extra={"input_examples": [schema["properties"]]})
    return attrs.evolve(BARE_CHAT, tools=(tool,))


@pytest.mark.parametrize(
    "with_",
    [with_format, with_tool, with_extra, with_examples],
    ids=lambda f: f.__name__,
)
def test_the_order_of_a_schemas_properties_is_the_answers(with_) -> None:
    assert SCHEMA == TURNED
    assert key_of(with_(SCHEMA)) != key_of(with_(TURNED))
    assert key_of(with_(SCHEMA)) == key_of(with_({**SCHEMA}))


def test_what_stands_beside_a_schema_may_be_in_any_order() -> None:
    request = with_extra(SCHEMA)
    other = attrs.evolve(request, extra=in_another_order(request.extra))
    assert key_of(request) == key_of(other)


@settings(max_examples=40)
@given(json_values)
def test_the_order_of_a_mappings_keys_does_not_matter(value) -> None:
    request = attrs.evolve(
        FULL_CHAT,
        tools=(),
        response_format=None,
        extra={"a": value, "b": value, "c": 0},
    )
    assert key_of(reordered(request)) == key_of(request)


@settings(max_examples=40)
@given(json_values, json_values)
def test_what_differs_as_json_differs_in_its_form(one, other) -> None:
    assert (canonical(one) == canonical(other)) == (exactly(one) == exactly(other))


def exactly(value: Any) -> Any:
    """Return *value* so that == tells 1 from 1.0 and True, and 0.0 from -0.0."""
    match value:
        case list():
            return [exactly(item) for item in value]
        case dict():
            return {key: exactly(item) for key, item in value.items()}
        case float():
            return "float", value.hex(), value == value
        case _:
            return type(value), value


def test_equal_requests_of_different_kinds_have_different_keys() -> None:
    embedding = EmbeddingRequest(model="m", input=())
    image = ImageRequest(model="m", prompt="")
    chat = ChatRequest(model="m", messages=())
    assert len({key_of(its) for its in (embedding, image, chat)}) == 3


def test_parts_with_the_same_fields_are_told_apart() -> None:
    text = Message(role="user", parts=(TextPart(text="x"),))
    refusal = Message(role="user", parts=(RefusalPart(text="x"),))
    keys = {key_of(attrs.evolve(BARE_CHAT, messages=(its,))) for its in (text, refusal)}
    assert len(keys) == 2


def test_where_one_text_ends_and_the_next_begins_is_in_the_key() -> None:
    cuts = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("s1:a", "")]
    keys = {key_of(attrs.evolve(BARE_CHAT, stop=cut)) for cut in cuts}
    assert len(keys) == len(cuts)


def test_the_canonical_form_is_the_same_in_every_process() -> None:
    form = canonical({"b": TextPart(text="é"), "a": [True, None, -1, 0.5]})
    assert form == (
        b"m2:"
        b"s1:a" + b"l4:tni-1;d\x3f\xe0\0\0\0\0\0\0" + b"s1:b"
        b"o8:TextPart2:" + b"4:texts2:\xc3\xa9" + b"5:extram0:"
    )


def test_half_a_character_is_a_text_too() -> None:
    texts = ("\ud800", "\ud801", "?", "\ufffd")
    keys = {key_of(attrs.evolve(BARE_CHAT, user=text)) for text in texts}
    assert len(keys) == len(texts)
    assert None not in keys


@pytest.mark.parametrize("what", [object(), {1, 2}, b"bytes"])
def test_what_has_no_canonical_form_has_no_key(what) -> None:
    assert key_of(attrs.evolve(BARE_CHAT, extra={"a": what})) is None


def test_what_is_nested_too_deeply_has_no_key() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert key_of(attrs.evolve(BARE_CHAT, extra={"a": deep})) is None
