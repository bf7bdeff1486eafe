"""Which of the waiting jobs is next: by class, age, and turns between lanes.

A *lane* holds the waiting jobs that nobody needs to tell apart: same model, tags,
submitter and batch. What blocks one of them (a provider at rest, an empty budget)
blocks all, so a store looks at the heads of lanes only, however long they are.

Five rules, in this order:

1. *Blocked* lanes are passed over, and hold nobody up.
2. *Share.* A class that was passed over 17 times in a row is next, so that each of
   the three gets at least one of any 20 turns (5 %) while it has anybody to send.
3. *Ageing.* A waiting job rises one class every `aging` seconds, to the end of it.
   When it gets to the top is known from the start (`on_top`), and so at any time
   is its present class (`level`): the lower goes first.
4. *Fairness.* Within a class submitters take turns, and each submitter's lanes do:
   whoever has had a turn least recently is next. A batch of 100,000 jobs thus
   delays another submitter's job, or another batch, by one turn.
5. *First come, first served* within a lane and a class: by `on_top`, then by id.

The head of a lane in one class of submission is the job with the smallest
(`queued_at`, id): within it, that is also the order of `on_top`, whatever `aging`
is. So the index of an engine is (lane, priority, queued_at, id), over available
jobs, and it holds when the config's `aging` changes. `Turns` compares the heads.

Who has had a turn is remembered as long as the process lives, and no longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Final, TypeAlias, TypeVar

import attrs

from duckservice.core.job import Job
from duckservice.core.waiting_line import PASSED_OVER_MAX, PRIORITIES, Priority

RANKS: Final = {priority: rank for rank, priority in enumerate(PRIORITIES)}
"""How many classes each lies below the top."""
LANES_MAX: Final = 256
"""Beyond so many lanes with waiting jobs, jobs of new ones share lanes without tags.

Then a job may be claimed that its tags should have held back; who claims it puts
it back with a time."""

REMEMBERED_MAX: Final = 4 * LANES_MAX
"""Of so many submitters, and lanes, it is known when they last had a turn."""

K = TypeVar("K")

Tags: TypeAlias = tuple[tuple[str, str], ...]


@attrs.frozen(kw_only=True, order=True)
class Lane:
    """What jobs have in common that need not be told apart while they wait."""

    model: str
    submitter: int | None = None
    """The submitter's uid."""
    batch: str | None = None
    tags: Tags = ()
    """Sorted by key."""
    mixed: bool = False
    """Whether jobs of other tags are in it too; see `LANES_MAX`."""


@attrs.frozen(kw_only=True)
class Head:
    """The job of one lane and priority that is next there."""

    lane: Lane
    priority: Priority
    queued_at: float
    id: str


def lane_of(job: Job, *, mixed: bool = False) -> Lane:
    """Return the lane in which *job* waits; the one of all tags, if *mixed*."""
    return Lane(
        model=job.model,
        submitter=None if job.submitter is None else job.submitter.uid,
        batch=job.batch,
        tags=() if mixed else tuple(sorted(job.tags.items())),
        mixed=mixed,
    )


def on_top(priority: Priority, queued_at: float, aging: float) -> float:
    """Return when a job gets to the highest class, or would have got there."""
    return queued_at + RANKS[priority] * aging


def level(priority: Priority, queued_at: float, aging: float, now: float) -> int:
    """Return how many classes below the top a job stands now."""
    # Compared with each boundary, and not by a division: a job must not stand in
    # two classes because of a rounding.
    rank = RANKS[priority]
    risen = 0
    while risen < rank and queued_at + (risen + 1) * aging <= now:
        risen += 1
    return rank - risen


@attrs.frozen(kw_only=True)
class Blocked:
    """What must not run now."""

    models: frozenset[str] = frozenset()
    tags: frozenset[tuple[str, str]] = frozenset()
    """A lane with any of them is blocked."""
    lanes: frozenset[Lane] = frozenset()
    only_models: frozenset[str] | None = None
    """Where set, all other models are blocked."""

    def holds(self, lane: Lane) -> bool:
        """Say whether no job of *lane* may run now."""
        if self.only_models is not None and lane.model not in self.only_models:
            return True
        if lane.model in self.models or lane in self.lanes:
            return True
        return not self.tags.isdisjoint(lane.tags)


NOTHING_BLOCKED: Final = Blocked()


class Turns:
    """Picks among heads, and remembers who has had a turn."""

    def __init__(self, *, aging: float) -> None:
        """*aging* is in seconds."""
        self.aging = aging
        self._numbers = count(1)
        self._submitters: dict[int | None, int] = {}
        self._lanes: dict[Lane, int] = {}
        self._passed_over: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)

    def __repr__(self) -> str:
        return f"<Turns aging={self.aging}, {len(self._lanes)} lanes>"

    def pick(self, heads: Iterable[Head], now: float) -> Head | None:
        """Return whose turn it is, and take note that it was given; None if nobody's.

        *heads* are those of all lanes that may run, at most one of each priority.
        """
        waiting = list(heads)
        if not waiting:
            return None
        overdue = self._overdue({head.priority for head in waiting})
        able = [h for h in waiting if overdue is None or h.priority == overdue]
        chosen = min(self._in_the_first_class(able, now), key=self._key)
        self._note(chosen, {head.priority for head in waiting})
        return chosen

    def _overdue(self, there: set[Priority]) -> Priority | None:
        late: list[tuple[int, int, Priority]] = [
            (self._passed_over[priority], -RANKS[priority], priority)
            for priority in PRIORITIES
            if priority in there and self._passed_over[priority] >= PASSED_OVER_MAX
        ]
        return max(late)[2] if late else None

    def _in_the_first_class(self, heads: list[Head], now: float) -> list[Head]:
        levels = [level(h.priority, h.queued_at, self.aging, now) for h in heads]
        first = min(levels)
        return [h for h, its in zip(heads, levels, strict=True) if its == first]

    def _key(self, head: Head) -> tuple[int, int, float, str]:
        return (
            self._submitters.get(head.lane.submitter, 0),
            self._lanes.get(head.lane, 0),
            on_top(head.priority, head.queued_at, self.aging),
            head.id,
        )

    def _note(self, chosen: Head, there: set[Priority]) -> None:
        number = next(self._numbers)
        _note_last(self._submitters, chosen.lane.submitter, number)
        _note_last(self._lanes, chosen.lane, number)
        for priority in PRIORITIES:
            if priority == chosen.priority or priority not in there:
                self._passed_over[priority] = 0
            else:
                self._passed_over[priority] += 1


def _note_last(turns: dict[K, int], who: K, number: int) -> None:
    # The last is the latest, so the first is whom it harms least to forget.
    turns.pop(who, None)
    turns[who] = number
    if len(turns) > REMEMBERED_MAX:
        del turns[next(iter(turns))]
