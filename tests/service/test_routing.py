"""Whom requests go to: sessions, spilling over, other models, and why."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.calls.call import CallOptions
from duckservice.calls.planning import SESSIONS_MAX
from duckservice.completion import ChatRequest, TextDelta
from duckservice.config import (
    BudgetConfig,
    BudgetMatch,
    Config,
    LimitsConfig,
    PriceConfig,
    RetryConfig,
    RoutingConfig,
)
from duckservice.core.circuit_breaker import Closed, Open
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    ProviderError,
    RateLimited,
)
from duckservice.events import AttemptEnded
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockReply, MockScript

from .conftest import chat, mock_config, running

SESSION = CallOptions(tags={"session": "s1"})


def routed(config: Config, **routing) -> Config:
    return attrs.evolve(config, routing=RoutingConfig(**routing))


async def serves(service, request: ChatRequest | None = None, options=None) -> str:
    return (await service.complete(request or chat(), options)).report.provider


async def test_who_has_no_room_is_passed_over_and_asked_again_when_there_is(
    autojump_clock,
) -> None:
    config = mock_config("a", "b", limits=LimitsConfig(requests_per_minute=3))
    async with running(config, a=MockProvider("a"), b=MockProvider("b")) as (s, _):
        began = trio.current_time()
        assert [await serves(s) for _ in range(6)] == ["a", "a", "a", "b", "b", "b"]
        assert trio.current_time() == began, "nobody has waited"
        # Both are used up: it waits for the one that is preferred.
        assert await serves(s) == "a"
        assert 59 < trio.current_time() - began < 62


async def test_a_short_wait_is_preferred_to_a_worse_provider(autojump_clock) -> None:
    config = routed(
        mock_config("a", "b", limits=LimitsConfig(requests_per_minute=1)),
        spill_after=70.0,
    )
    async with running(config, a=MockProvider("a"), b=MockProvider("b")) as (s, _):
        assert await serves(s) == "a"
        assert await serves(s) == "a"


async def test_a_full_and_slow_provider_is_passed_over(autojump_clock) -> None:
    config = mock_config("a", "b", max_concurrency=1)
    slow, quick = MockProvider("a", MockScript(latency=5.0)), MockProvider("b")
    async with running(config, a=slow, b=quick) as (s, _):
        assert await serves(s) == "a"  # now it is known to be slow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serves, s)
            await trio.testing.wait_all_tasks_blocked()
            assert await serves(s) == "b"


async def test_who_has_asked_us_to_wait_is_passed_over_however_short_it_is(
    autojump_clock,
) -> None:
    busy = RateLimited("slow down", provider="a", retry_after=0.5)
    a = MockProvider("a", MockScript(errors={1: busy}))
    async with running(mock_config("a", "b"), a=a, b=MockProvider("b")) as (s, _):
        assert (await s.complete(chat())).report.attempts == 2
        again = (await s.complete(chat())).report
        assert (again.provider, again.attempts) == ("b", 1)
        await trio.sleep(0.6)
        assert await serves(s) == "a"


async def test_a_session_stays_where_it_was_served(autojump_clock) -> None:
    config = routed(mock_config("a", "b"), sticky="session", strategy="weighted")
    async with running(config, a=MockProvider("a"), b=MockProvider("b")) as (s, _):
        first = await serves(s, options=SESSION)
        assert {await serves(s, options=SESSION) for _ in range(20)} == {first}
        assert {await serves(s) for _ in range(40)} == {"a", "b"}


async def test_a_session_moves_when_its_provider_fails_and_stays_there(
    autojump_clock,
) -> None:
    config = routed(mock_config("a", "b"), sticky="session")
    a = MockProvider("a", MockScript(errors={2: ProviderError("down", provider="a")}))
    async with running(config, a=a, b=MockProvider("b")) as (s, events):
        assert await serves(s, options=SESSION) == "a"
        assert await serves(s, options=SESSION) == "b"
        assert await serves(s, options=SESSION) == "b"
        ends = [e for e in events if isinstance(e, AttemptEnded)]
        assert ends[-1].why.startswith("it keeps its session; ")
        assert await serves(s) == "a", "others go by priority"


async def test_sessions_that_are_remembered_are_limited_in_number(
    autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr("duckservice.calls.planning.SESSIONS_MAX", 5)
    assert SESSIONS_MAX == 10_000
    config = routed(mock_config("a"), sticky="session")
    async with running(config, a=MockProvider("a")) as (s, _):
        for number in range(20):
            await s.complete(chat(), CallOptions(tags={"session": str(number)}))
        assert len(s.planner._sessions) == 5


@pytest.mark.parametrize(
    ("error", "routing"),
    [
        (ContextLengthExceeded, {"context_fallbacks": {"mock-1": ("mock-long",)}}),
        (ContentFiltered, {"content_fallbacks": {"mock-1": ("mock-long",)}}),
    ],
)
async def test_a_request_that_is_wrong_for_a_model_goes_to_the_one_that_stands_in(
    autojump_clock, error, routing
) -> None:
    config = routed(mock_config("a"), **routing)
    a = MockProvider("a", MockScript(errors={1: error("no", provider="a")}))
    async with running(config, a=a) as (s, events):
        answer = await s.complete(chat())
        assert answer.report.model == "mock-long"
        assert answer.report.attempts == 2
        first, second = (e for e in events if isinstance(e, AttemptEnded))
        assert first.outcome == error.code
        assert second.why.startswith(f"again ({error.code}); mock-long stands in; ")


@pytest.mark.parametrize("error", [ContextLengthExceeded, ContentFiltered])
async def test_without_a_model_that_stands_in_the_client_learns_what_is_wrong(
    autojump_clock, error
) -> None:
    config = routed(mock_config("a", "b"), context_fallbacks={"other": ("mock-1",)})
    a = MockProvider("a", MockScript(errors={1: error("no", provider="a")}))
    async with running(config, a=a, b=MockProvider("b")) as (s, _):
        with pytest.raises(error):
            await s.complete(chat())


async def test_models_that_stand_in_for_one_another_do_not_go_round_in_circles(
    autojump_clock,
) -> None:
    config = routed(
        mock_config("a", retry=RetryConfig(max_attempts=10)),
        context_fallbacks={"mock-1": ("mock-2",), "mock-2": ("mock-1",)},
    )
    errors = {n: ContextLengthExceeded("no", provider="a") for n in range(1, 10)}
    async with running(config, a=MockProvider("a", MockScript(errors=errors))) as (
        s,
        events,
    ):
        with pytest.raises(ContextLengthExceeded):
            await s.complete(chat())
        assert len([e for e in events if isinstance(e, AttemptEnded)]) == 3


async def test_it_is_told_why_a_provider_was_asked(autojump_clock) -> None:
    config = mock_config("bad", "good")
    bad = MockProvider("bad", MockScript(failure_rate=1.0))
    async with running(config, bad=bad, good=MockProvider("good")) as (s, events):
        for _ in range(4):
            await s.complete(chat())
        ends = [e for e in events if isinstance(e, AttemptEnded)]
    assert ends[0].why == "priority 1, health 1.0, load 0.00"
    assert ends[1].why == (
        "bad failed (provider_error); priority 2, health 1.0, load 0.00"
    )
    # Three failures have opened its breaker.
    assert ends[-1].why == (
        "priority 2, health 1.0, load 0.00; not bad: its circuit breaker refuses"
    )


async def test_no_attempt_is_begun_that_cannot_end_before_the_deadline(
    autojump_clock,
) -> None:
    # Each answer takes 4 s; 3 s before the deadline nobody is asked again.
    a = MockProvider(
        "a", MockScript(latency=4.0, errors={2: ProviderError("down", provider="a")})
    )
    async with running(mock_config("a"), a=a) as (s, events):
        await s.complete(chat())
        began = trio.current_time()
        with pytest.raises(ProviderError):
            await s.complete(chat(), CallOptions(deadline=began + 7.0))
        assert trio.current_time() - began == 4.0
        assert len([e for e in events if isinstance(e, AttemptEnded)]) == 2


async def test_the_fastest_is_who_answers_first_and_the_slow_one_gets_another_chance(
    autojump_clock,
) -> None:
    config = routed(mock_config("slow", "quick"), strategy="fastest")
    slow = MockProvider("slow", MockScript(latency=3.0))
    quick = MockProvider("quick", MockScript(latency=1.0))
    async with running(config, slow=slow, quick=quick) as (s, _):
        seen = [await serves(s) for _ in range(8)]
        assert sorted(seen[:2]) == ["quick", "slow"], "who was not measured goes first"
        assert set(seen[2:]) == {"quick"}
        await trio.sleep(1000)
        assert await serves(s) == "quick"
        # Only the quick one has been measured again.
        assert await serves(s) == "slow"


async def test_streams_are_ranked_by_their_first_words(autojump_clock) -> None:
    config = routed(mock_config("chatty", "curt"), strategy="fastest")
    # The one begins at once and takes long; the other is the other way round.
    chatty = MockProvider("chatty", MockScript(latency=0.5, chunk_interval=3.0))
    curt = MockProvider("curt", MockScript(latency=2.0))
    words = chat("one two three four")

    async def streamed() -> str:
        async with s.stream(words) as answer:
            async for _ in answer.batches:
                pass
        return answer.report.provider

    async with running(config, chatty=chatty, curt=curt) as (s, _):
        assert {await streamed() for _ in range(2)} == {"chatty", "curt"}
        assert {await streamed() for _ in range(4)} == {"chatty"}
        assert await serves(s, words) == "curt", "of a whole reply the end counts"


async def test_who_is_too_late_for_all_says_when_to_come_back(autojump_clock) -> None:
    config = mock_config("a", limits=LimitsConfig(requests_per_minute=1))
    async with running(config, a=MockProvider("a")) as (s, _):
        await s.complete(chat())
        began = trio.current_time()
        with pytest.raises((RateLimited, DeadlineExceeded)):
            await s.complete(chat(), CallOptions(deadline=began + 10))
        assert trio.current_time() - began <= 11


async def words_of(answer) -> str:
    text = ""
    async for batch in answer.batches:
        text += "".join(c.text for c in batch if isinstance(c, TextDelta))
    return text


async def test_a_budget_that_has_no_room_for_the_dear_one_has_it_for_the_cheap_one(
    autojump_clock,
) -> None:
    config = attrs.evolve(
        mock_config("dear", "cheap"),
        budgets={"all": BudgetConfig(limit_usd="0.01", window="total")},
    )
    dear = MockProvider("dear", price=PriceConfig(input="900", output="900"))
    cheap = MockProvider("cheap", price=PriceConfig(input="1", output="1"))
    async with running(config, dear=dear, cheap=cheap) as (s, _):
        assert await serves(s, chat(max_tokens=50)) == "cheap"
        with pytest.raises(BudgetExceeded, match="'all'"):
            await s.complete(chat(max_tokens=100_000))


async def test_a_budget_that_may_have_room_later_is_named_before_one_that_never_has(
    autojump_clock,
) -> None:
    config = attrs.evolve(
        mock_config("a", "b"),
        budgets={
            "never": BudgetConfig(
                limit_usd="0.000001", match=BudgetMatch(provider="a")
            ),
            "later": BudgetConfig(limit_usd="0.001", match=BudgetMatch(provider="b")),
        },
    )
    price = PriceConfig(input="1", output="9")
    async with (
        running(
            config,
            a=MockProvider("a", price=price),
            b=MockProvider("b", MockScript(latency=5.0), price=price),
        ) as (s, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(s.complete, chat(max_tokens=100))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BudgetExceeded, match="'later'") as caught:
            await s.complete(chat(max_tokens=100))
        assert caught.value.retryable


async def test_a_provider_that_falls_silent_before_the_first_word_is_replaced(
    autojump_clock,
) -> None:
    silent = MockProvider("a", MockScript(cut_after=0))
    async with (
        running(mock_config("a", "b"), a=silent, b=MockProvider("b")) as (s, events),
        s.stream(chat("one two")) as answer,
    ):
        assert answer.report.provider == "b"
        assert await words_of(answer) == "one two"
    first, _ = (e for e in events if isinstance(e, AttemptEnded))
    assert first.first_byte is not None, "it had begun to answer"


async def test_a_reply_without_a_word_is_a_reply(autojump_clock) -> None:
    mute = MockProvider("a", MockScript(replies=(MockReply(text=""),)))
    async with (
        running(mock_config("a", "b"), a=mute, b=MockProvider("b")) as (s, _),
        s.stream(chat("one two")) as answer,
    ):
        assert answer.report.provider == "a"
        assert await words_of(answer) == ""


async def test_that_somebody_rests_is_told_before_that_another_cannot_translate_it(
    autojump_clock,
) -> None:
    class Plain(MockProvider):
        def check(self, request) -> None:
            raise InvalidRequest("tools: not here", provider="a", param="tools")

    async with running(mock_config("a", "b"), a=Plain("a"), b=MockProvider("b")) as (
        s,
        _,
    ):
        s.parts.board.providers["b"].breaker = Open(0, trio.current_time() + 30)
        with pytest.raises(CircuitOpen) as caught:
            await s.complete(chat())
        assert caught.value.retry_after == pytest.approx(30)
        s.parts.board.providers["b"].breaker = Closed()
        assert await serves(s) == "b"


async def test_the_cheap_one_is_waited_for_where_the_dear_one_may_not_be_asked(
    autojump_clock,
) -> None:
    dear = MockProvider("dear", price=PriceConfig(input="900", output="900"))
    cheap = MockProvider("cheap", price=PriceConfig(input="1", output="1"))
    async with running(mock_config("dear", "cheap"), dear=dear, cheap=cheap) as (s, _):
        limit = CallOptions(max_cost=10**10)
        assert await serves(s, chat(max_tokens=50), limit) == "cheap"
        s.parts.board.providers["cheap"].breaker = Open(0, trio.current_time() + 30)
        with pytest.raises(CircuitOpen) as caught:
            await s.complete(chat(max_tokens=50), limit)
        assert caught.value.retry_after == pytest.approx(30)
        with pytest.raises(BudgetExceeded):
            await s.complete(chat(max_tokens=10**6), limit)


async def test_a_provider_that_hangs_keeps_nobody_waiting_where_another_is_idle(
    autojump_clock,
) -> None:
    config = mock_config("a", "b", max_concurrency=2)
    hangs = MockProvider("a", MockScript(latency=10_000.0))
    async with (
        running(config, a=hangs, b=MockProvider("b")) as (s, _),
        trio.open_nursery() as nursery,
    ):
        for _ in range(2):
            nursery.start_soon(s.complete, chat())
        await trio.sleep(5)  # nothing is known of it yet, but that it takes so long
        assert await serves(s) == "b"
        nursery.cancel_scope.cancel()


async def test_a_store_that_is_slow_is_not_taken_for_a_slow_provider(
    autojump_clock,
) -> None:
    config = attrs.evolve(
        mock_config("a"), budgets={"all": BudgetConfig(limit_usd="1")}
    )
    async with running(config, a=MockProvider("a", MockScript(latency=0.1))) as (s, _):
        make_slow(s, 5.0)
        await s.complete(chat(max_tokens=5))
        await trio.testing.wait_all_tasks_blocked()
        assert s.parts.board.providers["a"].health.latency == pytest.approx(0.1)


@pytest.mark.parametrize("why", [CircuitOpen, RateLimited])
async def test_what_was_forbidden_while_it_was_written_down_is_not_sent(
    autojump_clock, why
) -> None:
    config = attrs.evolve(
        mock_config("a"), budgets={"all": BudgetConfig(limit_usd="1")}
    )
    a = MockProvider("a")
    async with running(config, a=a) as (s, events), trio.open_nursery() as nursery:
        make_slow(s, 5.0)
        got = []

        async def ask() -> None:
            with pytest.raises(why) as caught:
                await s.complete(chat(max_tokens=5))
            got.append(caught.value)

        nursery.start_soon(ask)
        await trio.sleep(1)
        board = s.parts.board.providers["a"]
        if why is CircuitOpen:
            board.breaker = Open(7, trio.current_time() + 30)
        else:
            board.limiter.block(trio.current_time(), 30)
        await trio.sleep(5)
        assert got
        assert not [e for e in events if isinstance(e, AttemptEnded)]
        (budget,) = s.budgets()
        assert budget["reserved_usd"] == budget["spent_usd"] == "0"


def make_slow(service, seconds: float) -> None:
    """Have the store take its time to write a reservation down."""
    ledger = service.parts.ledger
    ledger.enabled = True
    store, record = ledger.store, ledger.store.record

    async def slowly(entries) -> None:
        await trio.sleep(seconds)
        await record(entries)

    store.record = slowly
