"""Real recorded traffic, replayed through the daemon, means the same behind it.

An upstream sends the recorded answers, cut anew into pieces; the official SDKs
send the recorded requests. What each SDK understands through the daemon is held
against ``expected``: what it understood of the bare recording. What the upstream
gets is held against the recorded request.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anthropic
import attrs
import openai
import pytest
import trio

from duckservice.config import BreakerConfig, ProviderConfig, RetryConfig
from tests.e2e.running import Duck, open_duck, provider
from tests.e2e.sdk_understanding import (
    Said,
    Understood,
    json_or_text,
    of_chat_chunks,
    of_chat_completion,
    of_message,
    of_message_events,
)
from tests.recordings import Record, cut, load, needs_recordings, response_parts
from tests.upstream import Action, chunked, head, open_upstream

pytestmark = needs_recordings

APIS = {"openai": "chat_completions", "anthropic": "anthropic.messages"}
SEED = 20261120

# What cannot agree, each for its reason.

REFUSED = {
    "no messages": {"1248278ba4"},
    "a temperature of 99": {"e1af374e5c"},
}
"""Requests that the daemon refuses itself, naming the field; the recorded provider
refused them as well."""

SEVERAL_MESSAGES = {"75f59766ef", "64df8b02f7", "7869e0dca3"}
"""Bodies that hold the answers of several requests, one behind the other. The
bare SDK adds them up; an answer ends with the first ``message_stop``."""

RESTARTED = {"22b6736ba4"}
"""A message that begins anew in the middle of a tool call, of which the bare SDK
makes broken arguments. It is no answer."""

NEVER_FINISHED = {"d11469d91b", "f64b1e07f0"}
"""A stream with ``[DONE]``, and an answer, without any finish reason; ours is ``stop``."""

CODES = {
    "BadRequestError": {
        "invalid_request",
        "context_length_exceeded",
        "content_filtered",
    },
    "AuthenticationError": {"provider_auth_error"},
    "NotFoundError": {"model_not_found"},
    "RateLimitError": {"rate_limited", "quota_exceeded"},
    "InternalServerError": {"provider_error"},
    "OverloadedError": {"provider_error"},
    "APIStatusError": {"provider_error"},
    "APIError": {"provider_error"},
}
"""From the bare SDK's exception to the contract's codes."""

OTHER_KINDS = {"OverloadedError": "InternalServerError"}
"""The contract has 502 where Anthropic has 529."""


@attrs.frozen
class Exchange:
    """One record, what the SDK made of it, and what the upstream was sent."""

    record: Record
    asked: dict[str, Any]
    got: Understood | Exception
    sent: list[dict[str, Any]]

    @property
    def refused(self) -> bool:
        return any(self.record.id in ids for ids in REFUSED.values())


@pytest.fixture(scope="module")
def exchanges() -> list[Exchange]:
    """All records of both providers, replayed once, one after the other."""
    return trio.run(_replay)


async def _replay() -> list[Exchange]:
    records = [
        record
        for name, api in APIS.items()
        for record in load(name)
        if record.api == api and record.expected is not None
    ]
    async with open_upstream([[]], limit=120) as upstream:
        its = [config for r in records for config in _providers(r, upstream.base_url)]
        async with open_duck(
            *its, retry=RetryConfig(max_attempts=1), limit=120
        ) as duck:
            return await trio.to_thread.run_sync(_replay_all, records, upstream, duck)


def _replay_all(records: list[Record], upstream, duck: Duck) -> list[Exchange]:
    chance = random.Random(SEED)
    done = []
    for record in records:
        upstream.script = [_answer(record, chance)]
        seen = len(upstream.requests)
        asked = _request(record)
        try:
            got = _ask(duck, record, asked | {"model": _alias(record)})
        except (openai.OpenAIError, anthropic.AnthropicError) as error:
            got = error
        sent = [json.loads(request.body) for request in upstream.requests[seen:]]
        done.append(Exchange(record, asked, got, sent))
    return done


def _providers(record: Record, url: str) -> list[ProviderConfig]:
    """Return a record's own provider: what one asks to wait must not stop the next."""
    return [
        provider(
            record.id,
            record.provider,
            url,
            models=("none",),
            model_map={_alias(record): _request(record)["model"]},
            breaker=BreakerConfig(failure_threshold=1000),
        )
    ]


def _alias(record: Record) -> str:
    return f"alias-{record.id}"


def _request(record: Record) -> dict[str, Any]:
    """Return the recorded request, or a plausible one where it was not kept."""
    if (body := record.request.get("body")) is not None:
        return body
    plausible: dict[str, Any] = {
        "model": f"{record.provider}-model",
        "messages": [{"role": "user", "content": "hello"}],
    }
    if record.provider == "anthropic":
        plausible["max_tokens"] = 100
    if record.streaming:
        plausible["stream"] = True
    return plausible


def _answer(record: Record, chance: random.Random) -> list[Action]:
    """Return the recorded answer, its body in other chunks and all in other pieces."""
    status, headers, body = response_parts(record)
    lines = [
        f"{name}: {value}".encode("latin-1", "replace")
        for name, value in headers.items()
        if name not in {"connection", "content-encoding", "content-length"}
        and name != "transfer-encoding"
    ]
    lines.append(b"transfer-encoding: chunked")
    start = head(*lines, status=b"%d Recorded" % status)
    return list(_pieces(start + chunked(*cut(body, chance)), chance))


def _pieces(data: bytes, chance: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = chance.choice((1, 7, 400, 4000))
        yield data[at : at + size]
        at += size


def _ask(duck: Duck, record: Record, body: dict[str, Any]) -> Understood:
    if record.provider == "anthropic":
        return _ask_anthropic(duck.anthropic_sdk, body)
    if not body.get("stream"):
        kind = openai.types.chat.ChatCompletion
        sdk = duck.openai_sdk
        reply = sdk.post("/chat/completions", body=body, cast_to=kind)
        return of_chat_completion(reply)
    chunks = duck.openai_sdk.post(
        "/chat/completions",
        body=body,
        cast_to=openai.types.chat.ChatCompletionChunk,
        stream=True,
        stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk],
    )
    return of_chat_chunks(chunks)


def _ask_anthropic(sdk: anthropic.Anthropic, body: dict[str, Any]) -> Understood:
    kind = anthropic.types.Message
    if not body.get("stream"):
        return of_message(sdk.post("/v1/messages", body=body, cast_to=kind))
    events = sdk.post(
        "/v1/messages",
        body=body,
        cast_to=kind,
        stream=True,
        stream_cls=anthropic.Stream[anthropic.types.RawMessageStreamEvent],
    )
    return of_message_events(events)


def test_hundreds_of_exchanges_of_every_kind_were_made(exchanges):
    reached = [its for its in exchanges if its.sent]
    kinds = Counter(its.record.operation for its in reached)
    assert len(reached) >= 390
    assert all(len(its.sent) == 1 for its in reached)
    assert kinds["stream"] >= 130
    assert kinds["tools"] >= 90
    assert kinds["error"] >= 55
    assert kinds["vision"] >= 20
    assert sum(its.record.streaming for its in reached) >= 130


def test_only_what_is_listed_is_refused_and_it_never_reaches_the_provider(exchanges):
    unsent = {its.record.id for its in exchanges if not its.sent}
    assert unsent == set().union(*REFUSED.values())
    for its in exchanges:
        if not its.sent:
            error = _error_of(its.got)
            assert error["code"] == "invalid_request"
            assert error["message"].startswith(("temperature", "messages"))


def test_every_answer_means_what_it_means_without_the_daemon(exchanges):
    agreed, otherwise = 0, set()
    for its in exchanges:
        if its.refused or not its.record.expected["ok"]:
            continue
        differences = _differences(its)
        if differences:
            otherwise.add(its.record.id)
            assert its.record.id in SEVERAL_MESSAGES | RESTARTED | NEVER_FINISHED, (
                its.record,
                differences,
            )
        else:
            agreed += 1
    assert otherwise == SEVERAL_MESSAGES | RESTARTED | NEVER_FINISHED
    assert agreed >= 330
    print(f"\n{agreed} answers agree; {len(otherwise)} differ for a listed reason")


def test_an_answer_that_differs_does_so_in_the_listed_way(exchanges):
    by_id = {its.record.id: its for its in exchanges}
    for record_id in SEVERAL_MESSAGES:
        assert by_id[record_id].got.choices[0].finish_reason == "tool_use"
    for record_id in RESTARTED:
        assert _error_of(by_id[record_id].got)["code"] == "bad_provider_response"
    for record_id in NEVER_FINISHED:
        assert _differences(by_id[record_id]) == {"finish_reason": ("stop", None)}


def test_every_error_is_the_sdks_own_with_the_code_of_the_contract(exchanges):
    judged = in_streams = 0
    for its in exchanges:
        if its.record.expected["ok"]:
            continue
        wanted, raised = its.record.expected["error"], its.got
        assert isinstance(raised, (openai.APIError, anthropic.APIError)), its.record
        kind = wanted["exception"]
        assert type(raised).__name__ in {kind, OTHER_KINDS.get(kind)}, its.record
        assert _error_of(raised)["code"] in CODES[kind], its.record
        judged += 1
        in_streams += its.record.response["status"] == 200
    assert judged == 60
    assert in_streams == 2
    print(f"\n{judged} errors agree, {in_streams} of them in the middle of a stream")


def test_every_request_reaches_the_provider_as_it_was_written(exchanges):
    agreed = 0
    for its in exchanges:
        if its.record.request.get("body") is None or not its.sent:
            continue
        (sent,) = its.sent
        assert _normal(sent) == _normal(its.asked), its.record
        agreed += 1
    assert agreed >= 370
    print(f"\n{agreed} requests agree")


def _differences(its: Exchange) -> dict[str, Any]:
    """Return what the SDK understood otherwise, and what it should have."""
    wanted = its.record.expected
    if isinstance(its.got, Exception):
        return {"raised": its.got}
    if len(its.got.choices) != len(wanted["choices"]):
        return {"choices": its.got.choices}
    found: dict[str, Any] = {}
    for said, choice in zip(its.got.choices, wanted["choices"], strict=True):
        found |= _differences_of(said, choice)
    for name, tokens in (wanted.get("usage") or {}).items():
        # Where the answer says 0 or nothing, so do we.
        if (its.got.usage.get(name) or 0) != tokens:
            found[name] = its.got.usage.get(name), tokens
    return found


def _differences_of(said: Said, wanted: dict[str, Any]) -> dict[str, Any]:
    calls = [
        (call["id"], call["name"], json_or_text(call["arguments"]))
        for call in wanted.get("tool_calls", ())
    ]
    pairs = {
        "text": (said.text, wanted.get("text") or ""),
        "reasoning": (said.reasoning, wanted.get("reasoning") or ""),
        "refusal": (said.refusal, wanted.get("refusal") or ""),
        "finish_reason": (said.finish_reason, wanted.get("finish_reason")),
        "stop_sequence": (said.stop_sequence, wanted.get("stop_sequence")),
        "tool_calls": (said.tool_calls(), calls),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _error_of(raised: Any) -> dict[str, Any]:
    body = raised.body
    return body.get("error", body)


# What says the same in other words.


def _normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request with all that says the same in the same words.

    Beside what means nothing (nulls, empty lists, false where false holds
    anyway), the daemon writes: one name for the limit of tokens, by the model;
    tools for the old functions; and it always asks a stream for its usage.
    """
    body = _without_nothing(copy.deepcopy(body))
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if body.get("stream"):
        body.pop("stream_options", None)
    elif "stream" in body:
        del body["stream"]
    if body.get("tools") == []:
        del body["tools"]
    if isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
    if "system" in body:
        body["system"] = _normal_content(body["system"])
    if "functions" in body:
        _as_tools(body)
    body["messages"] = [_normal_message(message) for message in body["messages"]]
    return body


def _as_tools(body: dict[str, Any]) -> None:
    functions = body.pop("functions")
    body["tools"] = [{"type": "function", "function": its} for its in functions]
    match body.pop("function_call", None):
        case str(choice):
            body["tool_choice"] = choice
        case {"name": name}:
            body["tool_choice"] = {"type": "function", "function": {"name": name}}
    body["parallel_tool_calls"] = False  # there is a place for one call only


def _normal_message(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("annotations") == []:
        del message["annotations"]
    for call in message.get("tool_calls", ()):
        call.pop("index", None)  # of a stream's delta, sent back as it was
    if "content" in message:
        message["content"] = _normal_content(message["content"])
    return message


def _normal_content(content: Any) -> Any:
    match content:
        case [{"type": "text", "text": text, **rest}] if not rest:
            return text
        case list():
            return [_normal_block(block) for block in content]
        case _:
            return content


def _normal_block(block: dict[str, Any]) -> dict[str, Any]:
    if "content" in block:
        block["content"] = _normal_content(block["content"])
    if isinstance(block.get("image_url"), str):  # which OpenAI takes undocumented
        block["image_url"] = {"url": block["image_url"]}
    if block.get("is_error") is False:
        del block["is_error"]
    return block


def _without_nothing(value: Any) -> Any:
    match value:
        case dict():
            items = ((key, _without_nothing(its)) for key, its in value.items())
            return {key: its for key, its in items if its is not None}
        case list():
            return [_without_nothing(its) for its in value]
        case _:
            return value
