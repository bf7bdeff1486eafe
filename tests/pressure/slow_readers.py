"""Hundreds of clients that ask for streams and stop reading: who pays, and for how long.

    python -m tests.pressure.slow_readers --readers 500

A third asks for endless chats, a third for `/v1/events`, a third for the stream of one
job of 2 MB. The write limit is 60 s by the contract; here it is what `--stall` says.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import attrs
import trio

from tests.gateway.serving import RawClient
from tests.pressure.site import (
    Site,
    Vitals,
    ask_chat,
    chat,
    exchange,
    latencies,
    open_site,
    p50_p99,
    request,
)
from tests.pressure.upstream import LONG_WORDS, WORD, Upstream, open_upstream

KINDS = ("chat", "events", "job")


@attrs.frozen(kw_only=True)
class Figures:
    """What was measured."""

    readers: int
    before: Vitals
    peak_mib: float
    during: Vitals
    after: Vitals
    alone: Sequence[float]
    beside: Sequence[float]
    """Milliseconds of whole requests without and with them, sorted."""
    stream_alone: float
    stream_beside: float
    """Seconds of a stream of 2 MB that is read."""
    cut_after: float
    """Seconds from the last reader's coming until none was left."""
    upstreams_left: int
    """Connections of the daemon to the upstream that were not idle."""
    whole: int
    """Readers whose stream looked as if it had ended in order."""
    tracebacks: int


async def measure(readers: int, *, stall: float, requests: int = 300) -> Figures:
    """Have them come, stop, and be cut off."""
    async with (
        open_upstream() as upstream,
        open_site({"up": upstream.port}, limits={"send_stall": stall}) as site,
        site.client() as asking,
    ):
        data = ask_chat("m-quick")
        job = await _job(site)
        await latencies(asking, data, requests)  # warm
        stream_alone = await _stream(site)
        alone = await latencies(asking, data, requests)
        before, open_before = await site.vitals(), upstream.open
        peak = _Peak(site)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peak.watch)
            clients = [await _reader(site, i, job) for i in range(readers)]
            started = time.monotonic()
            # What happens is told to those who follow the events, until they block.
            beside = await latencies(asking, data, 2 * requests)
            stream_beside = await _stream(site)
            during = await site.vitals()
            await _until_cut(site, upstream, before, open_before, stall)
            cut_after = time.monotonic() - started
            nursery.cancel_scope.cancel()
        whole = [await _is_whole(client) for client in clients]
        return Figures(
            readers=readers,
            before=before,
            peak_mib=peak.mib,
            during=during,
            after=await site.vitals(),
            alone=alone,
            beside=beside,
            stream_alone=stream_alone,
            stream_beside=stream_beside,
            cut_after=cut_after,
            upstreams_left=upstream.open - open_before,
            whole=sum(whole),
            tracebacks=len(site.tracebacks()),
        )


@attrs.define
class _Peak:
    site: Site
    mib: float = 0.0

    async def watch(self) -> None:
        while True:
            self.mib = max(self.mib, self.site.rss_mib())
            await trio.sleep(0.05)


async def _job(site: Site) -> str:
    submitted = await site.ask(
        "POST", "/v1/jobs", {"request": chat("m-long", stream=True)}
    )
    assert submitted.status == 202, submitted
    job: str = json.loads(submitted.body)["id"]

    async def ended() -> bool:
        return (await site.get(f"/v1/jobs/{job}"))["finished_at"] is not None

    await site.until(ended)
    return job


async def _stream(site: Site) -> float:
    started = time.monotonic()
    async with site.client() as client:
        reply = await exchange(client, ask_chat("m-long", stream=True))
    assert reply.body.count(WORD.encode()) == LONG_WORDS
    assert reply.body.endswith(b"data: [DONE]\n\n")
    return time.monotonic() - started


async def _reader(site: Site, number: int, job: str) -> RawClient:
    client = await site.connect()
    match KINDS[number % 3]:
        case "chat":
            await client.send(ask_chat("m-endless", stream=True))
        case "events":
            await client.send(request("GET", "/v1/events"))
        case _:
            await client.send(request("GET", f"/v1/jobs/{job}/stream"))
    with trio.fail_after(20):
        status, _ = await client.head()
    assert status == 200
    return client


async def _until_cut(
    site: Site, upstream: Upstream, before: Vitals, open_before: int, stall: float
) -> None:
    """Wait until none of them is left, with traffic for the events to tell of."""

    async def none_is_left() -> bool:
        async with site.client() as asking:
            await latencies(asking, ask_chat("m-quick"), 50)
        # The daemon keeps some connections to an upstream for the next request.
        return site.fds() - upstream.open <= before.fds - open_before

    await site.until(none_is_left, 3 * stall + 60)


async def _is_whole(client: RawClient) -> bool:
    async with client.stream:
        tail = client.pending
        with trio.fail_after(10):
            try:
                while data := await client.stream.receive_some():
                    tail = (tail + data)[-100:]
            except trio.BrokenResourceError:
                return False
    return tail.endswith(b"\r\n0\r\n\r\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--stall", type=float, default=10.0)
    its = parser.parse_args()
    found = trio.run(lambda: measure(its.readers, stall=its.stall))
    print(f"before   {found.before}")
    print(f"during   {found.during}")
    print(f"after    {found.after}")
    each = (found.peak_mib - found.before.rss_mib) * 1024 / found.readers
    print(f"peak {found.peak_mib:.1f} MiB, {each:.1f} KiB each")
    print(f"requests alone: {p50_p99(found.alone)}")
    print(f"requests beside them: {p50_p99(found.beside)}")
    print(f"a stream of 2 MB: {found.stream_alone:.2f} s, {found.stream_beside:.2f} s")
    print(f"all cut off {found.cut_after:.1f} s later, with a limit of {its.stall:g} s")
    print(f"of {found.readers}, {found.whole} had got all there was")
    print(f"connections left at the upstream: {found.upstreams_left}")
    print(f"tracebacks: {found.tracebacks}")


if __name__ == "__main__":
    main()
