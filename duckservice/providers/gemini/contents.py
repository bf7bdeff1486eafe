"""The turns of a conversation as Gemini's ``contents``.

Neighbours of one role become one turn: the results of several calls must stand in
the turn behind them. What the system says stands beside the turns, all of it, since
there is no such role among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from duckservice.providers.gemini.blobs import blob, own_pictures, picture
from duckservice.providers.gemini.models import thinks_in_levels
from duckservice.providers.gemini.signatures import SKIPPED, signature_in

Json: TypeAlias = dict[str, Any]

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def turns(request: ChatRequest) -> tuple[list[Json], list[Json]]:
    """Return the system's parts and the ``contents``."""
    writer = _Writer(request)
    system: list[Json] = []
    contents: list[Json] = []
    for message in request.messages:
        writer.learn(message)
        match message.role:
            case "system" | "developer":
                system += _spoken(writer.parts(message))
                continue
            case "user" | "tool":
                role = "user"
            case "assistant":
                role = "model"
            case _:
                assert_never(message.role)
        parts = _spoken(writer.parts(message))
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return system, contents


def called_names(request: ChatRequest) -> Mapping[str, str]:
    """Return the name of the function behind each id of a call."""
    names: dict[str, str] = {}
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                names[part.id] = part.name
            elif isinstance(part, ToolResult) and message.name is not None:
                names.setdefault(part.tool_call_id, message.name)
    return names


def json_object(text: str) -> msgspec.Raw | None:
    """Return *text* as it is, if it is a JSON object.

    It is not read into values and written anew: numbers stay as they were written.
    """
    try:
        _members.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return msgspec.Raw(text.encode())


class _Writer:
    """Writes the parts of one request's messages."""

    def __init__(self, request: ChatRequest) -> None:
        self._names: dict[str, str] = {}
        """The function behind each call's id so far: some servers use ids again."""
        self._newer = thinks_in_levels(request.model)

    def learn(self, message: Message) -> None:
        """Take the name that a message of results gives to the function itself."""
        if message.name is None:
            return
        for part in message.parts:
            if isinstance(part, ToolResult):
                self._names.setdefault(part.tool_call_id, message.name)

    def parts(self, message: Message) -> list[Json]:
        written: list[Json] = []
        waiting: str | None = None
        """The signature of a thought, which belongs to the call behind it."""
        for part in message.parts:
            if isinstance(part, ReasoningPart):
                written += [_thought(part.text)] if part.text else []
                waiting = part.signature or waiting
                continue
            for made in self._part(part):
                if waiting is not None:
                    made.setdefault("thoughtSignature", waiting)
                    waiting = None
                written.append(made)
        if waiting is not None:
            _sign_last(written, waiting)
        if message.extra:
            written += own_pictures(message.extra) or []
        if (signature := signature_in(message.extra)) is not None:
            _sign_last([p for p in written if "text" in p] or written, signature)
        if self._newer:
            _sign_first_call(written)
        return written

    def _part(self, part: Part) -> Iterator[Json]:
        match part:
            case TextPart(text=text, extra=extra):
                yield _signed({"text": text}, signature_in(extra))
            case ImagePart() | OpaquePart():
                if (made := _blob(part)) is not None:
                    yield made
            case RefusalPart(text=text):
                yield {"text": text}
            case ToolCall():
                self._names[part.id] = part.name
                yield _call(part)
            case ToolResult():
                yield from self._result(part)
            case ReasoningPart():
                raise AssertionError("thoughts wait for what stands behind them")
            case _:
                assert_never(part)

    def _result(self, result: ToolResult) -> Iterator[Json]:
        beside = [
            made
            for part in result.content
            if not isinstance(part, TextPart) and (made := _blob(part)) is not None
        ]
        response: Json = {
            "id": result.tool_call_id,
            "name": self._names.get(result.tool_call_id, ""),
            "response": _response(result),
        }
        # Before 3 a result has no place for what is no text, and none for texts.
        inside = [part for part in beside if self._newer and "text" not in part]
        if inside:
            response["parts"] = inside
        yield {"functionResponse": response}
        yield from (part for part in beside if part not in inside)


def _response(result: ToolResult) -> Json | msgspec.Raw:
    text = "".join(p.text for p in result.content if isinstance(p, TextPart))
    if result.is_error:
        return {"error": text}
    return json_object(text) or {"output": text}


def _call(call: ToolCall) -> Json:
    function: Json = {
        "id": call.id,
        "name": call.name,
        # Nothing is what OpenAI's models write for a call without arguments.
        "args": json_object(call.arguments or "{}") or {},
    }
    return _signed({"functionCall": function}, signature_in(call.extra))


def _blob(part: ImagePart | OpaquePart) -> Json | None:
    return picture(part) if isinstance(part, ImagePart) else blob(part)


def _thought(text: str) -> Json:
    return {"text": text, "thought": True}


def _signed(part: Json, signature: str | None) -> Json:
    if signature is not None:
        part["thoughtSignature"] = signature
    return part


def _sign_last(parts: list[Json], signature: str) -> None:
    if parts:
        parts[-1].setdefault("thoughtSignature", signature)


def _sign_first_call(parts: list[Json]) -> None:
    calls = [part for part in parts if "functionCall" in part]
    if calls and not any("thoughtSignature" in call for call in calls):
        calls[0]["thoughtSignature"] = SKIPPED


def _spoken(parts: list[Json]) -> list[Json]:
    """Return *parts* without the empty texts that other formats write beside a call."""
    return [part for part in parts if part != {"text": ""}] or parts
