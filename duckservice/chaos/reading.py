"""What a client makes of the bytes of an answer, read without any of the daemon's code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

import attrs

from duckservice.chaos.wire import Json


@attrs.define
class Told:
    """What a stream of OpenAI's format has told its client."""

    text: str = ""
    finish: object = None
    """Its finish reason."""
    error: Json | None = None
    done: bool = False
    """Whether its last mark has come."""
    fault: str = ""
    """What no client could read."""


def read_stream(body: bytes) -> Told:
    """Return what the stream in *body* tells, up to the first event that is broken."""
    told = Told()
    for data in _events(body):
        if told.done or told.error is not None:
            told.fault = "events behind the end of the stream"
        elif data == "[DONE]":
            told.done = True
        else:
            _take(told, table(decoded(data.encode())))
        if told.fault:
            break
    return told


def _take(told: Told, event: Json) -> None:
    if not event:
        told.fault = "an event that is no JSON object"
    elif "error" in event:
        told.error = table(event["error"])
    else:
        choice = first(event.get("choices"))
        told.text += table(choice.get("delta")).get("content") or ""
        told.finish = choice.get("finish_reason") or told.finish


def _events(body: bytes) -> Iterator[str]:
    for block in body.decode(errors="replace").split("\n\n"):
        lines = (line for line in block.splitlines() if line.startswith("data:"))
        data = "\n".join(line.removeprefix("data:").lstrip(" ") for line in lines)
        if data:
            yield data


def decoded(data: bytes) -> object:
    """Return the JSON value in *data*; None if there is none."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def table(value: object) -> Json:
    """Return *value*, if it is a JSON object, or else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def first(value: object) -> Json:
    """Return the first of an array of JSON objects, or an empty one."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return table(items[0]) if items else {}
