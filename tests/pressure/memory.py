"""More bytes at once than a machine may have: what is refused, what ends, what is kept.

    python -m tests.pressure.memory --bodies 64
    python -m tests.pressure.memory --limit-mb 700

First, *bodies* of almost 32 MiB at once (`--body-mb`), then answers of upstreams of 300 MB
and ones that would be 300 MB if anybody unpacked them. With `--limit-mb`, the same with so
much address space only (RLIMIT_AS), where allocating fails: the daemon must go on, or end
and lose no job that it has accepted.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from tests.pressure.site import MIB, Site, ask_chat, chat, exchange, open_site
from tests.pressure.upstream import open_upstream

ONCE = "[retry]\nmax_attempts = 1\n"


@attrs.frozen(kw_only=True)
class Figures:
    """What was measured."""

    before_mib: float
    bodies: Mapping[str, int]
    """What became of the large requests."""
    bodies_peak_mib: float
    vast: Mapping[str, int]
    """What became of requests whose answers were vast."""
    vast_peak_mib: float
    bomb: Mapping[str, int]
    bomb_peak_mib: float
    after_mib: float
    ended: int | None
    """The daemon's exit code, if it has ended."""
    jobs_accepted: int
    jobs_lost: int
    """Of these, not to be found after a restart."""
    errors: Sequence[str]
    """What it has logged of it."""


@attrs.define
class _Peak:
    site: Site
    mib: float = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[_Peak]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            yield self
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        while self.site.daemon.process.returncode is None:
            self.mib = max(self.mib, self.site.rss_mib())
            await trio.sleep(0.01)


async def measure(
    bodies: int, *, body_mb: float, limit_mb: int | None, answers: int = 16
) -> Figures:
    """Send and receive much, and look whether all jobs are there afterwards."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        async with open_upstream() as upstream:
            ports = {"up": upstream.port}
            async with open_site(ports, ONCE, folder=folder) as site:
                jobs = [await _submit(site) for _ in range(20)]
                before = site.rss_mib()
                if limit_mb is not None:
                    limits = (limit_mb * MIB, resource.RLIM_INFINITY)
                    resource.prlimit(site.pid, resource.RLIMIT_AS, limits)
                text = "x" * int(body_mb * MIB)
                large, peak_bodies = await _at_once(site, "m-quick", bodies, text)
                vast, peak_vast = await _at_once(site, "m-vast", answers, "quack")
                bomb, peak_bomb = await _at_once(site, "m-bomb", answers, "quack")
                if (ended := site.daemon.process.returncode) is None:
                    await site.until(site.is_ready)
                    jobs.append(await _submit(site))
                    after = site.rss_mib()
                    site.daemon.process.kill()
                else:
                    after = 0.0
                await site.daemon.process.wait()
                errors = [str(e.get("error", e["event"])) for e in site.tracebacks()]
            async with open_site(ports, folder=folder) as again:
                lost = [job for job in jobs if not await _ended(again, job)]
        return Figures(
            before_mib=before,
            bodies=large,
            bodies_peak_mib=peak_bodies,
            vast=vast,
            vast_peak_mib=peak_vast,
            bomb=bomb,
            bomb_peak_mib=peak_bomb,
            after_mib=after,
            ended=ended,
            jobs_accepted=len(jobs),
            jobs_lost=len(lost),
            errors=errors,
        )


async def _submit(site: Site) -> str:
    reply = await site.ask("POST", "/v1/jobs", {"request": chat("m-slow")})
    assert reply.status == 202, reply
    job: str = json.loads(reply.body)["id"]
    return job


async def _ended(site: Site, job: str) -> bool:
    async def completed() -> bool:
        return (await site.get(f"/v1/jobs/{job}"))["state"] == "completed"

    with trio.move_on_after(20):
        await site.until(completed)
        return True
    return False


async def _at_once(
    site: Site, model: str, count: int, text: str
) -> tuple[Counter[str], float]:
    outcomes = Counter[str]()
    data = ask_chat(model, text)

    async def one() -> None:
        try:
            with trio.fail_after(120):
                async with site.client() as client:
                    reply = await exchange(client, data)
        except (EOFError, OSError, trio.BrokenResourceError):
            outcomes["no answer"] += 1
            return
        except trio.TooSlowError:
            outcomes["hangs"] += 1
            return
        code = "" if reply.status == 200 else json.loads(reply.body)["error"]["code"]
        outcomes[f"{reply.status} {code}".strip()] += 1

    async with _Peak(site).watching() as peak, trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return outcomes, peak.mib


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bodies", type=int, default=64)
    parser.add_argument("--body-mb", type=float, default=31.9)
    parser.add_argument("--limit-mb", type=int, default=None)
    its = parser.parse_args()
    found = trio.run(
        lambda: measure(its.bodies, body_mb=its.body_mb, limit_mb=its.limit_mb)
    )
    print(f"before {found.before_mib:.0f} MiB, after {found.after_mib:.0f} MiB")
    print(f"bodies: {dict(found.bodies)}, peak {found.bodies_peak_mib:.0f} MiB")
    print(f"vast answers: {dict(found.vast)}, peak {found.vast_peak_mib:.0f} MiB")
    print(f"bombs: {dict(found.bomb)}, peak {found.bomb_peak_mib:.0f} MiB")
    print(f"ended: {found.ended}; logged: {dict(Counter(found.errors))}")
    print(f"jobs: {found.jobs_accepted} accepted, {found.jobs_lost} lost")


if __name__ == "__main__":
    main()
