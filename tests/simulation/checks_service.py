"""What must hold of the whole: goodput comes back (I27), everybody gets a share (I28)."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import attrs

from duckservice.config import Config
from tests.simulation.load import Order
from tests.simulation.upstream import Seen
from tests.simulation.verdicts import Verdicts
from tests.simulation.weather import Spell
from tests.simulation.world import World

#: How long before the first spell is looked at to see what is usual; how long after
#: each, in which pieces and steps.
BEFORE, AFTER, PIECE, STEP = 120.0, 300.0, 30.0, 5.0
GOOD = 0.9
SHARE = 0.05
NEIGHBOUR_DELAY = 0.05
#: A window in which every priority has to get its share.
SHARES_OVER = 600.0


@attrs.frozen
class Done:
    """How an order has ended."""

    order: Order
    at: float
    how: str
    """``ok``, an error's code, or ``gave_up``."""


def recoveries(done: Sequence[Done], spells: Sequence[Spell]) -> list[float]:
    """Return the seconds after each spell in which goodput was back, for good.

    Goodput is the share of orders of the time that are served; only those count
    whose client waits for the answer.
    """
    people = sorted(
        (each.order.at, each.how == "ok")
        for each in done
        if not each.order.source.durable
    )
    found = list[float]()
    first = spells[0].begin if spells else 0.0
    usual = _share(people, first - BEFORE, first)
    for number, spell in enumerate(spells):
        follows = spells[number + 1].begin if number + 1 < len(spells) else math.inf
        end = min(spell.end + AFTER, follows, people[-1][0] if people else 0.0)
        at = spell.end
        back = at
        while at + PIECE <= end:
            if _share(people, at, at + PIECE) < GOOD * usual:
                back = at + STEP
            at += STEP
        found.append(math.inf if back + PIECE > end else back - spell.end)
    return found


def _share(people: Sequence[tuple[float, bool]], begin: float, end: float) -> float:
    some = people[bisect_left(people, (begin,)) : bisect_left(people, (end,))]
    return sum(ok for _, ok in some) / len(some) if some else 1.0


def judge_recovery(
    verdicts: Verdicts, config: Config, recovered: Sequence[float]
) -> None:
    """Hold recoveries against what I27 allows."""
    longest_rest = max(its.breaker.reset_timeout for its in config.providers.values())
    bound = longest_rest + config.retry.max_delay + 30.0
    for seconds in recovered:
        what = f"goodput was back after {seconds:.0f} s; {bound:.0f} s are allowed"
        verdicts.holds("I27", ok=seconds <= bound, what=what)


def judge_shares(verdicts: Verdicts, world: World, log: Sequence[Seen]) -> None:
    """See whether each priority got its share of what was scarce."""
    wanted = {source.priority for source in world.sources}
    end = max((seen.order.at for seen in log), default=0.0)
    at = 60.0
    while at + SHARES_OVER <= end:
        its = Counter(
            seen.order.source.priority
            for seen in log
            if at <= seen.at < at + SHARES_OVER
        )
        total = sum(its.values())
        for priority in sorted(wanted):
            what = f"{priority} got {its[priority]} of {total} calls from {at:.0f} s"
            verdicts.holds("I28", ok=its[priority] >= SHARE * total, what=what)
        at += SHARES_OVER


def judge_neighbour(verdicts: Verdicts, model: str, log: Sequence[Seen]) -> None:
    """See whether who serves *model* was asked at once, whatever others go through."""
    delays = sorted(
        seen.at - seen.order.at
        for seen in log
        if seen.order.request.model == model and not seen.again
    )
    if delays:
        late = delays[math.ceil(0.99 * len(delays)) - 1]
        what = f"p99 of the time until {model!r} was asked for: {late:.3f} s"
        verdicts.holds("I28", ok=late <= NEIGHBOUR_DELAY, what=what)
