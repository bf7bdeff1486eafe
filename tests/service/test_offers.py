"""What is on offer, and the cheapest that can do a request."""

from __future__ import annotations

import itertools
import json
from datetime import date

import attrs
import pytest
from hypothesis import given, strategies as st

import duckservice
from duckservice.calls.offers import (
    Offer,
    can_do,
    capability_fields,
    cheapest,
    kind_of,
    quote_fields,
)
from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    ImagePart,
    ImageRequest,
    Message,
    ResponseFormat,
    Tool,
    Usage,
)
from duckservice.config import PriceConfig
from duckservice.core.pricing import Price, cost, pico
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.mock import MockProvider
from duckservice.providers.price_list import price_list
from duckservice.providers.prices import Prices, Quote, Tariff

from .conftest import chat, mock_config, running

ALL = Capabilities(embeddings=True, image_generation=True)


def price(input_: str, output: str, **more: str) -> Price:
    return Price.usd_per_mtok(input=input_, output=output, **more)


def offer(model: str, input_: str = "1", output: str = "1", **more) -> Offer:
    quote = Quote(source="list", tariff=Tariff.flat(price(input_, output)))
    return Offer(
        **{
            "model": model,
            "provider": "p",
            "kind": "chat",
            "capabilities": ALL,
            "quote": quote,
            **more,
        }
    )


def names(request, *offers) -> list[str]:
    return [priced.offer.model for priced in cheapest(request, offers)]


# The cheapest


def test_the_cheapest_comes_first_with_what_it_will_probably_take():
    request = chat("x" * 400, max_tokens=100)
    found = cheapest(request, [offer("dear", "5", "5"), offer("cheap")])
    assert [priced.offer.model for priced in found] == ["cheap", "dear"]
    assert found[1].cost == 5 * found[0].cost > 0


def test_which_is_cheaper_depends_on_the_request():
    reader, writer = offer("reader", "1", "9"), offer("writer", "3", "3")
    assert names(chat("x" * 4000, max_tokens=1), writer, reader)[0] == "reader"
    assert names(chat("x", max_tokens=1000), reader, writer)[0] == "writer"


def test_what_has_no_price_is_never_taken_for_cheap():
    assert names(chat(), offer("unknown", quote=None), offer("known", "90", "90")) == [
        "known"
    ]


def test_of_two_that_cost_the_same_the_first_comes_first():
    assert names(chat(), offer("b"), offer("a")) == ["b", "a"]


def test_a_large_prompt_is_priced_by_its_tier():
    steps = ((1000, price("9", "9")), (-1, price("1", "1")))
    tiered = offer("tiered", quote=Quote(source="list", tariff=Tariff(steps)))
    flat = offer("flat", "2", "2")
    assert names(chat("x" * 400), tiered, flat) == ["tiered", "flat"]
    assert names(chat("x" * 40_000), tiered, flat) == ["flat", "tiered"]


LACKING = {
    "tools": (
        attrs.evolve(ALL, tools=False),
        chat(tools=(Tool(name="f"),)),
    ),
    "schema": (
        attrs.evolve(ALL, json_schema=False),
        chat(response_format=ResponseFormat(type="json_schema", schema={})),
    ),
    "pictures": (
        attrs.evolve(ALL, images_in=frozenset()),
        ChatRequest(
            model="m",
            messages=(
                Message(role="user", parts=(ImagePart(data="", media_type="i/p"),)),
            ),
        ),
    ),
    "embeddings": (
        Capabilities(),
        EmbeddingRequest(model="m", input=("x",)),
    ),
    "image generation": (Capabilities(), ImageRequest(model="m", prompt="x")),
}
KINDS = {EmbeddingRequest: "embedding", ImageRequest: "image", ChatRequest: "chat"}


@pytest.mark.parametrize("lacking", LACKING)
def test_who_cannot_do_it_is_left_out(lacking):
    can, request = LACKING[lacking]
    kind = KINDS[type(request)]
    assert names(request, offer("cannot", capabilities=can, kind=kind)) == []
    assert names(request, offer("can", kind=kind)) == ["can"]


def test_a_model_is_asked_for_what_it_is_for():
    requests = (
        chat(),
        EmbeddingRequest(model="m", input=("x",)),
        ImageRequest(model="m", prompt="x"),
    )
    for request, kind in itertools.product(requests, ("chat", "embedding", "image")):
        wanted = KINDS[type(request)] == kind
        assert can_do(offer("m", kind=kind), request) == wanted
        assert not can_do(offer("m", kind="other"), request)


PRICES = st.tuples(st.integers(0, 50), st.integers(0, 50))


@given(st.lists(PRICES, max_size=8), st.integers(1, 5000), st.integers(1, 5000))
def test_no_offer_that_is_left_would_have_been_cheaper(prices, chars, max_tokens):
    request = chat("x" * chars, max_tokens=max_tokens)
    offers = [offer(str(n), str(i), str(o)) for n, (i, o) in enumerate(prices)]
    found = cheapest(request, offers)
    assert len(found) == len(offers)
    costs = [priced.cost for priced in found]
    assert costs == sorted(costs)
    # A prompt of so many characters has a quarter as many tokens, and 4 around it.
    tokens = -(-chars // 4) + 4
    by_hand = [10**6 * (i * tokens + o * max_tokens) for i, o in prices]
    assert costs == sorted(by_hand)


# What a model is for


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("gpt-4o", "chat"),
        ("claude-sonnet-4-5", "chat"),
        ("text-embedding-3-small", "embedding"),
        ("BAAI/bge-m3", "embedding"),
        ("gemini-embedding-001", "embedding"),
        ("gpt-image-1", "image"),
        ("dall-e-3", "image"),
        ("imagen-4.0-generate-001", "image"),
        ("grok-imagine-image", "image"),
        ("black-forest-labs/flux-schnell", "image"),
        ("whisper-1", "other"),
        ("gpt-4o-mini-tts", "other"),
        ("omni-moderation-latest", "other"),
        ("rerank-v3.5", "other"),
        ("mistral-ocr-latest", "other"),
    ],
)
def test_a_models_name_says_what_it_is_for(model, kind):
    assert kind_of(model) == kind


def test_what_is_paid_for_its_input_alone_writes_nothing():
    quote = Quote(source="list", tariff=Tariff.flat(price("0.1", "0")))
    free = Quote(source="list", tariff=Tariff.flat(price("0", "0")))
    assert kind_of("voyage-3", quote) == "other"
    assert kind_of("gpt-oss", free) == "chat"


# As data


def test_a_price_is_told_in_dollars_per_million_tokens():
    steps = (
        (200_000, price("2.5", "15", cached_input="0.25")),
        (-1, price("1.25", "10", cached_input="0.125", image_output="30")),
    )
    assert quote_fields(Quote(source="list", tariff=Tariff(steps))) == {
        "source": "list",
        "input_usd_per_mtok": "1.25",
        "output_usd_per_mtok": "10",
        "cached_input_usd_per_mtok": "0.125",
        "image_output_usd_per_mtok": "30",
        "tiers": [
            {
                "above_input_tokens": 200_000,
                "input_usd_per_mtok": "2.5",
                "output_usd_per_mtok": "15",
                "cached_input_usd_per_mtok": "0.25",
            }
        ],
    }


def test_all_capabilities_are_told_under_their_own_names():
    fields = json.loads(json.dumps(capability_fields(ALL)))
    assert fields.keys() == {field.name for field in attrs.fields(Capabilities)}
    assert fields["images_in"] == ["data", "url"]
    assert fields["tool_choice"] == ["auto", "none", "required", "tool"]


def test_a_list_is_as_old_as_the_newest_change_that_it_knows():
    today = date(2026, 1, 1)
    its = price_list(today)
    assert its.name == "genai-prices"
    assert its.version
    assert its.as_of is not None
    assert its.as_of <= today
    later = price_list(date(2100, 1, 1)).as_of
    assert later is not None
    assert later >= its.as_of
    assert price_list(date(2000, 1, 1)).as_of is None


# Prices of a provider


def test_the_config_says_the_price_before_the_list_and_the_provider():
    usage = Usage(input_tokens=100, billed=7)
    configured = Prices(override=price("1", "1"), list_id="openai")
    assert configured.cost(usage, "gpt-4o") == 100 * 10**6
    assert configured.cost(Usage(billed=7), "gpt-4o") == 7
    quote = configured.quote("anything")
    assert quote is not None
    assert quote.source == "config"
    listed = Prices(list_id="openai")
    assert listed.cost(usage, "gpt-4o") == 7
    assert listed.cost(attrs.evolve(usage, billed=None), "gpt-4o") == pico("0.00025")


def test_a_quote_is_what_the_cost_is_reckoned_by():
    prices = Prices(list_id="openai")
    usage = Usage(input_tokens=1000, cached_tokens=300, output_tokens=50)
    for model in ("gpt-4o", "gpt-4o-mini", "o3", "gpt-image-1.5"):
        quote = prices.quote(model)
        assert quote is not None
        assert quote.source == "list"
        reckoned = cost(usage, quote.tariff.price_of(usage))
        assert reckoned == prices.cost(usage, model)
    assert prices.quote("no-such-model") is None
    assert prices.quote("dall-e-3") is None


# A running service's


async def test_each_model_is_offered_by_each_provider_that_has_it(autojump_clock):
    config = mock_config("a", "b")
    providers = {
        "a": MockProvider("a", models=("mock-1", "mock-2")),
        "b": MockProvider(
            "b", models=("mock-2",), price=PriceConfig(input="1", output="1")
        ),
    }
    async with running(config, **providers) as (service, _):
        offers = await service.offers()
        found = {(its.model, its.provider, its.quote.source) for its in offers}
        detail = json.loads(json.dumps(await service.models_in_detail()))
    assert {
        ("mock-1", "a", "adapter"),
        ("mock-2", "a", "adapter"),
        ("mock-2", "b", "config"),
    } <= found
    assert [its["provider"] for its in detail["offers"]["mock-2"]] == ["a", "b"]
    one = detail["offers"]["mock-1"][0]
    assert one["price"]["input_usd_per_mtok"] == "0.15"
    assert one["capabilities"]["tools"] is True
    assert detail["price_list"]["name"] == "genai-prices"


async def test_a_program_finds_the_cheapest(autojump_clock):
    providers = {
        "dear": MockProvider(
            "dear", models=("mock-d",), price=PriceConfig(input="9", output="9")
        ),
        "cheap": MockProvider(
            "cheap", models=("mock-c",), price=PriceConfig(input="1", output="1")
        ),
    }
    config = mock_config("dear", "cheap")
    async with duckservice.open_service(config, providers=providers) as duck:
        first = (await duck.cheapest(chat(max_tokens=10)))[0]
        assert (first.offer.provider, first.offer.model) == ("cheap", "mock-c")
        reply = await duck.complete(chat(max_tokens=10, model=first.offer.model))
    assert reply.model == "mock-c"
