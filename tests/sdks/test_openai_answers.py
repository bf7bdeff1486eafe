"""The SDKs of OpenAI's format (OpenAI's, Groq's, Mistral's) and our adapters understand
an answer alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from tests.e2e.makers import MAKERS, OPENAI
from tests.sdks.reading import (
    CALLS,
    IDS,
    THOUGHT,
    UNICODE,
    Answer,
    Read,
    events,
    every,
    pieces,
    read_by_sdk,
    read_by_us,
    whole,
)
from tests.sdks.sending import KEY

pytestmark = pytest.mark.slow

GROQ = attrs.evolve(OPENAI, adapter="groq", path="/openai/v1")
MODEL = "a-model"
HELLO = [{"role": "user", "content": "hello"}]
TEXTS = [json.dumps(arguments, ensure_ascii=False) for _, arguments in CALLS]


def usage(thought: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 20,
        "completion_tokens": 5,
        "total_tokens": 25,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def body(finish: str, thought: int, **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {**head("chat.completion"), "choices": [choice], "usage": usage(thought)}


def head(kind: str) -> dict[str, Any]:
    return {"id": "x", "object": kind, "created": 1_700_000_000, "model": MODEL}


def call(place: int) -> dict[str, Any]:
    function = {"name": CALLS[place][0], "arguments": TEXTS[place]}
    return {"id": IDS[place], "type": "function", "function": function}


def piece(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**head("chat.completion.chunk"), "choices": [choice]}


def interleaved_calls(nameless: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield two calls whose arguments come by turns; *nameless* is in all but the first."""
    for place in range(2):
        begun = call(place)
        begun["function"]["arguments"] = ""
        yield piece(tool_calls=[{"index": place, **begun}])
    for parts in zip(*map(pieces, TEXTS), strict=True):
        for place, text in enumerate(parts):
            grown = {"index": place, "function": {**nameless, "arguments": text}}
            yield piece(tool_calls=[grown])


def stream(means: Read, *chunks: dict[str, Any], thought: int = 3) -> Answer:
    """Return a stream whose usage comes last, in a chunk of its own."""
    end = {**head("chat.completion.chunk"), "choices": [], "usage": usage(thought)}
    return events(means, *chunks, end, done=True)


def answers(
    thoughts: Callable[[str], dict[str, Any]] | None, thought: int, **nameless: Any
) -> dict[str, Answer]:
    """Return the answers; *thoughts* is how the format writes some, if it does."""
    said = [] if thoughts is None else [thoughts(part) for part in pieces(THOUGHT)]
    empty = Read(finish="stop", usage=(20, 8, 5, thought))
    full = attrs.evolve(
        empty,
        text=UNICODE,
        reasoning=THOUGHT if said else "",
        calls=CALLS[:1],
        ids=IDS[:1],
        finish="tool_calls",
    )
    parallel = attrs.evolve(empty, calls=CALLS, ids=IDS, finish="tool_calls")
    cut_off = attrs.evolve(empty, finish="length")
    apart = {} if thoughts is None else thoughts(THOUGHT)
    message = {"content": UNICODE, **apart, "tool_calls": [call(0)]}
    if isinstance(apart.get("content"), list):  # Mistral's are parts of it
        message["content"] = [*apart["content"], {"type": "text", "text": UNICODE}]
    return {
        "full": whole(body("tool_calls", thought, **message), full),
        "empty": whole(body("stop", thought, content=""), empty),
        "cut off": whole(body("length", thought, content=""), cut_off),
        "streamed": stream(
            full,
            piece(role="assistant", content=""),
            *(piece(**part) for part in said),
            *(piece(content=part) for part in pieces(UNICODE)),
            piece(tool_calls=[{"index": 0, **call(0)}]),
            piece("tool_calls"),
            thought=thought,
        ),
        "parallel calls": stream(
            parallel,
            piece(role="assistant", content=""),
            *interleaved_calls(nameless),
            piece("tool_calls"),
            thought=thought,
        ),
        "nothing": stream(empty, piece("stop", content=""), thought=thought),
    }


def add_content(found: Read, content: Any) -> None:
    if isinstance(content, str):
        found.text += content
        return
    for part in content or ():
        if part.type == "thinking":
            found.reasoning += "".join(inner.text for inner in part.thinking)
        else:
            found.text += part.text


def read(chunks: Iterable[Any], *, with_ids: bool) -> Read:
    """Return what is in the SDK's chunks, or in its one whole completion."""
    found = Read()
    calls: dict[int, list[Any]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            said = getattr(choice, "delta", None) or choice.message
            add_content(found, said.content or "")
            found.reasoning += getattr(said, "reasoning", None) or ""
            for place, its in enumerate(said.tool_calls or ()):
                index = (
                    place if said is not getattr(choice, "delta", None) else its.index
                )
                one = calls.setdefault(index, [its.id, "", ""])
                one[1] += its.function.name or ""
                one[2] += its.function.arguments
            found.finish = choice.finish_reason or found.finish
        if chunk.usage is not None:
            found.usage = usage_of(chunk.usage)
    found.calls = [(name, json.loads(text)) for _, name, text in calls.values()]
    found.ids = [own_id for own_id, _, _ in calls.values()] if with_ids else None
    return found


def usage_of(used: Any) -> tuple[int, int, int, int]:
    fields = used.model_dump()
    cached = (fields.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    thought = (fields.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    return fields["prompt_tokens"], cached, fields["completion_tokens"], thought


@contextmanager
def openai_sdk(url: str):
    import openai

    with openai.OpenAI(
        api_key=KEY, base_url=f"{url}/v1", timeout=20, max_retries=0
    ) as sdk:
        yield sdk.chat.completions.create


@contextmanager
def groq_sdk(url: str):
    import groq

    with groq.Groq(api_key=KEY, base_url=url, timeout=20, max_retries=0) as sdk:
        yield sdk.chat.completions.create


@contextmanager
def mistral_sdk(url: str):
    from mistralai.client import Mistral

    with Mistral(api_key=KEY, server_url=url, timeout_ms=20_000) as sdk:

        def create(*, stream: bool, **asked: Any) -> Any:
            if not stream:
                return sdk.chat.complete(**asked)
            return (event.data for event in sdk.chat.stream(**asked))

        yield create


@pytest.fixture
def openai():
    pytest.importorskip("openai", reason="openai is not installed")


@pytest.fixture
def groq():
    pytest.importorskip("groq", reason="groq is not installed")


@pytest.fixture
def mistral():
    pytest.importorskip("mistralai.client", reason="mistralai is not installed")


def reading_with(sdk: Callable[[str], Any], said: Answer) -> Callable[[str], Read]:
    def use(url: str) -> Read:
        with sdk(url) as create:
            got = create(model=MODEL, messages=HELLO, stream=said.stream)
            with_ids = said.means.ids is not None
            return read(got if said.stream else [got], with_ids=with_ids)

    return use


@every(answers(None, 3))
async def test_an_answer_is_what_openais_sdk_reads(openai, said: Answer, size: int):
    theirs = await read_by_sdk(said, size, reading_with(openai_sdk, said))
    assert theirs == said.means
    assert await read_by_us(said, size, OPENAI, MODEL) == said.means


@every(answers(lambda text: {"reasoning": text}, 3))
async def test_an_answer_is_what_groqs_sdk_reads(groq, said: Answer, size: int):
    theirs = await read_by_sdk(said, size, reading_with(groq_sdk, said))
    assert theirs == said.means
    assert await read_by_us(said, size, GROQ, MODEL) == said.means


def mistrals_thoughts(text: str) -> dict[str, Any]:
    inner = [{"type": "text", "text": text}]
    return {"content": [{"type": "thinking", "thinking": inner}]}


# Its SDK wants a name in each piece of a call.
@every(answers(mistrals_thoughts, 0, name=""))
async def test_an_answer_is_what_mistrals_sdk_reads(mistral, said: Answer, size: int):
    theirs = await read_by_sdk(said, size, reading_with(mistral_sdk, said))
    assert theirs == said.means
    assert await read_by_us(said, size, MAKERS["mistral"], MODEL) == said.means
