"""Whether two requests mean the same, and where they do not.

What each provider's test takes for the same stands there, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from duckservice.providers.openai_request import SCHEMA_NAME
from tests.sdks.sending import Sent


def differences(ours: Sent, theirs: Sent, normal: Callable[[Any], Any]) -> list[str]:
    """Return what differs, as paths; *normal* brings a body to its one form."""
    found = []
    if ours.line != theirs.line:
        found.append(f"{ours.line}, not {theirs.line}")
    if ours.key != theirs.key:
        found.append(f"the key is in {ours.key}, not in {theirs.key}")
    return [*found, *_differ("", normal(ours.body), normal(theirs.body))]


def without_nulls(value: Any) -> Any:
    """Return *value* without members that say nothing."""
    match value:
        case dict():
            return {k: without_nulls(v) for k, v in value.items() if v is not None}
        case list():
            return [without_nulls(item) for item in value]
        case _:
            return value


def arguments_read(body: Any) -> Any:
    """Return *body* with the arguments of calls as values.

    They are a text of JSON, of which a client of Anthropic's gives the value alone.
    """
    for message in body.get("messages", ()):
        for call in message.get("tool_calls", ()):
            function = call["function"]
            function["arguments"] = json.loads(function["arguments"])
    return body


def named(body: Any) -> Any:
    """Return *body* with the schema's name in place of the one that we make up.

    Clients of Anthropic's give none, and OpenAI's format wants one.
    """
    wanted = body.get("response_format", {}).get("json_schema", {})
    if wanted.get("name") == SCHEMA_NAME:
        wanted["name"] = "verdict"
    return body


def _differ(path: str, ours: Any, theirs: Any) -> Iterator[str]:
    match ours, theirs:
        case dict(), dict():
            for key in sorted(ours.keys() | theirs.keys()):
                where = f"{path}.{key}" if path else key
                if key not in theirs:
                    yield f"{where} is ours alone: {ours[key]!r:.99}"
                elif key not in ours:
                    yield f"{where} is not sent: {theirs[key]!r:.99}"
                else:
                    yield from _differ(where, ours[key], theirs[key])
        case list(), list() if len(ours) == len(theirs):
            for place, pair in enumerate(zip(ours, theirs, strict=True)):
                yield from _differ(f"{path}[{place}]", *pair)
        case _ if ours != theirs:
            yield f"{path}: {ours!r:.99}, not {theirs!r:.99}"
        case _:
            return
