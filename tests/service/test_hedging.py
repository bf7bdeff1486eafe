"""Two providers asked for one request, and streams whose beginning is held back."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.calls.attempt_money import AttemptMoney
from duckservice.calls.call import Call, CallOptions, CallReport
from duckservice.completion import Chunk, ImageRequest, TextDelta
from duckservice.config import BudgetConfig, Config, RetryConfig, RoutingConfig
from duckservice.core.circuit_breaker import Closed, Open
from duckservice.core.pricing import pico
from duckservice.errors import (
    BadProviderResponse,
    BudgetExceeded,
    DuckError,
    InvalidRequest,
    NoAvailableProvider,
    ProviderError,
)
from duckservice.events import AttemptEnded
from duckservice.money.spending import worst_cost
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript

from .conftest import chat, mock_config, running

WORDS = chat("one two three four", max_tokens=100)


def routed(config: Config, **routing) -> Config:
    return attrs.evolve(config, routing=RoutingConfig(**routing))


def hedged(*names: str, **more) -> Config:
    return routed(mock_config(*names, **more), hedge_after=1.0)


def slow(name: str, latency: float, **script) -> MockProvider:
    return MockProvider(name, MockScript(latency=latency, **script))


def ends(events) -> list[tuple[str, str]]:
    return [(e.provider, e.outcome) for e in events if isinstance(e, AttemptEnded)]


async def ask(service, how: str, options: CallOptions | None = None):
    """Return the text of a reply, and the account of it."""
    if how == "whole":
        answer = await service.complete(WORDS, options)
        return answer.value.text, answer.report
    text = ""
    async with service.stream(WORDS, options) as streamed:
        async for batch in streamed.batches:
            text += text_of(batch)
    return text, streamed.report


def text_of(batch: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in batch if isinstance(chunk, TextDelta))


async def all_is_given_back(service) -> bool:
    await trio.testing.wait_all_tasks_blocked()
    queue = await service.queue()
    boards = service.parts.board.providers.values()
    return not queue["running"] and not any(board.turns for board in boards)


HOWS = pytest.mark.parametrize("how", ["whole", "stream"])


@HOWS
async def test_who_does_not_answer_in_time_gets_company_and_the_first_answer_wins(
    autojump_clock, how
) -> None:
    config = hedged("a", "b")
    async with running(config, a=slow("a", 60.0), b=slow("b", 2.0)) as (s, events):
        began = trio.current_time()
        text, report = await ask(s, how)
        assert text == "one two three four"
        assert trio.current_time() - began == 3.0
        assert (report.provider, report.attempts) == ("b", 2)
        assert await all_is_given_back(s)
        assert sorted(ends(events)) == [("a", "cancelled"), ("b", "ok")]
        # Both are paid: the one that was broken off by our estimate.
        costs = {
            row["key"]: row["cost_usd"] for row in (await s.costs("provider"))["rows"]
        }
        assert set(costs) == {"a", "b"}
        assert report.cost == sum(pico(cost) for cost in costs.values())


@HOWS
async def test_who_answers_in_time_is_asked_alone(autojump_clock, how) -> None:
    config = hedged("a", "b")
    async with running(config, a=slow("a", 0.9), b=slow("b", 0.0)) as (s, events):
        _, report = await ask(s, how)
        assert (report.provider, report.attempts) == ("a", 1)
        assert ends(events) == [("a", "ok")]


@HOWS
async def test_the_first_may_still_win(autojump_clock, how) -> None:
    config = hedged("a", "b")
    async with running(config, a=slow("a", 1.5), b=slow("b", 9.0)) as (s, events):
        _, report = await ask(s, how)
        assert report.provider == "a"
        assert await all_is_given_back(s)
        assert sorted(ends(events)) == [("a", "ok"), ("b", "cancelled")]


@HOWS
async def test_one_that_fails_leaves_it_to_the_other(autojump_clock, how) -> None:
    down = {1: ProviderError("down", provider="a", retryable=False)}
    first_fails = slow("a", 2.0, errors=down)
    async with running(hedged("a", "b"), a=first_fails, b=slow("b", 5.0)) as (
        s,
        events,
    ):
        _, report = await ask(s, how)
        assert report.provider == "b"
        assert ends(events) == [("a", "provider_error"), ("b", "ok")]
    second_fails = slow("b", 1.0, errors={1: ProviderError("down", provider="b")})
    async with running(hedged("a", "b"), a=slow("a", 5.0), b=second_fails) as (
        s,
        events,
    ):
        _, report = await ask(s, how)
        assert report.provider == "a"
        assert ends(events) == [("b", "provider_error"), ("a", "ok")]


@HOWS
async def test_when_both_fail_the_error_names_both(autojump_clock, how) -> None:
    config = hedged("a", "b", retry=RetryConfig(max_attempts=2))
    a = slow("a", 2.0, failure_rate=1.0)
    b = slow("b", 2.0, failure_rate=1.0)
    async with running(config, a=a, b=b) as (s, events):
        with pytest.raises(NoAvailableProvider) as caught:
            await ask(s, how)
        assert "a: provider_error: " in str(caught.value)
        assert "; b: provider_error: " in str(caught.value)
        assert len(ends(events)) == 2


@HOWS
async def test_a_request_that_is_itself_wrong_is_not_saved_by_asking_twice(
    autojump_clock, how
) -> None:
    wrong = slow("a", 0.5, errors={1: InvalidRequest("no", provider="a")})
    async with running(hedged("a", "b"), a=wrong, b=slow("b", 0.1)) as (s, events):
        with pytest.raises(InvalidRequest):
            await ask(s, how)
        assert ends(events) == [("a", "invalid_request")]


@HOWS
async def test_a_client_that_goes_away_leaves_nothing_behind(
    autojump_clock, how
) -> None:
    async with running(hedged("a", "b"), a=slow("a", 60.0), b=slow("b", 60.0)) as (
        s,
        events,
    ):
        with trio.move_on_after(5.0):
            await ask(s, how)
        assert await all_is_given_back(s)
        assert sorted(ends(events)) == [("a", "cancelled"), ("b", "cancelled")]


async def test_whoever_loses_is_broken_off_at_once_and_not_at_the_end_of_the_stream(
    autojump_clock,
) -> None:
    paced = slow("b", 1.0, chunk_interval=5.0)
    async with (
        running(hedged("a", "b"), a=slow("a", 60.0), b=paced) as (s, events),
        s.stream(WORDS) as answer,
    ):
        await anext(answer.batches)
        await trio.testing.wait_all_tasks_blocked()
        assert ends(events) == [("a", "cancelled")]


async def test_of_two_that_answer_at_the_same_moment_one_is_broken_off(
    autojump_clock,
) -> None:
    first = slow("a", 2.0, chunk_interval=5.0)
    second = slow("b", 1.0, chunk_interval=5.0)
    async with (
        running(hedged("a", "b"), a=first, b=second) as (s, events),
        s.stream(WORDS) as answer,
    ):
        await trio.testing.wait_all_tasks_blocked()
        (other,) = {"a", "b"} - {answer.report.provider}
        assert ends(events) == [(other, "cancelled")]
        texts = [text_of(batch) async for batch in answer.batches]
        assert "".join(texts) == "one two three four"


async def test_nobody_is_asked_twice_for_the_same_nor_where_it_would_have_to_wait(
    autojump_clock,
) -> None:
    alone = routed(mock_config("a"), hedge_after=1.0, fallbacks={"mock-1": ("mock-2",)})
    async with running(alone, a=slow("a", 5.0)) as (s, events):
        await ask(s, "whole")
        assert ends(events) == [("a", "ok")]
    full = hedged("a", "b", max_concurrency=1)
    async with running(full, a=slow("a", 5.0), b=slow("b", 60.0)) as (s, events):
        s.parts.board.providers["b"].turns[1] = 0.0  # somebody else's
        _, report = await ask(s, "whole")
        assert (report.provider, ends(events)) == ("a", [("a", "ok")])
        s.parts.board.providers["b"].turns.clear()


async def test_requests_asked_twice_are_a_share_of_all(autojump_clock) -> None:
    # Nobody answers in time, and still the second provider gets 10 a minute only.
    config = routed(mock_config("a", "b"), hedge_after=0.05)
    async with running(config, a=slow("a", 0.1), b=slow("b", 0.1)) as (s, events):
        for _ in range(100):
            await s.complete(WORDS)
        asked = [provider for provider, _ in ends(events)]
        assert asked.count("a") == 100
        assert asked.count("b") == 10


async def test_asking_twice_stays_within_the_callers_limit(autojump_clock) -> None:
    a, b = slow("a", 5.0), slow("b", 0.1)
    async with running(hedged("a", "b"), a=a, b=b) as (s, _):
        guarded = s.parts.providers["a"]
        worst = worst_cost(guarded.provider, WORDS)
        assert worst is not None
        _, report = await ask(s, "whole", CallOptions(max_cost=2 * worst - 1))
        assert report.provider == "a", "the limit allows for one of them only"
        _, report = await ask(s, "whole", CallOptions(max_cost=2 * worst))
        assert report.provider == "b"


async def test_asking_twice_stays_within_the_budgets(autojump_clock) -> None:
    config = attrs.evolve(
        hedged("a", "b"),
        budgets={"all": BudgetConfig(limit_usd="0.0001", window="total")},
    )
    async with running(config, a=slow("a", 5.0), b=slow("b", 0.1)) as (s, events):
        _, report = await ask(s, "whole")
        assert report.provider == "a"
        assert ends(events) == [("a", "ok")]


async def test_a_bug_in_the_second_harms_neither_the_first_nor_its_type(
    autojump_clock, monkeypatch
) -> None:
    b = slow("b", 0.1)

    async def broken(request):
        raise ZeroDivisionError

    monkeypatch.setattr(b, "complete", broken)
    async with running(hedged("a", "b"), a=slow("a", 3.0), b=b) as (s, events):
        _, report = await ask(s, "whole")
        assert report.provider == "a"
        assert ends(events) == [("b", "internal_error"), ("a", "ok")]
    down = slow("a", 3.0, errors={1: ProviderError("down", provider="a")})
    config = hedged("a", "b", retry=RetryConfig(max_attempts=2))
    async with running(config, a=down, b=b) as (s, _):
        with pytest.raises(ZeroDivisionError):
            await ask(s, "whole")


async def test_a_probe_is_not_broken_off_by_a_quicker_one(autojump_clock) -> None:
    async with running(hedged("a", "b"), a=slow("a", 3.0), b=slow("b", 0.1)) as (s, _):
        s.parts.board.providers["a"].breaker = Open(0, trio.current_time())
        await s.restart_actor("providers/a/circuit_breaker")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            _, report = await ask(s, "whole")
            assert (report.provider, report.attempts) == ("a", 1)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(s.parts.board.providers["a"].breaker, Closed)


async def test_a_picture_is_made_once_however_long_it_takes(autojump_clock) -> None:
    async with running(hedged("a", "b"), a=slow("a", 9.0), b=slow("b", 0.1)) as (
        s,
        events,
    ):
        request = ImageRequest(model="mock-1", prompt="a duck")
        assert (await s.generate_images(request)).report.provider == "a"
        assert ends(events) == [("a", "ok")]


async def test_another_model_is_no_second_provider(autojump_clock) -> None:
    config = routed(
        mock_config("a", "b"), hedge_after=1.0, fallbacks={"mock-1": ("other",)}
    )
    a, b = slow("a", 3.0), MockProvider("b", models=("other",))
    async with running(config, a=a, b=b) as (s, events):
        assert (await s.complete(WORDS)).report.provider == "a"
        assert ends(events) == [("a", "ok")]


async def test_nothing_is_spent_on_a_second_that_would_be_refused(
    autojump_clock,
) -> None:
    async with running(hedged("a", "b"), a=slow("a", 3.0), b=slow("b", 0.1)) as (s, _):
        its = s.parts.board.providers["b"]
        budget = its.retry_budget
        its.breaker = Open(0, trio.current_time() + 1000)
        await ask(s, "whole")
        assert its.retry_budget == budget


async def test_a_single_attempt_is_a_single_one(autojump_clock) -> None:
    config = hedged("a", "b", retry=RetryConfig(max_attempts=1))
    async with running(config, a=slow("a", 3.0), b=slow("b", 0.1)) as (s, events):
        await ask(s, "whole")
        assert ends(events) == [("a", "ok")]


async def test_it_is_told_that_a_request_was_asked_twice(autojump_clock) -> None:
    async with running(hedged("a", "b"), a=slow("a", 9.0), b=slow("b", 0.1)) as (
        s,
        events,
    ):
        await ask(s, "whole")
        whys = [e.why for e in events if isinstance(e, AttemptEnded)]
        assert "asked as well: a is silent; priority 2, " in " ".join(whys)


# The commit window.


def held(seconds: float, *names: str) -> Config:
    return routed(mock_config(*names), commit_window=seconds)


def cut(name: str, after: int, interval: float = 0.1) -> MockProvider:
    return MockProvider(name, MockScript(cut_after=after, chunk_interval=interval))


async def test_a_stream_that_fails_at_its_beginning_is_taken_over_unseen(
    autojump_clock,
) -> None:
    config = held(1.0, "cut", "good")
    async with running(config, cut=cut("cut", 2), good=MockProvider("good")) as (s, ev):
        text, report = await ask(s, "stream")
        assert text == "one two three four", "and nothing comes twice"
        assert (report.provider, report.attempts) == ("good", 2)
        assert ends(ev) == [("cut", "bad_provider_response"), ("good", "ok")]
        assert await all_is_given_back(s)


async def test_a_stream_that_fails_later_is_an_error_and_never_repeated(
    autojump_clock,
) -> None:
    config = held(0.15, "cut", "good")
    async with running(config, cut=cut("cut", 3), good=MockProvider("good")) as (s, ev):
        text = ""
        with pytest.raises(BadProviderResponse):
            async with s.stream(WORDS) as answer:
                async for batch in answer.batches:
                    text += text_of(batch)
        assert text == "one two three "
        assert ends(ev) == [("cut", "bad_provider_response")]


async def test_the_beginning_is_held_back_no_longer_than_that(autojump_clock) -> None:
    paced = MockProvider("a", MockScript(chunk_interval=1.0))
    async with running(held(0.3, "a"), a=paced) as (s, _):
        began = trio.current_time()
        async with s.stream(WORDS) as answer:
            async for batch in answer.batches:
                if text_of(batch):
                    break
            assert trio.current_time() - began == pytest.approx(0.3)
        assert await all_is_given_back(s)


async def test_an_error_in_the_readers_own_block_comes_out_as_it_is(
    autojump_clock,
) -> None:
    async with running(held(0.3, "a"), a=slow("a", 0.1)) as (s, _):
        with pytest.raises(ZeroDivisionError):
            async with s.stream(WORDS):
                raise ZeroDivisionError
        with pytest.raises(DuckError):
            async with s.stream(WORDS):
                raise ProviderError("mine")
        assert await all_is_given_back(s)


async def test_what_was_found_to_fit_is_looked_at_again_before_it_is_sent(
    autojump_clock,
) -> None:
    async with running(hedged("a", "b"), a=slow("a", 1.0), b=slow("b", 1.0)) as (s, _):
        a, b = s.parts.providers.values()
        worst = worst_cost(a.provider, WORDS)
        assert worst is not None
        options = CallOptions(max_cost=2 * worst - 1)
        call = Call(options, CallReport(job="j", request_id="r"))
        first = AttemptMoney.set_aside(s.parts, call, a, WORDS)
        with pytest.raises(BudgetExceeded) as caught:
            AttemptMoney.set_aside(s.parts, call, b, WORDS)
        assert caught.value.provider == "b", "a cheaper one may fit"
        first.release()
        AttemptMoney.set_aside(s.parts, call, b, WORDS)
