"""A model's name leads nowhere but to its place: dots are refused before anything is sent."""

from __future__ import annotations

import pytest

from duckservice.completion import EmbeddingRequest
from duckservice.config import ProviderConfig, Secret
from duckservice.errors import ModelNotFound
from duckservice.providers.catalog import make_provider
from duckservice.providers.model_segment import model_segment
from tests.providers.bedrock import ask
from tests.upstream import answer, open_upstream

PLACES = {
    "azure": {"api_version": "2024-10-21"},
    "bedrock": {"region": "eu-central-1"},
    "gemini": {},
    "vertex": {"project": "p", "location": "europe-west4"},
}
DOTS = (".", "..", "...", "a/..", "../a", "a/./b", "..\\a", "/..", "../")


@pytest.mark.parametrize("adapter", PLACES)
@pytest.mark.parametrize("model", DOTS)
async def test_a_model_of_dots_is_refused_and_nothing_is_sent(adapter, model):
    async with open_upstream([[answer(b"{}")]]) as upstream:
        provider = make_provider(
            ProviderConfig(
                name="duck",
                adapter=adapter,
                api_key=Secret("key-of-the-duck"),
                base_url=upstream.base_url,
                **PLACES[adapter],
            )
        )
        request = ask(model=model, max_tokens=5)
        with pytest.raises(ModelNotFound) as caught:
            await provider.complete(request)
        assert (caught.value.provider, caught.value.status) == ("duck", 404)
        with pytest.raises(ModelNotFound):
            async with provider.stream(request) as stream:
                await anext(aiter(stream))
        with pytest.raises(ModelNotFound):
            await provider.embed(EmbeddingRequest(model=model, input=("x",)))
        await provider.aclose()
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("gpt-4.1", "gpt-4.1"),
        ("a..b", "a..b"),
        (".hidden", ".hidden"),
        ("v1.", "v1."),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("a?b#c d%2e", "a%3Fb%23c%20d%252e"),
    ],
)
def test_all_other_names_are_one_segment(model, segment):
    assert model_segment(model, "duck") == segment
