"""How many tokens a request probably has, where the provider does not count.

A rule of thumb, for display and for routing: nothing is billed by it. English
prose has some 4 bytes a token; every other text has more bytes a character, and
so counts for more tokens, as it does in truth.
"""

from __future__ import annotations

from typing import Final, assert_never

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

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_IMAGE: Final = 1000
"""Between OpenAI's 85 (low detail) and Anthropic's 1,600 (the largest)."""


def estimated_prompt(request: ChatRequest) -> Usage:
    """Return a guess at the prompt's size, marked as one."""
    return Usage(input_tokens=prompt_tokens(request), estimated=True)


def prompt_tokens(request: ChatRequest) -> int:
    """Return a guess at the number of tokens of *request*'s prompt."""
    count = 0
    for message in request.messages:
        count += TOKENS_PER_MESSAGE + sum(map(_part_tokens, message.parts))
    for tool in request.tools:
        count += text_tokens(tool.name + (tool.description or ""))
        if tool.parameters:
            count += len(msgspec.json.encode(dict(tool.parameters))) // BYTES_PER_TOKEN
    return count


def reply_tokens(choices: tuple[Choice, ...]) -> int:
    """Return a guess at the number of tokens of a reply."""
    return sum(_part_tokens(part) for choice in choices for part in choice.parts)


def text_tokens(text: str) -> int:
    """Return a guess at the number of tokens of *text*."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def input_tokens(given: str | tuple[int, ...]) -> int:
    """Return the number of tokens of an embedding's input: a guess for a text."""
    return text_tokens(given) if isinstance(given, str) else len(given)


def _part_tokens(part: Part) -> int:
    match part:
        case TextPart(text=text) | ReasoningPart(text=text) | RefusalPart(text=text):
            return text_tokens(text)
        case ImagePart():
            return TOKENS_PER_IMAGE
        case ToolCall(name=name, arguments=arguments):
            return text_tokens(name + arguments)
        case ToolResult(content=content):
            return sum(map(_part_tokens, content))
        case OpaquePart():
            return TOKENS_PER_IMAGE
        case _:
            assert_never(part)
