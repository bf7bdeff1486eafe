"""What requests may use at most, held against what they have used, as recorded."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec

from duckservice.completion import ChatRequest, EmbeddingRequest, Message, TextPart
from duckservice.config import PriceConfig, ProviderConfig, Secret
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_embeddings import decode_embedding
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.money.spending import worst_cost
from duckservice.providers.base import Provider
from duckservice.providers.catalog import make_provider
from tests import recordings
from tests.recordings import FOLDER, Record, needs_recordings

PICO = "0.000001"
"""USD per million tokens: a picodollar for each, so that costs are tokens."""

#: Who serves the recordings of a folder's file, where it is not called after one.
ADAPTERS = {"llamacpp": "openai_compatible", "openai_compat": "openai_compatible"}


@attrs.frozen(kw_only=True)
class Used:
    """A recorded request that can be read, and what it has used."""

    record: Record
    request: ChatRequest | EmbeddingRequest
    input: int
    output: int


@functools.cache
def provider_of(name: str, *, read: str = "0", written: str = "0") -> Provider:
    """Return who serves the recordings of *name*, priced as is asked."""
    adapter = ADAPTERS.get(name, name)
    more: dict[str, Any] = {"base_url": "https://x/v1"}
    if adapter in ("bedrock", "vertex"):
        more = {"region": "us-east-1"}
    price = PriceConfig(input=read, output=written)
    return make_provider(
        ProviderConfig(
            name=name, adapter=adapter, api_key=Secret("k" * 40), price=price, **more
        )
    )


def used() -> Iterator[Used]:
    for file in sorted(FOLDER.glob("*.jsonl.gz")):
        for record in recordings.read(file):
            usage = (record.expected or {}).get("usage")
            body = record.request.get("body")
            if not usage or not isinstance(body, dict):
                continue
            request = understood(record, {"model": "m", **body})
            if request is not None:
                yield Used(
                    record=record,
                    request=request,
                    input=read_tokens(record, usage),
                    output=int(usage.get("output_tokens") or 0),
                )


def read_tokens(record: Record, usage: Mapping[str, Any]) -> int:
    tokens = int(usage.get("input_tokens") or 0)
    if "anthropic" not in record.api:
        return tokens
    # There, what is cached is counted apart.
    return tokens + sum(
        int(usage.get(name) or 0)
        for name in ("cached_input_tokens", "cache_write_tokens")
    )


def understood(
    record: Record, body: dict[str, Any]
) -> ChatRequest | EmbeddingRequest | None:
    if "contents" in body:
        try:
            return msgspec.convert(body, GeminiTexts).as_chat()
        except msgspec.ValidationError:
            return None
    text = json.dumps(body).encode()
    try:
        if "embed" in record.api or record.base_operation == "embeddings":
            return decode_embedding(text).request
        if "messages" not in body:
            return decode_responses(text).request
        if "anthropic" in record.api:
            return decode_messages(text).request
        return decode_chat(text).request
    except InvalidRequest:
        return None  # a format that no client of ours speaks


class GeminiText(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    thought: bool = False


class GeminiTurn(msgspec.Struct):
    parts: list[GeminiText] = []


class GeminiTexts(msgspec.Struct, rename="camel"):
    """A request of Gemini's that is nothing but text."""

    contents: list[GeminiTurn]
    system_instruction: GeminiTurn | None = None
    tools: None = None
    cached_content: None = None

    def as_chat(self) -> ChatRequest:
        turns = [self.system_instruction or GeminiTurn(), *self.contents]
        return ChatRequest(
            model="m",
            messages=tuple(
                Message(
                    role="user", parts=tuple(TextPart(text=p.text) for p in turn.parts)
                )
                for turn in turns
            ),
        )


@needs_recordings
def test_no_recorded_prompt_is_larger_than_its_bound():
    seen, exceeded = Counter[str](), list[str]()
    for each in used():
        request = each.request
        if isinstance(request, ChatRequest):
            request = attrs.evolve(request, max_tokens=1)
        bound = worst_cost(provider_of(each.record.provider, read=PICO), request)
        if bound is not None:
            seen[each.record.provider] += 1
            if each.input > bound:
                exceeded.append(f"{each.record}: {each.input} > {bound}")
    assert not exceeded
    assert seen.total() >= 1200, seen
    assert len(seen) >= 17, seen


@needs_recordings
def test_no_recorded_reply_is_longer_than_its_bound():
    seen, exceeded = 0, list[str]()
    for each in used():
        bound = worst_cost(
            provider_of(each.record.provider, written=PICO), each.request
        )
        if bound is not None:
            seen += 1
            if each.output > bound:
                exceeded.append(f"{each.record}: {each.output} > {bound}")
    assert not exceeded
    assert seen >= 300


@needs_recordings
def test_a_quarter_of_what_a_provider_may_add_unseen_is_in_reserve():
    for each in used():
        provider = provider_of(each.record.provider, read=PICO)
        if isinstance(each.request, ChatRequest):
            request = attrs.evolve(each.request, max_tokens=1)
            bound = worst_cost(provider, request)
            hidden = provider.capabilities.hidden_prompt_tokens
            assert bound is None or each.input <= bound - hidden // 4, each.record
