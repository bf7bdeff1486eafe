"""A hundred thousand requests of every kind: nothing may be left behind.

    python -m tests.pressure.soak --requests 100000

Direct requests, streams, jobs, batches, errors, and clients that hang up; sixteen at a
time, of a real daemon and an upstream on loopback. Memory, tasks, descriptors, threads and
the store's rows are looked at on the way, at rest.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import trio

from tests.gateway.serving import RawClient
from tests.pressure.site import (
    Site,
    Vitals,
    ask_chat,
    chat,
    exchange,
    open_site,
    request,
)
from tests.pressure.upstream import open_upstream

CLIENTS = 16
BATCH_LINES = 20
BATCH_EVERY = 2000
MORE = """
[retry]
max_attempts = 1
[store]
retention = { completed = "5s", discarded = "5s", cancelled = "5s", expired = "5s", streams = "1s" }
"""

KINDS: Mapping[str, int] = {
    "direct": 50,
    "stream": 16,
    "messages": 8,
    "job": 8,
    "fails": 5,
    "bad": 4,
    "unknown": 2,
    "hangs up": 4,
    "looks": 3,
}
"""How often each kind is asked, in a hundred."""

EXPECTED: Mapping[str, int] = {
    "direct": 200,
    "stream": 200,
    "messages": 200,
    "job": 202,
    "fails": 502,
    "bad": 400,
    "unknown": 404,
    "looks": 200,
}

_REQUESTS: Mapping[str, bytes] = {
    "direct": ask_chat("m-quick"),
    "stream": ask_chat("m-quick", stream=True),
    "messages": request("POST", "/v1/messages", {**chat("m-quick"), "max_tokens": 10}),
    "job": request("POST", "/v1/jobs", {"request": chat("m-quick")}),
    "fails": ask_chat("m-fail"),
    "bad": request("POST", "/v1/chat/completions", b'{"model": '),
    "unknown": ask_chat("nobody-knows-it"),
    "hangs up": ask_chat("m-slow", stream=True),
    "looks": request("GET", "/v1/status"),
}


@attrs.frozen
class Sample:
    """The daemon at rest, after so many requests."""

    requests: int
    vitals: Vitals
    rows: int
    """Jobs in its store."""


@attrs.frozen(kw_only=True)
class Figures:
    """What was measured."""

    samples: Sequence[Sample]
    outcomes: Mapping[str, int]
    wrong: Mapping[str, int]
    """Answers of another status than `EXPECTED`."""
    rate: float
    """Requests a second."""
    rows_at_the_end: int
    """Jobs in the store when all of them were over for longer than the retention."""
    tracebacks: int

    def slope_kib(self, start: int) -> float:
        """Return the growth from request *start* on, in KiB a thousand requests."""
        its = [s for s in self.samples if s.requests >= start]
        xs = [s.requests / 1000 for s in its]
        ys = [s.vitals.rss_mib * 1024 for s in its]
        x, y = sum(xs) / len(xs), sum(ys) / len(ys)
        above = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
        return above / sum((a - x) ** 2 for a in xs)


@attrs.define
class _Load:
    """What is asked, and what came of it."""

    site: Site
    random: random.Random
    outcomes: Counter[str] = attrs.field(factory=Counter[str])
    wrong: Counter[str] = attrs.field(factory=Counter[str])
    asked: int = 0

    async def client(self, until: int) -> None:
        """Ask, until so many requests were sent by all."""
        client = await self.site.connect()
        kinds, weights = list(KINDS), list(KINDS.values())
        while self.asked < until:
            self.asked += 1
            if not self.asked % BATCH_EVERY:
                await self._batch()
                continue
            [kind] = self.random.choices(kinds, weights)
            self.outcomes[kind] += 1
            if kind == "hangs up":
                await client.send(_REQUESTS[kind])
                await trio.sleep(self.random.random() * 0.02)
                await client.stream.aclose()
                client = await self.site.connect()
                continue
            with trio.fail_after(60):
                reply = await exchange(client, _REQUESTS[kind])
            if reply.status != EXPECTED[kind]:
                self.wrong[f"{kind} {reply.status}"] += 1
            if reply.headers.get("connection") == "close":
                client = await self._again(client)
        await client.stream.aclose()

    async def _again(self, client: RawClient) -> RawClient:
        await client.stream.aclose()
        return await self.site.connect()

    async def _batch(self) -> None:
        self.outcomes["batch"] += 1
        lines = [
            {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions"}
            | {"body": chat("m-quick")}
            for n in range(BATCH_LINES)
        ]
        content = "\n".join(map(json.dumps, lines))
        form = (
            '--duck\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            '--duck\r\nContent-Disposition: form-data; name="file"; filename="b.jsonl"'
            f"\r\n\r\n{content}\r\n--duck--\r\n"
        ).encode()
        head = (
            "POST /v1/files HTTP/1.1\r\nHost: duck\r\nContent-Type: multipart/form-data;"
            f" boundary=duck\r\nContent-Length: {len(form)}\r\n\r\n"
        ).encode()
        async with self.site.client() as client:
            file = json.loads((await exchange(client, head + form)).body)
            value = {
                "input_file_id": file["id"],
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
            }
            made = await exchange(client, request("POST", "/v1/batches", value))
        if made.status != 200:
            self.wrong[f"batch {made.status}"] += 1


async def measure(
    requests: int, *, every: int, seed: int = 1, prune: bool = True
) -> Figures:
    """Ask so often; look every so many requests. With *prune*, wait for the store's end."""
    async with (
        open_upstream() as upstream,
        open_site({"up": upstream.port}, MORE) as site,
    ):
        load = _Load(site, random.Random(seed))
        samples, taken = list[Sample](), 0.0
        for until in range(every, requests + 1, every):
            started = time.monotonic()
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(load.client, until)
            taken += time.monotonic() - started
            await _at_rest(site)
            vitals, rows = await site.vitals(), _rows(site.folder)
            samples.append(Sample(load.asked, vitals, rows))
            print(f"{load.asked:8}  {vitals}  {rows:6} rows", flush=True)
        # The store is pruned every five minutes.
        with trio.move_on_after(320 if prune else 0):
            await site.until(lambda: _rows(site.folder) == 0, 330)
        return Figures(
            samples=samples,
            outcomes=load.outcomes,
            wrong=load.wrong,
            rate=load.asked / taken,
            rows_at_the_end=_rows(site.folder),
            tracebacks=len(site.tracebacks()),
        )


async def _at_rest(site: Site) -> None:
    """Wait until no job is under way and no client connected."""

    async def rests() -> bool:
        counts = (await site.get("/v1/status"))["jobs"]
        return not any(counts.get(state) for state in ("available", "executing"))

    await site.until(rests, 120)
    await trio.sleep(1.5)  # hung-up requests of `m-slow` are over, too


def _rows(folder: Path) -> int:
    [path] = (folder / "state").glob("*.sqlite3")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        count: int = db.execute("SELECT count(*) FROM job").fetchone()[0]
    return count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    its = parser.parse_args()
    found = trio.run(lambda: measure(its.requests, every=its.every, seed=its.seed))
    print(f"{found.rate:.0f} requests a second: {dict(found.outcomes)}")
    print(f"unexpected: {dict(found.wrong)}; tracebacks: {found.tracebacks}")
    start = min(10_000, its.requests // 2)
    print(
        f"growth from {start} on: {found.slope_kib(start):.1f} KiB a thousand requests"
    )
    print(f"jobs left in the store: {found.rows_at_the_end}")


if __name__ == "__main__":
    main()
