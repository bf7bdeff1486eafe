"""What a store must do, said once more as simply as possible: lists, and no indices.

Nothing here uses the project's own life cycle or order, so that a mistake in those
is found and not repeated.
"""

from __future__ import annotations

from typing import Any

import attrs

AGING = 30
CLASSES = ("high", "normal", "low")
OVER = ("completed", "discarded", "cancelled", "expired")
PASSED_OVER_MOST = 17


@attrs.define(eq=False)
class ModelAttempt:
    id: str
    at: float
    reserved: int
    state: str = "open"
    amount: int | None = 0
    tags: dict[str, str] = attrs.field(factory=dict)

    @property
    def counts_with(self) -> int:
        """What it adds to its job's cost: all that is reserved, if it was lost."""
        return self.reserved if self.state == "lost" else self.amount or 0


@attrs.define(eq=False)
class ModelJob:
    id: str
    created: float
    priority: str
    model: str
    uid: int
    tags: dict[str, str]
    on_interrupt: str
    most: int
    not_before: float | None
    deadline: float | None
    key: str | None
    fingerprint: str
    held: bool
    state: str = ""
    due: float = 0.0
    queued: float = 0.0
    used: int = 0
    crashes: int = 0
    billed: bool = False
    finished: float | None = None
    claims: int = 0
    lease_until: float = 0.0
    result: bytes | None = None
    stream: list[tuple[str, bytes]] = attrs.field(factory=list)
    attempts: list[ModelAttempt] = attrs.field(factory=list)

    before: int = 0
    """Attempts used up when it was begun anew."""
    tries: int = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.most, takes_self=True)
    )
    """Attempts it has each time."""

    def __attrs_post_init__(self) -> None:
        self.due = self.queued = max(self.created, self.not_before or 0.0)
        if self.held:
            self.state = "suspended"
        else:
            self.state = "scheduled" if self.due > self.created else "available"

    @property
    def cost(self) -> int:
        return sum(attempt.counts_with for attempt in self.attempts)

    @property
    def known(self) -> bool:
        return all(a.state != "settled" or a.amount is not None for a in self.attempts)

    @property
    def lane(self) -> Any:
        return self.model, self.uid, sorted(self.tags.items())

    def over(self, state: str, now: float) -> None:
        self.state, self.finished = state, now

    def crash(self, now: float) -> None:
        in_flight = [a for a in self.attempts if a.state == "open"]
        for attempt in in_flight:
            attempt.state = "lost"
        self.crashes += 1
        if in_flight:
            self.billed = True
        if self.crashes == 3 or (
            in_flight and (self.on_interrupt == "fail" or self.used >= self.most)
        ):
            self.over("discarded", now)
        else:
            self.state = "available"

    def standing(self, now: float) -> tuple[int, float]:
        """Return the class it stands in now, and since when."""
        rank = CLASSES.index(self.priority)
        risen = 0
        while risen < rank and self.queued + (risen + 1) * AGING <= now:
            risen += 1
        return rank - risen, self.queued + risen * AGING


@attrs.define(eq=False)
class Model:
    jobs: list[ModelJob] = attrs.field(factory=list)
    others: list[ModelAttempt] = attrs.field(factory=list)
    """Requests that were no jobs."""
    forgotten: list[ModelAttempt] = attrs.field(factory=list)
    """The attempts of jobs that were pruned; the ledger has them still."""
    turns: list[ModelJob] = attrs.field(factory=list)
    passed: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(CLASSES, 0))

    def find(self, id_: str) -> ModelJob:
        return next(job for job in self.jobs if job.id == id_)

    def in_state(self, *states: str) -> list[ModelJob]:
        return [job for job in self.jobs if job.state in states]

    def by_key(self, uid: int, key: str | None) -> ModelJob | None:
        same = [
            j for j in self.jobs if key is not None and (j.uid, j.key) == (uid, key)
        ]
        return same[0] if same else None

    def stage(self, now: float) -> tuple[int, set[str]]:
        expired = [
            job
            for job in self.in_state("suspended", "scheduled", "available", "retryable")
            if job.deadline is not None and job.deadline <= now
        ]
        for job in expired:
            job.over("expired", now)
        due = [j for j in self.in_state("scheduled", "retryable") if j.due <= now]
        for job in due:
            job.state = "available"
        return len(due), {job.id for job in expired}

    def next_at(self) -> float | None:
        times = [job.due for job in self.in_state("scheduled", "retryable")]
        waiting = self.in_state("suspended", "scheduled", "available", "retryable")
        times += [job.deadline for job in waiting if job.deadline is not None]
        return min(times, default=None)

    def next_turn(self, now: float, blocked: set[str]) -> ModelJob | None:
        able = [j for j in self.in_state("available") if j.model not in blocked]
        if not able:
            return None
        there = {job.priority for job in able}
        late = [p for p in CLASSES if p in there and self.passed[p] >= PASSED_OVER_MOST]
        if late:
            worst = max(late, key=lambda p: self.passed[p])
            able = [job for job in able if job.priority == worst]
        best = min(job.standing(now)[0] for job in able)
        able = [job for job in able if job.standing(now)[0] == best]
        able = least_recent(able, self.turns, lambda job: job.uid)
        able = least_recent(able, self.turns, lambda job: job.lane)
        chosen = min(able, key=lambda job: (self._top(job), job.id))
        for priority in CLASSES:
            if priority == chosen.priority or priority not in there:
                self.passed[priority] = 0
            else:
                self.passed[priority] += 1
        self.turns.append(chosen)
        return chosen

    def claim(
        self, limit: int, now: float, until: float, blocked: set[str]
    ) -> list[str]:
        claimed = list[str]()
        while len(claimed) < limit and (job := self.next_turn(now, blocked)):
            job.state = "executing"
            job.claims += 1
            job.lease_until = until
            claimed.append(job.id)
        return claimed

    def forget_turns(self) -> None:
        self.turns.clear()
        self.passed = dict.fromkeys(CLASSES, 0)

    def ledger(self) -> list[ModelAttempt]:
        mine = [attempt for job in self.jobs for attempt in job.attempts]
        return mine + self.others + self.forgotten

    @staticmethod
    def _top(job: ModelJob) -> float:
        return job.queued + CLASSES.index(job.priority) * AGING


def least_recent(
    jobs: list[ModelJob], turns: list[ModelJob], who: Any
) -> list[ModelJob]:
    """Return those of *jobs* whose like has had no turn for longest."""

    def last(job: ModelJob) -> int:
        numbers = [n for n, turn in enumerate(turns) if who(turn) == who(job)]
        return max(numbers, default=-1)

    first = min(last(job) for job in jobs)
    return [job for job in jobs if last(job) == first]
