"""A hard budget holds over SIGKILL of the daemon at any instant (I30, I31).

Clients send requests that are no jobs, as fast as they are answered, under two budgets,
of which one is tight; the daemon is killed again and again under this load. The
upstream keeps its own bill, and counts a request as soon as it has come in whole. So at
any moment

    bill  <=  spent + reserved  <=  limit

In the end each attempt that was lost is reconciled with the bill; then the ledger is
the bill, to the picodollar.

``DUCK_KILLS`` says how often; ``DUCK_SEED`` makes other clients.
"""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from duckservice.core.job import Settlement
from duckservice.core.pricing import pico, usd
from duckservice.store.base import LedgerFilter
from duckservice.store.sqlite import open_sqlite
from tests.core.budget_conformance import leaves
from tests.e2e.process import DaemonProcess, starting
from tests.kills.asking import BROKEN, Caller, Gone
from tests.kills.killing import DUCKD
from tests.upstream import Action, Pause, Request, Upstream, answer, open_upstream

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("DUCK_KILLS") or (100 if os.environ.get("DUCK_LONG") else 8))
SEED = int(os.environ.get("DUCK_SEED") or 1)
CLIENTS = 16
MARKER = re.compile(rb"marker-([a-z0-9]+)")
BILL = 10 * 2_500_000 + 7 * 10_000_000
"""Picodollars of one call: 10 tokens in, 7 out."""
TIGHT = 60_000_000_000 + 40_000_000_000 * (KILLS // 8)
TAGS = "SELECT tags FROM ledger"
CONFIG = """
[log]
format = "json"
level = "error"
[retry]
max_attempts = 1
[providers.up]
adapter = "openai"
base_url = "{url}/v1"
api_key = "env:UP_KEY"
models = ["m"]
max_concurrency = 64
price = {{ input = 2.5, output = 10.0 }}
breaker = {{ failure_threshold = 1000 }}
[budgets.tight]
limit_usd = {tight}
window = "total"
match = {{ provider = "up" }}
[budgets.loose]
limit_usd = 1000.0
window = "month"
"""


@attrs.define
class Billing(Sequence[list[Action]]):
    """The upstream's script: it writes each request onto its bill, then answers."""

    random: random.Random
    upstream: Upstream | None = None
    calls: list[str] = attrs.field(factory=list)

    @property
    def bill(self) -> int:
        return len(self.calls) * BILL

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> list[Action]:  # type: ignore[override]
        assert self.upstream is not None
        request = self.upstream.requests[index]
        self.upstream.requests[index] = Request(b"", b"", 0)
        found = MARKER.search(request.body)
        assert found is not None
        self.calls.append(found[1].decode())
        body = json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "quack"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 10,
                    "completion_tokens": 7,
                    "total_tokens": 17,
                },
            }
        ).encode()
        pause = Pause(self.random.choice([0.001, 0.01, 0.2]))
        return [pause, answer(body, b"content-type: application/json")]


@attrs.define
class Load:
    """Clients that never give up."""

    socket: Path
    statuses: dict[int, int] = attrs.field(factory=dict)
    gone: int = 0
    _sent: int = 0

    async def run(self) -> None:
        caller = Caller(self.socket)
        try:
            await self._run(caller)
        finally:
            caller.close()

    async def _run(self, caller: Caller) -> None:
        while True:
            self._sent += 1
            marker = f"m{self._sent}"
            body = json.dumps(
                {
                    "model": "m",
                    "max_tokens": 16,
                    "messages": [{"role": "user", "content": f"marker-{marker}"}],
                }
            ).encode()
            try:
                reply = await caller.ask(
                    "POST",
                    "/v1/chat/completions",
                    body,
                    content_type="application/json",
                    duck_tags=f"marker={marker}",
                )
            except (Gone, *BROKEN):
                self.gone += 1
                await trio.sleep(0.02)
            else:
                count = self.statuses.get(reply.status, 0)
                self.statuses[reply.status] = count + 1
                if reply.status != 200:
                    await trio.sleep(0.02)


@asynccontextmanager
async def serving(daemon: DaemonProcess) -> AsyncGenerator[Caller]:
    """Wait until the daemon serves, and be a client of it."""
    caller, up = Caller(daemon.socket), False
    try:
        with trio.fail_after(30):
            while not up:
                assert daemon.process.returncode is None, daemon.stderr.decode()
                try:
                    up = (await caller.ask("GET", "/readyz")).status == 200
                except (Gone, *BROKEN):
                    await trio.sleep(0.01)
        yield caller
    finally:
        caller.close()


async def check(caller: Caller, billing: Billing) -> dict[str, int]:
    """Compare what the daemon says with the bill; return what each budget counts."""
    before = billing.bill
    reply = await caller.ask("GET", "/v1/budgets")
    counted = dict[str, int]()
    for its in json.loads(reply.body)["budgets"]:
        gone = pico(its["spent_usd"]) + pico(its["reserved_usd"])
        assert before <= gone, f"{its['name']}: {gone} is less than the bill {before}"
        assert gone <= pico(its["limit_usd"]), f"{its['name']} was passed: {its}"
        counted[its["name"]] = gone
    return counted


async def reconcile(path: Path, billing: Billing) -> tuple[int, int, int]:
    """Settle what was lost with the bill; return the sums before and after, and it."""
    db = sqlite3.connect(path)
    lost = db.execute("SELECT id, tags FROM ledger WHERE state = 'lost'").fetchall()
    known = {json.loads(tags)["marker"] for (tags,) in db.execute(TAGS)}
    db.close()
    billed = set(billing.calls)
    assert billed <= known, f"not in the ledger: {sorted(billed - known)}"
    async with open_sqlite(path) as store:
        assert await store.open_entries() == ()
        before = sum(one.amount for one in await store.sums(LedgerFilter()))
        for entry, tags in lost:
            cost = BILL if json.loads(tags)["marker"] in billed else 0
            await store.settle_entry(entry, Settlement(outcome="ok", cost=cost))
        after = sum(one.amount for one in await store.sums(LedgerFilter()))
    return before, after, len(lost)


async def killed_often(
    folder: Path, kills: int, program: tuple[str, ...] = DUCKD
) -> str:
    """Kill the daemon so often under load; return the figures."""
    chance = random.Random(SEED)
    billing = Billing(random.Random(f"{SEED}/upstream"))
    load = Load(folder / "run" / "duckd.sock")
    async with open_upstream(billing, limit=3600) as upstream:
        billing.upstream = upstream
        config = CONFIG.format(url=upstream.base_url, tight=usd(TIGHT))
        environ = {"UP_KEY": "key-of-the-upstream"}
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(load.run)
            for _ in range(kills):
                async with (
                    starting(
                        folder, config, environ=environ, program=program, wait=False
                    ) as daemon,
                    serving(daemon) as caller,
                ):
                    until = time.monotonic() + chance.uniform(0.0, 0.8)
                    await check(caller, billing)
                    while time.monotonic() < until:
                        await check(caller, billing)
                        await trio.sleep(0.02)
                    daemon.process.kill()
                    await daemon.process.wait()
            nursery.cancel_scope.cancel()
        # One life without load, whose end is in order: what is lost is lost by now.
        async with (
            starting(
                folder, config, environ=environ, program=program, wait=False
            ) as daemon,
            serving(daemon) as caller,
        ):
            counted = await check(caller, billing)
            daemon.process.terminate()
            await daemon.ended()
    [path] = folder.rglob("jobs.sqlite3")  # noqa: ASYNC240 - nothing else runs
    before, after, lost = await reconcile(path, billing)
    assert billing.bill <= before
    assert after == billing.bill, f"{after} is not the bill {billing.bill}"
    assert len(set(billing.calls)) == len(billing.calls)
    return (
        f"{kills} kills, {len(billing.calls)} calls billed, {lost} lost,"
        f" {load.gone} connections broken, answers {load.statuses};"
        f" bill {usd(billing.bill)} USD, ledger {usd(before)} USD before and"
        f" {usd(after)} USD after it was reconciled;"
        f" budget {usd(counted['tight'])} of {usd(TIGHT)} USD"
    )


@pytest.fixture
def folder(tmp_path_factory):
    # Not tmp_path: its name may be too long for a socket.
    return tmp_path_factory.mktemp("k")


async def test_a_hard_budget_is_not_passed_and_no_call_is_forgotten(folder):
    figures = await killed_often(folder, KILLS)
    print(f"\n{figures}")
    assert " 0 lost" not in figures


async def test_a_daemon_that_writes_reservations_later_is_found_out(folder):
    program = (sys.executable, "-m", "tests.kills.guilty", "reserves-late")
    found = list[str]()
    try:
        await killed_often(folder, 8, program)
    except* AssertionError as group:
        found = [str(each) for each in leaves(group)]
    assert any("than the bill" in each or "not in the" in each for each in found)
