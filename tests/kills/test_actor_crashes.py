"""An accepted job survives the crash of any actor at any instant (I1, I3-I8, I31).

The same clients and the same judge as for SIGKILL, but the daemon lives: its actors
are crashed, one after another, and so are tasks of jobs that run.

``DUCK_LONG=1`` crashes 600 times where it is otherwise 30, each actor at least once.
"""

from __future__ import annotations

import os
import random
import time

import pytest
import trio

from tests.kills.asking import Caller, Gone
from tests.kills.killing import Lives, judging
from tests.kills.reading import get
from tests.kills.test_kill_9 import SEED, folder, told

pytestmark = pytest.mark.slow
__all__ = ["folder"]

CRASHES = 600 if os.environ.get("DUCK_LONG") else 30
ACTORS = (
    "store",
    "ledger",
    "cost_tracker",
    "request_queue",
    "dispatcher/dispatcher",
    "dispatcher/news",
    "batches/starter",
    *(
        f"providers/{name}/{part}"
        for name in ("calm", "storm")
        for part in ("rate_limiter", "circuit_breaker", "client")
    ),
    "gateway",
)
JOBS = "dispatcher/jobs"


async def running_jobs(caller: Caller) -> list[str]:
    """Return the paths of the tasks of jobs that run now."""
    node = await get(caller, "/v1/tree")
    for name in JOBS.split("/"):
        [node] = [child for child in node["children"] if child["name"] == name]
    return [child["path"] for child in node["children"]]


async def crash(caller: Caller, chance: random.Random, due: list[str]) -> str | None:
    """Crash what is *due*, else anything; return its path, None if it had just ended."""
    path = due.pop(0) if due else chance.choice(ACTORS)
    if not due and chance.random() < 0.4:
        path = chance.choice(await running_jobs(caller) or [path])
    answer = await caller.ask("POST", f"/v1/tree/{path}/restart")
    assert answer.status in (200, 404), answer
    return path if answer.status == 200 else None


async def test_no_accepted_job_is_lost_or_doubled_by_crashes_of_actors(folder):
    chance = random.Random(SEED)
    crashed: dict[str, int] = {}
    # The gateway last: who is asked meanwhile has nobody to hear it.
    due = [*chance.sample(ACTORS[:-1], len(ACTORS) - 1), ACTORS[-1]]
    async with judging(folder, SEED) as judge:
        lives = Lives(folder, judge)
        async with lives.life() as daemon:
            await lives.ready(daemon, time.monotonic())
            await judge.tell("go")
            caller = Caller(daemon.socket)
            while sum(crashed.values()) < CRASHES:
                await trio.sleep(chance.uniform(0.05, 0.5))
                before = time.time()
                try:
                    path = await crash(caller, chance, due)
                except Gone:
                    continue  # the gateway is being restarted
                if path is not None:
                    # What breaks off may do so a moment later.
                    await judge.tell(f"fault {before} {time.time() + 1.0}")
                    name = JOBS if path.startswith(JOBS) else path
                    crashed[name] = crashed.get(name, 0) + 1
            caller.close()
            await judge.ask("stop")
            verdict = await judge.ask("judge")
            assert daemon.process.returncode is None
    print(f"\n{told(verdict, lives)}; {crashed}")
    assert not verdict["wrong"], "\n".join(verdict["wrong"])
    figures = verdict["figures"]
    assert figures["lost"] == 0
    # A crash may come between an attempt's record and its count in the sums that are
    # kept in memory; what it has cost is in them all the same.
    assert 0 <= figures["uncounted"] <= figures["faults"]
    assert figures["paid_twice_under_fail"] == 0
    assert crashed[JOBS], "no job's task was crashed"
    assert set(crashed) >= {"store", "dispatcher/dispatcher", "request_queue"}
