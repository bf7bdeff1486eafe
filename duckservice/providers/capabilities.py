"""What a provider can do, as data: shown to users, and checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import attrs

from duckservice.completion import ChatRequest, ImagePart, ToolResult
from duckservice.errors import InvalidRequest
from duckservice.providers.translation import option, part_path

ImageSource: TypeAlias = Literal["data", "url"]
ChoiceMode: TypeAlias = Literal["auto", "none", "required", "tool"]
Counting: TypeAlias = Literal["endpoint", "estimate"]


@attrs.frozen(kw_only=True)
class Capabilities:
    """What all models of a provider may be asked for; a model of it may do less.

    The defaults are those of the servers that speak OpenAI's format.
    """

    chat: bool = True
    streaming: bool = True
    tools: bool = True
    parallel_tools: bool = True
    """Whether it can be told to ask for one call at a time, or for several."""
    tool_choice: frozenset[ChoiceMode] = frozenset({"auto", "none", "required", "tool"})
    images_in: frozenset[ImageSource] = frozenset({"data", "url"})
    """How a picture may come with a message; empty: not at all."""
    json_object: bool = True
    json_schema: bool = True
    reasoning: bool = True
    cached_usage: bool = True
    """Whether it says how much of a prompt came from its cache."""
    embeddings: bool = False
    image_generation: bool = False
    list_models: bool = True
    count_tokens: Counting = "estimate"
    n_max: int | None = 128
    """How many replies one request may ask for; None: any number."""
    stop_max: int | None = None
    """How many stop sequences; None: any number."""
    temperature_max: float | None = 2.0
    top_k: bool = True
    seed: bool = True
    penalties: bool = True
    """``presence_penalty`` and ``frequency_penalty``."""
    cache_control: bool = False
    """Whether clients can say which part of a prompt is to be cached, in Anthropic's
    words. Others cache by themselves, or not at all: there it is left out."""
    messages_as_written: bool = False
    """Whether a request in Anthropic's format goes on as its client wrote it."""
    hidden_prompt_tokens: int = 256
    """How much of its own a provider may put before a prompt and charge for; only for
    what a request may cost at most. No provider publishes it: it is what recorded
    answers show beyond their prompts, and a reserve. The default covers the templates
    of open models, gpt-oss (70) and Llama (150, with a schema) among them."""


def check_capabilities(
    request: ChatRequest, can: Capabilities, *, provider: str
) -> None:
    """Raise `InvalidRequest`, naming the field, for what *provider* lacks.

    What it has and does not allow in this combination is its own to refuse.
    """
    for field, reason in _lacking(request, can):
        raise InvalidRequest(f"{field}: {reason}", provider=provider, param=field)


def _lacking(request: ChatRequest, can: Capabilities) -> Iterator[tuple[str, str]]:
    if not can.chat:
        yield "model", "this provider has no chat"
    if request.tools and not can.tools:
        yield "tools", "this provider has no tools"
    choice = request.tool_choice
    if choice is not None and choice.mode not in can.tool_choice:
        yield "tool_choice", f"this provider cannot be told {choice.mode!r}"
    wanted = request.response_format
    if wanted is not None:
        if wanted.type == "json_schema" and not can.json_schema:
            yield option(request, "response_format"), "this provider keeps to no schema"
        if wanted.type == "json_object" and not can.json_object:
            yield option(request, "response_format"), "this provider has no JSON mode"
    yield from _out_of_range(request, can)
    yield from _pictures(request, can)


def _out_of_range(request: ChatRequest, can: Capabilities) -> Iterator[tuple[str, str]]:
    if can.n_max is not None and (request.n or 1) > can.n_max:
        yield "n", f"this provider gives at most {can.n_max}"
    if can.stop_max is not None and len(request.stop) > can.stop_max:
        yield option(request, "stop"), f"this provider takes at most {can.stop_max}"
    highest = can.temperature_max
    if highest is not None and (request.temperature or 0) > highest:
        yield "temperature", f"this provider takes at most {highest:g}"
    if request.top_k is not None and not can.top_k:
        yield "top_k", "this provider does not know it"
    if request.seed is not None and not can.seed:
        yield "seed", "this provider does not know it"
    if not can.penalties:
        if request.presence_penalty:
            yield "presence_penalty", "this provider does not know it"
        if request.frequency_penalty:
            yield "frequency_penalty", "this provider does not know it"


def _pictures(request: ChatRequest, can: Capabilities) -> Iterator[tuple[str, str]]:
    if len(can.images_in) == 2:
        return
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.parts):
            inner = part.content if isinstance(part, ToolResult) else (part,)
            for picture in inner:
                if isinstance(picture, ImagePart):
                    source: ImageSource = "data" if picture.url is None else "url"
                    if source not in can.images_in:
                        yield part_path(request, i, j), _no_picture(can, source)


def _no_picture(can: Capabilities, source: ImageSource) -> str:
    if not can.images_in:
        return "this provider takes no pictures"
    if source == "url":
        return "this provider takes pictures as base64 only, and we fetch no URL"
    return "this provider takes pictures as URLs only"
