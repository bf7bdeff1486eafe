"""A thousand connections that want nothing: what they cost, and who suffers.

    python -m tests.pressure.idle --connections 1000

Half of them never say a word, half were answered once and stay. Then come so many more
that the limit is reached, and one beyond it. The idle time is 300 s by the contract;
here it is what `--idle` says.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import attrs
import trio

from duckservice.gateway.limits import ServerLimits
from tests.gateway.serving import RawClient
from tests.pressure.site import Site, Vitals, ask_chat, latencies, open_site, p50_p99

GET = b"GET /healthz HTTP/1.1\r\nHost: duck\r\n\r\n"


@attrs.frozen(kw_only=True)
class Figures:
    """What was measured."""

    connections: int
    before: Vitals
    during: Vitals
    after: Vitals
    alone: Sequence[float]
    """Milliseconds of requests, sorted, without the idle ones."""
    beside: Sequence[float]
    """The same, with them."""
    cpu_idle: float
    """The part of a CPU that the daemon takes while nobody asks."""
    accepted_max: int
    refused_status: int
    closed_after: tuple[float, float]
    """Seconds from its last byte until the first and the last idle one was closed."""
    tracebacks: int

    @property
    def kib_each(self) -> float:
        """Of the daemon's memory, for each idle connection."""
        more = self.during.rss_mib - self.before.rss_mib
        return more * 1024 / self.connections


async def measure(connections: int, *, idle: float, requests: int = 300) -> Figures:
    """Open the connections, look, and wait until they are closed."""
    limits = {"idle_time": idle, "head_time": 5.0}
    async with open_site(limits=limits) as site, site.client() as asking:
        data = ask_chat()
        await latencies(asking, data, requests)  # warm
        alone = await latencies(asking, data, requests)
        before = await site.vitals()
        clients = [await site.connect() for _ in range(connections)]
        for client in clients[::2]:
            await client.ask(GET)
        started = time.monotonic()
        beside = await latencies(asking, data, requests)
        during = await site.vitals()
        cpu, at = site.cpu(), time.monotonic()
        await trio.sleep(2)
        cpu_idle = (site.cpu() - cpu) / (time.monotonic() - at)
        assert await site.is_ready()
        more, status = await _fill(site, connections)
        closed = list[float]()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(_until_closed, client, started, closed)
        for client in (*clients, *more):
            await client.stream.aclose()
        await site.until(lambda: site.fds() <= before.fds)
        assert await site.is_ready()
        return Figures(
            connections=connections,
            before=before,
            during=during,
            after=await site.vitals(),
            alone=alone,
            beside=beside,
            cpu_idle=cpu_idle,
            accepted_max=connections + len(more) + 1,
            refused_status=status,
            closed_after=(min(closed), max(closed)),
            tracebacks=len(site.tracebacks()),
        )


async def _fill(site: Site, connections: int) -> tuple[list[RawClient], int]:
    """Connect until one is refused; return those before, and the refusal's status."""
    room = ServerLimits().connections_max - connections
    # Those who are surely accepted need not be looked at.
    more = [await site.connect() for _ in range(room - 10)]
    for _ in range(20):
        client = await site.connect()
        with trio.move_on_after(0.02):
            # A refusal comes by itself, before anything is asked.
            status, _ = await client.head()
            await client.stream.aclose()
            return more, status
        more.append(client)
    raise AssertionError("nobody was refused")


async def _until_closed(client: RawClient, started: float, closed: list[float]) -> None:
    assert await _rest(client) == b""
    closed.append(time.monotonic() - started)


async def _rest(client: RawClient) -> bytes:
    with trio.fail_after(400):
        return client.pending + await client.stream.receive_some()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=30.0)
    its = parser.parse_args()
    found = trio.run(lambda: measure(its.connections, idle=its.idle))
    print(f"before      {found.before}")
    print(f"with {found.connections:6} {found.during}")
    print(f"after       {found.after}")
    print(f"each: {found.kib_each:.1f} KiB; CPU while idle: {found.cpu_idle:.1%}")
    print(f"requests alone: {p50_p99(found.alone)}")
    print(f"requests beside them: {p50_p99(found.beside)}")
    print(f"open at most {found.accepted_max}, the next got {found.refused_status}")
    first, last = found.closed_after
    print(
        f"closed {first:.1f} to {last:.1f} s later, with an idle time of {its.idle:g} s"
    )
    print(f"tracebacks: {found.tracebacks}")


if __name__ == "__main__":
    main()
