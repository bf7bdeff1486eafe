"""The task that runs one batch: from the check of its file to the last result.

    check       every line; one that is bad fails the batch, unless it is to be skipped
    feed        lines become jobs, some dozens at a time, a commit for each group
    collect     the results of jobs that are over go to the end of the batch's files
    finish      when every line has a result

What has a result is read from the files themselves, and what is under way from the
jobs, so a run that was cut off anywhere goes on without doing a line twice. No more
than `WINDOW` jobs of a batch are unfinished: the rest stays in its file, and the
memory that this takes does not depend on the file's length.

With a limit to its cost, a line becomes a job when its worst case fits beside those
that run and what was spent; one that does not fit when nothing runs is not run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, final

import attrs
import trio

from duckservice.batches.check import check, checked, cost_bound
from duckservice.batches.files import (
    PAUSE,
    ResultFile,
    error_file,
    output_file,
    patiently,
    read_lines,
)
from duckservice.batches.lines import BadLine, BatchLine, LineReader, line_number
from duckservice.batches.result import (
    CANCELLED,
    EXPIRED,
    Result,
    has_expired,
    not_run,
    result_of,
)
from duckservice.batches.values import (
    ENDED,
    ERRORS_MAX,
    BatchDetails,
    BatchStatus,
    Tally,
    details_of,
    moved,
    with_details,
)
from duckservice.core.job import IllegalTransition, Job, Submission
from duckservice.core.pricing import usd
from duckservice.errors import Draining, NotFound, QueueFull
from duckservice.jobs.jobs import Jobs
from duckservice.store.base import (
    Batch,
    Existing,
    Inserted,
    InsertOutcome,
    JobFilter,
    JobPage,
    Refused,
)

WINDOW: Final = 512
"""So many jobs of a batch may be unfinished at a time."""
GROUP: Final = 64
"""So many lines become jobs in one commit."""
LOADS: Final = 16
"""So many results are in memory at a time, on their way to the files."""
_APPEND_BYTES: Final = 1024 * 1024
_PAGE: Final = 1000

_UNBOUNDED: Final = (
    "not run: what it may cost has no bound (set max_tokens; the model needs a price)"
)

Update = Callable[[str, Callable[[Batch], Batch]], Awaitable[Batch]]


@attrs.frozen
class _Ready:
    """A line's result on its way to the files."""

    number: int
    result: Result
    job: Job | None = None


@attrs.frozen
class _Fed:
    """A line that is to become a job."""

    line: BatchLine
    bound: int
    """What it may cost, where the batch has a limit."""


@attrs.frozen
class _Open:
    """A line that a job was made of, and has no result yet."""

    job: str
    bound: int
    """What it may cost, where the batch has a limit."""


@final
@attrs.define(eq=False)
class BatchRun:
    """Runs one batch."""

    id: str
    _jobs: Jobs
    _update: Update
    tally: Tally = attrs.field(factory=Tally)
    ready: bool = False
    """Whether `tally` is complete."""
    files: frozenset[str] = frozenset()
    """What it reads and writes."""
    _cancelled: trio.Event = attrs.field(factory=trio.Event)
    _expired: bool = False
    """Whether a line has got no result in time."""
    _gone: NotFound | None = None
    """Set if the input is deleted, or its time is over, before all of it was read."""
    _done: set[int] = attrs.field(factory=set[int])
    """The lines that have a result."""
    _earlier: dict[int, Job] = attrs.field(factory=dict[int, Job])
    """Jobs of an earlier run, by line, whose results are not in the files."""
    _open: dict[int, _Open] = attrs.field(factory=dict[int, _Open])
    _fewer: trio.Event = attrs.field(factory=trio.Event)
    _group: list[_Fed] = attrs.field(factory=list[_Fed])
    """What is to become jobs with the next commit."""
    _loads: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(LOADS)
    )
    _results: trio.MemorySendChannel[_Ready] = attrs.field(init=False)
    _arrived: trio.MemoryReceiveChannel[_Ready] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the channel between those who collect and the one who writes."""
        self._results, self._arrived = trio.open_memory_channel[_Ready](LOADS)

    def cancel(self) -> None:
        """Give up what has no result; the store says so already."""
        self._cancelled.set()

    async def run(self) -> None:
        """Bring the batch to its end, from wherever it is."""
        store = self._jobs.store
        try:
            batch = await patiently(lambda: store.get_batch(self.id))
        except NotFound:
            return  # its order has failed before it was stored
        input_file = batch.input_file or ""
        output = ResultFile(store, output_file(self.id))
        errors = ResultFile(store, error_file(self.id))
        self.files = frozenset({input_file, output.id, errors.id})
        its = details_of(batch)
        if "in_progress" not in its.times and batch.status not in ENDED:
            its = await self._check(batch, its)
            batch = await self._checked(batch, its, output, errors)
        if batch.status in ENDED:
            return
        if batch.status == "cancelling":
            self.cancel()
        its = details_of(batch)
        await self._recover(its, output, errors)
        if batch.status != "finalizing":
            await self._work(its, input_file, output, errors)
            if self._gone is None:
                await self._move("finalizing")
        await self._finish()

    # Check.

    async def _check(self, batch: Batch, its: BatchDetails) -> BatchDetails:
        store, input_file = self._jobs.store, batch.input_file or ""
        found = await check(store, input_file, its, self._jobs)
        tally = Tally(total=found.total)
        return attrs.evolve(its, bad=found.bad, bad_lines=found.bad_lines, tally=tally)

    async def _checked(
        self, batch: Batch, its: BatchDetails, output: ResultFile, errors: ResultFile
    ) -> Batch:
        """Take down what was found; the batch goes on, or has failed."""
        ok = its.tally.total > 0 and (its.skip_bad or not its.bad)
        if ok:
            for file in (output, errors):
                until = its.expires_at + its.results_kept
                await file.make(batch, self._now(), until)

        def change(batch: Batch) -> Batch:
            old = details_of(batch)
            new = attrs.evolve(
                old, bad=its.bad, bad_lines=its.bad_lines, tally=its.tally
            )
            if not ok:
                return moved(with_details(batch, new), "failed", self._now())
            made = attrs.evolve(
                with_details(batch, new), output_file=output.id, error_file=errors.id
            )
            going = moved(made, "in_progress", self._now())
            # Cancelled meanwhile: that its lines were checked is true all the same.
            return attrs.evolve(going, status="cancelling") if _stops(batch) else going

        return await patiently(lambda: self._update(self.id, change))

    # Recover.

    async def _recover(
        self, its: BatchDetails, output: ResultFile, errors: ResultFile
    ) -> None:
        """Find out how far earlier runs have come."""
        completed = await self._read_results(output)
        failed = await self._read_results(errors)
        total = its.tally.total
        self.tally = Tally(total=total, completed=completed, failed=failed)
        cursor: str | None = None
        while True:
            page = await self._some_jobs(cursor)
            for job in page.jobs:
                self._note(job)
            cursor = page.cursor
            if cursor is None:
                break
        self.ready = True

    async def _read_results(self, file: ResultFile) -> int:
        before = len(self._done)
        await file.recover(self._note_result)
        return len(self._done) - before

    def _note_result(self, line: bytes) -> None:
        number = line_number(line)
        if number is not None:
            self._done.add(number)
            self._expired |= has_expired(line)

    async def _some_jobs(self, cursor: str | None) -> JobPage:
        which, store = JobFilter(batch=self.id), self._jobs.store
        return await patiently(
            lambda: store.list_jobs(which, limit=_PAGE, cursor=cursor)
        )

    def _note(self, job: Job) -> None:
        if job.line is None:
            return
        if job.line in self._done:
            self.tally = self.tally.spent(job)
        else:
            self._earlier[job.line] = job

    # Feed.

    async def _work(
        self,
        its: BatchDetails,
        input_file: str,
        output: ResultFile,
        errors: ResultFile,
    ) -> None:
        reader = LineReader(its.endpoint, its.model)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, output, errors)
            nursery.start_soon(self._cancel_when_told)
            try:
                lines = read_lines(self._jobs.store, input_file)
                async with aclosing(lines):
                    async for raw in lines:
                        line = reader.read(raw)
                        if its.skip_bad:
                            line = checked(line, its, self._jobs)
                        if isinstance(line, BatchLine) and not self._is_done(line):
                            await self._feed(line, its, nursery)
            except NotFound as error:
                self._gone = error
                for job in self._earlier.values():  # nobody can tell whose they are
                    await self._cancel(job.id)
            await self._flush(its, nursery)
            await self._until(lambda: not self._open)
            nursery.cancel_scope.cancel()

    def _is_done(self, line: BatchLine) -> bool:
        return line.number in self._done

    async def _feed(
        self, line: BatchLine, its: BatchDetails, nursery: trio.Nursery
    ) -> None:
        earlier = self._earlier.pop(line.number, None)
        if earlier is not None:
            self._begin(line, earlier.id, earlier.max_cost or 0, nursery)
        elif (why := self._why_not(its)) is not None:
            await self._give_up(line, why)
        else:
            bound = 0
            if its.max_cost is not None:
                fitting = await self._room(line, its, its.max_cost, nursery)
                if fitting is None:
                    return
                bound = fitting
            self._group.append(_Fed(line, bound))
            if len(self._group) >= GROUP:
                await self._flush(its, nursery)

    async def _room(
        self,
        line: BatchLine,
        its: BatchDetails,
        max_cost: int,
        nursery: trio.Nursery,
    ) -> int | None:
        """Return what *line* may cost, once there is room for it; None: it is given up."""
        bound = cost_bound(line, self._jobs)
        if bound is None:
            await self._give_up(line, "budget_exceeded", _UNBOUNDED)
            return None
        while self._committed() + bound > max_cost:
            await self._flush(its, nursery)
            if (why := self._why_not(its)) is not None:
                await self._give_up(line, why)
                return None
            if not self._open:
                left = usd(max(0, max_cost - self.tally.cost))
                msg = f"may cost {usd(bound)} USD; {left} are left of the batch's limit"
                await self._give_up(line, "budget_exceeded", f"not run: it {msg}")
                return None
            await self._fewer.wait()
        # An attempt that is lost in a crash counts as spent: while money is plenty, a
        # job may have several.
        several = bound * self._jobs.service.config.retry.max_attempts
        return several if self._committed() + several <= max_cost // 2 else bound

    def _committed(self) -> int:
        """Return what was spent, and what may be by what is under way."""
        under_way = sum(its.bound for its in self._open.values())
        return self.tally.cost + under_way + sum(its.bound for its in self._group)

    async def _flush(self, its: BatchDetails, nursery: trio.Nursery) -> None:
        """Make jobs of the group, in one commit, when there is room for them."""
        while self._group:
            group, size = self._group, len(self._group)
            await self._until(partial(self._has_room, size))
            if (why := self._why_not(its)) is not None:
                self._group = []
                for each in group:
                    await self._give_up(each.line, why)
                return
            outcomes = await self._submitted(group, its)
            self._group = []
            for each, outcome in zip(group, outcomes, strict=True):
                await self._take(each, outcome, nursery)
            if self._group:
                await trio.sleep(PAUSE)

    def _has_room(self, lines: int) -> bool:
        return len(self._open) + lines <= WINDOW

    async def _submitted(
        self, group: Sequence[_Fed], its: BatchDetails
    ) -> tuple[InsertOutcome, ...]:
        attempts = self._jobs.service.config.retry.max_attempts
        new = [_submission(self.id, each, its, attempts) for each in group]
        while True:
            with suppress(Draining):
                return await patiently(lambda: self._jobs.submit_many(new))
            await trio.sleep(PAUSE)

    async def _take(
        self, fed: _Fed, outcome: InsertOutcome, nursery: trio.Nursery
    ) -> None:
        match outcome:
            case Inserted(job) | Existing(job):
                self._begin(fed.line, job.id, fed.bound, nursery)
            case Refused(QueueFull()):
                self._group.append(fed)
            case Refused(error):
                await self._give_up(fed.line, error.code, error.message)

    def _begin(
        self, line: BatchLine, job: str, bound: int, nursery: trio.Nursery
    ) -> None:
        self._open[line.number] = _Open(job, bound)
        nursery.start_soon(self._collect, line.number, line.custom_id, job)

    def _why_not(self, its: BatchDetails) -> str | None:
        """Return why no more lines are begun."""
        if self._cancelled.is_set():
            return CANCELLED
        if self._now() >= its.expires_at:
            return EXPIRED
        return None

    async def _give_up(self, line: BatchLine, code: str, message: str = "") -> None:
        result = not_run(self.id, line.number, line.custom_id, code, message)
        self._open[line.number] = _Open("", 0)
        await self._results.send(_Ready(line.number, result))

    # Collect.

    async def _collect(self, number: int, custom_id: str, job: str) -> None:
        """Wait for the end of a job, and pass its result on."""
        store = self._jobs.store
        if self._cancelled.is_set():
            await self._cancel(job)
        try:
            its = await patiently(lambda: store.wait_final(job))
            async with self._loads:
                answer = await patiently(lambda: store.result(job))
                result = result_of(self.id, number, custom_id, its, answer)
                await self._results.send(_Ready(number, result, its))
        except NotFound:
            message = f"job {job} is not in the store any more"
            result = not_run(self.id, number, custom_id, "not_found", message)
            await self._results.send(_Ready(number, result))

    async def _cancel_when_told(self) -> None:
        await self._cancelled.wait()
        self._tell()
        for its in tuple(self._open.values()):
            if its.job:
                await self._cancel(its.job)

    async def _cancel(self, job: str) -> None:
        with suppress(IllegalTransition, NotFound):
            await patiently(lambda: self._jobs.cancel(job))

    async def _write(self, output: ResultFile, errors: ResultFile) -> None:
        """Append what has arrived, all that is there at a time."""
        async for first in self._arrived:
            ready, size = [first], len(first.result.line)
            while size < _APPEND_BYTES:
                try:
                    more = self._arrived.receive_nowait()
                except trio.WouldBlock:
                    break
                ready.append(more)
                size += len(more.result.line)
            await output.append(_joined(ready, ok=True))
            await errors.append(_joined(ready, ok=False))
            for each in ready:
                self._count(each)
            self._tell()

    def _count(self, ready: _Ready) -> None:
        """Take note of a line whose result is in a file."""
        ok = ready.result.ok
        self._expired |= has_expired(ready.result.line)
        self._done.add(ready.number)
        self._open.pop(ready.number, None)
        tally = self.tally if ready.job is None else self.tally.spent(ready.job)
        self.tally = attrs.evolve(
            tally, completed=tally.completed + ok, failed=tally.failed + (not ok)
        )

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that comes with the end of a line."""
        while not condition():
            await self._fewer.wait()

    def _tell(self) -> None:
        self._fewer.set()
        self._fewer = trio.Event()

    # Finish.

    async def _finish(self) -> None:
        if self._cancelled.is_set():
            await self._move("cancelled")
        elif self._gone is not None:
            await self._move("failed")
        else:
            await self._move("expired" if self._expired else "completed")

    async def _move(self, status: BatchStatus) -> None:
        def change(batch: Batch) -> Batch:
            its = attrs.evolve(details_of(batch), tally=self.tally)
            if status == "failed" and self._gone is not None:
                gone = self._gone
                bad = BadLine(number=0, code=gone.code, message=gone.message)
                its = attrs.evolve(its, bad=(bad, *its.bad)[:ERRORS_MAX])
            if status == "finalizing" and _stops(batch):
                return with_details(batch, its)
            if status in ENDED and _stops(batch):
                return moved(with_details(batch, its), "cancelled", self._now())
            return moved(with_details(batch, its), status, self._now())

        await patiently(lambda: self._update(self.id, change))

    def _now(self) -> float:
        return self._jobs.service.seams.wall_clock()


def _stops(batch: Batch) -> bool:
    return batch.status == "cancelling"


def _submission(
    batch: str, fed: _Fed, its: BatchDetails, max_attempts: int
) -> Submission:
    line = fed.line
    return Submission(
        kind=line.kind,
        model=line.request.model,
        request=line.body,
        priority=its.priority,
        tags=its.tags,
        submitter=its.submitter,
        deadline=its.expires_at,
        max_cost=None if its.max_cost is None else fed.bound,
        max_attempts=max_attempts,
        batch=batch,
        line=line.number,
        idempotency_key=f"{batch}:{line.number}",
        fingerprint=hashlib.sha256(line.body).hexdigest(),
    )


def _joined(ready: Sequence[_Ready], *, ok: bool) -> bytes:
    return b"".join(each.result.line for each in ready if each.result.ok is ok)
