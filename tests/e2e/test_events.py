"""Events and metrics of the real daemon, over its socket: restarts, slow readers, crashes."""

from __future__ import annotations

import json
import signal
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from duckservice.event_stream.hub import KEPT_MAX
from tests.e2e.process import DaemonProcess, starting
from tests.e2e.running import CHAT, post
from tests.gateway.serving import RawClient

pytestmark = pytest.mark.slow

CONFIG = '[providers.mock]\nadapter = "mock"\n[log]\nformat = "json"\n'
ASK_TIMES = KEPT_MAX // 16 + 400
"""By each of four clients; a request is four events."""
ASK = post(CHAT, {"model": "mock-1", "messages": [{"role": "user", "content": "hi"}]})


@pytest.fixture
def folder():
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@asynccontextmanager
async def daemon_in(folder: Path):
    (folder / "config.toml").touch(0o600)
    async with starting(folder, CONFIG) as daemon:
        yield daemon


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", "Host: duck", *headers, "", ""]
    ).encode()


@attrs.define
class Follower:
    """Reads events from a connection."""

    client: RawClient
    pending: bytes = b""
    last_id: str = ""

    async def begin(self, path: str = "/v1/events") -> None:
        headers = [f"Last-Event-ID: {self.last_id}"] if self.last_id else []
        await self.client.send(get(path, *headers))
        status, answered = await self.client.head()
        assert status == 200
        self.last_id = answered["duck-last-event-id"]

    async def next(self) -> dict | None:
        """The next event; None: the stream has ended as it should."""
        with trio.fail_after(20):
            while True:
                while b"\n\n" not in self.pending:
                    chunk = await self.client.chunk()
                    if not chunk:
                        return None
                    self.pending += chunk
                block, _, self.pending = self.pending.partition(b"\n\n")
                lines = [line for line in block.decode().split("\n") if ": " in line]
                fields = dict(line.split(": ", 1) for line in lines)
                self.last_id = fields.get("id", self.last_id)
                if "event" in fields:
                    return json.loads(fields["data"])

    @property
    def number(self) -> int:
        """The number of the last event."""
        return int(self.last_id.partition("-")[2])

    async def until(self, word: str) -> list[dict]:
        """All events up to the first of that type."""
        events = []
        while not events or events[-1]["type"] != word:
            event = await self.next()
            assert event is not None, events
            events.append(event)
        return events


async def asked(daemon: DaemonProcess, data: bytes, times: int = 1):
    async with daemon.connection() as client:
        for _ in range(times):
            reply = await client.ask(data)
            assert reply.status == 200, reply
        return reply


async def scraped(daemon: DaemonProcess) -> dict[tuple, float]:
    reply = await asked(daemon, get("/metrics"))
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


async def test_a_reader_follows_over_a_restart_of_the_daemon(folder) -> None:
    async with daemon_in(folder) as daemon, daemon.connection() as client:
        first = Follower(client)
        await first.begin()
        await asked(daemon, ASK)
        words = [event["type"] for event in await first.until("request.stop")]
        assert words == ["request.start", "attempt", "cost", "request.stop"]
        daemon.signal(signal.SIGTERM)
        while await first.next() is not None:
            pass
        assert await daemon.ended() == 0
    async with daemon_in(folder) as daemon, daemon.connection() as client:
        await asked(daemon, ASK)
        again = Follower(client, last_id=first.last_id)
        await again.begin()
        gap, *rest = await again.until("request.stop")
        assert (gap["type"], gap["missed"]) == ("gap", None)
        assert "attempt" in {event["type"] for event in rest}


async def test_a_reader_that_stops_reading_holds_nobody_up_and_gets_a_gap(
    folder,
) -> None:
    async with (
        daemon_in(folder) as daemon,
        daemon.connection() as slow,
        daemon.connection() as quick,
    ):
        lazy, eager = Follower(slow), Follower(quick)
        await lazy.begin()
        await eager.begin("/v1/events?types=request.stop,gap")
        begun_at = lazy.number

        async def see_all():
            for _ in range(4 * ASK_TIMES):
                assert (await eager.next())["type"] == "request.stop"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(see_all)
            for _ in range(4):
                nursery.start_soon(asked, daemon, ASK, ASK_TIMES)
        *told, gap = await lazy.until("gap")
        assert gap["missed"] > 0
        # Each was read, or is counted.
        assert begun_at + len(told) + gap["missed"] == lazy.number
        # It goes on, wherever in which client's request that is.
        await lazy.until("request.start")


async def test_a_crash_of_an_actor_is_seen_by_readers_and_in_the_metrics(
    folder,
) -> None:
    async with daemon_in(folder) as daemon, daemon.connection() as client:
        follower = Follower(client)
        await follower.begin("/v1/events?types=restart")
        path = "/v1/tree/request_queue/restart"
        await asked(daemon, get(path).replace(b"GET", b"POST", 1))
        crash, start = await follower.next(), await follower.next()
        assert (crash["what"], start["what"]) == ("crashed", "started")
        assert crash["actor"] == start["actor"] == "request_queue"
        found = await scraped(daemon)
        labels = ("actor", "request_queue"), ("reason", "RestartRequested")
        assert found["duck_actor_restarts_total", *labels] == 1


async def test_a_crash_of_the_gateway_costs_readers_their_connection_but_no_event(
    folder,
) -> None:
    async with daemon_in(folder) as daemon:
        async with daemon.connection() as client:
            first = Follower(client)
            await first.begin()
            path = "/v1/tree/gateway/restart"
            await asked(daemon, get(path).replace(b"GET", b"POST", 1))
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await first.until("attempt")
        await asked(daemon, ASK)
        async with daemon.connection() as client:
            again = Follower(client, last_id=first.last_id)
            await again.begin()
            words = [event["type"] for event in await again.until("request.stop")]
            assert "gap" not in words
            assert words.count("attempt") == 1


async def test_the_metrics_count_what_was_asked(folder) -> None:
    async with daemon_in(folder) as daemon:
        await asked(daemon, ASK, 25)
        found = await scraped(daemon)
        ok = ("operation", "chat"), ("outcome", "ok")
        assert found["duck_requests_finished_total", *ok] == 25
        name = "duck_provider_time_to_first_chunk_seconds_count"
        of_model = ("model", "mock-1"), ("provider", "mock")
        assert found[name, *of_model] == 25
        assert found["duck_store_up",] == 1
        assert found["duck_store_commit_seconds_count",] > 0
