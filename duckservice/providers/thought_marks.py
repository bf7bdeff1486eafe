"""Whose a thought is: a mark on what seals it, and who takes it back.

A model that thinks seals its thoughts (a signature, encrypted content), and wants them
back in later turns. Nobody else can do anything with them: another maker refuses the
request. A client sends back what it was given, whoever is asked next; so what goes out
says whose it is, and comes off again when it goes back there:

    duck:gemini:CpcBAVz8k2...       handed out; to Gemini without the mark

The thoughts of others are left out: they are no part of what was said, and to refuse
them would end every conversation whose model changes. What has no mark was not handed
out here: a client of the maker's own format has it from the maker, to whom it goes as
it is. Only Claude's have no mark for clients of Anthropic's own format; they hold at
every platform that has Claude.

A thought without a seal goes to whoever takes such; the others are not told of it.
What clients of Chat Completions keep beside a message or a call (`_BESIDE`) has a name
that says whose it is: that needs no mark, and is left out elsewhere too.
"""

from __future__ import annotations

from collections.abc import Mapping, Set as AbstractSet
from functools import lru_cache
from typing import Any, Final, Literal

import attrs

from duckservice.completion import (
    ChatRequest,
    Chunk,
    Completion,
    ImagePart,
    Message,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    WireFormat,
)
from duckservice.config import AdapterName, Api
from duckservice.placed_message import PlacedMessage
from duckservice.providers.openai_variant import DETAILS, EXTRA_CONTENT, PLAN

_MARK: Final = "duck:"

_CLAUDE: Final = "claude"

_BESIDE: Final = frozenset({EXTRA_CONTENT, DETAILS, PLAN})
"""Gemini's signatures, OpenRouter's thoughts, Cohere's plans."""

_TAKERS: Final[Mapping[str, frozenset[str]]] = {
    "gemini": frozenset({EXTRA_CONTENT}),
    "openrouter": frozenset({DETAILS}),
    "cohere": frozenset({PLAN}),
    "openai-compatible": _BESIDE,  # it may stand in front of any of them
}


@attrs.frozen
class Thinker:
    """Whoever seals thoughts with the same key, or takes them as its own."""

    name: str
    """Without a colon: it is a part of the mark."""
    speaks: WireFormat | Literal["other"]
    """The format in which its own clients would bring its thoughts."""
    takes_open: bool = True
    """Whether it takes thoughts that nothing seals."""
    takes: frozenset[str] = frozenset()
    """What it takes of `_BESIDE`."""
    behind: str = ""
    """Who it asks in turn, and whose thoughts it hands on."""


@lru_cache(maxsize=1000)
def thinker_of(adapter: AdapterName, api: Api, model: str) -> Thinker:
    """Return who thinks where *model* is asked."""
    is_claude = "claude" in model
    match adapter:
        case "anthropic" | "vertex" | "bedrock" if is_claude:
            # Anthropic says that its signatures hold at all of them.
            return Thinker(_CLAUDE, "anthropic", takes_open=False)
        case "anthropic":
            return Thinker(adapter, "anthropic")
        case "openai" | "azure" if api == "responses":
            return Thinker(adapter, "responses", takes_open=False)
        case "openai" | "azure":  # whose thoughts are no part of a chat
            return Thinker(f"{adapter}-chat", "openai", takes_open=False)
        case _ if api == "responses":
            return Thinker(f"{adapter}-responses", "responses")
        case _:
            name = "gemini" if adapter == "vertex" else adapter
            takes = _TAKERS.get(name, frozenset[str]())
            if adapter == "openrouter" and is_claude:
                return Thinker(name, "anthropic", takes=takes, behind=_CLAUDE)
            return Thinker(name, "other", takes=takes)


def marked_completion(
    completion: Completion, thinker: Thinker, client: WireFormat
) -> Completion:
    """Return *completion* with a mark on what seals its thoughts."""
    if not _is_marked_for(thinker, client) or not any(
        _is_sealed(part) for choice in completion.choices for part in choice.parts
    ):
        return completion
    choices = tuple(
        attrs.evolve(
            choice, parts=tuple(_marked_part(part, thinker) for part in choice.parts)
        )
        if any(_is_sealed(part) for part in choice.parts)
        else choice
        for choice in completion.choices
    )
    return attrs.evolve(completion, choices=choices)


def marked_chunks(
    chunks: list[Chunk], thinker: Thinker, client: WireFormat
) -> list[Chunk]:
    """Return *chunks* with a mark on what seals a thought; nearly none does."""
    if not _is_marked_for(thinker, client):
        return chunks
    return [
        attrs.evolve(
            chunk,
            signature=_marked(chunk.signature, thinker),
            redacted=_marked(chunk.redacted, thinker),
        )
        if type(chunk) is ReasoningDelta and (chunk.signature or chunk.redacted)
        else chunk
        for chunk in chunks
    ]


def own_thoughts(request: ChatRequest, thinker: Thinker) -> ChatRequest:
    """Return *request* with those thoughts only that *thinker* takes, without marks.

    A message that holds nothing else goes with them.
    """
    if not any(map(_is_sealed_message, request.messages)):
        return request
    messages: list[Message] = []
    for message in request.messages:
        own = _own_message(message, thinker, request.format)
        if own.parts or own.extra or not message.parts:
            messages.append(own)
    if not messages:  # nobody has said anything: let the provider's format judge
        return request
    return attrs.evolve(request, messages=tuple(messages))


def without_lost_thinking(request: ChatRequest, thinker: Thinker) -> ChatRequest:
    """Return *request* so that Claude does not think amid a turn whose thoughts are lost.

    While its calls are answered, a Claude that thinks wants the thoughts back with which
    it made them, and refuses the request without. Clients of Chat Completions have no
    place for them: for them it goes on without thinking, and thinks again in the next turn.
    """
    if thinker.name != _CLAUDE or request.reasoning is None:
        return request
    if request.format == "anthropic":  # whose client has a place for them
        return request
    for message in reversed(request.messages):
        if all(isinstance(part, ToolResult) for part in message.parts):
            continue
        called = any(isinstance(part, ToolCall) for part in message.parts)
        thought = any(isinstance(part, ReasoningPart) for part in message.parts)
        if message.role == "assistant" and called and not thought:
            return attrs.evolve(request, reasoning=None)
        break
    return request


def _is_marked_for(thinker: Thinker, client: WireFormat) -> bool:
    return thinker.name != _CLAUDE or client != "anthropic"


def _is_sealed_message(message: Message) -> bool:
    if not _BESIDE.isdisjoint(message.extra):
        return True
    return any(
        type(part) is ReasoningPart or EXTRA_CONTENT in getattr(part, "extra", ())
        for part in message.parts
    )


def _is_sealed(part: Part) -> bool:
    return isinstance(part, ReasoningPart) and bool(part.signature or part.redacted)


def _marked_part(part: Part, thinker: Thinker) -> Part:
    if not isinstance(part, ReasoningPart):
        return part
    return attrs.evolve(
        part,
        signature=_marked(part.signature, thinker),
        redacted=_marked(part.redacted, thinker),
    )


def _marked(seal: str | None, thinker: Thinker) -> str | None:
    return f"{_MARK}{thinker.name}:{seal}" if seal else seal


def _own_message(message: Message, thinker: Thinker, client: WireFormat) -> Message:
    if not _is_sealed_message(message):
        return message
    kept = [_own_part(part, thinker, client) for part in message.parts]
    parts = tuple(part for part in kept if part is not None)
    extra = _without(message.extra, _BESIDE - thinker.takes)
    if not isinstance(message, PlacedMessage):
        return attrs.evolve(message, parts=parts, extra=extra)
    places = tuple(
        place
        for part, place in zip(kept, message.places, strict=True)
        if part is not None
    )
    return attrs.evolve(message, parts=parts, extra=extra, places=places)


def _own_part(part: Part, thinker: Thinker, client: WireFormat) -> Part | None:
    match part:
        case ReasoningPart():
            return _own_thought(part, thinker, client)
        case TextPart(extra=extra) | ImagePart(extra=extra) | ToolCall(extra=extra):
            if EXTRA_CONTENT not in extra or EXTRA_CONTENT in thinker.takes:
                return part
            return attrs.evolve(part, extra=_without(extra, {EXTRA_CONTENT}))
        case _:
            return part


def _without(extra: Mapping[str, Any], names: AbstractSet[str]) -> Mapping[str, Any]:
    if not any(name in extra for name in names):
        return extra
    return {name: value for name, value in extra.items() if name not in names}


def _own_thought(
    part: ReasoningPart, thinker: Thinker, client: WireFormat
) -> ReasoningPart | None:
    seal = part.redacted or part.signature
    if not seal:
        return part if thinker.takes_open else None
    own = _own_seal(seal, thinker, client)
    if own is None:
        return None
    if part.redacted:
        return attrs.evolve(part, redacted=own)
    return attrs.evolve(part, signature=own)


def _own_seal(seal: str, thinker: Thinker, client: WireFormat) -> str | None:
    """Return what seals a thought of *thinker*'s own; None: it is another's."""
    if seal.startswith(_MARK):
        name, _, own = seal.removeprefix(_MARK).partition(":")
        return own if own and name in (thinker.name, thinker.behind) else None
    # A Python program writes no format; it has what it has.
    return seal if client in ("openai", thinker.speaks) else None
