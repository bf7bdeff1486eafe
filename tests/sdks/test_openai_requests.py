"""OpenAI's and Groq's SDKs and our adapters send requests that mean the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.openai_embeddings import decode_embedding
from tests.e2e.makers import OPENAI
from tests.e2e.running import json_answer
from tests.sdks import talks
from tests.sdks.meaning import arguments_read, differences, named
from tests.sdks.sending import KEY, sent_by_sdk, sent_by_us
from tests.sdks.talks import TALKS, sayable

openai = pytest.importorskip("openai", reason="openai is not installed")

pytestmark = pytest.mark.slow

GROQ = attrs.evolve(OPENAI, adapter="groq", path="/openai/v1")
MODEL = "gpt-5-mini"
GROQ_MODEL = "openai/gpt-oss-120b"
VECTORS = json_answer(
    {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [
            {"object": "embedding", "index": place, "embedding": [0.1]}
            for place in range(2)
        ],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
)


def using(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with OpenAI's SDK's client of an upstream."""

    def at(url: str) -> None:
        with openai.OpenAI(
            api_key=KEY, base_url=f"{url}/v1", timeout=20, max_retries=0
        ) as sdk:
            use(sdk)

    return at


def using_groq(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with Groq's SDK's client of an upstream."""
    import groq

    def at(url: str) -> None:
        with groq.Groq(api_key=KEY, base_url=url, timeout=20, max_retries=0) as sdk:
            use(sdk)

    return at


def asked(name: str, *, model: str = MODEL, limit: str = "max_completion_tokens"):
    """Return what is to be said, which OpenAI's format says in these words itself."""
    said = dict(TALKS[name].openai or {})
    if name == "budget":  # the nearest that there is
        said = {**(TALKS["greeting"].openai or {}), "reasoning_effort": "low"}
    said[limit] = said.pop("max_completion_tokens")
    return {"model": model, **said}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    body = named(arguments_read(body))
    for message in body.get("messages", ()):
        if message["role"] == "assistant" and message.get("content") is None:
            message.pop("content", None)  # beside a call null and nothing are the same
    return body


@pytest.mark.parametrize(("name", "form"), sayable())
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(OPENAI, request, OPENAI.text)
    theirs = await sent_by_sdk(
        OPENAI.text, using(lambda sdk: sdk.chat.completions.create(**asked(name)))
    )
    assert not differences(ours, theirs, normal)


@pytest.fixture
def groq():
    pytest.importorskip("groq", reason="groq is not installed")


@pytest.mark.parametrize(("name", "form"), sayable())
async def test_a_request_to_groq_is_what_its_sdk_sends(groq, name, form):
    request = TALKS[name].request(form, GROQ_MODEL)
    ours = await sent_by_us(GROQ, request, GROQ.text)
    native = asked(name, model=GROQ_MODEL, limit="max_tokens")
    if name == "budget":
        # Who comes with Anthropic's format wants the thoughts apart.
        native["reasoning_format"] = "parsed"
    theirs = await sent_by_sdk(
        GROQ.text, using_groq(lambda sdk: sdk.chat.completions.create(**native))
    )
    assert not differences(ours, theirs, normal)


@pytest.mark.parametrize("maker", [OPENAI, GROQ], ids=["openai", "groq"])
async def test_a_request_for_a_stream_is_what_the_sdk_sends(groq, maker):
    request = TALKS["greeting"].request("openai", GROQ_MODEL)
    ours = await sent_by_us(maker, request, maker.text_stream, stream=True)
    native = asked("greeting", model=GROQ_MODEL, limit="max_tokens")
    options = {"include_usage": True}

    def ask(sdk: Any) -> object:
        if maker is OPENAI:
            native["stream_options"] = options
        else:  # its SDK has no such argument, its API has
            native["extra_body"] = {"stream_options": options}
        return list(sdk.chat.completions.create(**native, stream=True))

    client = using if maker is OPENAI else using_groq
    theirs = await sent_by_sdk(maker.text_stream, client(ask))
    assert not differences(ours, theirs, normal)


async def test_a_request_for_embeddings_is_what_the_sdk_sends():
    wanted = {"model": "text-embedding-3-small", "input": talks.TEXTS, "dimensions": 64}
    request = decode_embedding(json.dumps(wanted).encode()).request
    ours = await sent_by_us(OPENAI, request, VECTORS)
    theirs = await sent_by_sdk(
        VECTORS,
        using(lambda sdk: sdk.embeddings.create(**wanted, encoding_format="float")),
    )
    assert not differences(ours, theirs, normal)


async def test_groq_has_no_embeddings_and_says_so():
    request = decode_embedding(b'{"model": "m", "input": "sun"}').request
    with pytest.raises(ExceptionGroup) as raised:
        await sent_by_us(GROQ, request, VECTORS)
    assert raised.group_contains(InvalidRequest)
