"""The order of waiting jobs in memory: who is next, due, or overdue.

Heaps with lazy removal: an entry counts as long as its ticket is the job's present
one, so taking a job out costs nothing, and its entry goes when it comes to the top.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

import attrs

from duckservice.core.job import WAITING, Job, JobState
from duckservice.core.job_order import (
    LANES_MAX,
    Blocked,
    Head,
    Lane,
    Turns,
    lane_of,
)
from duckservice.core.waiting_line import PRIORITIES, Priority
from duckservice.store.job_values import LaneLoad

Entry: TypeAlias = tuple[float, str, int]
"""A time, a job's id and its ticket."""
Heap: TypeAlias = list[Entry]

_PAUSED = (JobState.SCHEDULED, JobState.RETRYABLE)


@attrs.define(eq=False)
class _Line:
    heaps: dict[Priority, Heap] = attrs.field(factory=dict[Priority, Heap])
    available: int = 0


class WaitingIndex:
    """Knows every waiting job's place; each operation is logarithmic in their number."""

    def __init__(self, *, aging: float) -> None:
        """*aging* is the time in seconds after which a job rises by one class."""
        self._turns = Turns(aging=aging)
        self._lines: dict[Lane, _Line] = {}
        self._lane_of: dict[str, Lane] = {}
        self._due: Heap = []
        self._overdue: Heap = []
        self._tickets: dict[str, int] = {}
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<WaitingIndex {len(self._tickets)} jobs, {len(self._lines)} lanes>"

    def put(self, job: Job) -> None:
        """Take note of what a job has become."""
        self._take_out(job.id)
        if job.state not in WAITING:
            return
        ticket = self._tickets[job.id] = next(self._numbers)
        if job.state is JobState.AVAILABLE:
            self._enter(job, ticket)
        elif job.state in _PAUSED:
            heappush(self._due, (job.due_at, job.id, ticket))
        if job.deadline is not None:
            heappush(self._overdue, (job.deadline, job.id, ticket))

    def due(self, now: float) -> str | None:
        """Return a job whose pause is over, if there is one."""
        return self._reached(self._due, now)

    def overdue(self, now: float) -> str | None:
        """Return a waiting job whose deadline has passed, if there is one."""
        return self._reached(self._overdue, now)

    def next_at(self) -> float | None:
        """Return when the next job is due or overdue, if ever."""
        tops = [self._top(heap) for heap in (self._due, self._overdue)]
        return min((top[0] for top in tops if top is not None), default=None)

    def lanes(self) -> tuple[LaneLoad, ...]:
        """Return what is available."""
        return tuple(
            LaneLoad(
                lane=lane,
                available=line.available,
                oldest=min(head.queued_at for head in self._heads(lane, line)),
            )
            for lane, line in self._lines.items()
        )

    def in_turn(self, now: float, blocked: Blocked) -> Iterator[str]:
        """Yield available jobs that are not blocked, whoever's turn it is.

        Whoever iterates must `put` each in its new state before asking for the next.
        """
        heads = {
            (lane, head.priority): head
            for lane, line in self._lines.items()
            if not blocked.holds(lane)
            for head in self._heads(lane, line)
        }
        while (head := self._turns.pick(heads.values(), now)) is not None:
            yield head.id
            del heads[head.lane, head.priority]
            line = self._lines.get(head.lane)
            following = line and self._head(head.lane, line, head.priority)
            if following:
                assert following.id != head.id, "it was not taken out"
                heads[head.lane, head.priority] = following

    def _enter(self, job: Job, ticket: int) -> None:
        lane = lane_of(job)
        if lane not in self._lines and len(self._lines) >= LANES_MAX:
            lane = lane_of(job, mixed=True)
        self._lane_of[job.id] = lane
        line = self._lines.setdefault(lane, _Line())
        line.available += 1
        entry = (job.queued_at, job.id, ticket)
        heappush(line.heaps.setdefault(job.priority, []), entry)

    def _take_out(self, job: str) -> None:
        self._tickets.pop(job, None)
        lane = self._lane_of.pop(job, None)
        if lane is None:
            return
        line = self._lines[lane]
        line.available -= 1
        if not line.available:
            del self._lines[lane]

    def _heads(self, lane: Lane, line: _Line) -> Iterator[Head]:
        for priority in PRIORITIES:
            head = self._head(lane, line, priority)
            if head is not None:
                yield head

    def _head(self, lane: Lane, line: _Line, priority: Priority) -> Head | None:
        top = self._top(line.heaps.get(priority, []))
        if top is None:
            return None
        return Head(lane=lane, priority=priority, queued_at=top[0], id=top[1])

    def _reached(self, heap: Heap, now: float) -> str | None:
        top = self._top(heap)
        return top[1] if top is not None and top[0] <= now else None

    def _top(self, heap: Heap) -> Entry | None:
        while heap and self._tickets.get(heap[0][1]) != heap[0][2]:
            heappop(heap)
        return heap[0] if heap else None
