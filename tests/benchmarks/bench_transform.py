"""What it takes to translate requests and answers, and to price them; run it.

    python -m tests.benchmarks.bench_transform [RUNS]

All in one process, on one core: each line is the median of the runs, in milliseconds.
The claims are those that the design documents make for an implementation in Rust; they
are for one provider, and say nothing of what was in the requests.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from duckservice.completion import ChatRequest, Usage
from duckservice.config import AdapterName, ProviderConfig
from duckservice.core.pricing import cost
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.adapter import Speaker
from duckservice.providers.adapters import adapter_of
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin
from duckservice.providers.prices import Prices
from duckservice.providers.remote import Dialect

RUNS = 9
TRANSLATIONS = 1_000
LOOK_UPS = 10_000
COSTS = 100_000

PROVIDERS: dict[AdapterName, str] = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
}
LISTS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}},
            "required": ["town"],
        },
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"town":"Bonn"}'},
}
CONVERSATION = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Bonn? " * 20},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain, 7 degrees"},
        {"role": "user", "content": "And what shall I wear?"},
    ],
    "tools": [WEATHER],
    "max_tokens": 500,
    "temperature": 0.5,
}

TEXT = "Take an umbrella, and wear something warm. " * 10
ANSWERS: dict[AdapterName, Any] = {
    "openai": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 200,
            "completion_tokens": 90,
            "total_tokens": 290,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    },
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 136,
            "cache_read_input_tokens": 64,
            "cache_creation_input_tokens": 0,
            "output_tokens": 90,
        },
    },
    "gemini": {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": TEXT}]},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 200,
            "candidatesTokenCount": 90,
            "cachedContentTokenCount": 64,
            "totalTokenCount": 290,
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r-1",
    },
}
USAGE = Usage(input_tokens=200, output_tokens=90, cached_tokens=64)


def main() -> None:
    """Measure, and print a table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    print(f"{'':44}  {'ms':>8}  {'claimed':>8}")
    for provider, model in PROVIDERS.items():
        dialect = _dialect(provider)
        if dialect is None:
            print(f"{provider}: not there")
            continue
        request = _request(model)
        body = msgspec.json.encode(ANSWERS[provider])
        assert dialect.decode(body, Origin(model, "a")).text == TEXT
        _line(
            f"{TRANSLATIONS:,} requests built, {provider}",
            _median(runs, lambda d=dialect, r=request: _build(d, r)),
            "10",
        )
        _line(
            f"{TRANSLATIONS:,} responses parsed, {provider}",
            _median(runs, lambda d=dialect, b=body, m=model: _parse(d, b, m)),
            "10",
        )
    inbound = msgspec.json.encode({"model": "gpt-4o", **CONVERSATION})
    taken = _median(runs, lambda: _repeat(TRANSLATIONS, lambda: decode_chat(inbound)))
    _line(f"{TRANSLATIONS:,} requests of clients read", taken, "")
    _line(f"{LOOK_UPS:,} price look-ups", _median(runs, _look_ups()), "5")
    _line(f"{COSTS:,} cost computations", _median(runs, _costs()), "10")
    _line(f"{COSTS:,} costs of a model by its name", _median(runs, _by_name()), "")


def _line(what: str, seconds: float, claimed: str) -> None:
    print(f"{what:44}  {seconds * 1000:8.1f}  {claimed:>8}")


def _median(runs: int, work: Callable[[], object]) -> float:
    work()
    taken: list[float] = []
    for _ in range(runs):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def _repeat(times: int, work: Callable[[], object]) -> None:
    for _ in range(times):
        work()


def _dialect(provider: AdapterName) -> Dialect | None:
    try:
        adapter = adapter_of(provider)
    except ModuleNotFoundError:
        return None
    config = ProviderConfig(name=provider, adapter=provider)
    errors = Classifier(provider, (), reader=adapter.reader, rules=adapter.rules)
    return adapter.dialect(Speaker(provider=provider, errors=errors, config=config))


def _request(model: str) -> ChatRequest:
    body = {"model": model, **CONVERSATION}
    return decode_chat(msgspec.json.encode(body)).request


def _build(dialect: Dialect, request: ChatRequest) -> None:
    for _ in range(TRANSLATIONS):
        dialect.check(request)
        dialect.chat_path(request, stream=False)
        dialect.encode(request, stream=False)


def _parse(dialect: Dialect, body: bytes, model: str) -> None:
    origin = Origin(model, "answer-1")
    for _ in range(TRANSLATIONS):
        dialect.decode(body, origin)


def _look_ups() -> Callable[[], None]:
    """Return what looks up the prices of three models of three providers, in turn."""
    known = [
        (Prices(list_id=LISTS[provider]), model)
        for provider, model in PROVIDERS.items()
    ]
    assert all(prices.quote(model) is not None for prices, model in known)

    def work() -> None:
        for _ in range(LOOK_UPS // len(known) + 1):
            for prices, model in known:
                prices.quote(model)

    return work


def _costs() -> Callable[[], None]:
    """Return what multiplies tokens by a price that is looked up already."""
    quote = Prices(list_id="openai").quote("gpt-4o")
    assert quote is not None
    price = quote.tariff.price_of(USAGE)

    def work() -> None:
        for _ in range(COSTS):
            cost(USAGE, price)

    return work


def _by_name() -> Callable[[], None]:
    """Return what a request does: look up, choose the tier, multiply."""
    prices = Prices(list_id="openai")

    def work() -> None:
        for _ in range(COSTS):
            prices.cost(USAGE, "gpt-4o")

    return work


if __name__ == "__main__":
    main()
