"""What a page is told by a real daemon, also when that goes away and comes back."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from pathlib import Path

import trio

from duckservice.dashboard.board import PAGES_MAX, Board
from duckservice.dashboard.collector import Collector
from duckservice.dashboard.stream import stream
from duckservice.gateway.client import Answer, DaemonClient, Event
from duckservice.gateway.server import ServerLimits
from tests.dashboard.conftest import CHAT, daemon_at, open_stage
from tests.gateway.serving import until


async def test_a_page_is_told_all_that_it_shows(stage) -> None:
    before = time.time()
    events = await stage.browser.stream()
    hello = await events.next()
    assert hello.name == "hello"
    assert hello.data["version"] == (await stage.ask("GET", "/v1/version"))["version"]
    assert hello.data["socket"] == str(stage.client.path)
    assert hello.data["pid"] == os.getpid()
    assert before - 60 < hello.data["started_at"] < before
    assert (await events.next()).name == "history"
    snapshot = (await events.until("snapshot")).data
    assert list(snapshot) == [
        "at", "status", "tree", "providers", "queue", "budgets", "costs",
    ]  # fmt: skip
    assert abs(snapshot["at"] - before) < 60
    for part in ("tree", "budgets"):
        assert snapshot[part] == await stage.ask("GET", f"/v1/{part}")
    assert snapshot["status"]["queue"] == snapshot["queue"]
    assert snapshot["providers"]["providers"][0]["name"] == "mock"
    assert snapshot["costs"]["by"] == "provider"


async def test_news_are_the_daemons_events_with_their_ids(stage) -> None:
    events = await stage.browser.stream()
    await events.until("snapshot")
    await stage.ask("POST", "/v1/chat/completions", CHAT)
    told = [await events.until("news") for _ in range(4)]
    types = [event.data["type"] for event in told]
    assert types == ["request.start", "attempt", "cost", "request.stop"]
    numbers = [int(event.id.rpartition("-")[2]) for event in told]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    again = await stage.browser.stream(f"Last-Event-ID: {told[1].id}")
    assert (await again.until("news")).id == told[2].id


async def test_what_was_before_the_dashboard_is_in_the_history(socket) -> None:
    async with daemon_at(socket):
        async with open_stage(socket) as early:
            for _ in range(3):
                await early.ask("POST", "/v1/chat/completions", CHAT)
            spent = (await early.ask("GET", "/v1/costs"))["total"]
        async with open_stage(socket, wall_clock=lambda: time.time() + 4) as stage:
            events = await stage.browser.stream()
            # It is told again as long as more of it comes.
            points = (
                await events.until(
                    "history",
                    lambda its: sum(point["ok"] for point in its["points"]) >= 3,
                )
            ).data
            news = await (await stage.browser.stream()).until("news")
    points = points["points"]
    assert sum(point["ok"] for point in points) == 3
    assert sum(point["tokens"]["output"] for point in points) == spent["output_tokens"]
    assert {b["at"] - a["at"] for a, b in itertools.pairwise(points)} <= {2}
    assert news.data["type"] == "request.start"


async def test_a_point_comes_every_two_seconds(stage) -> None:
    events = await stage.browser.stream()
    await events.until("snapshot")
    await stage.ask("POST", "/v1/chat/completions", CHAT)
    point = (await events.until("point", lambda its: its["ok"])).data
    assert (point["at"] % 2, point["seconds"], point["ok"]) == (0, 2, 1)
    assert point["queued"] == {"high": 0, "normal": 0, "low": 0}
    assert point["in_flight"] == 0
    assert float(point["cost_usd"]) > 0


async def links(page, count):
    """What it is told next of the daemon itself; the last snapshot may come between."""
    names = list[str]()
    while len(names) < count:
        name = (await page.next()).name
        if name in {"hello", "lost", "found"}:
            names.append(name)
    return names


async def test_a_daemon_that_ends_is_lost_and_one_that_comes_back_is_found(
    socket,
) -> None:
    async with open_stage(socket) as stage:
        async with daemon_at(socket):
            events = await stage.browser.stream()
            await events.until("found")
        reason = (await events.until("lost")).data["reason"]
        assert str(socket) in reason or "daemon" in reason
        reply = await stage.browser.get("/v1/status")
        assert reply.status == 503
        assert json.loads(reply.body)["error"]["code"] == "no_daemon"
        late = await stage.browser.stream()
        assert (await late.until("lost")).data["reason"] == reason
        async with daemon_at(socket):
            for page in (events, late):
                assert await links(page, 2) == ["hello", "found"]
            await events.until("snapshot")
            await stage.ask("POST", "/v1/chat/completions", CHAT)
            await events.until("news", lambda its: its["type"] == "request.stop")


class Asked:
    """A daemon that answers at once, and remembers the questions."""

    socket = Path("nowhere")

    def __init__(self) -> None:
        self.looks: list[float] = []

    async def get_all(self, targets, _patience):
        if "/v1/tree" in targets:
            self.looks.append(trio.current_time())
        status = {"version": "1", "pid": 1, "uptime_s": 1, "queue": {"depth": {}}}
        status["requests"] = {"in_flight": 0}
        return [Answer(200, {}, json.dumps(status).encode()) for _ in targets]

    async def follow(self, _target, _last_id, on_open, _on_event):
        on_open({})
        await trio.sleep_forever()


async def test_the_daemon_is_asked_once_for_all_pages_and_not_at_all_for_none(
    autojump_clock,
) -> None:
    daemon, board, sent = Asked(), Board(), list[bytes]()

    async def send(message):
        sent.append(message.get("body", b""))

    async with trio.open_nursery() as nursery:
        await nursery.start(Collector(daemon, board, trio.current_time).run)
        await trio.sleep(3600)
        assert daemon.looks == []
        begun = trio.current_time()
        async with trio.open_nursery() as pages:
            for _ in range(8):
                pages.start_soon(stream, board, [], send)
            await trio.sleep(10.5)
            pages.cancel_scope.cancel()
        assert daemon.looks == [begun + second for second in range(11)]
        assert b"".join(sent).count(b"event: snapshot") == 8 * 11
        await trio.sleep(3600)
        assert len(daemon.looks) == 11
        nursery.cancel_scope.cancel()


class Busy(Asked):
    """A daemon that had kept much, and of which something is always to be told."""

    async def follow(self, _target, _last_id, on_open, on_event):
        on_open({})
        for number in itertools.count():
            at = number / 10 if number < 600 else trio.current_time()
            told = {"type": "request.stop", "at": at, "outcome": "ok"}
            on_event(Event(json.dumps(told), "request.stop", f"a1-{number}"))
            await trio.sleep(0.001 if number < 600 else 0.05)


async def test_it_begins_at_once_and_pages_are_told_the_history_as_it_comes(
    autojump_clock,
) -> None:
    board, sent = Board(), list[bytes]()

    async def send(message):
        sent.append(message.get("body", b""))

    def counts():
        frames = re.findall(rb"event: history\ndata: (.*)\n", b"".join(sent))
        return [
            sum(its["ok"] for its in json.loads(frame)["points"]) for frame in frames
        ]

    await trio.sleep(100)
    async with trio.open_nursery() as nursery:
        begun = trio.current_time()
        await nursery.start(Collector(Busy(), board, trio.current_time).run)
        assert trio.current_time() == begun
        nursery.start_soon(stream, board, [], send)
        await trio.sleep(5)
        assert counts()[0] < counts()[1] < counts()[-1] == 600
        # What happens since comes in points, and is no reason to tell all again.
        told = len(counts())
        await trio.sleep(60)
        assert len(counts()) == told
        nursery.cancel_scope.cancel()


async def test_a_real_daemon_is_asked_by_the_collector_alone(
    socket, monkeypatch
) -> None:
    asked, shown = list[str](), list[str]()
    request, snapshot = DaemonClient.request, Board.snapshot

    def counting(self, method, target, *args, **kwargs):
        asked.append(target)
        return request(self, method, target, *args, **kwargs)

    def showing(self, data):
        shown.append(data)
        snapshot(self, data)

    monkeypatch.setattr(DaemonClient, "request", counting)
    monkeypatch.setattr(Board, "snapshot", showing)
    async with daemon_at(socket), open_stage(socket) as stage:
        assert "/v1/tree" not in asked
        pages = [await stage.browser.stream() for _ in range(8)]
        told = [await page.until("snapshot") for page in pages]
        newest = max(event.data["at"] for event in told)
        for page in pages:
            await page.until("snapshot", lambda its: its["at"] > newest)
        # One may be under way.
        assert asked.count("/v1/tree") - len(shown) in {0, 1}


async def test_pages_are_few_and_one_that_is_closed_makes_room(stage) -> None:
    pages = [await stage.browser.stream() for _ in range(PAGES_MAX)]
    for page in pages:
        await page.until("hello")
    reply = await stage.browser.get("/stream")
    assert reply.status == 503
    assert json.loads(reply.body)["error"]["code"] == "too_many_pages"
    await pages[0].client.stream.aclose()
    await until(lambda: stage.dashboard.board.statistics().pages < PAGES_MAX)
    await (await stage.browser.stream()).until("hello")


async def test_a_page_that_reads_nothing_is_cut_off(socket) -> None:
    async with (
        daemon_at(socket),
        open_stage(socket, limits=ServerLimits(send_stall=0.2)) as stage,
    ):
        await stage.browser.stream()
        board = stage.dashboard.board
        with trio.fail_after(10):
            while board.statistics().pages:
                board.snapshot('"' + "x" * 1_000_000 + '"')
                await trio.sleep(0.01)


async def test_an_actor_that_crashes_while_it_is_asked_is_no_end(stage) -> None:
    events = await stage.browser.stream()
    await events.until("snapshot")
    for actor in ("cost_tracker", "request_queue", "gateway"):
        await stage.browser.post(f"/v1/tree/{actor}/restart")
    await events.until("news", lambda its: its.get("actor") == "gateway")
    told = await events.until(
        "snapshot",
        lambda its: sum(each["restarts"] for each in its["tree"]["children"]) >= 3,
    )
    assert told.data["status"]["state"] == "running"
