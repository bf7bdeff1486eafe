"""More clients than file descriptors: a daemon that may have 128 of them, or 256.

    python -m tests.pressure.descriptors --limit 128

First come idle clients until nothing is accepted any more. Then most of them leave, and
the others ask for streams of a slow upstream, each of which takes a descriptor more. What
cannot be had is refused with a type; nothing spins; when all have left, all is well, and
every job that was accepted is there.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import attrs
import trio

from tests.gateway.serving import RawClient
from tests.pressure.site import Site, ask_chat, chat, exchange, open_site, request
from tests.pressure.upstream import open_upstream


@attrs.frozen(kw_only=True)
class Figures:
    """What was measured."""

    limit: int
    connected: int
    """Clients of the first wave; some of them wait to be accepted."""
    served: int
    """Of these, answered while all were there."""
    cpu: float
    """The part of a CPU that the daemon took while it could accept nobody."""
    warnings: int
    """Lines in its log meanwhile."""
    seconds: float
    outcomes: Mapping[str, int]
    """Of the second wave: what became of each request."""
    jobs: Mapping[str, int]
    """All that were accepted, by their state: some wait for their next attempt."""
    recovered_after: float
    """Seconds after the last had left, until a request was answered."""
    fds: tuple[int, int]
    """Before, and at the end."""
    tracebacks: Sequence[str]


async def measure(limit: int, *, clients: int, watch: float = 5.0) -> Figures:
    """Take its descriptors away, and give them back."""
    async with (
        open_upstream() as upstream,
        open_site({"up": upstream.port}, "[retry]\nmax_attempts = 2\n") as site,
    ):
        await site.ask("POST", "/v1/chat/completions", chat("m-quick"))
        jobs = [await _submit(site) for _ in range(5)]
        before = site.fds()
        soft, hard = resource.prlimit(site.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(site.pid, resource.RLIMIT_NOFILE, (limit, hard))
        idle = [await site.connect() for _ in range(clients)]
        served = await _how_many_are_served(idle)
        cpu, at, lines = site.cpu(), time.monotonic(), _warnings(site)
        await trio.sleep(watch)
        seconds = time.monotonic() - at
        spent = (site.cpu() - cpu) / seconds
        warnings = _warnings(site) - lines
        # Fewer than were accepted, or some would wait for the others to leave.
        keep = int(served * 0.8)
        for client in idle[keep:]:
            await client.stream.aclose()
        outcomes, accepted = await _all_ask(idle[:keep])
        for client in idle[:keep]:
            await client.stream.aclose()
        left = time.monotonic()
        await site.until(site.is_ready)
        recovered = time.monotonic() - left
        await _asks_again(site)
        resource.prlimit(site.pid, resource.RLIMIT_NOFILE, (soft, hard))
        jobs += accepted
        states = await _states(site, jobs)
        await site.until(lambda: site.fds() - upstream.open <= before)
        return Figures(
            limit=limit,
            connected=clients,
            served=served,
            cpu=spent,
            warnings=warnings,
            seconds=seconds,
            outcomes=outcomes,
            jobs=states,
            recovered_after=recovered,
            fds=(before, site.fds()),
            tracebacks=[str(e["event"]) for e in site.tracebacks()],
        )


def _warnings(site: Site) -> int:
    return len(site.daemon.events("gateway.accept_failed"))


async def _submit(site: Site) -> str:
    reply = await site.ask("POST", "/v1/jobs", {"request": chat("m-quick")})
    job: str = json.loads(reply.body)["id"]
    return job


async def _states(site: Site, jobs: Sequence[str]) -> Counter[str]:
    """Return how many jobs are in which state, once as many as can have ended."""

    async def look() -> Counter[str]:
        found = Counter[str]()
        for job in jobs:
            reply = await site.ask("GET", f"/v1/jobs/{job}")
            found[
                json.loads(reply.body)["state"] if reply.status == 200 else "lost"
            ] += 1
        return found

    async def all_are_over_or_wait() -> bool:
        return not (await look()).keys() & {"available", "executing"}

    await site.until(all_are_over_or_wait, 60)
    return await look()


async def _asks_again(site: Site) -> None:
    reply = await site.ask("POST", "/v1/chat/completions", chat("m-quick"))
    assert reply.status == 200, reply


async def _how_many_are_served(clients: Sequence[RawClient]) -> int:
    data = b"GET /healthz HTTP/1.1\r\nHost: duck\r\n\r\n"
    served = 0
    for client in clients:
        await client.send(data)
    for client in clients:
        with trio.move_on_after(0.5 if served else 5):
            status, headers = await client.head()
            await client._body(headers)
            served += status == 200
            continue
        break
    return served


async def _all_ask(clients: Sequence[RawClient]) -> tuple[Counter[str], list[str]]:
    """Have all ask at once, for a slow answer or for a job; return what each has got."""
    outcomes, accepted = Counter[str](), list[str]()

    async def one(number: int, client: RawClient) -> None:
        # What is left of the first wave's answers is of no interest.
        client.pending = b""
        try:
            with trio.fail_after(60):
                if number % 4:
                    reply = await exchange(client, ask_chat("m-slow"))
                else:
                    value = {"request": chat("m-quick")}
                    reply = await exchange(client, request("POST", "/v1/jobs", value))
        except (EOFError, trio.BrokenResourceError):
            outcomes["no answer"] += 1
            return
        except trio.TooSlowError:
            outcomes["hangs"] += 1
            return
        what = "job" if not number % 4 else "chat"
        if reply.status == 202:
            accepted.append(json.loads(reply.body)["id"])
        code = "" if reply.status < 300 else json.loads(reply.body)["error"]["code"]
        outcomes[f"{what} {reply.status} {code}".strip()] += 1

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(clients):
            nursery.start_soon(one, number, client)
    return outcomes, accepted


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument(
        "--clients", type=int, default=0, help="default: twice the limit"
    )
    its = parser.parse_args()
    found = trio.run(
        lambda: measure(its.limit, clients=its.clients or 2 * its.limit, watch=10)
    )
    print(
        f"{found.limit} descriptors, {found.connected} clients, {found.served} served"
    )
    print(
        f"while nobody could be accepted: {found.cpu:.1%} of a CPU,"
        f" {found.warnings} warnings in {found.seconds:.0f} s"
    )
    print(f"then: {dict(sorted(found.outcomes.items()))}")
    print(f"jobs: {dict(found.jobs)}")
    print(f"recovered {found.recovered_after:.2f} s after they had left")
    print(f"descriptors: {found.fds[0]} before, {found.fds[1]} at the end")
    print(f"tracebacks: {found.tracebacks}")


if __name__ == "__main__":
    main()
