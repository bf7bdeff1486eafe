"""An accepted job survives SIGKILL of the daemon at any instant (I1, I3-I8, I31).

Eight clients submit while the daemon is killed again and again, also while it is
still starting. A process of its own is their judge: it keeps a record of each 202 and
of each request that its upstream has seen, and compares in the end.

``DUCK_LONG=1`` kills 200 times where it is otherwise 14; ``DUCK_KILLS`` says how often.
"""

from __future__ import annotations

import os
import random
import sys
import time
from statistics import median

import pytest

from tests.kills.killing import Lives, judging

pytestmark = pytest.mark.slow

LONG = bool(os.environ.get("DUCK_LONG"))
KILLS = int(os.environ.get("DUCK_KILLS") or (200 if LONG else 14))
SEED = int(os.environ.get("DUCK_SEED") or 1)
GENEROUS = 20.0
"""Seconds; a machine may be busy. What it took is printed."""


@pytest.fixture
def folder(tmp_path_factory):
    # Not tmp_path: its name may be too long for a socket.
    return tmp_path_factory.mktemp("k")


async def killed_often(lives: Lives, kills: int, seed: int):
    """Kill the daemon so often under load; return what the judge says in the end."""
    chance = random.Random(seed)
    judge = lives.judge
    await judge.tell("go")
    for _ in range(kills):
        in_start = chance.uniform(0.05, 0.8) if chance.random() < 0.25 else None
        await lives.killed(in_start, chance.uniform(0.0, 1.0))
    async with lives.life() as daemon:
        await lives.ready(daemon, time.monotonic())
        await judge.ask("stop")
        verdict = await judge.ask("judge")
    # What it has summed up while it ran must be what it reads from its files.
    async with lives.life() as daemon:
        await lives.ready(daemon, time.monotonic())
        again = await judge.ask("judge")
    return verdict, again


def told(verdict, lives: Lives) -> str:
    figures = ", ".join(f"{name} {count}" for name, count in verdict["figures"].items())
    return (
        f"{figures}; ready again after {median(lives.restarts):.2f} s (median),"
        f" {max(lives.restarts):.2f} s (max)"
    )


async def test_no_accepted_job_is_lost_or_doubled_by_kills(folder):
    async with judging(folder, SEED) as judge:
        lives = Lives(folder, judge)
        verdict, again = await killed_often(lives, KILLS, SEED)
    print(f"\n{told(verdict, lives)}")
    assert not verdict["wrong"], "\n".join(verdict["wrong"])
    assert not again["wrong"], "\n".join(again["wrong"])
    assert lives.complaints == []
    figures = verdict["figures"]
    assert figures["faults"] == KILLS
    assert figures["lost"] == 0
    # Read from the ledger anew, the sums count every attempt.
    assert again["figures"]["uncounted"] == 0
    assert figures["paid_twice_under_fail"] == 0
    # That it was not spared: jobs were in flight when it was killed, answers on their
    # way when they were lost, and everything that can become of a job has.
    for reached in ("attempts_lost", "resent", "completed", "discarded", "cancelled"):
        assert figures[reached], reached
    assert max(lives.restarts) < GENEROUS


@pytest.mark.parametrize(
    ("crime", "charge"),
    [
        ("accepts-early", "lost: "),
        ("repeats", "on_interrupt is fail, and it was sent again"),
    ],
)
async def test_a_guilty_daemon_is_found_out(folder, crime, charge):
    async with judging(folder, SEED) as judge:
        lives = Lives(
            folder, judge, (sys.executable, "-m", "tests.kills.guilty", crime)
        )
        await judge.tell("go")
        for _ in range(4):
            await lives.killed(None, 0.5)
        async with lives.life() as daemon:
            await lives.ready(daemon, time.monotonic())
            await judge.ask("stop")
            verdict = await judge.ask("judge")
    assert any(charge in each for each in verdict["wrong"]), verdict
    assert bool(verdict["figures"]["lost"]) == (crime == "accepts-early")
