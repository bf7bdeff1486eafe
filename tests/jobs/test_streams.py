"""The streams of jobs: recorded in batches, resumed exactly, never a brake."""

from __future__ import annotations

import json
from contextlib import aclosing, suppress

import attrs
import trio

from duckservice.errors import BadProviderResponse
from duckservice.jobs.jobs import JobEnded
from duckservice.providers.mock_script import MockScript
from duckservice.store.base import Delta
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import mock_config

WORDS = "one two three four five six seven eight nine ten"
TALKING = MockScript(chunk_interval=0.2)


def text_of(events) -> str:
    said = ""
    for event in events:
        if isinstance(event, Delta):
            for choice in json.loads(event.data)["choices"]:
                said += choice["delta"].get("content") or ""
    return said


async def test_a_reader_gets_all_and_then_the_end(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a", TALKING)) as (service, _):
        id_ = (await service.jobs.submit(job(WORDS, stream=True))).job.id
        events = [event async for event in service.jobs.follow(id_)]
        assert text_of(events) == WORDS
        assert isinstance(events[-1], JobEnded)
        assert events[-1].job.state == "completed"
        ids = [event.id for event in events[:-1]]
        assert ids == sorted(set(ids))
        body = json.loads(await service.jobs.result(id_))
        assert body["choices"][0]["message"]["content"] == WORDS
        assert body["usage"]["completion_tokens"] > 0


async def test_a_reader_resumes_where_it_stopped(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a", TALKING)) as (service, _):
        id_ = (await service.jobs.submit(job(WORDS, stream=True))).job.id
        reader = service.jobs.follow(id_)
        first = [await anext(reader) for _ in range(4)]
        rest = [e async for e in service.jobs.follow(id_, after=first[-1].id)]
        assert text_of(first + rest) == WORDS
        again = [e async for e in service.jobs.follow(id_, after=first[-1].id)]
        assert again == rest


async def test_deltas_come_while_the_job_runs(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a", TALKING)) as (service, _):
        id_ = (await service.jobs.submit(job(WORDS, stream=True))).job.id
        async for event in service.jobs.follow(id_):
            if "three" in text_of([event]):
                break
        assert trio.current_time() < 0.6


async def test_pieces_that_arrive_together_are_recorded_together(
    autojump_clock,
) -> None:
    fast = MockScript(chunk_interval=0.001)
    async with running(mock_config("a"), a=mock("a", fast)) as (service, _):
        commits = 0
        store = service.jobs.store._opened
        append = store.append_deltas

        async def counted(*args):
            nonlocal commits
            commits += 1
            return await append(*args)

        store.append_deltas = counted
        text = " ".join(str(n) for n in range(500))
        id_ = (await service.jobs.submit(job(text, stream=True))).job.id
        events = [event async for event in service.jobs.follow(id_)]
        assert text_of(events) == text
        assert commits <= 12


async def test_a_reader_that_never_reads_slows_nobody(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a", TALKING)) as (service, _):
        id_ = (await service.jobs.submit(job(WORDS, stream=True))).job.id
        reader = service.jobs.follow(id_)
        await anext(reader)
        done = (await service.jobs.wait(id_)).job
        assert done.finished_at - done.started_at < 0.2 * 10
        assert len([event async for event in reader]) > 5


async def test_a_job_that_was_not_asked_to_stream_has_its_reply_as_one(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job(WORDS))).job.id
        assert text_of([e async for e in service.jobs.follow(id_)]) == WORDS


async def until_torn(stream):
    pieces = []
    with suppress(BadProviderResponse):
        async for piece in stream:
            pieces.append(piece)  # noqa: PERF401 - those before the end are wanted
    return pieces


async def test_a_torn_stream_is_begun_anew_under_another_attempt(
    autojump_clock,
) -> None:
    provider = mock("a", MockScript(chunk_interval=0.1))
    batches = provider._batches

    async def torn_once(answer):
        provider._batches = batches
        answer = attrs.evolve(answer, script=MockScript(cut_after=3))
        async with aclosing(batches(answer)) as whole:
            pieces = await until_torn(whole)
        for piece in pieces:
            await trio.sleep(0.1)
            yield piece
        msg = "torn"
        raise BadProviderResponse(msg, provider="a")

    provider._batches = torn_once
    async with running(mock_config("a"), a=provider) as (service, _):
        id_ = (await service.jobs.submit(job(WORDS, stream=True))).job.id
        events = [event async for event in service.jobs.follow(id_)]
        deltas = [event for event in events if isinstance(event, Delta)]
        attempts = [a.id for a in await service.jobs.attempts(id_)]
        said = [text_of([d for d in deltas if d.attempt == a]) for a in attempts]
        assert said == ["one two three ", WORDS]
