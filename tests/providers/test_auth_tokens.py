"""Tokens that expire: when one is fetched, who waits for it, and what if it fails."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from duckservice.errors import (
    DuckError,
    ProviderAuthError,
    ProviderError,
    RateLimited,
)
from duckservice.providers.auth import Again
from duckservice.providers.auth.tokens import BearerTokens, Token


@attrs.define
class Source:
    """Gives token 1, 2, 3, ...; or fails, where the script says so."""

    lifetime: float = 1000.0
    takes: float = 0.0
    failures: list = attrs.field(factory=list)
    fetched: int = 0

    async def fetch(self) -> Token:
        self.fetched += 1
        number = self.fetched
        await trio.sleep(self.takes)
        if self.failures and (error := self.failures.pop(0)) is not None:
            raise error
        return Token(value=f"token-{number}", lifetime=self.lifetime)


async def proof(tokens):
    return await tokens.headers("GET", "https://x", b"")


async def number(tokens) -> int:
    return int((await proof(tokens))["authorization"].removeprefix("Bearer token-"))


def refusal(status=401) -> DuckError:
    error = ProviderAuthError("no", provider="duck")
    error.upstream_status = status
    return error


async def test_a_token_is_fetched_once_and_used_until_shortly_before_its_end(
    autojump_clock,
):
    source = Source(lifetime=1000.0)
    tokens = BearerTokens(source)
    assert source.fetched == 0, "nothing is fetched before it is needed"
    assert [await number(tokens) for _ in range(5)] == [1] * 5
    await trio.sleep(879)
    assert await number(tokens) == 1
    await trio.sleep(2)
    assert await number(tokens) == 2
    assert source.fetched == 2


async def test_a_token_of_a_short_life_is_renewed_after_four_fifths_of_it(
    autojump_clock,
):
    tokens = BearerTokens(Source(lifetime=100.0))
    await proof(tokens)
    await trio.sleep(79.9)
    assert await number(tokens) == 1
    await trio.sleep(0.2)
    assert await number(tokens) == 2


async def test_many_that_wait_share_one_fetch(autojump_clock):
    started = trio.current_time()
    source = Source(takes=5.0)
    tokens = BearerTokens(source)
    got = []

    async def ask():
        got.append(await number(tokens))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert got == [1] * 50
    assert source.fetched == 1
    assert trio.current_time() == started + 5.0


async def test_many_that_wait_share_one_failure_each_with_an_error_of_its_own(
    autojump_clock,
):
    source = Source(takes=5.0, failures=[ProviderError("down", provider="duck")])
    tokens = BearerTokens(source)
    errors = []

    async def ask():
        with pytest.raises(ProviderError, match="down") as caught:
            await proof(tokens)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert source.fetched == 1
    assert len({id(error) for error in errors}) == 20
    assert {error.provider for error in errors} == {"duck"}
    assert await number(tokens) == 2, "the next one asks again"


async def test_who_gives_up_waiting_leaves_the_fetch_to_the_next(autojump_clock):
    source = Source(takes=5.0)
    tokens = BearerTokens(source)
    got = []

    async def ask():
        got.append(await number(tokens))

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def impatient():
            with first:
                await ask()

        nursery.start_soon(impatient)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        first.cancel()
    assert got == [2]


async def test_while_one_renews_an_ageing_token_the_others_go_on_with_it(
    autojump_clock,
):
    source = Source(lifetime=1000.0)
    tokens = BearerTokens(source)
    await proof(tokens)
    await trio.sleep(900)
    source.takes = 50.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(number, tokens)
        await wait_all_tasks_blocked()
        assert await number(tokens) == 1, "at once"
    assert await number(tokens) == 2


async def test_a_renewal_that_fails_is_nobodys_failure_while_the_token_holds(
    autojump_clock,
):
    source = Source(failures=[None, *[ProviderError("down", provider="duck")] * 2])
    tokens = BearerTokens(source)
    await proof(tokens)
    await trio.sleep(900)
    assert [await number(tokens) for _ in range(3)] == [1] * 3
    assert source.fetched == 2, "and not tried again at once"
    await trio.sleep(10)
    assert await number(tokens) == 1
    assert source.fetched == 3
    await trio.sleep(200)
    assert await number(tokens) == 4


async def test_what_waiting_does_not_cure_is_not_asked_for_at_every_request(
    autojump_clock,
):
    source = Source(failures=[ProviderAuthError("invalid_client", provider="duck")])
    tokens = BearerTokens(source)
    for _ in range(3):
        with pytest.raises(ProviderAuthError, match="invalid_client"):
            await proof(tokens)
    assert source.fetched == 1
    await trio.sleep(5)
    assert await number(tokens) == 2


async def test_a_refused_token_is_fetched_anew_once(autojump_clock):
    source = Source()
    tokens = BearerTokens(source)
    first = await proof(tokens)
    assert isinstance(tokens.refused(first, refusal()), Again)
    second = await proof(tokens)
    assert isinstance(tokens.refused(first, refusal()), Again), "a late refusal"
    assert await proof(tokens) is second, "is not one of the new token"
    met = refusal()
    assert tokens.refused(second, met) is met
    assert await proof(tokens) is second, "the token endpoint is left in peace"
    await trio.sleep(60)
    assert isinstance(tokens.refused(second, refusal()), Again)
    assert await number(tokens) == 3


@pytest.mark.parametrize("error", [refusal(403), RateLimited("wait", provider="duck")])
async def test_what_is_not_the_tokens_fault_leaves_it(error):
    tokens = BearerTokens(Source())
    headers = await proof(tokens)
    assert tokens.refused(headers, error) is error
    assert await proof(tokens) is headers


async def test_no_token_is_in_what_can_be_printed():
    tokens = BearerTokens(Source())
    await proof(tokens)
    await tokens.aclose()
    printed = f"{tokens!r} {vars(tokens)} {Token(value='token-1', lifetime=1.0)}"
    assert "token-1" not in printed
