"""What the cache promises to those who ask: hits, misses, and what is never kept."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.cache.recording import TIDY_AFTER, Recorder
from duckservice.calls.call import CallOptions, Submitter
from duckservice.completion import (
    EmbeddingRequest,
    ImageRequest,
    ReasoningPart,
    TextDelta,
    UsageReport,
)
from duckservice.config import BudgetConfig, CacheConfig
from duckservice.core.job import Submission
from duckservice.errors import (
    BadProviderResponse,
    DeadlineExceeded,
    Draining,
    ProviderError,
)
from duckservice.events import RequestStarted
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockReply, MockScript

from .conftest import chat, mock_config, running

FAILS = MockScript(failure_rate=1.0)
OFF = CallOptions(cache="off")
REFRESH = CallOptions(cache="refresh")


def cached(*names: str, cache=None, **more):
    its = {"enabled": True, "ttl": 60.0} | (cache or {})
    return attrs.evolve(mock_config(*names or ("a",), **more), cache=CacheConfig(**its))


def numbered(count: int = 9) -> MockProvider:
    """Each call has another answer, so that a kept one shows."""
    replies = tuple(MockReply(text=f"answer {n}") for n in range(1, count + 1))
    return MockProvider("a", MockScript(replies=replies))


class Thinking(MockProvider):
    """Its whole replies have thoughts that are encrypted: no stream of ours has them."""

    async def complete(self, request):
        reply = await super().complete(request)
        thought = ReasoningPart(redacted="c2VjcmV0")
        choices = tuple(
            attrs.evolve(choice, parts=(thought, *choice.parts))
            for choice in reply.choices
        )
        return attrs.evolve(reply, choices=choices)


async def streamed(service, request, options=None):
    text, usage = "", None
    async with service.stream(request, options) as answer:
        async for batch in answer.batches:
            for chunk in batch:
                if isinstance(chunk, TextDelta):
                    text += chunk.text
                elif isinstance(chunk, UsageReport):
                    usage = chunk.usage
    return text, usage, answer.report


async def told(service, request, options=None) -> str:
    return (await service.complete(request, options)).value.text


async def test_an_equal_request_is_answered_without_asking_anybody(
    autojump_clock,
) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        first = await service.complete(chat())
        second = await service.complete(chat())
        assert second.value == first.value
        assert (first.report.cache, second.report.cache) == ("miss", "hit")
        assert service.cache_status()["hits"] == 1
        rows = (await service.costs("total"))["total"]
        assert rows["requests"] == 1


async def test_a_hit_costs_nothing_and_names_who_answered_first(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        first = await service.complete(chat())
        assert first.report.cost > 0
        report = (await service.complete(chat())).report
        assert (report.provider, report.model) == ("a", "mock-1")
        assert (report.cost, report.attempts, report.queued) == (0, 0, 0.0)
        assert report.job != first.report.job
        assert service.counters.completed == 2


async def test_a_stream_replays_as_a_stream_with_its_usage(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        first = await streamed(service, chat())
        second = await streamed(service, chat())
        assert first[0] == second[0] == "answer 1"
        assert first[1] == second[1] is not None
        assert (first[2].cache, second[2].cache) == ("miss", "hit")
        assert (second[2].cost, second[2].attempts) == (0, 0)


async def test_a_whole_reply_serves_a_stream_and_a_stream_a_whole_reply(
    autojump_clock,
) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        whole = await service.complete(chat("x"))
        text, usage, report = await streamed(service, chat("x"))
        assert (text, usage, report.cache) == ("answer 1", whole.value.usage, "hit")
        text, usage, _report = await streamed(service, chat("y"))
        whole = await service.complete(chat("y"))
        assert (whole.value.text, whole.value.usage) == (text, usage)
        assert whole.report.cache == "hit"


async def test_embeddings_are_kept_too_and_pictures_never(autojump_clock) -> None:
    async with running(cached(), a=MockProvider("a")) as (service, _):
        request = EmbeddingRequest(model="mock-1", input=("x", "y"))
        first = await service.embed(request)
        second = await service.embed(request)
        assert second.value == first.value
        assert second.report.cache == "hit"
        picture = ImageRequest(model="mock-1", prompt="a duck")
        for _ in range(2):
            answer = await service.generate_images(picture)
            assert (answer.report.attempts, answer.report.cache) == (1, None)


async def test_any_other_request_is_a_miss(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        for number, request in enumerate(
            [chat("x"), chat("y"), chat("x", seed=1), chat("x", model="mock-2")], 1
        ):
            assert await told(service, request) == f"answer {number}"


async def test_who_asks_with_which_tags_and_priority_does_not_matter(
    autojump_clock,
) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        await service.complete(chat())
        options = CallOptions(
            priority="low",
            tags={"team": "core"},
            submitter=Submitter(uid=1, gid=1, pid=1),
            max_cost=0,
        )
        assert await told(service, chat(), options) == "answer 1"


async def test_a_reply_is_kept_for_the_configured_time_and_no_longer(
    autojump_clock,
) -> None:
    async with running(cached(cache={"ttl": 60.0}), a=numbered()) as (service, _):
        await service.complete(chat())
        await trio.sleep(59.9)
        assert await told(service, chat()) == "answer 1"
        await trio.sleep(0.1)
        assert await told(service, chat()) == "answer 2"


async def test_only_so_many_replies_are_kept(autojump_clock) -> None:
    config = cached(cache={"max_entries": 2})
    async with running(config, a=numbered()) as (service, _):
        for text in "xyz":
            await service.complete(chat(text))
        assert service.cache_status()["entries"] == 2
        assert await told(service, chat("z")) == "answer 3"
        assert await told(service, chat("x")) == "answer 4"


async def test_off_neither_reads_nor_writes(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        first = await service.complete(chat(), OFF)
        assert first.report.cache is None
        assert await told(service, chat()) == "answer 2"
        assert await told(service, chat(), OFF) == "answer 3"
        text, _usage, report = await streamed(service, chat(), OFF)
        assert (text, report.cache) == ("answer 4", None)
        assert await told(service, chat()) == "answer 2"


async def test_refresh_asks_anew_and_replaces(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        await service.complete(chat())
        answer = await service.complete(chat(), REFRESH)
        assert (answer.value.text, answer.report.cache) == ("answer 2", "miss")
        assert await told(service, chat()) == "answer 2"
        await streamed(service, chat(), REFRESH)
        assert await told(service, chat()) == "answer 3"


async def test_a_refresh_that_fails_leaves_the_reply_that_was_there(
    autojump_clock,
) -> None:
    failing = {2: ProviderError("broken", retryable=False)}
    provider = MockProvider("a", MockScript(errors=failing))
    async with running(cached(), a=provider) as (service, _):
        await service.complete(chat())
        with pytest.raises(ProviderError):
            await service.complete(chat(), REFRESH)
        assert (await service.complete(chat())).report.cache == "hit"


async def test_an_error_is_never_kept(autojump_clock) -> None:
    failing = {1: ProviderError("broken", retryable=False)}
    provider = MockProvider("a", MockScript(errors=failing))
    async with running(cached(), a=provider) as (service, _):
        with pytest.raises(ProviderError):
            await service.complete(chat())
        assert (await service.complete(chat())).report.cache == "miss"


async def test_a_stream_that_breaks_off_is_never_kept(autojump_clock) -> None:
    provider = MockProvider("a", MockScript(cut_after=2))
    async with running(cached(), a=provider) as (service, _):
        for _ in range(2):
            with pytest.raises(BadProviderResponse):
                await streamed(service, chat("one two three four"))
        assert service.cache_status()["entries"] == 0
        assert service.cache_status()["misses"] == 2


async def test_a_stream_that_its_client_leaves_is_never_kept(autojump_clock) -> None:
    async with running(cached(), a=MockProvider("a")) as (service, _):
        async with service.stream(chat("one two three")) as answer:
            await anext(answer.batches)
            await anext(answer.batches)
        assert service.cache_status()["entries"] == 0
        text, _usage, report = await streamed(service, chat("one two three"))
        assert (text, report.cache) == ("one two three", "miss")


async def test_what_a_content_filter_broke_off_is_never_kept(autojump_clock) -> None:
    reply = MockReply(text="half a", finish_reason="content_filter")
    provider = MockProvider("a", MockScript(replies=(reply,) * 4))
    async with running(cached(), a=provider) as (service, _):
        for _ in range(2):
            assert (await service.complete(chat())).report.cache == "miss"
            assert (await streamed(service, chat()))[2].cache == "miss"


async def test_a_reply_that_is_larger_than_the_cache_is_not_kept(
    autojump_clock,
) -> None:
    config = cached(cache={"max_bytes": 20_000})
    async with running(config, a=MockProvider("a")) as (service, _):
        long = chat("quack " * 5_000)
        for _ in range(2):
            assert (await streamed(service, long))[2].cache == "miss"
            assert (await service.complete(long)).report.cache == "miss"
        assert service.cache_status()["entries"] == 0


async def test_a_reply_that_a_stream_has_no_words_for_is_asked_for_anew(
    autojump_clock,
) -> None:
    async with running(cached(), a=Thinking("a")) as (service, _):
        first = await service.complete(chat())
        second = await service.complete(chat())
        assert second.report.cache == "hit"
        assert second.value == first.value, "whole, it is given with all that it says"
        assert (await streamed(service, chat()))[2].cache == "miss"
        # What came last is kept, in its own form.
        assert (await streamed(service, chat()))[2].cache == "hit"


async def test_a_jobs_answer_is_always_asked_for(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        assert await told(service, chat()) == "answer 1"
        body = b'{"model":"mock-1","messages":[{"role":"user","content":"hello"}]}'
        submission = Submission(kind="chat", model="mock-1", request=body)
        job = (await service.jobs.submit(submission)).job
        await service.jobs.wait(job.id, 10.0)
        assert b"answer 2" in await service.jobs.result(job.id)
        assert await told(service, chat()) == "answer 1"


async def test_a_hit_needs_no_provider(autojump_clock) -> None:
    provider = numbered()
    async with running(cached(), a=provider) as (service, _):
        await service.complete(chat())
        await service.provider_action("a", "disable")
        assert await told(service, chat()) == "answer 1"


async def test_a_hit_is_refused_while_draining_as_any_request(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        await service.complete(chat())
        service.drain()
        with pytest.raises(Draining):
            await service.complete(chat())


async def test_a_hit_after_its_deadline_is_no_answer(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        await service.complete(chat())
        late = CallOptions(deadline=trio.current_time() - 1)
        with pytest.raises(DeadlineExceeded):
            await service.complete(chat(), late)
        with pytest.raises(DeadlineExceeded):
            await streamed(service, chat(), late)


async def test_a_hit_takes_nothing_from_a_budget(autojump_clock) -> None:
    config = attrs.evolve(
        cached(), budgets={"all": BudgetConfig(limit_usd="1", window="day")}
    )
    async with running(config, a=numbered()) as (service, _):
        await service.complete(chat(max_tokens=10))
        (before,) = service.budgets()
        await service.complete(chat(max_tokens=10))
        assert service.budgets() == [before]
        assert before["spent_usd"] != "0"


async def test_without_a_cache_nothing_is_said_of_one(autojump_clock) -> None:
    async with running(mock_config("a"), a=numbered()) as (service, _):
        for _ in range(2):
            assert (await service.complete(chat())).report.cache is None
        assert service.cache_status() is None
        assert (await service.status())["cache"] is None


async def test_the_status_counts(autojump_clock) -> None:
    async with running(cached(), a=numbered()) as (service, _):
        for text in "xxyx":
            await service.complete(chat(text))
        status = (await service.status())["cache"]
        assert status.pop("bytes") > 0
        assert status == {"entries": 2, "hits": 2, "misses": 2, "coalesced": 0}
        counters = service.counters
        assert (counters.total, counters.completed, counters.in_flight) == (4, 4, 0)


def nested(depth: int) -> list:
    value = []
    for _ in range(depth):
        value = [value]
    return value


class Deep(MockProvider):
    """Its whole replies have an `extra` that nests deeply."""

    depth = 0

    async def complete(self, request):
        reply = await super().complete(request)
        extra = {"logprobs": nested(self.depth)}
        choices = tuple(attrs.evolve(its, extra=extra) for its in reply.choices)
        return attrs.evolve(reply, choices=choices)


@pytest.mark.parametrize("depth", [600, 5000])
@pytest.mark.parametrize("coalesce", [False, True])
async def test_a_reply_however_deep_is_a_reply(autojump_clock, depth, coalesce) -> None:
    provider = Deep("a")
    provider.depth = depth
    config = cached(cache={"coalesce": coalesce})
    async with running(config, a=provider) as (service, _):
        for _ in range(2):
            assert await told(service, chat()) == "hello"
        text, _, _ = await streamed(service, chat())
        assert text == "hello"


def test_a_stream_however_deep_is_recorded() -> None:
    recorder = Recorder(1 << 30)
    deep = TextDelta(text="q", extra={"logprobs": nested(5000)})
    recorder.add([deep] * TIDY_AFTER)
    assert len(recorder.chunks()) == TIDY_AFTER


async def test_events_name_the_model_of_what_came_from_the_cache(
    autojump_clock,
) -> None:
    async with running(cached("a"), a=MockProvider("a")) as (s, events):
        await s.complete(chat())
        await s.complete(chat())
        begun = [event for event in events if isinstance(event, RequestStarted)]
        assert [event.model for event in begun] == ["mock-1", "mock-1"]
