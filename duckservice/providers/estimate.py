"""How many tokens a request probably has, where the provider does not count.

A rule of thumb, for display and for routing: nothing is billed by it. English
prose has some 4 bytes a token; every other text has more bytes a character, and
so counts for more tokens, as it does in truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

import msgspec

from duckservice.completion import (
    ChatRequest,
    Choice,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
)

TextSize: TypeAlias = Callable[[str], int]
"""How many tokens a text has."""

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_IMAGE: Final = 1000
"""Between OpenAI's 85 (low detail) and Anthropic's 1,600 (the largest)."""


def estimated_prompt(request: ChatRequest) -> Usage:
    """Return a guess at the prompt's size, marked as one."""
    return Usage(input_tokens=prompt_tokens(request), estimated=True)


def prompt_tokens(request: ChatRequest) -> int:
    """Return a guess at the number of tokens of *request*'s prompt."""
    count = tools_tokens(request)
    for message in request.messages:
        count += TOKENS_PER_MESSAGE + sum(map(part_tokens, message.parts))
    return count


def tools_tokens(request: ChatRequest, size: TextSize | None = None) -> int:
    """Return a guess at the number of tokens of *request*'s tools.

    *size* counts its texts; None: the rule of thumb.
    """
    size = text_tokens if size is None else size
    count = 0
    for tool in request.tools:
        count += size(tool.name + (tool.description or ""))
        if tool.parameters:
            count += len(msgspec.json.encode(dict(tool.parameters))) // BYTES_PER_TOKEN
    return count


def reply_tokens(choices: tuple[Choice, ...]) -> int:
    """Return a guess at the number of tokens of a reply."""
    return sum(part_tokens(part) for choice in choices for part in choice.parts)


def text_tokens(text: str) -> int:
    """Return a guess at the number of tokens of *text*."""
    # Whether it is ASCII, a text knows; else it has to be encoded to be measured.
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-size // BYTES_PER_TOKEN)


def input_tokens(given: str | tuple[int, ...]) -> int:
    """Return the number of tokens of an embedding's input: a guess for a text."""
    return text_tokens(given) if isinstance(given, str) else len(given)


def part_tokens(part: Part, size: TextSize = text_tokens) -> int:
    """Return a guess at the number of tokens of *part*, its texts counted by *size*."""
    match part:
        case TextPart(text=text) | ReasoningPart(text=text) | RefusalPart(text=text):
            return size(text)
        case ImagePart():
            return TOKENS_PER_IMAGE
        case ToolCall(name=name, arguments=arguments):
            return size(name + arguments)
        case ToolResult(content=content):
            return sum(part_tokens(inner, size) for inner in content)
        case OpaquePart():
            return TOKENS_PER_IMAGE
        case _:
            assert_never(part)
