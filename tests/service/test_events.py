"""What a running service tells of its requests, jobs, queue and actors."""

from __future__ import annotations

import pytest
import trio

from duckservice.calls.call import CallOptions, Submitter
from duckservice.errors import DuckError, InvalidRequest
from duckservice.event_stream.as_json import encode, fields_of
from duckservice.providers.mock_script import MockScript
from duckservice.running import open_running
from duckservice.tree import Seams
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import chat, mock_config
from tests.service.test_cache import cached

SECRET_WORDS = "the drake flies at midnight"


@pytest.fixture
def told():
    return lambda reader: [
        (its.word, fields_of(its.word, its.event)) for its in _all(reader)
    ]


def _all(reader):
    items = []
    while some := reader.read_nowait():
        items += some
    return items


async def test_a_request_is_told_from_its_beginning_to_its_end(
    autojump_clock, told
) -> None:
    script = MockScript(latency=2.0)
    async with running(mock_config("a"), a=mock("a", script)) as (service, _):
        reader = service.events.follow()
        by = Submitter(uid=7, gid=7, pid=1)
        options = CallOptions(request_id="r1", priority="high", submitter=by)
        answer = await service.complete(chat("hi"), options)
        events = told(reader)
        assert [word for word, _ in events] == [
            "request.start", "attempt", "cost", "request.stop",
        ]  # fmt: skip
        assert {fields["job"] for _, fields in events} == {answer.report.job}
        (_, start), (_, attempt), _, (_, stop) = events
        assert (start["model"], start["operation"]) == ("mock-1", "chat")
        assert (start["priority"], start["submitter_uid"]) == ("high", 7)
        assert attempt["provider"] == "a"
        assert (stop["outcome"], stop["provider"]) == ("ok", "a")
        assert stop["duration_ms"] == pytest.approx(2000.0)
        assert stop["cost_usd"] is not None


async def test_a_failure_is_an_exception_with_its_code(autojump_clock, told) -> None:
    wrong = MockScript(errors={1: InvalidRequest("no ducks", provider="a")})
    async with running(mock_config("a"), a=mock("a", wrong)) as (service, _):
        reader = service.events.follow(words={"request.exception", "request.stop"})
        with pytest.raises(DuckError):
            await service.complete(chat("hi"))
        [(word, fields)] = told(reader)
        assert (word, fields["outcome"]) == ("request.exception", "invalid_request")


async def test_a_request_that_nobody_waits_for_is_cancelled_and_no_exception(
    autojump_clock, told
) -> None:
    slow = mock("a", MockScript(latency=60))
    async with running(mock_config("a"), a=slow) as (service, _):
        reader = service.events.follow()
        with trio.move_on_after(1):
            await service.complete(chat("hi"))
        word, fields = told(reader)[-1]
        assert (word, fields["outcome"]) == ("request.stop", "cancelled")


async def test_requests_that_share_a_call_have_a_story_each(
    autojump_clock, told
) -> None:
    slow = mock("a", MockScript(latency=1))
    async with running(cached(cache={"coalesce": True}), a=slow) as (service, _):
        reader = service.events.follow()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(service.complete, chat("hi"))
        words = [word for word, _ in told(reader)]
        assert words.count("request.start") == words.count("request.stop") == 3
        assert words.count("attempt") == 1


async def test_a_job_is_told_state_by_state(autojump_clock, told) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        reader = service.events.follow(words={"job"})
        submitted = await service.jobs.submit(job("hi", not_before=30))
        await service.jobs.wait(submitted.job.id)
        moves = [fields for _, fields in told(reader)]
        states = [its["state"] for its in moves]
        assert states == ["scheduled", "executing", "completed"]
        assert {its["job"] for its in moves} == {submitted.job.id}
        assert moves[1]["waited_ms"] is not None
        assert moves[-1]["attempt"] == 1


@pytest.mark.parametrize(
    ("action", "state"), [("cancel", "cancelled"), ("hold", "suspended")]
)
async def test_what_a_client_does_to_a_job_is_told(
    autojump_clock, told, action, state
) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        its = (await service.jobs.submit(job("hi", not_before=99))).job
        reader = service.events.follow(words={"job"})
        await service.jobs.patch(its.id, priority="low")
        await getattr(service.jobs, action)(its.id)
        [(_, fields)] = told(reader)
        assert (fields["job"], fields["state"]) == (its.id, state)


async def test_a_job_that_expires_is_told(autojump_clock, told) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        its = (await service.jobs.submit(job("hi", hold=True, deadline=30))).job
        reader = service.events.follow(words={"job"})
        await service.jobs.wait(its.id)
        [(_, fields)] = told(reader)
        assert (fields["job"], fields["state"]) == (its.id, "expired")


async def test_a_job_that_fails_is_told_with_its_code(autojump_clock, told) -> None:
    wrong = MockScript(errors={1: InvalidRequest("no ducks", provider="a")})
    async with running(mock_config("a"), a=mock("a", wrong)) as (service, _):
        reader = service.events.follow(words={"job"})
        submitted = await service.jobs.submit(job("hi"))
        await service.jobs.wait(submitted.job.id)
        _, last = told(reader)[-1]
        assert (last["state"], last["error"]) == ("discarded", "invalid_request")


async def test_pausing_and_resuming_the_queue_is_told(autojump_clock, told) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        reader = service.events.follow()
        await service.pause_queue(paused=True)
        await service.pause_queue(paused=False)
        assert [word for word, _ in told(reader)] == ["queue.pause", "queue.resume"]


async def test_a_crash_and_its_restart_are_told(autojump_clock, told) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        reader = service.events.follow()
        await service.restart_actor("cost_tracker")
        await trio.sleep(1)
        (one, crash), (other, start) = told(reader)
        assert (one, other) == ("restart", "restart")
        assert crash["actor"] == start["actor"] == "cost_tracker"
        assert (crash["what"], crash["reason"]) == ("crashed", "RestartRequested")
        assert (start["what"], start["incarnation"]) == ("started", 2)


async def test_no_word_of_a_prompt_or_a_reply_is_told(autojump_clock) -> None:
    wrong = InvalidRequest(SECRET_WORDS, provider="a")
    wrong.quotes_provider = True
    script = MockScript(errors={2: wrong})
    async with running(mock_config("a"), a=mock("a", script)) as (service, _):
        reader = service.events.follow()
        await service.complete(chat(SECRET_WORDS))
        with pytest.raises(DuckError):
            await service.complete(chat(SECRET_WORDS))
        submitted = await service.jobs.submit(job(SECRET_WORDS, stream=True))
        await service.jobs.wait(submitted.job.id)
        lines = [
            encode(its.word, its.at, fields_of(its.word, its.event))
            for its in _all(reader)
        ]
        assert len(lines) > 10
        for word in SECRET_WORDS.split():
            if len(word) > 3:
                assert word.encode() not in b"".join(lines)


async def test_a_failing_log_hides_no_event(autojump_clock, told, monkeypatch) -> None:
    def fail(_):
        raise OSError("the disk is full")

    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    seams, providers = Seams(emit=fail), {"a": mock("a")}
    async with open_running(
        mock_config("a"), providers=providers, seams=seams
    ) as service:
        reader = service.events.follow()
        await service.complete(chat("hi"))
        assert len(told(reader)) == 4
