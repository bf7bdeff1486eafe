"""Azure OpenAI: where its things are, and what is its own in answers."""

from __future__ import annotations

import json

import pytest

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
    Message,
    Started,
)
from duckservice.config import ProviderConfig, Secret, TimeoutConfig
from duckservice.errors import (
    ContentFiltered,
    DuckError,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    RateLimited,
)
from duckservice.providers.adapter import Speaker
from duckservice.providers.adapters.azure import ADAPTER
from duckservice.providers.catalog import make_provider
from duckservice.providers.failures import Classifier
from duckservice.providers.openai import Paths
from tests.providers import understanding
from tests.upstream import answer, open_upstream

RESOURCE = "https://ducks.openai.azure.com"
DATED = "2024-10-21"
AT_MODEL = "/openai/deployments/my%2Fmodel/chat/completions"
KEY = "0123456789abcdef0123456789abcdef"


def config(base_url=RESOURCE, **fields) -> ProviderConfig:
    return ProviderConfig(name="duck", adapter="azure", base_url=base_url, **fields)


def dialect(**fields):
    speaker = Speaker(
        provider="duck", errors=Classifier("duck"), config=config(**fields)
    )
    return ADAPTER.dialect(speaker)


def ask(model="gpt-4o") -> ChatRequest:
    return ChatRequest(model=model, messages=(Message.of("user", "hello"),))


@pytest.mark.parametrize(
    ("base_url", "version", "chat"),
    [
        (RESOURCE, "", "/openai/v1/chat/completions"),
        (f"{RESOURCE}/", "", "/openai/v1/chat/completions"),
        (f"{RESOURCE}/openai", "", "/openai/v1/chat/completions"),
        (f"{RESOURCE}/openai/v1", "", "/openai/v1/chat/completions"),
        (f"{RESOURCE}/openai/v1/", "", "/openai/v1/chat/completions"),
        (
            RESOURCE,
            "preview",
            "/openai/v1/chat/completions?api-version=preview",
        ),
        (
            RESOURCE,
            DATED,
            f"{AT_MODEL}?api-version=2024-10-21",
        ),
        (
            f"{RESOURCE}/openai/v1",
            DATED,
            f"{AT_MODEL}?api-version=2024-10-21",
        ),
        (
            f"{RESOURCE}/openai",
            "2025-04-01-preview",
            f"{AT_MODEL}?api-version=2025-04-01-preview",
        ),
        (
            f"{RESOURCE}/openai/deployments/only",
            DATED,
            "/openai/deployments/only/chat/completions?api-version=2024-10-21",
        ),
        (
            f"{RESOURCE}/models",
            "2024-05-01-preview",
            "/models/chat/completions?api-version=2024-05-01-preview",
        ),
        (
            f"{RESOURCE}/gateway",
            DATED,
            f"/gateway{AT_MODEL}?api-version=2024-10-21",
        ),
        (f"{RESOURCE}/gateway/v1", "", "/gateway/v1/chat/completions"),
    ],
)
def test_the_url_of_a_chat_is_made_of_what_the_config_says(base_url, version, chat):
    its = config(base_url, api_version=version)
    path = dialect(base_url=base_url, api_version=version).chat_path(
        ask("my/model"), stream=False
    )
    assert ADAPTER.base_url(its) + path == RESOURCE + chat


def test_embeddings_and_pictures_are_at_their_deployments_and_models_at_none():
    its = dialect(api_version=DATED)
    query = "?api-version=2024-10-21"
    embed = its.embeddings.path(EmbeddingRequest(model="e", input=("a",)))
    assert embed == f"/deployments/e/embeddings{query}"
    draw = its.images.path(ImageRequest(model="dalle", prompt="a duck"))
    assert draw == f"/deployments/dalle/images/generations{query}"
    assert its.models_path == its.health_path == f"/models{query}"


async def test_the_key_goes_into_its_own_header_to_the_mapped_deployment():
    reply = {
        "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 0},
    }
    async with open_upstream([[answer(json.dumps(reply).encode())]]) as upstream:
        provider = make_provider(
            config(
                upstream.base_url,
                api_key=Secret(KEY),
                api_version=DATED,
                model_map={"gpt-4o": "prod-chat"},
                timeout=TimeoutConfig(connect=20, first_byte=20, idle=20, total=20),
            )
        )
        try:
            await provider.complete(ask())
        finally:
            await provider.aclose()
    [request] = upstream.requests
    assert request.line == (
        "POST /openai/deployments/prod-chat/chat/completions"
        "?api-version=2024-10-21 HTTP/1.1"
    )
    assert request.header("api-key") == KEY
    assert request.header("authorization") is None
    assert json.loads(request.body)["model"] == "prod-chat"


def test_the_filters_verdict_on_the_prompt_comes_before_the_answer_and_is_none():
    verdict = {"prompt_index": 0, "content_filter_results": {}}
    events = [
        {"id": "", "model": "", "choices": [], "prompt_filter_results": [verdict]},
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "a"}}]},
        {
            "id": "c",
            "choices": [
                {
                    "index": 0,
                    "delta": {},
                    "finish_reason": "content_filter",
                    "content_filter_results": {"hate": {"filtered": True}},
                }
            ],
        },
    ]
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    stream = dialect().open_stream()
    chunks = stream.feed("".join([*lines, "data: [DONE]\n\n"]).encode())
    chunks += stream.close()
    assert chunks[0] == Started(id="c", model="m")
    [said], _ = understanding.of_chunks(chunks)
    assert said.finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "wait"),
    [
        (
            400,
            {
                "code": "content_filter",
                "message": "The response was filtered",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            },
            {},
            ContentFiltered,
            None,
        ),
        (401, {"code": "401", "message": "Access denied"}, {}, ProviderAuthError, None),
        (404, {"code": "DeploymentNotFound"}, {}, ModelNotFound, None),
        (
            404,
            {"code": "404", "message": "Resource not found"},
            {},
            ProviderError,
            None,
        ),
        (
            429,
            {"code": "429", "message": "Please retry after 86400 seconds."},
            {},
            RateLimited,
            86_400.0,
        ),
        (429, {"code": "429"}, {"retry-after-ms": "1500"}, RateLimited, 1.5),
        (429, {}, {"x-ratelimit-reset-tokens": "7"}, RateLimited, 7.0),
        (429, {}, {"x-rate-limit-reset-tokens": "7"}, RateLimited, 7.0),
    ],
)
def test_its_errors_find_their_class(status, body, headers, kind, wait):
    error = dialect().errors(status, headers, json.dumps({"error": body}).encode())
    assert type(error) is kind
    assert error.retry_after == wait


def test_an_error_in_a_stream_names_its_status_as_text():
    stream = dialect().open_stream()
    event = json.dumps({"error": {"code": "429", "message": "slow down"}})
    stream.feed(f"data: {event}\n\n".encode())
    with pytest.raises(DuckError) as caught:
        stream.close()
    assert type(caught.value) is RateLimited
    assert caught.value.upstream_status == 429


@pytest.mark.parametrize("model", [".", "..", "..."])
def test_dots_alone_are_no_deployment_and_in_a_body_a_name_like_others(model):
    dated = Paths(prefix="/deployments/{model}")
    with pytest.raises(ModelNotFound, match="azure has no model"):
        dated.of(model, "/chat/completions", "azure")
    assert Paths().of(model, "/chat/completions", "azure") == "/chat/completions"
