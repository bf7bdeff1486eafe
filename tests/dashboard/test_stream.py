"""What a page is told by a real daemon, also when that goes away and comes back."""

from __future__ import annotations

import itertools
import json
import os
import time

import trio

from duckservice.dashboard.board import PAGES_MAX
from duckservice.gateway.client import DaemonClient
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
            points = (await (await stage.browser.stream()).until("history")).data
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
                names = [(await page.next()).name for _ in range(2)]
                assert names == ["hello", "found"]
            await events.until("snapshot")
            await stage.ask("POST", "/v1/chat/completions", CHAT)
            await events.until("news", lambda its: its["type"] == "request.stop")


async def test_the_daemon_is_asked_once_for_all_pages_and_not_at_all_for_none(
    socket, monkeypatch
) -> None:
    asked = list[str]()
    request = DaemonClient.request

    def counting(self, method, target, *args, **kwargs):
        asked.append(target)
        return request(self, method, target, *args, **kwargs)

    monkeypatch.setattr(DaemonClient, "request", counting)
    async with daemon_at(socket), open_stage(socket) as stage:
        asked.clear()
        await trio.sleep(0.2)  # four times what it waits between two looks
        assert asked == []
        pages = [await stage.browser.stream() for _ in range(8)]
        told = [await page.until("snapshot") for page in pages]
        newest = max(event.data["at"] for event in told)
        for page in pages:
            await page.until("snapshot", lambda its: its["at"] > newest)
        looks = asked.count("/v1/tree")
        assert looks < 8


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
