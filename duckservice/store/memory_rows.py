"""The jobs in memory, and all that is known of them; nothing here waits."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush

import attrs
import trio

from duckservice.core.job import FINAL, UNFINISHED, WAITING, Job, JobState
from duckservice.errors import NotFound
from duckservice.store.decisions import stale
from duckservice.store.delta_store import Delta
from duckservice.store.job_values import AttemptRecord, Lease
from duckservice.store.memory_index import WaitingIndex
from duckservice.store.upkeep import KEY_KEPT, Retention


@attrs.define(eq=False)
class Row:
    """One job, with what belongs to it."""

    job: Job
    request: bytes = attrs.field(repr=False)
    result: bytes | None = attrs.field(default=None, repr=False)
    claims: int = 0
    lease_until: float = 0.0
    attempts: list[AttemptRecord] = attrs.field(factory=list[AttemptRecord])
    deltas: list[Delta] = attrs.field(factory=list[Delta])
    last_delta: int = 0
    changed: trio.Event = attrs.field(factory=trio.Event)

    def open_attempts(self) -> list[AttemptRecord]:
        """Return the attempts whose end is not known."""
        return [record for record in self.attempts if record.state == "open"]

    def append(self, attempt: str, data: Iterable[bytes]) -> None:
        """Add to the stream."""
        for piece in data:
            self.last_delta += 1
            self.deltas.append(Delta(id=self.last_delta, attempt=attempt, data=piece))

    def wake(self) -> None:
        """Tell whoever waits for news of this job."""
        self.changed.set()
        self.changed = trio.Event()


class Rows:
    """All jobs, and their indices, which `write` keeps in step."""

    def __init__(self, *, aging: float) -> None:
        """*aging* is the time in seconds after which a job rises by one class."""
        self.waiting = WaitingIndex(aging=aging)
        self.executing: dict[str, None] = {}
        self.keys: dict[tuple[int | None, str], str] = {}
        self.counts: Counter[JobState] = Counter()
        self.batch_counts: dict[str, Counter[JobState]] = {}
        self.open_attempts: dict[str, str] = {}
        self.news = 0
        self.has_news = trio.Event()
        self._rows: dict[str, Row] = {}
        self._sorted: list[str] = []
        self._over: dict[JobState, list[tuple[float, str]]] = {s: [] for s in FINAL}
        self._streams: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, job: str) -> Row:
        """Return the row of a job.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self._rows[job]
        except KeyError:
            msg = f"there is no job {job}"
            raise NotFound(msg) from None

    def unfinished(self) -> int:
        """Return how many jobs are not over."""
        return sum(self.counts[state] for state in UNFINISHED)

    def insert(self, job: Job, request: bytes) -> Row:
        """Insert a new job."""
        assert job.id not in self._rows, "ids are unique"
        row = self._rows[job.id] = Row(job, request)
        if self._sorted and self._sorted[-1] > job.id:
            insort(self._sorted, job.id)
        else:
            self._sorted.append(job.id)
        if job.idempotency_key is not None:
            self.keys[_key(job)] = job.id
        self._count(job, 1)
        self._index(row)
        return row

    def known(self, job: Job) -> Job | None:
        """Return the job that came earlier under the same key, if one did."""
        if job.idempotency_key is None:
            return None
        earlier = self.keys.get(_key(job))
        return None if earlier is None else self._rows[earlier].job

    def held(self, lease: Lease) -> Row | None:
        """Return the row of the job that *lease* is valid for, if it is for any."""
        if lease.job not in self.executing:
            return None
        row = self._rows[lease.job]
        return row if row.claims == lease.number else None

    def must_hold(self, lease: Lease) -> Row:
        """Return the row of the job that *lease* is valid for.

        Raises:
            StaleLease: it is not valid any more.
        """
        row = self.held(lease)
        if row is None:
            raise stale(lease)
        return row

    def write(self, row: Row, job: Job) -> None:
        """Replace a row's job by what has become of it."""
        self._count(row.job, -1)
        was, row.job = row.job, job
        self._count(job, 1)
        if was.state is JobState.EXECUTING:
            del self.executing[job.id]
        self._index(row)
        if job.state.final and not was.state.final:
            self._note_end(row)
        row.wake()

    def put_attempt(self, row: Row, record: AttemptRecord) -> None:
        """Insert an attempt's record, or replace it."""
        if record.number > len(row.attempts):
            row.attempts.append(record)
        else:
            row.attempts[record.number - 1] = record
        if record.state == "open":
            self.open_attempts[record.id] = record.job
        else:
            self.open_attempts.pop(record.id, None)

    def tell_news(self) -> None:
        """Tell whoever waits for work."""
        self.news += 1
        self.has_news.set()
        self.has_news = trio.Event()

    def wake_all(self) -> None:
        """Wake whoever waits for anything."""
        self.tell_news()
        for row in self._rows.values():
            row.wake()

    def backwards(self, before: str | None) -> Iterator[Job]:
        """Yield the jobs from the newest on, or from the one before that id."""
        ids = self._sorted
        end = len(ids) if before is None else bisect_left(ids, before)
        return (self._rows[ids[at]].job for at in range(end - 1, -1, -1))

    def forwards(self, after: str | None) -> Iterator[Job]:
        """Yield the jobs from the oldest on, or from the one after that id."""
        ids = self._sorted
        start = 0 if after is None else bisect_left(ids, after + "\0")
        return (self._rows[ids[at]].job for at in range(start, len(ids)))

    def prune(self, retention: Retention, now: float, limit: int) -> tuple[int, bool]:
        """Delete jobs that are over for long; say how many, and whether more are."""
        keep = {
            JobState.COMPLETED: retention.completed,
            JobState.DISCARDED: retention.discarded,
            JobState.CANCELLED: retention.cancelled,
            JobState.EXPIRED: retention.expired,
        }
        deleted, more = 0, False
        for state, seconds in keep.items():
            old, more_of_it = self._pop_old(
                self._over[state], now - seconds, limit - deleted, _unless_key(now)
            )
            for row in old:
                self._delete(row)
            deleted, more = deleted + len(old), more or more_of_it
        if deleted:
            self._sorted = [job for job in self._sorted if job in self._rows]
        return deleted, more

    def prune_streams(self, before: float, limit: int) -> tuple[int, bool]:
        """Delete the streams of jobs that were over by then; see `prune`."""
        old, more = self._pop_old(self._streams, before, limit, lambda _row: True)
        for row in old:
            row.deltas.clear()
        return len(old), more

    def _pop_old(
        self,
        heap: list[tuple[float, str]],
        before: float,
        limit: int,
        may_go: Callable[[Row], bool],
    ) -> tuple[list[Row], bool]:
        """Return rows of jobs that were over by then, and whether there are more."""
        old = list[Row]()
        kept = list[tuple[float, str]]()
        more = False
        while heap and heap[0][0] <= before:
            row = self._rows.get(heap[0][1])
            # A job that was retried has another entry, or none yet; or, if it was over
            # again at the same time, two that are equal.
            if (
                row is None
                or row.job.finished_at != heap[0][0]
                or (old and old[-1] is row)
            ):
                heappop(heap)
            elif not may_go(row):
                kept.append(heappop(heap))
            elif len(old) < limit:
                heappop(heap)
                old.append(row)
            else:
                more = True
                break
        for entry in kept:
            heappush(heap, entry)
        return old, more

    def _delete(self, row: Row) -> None:
        job = row.job
        del self._rows[job.id]
        self._count(job, -1)
        if job.idempotency_key is not None:
            del self.keys[_key(job)]
        for record in row.open_attempts():
            del self.open_attempts[record.id]

    def _count(self, job: Job, by: int) -> None:
        self.counts[job.state] += by
        if job.batch is not None:
            counts = self.batch_counts.setdefault(job.batch, Counter())
            counts[job.state] += by
            if not counts.total():
                del self.batch_counts[job.batch]

    def _index(self, row: Row) -> None:
        job = row.job
        self.waiting.put(job)
        if job.state is JobState.EXECUTING:
            self.executing[job.id] = None
        elif job.state in WAITING:
            self.tell_news()

    def _note_end(self, row: Row) -> None:
        job = row.job
        assert job.finished_at is not None, "it is over"
        heappush(self._over[job.state], (job.finished_at, job.id))
        if row.deltas:
            heappush(self._streams, (job.finished_at, job.id))


def _key(job: Job) -> tuple[int | None, str]:
    assert job.idempotency_key is not None, "it has a key"
    uid = None if job.submitter is None else job.submitter.uid
    return uid, job.idempotency_key


def _unless_key(now: float) -> Callable[[Row], bool]:
    def may_go(row: Row) -> bool:
        job = row.job
        return job.idempotency_key is None or job.created_at <= now - KEY_KEPT

    return may_go
