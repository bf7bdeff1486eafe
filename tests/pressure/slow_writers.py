"""Hundreds of clients that send a byte now and then: 408 in time, and closed.

    python -m tests.pressure.slow_writers --writers 500

Half of them never end their head ("slowloris"), half send a body one byte a second, and
half of those stop. A head has 10 s by the contract (`--head`), a body may be silent for
30 s (`--silence`), and one that is not must come at 1 KiB a second after 5 minutes
(`--grace`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import attrs
import trio

from tests.gateway.serving import RawClient
from tests.pressure.site import Vitals, ask_chat, latencies, open_site, p50_p99

BODY_BYTES = 100_000


@attrs.frozen(kw_only=True)
class Figures:
    """What was measured."""

    writers: int
    before: Vitals
    during: Vitals
    after: Vitals
    alone: Sequence[float]
    beside: Sequence[float]
    heads: dict[str, int]
    """How the slow heads ended, and how many of them so."""
    heads_took: float
    stopped: dict[str, int]
    stopped_took: float
    trickling: dict[str, int]
    """Bodies that go on, a byte a second."""
    trickling_took: float
    tracebacks: int


@attrs.define
class _Ends:
    """How some clients have ended."""

    counts: dict[str, int] = attrs.field(factory=dict)
    last: float = 0.0
    first: float = 1e9

    def note(self, how: str, seconds: float) -> None:
        self.counts[how] = self.counts.get(how, 0) + 1
        self.last, self.first = max(self.last, seconds), min(self.first, seconds)


async def measure(
    writers: int,
    *,
    head: float,
    silence: float,
    grace: float,
    watch: float,
    requests: int = 300,
) -> Figures:
    """Have them come, and look how they end; those that go on are watched for *watch* s."""
    limits = {"head_time": head, "body_silence": silence, "body_grace": grace}
    async with open_site(limits=limits) as site, site.client() as asking:
        data = ask_chat()
        await latencies(asking, data, requests)
        alone = await latencies(asking, data, requests)
        before = await site.vitals()
        heads, stopped, trickling = _Ends(), _Ends(), _Ends()
        async with trio.open_nursery() as nursery:
            for number in range(writers):
                client = await site.connect()
                kind = number % 4
                if kind < 2:
                    nursery.start_soon(_slow, client, heads, b"GET / HTTP/1.1\r\n", 1e9)
                else:
                    start = b"POST /v1/chat/completions HTTP/1.1\r\nHost: duck\r\n"
                    start += b"Content-Length: %d\r\n\r\n{" % BODY_BYTES
                    ends = stopped if kind == 2 else trickling
                    until = 2.0 if kind == 2 else 1e9
                    nursery.start_soon(_slow, client, ends, start, until)
            beside = await latencies(asking, data, requests)
            during = await site.vitals()
            await trio.sleep(watch)
            nursery.cancel_scope.cancel()
        left = writers // 4 - sum(trickling.counts.values())
        if left:
            trickling.counts["still there"] = left
        await site.until(lambda: site.fds() <= before.fds)
        assert await site.is_ready()
        return Figures(
            writers=writers,
            before=before,
            during=during,
            after=await site.vitals(),
            alone=alone,
            beside=beside,
            heads=heads.counts,
            heads_took=heads.last,
            stopped=stopped.counts,
            stopped_took=stopped.last,
            trickling=trickling.counts,
            trickling_took=trickling.last,
            tracebacks=len(site.tracebacks()),
        )


async def _slow(client: RawClient, ends: _Ends, start: bytes, until: float) -> None:
    """Send *start*, then a byte each second until that many seconds are over."""
    began = time.monotonic()
    async with client.stream:
        await client.send(start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_trickle, client, began, until)
            with trio.fail_after(3600):
                how = await _end(client)
            ends.note(how, time.monotonic() - began)
            nursery.cancel_scope.cancel()


async def _trickle(client: RawClient, began: float, until: float) -> None:
    try:
        while time.monotonic() - began < until:
            await client.send(b"x")
            await trio.sleep(1)
    except trio.BrokenResourceError:
        pass  # the daemon has closed; what it said is read by `_end`


async def _end(client: RawClient) -> str:
    try:
        status, headers = await client.head()
        body = await client._body(headers)
        closed = await client.stream.receive_some() == b""
    except (EOFError, trio.BrokenResourceError):
        return "closed without a word"
    code = json.loads(body)["error"]["code"]
    return f"{status} {code}, {'closed' if closed else 'open'}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--writers", type=int, default=500)
    parser.add_argument("--head", type=float, default=10.0)
    parser.add_argument("--silence", type=float, default=30.0)
    parser.add_argument("--grace", type=float, default=40.0)
    parser.add_argument("--watch", type=float, default=50.0)
    its = parser.parse_args()
    found = trio.run(lambda: measure(**vars(its)))
    print(f"before   {found.before}")
    print(f"during   {found.during}")
    print(f"after    {found.after}")
    print(f"requests alone: {p50_p99(found.alone)}")
    print(f"requests beside them: {p50_p99(found.beside)}")
    print(f"heads: {found.heads}, the last after {found.heads_took:.1f} s")
    print(
        f"bodies that stop: {found.stopped}, the last after {found.stopped_took:.1f} s"
    )
    print(
        f"bodies that go on: {found.trickling},"
        f" the last after {found.trickling_took:.1f} s"
    )
    print(f"tracebacks: {found.tracebacks}")


if __name__ == "__main__":
    main()
