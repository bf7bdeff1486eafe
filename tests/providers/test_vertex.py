from __future__ import annotations

import json

import attrs
import pytest

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
    Message,
    ModelInfo,
    ReasoningPart,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
)
from duckservice.config import AuthConfig, ProviderConfig, Secret
from duckservice.errors import (
    BadProviderResponse,
    InvalidRequest,
    ModelNotFound,
    ProviderError,
    RateLimited,
)
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.providers.adapters.vertex import ADAPTER
from duckservice.providers.auth.tokens import BearerTokens
from duckservice.providers.catalog import make_provider
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.dialect import GeminiDialect
from duckservice.providers.models import ModelNames
from duckservice.providers.origin import Origin
from duckservice.providers.vertex.claude import VERSION
from duckservice.providers.vertex.dialect import VertexDialect
from duckservice.providers.vertex.place import Place
from tests.providers import understanding
from tests.recordings import load, needs_recordings

ERRORS = Classifier("duck", reader=ADAPTER.reader, rules=ADAPTER.rules)

CLAUDE = "claude-sonnet-4-5@20250929"


def config(**fields) -> ProviderConfig:
    return ProviderConfig(**{"name": "duck", "adapter": "vertex"} | fields)


def dialect(**fields) -> VertexDialect:
    place = Place.of(config(**{"project": "p-1", "location": "us-east5"} | fields))
    return VertexDialect(provider="duck", place=place, errors=ERRORS)


VERTEX = dialect()
HELLO = (Message.of("user", "hello"),)
HERE = "projects/p-1/locations/us-east5"


def ask(**fields) -> ChatRequest:
    return ChatRequest(**{"model": "gemini-2.5-flash", "messages": HELLO} | fields)


def sent(request: ChatRequest, *, stream=False) -> dict:
    VERTEX.check(request)
    return json.loads(VERTEX.encode(request, stream=stream))


# Where it is


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        (
            {"project": "p", "location": "us-east5"},
            "https://us-east5-aiplatform.googleapis.com",
        ),
        ({"project": "p", "location": "global"}, "https://aiplatform.googleapis.com"),
        ({"project": "p"}, "https://aiplatform.googleapis.com"),
        (
            {"project": "p", "location": "eu"},
            "https://aiplatform.eu.rep.googleapis.com",
        ),
        (
            {"project": "p", "location": "us"},
            "https://aiplatform.us.rep.googleapis.com",
        ),
        ({}, "https://aiplatform.googleapis.com"),
        ({"base_url": "http://127.0.0.1:9/x"}, "http://127.0.0.1:9/x"),
        ({"base_url": "https://proxy/v1"}, "https://proxy"),
        ({"base_url": "https://proxy/v1beta1"}, "https://proxy"),
    ],
)
def test_the_location_says_where_it_listens(fields, url):
    assert ADAPTER.base_url(config(**fields)) == url


@pytest.mark.parametrize(
    "fields",
    [{"project": "p", "location": "evil.org/"}, {"project": "a/b"}, {"project": "a b"}],
)
def test_what_is_no_name_is_refused(fields):
    with pytest.raises(ValueError, match="is no name of a Google Cloud"):
        ADAPTER.base_url(config(**fields))
        Place.of(config(**fields))


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (
            "gemini-2.5-flash",
            f"v1beta1/{HERE}/publishers/google/models/gemini-2.5-flash",
        ),
        ("models/gemini-x", f"v1beta1/{HERE}/publishers/google/models/gemini-x"),
        ("google/gemini-x", f"v1beta1/{HERE}/publishers/google/models/gemini-x"),
        ("meta/llama-4", f"v1beta1/{HERE}/publishers/meta/models/llama-4"),
        ("endpoints/123", f"v1beta1/{HERE}/endpoints/123"),
        (
            "projects/9/locations/l/endpoints/1",
            "v1beta1/projects/9/locations/l/endpoints/1",
        ),
        (CLAUDE, f"v1/{HERE}/publishers/anthropic/models/{CLAUDE}"),
        (f"anthropic/{CLAUDE}", f"v1/{HERE}/publishers/anthropic/models/{CLAUDE}"),
    ],
)
def test_a_model_is_at_its_publishers(model, path):
    assert VERTEX.place.path(model, "duck") == path


def test_express_mode_has_neither_project_nor_location():
    express = dialect(project="", location="")
    path = "/v1beta1/publishers/google/models/gemini-x:generateContent"
    assert express.chat_path(ask(model="gemini-x"), stream=False) == path


def test_a_name_that_leads_elsewhere_is_no_model():
    with pytest.raises(ModelNotFound):
        VERTEX.chat_path(ask(model="../../x"), stream=False)


def test_claude_is_served_under_the_names_that_only_vertex_has():
    names = ModelNames(ADAPTER.models)
    assert names.serves(CLAUDE)
    assert names.serves("gemini-3-pro-preview")
    assert not names.serves("claude-sonnet-4-5")
    assert not names.serves("text-embedding-3-small")


# Who asks


def made(**fields) -> object:
    assert ADAPTER.credentials is not None
    return ADAPTER.credentials(config(project="p", **fields))


def test_without_a_key_the_machines_own_google_credentials_are_used():
    assert isinstance(made(), BearerTokens)
    assert isinstance(made(auth=AuthConfig(type="google")), BearerTokens)


def test_a_key_or_a_header_of_the_config_wins():
    assert made(api_key=Secret("k")) is None
    assert made(headers={"Authorization": "Bearer t"}) is None
    assert ADAPTER.key_header == "x-goog-api-key"


# Gemini behind Vertex


def test_gemini_is_asked_as_at_its_own_door():
    own = GeminiDialect(provider="duck", errors=ERRORS)
    request = ask(max_tokens=5, tools=(Tool(name="f"),))
    assert VERTEX.encode(request, stream=True) == own.encode(request, stream=True)
    path = f"/v1beta1/{HERE}/publishers/google/models/gemini-2.5-flash"
    assert VERTEX.chat_path(request, stream=False) == f"{path}:generateContent"
    assert (
        VERTEX.chat_path(request, stream=True)
        == f"{path}:streamGenerateContent?alt=sse"
    )
    assert VERTEX.headers(request) is None


def test_an_answer_of_gemini_is_read_as_one():
    candidate = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}
    body = json.dumps({"candidates": [candidate]}).encode()
    assert VERTEX.decode(body, Origin("gemini-2.5-flash", "duck-1")).text == "a"
    stream = VERTEX.open_stream(Origin("gemini-2.5-flash", "duck-1"))
    chunks = stream.feed(b"data: " + body + b"\r\n\r\n") + stream.close()
    assert understanding.of_chunks(chunks)[0][0].text == "a"


# Claude behind Vertex


def test_claude_is_asked_in_its_own_format_with_the_version_in_the_body():
    body = {
        "model": CLAUDE,
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "hello"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1.5}},
                ],
            },
        ],
    }
    request = decode_messages(json.dumps(body).encode(), ("beta-1", "beta-2")).request
    rest = {key: body[key] for key in ("max_tokens", "messages")}
    assert sent(request) == {**rest, "anthropic_version": VERSION}
    assert sent(request, stream=True)["stream"] is True
    path = f"/v1/{HERE}/publishers/anthropic/models/{CLAUDE}"
    assert VERTEX.chat_path(request, stream=False) == f"{path}:rawPredict"
    assert VERTEX.chat_path(request, stream=True) == f"{path}:streamRawPredict"
    assert VERTEX.headers(request) == {"anthropic-beta": "beta-1,beta-2"}


def test_arguments_reach_claude_as_they_were_written():
    call = ToolCall(id="t", name="f", arguments='{"a": 1.50}')
    messages = (*HELLO, Message(role="assistant", parts=(call,)))
    raw = VERTEX.encode(ask(model=CLAUDE, messages=messages), stream=False)
    assert b'"input":{"a": 1.50}' in raw


def test_what_the_models_format_lacks_is_refused_by_name():
    for request, field in (
        (ask(model=CLAUDE, seed=1), "seed"),
        (ask(extra={"logit_bias": {"1": 1}}), "logit_bias"),
        (
            ask(messages=(Message(role="user", parts=(ReasoningPart(redacted="x"),)),)),
            "messages[0].content[0]",
        ),
    ):
        with pytest.raises(InvalidRequest) as caught:
            VERTEX.check(request)
        assert caught.value.param == field
    VERTEX.check(ask(seed=1))


@needs_recordings
def test_recorded_requests_to_claude_are_sent_as_they_were():
    records = [r for r in load("vertex") if r.api == "vertex.anthropic"]
    assert len(records) >= 5
    for record in records:
        body = record.request["body"]
        request = decode_messages(
            json.dumps({**body, "model": CLAUDE}).encode()
        ).request
        got = sent(request, stream=record.streaming)
        assert got["anthropic_version"] == body["anthropic_version"]
        assert got.keys() == body.keys(), record


def test_an_answer_of_claude_is_read_as_one():
    origin = Origin(CLAUDE, "duck-1")
    block = {"type": "text", "text": "a"}
    body = {"content": [block], "stop_reason": "end_turn", "usage": {"input_tokens": 1}}
    got = VERTEX.decode(json.dumps(body).encode(), origin)
    assert (got.text, got.choices[0].native_finish_reason) == ("a", "end_turn")
    stream = VERTEX.open_stream(origin)
    start = {"type": "message_start", "message": {"id": "m", "model": "c"}}
    stream.feed(b"data: " + json.dumps(start).encode() + b"\n\n")
    with pytest.raises(BadProviderResponse, match="before its end"):
        stream.close()


def test_errors_of_both_are_understood():
    google = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}
    claude = {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}
    assert type(ERRORS(429, {}, json.dumps([google]).encode())) is RateLimited
    error = ERRORS(529, {}, json.dumps(claude).encode())
    assert type(error) is ProviderError
    assert error.retryable
    with pytest.raises(ProviderError):
        VERTEX.decode(json.dumps(claude).encode())


# Counting, models, embeddings, pictures


def test_tokens_are_counted_where_the_model_is():
    counting = VERTEX.counting
    given = (Message.of("system", "s"), *HELLO)
    request = ask(messages=given, tools=(Tool(name="f"),), max_tokens=5)
    path = f"/v1beta1/{HERE}/publishers/google/models/gemini-2.5-flash:countTokens"
    assert counting.path(request) == path
    assert json.loads(counting.encode(request)) == sent(request)
    choosing = attrs.evolve(request, tool_choice=ToolChoice(mode="required"))
    assert counting.encode(choosing) == counting.encode(request)
    assert counting.decode(b'{"totalTokens": 31}') == 31


def test_claudes_tokens_are_counted_by_a_model_of_its_own():
    counting = VERTEX.counting
    request = ask(model=CLAUDE)
    path = f"/v1/{HERE}/publishers/anthropic/models/count-tokens:rawPredict"
    assert counting.path(request) == path
    assert json.loads(counting.encode(request)) == {
        "model": CLAUDE,
        "messages": [{"role": "user", "content": "hello"}],
        "anthropic_version": VERSION,
    }
    assert counting.decode(b'{"input_tokens": 8}') == 8


def test_googles_models_are_listed():
    page = {
        "publisherModels": [{"name": "publishers/google/models/gemini-x"}],
        "nextPageToken": "t",
    }
    models, path = VERTEX.decode_models(json.dumps(page).encode())
    assert models == (ModelInfo(id="gemini-x", owned_by="google"),)
    assert path == f"{VERTEX.models_path}&pageToken=t"


def embedding(model, *texts, **fields) -> EmbeddingRequest:
    return EmbeddingRequest(model=model, input=texts, **fields)


def test_texts_are_instances_of_a_prediction():
    request = embedding("text-embedding-005", "a", "b", dimensions=8)
    embeddings = VERTEX.embeddings
    path = f"/v1beta1/{HERE}/publishers/google/models/text-embedding-005:predict"
    assert embeddings.path(request) == path
    assert json.loads(embeddings.encode(request)) == {
        "instances": [{"content": "a"}, {"content": "b"}],
        "parameters": {"outputDimensionality": 8},
    }
    vectors = [
        {"embeddings": {"values": [n, 1], "statistics": {"token_count": 4}}}
        for n in (1, 2)
    ]
    got = embeddings.decode(json.dumps({"predictions": vectors}).encode(), 2)
    assert got.vectors == ((1.0, 1.0), (2.0, 1.0))
    assert got.usage == Usage(input_tokens=8)


def test_geminis_newer_embeddings_take_one_text():
    embeddings = VERTEX.embeddings
    one = embedding("gemini-embedding-2", "a", dimensions=8)
    assert embeddings.path(one).endswith("/gemini-embedding-2:embedContent")
    assert json.loads(embeddings.encode(one)) == {
        "content": {"parts": [{"text": "a"}]},
        "embedContentConfig": {"outputDimensionality": 8},
    }
    body = {"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 3}}
    got = embeddings.decode(json.dumps(body).encode(), 1)
    assert (got.vectors, got.usage) == (((1.0,),), Usage(input_tokens=3))
    with pytest.raises(InvalidRequest) as caught:
        embeddings.encode(embedding("gemini-embedding-2", "a", "b"))
    assert caught.value.param == "input"
    older = embedding("gemini-embedding-001", "a")
    assert embeddings.path(older).endswith(":predict")


def test_imagen_is_asked_in_the_project():
    request = ImageRequest(model="imagen-4.0-generate-001", prompt="a duck")
    path = f"/v1beta1/{HERE}/publishers/google/models/imagen-4.0-generate-001:predict"
    assert VERTEX.images.path(request) == path


@needs_recordings
def test_recorded_pictures_are_read():
    seen = 0
    for record in load("vertex"):
        if record.api != "imagen.predict" or record.response["status"] != 200:
            continue
        body = record.response["body"]
        wanted = [p for p in body["predictions"] if "raiFilteredReason" not in p]
        if not wanted:
            continue
        got = VERTEX.images.decode(json.dumps(body).encode())
        assert [i.data or i.url for i in got.images] == [
            p.get("bytesBase64Encoded") or p.get("gcsUri") for p in wanted
        ]
        seen += 1
    assert seen >= 3


def test_claude_on_vertex_keeps_the_marks_for_its_cache_and_all_its_stops():
    mark = {"cache_control": {"type": "ephemeral"}}
    body = {
        "model": "claude-sonnet-4-5@20250929",
        "max_tokens": 10,
        "system": [{"type": "text", "text": "long", **mark}],
        "messages": [{"role": "user", "content": "go"}],
        "stop_sequences": list("abcdef"),
    }
    request = decode_messages(json.dumps(body).encode()).request
    provider = make_provider(
        ProviderConfig(name="v", adapter="vertex", project="p", api_key=Secret("k"))
    )
    provider.check(request)
    sent = json.loads(provider.dialect.encode(request, stream=False))
    assert sent["system"] == body["system"]
    gemini = attrs.evolve(request, model="gemini-2.5-flash")
    with pytest.raises(InvalidRequest) as caught:
        provider.check(gemini)
    assert caught.value.param == "stop_sequences"
    fewer = attrs.evolve(gemini, stop=("a",))
    provider.check(fewer)
    assert b"cache" not in provider.dialect.encode(fewer, stream=False)
