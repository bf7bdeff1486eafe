"""What is understood of an answer over a real loopback connection.

An answer is a body as a provider would send it, and what it means in plain values:
the SDK and our adapter must both find exactly that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
import trio

from duckservice.completion import ChatRequest, Message
from tests.e2e.makers import Maker
from tests.providers.understanding import of_chunks, of_completion
from tests.sdks.sending import provider_at
from tests.upstream import answer, chunked, head, open_upstream

UNICODE: Final = "Łódź 🦆 “quack” — 天気"


@attrs.define
class Read:
    """What was understood."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = attrs.field(factory=list)
    """Name and arguments of each."""
    ids: list[str] | None = None
    """Of the calls, where the provider gives them."""
    finish: str | None = None
    """The provider's own word."""
    usage: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Tokens read, of them cached, and written, of them thought."""


@attrs.frozen(kw_only=True)
class Answer:
    """One answer."""

    body: bytes
    means: Read
    stream: bool = False
    media_type: str = "application/json"

    def on_the_wire(self, size: int) -> bytes:
        """Return it with its head, in chunks of *size* bytes (0: whole)."""
        kind = b"content-type: " + self.media_type.encode()
        if not size:
            return answer(self.body, kind)
        pieces = (self.body[at : at + size] for at in range(0, len(self.body), size))
        return head(kind, b"transfer-encoding: chunked") + chunked(*pieces)


def whole(value: Any, means: Read) -> Answer:
    return Answer(body=json.dumps(value).encode(), means=means)


def events(means: Read, *values: Any, named: bool = False, done: bool = False):
    """Return a stream of server-sent events, unescaped as the servers write them."""
    lines = []
    for value in values:
        if named:
            lines.append(f"event: {value['type']}\n")
        lines.append(f"data: {json.dumps(value, ensure_ascii=False)}\n\n")
    if done:
        lines.append("data: [DONE]\n\n")
    return Answer(
        body="".join(lines).encode(),
        means=means,
        stream=True,
        media_type="text/event-stream",
    )


def every(answers: dict[str, Answer]) -> pytest.MarkDecorator:
    """Parametrize with each answer: whole, and byte by byte, so that letters split."""
    return pytest.mark.parametrize(
        ("said", "size"),
        [
            pytest.param(its, size, id=f"{name}-{size or 'whole'}")
            for name, its in answers.items()
            for size in (0, 1)
        ],
    )


async def read_by_sdk(said: Answer, size: int, use: Callable[[str], Read]) -> Read:
    """Return what *use* reads from an upstream that gives the answer."""
    async with open_upstream([[said.on_the_wire(size)]], limit=30) as upstream:
        return await trio.to_thread.run_sync(use, upstream.base_url)


async def read_by_us(said: Answer, size: int, maker: Maker, model: str) -> Read:
    """Return what *maker*'s adapter reads from an upstream that gives the answer."""
    request = ChatRequest(model=model, messages=(Message.of("user", "hello"),))
    async with (
        open_upstream([[said.on_the_wire(size)]], limit=30) as upstream,
        provider_at(maker, upstream.base_url) as provider,
    ):
        if said.stream:
            async with provider.stream(request) as batches:
                chunks = [chunk async for batch in batches for chunk in batch]
            [choice], usage = of_chunks(chunks)
        else:
            [choice], usage = of_completion(await provider.complete(request))
    assert usage is not None
    calls = choice.tool_calls()
    return Read(
        text=choice.text,
        reasoning=choice.reasoning,
        calls=[(name, arguments) for _, name, arguments in calls],
        ids=[own_id for own_id, _, _ in calls] if said.means.ids is not None else None,
        finish=choice.native_finish_reason,
        usage=(
            usage.input_tokens,
            usage.cached_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        ),
    )


# What the answers of all formats say.

THOUGHT: Final = "Hmm — 🤔."
CALLS: Final = [("get_weather", {"city": "Łódź"}), ("get_time", {})]
IDS: Final = ["call_1", "call_2"]


def pieces(text: str) -> list[str]:
    """Return *text* in three, as a stream has it."""
    third = len(text) // 3
    return [text[:third], text[third : 2 * third], text[2 * third :]]
