"""Recorded traffic of the Responses API, and OpenAI's document, as oracles.

Recorded requests are read without loss: what was read is written down again by an
inverse of its own, and must be what was sent. Recorded answers and the document
say which fields our answers must have.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path

import jsonschema
import pytest

from duckservice.completion import (
    Choice,
    Completion,
    Finished,
    ImagePart,
    OpaquePart,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    RefusalPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    UsageReport,
)
from duckservice.errors import BadProviderResponse, InvalidRequest
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.gateway.wire.responses_reply import encode_completion
from duckservice.gateway.wire.responses_stream import ResponseStreamEncoder
from tests.gateway.responses_reader import events_of
from tests.recordings import load, needs_recordings

PROVIDERS = ["openai", "azure", "xai", "deepseek", "openrouter", "llamacpp"]
OPENAPI = Path(__file__).parents[3] / "shared/openapi/openai-openapi.relaxed.json.gz"
needs_openapi = pytest.mark.skipif(
    not OPENAPI.exists(), reason="OpenAI's document is not here"
)

FUNCTION = {
    "type": "function",
    "name": "f",
    "description": "d",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
ASKED = {
    "model": "m",
    "input": "hi",
    "instructions": "be kind",
    "tools": [FUNCTION],
    "tool_choice": {"type": "function", "name": "f"},
    "metadata": {"a": "b"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "temperature": 1,
}


# Requests.


@functools.cache
def requests():
    """Return the recorded bodies that were accepted, or refused for their key only."""
    return [
        (record, record.request["body"])
        for provider in PROVIDERS
        for record in load(provider)
        if record.api == "responses" and isinstance(record.request.get("body"), dict)
    ]


def out_of_scope(body) -> list[str]:
    """Return the fields by which *body* needs a store or OpenAI's own servers."""
    tools, included = body.get("tools") or [], body.get("include") or []
    kept = ("previous_response_id", "prompt", "conversation", "store")
    return [
        *(name for name in kept if body.get(name)),
        *(f"tools[{i}].type" for i, t in enumerate(tools) if t["type"] != "function"),
        *(
            f"include[{index}]"
            for index, what in enumerate(included)
            if what != "reasoning.encrypted_content"
        ),
    ]


def meaning(item):
    """Return what a recorded item says, in one of the ways to say it."""
    item = without_nulls(item)
    for name in ("id", "status"):
        item.pop(name, None)
    kind = item.get("type", "message")
    if kind == "reasoning":
        said = item.get("content") or item.get("summary") or []
        text = "\n\n".join(part["text"] for part in said)
        return ("reasoning", text, item.get("encrypted_content", ""))
    if kind == "message":
        content = item["content"]
        if isinstance(content, str):
            content = [{"type": "input_text", "text": content}]
        return {
            **item,
            "type": "message",
            "content": [block_meaning(block) for block in content],
        }
    output = item.get("output")
    if kind == "function_call_output" and isinstance(output, str):
        output = [{"type": "input_text", "text": output}]
        return {**item, "output": output}
    return item


def block_meaning(block):
    block = {k: v for k, v in block.items() if v is not None and v != []}
    if block["type"] == "output_text":
        block["type"] = "input_text"
    return block


def written(message):
    """Yield the items of a message that was read."""
    content = []
    for part, place in zip(message.parts, message.places, strict=True):
        if ".content" in place or place in ("input", "instructions"):
            content.append(block_of(part))
            continue
        if content:
            yield message_of(message, content)
            content = []
        yield item_of(part)
    if content:
        yield message_of(message, content)


def message_of(message, content):
    its = {"type": "message", "role": message.role, "content": content}
    return {**its, **message.extra}


def item_of(part):
    match part:
        case ReasoningPart(text=text, signature=signature):
            return ("reasoning", text, signature or "")
        case ToolCall():
            its = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
            return {"type": "function_call", **its, **part.extra}
        case ToolResult():
            its = {
                "call_id": part.tool_call_id,
                "output": [block_of(inner) for inner in part.content],
            }
            return {"type": "function_call_output", **its, **part.extra}
        case OpaquePart(format="responses", value=value):
            return meaning(value)
        case _:
            raise AssertionError(part)


def block_of(part):
    match part:
        case TextPart():
            return {"type": "input_text", "text": part.text, **part.extra}
        case RefusalPart():
            return {"type": "refusal", "refusal": part.text}
        case ImagePart():
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            its = {"type": "input_image", "image_url": url, **part.extra}
            return its if part.detail is None else {**its, "detail": part.detail}
        case OpaquePart(format="responses", value=value):
            return block_meaning(value)
        case _:
            raise AssertionError(part)


def rewritten(request):
    """Return the body of a request that was read, its items by their meaning."""
    first, *rest = request.messages
    body = {"model": request.model}
    if first.place == "instructions":
        body["instructions"] = first.parts[0].text
    else:
        rest = request.messages
    body["input"] = [item for message in rest for item in written(message)]
    plain = {
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "parallel_tool_calls": request.parallel_tool_calls,
        "user": request.user,
    }
    body |= without_nulls(plain)
    if request.tools:
        body["tools"] = [tool_of(tool) for tool in request.tools]
    if (choice := request.tool_choice) is not None:
        named = {"type": "function", "name": choice.name}
        body["tool_choice"] = named if choice.mode == "tool" else choice.mode
    if (wanted := request.response_format) is not None:
        its = {
            "type": wanted.type,
            "name": wanted.name,
            "schema": wanted.schema,
            "strict": wanted.strict,
            "description": wanted.description,
        }
        body["text"] = {"format": without_nulls(its)}
    if request.reasoning is not None:
        body["reasoning"] = {"effort": request.reasoning.effort}
    return body | dict(request.extra)


def tool_of(tool):
    its = {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return without_nulls(its) | dict(tool.extra)


def without_nulls(fields):
    return {key: value for key, value in fields.items() if value is not None}


def sent(body):
    """Return a recorded body, its items by their meaning."""
    body = without_nulls(body)
    body.pop("stream", None)
    tools = body.pop("tools", [])
    if tools:
        body["tools"] = [without_nulls(tool) for tool in tools]
    if body.get("reasoning"):
        body["reasoning"] = without_nulls(body["reasoning"])
    if not body.get("instructions"):
        body.pop("instructions", None)
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    found = [meaning(item) for item in items]
    body["input"] = [item for item in found if item != ("reasoning", "", "")]
    return body


@needs_recordings
def test_recorded_requests_are_read_without_loss_or_refused_by_name():
    outcomes = Counter()
    for record, body in requests():
        if refused := out_of_scope(body):
            with pytest.raises(InvalidRequest) as caught:
                decode_responses(json.dumps(body).encode())
            assert caught.value.param in refused, record
            outcomes["refused", caught.value.param.split("[")[0]] += 1
            continue
        wire = decode_responses(json.dumps(body).encode())
        assert wire.stream is (body.get("stream") is True), record
        assert rewritten(wire.request) == sent(body), record
        outcomes["read"] += 1
    assert outcomes == {
        "read": 244,
        ("refused", "tools"): 12,
        ("refused", "previous_response_id"): 3,
        ("refused", "include"): 2,
        ("refused", "prompt"): 2,
    }


# Answers.


def our_whole() -> dict:
    wire = decode_responses(json.dumps(ASKED).encode())
    parts = (
        ReasoningPart(text="hm", signature="s"),
        TextPart(text="x"),
        RefusalPart(text="no"),
        ToolCall(id="call_1", name="f", arguments="{}"),
    )
    choice = Choice(parts=parts, finish_reason="tool_calls")
    value = Completion(id="c", model="m", usage=Usage(), choices=(choice,))
    return json.loads(encode_completion(value, wire.settings, now=5.0))


CHUNKS = [
    Started(id="c", model="m"),
    ReasoningDelta(text="hm"),
    ReasoningDelta(signature="s"),
    TextDelta(text="x"),
    TextDelta(text="y"),
    RefusalDelta(text="no"),
    ToolCallDelta(index=0, id="call_1", name="f", arguments="{}"),
]


def our_events() -> list[dict]:
    """Return events of every kind that we send."""
    wire = decode_responses(json.dumps(ASKED).encode())
    found = []
    for reason in ("stop", "length", None):
        writer = ResponseStreamEncoder(settings=wire.settings, clock=lambda: 5.0)
        raw = b"".join(writer.encode((chunk,)) for chunk in CHUNKS)
        if reason is None:
            raw += writer.error(BadProviderResponse("cut off"))
        else:
            raw += writer.encode((Finished(reason=reason), UsageReport(usage=Usage())))
            raw += writer.finish()
        found += events_of(raw)
    return found


@functools.cache
def recorded():
    """Return OpenAI's own whole answers and events."""
    answers, events = [], []
    for record in load("openai"):
        if record.api != "responses":
            continue
        body = record.response.get("body")
        if isinstance(body, dict) and body.get("object") == "response":
            answers.append(body)
        for line in (record.response.get("body_text") or "").splitlines():
            if line.startswith("data: {"):
                try:
                    events.append(json.loads(line.removeprefix("data: ")))
                except ValueError:
                    continue  # a body that was recorded broken
    return answers, events


OURS_TOO = {
    # The document demands them, if not all recordings have them.
    "response.function_call_arguments.done": {"name"},
    "error": {"code", "message", "param"},
}


@needs_recordings
def test_every_event_has_the_fields_that_openais_has():
    theirs = defaultdict(set)
    for event in recorded()[1]:
        theirs[event["type"]].add(frozenset(event) - {"obfuscation"})
    kinds = set()
    for event in our_events():
        own = frozenset(event) - OURS_TOO.get(event["type"], set())
        assert own in theirs[event["type"]], event["type"]
        kinds.add(event["type"])
    assert len(kinds) == 20


def items_and_parts(values):
    """Yield each item of output, and each part of one, with its kind."""
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            yield item["type"], item
            for part in [*(item.get("content") or ()), *(item.get("summary") or ())]:
                yield part["type"], part


@needs_recordings
def test_items_and_parts_have_the_fields_that_openais_have():
    answers, events = recorded()
    theirs = defaultdict(set)
    shown = [
        event[name] for event in events for name in ("item", "part") if name in event
    ]
    for kind, its in items_and_parts([*(a["output"] for a in answers), *shown]):
        theirs[kind].add(frozenset(its))
    own = our_events()
    shown = [event[name] for event in own for name in ("item", "part") if name in event]
    kinds = set()
    for kind, its in items_and_parts([our_whole()["output"], *shown]):
        assert frozenset(its) in theirs[kind], its
        kinds.add(kind)
    assert kinds == {
        *["message", "reasoning", "function_call"],
        *["output_text", "refusal", "summary_text"],
    }


@needs_recordings
def test_a_response_has_the_fields_that_openais_has():
    answers, events = recorded()
    theirs = {frozenset(a) for a in answers}
    theirs |= {frozenset(e["response"]) for e in events if "response" in e}
    ours = {frozenset(e["response"]) for e in our_events() if "response" in e}
    assert ours == {frozenset(our_whole())}
    assert ours <= theirs


def by_the_document(name: str) -> jsonschema.Draft202012Validator:
    with gzip.open(OPENAPI) as file:
        components = json.load(file)["components"]
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    return jsonschema.Draft202012Validator(schema)


def without_known_nulls(response: dict) -> dict:
    """Return *response* without the nulls that OpenAI sends against its document."""
    return {
        key: value
        for key, value in response.items()
        if value is not None or key not in ("user", "usage")
    }


@needs_openapi
def test_our_answers_are_as_openais_document_wants_them():
    response, event = map(by_the_document, ("Response", "ResponseStreamEvent"))
    response.validate(without_known_nulls(our_whole()))
    broken = our_whole() | {"status": "done"}
    assert not response.is_valid(without_known_nulls(broken))
    for its in our_events():
        if "response" in its:
            its["response"] = without_known_nulls(its["response"])
        event.validate(its)
    assert not event.is_valid({"type": "response.output_text.delta"})
