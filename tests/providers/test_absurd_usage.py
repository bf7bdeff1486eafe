"""A usage beyond all reason is none: the reply that came with it stays a reply."""

from __future__ import annotations

import json

import pytest

from duckservice.completion import Usage
from duckservice.errors import BadProviderResponse
from duckservice.providers.origin import NAMELESS
from duckservice.providers.reading import (
    TOKENS_MAX,
    Malformed,
    usage_of,
    whole_count,
)
from tests.providers import (
    bedrock,
    gemini,
    responses_api,
    test_anthropic,
    test_cohere,
    test_ollama,
    test_openai,
)

ABSURD = pytest.mark.parametrize(
    "count",
    [TOKENS_MAX + 1, 2**53, 2**63, 10**400, 1e300],
    ids=["one more", "2**53", "2**63", "10**400", "1e300"],
)


@ABSURD
@pytest.mark.parametrize("which", ["input_tokens", "output_tokens"])
def test_what_is_beyond_reason_is_not_known(count, which) -> None:
    said = {"input_tokens": 1, "output_tokens": 1, which: count}
    assert usage_of(**said) == Usage(estimated=True)


def test_what_is_within_reason_is_as_it_was_said() -> None:
    usage = usage_of(input_tokens=TOKENS_MAX, output_tokens=3, cached=2**63)
    assert usage == Usage(
        input_tokens=TOKENS_MAX, output_tokens=3, cached_tokens=TOKENS_MAX
    )


def openai(count) -> Usage:
    usage = {"prompt_tokens": count, "completion_tokens": 1}
    return test_openai.OPENAI.decode(test_openai.body(usage=usage)).usage


def anthropic(count) -> Usage:
    usage = {"input_tokens": 1, "cache_read_input_tokens": count, "output_tokens": 1}
    return test_anthropic.CLAUDE.decode(test_anthropic.body(usage=usage)).usage


def cohere(count) -> Usage:
    counts = {"input_tokens": count, "output_tokens": 1}
    usage = {"tokens": counts, "billed_units": counts}
    body = test_cohere.answer(usage=usage)
    its = test_cohere.DIALECT.decode(body, test_cohere.ORIGIN).usage
    assert its.billed_input_tokens is None
    return Usage(estimated=its.estimated, input_tokens=its.input_tokens)


def ollama(count) -> Usage:
    message = {"role": "assistant", "content": "hi"}
    body = test_ollama.line(message=message, done=True, eval_count=count)
    return test_ollama.DIALECT.decode(body, test_ollama.ORIGIN).usage


def bedrock_converse(count) -> Usage:
    body = {
        "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": count, "outputTokens": 1},
    }
    return bedrock.BEDROCK.decode(json.dumps(body).encode(), bedrock.ORIGIN).usage


def gemini_answer(count) -> Usage:
    said = {"promptTokenCount": 1, "thoughtsTokenCount": count}
    body = gemini.answer({"text": "hi"}, usageMetadata=said)
    return gemini.GEMINI.decode(json.dumps(body).encode(), gemini.ORIGIN).usage


def responses(count) -> Usage:
    text = {"type": "output_text", "text": "hi", "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "content": [text]}
    body = {"status": "completed", "output": [item], "usage": {"input_tokens": count}}
    return responses_api.OPENAI.decode(json.dumps(body).encode(), NAMELESS).usage


@ABSURD
@pytest.mark.parametrize(
    "read",
    [openai, anthropic, cohere, ollama, bedrock_converse, gemini_answer, responses],
    ids=lambda read: read.__name__,
)
def test_the_reply_is_read_and_its_usage_is_to_be_estimated(read, count) -> None:
    try:
        usage = read(count)
    except BadProviderResponse as error:  # pragma: no cover - the failure's words
        pytest.fail(f"the reply was thrown away: {error}")
    assert usage == Usage(estimated=True)


def test_a_stream_s_report_of_it_is_none_either() -> None:
    stream = test_openai.OPENAI.open_stream()
    chunks = stream.feed(
        test_openai.event(test_openai.piece(content="hi"))
        + test_openai.event(usage={"prompt_tokens": 10**20})
        + test_openai.DONE
    )
    assert stream.ended
    assert not stream.usage_seen
    assert all(not hasattr(chunk, "usage") for chunk in chunks)
    stream.close()


@ABSURD
def test_an_answer_that_is_nothing_but_a_count_is_none(count) -> None:
    with pytest.raises(Malformed, match="beyond all reason"):
        whole_count(count)
    assert whole_count(TOKENS_MAX) == TOKENS_MAX
