"""A config that changes while requests are under way, through a whole daemon."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import asynccontextmanager
from decimal import Decimal

import attrs
import trio
import trio.testing

from duckservice import daemon
from duckservice.config import (
    BreakerConfig,
    BudgetConfig,
    BudgetMatch,
    CacheConfig,
    Config,
    LimitsConfig,
    PriceConfig,
    QueueConfig,
    RetryConfig,
    RoutingConfig,
    Secret,
    TimeoutConfig,
)
from duckservice.errors import Unavailable
from duckservice.reloading.retirement import LOOKS_EACH
from tests.e2e.running import CHAT, json_answer, open_duck, openai_chat, provider
from tests.upstream import open_upstream

ASK = {"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]}
OK = json_answer(openai_chat())
FAILS = json_answer({"error": {"message": "no"}}, status=b"500 x")
FOR_EVER = 1_000_000


@attrs.define
class File:
    """A config file that changes."""

    duck: object
    config: Config

    def provider(self, name="up", **fields) -> None:
        """Change a provider."""
        its = attrs.evolve(self.config.providers[name], **fields)
        self.providers(**{name: its})

    def providers(self, *, without=(), **more) -> None:
        """Have more providers, or fewer."""
        its = {**self.config.providers, **more}
        its = {name: one for name, one in its.items() if name not in without}
        self.set(providers=its)

    def set(self, **fields) -> None:
        """Change tables."""
        self.config = attrs.evolve(self.config, **fields)

    async def reload(self) -> list[str]:
        """Have the daemon read it; return what was taken over."""
        reply = await self.duck.post("/v1/reload")
        assert reply.status == 200, reply
        assert reply.json()["needs_restart"] == []
        return reply.json()["changed"]

    async def names(self) -> list[str]:
        """Return who is there, as the API and the tree say."""
        listed = (await self.duck.get("/v1/providers"))["providers"]
        return [its["name"] for its in listed]

    async def in_tree(self) -> list[str]:
        """Return whose parts run."""
        tree = await self.duck.get("/v1/tree")
        [its] = [node for node in tree["children"] if node["name"] == "providers"]
        return [
            node["name"]
            for node in its["children"]
            if all(part["state"] == "running" for part in node["children"])
        ]


@asynccontextmanager
async def reloading(*providers, **more):
    """Run a daemon, and the file that it reads again."""
    async with open_duck(*providers, **more) as duck:
        file = File(duck, duck.daemon.service.config)
        duck.daemon.read_config = lambda: file.config
        yield duck, file


async def until(condition) -> None:
    """Wait until it holds; it must come to that."""
    with trio.fail_after(10):
        while not await condition():  # noqa: ASYNC110 - no event tells
            await trio.sleep(0.01)


@asynccontextmanager
async def under_way(duck, upstream, replies, body=ASK):
    """Have a request under way at *upstream*, for the length of a block."""

    async def ask():
        replies.append(await duck.post(CHAT, body))

    before = len(upstream.requests)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await upstream.wait_for_requests(before + 1)
        yield


async def test_a_provider_that_is_added_serves_at_once_and_is_guarded():
    async with (
        open_upstream([[OK]]) as one,
        open_upstream([[OK]] * 3) as two,
        reloading(provider("up", "openai", one, models=("gpt-x",)), may_crash=True) as (
            duck,
            file,
        ),
    ):
        other = {**ASK, "model": "new-model"}
        assert (await duck.post(CHAT, other)).code == "model_not_found"
        file.providers(more=provider("more", "openai", two, models=("new-*",)))
        assert await file.reload() == ["providers.more"]
        reply = await duck.post(CHAT, other)
        assert (reply.status, reply.headers["duck-provider"]) == (200, "more")
        assert await file.names() == ["up", "more"]
        assert await file.in_tree() == ["up", "more"]
        await duck.restart("providers/more/rate_limiter")
        assert (await duck.post(CHAT, other)).status == 200
        assert (await duck.post("/v1/providers/more/disable")).status == 200
        assert (await duck.post(CHAT, other)).code == "circuit_open"


async def test_a_provider_that_is_removed_finishes_what_it_has_and_ends_then():
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK]]) as one,
        open_upstream([[OK]]) as two,
        reloading(
            provider("up", "openai", one), provider("more", "openai", two, priority=2)
        ) as (duck, file),
    ):
        replies = []
        async with under_way(duck, one, replies):
            file.providers(without=["up"])
            assert await file.reload() == ["providers.up"]
            assert await file.names() == ["more"]
            assert await file.in_tree() == ["up", "more"], "it is needed yet"
            reply = await duck.post(CHAT, ASK)
            assert reply.headers["duck-provider"] == "more"
            gate.set()
        assert replies[0].status == 200
        assert replies[0].headers["duck-provider"] == "up"

        async def has_ended():
            return await file.in_tree() == ["more"]

        await until(has_ended)
        await one.wait_all_closed()

        async def has_no_lane():
            return list((await duck.get("/v1/queue"))["lanes"]) == ["more"]

        await until(has_no_lane)
        reply = await duck.post("/v1/providers/up/reset")
        assert reply.code == "not_found"


async def test_a_provider_that_comes_back_before_it_has_ended_goes_on():
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK], [OK]]) as one,
        reloading(
            provider("up", "openai", one), provider("o", "openai", one, models=("o",))
        ) as (duck, file),
    ):
        replies, with_up = [], file.config
        async with under_way(duck, one, replies):
            file.providers(without=["up"])
            await file.reload()
            assert (await duck.post(CHAT, ASK)).code == "model_not_found"
            file.config = with_up
            assert await file.reload() == ["providers.up"]
            assert (await duck.post(CHAT, ASK)).status == 200
            gate.set()
        assert replies[0].status == 200
        await trio.lowlevel.checkpoint()
        assert sorted(await file.in_tree()) == ["o", "up"]
        assert one.connections == 2, "its connections are the same"


async def test_who_has_moved_finishes_at_the_old_address_and_closes_there():
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK]]) as old,
        open_upstream([[OK]]) as new,
        reloading(provider("up", "openai", old)) as (duck, file),
    ):
        replies = []
        async with under_way(duck, old, replies):
            file.provider(base_url=f"{new.base_url}/v1")
            assert await file.reload() == ["providers.up.base_url"]
            assert (await duck.post(CHAT, ASK)).status == 200
            assert len(new.requests) == 1
            gate.set()
        assert replies[0].status == 200
        assert len(old.requests) == 1
        await old.wait_all_closed()
        assert new.open_connections == 1


async def test_a_moved_provider_is_not_judged_by_what_the_old_one_did():
    fails = BreakerConfig(failure_threshold=1)
    async with (
        open_upstream([[FAILS]]) as old,
        open_upstream([[OK]]) as new,
        reloading(
            provider("up", "openai", old, breaker=fails),
            retry=RetryConfig(max_attempts=1),
        ) as (duck, file),
    ):
        await duck.post(CHAT, ASK)
        assert (await duck.post(CHAT, ASK)).code == "circuit_open"
        file.provider(base_url=f"{new.base_url}/v1")
        await file.reload()
        assert (await duck.post(CHAT, ASK)).status == 200


async def test_lower_and_higher_limits_hold_and_what_was_sent_before_counts():
    limits = LimitsConfig(requests_per_minute=3)
    async with (
        open_upstream([[OK]] * 20) as up,
        reloading(provider("up", "openai", up, limits=limits), may_crash=True) as (
            duck,
            file,
        ),
    ):
        soon = b"duck-deadline: 1"
        assert [(await duck.post(CHAT, ASK, soon)).status for _ in range(3)] == [
            200
        ] * 3
        assert (await duck.post(CHAT, ASK, soon)).code == "rate_limited"
        file.provider(limits=LimitsConfig(requests_per_minute=5))
        assert await file.reload() == ["providers.up.limits.requests_per_minute"]
        assert [(await duck.post(CHAT, ASK, soon)).status for _ in range(2)] == [
            200
        ] * 2
        assert (await duck.post(CHAT, ASK, soon)).code == "rate_limited"
        file.provider(limits=LimitsConfig(requests_per_minute=4))
        await file.reload()
        await duck.restart("providers/up/rate_limiter")
        assert (await duck.post(CHAT, ASK, soon)).code == "rate_limited"
        file.provider(limits=LimitsConfig())
        await file.reload()
        assert (await duck.post(CHAT, ASK, soon)).status == 200
        assert len(up.requests) == 6


async def test_who_waits_for_a_limit_goes_on_when_it_is_raised():
    async with (
        open_upstream([[OK]] * 20) as up,
        reloading(
            provider("up", "openai", up, limits=LimitsConfig(requests_per_minute=1))
        ) as (duck, file),
    ):
        await duck.post(CHAT, ASK)
        replies = []

        async def ask():
            replies.append((await duck.post(CHAT, ASK)).status)

        async def wait():
            [its] = (await duck.get("/v1/providers"))["providers"]
            return its["limiter"]["waiting"] == 4

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
            await until(wait)
            file.provider(limits=LimitsConfig(requests_per_minute=100))
            await file.reload()
        assert replies == [200] * 4


async def test_who_waits_and_can_never_fit_the_new_limit_is_told_so():
    large = {**ASK, "max_tokens": 500}
    async with (
        open_upstream([[OK]] * 20) as up,
        reloading(
            provider("up", "openai", up, limits=LimitsConfig(tokens_per_minute=700))
        ) as (duck, file),
    ):
        gate = trio.Event()
        up.script = [[gate, OK]] + [[OK]] * 5
        replies, late = [], []
        async with under_way(duck, up, replies, large), trio.open_nursery() as nursery:

            async def ask():
                late.append(await duck.post(CHAT, large))

            async def waits():
                [its] = (await duck.get("/v1/providers"))["providers"]
                return its["limiter"]["waiting"] == 1

            nursery.start_soon(ask)
            await until(waits)
            file.provider(limits=LimitsConfig(tokens_per_minute=100))
            await file.reload()
            gate.set()
        assert replies[0].status == 200
        assert late[0].code == "rate_limited"
        assert "can never be sent" in late[0].json()["error"]["message"]


async def test_more_turns_are_given_at_once():
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK]] * 3) as up,
        reloading(provider("up", "openai", up, max_concurrency=1)) as (duck, file),
    ):
        replies = []

        async def ask():
            replies.append((await duck.post(CHAT, ASK)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            await up.wait_for_requests(1)
            file.provider(max_concurrency=3)
            await file.reload()
            await up.wait_for_requests(3)
            file.provider(max_concurrency=1)
            await file.reload()
            gate.set()
        assert replies == [200] * 3


async def test_another_policy_holds_for_a_breaker_that_has_counted_before():
    async with (
        open_upstream([[FAILS]] * 9) as up,
        reloading(
            provider("up", "openai", up, breaker=BreakerConfig(failure_threshold=9)),
            retry=RetryConfig(max_attempts=1),
        ) as (duck, file),
    ):
        for _ in range(2):
            await duck.post(CHAT, ASK)
        file.provider(breaker=BreakerConfig(failure_threshold=3, scope="provider"))
        await file.reload()
        assert (await duck.post(CHAT, ASK)).code == "provider_error"
        assert (await duck.post(CHAT, ASK)).code == "circuit_open"
        assert len(up.requests) == 3


async def test_breakers_of_models_end_when_all_are_judged_together():
    rests = BreakerConfig(failure_threshold=1, scope="model")
    async with (
        open_upstream([[FAILS], [OK]]) as up,
        reloading(
            provider("up", "openai", up, breaker=rests),
            retry=RetryConfig(max_attempts=1),
        ) as (duck, file),
    ):
        await duck.post(CHAT, ASK)
        assert (await duck.post(CHAT, ASK)).code == "circuit_open"
        file.provider(breaker=attrs.evolve(rests, scope="provider"))
        await file.reload()
        assert (await duck.post(CHAT, ASK)).status == 200


async def test_models_routes_retries_and_times_are_those_of_the_new_config():
    async with (
        open_upstream([[FAILS], [OK], [OK], [OK]]) as up,
        reloading(
            provider("up", "openai", up, models=("gpt-x",)),
            retry=RetryConfig(max_attempts=1, base_delay=0.0),
        ) as (duck, file),
    ):
        assert (await duck.post(CHAT, ASK)).code == "provider_error"
        file.set(
            retry=RetryConfig(max_attempts=2, base_delay=0.0),
            routing=RoutingConfig(fallbacks={"gone": ("alias",)}),
        )
        file.provider(
            models=("alias",),
            model_map={"alias": "own-name"},
            timeout=TimeoutConfig(first_byte=5.0),
        )
        assert set(await file.reload()) == {
            "retry.max_attempts",
            "routing.fallbacks",
            "providers.up.models",
            "providers.up.model_map",
            "providers.up.timeout.first_byte",
        }
        assert (await duck.post(CHAT, ASK)).code == "model_not_found"
        assert (await duck.post(CHAT, {**ASK, "model": "gone"})).status == 200
        assert b"own-name" in up.requests[-1].body
        models = (await duck.get("/v1/models"))["data"]
        assert [its["id"] for its in models] == ["alias"]
        assert up.connections == 1


async def test_a_queue_that_is_made_larger_takes_more():
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK]] * 3) as up,
        reloading(
            provider("up", "openai", up, max_concurrency=1),
            queue=QueueConfig(max_size=1),
        ) as (duck, file),
    ):
        replies = []

        async def ask():
            replies.append((await duck.post(CHAT, ASK)).status)

        async def waiting():
            return (await duck.get("/v1/queue"))["waiting"] == 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await up.wait_for_requests(1)
            nursery.start_soon(ask)
            await until(waiting)
            assert (await duck.post(CHAT, ASK)).code == "queue_full"
            file.set(queue=QueueConfig(max_size=2))
            assert await file.reload() == ["queue.max_size"]
            nursery.start_soon(ask)
            await trio.lowlevel.checkpoint()
            gate.set()
        assert replies == [200] * 3


# Budgets: a request costs (10 * 2 + 10 * 8) / 1,000,000 USD at most, with max_tokens.

CHEAP = {**ASK, "max_tokens": 10}


async def spent(duck, name) -> tuple[Decimal, Decimal]:
    [its] = [b for b in (await duck.get("/v1/budgets"))["budgets"] if b["name"] == name]
    return Decimal(its["spent_usd"]), Decimal(its["limit_usd"])


async def test_a_new_budget_knows_what_was_spent_and_binds_at_once(tmp_path):
    async with (
        open_upstream([[OK]] * 9) as up,
        reloading(provider("up", "openai", up), state_dir=tmp_path) as (duck, file),
    ):
        cost = Decimal((await duck.post(CHAT, CHEAP)).headers["duck-cost-usd"])
        # Of this one the ledger knows nothing yet: it is about to be written.
        await duck.post(CHAT, CHEAP)
        file.set(budgets={"day": BudgetConfig(limit_usd=str(cost * 3))})
        assert await file.reload() == ["budgets.day"]
        assert await spent(duck, "day") == (cost * 2, cost * 3)
        assert (
            await duck.post(CHAT, {**CHEAP, "max_tokens": 90})
        ).code == "budget_exceeded"
        file.set(budgets={"day": BudgetConfig(limit_usd=str(cost * 1000))})
        assert await file.reload() == ["budgets.day.limit_usd"]
        assert (await duck.post(CHAT, CHEAP)).status == 200
        assert await spent(duck, "day") == (cost * 3, cost * 1000)
        file.set(budgets={})
        assert await file.reload() == ["budgets.day"]
        assert (await duck.get("/v1/budgets"))["budgets"] == []
        assert (await duck.post(CHAT, CHEAP)).status == 200


async def test_what_is_under_way_when_a_budget_comes_counts_in_it(tmp_path):
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK]]) as up,
        reloading(provider("up", "openai", up), state_dir=tmp_path) as (duck, file),
    ):
        replies = []
        async with under_way(duck, up, replies, CHEAP):
            file.set(budgets={"day": BudgetConfig(limit_usd="1")})
            await file.reload()
            assert await spent(duck, "day") == (0, 1)
            gate.set()
        cost = Decimal(replies[0].headers["duck-cost-usd"])
        assert cost > 0
        assert await spent(duck, "day") == (cost, 1)


LARGE = {**ASK, "max_tokens": 100_000}
"""May cost much, and costs little."""


async def test_a_budget_beside_another_one_counts_what_was_spent_and_not_reserved(
    tmp_path,
):
    gate = trio.Event()
    async with (
        open_upstream([[OK], [OK], [gate, OK]]) as up,
        reloading(
            provider("up", "openai", up),
            budgets={"first": BudgetConfig(limit_usd="100")},
            state_dir=tmp_path,
        ) as (duck, file),
    ):
        replies = [await duck.post(CHAT, LARGE) for _ in range(2)]
        async with under_way(duck, up, replies, LARGE):
            more = {"day": BudgetConfig(limit_usd="100", window="total")}
            file.set(budgets={**file.config.budgets, **more})
            await file.reload()
            [first, day] = (await duck.get("/v1/budgets"))["budgets"]
            assert day["spent_usd"] == first["spent_usd"]
            assert day["reserved_usd"] == first["reserved_usd"]
            assert Decimal(day["reserved_usd"]) > 0
            gate.set()
        cost = sum(Decimal(reply.headers["duck-cost-usd"]) for reply in replies)
        for name in ("first", "day"):
            assert await spent(duck, name) == (cost, 100)
        assert all(
            Decimal(its["reserved_usd"]) == 0
            for its in (await duck.get("/v1/budgets"))["budgets"]
        )


async def test_without_a_store_what_is_under_way_counts_in_a_new_budget():
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK]]) as up,
        reloading(
            provider("up", "openai", up),
            budgets={"first": BudgetConfig(limit_usd="100")},
        ) as (duck, file),
    ):
        replies = []
        async with under_way(duck, up, replies, LARGE):
            more = {
                "day": BudgetConfig(limit_usd="100", match=BudgetMatch(model="gpt-*"))
            }
            file.set(budgets=more)
            await file.reload()
            gate.set()
        cost = Decimal(replies[0].headers["duck-cost-usd"])
        assert await spent(duck, "day") == (cost, 100)


async def test_what_waits_in_line_is_sent_and_paid_by_the_new_config(tmp_path):
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK], [OK]]) as up,
        reloading(
            provider("up", "openai", up, max_concurrency=1),
            budgets={
                "dear": BudgetConfig(limit_usd="9", match=BudgetMatch(model="dear"))
            },
            state_dir=tmp_path,
        ) as (duck, file),
    ):
        replies, late = [], []

        async def ask():
            late.append(await duck.post(CHAT, CHEAP))

        async def waits():
            return (await duck.get("/v1/queue"))["waiting"] == 1

        async with under_way(duck, up, replies, CHEAP), trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(waits)
            file.provider(
                api_key=Secret("the-new-key-of-the-provider"),
                model_map={"gpt-x": "dear"},
                price=PriceConfig(input="200", output="800"),
            )
            await file.reload()
            gate.set()
        cheap, dear = (
            Decimal(reply.headers["duck-cost-usd"]) for reply in (replies[0], late[0])
        )
        assert dear == cheap * 100
        assert up.requests[0].header("authorization") != up.requests[1].header(
            "authorization"
        )
        assert b'"dear"' in up.requests[1].body
        assert await spent(duck, "dear") == (dear, 9)


async def test_failover_passes_over_a_provider_that_was_removed_meanwhile():
    gate = trio.Event()
    async with (
        open_upstream([[gate, FAILS]]) as one,
        open_upstream([[OK]]) as two,
        reloading(
            provider("up", "openai", one),
            provider("more", "openai", two, priority=2),
            provider("third", "openai", two, priority=3),
        ) as (duck, file),
    ):
        replies = []
        async with under_way(duck, one, replies):
            file.providers(without=["more"])
            await file.reload()

            async def has_ended():
                return await file.in_tree() == ["up", "third"]

            await until(has_ended)
            gate.set()
        assert replies[0].status == 200
        assert replies[0].headers["duck-provider"] == "third"


async def test_a_provider_that_has_ended_does_not_come_back_with_the_others():
    async with (
        open_upstream([[OK]] * 9) as up,
        reloading(
            provider("up", "openai", up),
            provider("more", "openai", up),
            may_crash=True,
        ) as (duck, file),
    ):
        before = file.config
        file.providers(without=["more"])
        await file.reload()

        async def only_one():
            return await file.in_tree() == ["up"]

        await until(only_one)
        await duck.restart("providers")
        await until(only_one)
        file.config = before
        assert await file.reload() == ["providers.more"]
        assert await file.in_tree() == ["up", "more"]


async def test_nothing_that_a_restart_of_retirement_finds_is_cut_off():
    gate = trio.Event()
    async with (
        open_upstream([[gate, OK]]) as old,
        open_upstream([[OK]]) as new,
        reloading(provider("up", "openai", old), may_crash=True) as (duck, file),
    ):
        replies = []
        async with under_way(duck, old, replies):
            file.provider(base_url=f"{new.base_url}/v1")
            await file.reload()
            await duck.restart("retirement")
            await trio.testing.wait_all_tasks_blocked(0.01)
            gate.set()
        assert replies[0].status == 200
        assert replies[0].headers["duck-attempts"] == "1"
        await old.wait_all_closed()


async def test_what_needs_no_turn_is_not_cut_off_either():
    gate = trio.Event()
    counted = json_answer({"input_tokens": 7})
    async with (
        open_upstream([[gate, counted]]) as old,
        open_upstream([[OK]]) as other,
        reloading(
            provider("up", "anthropic", old),
            provider("o", "openai", other, models=("o",)),
        ) as (duck, file),
    ):
        said = []

        async def count():
            said.append(await duck.post("/v1/messages/count_tokens", ASK))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await old.wait_for_requests(1)
            file.providers(without=["up"])
            await file.reload()
            # Two looks at what is still used.
            await trio.sleep(2.2 * LOOKS_EACH)
            gate.set()
        assert said[0].json() == {"input_tokens": 7}


async def test_a_check_of_all_tells_of_those_that_were_there_when_it_began():
    gate = trio.Event()
    models = json_answer({"object": "list", "data": []})
    async with (
        open_upstream([[gate, models]]) as up,
        open_upstream([[models]]) as other,
        reloading(provider("up", "openai", up)) as (duck, file),
    ):
        said = []

        async def check():
            said.append(await duck.daemon.service.check_providers())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(check)
            await up.wait_for_requests(1)
            file.providers(more=provider("more", "openai", other))
            await file.reload()
            gate.set()
        assert [its["name"] for its in said[0]] == ["up"]


async def test_a_breaker_that_is_open_does_not_stay_so_when_models_have_their_own():
    async with (
        open_upstream([[FAILS], [OK]]) as up,
        reloading(
            provider("up", "openai", up, breaker=BreakerConfig(failure_threshold=1)),
            retry=RetryConfig(max_attempts=1),
        ) as (duck, file),
    ):
        await duck.post(CHAT, ASK)
        file.provider(breaker=BreakerConfig(failure_threshold=1, scope="model"))
        await file.reload()
        assert (await duck.post(CHAT, ASK)).status == 200
        [its] = (await duck.get("/v1/providers"))["providers"]
        assert its["breaker"] == "closed"


async def test_an_empty_file_is_no_config():
    async with (
        open_upstream([[OK]]) as up,
        reloading(provider("up", "openai", up)) as (duck, file),
    ):
        file.config = attrs.evolve(Config.default(), is_default=False)
        reply = await duck.post("/v1/reload")
        assert reply.code == "invalid_request"
        assert "names no provider" in reply.json()["error"]["message"]
        assert (await duck.post(CHAT, ASK)).status == 200


async def test_what_is_under_way_in_a_budget_that_goes_or_binds_others_is_harmless(
    tmp_path,
):
    gate = trio.Event()
    budgets = {"a": BudgetConfig(limit_usd="1"), "b": BudgetConfig(limit_usd="1")}
    async with (
        open_upstream([[gate, OK]] * 3) as up,
        reloading(
            provider("up", "openai", up), budgets=budgets, state_dir=tmp_path
        ) as (duck, file),
    ):
        replies = []
        async with under_way(duck, up, replies, CHEAP):
            file.set(budgets={"b": BudgetConfig(limit_usd="1", window="hour")})
            await file.reload()
            file.set(
                budgets={
                    "b": BudgetConfig(limit_usd="1"),
                    "c": BudgetConfig(limit_usd="1", match=BudgetMatch(provider="up")),
                }
            )
            await file.reload()
            gate.set()
        assert replies[0].status == 200
        for name in "bc":
            cost = Decimal(replies[0].headers["duck-cost-usd"])
            assert await spent(duck, name) == (cost, 1)


async def test_what_cannot_be_made_changes_nothing(tmp_path):
    async with (
        open_upstream([[OK]] * 3) as up,
        reloading(provider("up", "openai", up), state_dir=tmp_path) as (duck, file),
    ):
        before, old = file.config, duck.daemon.service.config
        file.set(
            budgets={"day": BudgetConfig(limit_usd="1")},
            retry=RetryConfig(max_attempts=1),
        )
        file.providers(
            good=provider("good", "openai", up),
            bad=provider("bad", "openai", up, headers={"X-Bad": "line\nline"}),
        )
        reply = await duck.post("/v1/reload")
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert "providers.bad" in reply.json()["error"]["message"]
        assert duck.daemon.service.config is old
        assert await file.names() == ["up"]
        assert await file.in_tree() == ["up"]
        assert (await duck.get("/v1/budgets"))["budgets"] == []
        file.config = before
        assert await file.reload() == []


async def test_a_store_that_cannot_tell_what_was_spent_changes_nothing(
    tmp_path, monkeypatch
):
    async with (
        open_upstream([[OK]] * 3) as up,
        reloading(provider("up", "openai", up), state_dir=tmp_path) as (duck, file),
    ):
        store = duck.daemon.service.parts.ledger.store

        async def sums(_):
            raise Unavailable("the disk is gone")

        monkeypatch.setattr(store, "sums", sums, raising=False)
        file.set(budgets={"day": BudgetConfig(limit_usd="1")})
        file.providers(more=provider("more", "openai", up))
        reply = await duck.post("/v1/reload")
        assert (reply.status, reply.code) == (503, "unavailable")
        assert (await duck.get("/v1/budgets"))["budgets"] == []
        assert await file.in_tree() == ["up"]
        assert await file.names() == ["up"]
        monkeypatch.undo()
        assert await file.reload() == ["providers.more", "budgets.day"]
        assert await file.in_tree() == ["up", "more"]


async def test_the_supervisor_of_providers_starts_those_of_today_again():
    async with (
        open_upstream([[OK]] * 9) as up,
        reloading(
            provider("up", "openai", up), provider("old", "openai", up), may_crash=True
        ) as (duck, file),
    ):
        file.providers(
            without=["old"], more=provider("more", "openai", up, models=("new",))
        )
        await file.reload()
        await duck.restart("providers")

        async def is_back():
            return sorted(await file.in_tree()) == ["more", "up"]

        await until(is_back)
        assert (await duck.post(CHAT, {**ASK, "model": "new"})).status == 200


async def test_a_secret_of_a_new_provider_is_nowhere_to_be_seen():
    async with (
        open_upstream([[OK]]) as up,
        reloading(provider("up", "openai", up)) as (duck, file),
    ):
        key = Secret("canary-key-of-another-provider-1f")
        file.providers(more=provider("more", "openai", up, api_key=key))
        reply = await duck.post("/v1/reload")
        assert "canary" not in reply.body.decode() + duck.written.getvalue()


async def test_no_request_notices_that_everything_changes_all_the_time(tmp_path):
    """Keys, limits, policies, turns, budgets, addresses, providers that come and go."""
    clients = 12
    async with (
        open_upstream([[OK]] * 10_000, limit=60.0) as one,
        open_upstream([[OK]] * 10_000, limit=60.0) as two,
        reloading(provider("up", "openai", one), state_dir=tmp_path, limit=60.0) as (
            duck,
            file,
        ),
    ):
        start = file.config
        more = provider("more", "openai", two)
        changes = [
            {"providers": {**start.providers, "more": more}},
            {"budgets": {"day": BudgetConfig(limit_usd="50")}},
            {"providers": {"more": more}},
            {"budgets": {"day": BudgetConfig(limit_usd="60", window="hour")}},
            {"providers": start.providers},
            {"routing": RoutingConfig(strategy="weighted", spill_after=0.0)},
            *(
                {"providers": {"up": attrs.evolve(start.providers["up"], **fields)}}
                for fields in (
                    {"api_key": Secret("another-key-that-is-as-good")},
                    {"base_url": f"{two.base_url}/v1"},
                    {"limits": LimitsConfig(requests_per_minute=100_000)},
                    {"breaker": BreakerConfig(failure_threshold=1, scope="model")},
                    {"max_concurrency": 2},
                    {"api_keys": (Secret("a-second-key-of-some-length"),)},
                )
            ),
            {"budgets": {}},
        ]
        said, over = [], trio.Event()

        async def ask():
            while not over.is_set():
                reply = await duck.post(CHAT, CHEAP)
                said.append("ok" if reply.status == 200 else reply.body.decode())

        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(ask)
            for fields in changes * 2:
                answered = len(said)
                file.set(**fields)
                await file.reload()
                while len(said) == answered:  # noqa: ASYNC110 - no event tells
                    await trio.sleep(0.001)
            over.set()
        assert not duck.crashes(), duck.crashes()[0]["exception"]
        assert set(said) == {"ok"}, Counter(said)
        file.config = start
        await file.reload()

        async def as_at_the_start():
            return await file.in_tree() == ["up"] and two.open_connections == 0

        await until(as_at_the_start)
        await duck.at_rest()


async def test_the_cache_finds_what_the_providers_of_today_have_said():
    async with (
        open_upstream([[OK]] * 9) as up,
        reloading(provider("up", "openai", up), cache=CacheConfig(enabled=True)) as (
            duck,
            file,
        ),
    ):

        async def said():
            reply = await duck.post(CHAT, ASK)
            assert reply.status == 200, reply
            return reply.headers["duck-cache"]

        start = file.config
        assert [await said(), await said()] == ["miss", "hit"]
        file.provider(priority=7)
        await file.reload()
        assert [await said(), await said()] == ["miss", "hit"]
        file.provider(limits=LimitsConfig(requests_per_minute=50))
        await file.reload()
        assert await said() == "hit"
        file.config = start
        await file.reload()
        assert await said() == "hit"
        assert len(up.requests) == 2


async def test_a_config_that_cannot_be_read_in_time_holds_nobody_up(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(daemon, "READ_WITHIN", 0.2)
    pipe = tmp_path / "config.toml"
    os.mkfifo(pipe)
    async with (
        open_upstream([[OK]]) as up,
        reloading(provider("up", "openai", up)) as (duck, file),
    ):
        read = duck.daemon.read_config
        duck.daemon.read_config = pipe.read_text
        reply = await duck.post("/v1/reload")
        assert (reply.status, reply.code) == (503, "unavailable")
        duck.daemon.read_config = read
        assert await file.reload() == []
        os.close(os.open(pipe, os.O_RDWR))  # the thread that was left waits no more
