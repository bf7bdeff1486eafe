"""Scenarios of many requests: an outage under load, and what comes after it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Final

import attrs
import trio

from duckservice.chaos.client import get
from duckservice.chaos.judge import Terms, Verdict, judge
from duckservice.chaos.reading import decoded, table
from duckservice.chaos.rehearsal import Rehearsal
from duckservice.chaos.result import Run
from duckservice.chaos.scenarios import Scenario
from duckservice.chaos.site import OpenDaemon, Site, new_nonce, open_site
from duckservice.chaos.upstream import Call, Stage, words_of
from duckservice.daemon import open_daemon

CLIENTS: Final = 6
_LATENCY: Final = 0.01
_THINK: Final = 0.03
"""Seconds between a client's requests, so that the machine is not the limit."""
_WARM: Final = 0.5
_OUTAGE_RESETS: Final = 3.0
"""How long the outage is, in times that the breaker stays open."""
_OUTAGE_MAX: Final = 6.0
_CALM: Final = 1.0
"""Seconds of requests after the recovery."""
_GOODPUT: Final = 0.9
"""How many of those must be answered, as a part of all."""
_RECOVERY_SLACK: Final = 3.0


@attrs.frozen
class Judged:
    """One request under load."""

    at: float
    """When it was asked."""
    verdict: Verdict


@attrs.define
class Crowd:
    """Clients that ask one request after the other."""

    site: Site
    rehearsal: Rehearsal
    done: list[Judged] = attrs.field(factory=list[Judged])
    stopped: bool = False

    async def ask_all(self, number: int) -> None:
        """Be one client; every other asks for streams."""
        while not self.stopped:
            await self._ask(stream=number % 2 == 0)
            await trio.sleep(_THINK)

    async def _ask(self, *, stream: bool) -> None:
        nonce, rehearsal = new_nonce(), self.rehearsal
        at = trio.current_time()
        seen = await self.site.ask(nonce, stream=stream, limit=rehearsal.limit)
        terms = Terms(
            text="".join(words_of(nonce)),
            is_stream=stream,
            limit=rehearsal.limit,
            calls_max=rehearsal.calls_max,
            secrets=rehearsal.secrets,
            # While all rest after failures, to ask nobody is right.
            needs_call=False,
        )
        self.done.append(Judged(at, judge(seen, self.site.calls(nonce), terms)))


async def run_load(
    scenario: Scenario,
    rehearsal: Rehearsal,
    model: str,
    folder: Path,
    *,
    daemon: OpenDaemon = open_daemon,
) -> Run:
    """Run a scenario whose verdict is on many requests."""
    stage = Stage(everywhere=scenario.everywhere)
    started = trio.current_time()
    async with open_site(
        rehearsal, model, folder, stage, daemon=daemon, latency=_LATENCY
    ) as site:
        crowd = Crowd(site, rehearsal)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(crowd.ask_all, number)
            await trio.sleep(_WARM)
            stage.fault = scenario.fault
            began = trio.current_time()
            await trio.sleep(outage_seconds(rehearsal))
            stage.fault = None
            ended = trio.current_time()
            verdict = None
            if scenario.kind == "recovery":
                verdict = await _recover(crowd, ended)
            crowd.stopped = True
    if verdict is None:
        verdict = judge_outage(crowd.done, stage.calls, rehearsal, began, ended)
    return Run(
        verdict=verdict,
        took=trio.current_time() - started,
        requests=len(crowd.done),
        calls=len(stage.calls),
        wasted=sum(call.sick for call in stage.calls),
    )


def outage_seconds(rehearsal: Rehearsal) -> float:
    """Return how long the outage is."""
    return min(_OUTAGE_MAX, _OUTAGE_RESETS * _reset_timeout(rehearsal))


def _reset_timeout(rehearsal: Rehearsal) -> float:
    return max(p.breaker.reset_timeout for p in rehearsal.config.providers.values())


def judge_outage(
    done: list[Judged],
    calls: list[Call],
    rehearsal: Rehearsal,
    began: float,
    ended: float,
) -> Verdict:
    """Return the verdict on the requests in the outage, and on the calls it has cost."""
    outcomes = Counter(each.verdict.outcome for each in done if each.at >= began)
    for each in done:
        if each.verdict.outcome == "failed":
            return Verdict("failed", f"under load: {each.verdict.reason}")
    wasted = sum(call.sick for call in calls)
    allowed = wasted_max(rehearsal, ended - began)
    asked = sum(outcomes.values())
    if wasted > allowed:
        reason = f"{wasted} calls wasted in {asked} requests, {allowed} are allowed"
        return Verdict("failed", reason)
    if not wasted:
        return Verdict("failed", "nobody was asked who is out of order: no outage")
    told = f"{asked} requests, {outcomes['rescued']} rescued; {wasted} calls wasted"
    return Verdict("safe" if outcomes["safe"] else "rescued", told)


def wasted_max(rehearsal: Rehearsal, seconds: float) -> int:
    """Return how many calls may reach a provider that fails for so long.

    What opens the breaker, what was under way by then, and the probes.
    """
    most = 0
    for its in rehearsal.config.providers.values():
        breaker = its.breaker
        probes = math.ceil(seconds / breaker.reset_timeout) * breaker.half_open_max
        most = max(most, breaker.failure_threshold + CLIENTS + probes)
    return most


async def _recover(crowd: Crowd, ended: float) -> Verdict:
    """Wait until requests are answered again, and judge those that come then."""
    limit = recovery_seconds(crowd.rehearsal)
    with trio.move_on_after(limit) as scope:
        while not await _is_back(crowd, ended):  # noqa: ASYNC110 - it is another's state
            await trio.sleep(0.05)
    back = trio.current_time()
    if scope.cancelled_caught:
        return Verdict("failed", f"not back {limit:.1f} s after the outage")
    await trio.sleep(_CALM)
    return judge_calm([d.verdict for d in crowd.done if d.at >= back], back - ended)


def judge_calm(after: list[Verdict], seconds: float) -> Verdict:
    """Return the verdict on the requests *after* a recovery that took *seconds*."""
    outcomes = Counter(verdict.outcome for verdict in after)
    for verdict in after:
        if verdict.outcome == "failed":
            return Verdict("failed", f"after the recovery: {verdict.reason}")
    told = f"{outcomes['rescued']} of {len(after)} rescued"
    if not after or outcomes["rescued"] < _GOODPUT * len(after):
        return Verdict("failed", f"after the recovery only {told}")
    return Verdict("rescued", f"back after {seconds:.1f} s, then {told}")


def recovery_seconds(rehearsal: Rehearsal) -> float:
    """Return within which time there must be answers again."""
    longest = max(
        p.breaker.reset_timeout + 0.2 * p.breaker.success_threshold
        for p in rehearsal.config.providers.values()
    )
    return longest + rehearsal.config.retry.max_delay + _RECOVERY_SLACK


async def _is_back(crowd: Crowd, ended: float) -> bool:
    """Say whether all is well again, and who answers has its breaker closed."""
    latest = [each for each in crowd.done if each.at >= ended][-2 * CLIENTS :]
    well = [each for each in latest if each.verdict.outcome == "rescued"]
    if len(well) < 2 * CLIENTS:
        return False
    seen = await get(crowd.site.socket, "/v1/status", 2.0)
    providers = table(table(decoded(seen.body)).get("providers"))
    answers = crowd.site.stage.calls[-1].provider
    return table(providers.get(answers)).get("breaker") == "closed"
