from __future__ import annotations

import base64
import json
import random
from collections import Counter
from urllib.parse import unquote

import attrs

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.providers import understanding
from tests.providers.bedrock import (
    BEDROCK,
    ORIGIN,
    chunks_of,
    sent,
)
from tests.recordings import Record, cut, load, needs_recordings

pytestmark = needs_recordings


def conversations() -> list[Record]:
    return [r for r in load("bedrock") if r.api == "bedrock.converse" and r.expected]


def bytes_of(record: Record) -> bytes:
    if "body_base64" in record.response:
        return base64.b64decode(record.response["body_base64"])
    return json.dumps(record.response["body"]).encode()


def test_every_recorded_answer_is_understood_as_by_boto3():
    kinds: Counter[str] = Counter()
    for record in conversations():
        if not record.expected["ok"]:
            continue
        kinds[record.operation] += 1
        if record.streaming:
            said, usage = understanding.of_chunks(chunks_of(bytes_of(record)))
        else:
            completion = BEDROCK.decode(bytes_of(record), ORIGIN)
            said, usage = understanding.of_completion(completion)
        judge(record, said, usage)
    assert min(kinds[k] for k in ("chat", "stream", "tools", "vision")) >= 5


def judge(record, said, usage) -> None:
    wanted = record.expected["choices"][0]
    assert len(said) == 1
    assert said[0].text == wanted.get("text", "")
    assert said[0].reasoning == wanted.get("reasoning", "")
    assert said[0].native_finish_reason == wanted["finish_reason"]
    assert said[0].tool_calls() == [
        (call["id"], call["name"], understanding.json_or_text(call["arguments"]))
        for call in wanted.get("tool_calls", [])
    ]
    counts = record.expected["usage"]
    assert usage.total_tokens == counts["total_tokens"]
    assert usage.output_tokens == counts["output_tokens"]
    assert usage.cached_tokens == counts.get("cached_input_tokens", 0)
    assert usage.cache_write_tokens == counts.get("cache_write_tokens", 0)


def test_recorded_streams_are_the_same_at_any_cut():
    for record in conversations():
        if record.streaming and record.expected["ok"]:
            body = bytes_of(record)
            pieces = cut(body, random.Random(1))
            assert chunks_of(*pieces) == chunks_of(body)


def test_recorded_embeddings_are_understood():
    records = [r for r in load("bedrock") if r.operation == "embeddings"]
    assert len(records) >= 3
    for record in records:
        (vector,) = BEDROCK.embeddings.decode(bytes_of(record), 1).vectors
        assert len(vector) > 1


def test_a_recorded_request_is_said_again_as_it_was():
    said = 0
    for record in load("bedrock"):
        body = record.request.get("body")
        if record.api != "bedrock.converse" or not isinstance(body, dict):
            continue
        try:
            request = read_converse(model_of(record), body)
        except Unsaid:
            continue
        assert sent(request) == plain(body), record.id
        said += 1
    assert said >= 60


def model_of(record: Record) -> str:
    return unquote(record.request["url"].split("/model/")[1].split("/")[0])


class Unsaid(Exception):
    """The request holds what no client of ours can ask for."""


def read_converse(model: str, body: dict) -> ChatRequest:
    """Return the request that *body* is, which is the way back of `sent`."""
    body = plain(body)
    known = {"messages", "system", "inferenceConfig", "toolConfig", "outputConfig"}
    if body.keys() - known:
        raise Unsaid
    messages = [
        Message(role=turn["role"], parts=tuple(read_parts(turn["content"])))
        for turn in body["messages"]
    ]
    if "system" in body:
        parts = tuple(read_parts(body["system"]))
        messages.insert(0, Message(role="system", parts=parts))
    inference = body.get("inferenceConfig", {})
    tools = body.get("toolConfig", {})
    return ChatRequest(
        model=model,
        messages=tuple(messages),
        max_tokens=inference.get("maxTokens"),
        temperature=inference.get("temperature"),
        top_p=inference.get("topP"),
        stop=tuple(inference.get("stopSequences", ())),
        tools=tuple(read_tools(tools.get("tools", ()))),
        tool_choice=read_choice(tools.get("toolChoice")),
        response_format=read_schema(body.get("outputConfig")),
    )


def plain(body: dict) -> dict:
    """Return *body* without what says nothing, and turns of one role as one."""
    body = json.loads(json.dumps(body))
    for name in ("system", "inferenceConfig", "additionalModelRequestFields"):
        if body.get(name) in ([], {}):
            del body[name]
    inference = body.get("inferenceConfig", {})
    if inference.get("stopSequences") == []:
        del inference["stopSequences"]
    if body.get("toolConfig", {}).get("toolChoice") == {"auto": {}}:
        del body["toolConfig"]["toolChoice"]
    if inference.get("stopSequences"):
        raise Unsaid  # Claude is asked for more
    body["messages"] = joined(body["messages"])
    if "outputConfig" in body:
        schema = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        text = json.dumps(json.loads(schema["schema"]), separators=(",", ":"))
        schema["schema"] = text
    return body


def joined(messages: list) -> list:
    turns: list = []
    for turn in messages:
        for block in turn["content"]:
            if block.get("toolResult", {}).get("status") == "success":
                del block["toolResult"]["status"]
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1]["content"] += turn["content"]
        else:
            turns.append(turn)
    return turns


def read_parts(blocks: list) -> list:
    parts = []
    for block in blocks:
        match block:
            case {"text": str(text)} if text:
                parts.append(TextPart(text=text))
            case {"cachePoint": {"type": "default"}} if parts:
                mark = {"cache_control": {"type": "ephemeral"}}
                parts[-1] = attrs.evolve(parts[-1], extra=mark)
            case {"image": {"format": kind, "source": {"bytes": data}}}:
                parts.append(ImagePart(data=data, media_type=f"image/{kind}"))
            case {"toolUse": {"toolUseId": own_id, "name": name, "input": given}}:
                arguments = json.dumps(given)
                parts.append(ToolCall(id=own_id, name=name, arguments=arguments))
            case {"toolResult": {"toolUseId": own_id, "content": content, **rest}}:
                parts.append(
                    ToolResult(
                        tool_call_id=own_id,
                        content=tuple(read_parts(content)),
                        is_error=rest.get("status") == "error",
                    )
                )
            case _:
                raise Unsaid
    return parts


def read_tools(specs: list) -> list[Tool]:
    tools = []
    for spec in specs:
        match spec:
            case {"toolSpec": {"name": name, "inputSchema": {"json": schema}, **rest}}:
                tools.append(Tool(name=name, parameters=schema, **rest))
            case {"cachePoint": {"type": "default"}} if tools:
                mark = {"cache_control": {"type": "ephemeral"}}
                tools[-1] = attrs.evolve(tools[-1], extra=mark)
            case _:
                raise Unsaid
    return tools


def read_choice(choice: dict | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case {"any": {}}:
            return ToolChoice(mode="required")
        case {"tool": {"name": name}}:
            return ToolChoice(mode="tool", name=name)
        case _:
            raise Unsaid


def read_schema(output: dict | None) -> ResponseFormat | None:
    if output is None:
        return None
    schema = output["textFormat"]["structure"]["jsonSchema"]
    return ResponseFormat(
        type="json_schema",
        name=schema["name"],
        description=schema.get("description"),
        schema=json.loads(schema["schema"]),
    )
