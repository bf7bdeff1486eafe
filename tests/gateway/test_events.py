"""GET /v1/events and /metrics: who may see what, what is sent, and where it resumes."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from duckservice.event_stream.hub import KEPT_MAX
from duckservice.events import MessageDropped
from duckservice.gateway.app.events import HEARTBEAT
from duckservice.gateway.client import FOLLOW_SILENCE
from tests.gateway.job_service import ROOT, STRANGER, job_app
from tests.jobs.conftest import wall_clock
from tests.service.conftest import chat


class Event(NamedTuple):
    id: str
    name: str
    data: dict


def events_of(body: bytes) -> list[Event]:
    events = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if "event" in fields:
            data = json.loads(fields["data"])
            assert data["type"] == fields["event"]
            events.append(Event(fields["id"], fields["event"], data))
    return events


def dropped(number: int) -> MessageDropped:
    return MessageDropped(actor="a", reason=str(number))


def reasons(reply) -> list:
    return [event.data.get("reason") for event in events_of(reply.body)]


@asynccontextmanager
async def following(service, ask, **more):
    """Read the stream while the block runs; then drain, and give what was read."""
    replies = []

    async def read():
        replies.append(await ask("GET", "/v1/events", **more))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(0.01)
        yield replies
        await trio.sleep(0.01)
        service.drain()


async def test_what_happens_is_sent_as_it_happens(autojump_clock) -> None:
    async with job_app() as (service, ask):
        async with following(service, ask) as replies:
            await service.complete(chat("hi"))
        [reply] = replies
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = events_of(reply.body)
        assert [event.name for event in events] == [
            "request.start", "attempt", "cost", "request.stop",
        ]  # fmt: skip
        assert events[1].data["provider"] == "a"
        assert events[0].data["at"] == pytest.approx(wall_clock(), abs=1.0)


async def test_who_comes_back_with_the_last_id_goes_on_behind_it(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        for number in range(5):
            service.events.publish(dropped(number))
        async with following(service, ask, query=b"since=1h") as replies:
            pass
        ids = [event.id for event in events_of(replies[0].body)]
        headers = [("Last-Event-ID", ids[2])]
        again = await ask("GET", "/v1/events", headers=headers)
        assert reasons(again) == ["3", "4"]


async def test_a_stream_says_where_it_begins_before_the_first_event(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        async with following(service, ask) as replies:
            pass
        [reply] = replies
        start = reply.headers["duck-last-event-id"]
        assert f"id: {start}\n\n".encode() in reply.body
        service.events.publish(dropped(1))
        again = await ask("GET", "/v1/events", headers=[("Last-Event-ID", start)])
        assert reasons(again) == ["1"]


async def test_what_was_missed_is_a_gap(autojump_clock) -> None:
    async with job_app() as (service, ask):
        first = str(service.events.last_id)
        for number in range(KEPT_MAX + 10):
            service.events.publish(dropped(number))
        service.drain()
        reply = await ask("GET", "/v1/events", headers=[("Last-Event-ID", first)])
        gap, *rest = events_of(reply.body)
        assert (gap.name, gap.data["missed"]) == ("gap", 10)
        assert len(rest) == KEPT_MAX
        assert rest[0].data["reason"] == "10"
        ids = [int(event.id.partition("-")[2]) for event in (gap, *rest)]
        assert ids == list(range(10, KEPT_MAX + 11))


async def test_after_a_restart_of_the_daemon_there_is_a_gap_of_unknown_length(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        service.events.publish(dropped(1))
        service.drain()
        headers = [("Last-Event-ID", "1-7")]
        reply = await ask("GET", "/v1/events", headers=headers)
        gap, event = events_of(reply.body)
        assert (gap.name, gap.data["missed"]) == ("gap", None)
        assert event.data["reason"] == "1"


async def test_types_choose_what_is_sent(autojump_clock) -> None:
    async with job_app() as (service, ask):
        query = b"types=cost,queue.pause&types=queue.resume"
        async with following(service, ask, query=query) as replies:
            await service.complete(chat("hi"))
            await service.pause_queue(paused=True)
            await service.pause_queue(paused=False)
        names = [event.name for event in events_of(replies[0].body)]
        assert names == ["cost", "queue.pause", "queue.resume"]


async def test_a_silent_stream_shows_that_it_is_alive(autojump_clock) -> None:
    async with job_app() as (service, ask):
        async with following(service, ask) as replies:
            await trio.sleep(4.5 * HEARTBEAT)
        comments = [piece for piece in replies[0].pieces if piece.startswith(b":")]
        assert len(comments) == 4
        assert FOLLOW_SILENCE > 2 * HEARTBEAT


async def test_a_stream_ends_when_the_daemon_drains_and_tells_all_before_that(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        async with following(service, ask) as replies:
            service.drain()
            service.events.publish(dropped(1))
        assert reasons(replies[0]) == ["1"]
        assert service.events.statistics().readers == 0


@pytest.mark.parametrize(
    ("query", "headers", "word"),
    [
        (b"types=breakers", [], "types"),
        (b"types=", [], "types"),
        (b"since=yesterday", [], "since"),
        (b"tpyes=cost", [], "tpyes"),
        (b"", [("Last-Event-ID", "7")], "Last-Event-ID"),
        (b"", [("Last-Event-ID", "a-1"), ("Last-Event-ID", "a-2")], "Last-Event-ID"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    autojump_clock, query, headers, word
) -> None:
    async with job_app() as (_, ask):
        with trio.fail_after(60):
            reply = await ask("GET", "/v1/events", query=query, headers=headers)
        assert reply.status == 400
        assert word in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/events", "/metrics"])
@pytest.mark.parametrize("peer", [STRANGER, None])
async def test_what_tells_of_all_is_for_the_owner_and_root(
    autojump_clock, peer, path
) -> None:
    async with job_app() as (service, ask):
        with trio.fail_after(60):
            reply = await ask("GET", path, peer=peer)
        assert reply.status == 403
        assert reply.json()["error"]["code"] == "permission_denied"
        service.drain()
        assert (await ask("GET", path, peer=ROOT)).status == 200


async def test_head_says_what_get_would(autojump_clock) -> None:
    async with job_app() as (_, ask):
        reply = await ask("HEAD", "/v1/events")
        assert (reply.status, reply.body) == (200, b"")


async def test_metrics_come_as_prometheus_reads_them(autojump_clock) -> None:
    async with job_app() as (service, ask):
        await service.complete(chat("hi"))
        reply = await ask("GET", "/metrics")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(reply.body.decode())
        assert "duck_requests_finished" in {family.name for family in families}


async def test_metrics_come_in_the_format_that_is_asked_for(autojump_clock) -> None:
    async with job_app() as (_, ask):
        headers = [("Accept", "application/openmetrics-text; version=1.0.0")]
        reply = await ask("GET", "/metrics", headers=headers)
        assert reply.headers["content-type"].startswith("application/openmetrics-text")
        assert reply.body.endswith(b"# EOF\n")
