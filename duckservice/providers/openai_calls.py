"""The tool calls of an answer in OpenAI's format, whole or in pieces.

Servers tell the calls of a stream apart in different ways, and mix them:

    by index     the piece with id and name begins it, the others have its index
    by id        no index, or index 0 for all: the id comes with each piece
    by order     index 0 for all, the id only with the first piece of each call
    by nothing   each piece with a name is another call

So an id that is known says which call a piece belongs to; else the index means the
last call that has begun with it. An id that is new means another call only where a
name comes with it: some servers make up an id for each piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import NOTHING, ToolCall, ToolCallDelta
from duckservice.providers.openai_variant import EXTRA_CONTENT
from duckservice.providers.reading import Malformed, text_or

TOOL_CALLS_MAX: Final = 1024
"""Per choice; what is beyond is an attack on our memory, not an answer."""

_encode: Final = msgspec.json.Encoder().encode


class WireFunction(msgspec.Struct, gc=False):
    """What is called, or the next piece of it."""

    name: str | None = None
    arguments: Any = None


class WireCall(msgspec.Struct, gc=False):
    """A call, or the next piece of one: the fields are the same."""

    index: int | None = None
    id: Any = None
    function: WireFunction | None = None
    extra_content: Any = None

    @property
    def own_id(self) -> str:
        """The id that the server gives, empty without one; some give numbers."""
        return str(self.id) if isinstance(self.id, int) else text_or(self.id, "")

    @property
    def name(self) -> str:
        """The name of the function, empty where the piece does not say it."""
        return (self.function and self.function.name) or ""

    @property
    def arguments(self) -> str:
        """JSON text; Ollama's native way, and some others', is an object."""
        match self.function and self.function.arguments:
            case None:
                return ""
            case str(text):
                return text
            case value:
                return _encode(value).decode()

    @property
    def extra(self) -> Mapping[str, Any]:
        """What must go back with the call."""
        return {EXTRA_CONTENT: self.extra_content} if self.extra_content else NOTHING


def whole_call(call: WireCall, answer: str, choice: int, index: int) -> ToolCall:
    """Return call number *index* of a choice of an answer that has come whole."""
    return ToolCall(
        id=call.own_id or _made_up_id(answer, choice, index),
        name=call.name,
        arguments=call.arguments,
        extra=call.extra,
    )


@final
@attrs.define
class CallsInPieces:
    """The tool calls of one choice, while their pieces come in."""

    _answer: str
    _choice: int
    _by_id: dict[str, int] = attrs.field(factory=dict[str, int])
    """The server's id to our number of the call."""
    _by_index: dict[int, int] = attrs.field(factory=dict[int, int])
    """The server's index to the last call that has begun with it."""
    _ids: list[str] = attrs.field(factory=list[str])
    """The server's id of each call."""
    _last: int = 0
    """The call that grew last."""

    def add(self, piece: WireCall) -> ToolCallDelta | None:
        """Return what *piece* adds; None if that is nothing.

        Raises `Malformed` for more calls than any answer has.
        """
        known = self._known(piece)
        if known is None:
            return self._begin(piece)
        self._last = known
        arguments, extra = piece.arguments, piece.extra
        if not arguments and not extra:
            return None
        return ToolCallDelta(
            index=known, arguments=arguments, choice=self._choice, extra=extra
        )

    def _known(self, piece: WireCall) -> int | None:
        """Return the call that *piece* is more of, None if it is another one."""
        own_id, index = piece.own_id, piece.index
        by_index = None if index is None else self._by_index.get(index)
        by_id = self._by_id.get(own_id)
        if by_id is not None:
            # Some give the same id to all calls; the index tells them apart.
            if by_index is not None and self._ids[by_index] == own_id:
                return by_index
            is_new = bool(piece.name) and index is not None and by_index is None
            return None if is_new else by_id
        if piece.name and (own_id or index is None):
            return None
        if index is None and self._ids:
            return self._last
        return by_index

    def _begin(self, piece: WireCall) -> ToolCallDelta:
        if len(self._ids) >= TOOL_CALLS_MAX:
            raise Malformed("too many tool calls")
        number = self._last = len(self._ids)
        own_id = piece.own_id
        self._ids.append(own_id)
        if own_id:
            self._by_id[own_id] = number
        if piece.index is not None:
            self._by_index[piece.index] = number
        return ToolCallDelta(
            index=number,
            id=own_id or _made_up_id(self._answer, self._choice, number),
            name=piece.name,
            arguments=piece.arguments,
            choice=self._choice,
            extra=piece.extra,
        )


def _made_up_id(answer: str, choice: int, index: int) -> str:
    # Unique in the conversation, because the answer's own id is.
    return f"call_{answer}_{choice}_{index}"
