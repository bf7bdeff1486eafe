"""GET /v1/jobs/{id}/stream: every delta once, in order, and then the end."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import trio
import trio.testing

from duckservice.errors import InvalidRequest
from duckservice.gateway.app import make_app
from duckservice.gateway.app.job_stream import HEARTBEAT, PARTING, JobStream
from duckservice.gateway.client import FOLLOW_SILENCE
from duckservice.jobs import jobs
from duckservice.providers.mock_script import MockScript
from tests.gateway.fake_service import OWNER
from tests.gateway.job_service import NEVER, BrokenStore, job_app, submission
from tests.gateway.serving import serving
from tests.jobs.conftest import job as a_job, wall_clock

WORDS = "one two three four five six seven eight"
TALKING = MockScript(chunk_interval=0.2)


class Event(NamedTuple):
    id: int
    name: str
    data: dict


def events_of(body: bytes) -> list[Event]:
    events = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if "event" in fields:
            data = json.loads(fields["data"])
            events.append(Event(int(fields["id"]), fields["event"], data))
    return events


def text_of(events) -> str:
    deltas = [event.data for event in events if event.name == "delta"]
    return "".join(
        choice["delta"].get("content") or ""
        for delta in deltas
        for choice in delta["choices"]
    )


async def submitted(ask, *args, **more) -> str:
    reply = await ask("POST", "/v1/jobs", submission(*args, **more))
    return reply.headers["location"]


async def test_the_deltas_have_increasing_ids_and_done_has_usage_and_cost(
    autojump_clock,
) -> None:
    async with job_app(TALKING) as (_, ask):
        path = await submitted(ask, WORDS, stream=True)
        reply = await ask("GET", f"{path}/stream")
        assert reply.headers["content-type"].startswith("text/event-stream")
        *deltas, done = events_of(reply.body)
        ids = [delta.id for delta in deltas]
        assert len(ids) > 5
        assert ids == sorted(set(ids))
        assert {delta.name for delta in deltas} == {"delta"}
        assert text_of(deltas) == WORDS
        job = (await ask("GET", path)).json()
        assert (done.name, done.data) == ("done", job)
        assert job["usage"]["completion_tokens"] > 0
        assert float(job["cost_usd"]) > 0
        assert {delta.data["attempt"] for delta in deltas} == {f"{job['id']}.1"}


async def test_whoever_comes_back_gets_exactly_what_is_missing(autojump_clock) -> None:
    async with job_app(TALKING) as (_, ask):
        path = await submitted(ask, WORDS, stream=True)
        whole = events_of((await ask("GET", f"{path}/stream")).body)
        for seen in range(len(whole)):
            last = str(whole[seen - 1].id) if seen else ""
            reply = await ask(
                "GET", f"{path}/stream", headers=[("Last-Event-ID", last)]
            )
            assert events_of(reply.body) == whole[seen:]


async def test_readers_come_and_go_while_the_job_runs(autojump_clock) -> None:
    async with job_app(TALKING) as (_, ask):
        path = await submitted(ask, WORDS, stream=True)
        bodies = {}

        async def read(delay):
            await trio.sleep(delay)
            bodies[delay] = (await ask("GET", f"{path}/stream")).body

        async with trio.open_nursery() as nursery:
            for delay in (0.0, 0.3, 0.9, 60.0):
                nursery.start_soon(read, delay)
        assert {text_of(events_of(body)) for body in bodies.values()} == {WORDS}


async def test_who_comes_back_with_an_id_beyond_the_end_is_told_the_real_last_one(
    autojump_clock,
) -> None:
    async with job_app(TALKING) as (_, ask):
        path = await submitted(ask, WORDS, stream=True)
        beyond = [("Last-Event-ID", "999")]
        early = events_of((await ask("GET", f"{path}/stream", headers=beyond)).body)
        *_, done = events_of((await ask("GET", f"{path}/stream")).body)
        assert done.id < 999
        late = events_of((await ask("GET", f"{path}/stream", headers=beyond)).body)
        assert early == late == [done]


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 40])
async def test_an_id_that_is_none_is_refused(autojump_clock, value) -> None:
    async with job_app() as (_, ask):
        path = await submitted(ask, **NEVER)
        headers = [("Last-Event-ID", value)]
        reply = await ask("GET", f"{path}/stream", headers=headers)
        assert reply.status == 400
        assert "Last-Event-ID" in reply.json()["error"]["message"]


async def test_a_job_that_comes_to_nothing_ends_its_stream_with_the_reason(
    autojump_clock,
) -> None:
    wrong = MockScript(errors={1: InvalidRequest("no ducks", provider="a")})
    async with job_app(wrong) as (_, ask):
        path = await submitted(ask)
        [event] = events_of((await ask("GET", f"{path}/stream")).body)
        job = (await ask("GET", path)).json()
        assert job["state"] == "discarded"
        assert event.name == "error"
        assert event.data["error"]["code"] == "invalid_request"
        assert "no ducks" in event.data["error"]["message"]
        assert event.data["error"]["job"] == job["id"]
        assert event.data["job"] == job


@pytest.mark.parametrize(
    ("more", "code"), [({}, "cancelled"), ({"deadline": 30}, "deadline_exceeded")]
)
async def test_a_job_that_is_given_up_ends_the_streams_of_its_readers(
    autojump_clock, more, code
) -> None:
    async with job_app() as (_, ask):
        path = await submitted(ask, **NEVER, **more)
        ends = []

        async def read():
            reply = await ask("GET", f"{path}/stream")
            ends.append(events_of(reply.body)[-1])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(60)
            if not more:
                await ask("POST", f"{path}/cancel")
        assert ends[0].name == "error"
        assert ends[0].data["error"]["code"] == code


async def test_a_silent_stream_shows_that_it_is_alive(autojump_clock) -> None:
    async with job_app(MockScript(latency=4.5 * HEARTBEAT)) as (_, ask):
        path = await submitted(ask)
        reply = await ask("GET", f"{path}/stream")
        comments = [piece for piece in reply.pieces if piece.startswith(b":")]
        assert len(comments) == 4
        assert FOLLOW_SILENCE > 2 * HEARTBEAT
        assert events_of(reply.body)[-1].name == "done"


async def test_a_daemon_that_drains_ends_the_streams_of_jobs_that_wait(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        path = await submitted(ask, **NEVER)
        bodies = []

        async def read():
            bodies.append((await ask("GET", f"{path}/stream")).body)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(3)
            service.drain()
        assert trio.current_time() <= 3 + PARTING + 0.1
        assert events_of(bodies[0]) == []


async def test_a_reply_under_way_is_streamed_to_its_end_while_the_daemon_drains(
    autojump_clock,
) -> None:
    async with job_app(TALKING) as (service, ask):
        path = await submitted(ask, WORDS, stream=True)
        bodies = []

        async def read():
            bodies.append((await ask("GET", f"{path}/stream")).body)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.5)
            service.drain()
        events = events_of(bodies[0])
        assert text_of(events) == WORDS
        assert events[-1].name == "done"


async def test_a_store_that_fails_ends_the_stream_and_not_the_job(
    autojump_clock,
) -> None:
    async with job_app(TALKING) as (service, ask):
        path = await submitted(ask, WORDS, stream=True)
        works = service.jobs.store

        class TornStore:
            def __getattr__(self, name):
                broken = name == "read_deltas" and trio.current_time() > 0.5
                return getattr(BrokenStore() if broken else works, name)

        service.jobs.store = TornStore()
        first = events_of((await ask("GET", f"{path}/stream")).body)
        service.jobs.store = works
        assert WORDS.startswith(text_of(first))
        assert {event.name for event in first} == {"delta"}
        last = [("Last-Event-ID", str(first[-1].id))]
        rest = events_of((await ask("GET", f"{path}/stream", headers=last)).body)
        assert text_of(first + rest) == WORDS
        assert rest[-1].name == "done"


async def test_a_slow_reader_is_read_for_no_further_than_one_page(
    autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr(jobs, "DELTAS_PER_READ", 5)
    async with job_app(TALKING) as (service, ask):
        path = await submitted(ask, " ".join([WORDS] * 5), stream=True)
        await ask("GET", path, headers=[("Prefer", "wait=60")])
        works, reads, reading = service.jobs.store, [], trio.Event()

        class Counting:
            def __getattr__(self, name):
                if name == "read_deltas":
                    reads.append(name)
                return getattr(works, name)

        async def send(message):
            if message.get("body", b"").startswith(b"id"):
                await reading.wait()

        service.jobs.store = Counting()
        job = path.rpartition("/")[2]
        stream = JobStream(service.jobs, service.until_draining, job, after=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream, {}, None, send)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(reads) == 1
            reading.set()
        assert len(reads) > 5


async def test_who_asks_for_the_head_alone_gets_no_stream(autojump_clock) -> None:
    async with job_app() as (_, ask):
        path = await submitted(ask, **NEVER)
        reply = await ask("HEAD", f"{path}/stream")
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["content-type"].startswith("text/event-stream")


async def test_a_reader_that_hangs_up_is_forgotten() -> None:
    async with job_app() as (service, _):
        app = make_app(service, owner_uid=OWNER.uid, wall_clock=wall_clock)
        job = (await service.jobs.submit(a_job(hold=True))).job
        head = f"GET /v1/jobs/{job.id}/stream HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        async with serving(_as_owner(app)) as served:
            client = await served.connect()
            await client.send(head)
            status, _ = await client.head()
            assert status == 200
            assert await client.chunk() == b"retry: 1000\n\n"
            await client.stream.aclose()
            await served.disconnected()
        assert not service._until_draining


def _as_owner(app):
    async def asked(scope, receive, send):
        scope["extensions"]["duck.peer"] = OWNER
        await app(scope, receive, send)

    return asked
