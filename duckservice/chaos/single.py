"""Scenarios of one request, once as a stream and once as a whole."""

from __future__ import annotations

from pathlib import Path

from duckservice.chaos.judge import Terms, judge
from duckservice.chaos.rehearsal import Rehearsal
from duckservice.chaos.result import Run
from duckservice.chaos.scenarios import Scenario
from duckservice.chaos.site import OpenDaemon, Site, new_nonce, open_site
from duckservice.chaos.upstream import Stage, words_of
from duckservice.daemon import open_daemon

_TIMES_REFUSED = 3
"""Whom the routing asks may be a matter of luck, and who refuses keeps no log."""


async def run_single(
    scenario: Scenario,
    rehearsal: Rehearsal,
    model: str,
    folder: Path,
    *,
    stream: bool,
    daemon: OpenDaemon = open_daemon,
) -> Run:
    """Run a scenario whose verdict is on one request."""
    stage = Stage(everywhere=scenario.everywhere, once=scenario.once)
    async with open_site(rehearsal, model, folder, stage, daemon=daemon) as site:
        if scenario.kind == "refused":
            return await _refused(scenario, rehearsal, site, stream=stream)
        stage.fault = scenario.fault
        return await _one(scenario, rehearsal, site, stream=stream)


async def _refused(
    scenario: Scenario, rehearsal: Rehearsal, site: Site, *, stream: bool
) -> Run:
    """Find out who is asked first, and have its port closed."""
    before = await _one(scenario, rehearsal, site, stream=stream)
    if before.verdict.outcome != "rescued":
        return before
    await site.upstreams[site.stage.calls[0].provider].refuse()
    runs = [
        await _one(scenario, rehearsal, site, stream=stream, needs_call=False)
        for _ in range(_TIMES_REFUSED)
    ]
    return max(runs, key=lambda run: run.badness)


async def _one(
    scenario: Scenario,
    rehearsal: Rehearsal,
    site: Site,
    *,
    stream: bool,
    needs_call: bool = True,
) -> Run:
    nonce = new_nonce()
    seen = await site.ask(nonce, stream=stream, limit=rehearsal.limit)
    calls = site.calls(nonce)
    terms = Terms(
        text="".join(words_of(nonce)),
        is_stream=stream,
        limit=rehearsal.limit,
        calls_max=_calls_max(scenario, rehearsal, site.model),
        secrets=rehearsal.secrets,
        codes=scenario.codes,
        retry_after=scenario.retry_after,
        needs_call=needs_call,
    )
    return Run(
        verdict=judge(seen, calls, terms),
        took=seen.took,
        calls=len(calls),
        wasted=sum(call.sick for call in calls),
    )


def _calls_max(scenario: Scenario, rehearsal: Rehearsal, model: str) -> int:
    routing = rehearsal.config.routing
    if scenario.hopeless:
        maps = (routing.fallbacks, routing.context_fallbacks, routing.content_fallbacks)
        others = sum(len(its.get(model, ())) for its in maps)
        return 1 + others + (routing.hedge_after is not None)
    return rehearsal.calls_max * (rehearsal.keys_max if scenario.per_key else 1)
