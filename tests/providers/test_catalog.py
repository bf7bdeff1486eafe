"""Providers as the catalog makes them, over real sockets."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from itertools import chain

import attrs
import pytest
import trio
from genai_prices import Usage as ListedUsage, calc_price

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    Message,
    TextDelta,
    Usage,
    UsageReport,
)
from duckservice.config import (
    BASE_URLS,
    AuthConfig,
    PriceConfig,
    ProviderConfig,
    Secret,
    TimeoutConfig,
)
from duckservice.errors import (
    BadProviderResponse,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    QuotaExceeded,
    RateLimited,
)
from duckservice.providers.catalog import make_provider, renewed_provider
from duckservice.providers.models import ModelNames
from duckservice.providers.prices import Prices
from tests.providers import understanding
from tests.upstream import FIN, HANG, answer, chunked, head, open_upstream

KEY = "sk-canary-7f3a9c51d2e8b604"

OPENAI_REPLY = json.dumps(
    {
        "id": "c-1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
).encode()

ANTHROPIC_REPLY = json.dumps(
    {
        "id": "msg_1",
        "model": "claude-x",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
).encode()


def config(adapter="openai", **fields) -> ProviderConfig:
    return ProviderConfig(**{"name": "duck", "adapter": adapter} | fields)


def ask(**fields) -> ChatRequest:
    hello = (Message.of("user", "hello"),)
    return ChatRequest(**{"model": "gpt-4o", "messages": hello} | fields)


@asynccontextmanager
async def served(*script, adapter="openai", **fields):
    """Open a provider at an upstream that follows *script*."""
    async with open_upstream(script) as upstream:
        timeout = TimeoutConfig(connect=20, first_byte=20, idle=20, total=20)
        provider = make_provider(
            config(
                adapter,
                base_url=upstream.base_url + ("" if adapter == "anthropic" else "/v1"),
                api_key=Secret(KEY),
                timeout=timeout,
                **fields,
            )
        )
        try:
            yield provider, upstream
        finally:
            await provider.aclose()


def sse(*events, end=True) -> tuple[bytes, bytes]:
    return (
        head(b"content-type: text/event-stream", b"transfer-encoding: chunked"),
        chunked(*events, end=end),
    )


def delta(content=None, finish_reason=None, **fields) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    whole = {"id": "c-1", "model": "m", "choices": [choice]} | fields
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def batches_of(provider, request) -> list:
    async with provider.stream(request) as batches:
        return [list(batch) async for batch in batches]


async def test_a_completion_from_openai():
    async with served([answer(OPENAI_REPLY)]) as (provider, upstream):
        completion = await provider.complete(ask())
    assert completion.text == "hi"
    assert completion.usage == Usage(input_tokens=3, output_tokens=2)
    [request] = upstream.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.header("authorization") == f"Bearer {KEY}"
    assert request.header("content-type") == "application/json"


async def test_a_completion_from_anthropic():
    async with served([answer(ANTHROPIC_REPLY)], adapter="anthropic") as (provider, up):
        completion = await provider.complete(ask(model="claude-x"))
    assert completion.text == "hi"
    [request] = up.requests
    assert request.line == "POST /v1/messages HTTP/1.1"
    assert request.header("x-api-key") == KEY
    assert request.header("anthropic-version") == "2023-06-01"
    assert request.header("authorization") is None


async def test_an_alias_goes_on_under_the_providers_own_name():
    names = {"fast": "gpt-4o-mini"}
    async with served([answer(OPENAI_REPLY)], model_map=names) as (provider, upstream):
        assert provider.supports_model("fast")
        await provider.complete(ask(model="fast"))
    assert json.loads(upstream.requests[0].body)["model"] == "gpt-4o-mini"
    usage = Usage(input_tokens=1000)
    assert provider.estimate_cost(usage, "fast") == 150_000_000


async def test_a_stream_and_the_next_request_share_a_connection():
    script = [
        sse(
            delta("he"),
            delta("llo"),
            delta(None, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}),
            DONE,
        ),
        [answer(OPENAI_REPLY)],
    ]
    async with served(*script) as (provider, upstream):
        batches = await batches_of(provider, ask())
        await provider.complete(ask())
        assert upstream.connections == 1
    [choice], usage = understanding.of_chunks(chain.from_iterable(batches))
    assert choice.text == "hello"
    assert usage == Usage(input_tokens=3, output_tokens=2)


async def test_the_end_of_a_body_that_comes_behind_its_last_event_is_waited_for():
    last = trio.Event()
    script = [
        [*sse(delta("x", "stop"), DONE, end=False), last, b"0\r\n\r\n"],
        [answer(OPENAI_REPLY)],
    ]
    async with served(*script) as (provider, upstream):
        async with provider.stream(ask()) as batches:
            async for _ in batches:
                last.set()
        await provider.complete(ask())
        assert upstream.connections == 1


async def test_a_stream_arrives_piece_by_piece_as_it_is_sent():
    more = trio.Event()
    script = [*sse(delta("he"), end=False), more, chunked(delta("llo", "stop"), DONE)]
    async with served(script) as (provider, _), provider.stream(ask()) as batches:
        first = await anext(batches)
        assert first[1] == TextDelta(text="he")
        more.set()
        rest = [chunk async for batch in batches for chunk in batch]
    assert rest[0] == TextDelta(text="llo")


async def test_leaving_a_stream_early_closes_its_connection():
    script = [*sse(delta("he"), end=False), HANG]
    async with served(script) as (provider, upstream):
        async with provider.stream(ask()) as batches:
            await anext(batches)
        await upstream.wait_all_closed()


async def test_without_usage_a_stream_ends_with_an_estimate():
    script = sse(delta("x" * 40), delta(None, "stop"), DONE)
    async with served(script) as (provider, _):
        last = (await batches_of(provider, ask()))[-1][-1]
    assert isinstance(last, UsageReport)
    assert last.usage.estimated
    assert last.usage.output_tokens == 10
    assert last.usage.input_tokens > 0


async def test_without_usage_a_completion_has_an_estimate():
    reply = json.loads(OPENAI_REPLY)
    del reply["usage"]
    async with served([answer(json.dumps(reply).encode())]) as (provider, _):
        usage = (await provider.complete(ask())).usage
    assert usage.estimated
    assert usage.output_tokens == 1


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (b"401 x", {"code": "invalid_api_key"}, ProviderAuthError),
        (b"404 x", {"code": "model_not_found"}, ModelNotFound),
        (b"429 x", {"code": "rate_limit_exceeded"}, RateLimited),
        (b"429 x", {"code": "insufficient_quota"}, QuotaExceeded),
        (b"400 x", {"code": "context_length_exceeded"}, ContextLengthExceeded),
        (b"500 x", {}, ProviderError),
    ],
)
async def test_an_error_status_is_raised_before_a_stream_begins(status, error, kind):
    body = json.dumps({"error": error}).encode()
    script = [answer(body, b"retry-after: 7", status=status)]
    async with served(script) as (provider, _):
        for attempt in (provider.complete, lambda r: batches_of(provider, r)):
            with pytest.raises(DuckError) as caught:
                await attempt(ask())
            assert type(caught.value) is kind
            assert caught.value.provider == "duck"
            if isinstance(caught.value, ProviderError):
                assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("behind", "kind"),
    [
        (
            sse(delta("he"), b'data: {"error": {"type": "server_error"}}\n\n'),
            ProviderError,
        ),
        (sse(delta("he")), BadProviderResponse),
        ((*sse(delta("he"), end=False), FIN), BadProviderResponse),
        (sse(delta("he"), b"data: {\n\n"), BadProviderResponse),
    ],
)
async def test_text_before_a_failure_in_mid_stream_is_delivered(behind, kind):
    seen = []
    async with served(behind) as (provider, _), provider.stream(ask()) as batches:
        with pytest.raises(DuckError) as caught:
            async for batch in batches:
                seen += batch
    assert type(caught.value) is kind
    assert TextDelta(text="he") in seen


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        (
            b"application/json",
            b'{"error": {"code": "rate_limit_exceeded"}}',
            RateLimited,
        ),
        (b"application/json", OPENAI_REPLY, BadProviderResponse),
        (b"text/html", b"<html>hello</html>", BadProviderResponse),
    ],
)
async def test_what_is_no_stream_is_refused_on_entering(kind, body, error):
    script = [answer(body, b"content-type: " + kind)]
    async with served(script) as (provider, _):
        with pytest.raises(DuckError) as caught:
            await batches_of(provider, ask())
    assert type(caught.value) is error


async def test_html_with_status_200_is_no_completion():
    async with served([answer(b"<html>hello</html>")]) as (provider, _):
        with pytest.raises(BadProviderResponse, match="HTML"):
            await provider.complete(ask())


async def test_what_cannot_be_translated_is_not_sent():
    async with served([answer()], adapter="anthropic") as (provider, upstream):
        for attempt in (provider.complete, lambda r: batches_of(provider, r)):
            with pytest.raises(InvalidRequest):
                await attempt(ask(seed=1))
        with pytest.raises(InvalidRequest):
            provider.check(ask(seed=1))
        with pytest.raises(InvalidRequest):
            await provider.embed(EmbeddingRequest(model="e", input=("x",)))
        assert upstream.requests == []


async def test_embeddings_from_openai():
    body = b'{"model": "e-1", "data": [{"embedding": [1, 2]}]}'
    async with served([answer(body)]) as (provider, upstream):
        found = await provider.embed(EmbeddingRequest(model="e", input=("x" * 8,)))
    assert found.vectors == ((1.0, 2.0),)
    assert found.usage == Usage(input_tokens=2, estimated=True)
    assert upstream.requests[0].line == "POST /v1/embeddings HTTP/1.1"


async def test_anthropics_models_are_listed_to_the_last_page():
    pages = [
        [answer(b'{"data": [{"id": "a"}], "has_more": true}')],
        [answer(b'{"data": [{"id": "b"}], "has_more": false}')],
    ]
    async with served(*pages, adapter="anthropic") as (provider, upstream):
        models = await provider.list_models()
    assert [model.id for model in models] == ["a", "b"]
    assert upstream.requests[1].line == (
        "GET /v1/models?limit=1000&after_id=a HTTP/1.1"
    )


async def test_endless_pages_of_models_end():
    endless = [answer(b'{"data": [{"id": "a"}], "has_more": true}')]
    async with served(endless, adapter="anthropic") as (provider, _):
        assert len(await provider.list_models()) == 20


async def test_tokens_are_counted_by_anthropic_and_guessed_elsewhere():
    script = [answer(b'{"input_tokens": 14}')]
    async with served(script, adapter="anthropic") as (provider, upstream):
        usage = await provider.count_tokens(ask(model="claude-x"))
    assert usage == Usage(input_tokens=14)
    assert upstream.requests[0].line == "POST /v1/messages/count_tokens HTTP/1.1"
    async with served([answer()]) as (provider, upstream):
        guess = await provider.count_tokens(ask())
    assert guess.estimated
    assert guess.input_tokens > 0
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("script", "healthy"),
    [
        ([answer(b'{"data": []}')], True),
        ([answer(status=b"401 x")], False),
        ([answer(status=b"500 x")], False),
        ([answer(status=b"400 x")], True),
        ([FIN], False),
    ],
)
async def test_health_is_whether_the_list_of_models_is_answered(script, healthy):
    async with served(script) as (provider, upstream):
        report = await provider.health_check()
    assert report.healthy is healthy
    assert report.latency >= 0
    assert bool(report.detail) != (report.healthy and not report.detail)
    assert all(r.line.startswith("GET /v1/models") for r in upstream.requests)


async def test_a_key_that_an_upstream_echoes_reaches_nobody():
    body = json.dumps({"error": {"message": f"bad {KEY}", "x": KEY}}).encode()
    async with served([answer(body, status=b"401 x")]) as (provider, _):
        with pytest.raises(ProviderAuthError) as caught:
            await provider.complete(ask())
        for text in (str(caught.value), repr(caught.value), repr(provider)):
            assert "canary" not in text


async def test_the_configs_own_headers_are_sent_and_the_secret_ones_masked():
    error = answer(b'{"message": "no team-secret-12345"}', status=b"500 x")
    headers = {"X-Team": "core", "X-Api-Token": "team-secret-12345"}
    async with served([error], headers=headers) as (provider, upstream):
        with pytest.raises(ProviderError) as caught:
            await provider.complete(ask())
    assert upstream.requests[0].header("x-team") == "core"
    assert upstream.requests[0].header("x-api-token") == "team-secret-12345"
    assert "team-secret" not in str(caught.value)


async def test_the_features_that_a_client_asks_for_go_to_anthropic_with_the_configs():
    script = [answer(ANTHROPIC_REPLY)], [answer(b'{"input_tokens": 1}')]
    for headers, sent in (({}, "b-1,b-2"), ({"Anthropic-Beta": "c"}, "c,b-1,b-2")):
        async with served(*script, adapter="anthropic", headers=headers) as (p, up):
            request = ask(model="claude-x", betas=("b-1", "b-2"))
            await p.complete(request)
            await p.count_tokens(request)
            with pytest.raises(BadProviderResponse):
                await batches_of(p, request)
        assert [r.header("anthropic-beta") for r in up.requests] == [sent] * 3
        assert all(r.head.lower().count(b"anthropic-beta:") == 1 for r in up.requests)


async def test_without_features_asked_for_no_beta_header_is_sent():
    async with served([answer(ANTHROPIC_REPLY)], adapter="anthropic") as (provider, up):
        await provider.complete(ask(model="claude-x"))
    assert up.requests[0].header("anthropic-beta") is None


async def test_anthropics_features_mean_nothing_to_another_format():
    async with served([answer(OPENAI_REPLY)]) as (provider, upstream):
        await provider.complete(ask(betas=("b-1",)))
    assert upstream.requests[0].header("anthropic-beta") is None


async def test_a_base_url_of_anthropic_may_end_in_v1():
    async with open_upstream([[answer(ANTHROPIC_REPLY)]]) as upstream:
        provider = make_provider(
            config("anthropic", base_url=upstream.base_url + "/v1")
        )
        await provider.complete(ask(model="claude-x"))
        await provider.aclose()
    assert upstream.requests[0].line == "POST /v1/messages HTTP/1.1"
    assert upstream.requests[0].header("x-api-key") is None


@pytest.mark.parametrize("adapter", [*BASE_URLS, "mock"])
async def test_every_adapter_works_without_any_other_setting(adapter):
    provider = make_provider(config(adapter))
    assert provider.name == "duck"
    await provider.aclose()


@pytest.mark.parametrize(
    ("adapter", "served_here", "not_here"),
    [
        (
            "openai",
            (
                "gpt-4o",
                "gpt-4.1-nano",
                "gpt-5.2-pro",
                "o3-mini",
                "text-embedding-3-small",
            ),
            ("gpt-oss-20b", "claude-opus-5", "llama3.2", "omni"),
        ),
        ("anthropic", ("claude-opus-5", "claude-3-5-sonnet-20241022"), ("gpt-4o",)),
        ("openai-compatible", ("llama3.2", "gpt-oss-20b"), ("gpt-4o", "claude-opus-5")),
        ("mock", ("mock-1",), ("gpt-4o",)),
    ],
)
async def test_what_an_adapter_serves_by_default(adapter, served_here, not_here):
    url = "http://127.0.0.1:9/v1"
    provider = make_provider(config(adapter, base_url=url))
    assert [m for m in served_here if not provider.supports_model(m)] == []
    assert [m for m in not_here if provider.supports_model(m)] == []
    listed = make_provider(config(adapter, base_url=url, models=("gpt-4o", "x-*")))
    assert listed.supports_model("gpt-4o")
    assert listed.supports_model("x-1")
    assert not listed.supports_model(served_here[0] + "-x")
    for each in (provider, listed):
        await each.aclose()


def test_model_names_are_exact_globs_or_aliases():
    names = ModelNames(["a", "b-*", "[x]y"], {"fast": "a"}, excluded=["b-bad*"])
    assert [names.serves(m) for m in ("a", "b-1", "xy", "fast")] == [True] * 4
    assert [names.serves(m) for m in ("A", "ab", "b-bad", "", "a\n")] == [False] * 5
    assert names.own_name("fast") == "a"
    assert names.own_name("b-1") == "b-1"
    assert not ModelNames([]).serves("")


# Prices


@pytest.mark.parametrize(
    ("list_id", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-mini"),
        ("openai", "o3"),
        ("openai", "text-embedding-3-small"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-3-5-sonnet-20241022"),
    ],
)
def test_a_cost_is_what_the_price_list_says_to_the_picodollar(list_id, model):
    prices = Prices(list_id=list_id)
    for tokens in (0, 1, 1000, 200_000, 200_001, 900_000):
        cached, written = tokens // 3, tokens // 5
        usage = Usage(
            input_tokens=tokens,
            output_tokens=77,
            cached_tokens=cached,
            cache_write_tokens=written,
        )
        listed = ListedUsage(
            input_tokens=tokens,
            output_tokens=77,
            cache_read_tokens=cached,
            cache_write_tokens=written,
        )
        total = calc_price(listed, model, provider_id=list_id).total_price
        assert prices.cost(usage, model) == total * 10**12


def test_an_unknown_model_has_no_price_and_never_that_of_another():
    usage = Usage(input_tokens=1000, output_tokens=1000)
    for model in ("gpt-4o-of-tomorrow", "claude-opus-4-1", "", "x" * 10_000):
        assert Prices(list_id="openai").cost(usage, model) is None
    assert Prices(api_url="http://127.0.0.1:11434/v1").cost(usage, "gpt-4o") is None
    assert Prices().cost(usage, "gpt-4o") is None


def test_a_compatible_provider_is_found_by_its_address():
    prices = Prices(api_url="https://api.groq.com/openai/v1")
    cost = prices.cost(Usage(input_tokens=10**6), "llama-3.1-8b-instant")
    assert cost == 50_000_000_000


def test_a_price_that_changes_is_that_of_the_day():
    usage = Usage(input_tokens=10**6)
    day = {"before": 1_735_700_000.0, "after": 1_760_000_000.0}
    costs = {
        when: Prices(list_id="openai", wall_clock=lambda t=t: t).cost(usage, "o3")
        for when, t in day.items()
    }
    assert costs == {"before": 10 * 10**12, "after": 2 * 10**12}


async def test_the_configs_price_holds_for_every_model():
    provider = make_provider(config(price=PriceConfig(input="2.5", output="10")))
    usage = Usage(input_tokens=10**6, output_tokens=10**6)
    assert provider.estimate_cost(usage, "anything") == 12_500_000_000_000
    await provider.aclose()


def test_names_from_outside_do_not_pile_up():
    prices = Prices(list_id="openai")
    for number in range(2500):
        prices.cost(Usage(), f"made-up-{number}")
    assert len(prices._known) <= 1000


# What goes into headers


@pytest.mark.parametrize(
    ("adapter", "fields", "sent"),
    [
        (
            "openai",
            {"organization": "org-1", "project": "proj-1"},
            {"openai-organization": "org-1", "openai-project": "proj-1"},
        ),
        ("openai", {}, {"openai-organization": None, "openai-project": None}),
        (
            "anthropic",
            {"api_version": "2099-01-01"},
            {"anthropic-version": "2099-01-01"},
        ),
        (
            "openai",
            {"organization": "org-1", "headers": {"OpenAI-Organization": "own"}},
            {"openai-organization": "own"},
        ),
        (
            "openai",
            {"headers": {"Authorization": "Basic own-secret-0123456789"}},
            {"authorization": "Basic own-secret-0123456789"},
        ),
        ("anthropic", {}, {"x-api-key": KEY, "authorization": None}),
    ],
)
async def test_keys_of_the_config_become_the_providers_headers(adapter, fields, sent):
    async with served([answer(b'{"data": []}')], adapter=adapter, **fields) as (p, up):
        await p.list_models()
    [request] = up.requests
    assert {name: request.header(name) for name in sent} == sent


async def test_several_keys_are_used_one_after_the_other():
    script = [[answer(status=b"401 x")], [answer(OPENAI_REPLY)]]
    more = Secret("sk-canary-another-0123456789")
    async with served(*script, api_keys=(more, more)) as (provider, upstream):
        assert (await provider.complete(ask())).text == "hi"
        states = [(state.key, state.state) for state in provider.key_states()]
    assert [r.header("authorization") for r in upstream.requests] == [
        f"Bearer {KEY}",
        f"Bearer {more.reveal()}",
    ]
    assert states == [("…b604", "refused"), ("…6789", "ok")]


async def test_a_renewed_provider_has_the_old_ones_connections_and_its_own_key():
    async with served([answer(OPENAI_REPLY)]) as (provider, upstream):
        await provider.complete(ask())
        its = config(
            base_url=upstream.base_url + "/v1",
            api_key=Secret("sk-canary-another-0123456789"),
        )
        renewed = renewed_provider(provider, its)
        await renewed.complete(ask())
        assert upstream.connections == 1
    assert upstream.requests[1].header("authorization").endswith("6789")
    mock = make_provider(config("mock"))
    assert renewed_provider(mock, config("mock")).name == "duck"


SHORT = TimeoutConfig(connect=20, first_byte=20, idle=20, total=19)


def states(provider):
    return [(state.key, state.state) for state in provider.key_states()]


async def test_a_renewed_provider_knows_which_of_its_keys_were_refused():
    script = [[answer(status=b"401 x")], [answer(OPENAI_REPLY)]]
    more = Secret("sk-canary-another-0123456789")
    async with served(*script, api_keys=(more,)) as (provider, upstream):
        await provider.complete(ask())
        before = [("…b604", "refused"), ("…6789", "ok")]
        assert states(provider) == before
        slower = attrs.evolve(provider.config, timeout=SHORT)
        renewed = renewed_provider(provider, slower)
        assert states(renewed) == before
        assert renewed.http.credentials is provider.http.credentials
        await renewed.complete(ask())
        turned = attrs.evolve(slower, api_key=more, api_keys=(Secret(KEY),))
        again = renewed_provider(renewed, turned)
        assert states(again) == before[::-1]
        assert states(renewed) == before
        # Who still has an old one may use it.
        for its in (again, provider):
            await its.complete(ask())
    sent = [its.header("authorization") for its in upstream.requests]
    assert sent == [f"Bearer {KEY}", *[f"Bearer {more.reveal()}"] * 4]


TOKENS = [f"canary-token-{n}-5b21c08d" for n in range(3)]


@asynccontextmanager
async def with_tokens():
    """Open a provider, the server that gives it `TOKENS`, and its own server."""
    given = [{"access_token": token, "expires_in": 3600} for token in TOKENS]
    async with (
        open_upstream([[answer(json.dumps(its).encode())] for its in given]) as issuer,
        open_upstream([[answer(OPENAI_REPLY)]]) as upstream,
    ):
        auth = AuthConfig(
            type="oauth2",
            token_url=issuer.base_url + "/token",
            client_id="the-client",
            client_secret=Secret("canary-secret-0123456789"),
        )
        provider = make_provider(
            config(base_url=upstream.base_url, auth=auth, timeout=TimeoutConfig())
        )
        try:
            yield provider, issuer, upstream
        finally:
            await provider.aclose()


async def test_a_renewed_provider_fetches_a_token_anew_only_for_another_auth_table():
    async with with_tokens() as (provider, issuer, upstream):
        await provider.complete(ask())
        its = attrs.evolve(provider.config, timeout=SHORT, models=("gpt-*",))
        renewed = renewed_provider(provider, its)
        await renewed.complete(ask())
        assert len(issuer.requests) == 1
        auth = attrs.evolve(its.auth, scope="more")
        other = renewed_provider(renewed, attrs.evolve(its, auth=auth))
        await other.complete(ask())
        await renewed.complete(ask())
        assert len(issuer.requests) == 2
    sent = [its.header("authorization") for its in upstream.requests]
    assert sent == [f"Bearer {TOKENS[n]}" for n in (0, 0, 1, 0)]


async def test_a_token_that_was_handed_over_is_masked_in_what_the_new_one_is_told():
    async with with_tokens() as (provider, _, upstream):
        await provider.complete(ask())
        renewed = renewed_provider(
            provider, attrs.evolve(provider.config, timeout=SHORT)
        )
        echo = {"error": {"message": f"what is {TOKENS[0]}?"}}
        upstream.script = [[answer(json.dumps(echo).encode(), status=b"400 x")]]
        with pytest.raises(DuckError, match="redacted") as caught:
            await renewed.complete(ask())
    assert "canary" not in f"{caught.value} {renewed!r}"


async def test_keys_in_place_of_tokens_and_tokens_in_place_of_keys_begin_anew():
    auth = AuthConfig(type="entra")
    keyed = make_provider(config(api_key=Secret(KEY)))
    tokens = renewed_provider(keyed, config(auth=auth))
    assert tokens.key_states() == ()
    assert states(renewed_provider(tokens, keyed.config)) == [("…b604", "ok")]
    assert renewed_provider(tokens, config()).http.credentials is None


@pytest.mark.parametrize(
    ("fields", "changed", "is_kept"),
    [
        ({"adapter": "bedrock", "region": "eu-central-1"}, {"models": ("m",)}, True),
        (
            {"adapter": "bedrock", "region": "eu-central-1"},
            {"region": "us-east-1"},
            False,
        ),
        (
            {"adapter": "bedrock", "region": "eu-central-1"},
            {"auth": AuthConfig(type="aws", profile="other")},
            False,
        ),
        ({"adapter": "vertex", "project": "p-1"}, {"timeout": SHORT}, True),
        (
            {"adapter": "vertex", "project": "p-1"},
            {"auth": AuthConfig(type="google", scope="other")},
            False,
        ),
        (
            {"adapter": "vertex", "project": "p-1"},
            {"headers": {"Authorization": "Bearer own-secret-0123456789"}},
            False,
        ),
        ({"auth": AuthConfig(type="entra")}, {"timeout": SHORT}, True),
        ({"auth": AuthConfig(type="entra")}, {"api_key": Secret(KEY)}, False),
        (
            {"auth": AuthConfig(type="entra")},
            {"auth": AuthConfig(type="entra", scope="other")},
            False,
        ),
    ],
)
def test_what_signs_requests_is_kept_where_it_would_be_made_of_the_same(
    monkeypatch, fields, changed, is_kept
):
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    old = make_provider(config(**fields))
    new = renewed_provider(old, attrs.evolve(old.config, **changed))
    assert (new.http.credentials is old.http.credentials) is is_kept


def test_a_provider_that_cannot_be_made_says_why_without_its_key():
    for fields in (
        {"api_key": Secret("canary\nkey")},
        {"base_url": "http://far.example", "api_keys": (Secret("canary" * 4),)},
        {"base_url": "http://far.example", "auth": AuthConfig(type="entra")},
        {"auth": AuthConfig(type="aws")},
        {"auth": AuthConfig(type="oauth2", token_url="http://far.example/canary")},
    ):
        with pytest.raises(ValueError, match=r"header|unencrypted|bedrock") as caught:
            make_provider(config(**fields))
        assert "canary" not in str(caught.value)
