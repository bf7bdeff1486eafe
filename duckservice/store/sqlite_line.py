"""What waits in the database, counted and looked up: lanes, their heads, the turns.

The jobs stay in the database. Kept in memory are at most `LANES_MAX` counters, and
the heads that were looked up, until their lane changes. A transaction that is taken
back takes this back with it: see `undo`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from duckservice.core.job import UNFINISHED, Job, JobState
from duckservice.core.job_order import (
    LANES_MAX,
    RANKS,
    Blocked,
    Head,
    Lane,
    Turns,
    lane_of,
)
from duckservice.core.waiting_line import PRIORITIES, Priority
from duckservice.store.job_values import LaneLoad

_decode: Final = msgspec.json.Decoder(Lane).decode

_HEAD: Final = (
    "SELECT queued_at, id FROM job INDEXED BY job_line"
    " WHERE lane = ? AND rank = ? ORDER BY queued_at, id LIMIT 1"
)


class Line:
    """Knows how many wait where, and who is next; for the writing connection."""

    def __init__(self, db: sqlite3.Connection, turns: Turns) -> None:
        """*turns* outlive the connection."""
        self._db = db
        self._turns = turns
        self.states: dict[JobState, int] = {}
        self._available: dict[int, int] = {}
        """By lane; those with none are not in it."""
        self._lanes: dict[int, Lane] = {}
        self._ids: dict[Lane, int] = {}
        self._last: tuple[Job, int] | None = None
        """The last that asked for a lane, and the one it was given: many a job comes
        right after another of the same lane."""
        self._heads: dict[tuple[int, int], Head | None] = {}
        self._log: list[tuple[dict[Any, int], Any, int]] = []
        self._load()

    def __repr__(self) -> str:
        return f"<Line {sum(self._available.values())} jobs in {len(self._available)} lanes>"

    def lane_for(self, job: Job) -> int:
        """Return the number of the lane in which *job* is to wait."""
        if self._last is not None:
            last, number = self._last
            # Where somebody waits, it is neither full nor forgotten.
            if number in self._available and _same_lane(job, last):
                return number
        number = self._find_lane(job)
        # Out of a mixed one they go as soon as there is room for their own.
        self._last = None if self._lanes[number].mixed else (job, number)
        return number

    def _find_lane(self, job: Job) -> int:
        lane = lane_of(job)
        number = self._ids.get(lane)
        if number not in self._available and len(self._available) >= LANES_MAX:
            lane = lane_of(job, mixed=True)
            number = self._ids.get(lane)
        return self._new_lane(lane) if number is None else number

    def count(self, state: JobState, by: int) -> None:
        """Take note of jobs that are in *state* now, or not any more."""
        self._add(self.states, state, by)

    def count_available(self, lane: int, rank: int, by: int) -> None:
        """Take note of a job that waits there now, or not any more."""
        self._add(self._available, lane, by)
        if not self._available[lane]:
            del self._available[lane]
        self._heads.pop((lane, rank), None)

    def unfinished(self) -> int:
        """Return how many jobs are not over."""
        states = self.states
        return sum([states.get(state, 0) for state in UNFINISHED])

    def mark(self) -> int:
        """Return where the transaction is, for `undo`."""
        return len(self._log)

    def undo(self, mark: int = 0) -> None:
        """Forget what was counted since, as the transaction was taken back to there."""
        while len(self._log) > mark:
            counts, key, by = self._log.pop()
            counts[key] = counts.get(key, 0) - by
        for lane in [lane for lane, n in self._available.items() if not n]:
            del self._available[lane]
        self._heads.clear()
        self._load_lanes()

    def committed(self) -> None:
        """Take note that nothing will be taken back of what was counted so far."""
        self._log.clear()

    def loads(self) -> tuple[LaneLoad, ...]:
        """Return what is available."""
        return tuple(
            LaneLoad(
                lane=self._lanes[lane],
                available=available,
                oldest=min(head.queued_at for head in self._heads_of(lane)),
            )
            for lane, available in self._available.items()
        )

    def in_turn(self, now: float, blocked: Blocked) -> Iterator[str]:
        """Yield available jobs that are not blocked, whoever's turn it is.

        Whoever iterates must write each in its new state before asking for the next.
        """
        heads = {
            (head.lane, head.priority): head
            for lane in self._available
            if not blocked.holds(self._lanes[lane])
            for head in self._heads_of(lane)
        }
        while (head := self._turns.pick(heads.values(), now)) is not None:
            yield head.id
            following = self._head(self._ids[head.lane], head.priority)
            if following is None:
                del heads[head.lane, head.priority]
            else:
                assert following.id != head.id, "it was not written"
                heads[head.lane, head.priority] = following

    def forget_empty_lanes(self, limit: int) -> None:
        """Delete lanes in which nobody waits."""
        empty = [lane for lane in self._lanes if lane not in self._available]
        for number in empty[:limit]:
            self._db.execute("DELETE FROM lane WHERE id = ?", (number,))
            lane = self._lanes.pop(number)
            del self._ids[lane]

    def _add(self, counts: dict[Any, int], key: Any, by: int) -> None:
        counts[key] = counts.get(key, 0) + by
        self._log.append((counts, key, by))

    def _heads_of(self, lane: int) -> Iterator[Head]:
        for priority in PRIORITIES:
            head = self._head(lane, priority)
            if head is not None:
                yield head

    def _head(self, lane: int, priority: Priority) -> Head | None:
        key = lane, RANKS[priority]
        if key not in self._heads:
            found = self._db.execute(_HEAD, key).fetchone()
            self._heads[key] = found and Head(
                lane=self._lanes[lane],
                priority=priority,
                queued_at=found[0],
                id=found[1],
            )
        return self._heads[key]

    def _new_lane(self, lane: Lane) -> int:
        document = msgspec.json.encode(lane)
        added = self._db.execute("INSERT INTO lane (document) VALUES (?)", (document,))
        number = added.lastrowid
        assert number is not None, "a row was inserted"
        self._lanes[number] = lane
        self._ids[lane] = number
        return number

    def _load(self) -> None:
        self._load_lanes()
        counts = self._db.execute("SELECT state, count(*) FROM job GROUP BY state")
        self.states = {JobState(state): count for state, count in counts}
        counts = self._db.execute(
            "SELECT lane, count(*) FROM job INDEXED BY job_line"
            " WHERE lane IS NOT NULL GROUP BY lane"
        )
        self._available = dict(counts.fetchall())

    def _load_lanes(self) -> None:
        rows = self._db.execute("SELECT id, document FROM lane")
        self._lanes = {number: _decode(document) for number, document in rows}
        self._last = None
        self._ids = {lane: number for number, lane in self._lanes.items()}


def _same_lane(one: Job, other: Job) -> bool:
    return (
        one.model == other.model
        and one.submitter == other.submitter
        and one.batch == other.batch
        and one.tags == other.tags
    )
