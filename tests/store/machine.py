"""A store against the model, step by step, with crashes between any two steps."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from duckservice.completion import Usage
from duckservice.core.job import IllegalTransition, JobError, JobState, Settlement
from duckservice.core.job_order import Blocked
from duckservice.errors import NotFound
from duckservice.store.base import (
    KEY_KEPT,
    Cancel,
    Crash,
    Existing,
    Expire,
    Fail,
    Finish,
    Hold,
    Inserted,
    JobFilter,
    LedgerEntry,
    LedgerFilter,
    Patch,
    Refused,
    Release,
    Retention,
    Retry,
    Snooze,
    StaleLease,
    Store,
)

from .conformance import Jobs
from .engines import Engine
from .model import AGING, OVER, Model, ModelAttempt, ModelJob

REACHED: Counter[str] = Counter()
START = 1_800_000_000.0
WAITING = ("suspended", "scheduled", "available", "retryable")


class Portal:
    """A trio loop in a thread, so that a test that is not async drives a store."""

    def __init__(self) -> None:
        tokens = SimpleQueue[trio.lowlevel.TrioToken]()
        self._done = trio.Event()

        async def main() -> None:
            tokens.put(trio.lowlevel.current_trio_token())
            await self._done.wait()

        self._thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
        self._thread.start()
        self._token = tokens.get()

    def call(
        self, ask: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        async def call() -> Any:
            return await ask(*args, **kwargs)

        return trio.from_thread.run(call, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._done.set, trio_token=self._token)
        self._thread.join()


class StoreMachine(RuleBasedStateMachine):
    """Random lives of a few jobs; after every step all must be as in the model."""

    engine: Engine
    seconds = st.sampled_from([0, 1, 5, AGING - 1, AGING, 2 * AGING])

    @initialize()
    def open(self) -> None:
        self.places = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.place = self.places / "0"
        self.place.mkdir()
        self.lives = 1
        self.portal = Portal()
        self.model = Model()
        self.jobs = Jobs()
        self.now = START
        self.others = 0
        self.leases: list[tuple[ModelJob, Any]] = []
        self._open()

    def teardown(self) -> None:
        if hasattr(self, "portal"):
            self.portal.call(self.opened.aclose)
            self.portal.close()
            shutil.rmtree(self.places)

    # Clients.

    @rule(
        number=st.sampled_from([1, 1, 1, 3]),
        priority=st.sampled_from(["high", "normal", "low"]),
        model=st.sampled_from(["a", "b"]),
        uid=st.integers(1, 2),
        tags=st.sampled_from([{}, {"t": "x"}]),
        on_interrupt=st.sampled_from(["retry", "fail"]),
        most=st.integers(1, 3),
        wishes=st.sampled_from(
            [{}, {}, {}, {"not_before": 5}, {"deadline": AGING}, {"hold": True}]
        ),
        key=st.sampled_from([None, None, "k", "l"]),
        fingerprint=st.sampled_from(["f", "f", "g"]),
    )
    def submit(self, number, priority, wishes, key, most, **others) -> None:
        wishes = {
            name: value if name == "hold" else self.now + value
            for name, value in wishes.items()
        }
        for _ in range(number):
            self._submit(priority, wishes, key, most, **others)

    def _submit(
        self, priority, wishes, key, most, model, uid, tags, on_interrupt, fingerprint
    ) -> None:
        new = self.jobs.make(
            self.now,
            uid=uid,
            priority=priority,
            model=model,
            tags=tags,
            on_interrupt=on_interrupt,
            max_attempts=most,
            idempotency_key=key,
            fingerprint=fingerprint,
            **wishes,
        )
        (outcome,) = self.call("insert", [new])
        earlier = self.model.by_key(uid, key)
        if earlier is not None and earlier.fingerprint == fingerprint:
            assert isinstance(outcome, Existing)
            assert outcome.job.id == earlier.id
            REACHED["the same submission again"] += 1
        elif earlier is not None:
            assert isinstance(outcome, Refused)
            REACHED["a key for something else"] += 1
        else:
            assert isinstance(outcome, Inserted)
            self.model.jobs.append(
                ModelJob(
                    id=new.job.id,
                    created=self.now,
                    priority=priority,
                    model=model,
                    uid=uid,
                    tags=tags,
                    on_interrupt=on_interrupt,
                    most=most,
                    not_before=wishes.get("not_before"),
                    deadline=wishes.get("deadline"),
                    key=key,
                    fingerprint=fingerprint,
                    held=wishes.get("hold", False),
                )
            )

    @precondition(lambda self: self.model.jobs)
    @rule(
        data=st.data(), change=st.sampled_from([Cancel(), Hold(), Release(), Retry()])
    )
    def wish(self, data, change) -> None:
        self._wish(data.draw(st.sampled_from(self.model.jobs), label="job"), change)

    def _wish(self, job: ModelJob, change: Any) -> None:
        allowed = {
            Cancel: (*WAITING, "executing"),
            Hold: ("scheduled", "available", "retryable"),
            Release: ("suspended",),
            Retry: ("retryable", "discarded", "cancelled", "expired"),
        }[type(change)]
        if job.state not in allowed:
            with pytest.raises(IllegalTransition, match=f" is {job.state}: "):
                self.call("change", job.id, change, self.now)
            return
        REACHED[f"{type(change).__name__} of {job.state}"] += 1
        self.call("change", job.id, change, self.now)
        match change:
            case Cancel():
                job.over("cancelled", self.now)
            case Hold():
                job.state = "suspended"
            case Release():
                if (job.not_before or 0) > self.now:
                    job.state, job.due = "scheduled", job.not_before
                else:
                    job.state, job.due = "available", min(job.due, self.now)
            case Retry():
                if job.finished is not None:
                    job.most, job.before = job.used + job.tries, job.used
                    job.crashes = 0
                    job.queued = self.now
                    if job.deadline is not None and job.deadline <= self.now:
                        job.deadline = None
                job.state, job.due, job.finished = "available", self.now, None

    @precondition(lambda self: self.model.in_state(*WAITING, "executing"))
    @rule(
        data=st.data(),
        priority=st.sampled_from([None, "high", "normal", "low"]),
        in_time=st.sampled_from([None, 3, AGING]),
    )
    def patch(self, data, priority, in_time) -> None:
        job = data.draw(st.sampled_from(self.model.in_state(*WAITING, "executing")))
        deadline = None if in_time is None else self.now + in_time
        patch = Patch(priority=priority, deadline=deadline)
        self.call("change", job.id, patch, self.now)
        job.priority = priority or job.priority
        job.deadline = deadline or job.deadline

    # The dispatcher.

    @rule(seconds=seconds)
    def time_passes(self, seconds) -> None:
        self.now += seconds

    @precondition(lambda self: self.model.next_at() is not None)
    @rule()
    def until_the_next_is_due(self) -> None:
        at = self.model.next_at()
        if at > self.now:
            self.now = at
            REACHED["just due"] += 1
        self.stage()

    @rule()
    def stage(self) -> None:
        staged = self.call("stage", self.now)
        available, expired = self.model.stage(self.now)
        assert (staged.available, set(staged.expired)) == (available, expired)
        assert staged.next_at == self.model.next_at()

    @rule(
        limit=st.sampled_from([1, 1, 2, 10]),
        blocked=st.sampled_from([set(), set(), {"a"}, {"a", "b"}]),
    )
    def claim(self, limit, blocked) -> None:
        self.stage()
        until = self.now + 10
        claimed = self.call(
            "claim",
            limit,
            self.now,
            lease_until=until,
            blocked=Blocked(models=frozenset(blocked)),
        )
        expected = self.model.claim(limit, self.now, until, blocked)
        assert [one.job.id for one in claimed] == expected
        REACHED["claims of several"] += len(expected) > 1
        for one in claimed:
            self.leases.append((self.model.find(one.job.id), one.lease))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), reserved=st.integers(0, 100))
    def begin(self, data, reserved) -> None:
        self._begin(*data.draw(st.sampled_from(self.leases), label="lease"), reserved)

    def _begin(self, job: ModelJob, lease: Any, reserved: int) -> None:
        attempt = self.ask_under(
            job,
            lease,
            "begin_attempt",
            lease,
            provider="p",
            model="m",
            reserved=reserved,
            now=self.now,
            may_fail=job.used >= job.most,
        )
        if attempt is None:
            return
        assert job.used < job.most
        job.used += 1
        assert attempt.number == len(job.attempts) + 1
        job.attempts.append(
            ModelAttempt(attempt.id, self.now, reserved, tags=dict(job.tags))
        )

    @precondition(lambda self: any(job.attempts for job in self.model.jobs))
    @rule(
        data=st.data(),
        amount=st.sampled_from([None, 0, 7, 60]),
        counts=st.booleans(),
    )
    def settle(self, data, amount, counts) -> None:
        attempts = [(j, a) for j in self.model.jobs for a in j.attempts]
        job, attempt = data.draw(st.sampled_from(attempts), label="attempt")
        self._settle_one(job, attempt, amount, counts=counts)

    def _settle_one(
        self, job: ModelJob, attempt: ModelAttempt, amount: int | None, *, counts: bool
    ) -> None:
        settlement = self._settlement(amount, counts=counts)
        if attempt.state == "settled":
            self.is_stale("settle_attempt", attempt.id, settlement, self.now)
            return
        REACHED[f"settled, was {attempt.state}"] += 1
        self.call("settle_attempt", attempt.id, settlement, self.now)
        self._settled(job, attempt, amount, counts=counts)

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        how=st.sampled_from(["finish", "finish", "fail", "retry", "snooze", "crash"]),
        amount=st.sampled_from([None, 9, 60]),
        counts=st.booleans(),
    )
    def end(self, data, how, amount, counts) -> None:
        self._end_one(
            *data.draw(st.sampled_from(self.leases), label="lease"), how, amount, counts
        )

    def _end_one(
        self, job: ModelJob, lease: Any, how: str, amount: int | None, counts: bool
    ) -> None:
        open_ = [] if how == "crash" else [a for a in job.attempts if a.state == "open"]
        error = JobError(at=self.now, attempt=job.used, code="timeout", message="late")
        later = self.now + 5
        outcome = {
            "finish": Finish(result=b"%d" % lease.number),
            "fail": Fail(error=error, retry_at=None),
            "retry": Fail(error=error, retry_at=later),
            "snooze": Snooze(until=later, reason="paused"),
            "crash": Crash(),
        }[how]
        if job.deadline is not None and job.deadline <= self.now and how == "fail":
            how, outcome = "expire", Expire()
        settlement = self._settlement(amount, counts=counts)
        settled = (open_[0].id, settlement) if open_ else None
        valid = self._valid(job, lease)
        REACHED[f"{how}, {'valid' if valid else 'stale'}"] += 1
        self.ask_under(job, lease, "end", lease, outcome, self.now, settled=settled)
        if open_ and job in self.model.jobs:
            self._settled(job, open_[0], amount, counts=counts)
        if valid:
            self._end(job, how, later, lease)

    def _end(self, job: ModelJob, how: str, later: float, lease: Any) -> None:
        match how:
            case "finish":
                job.over("completed", self.now)
                job.result = b"%d" % lease.number
            case "expire":
                job.over("expired", self.now)
            case "crash":
                job.crash(self.now)
            case "snooze":
                job.state, job.due = "scheduled", later
            case "retry" if job.used < job.most and later < (job.deadline or 9e99):
                job.state, job.due = "retryable", later
            case _:
                job.over("discarded", self.now)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), pieces=st.lists(st.binary(max_size=3), max_size=3))
    def stream(self, data, pieces) -> None:
        job, lease = data.draw(st.sampled_from(self.leases), label="lease")
        last = self.ask_under(job, lease, "append_deltas", lease, "x", pieces)
        if last is not None:
            job.stream += [("x", piece) for piece in pieces]
            assert last == len(job.stream)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def heartbeat(self, data) -> None:
        job, lease = data.draw(st.sampled_from(self.leases), label="lease")
        stale = self.call("extend", [lease], until=self.now + 20)
        assert stale == (() if self._valid(job, lease) else (lease,))
        if not stale:
            job.lease_until = self.now + 20

    @rule()
    def rescue_expired(self) -> None:
        ended = [
            job
            for job in self.model.in_state("executing")
            if job.lease_until <= self.now
        ]
        rescued = self.call("rescue_expired", self.now)
        assert {job.id for job in rescued} == {job.id for job in ended}
        for job in ended:
            job.crash(self.now)

    # Whole ways, since steps by chance seldom get far.

    @rule(
        number=st.integers(1, 4),
        priority=st.sampled_from(["high", "normal", "low"]),
        on_interrupt=st.sampled_from(["retry", "fail"]),
        begun=st.booleans(),
    )
    def some_run(self, number, priority, on_interrupt, begun) -> None:
        for uid in range(number):
            self._submit(
                priority,
                {},
                None,
                3,
                model="ab"[uid % 2],
                uid=uid // 2,
                tags={"t": "x"} if uid == 3 else {},
                on_interrupt=on_interrupt,
                fingerprint="",
            )
        self.claim(number, set())
        for job, lease in self.leases[-number:] if begun else ():
            self._begin(job, lease, 40)

    @precondition(lambda self: self.leases)
    @rule(how=st.sampled_from(["finish", "retry", "snooze", "crash"]))
    def what_runs_ends(self, how) -> None:
        for job, lease in list(self.leases):
            if self._valid(job, lease):
                self._end_one(job, lease, how, 9, how != "snooze")
        if self.model.next_at() is not None:
            self.until_the_next_is_due()

    @rule(amount=st.sampled_from([None, 7]), counts=st.booleans())
    def one_is_settled_before_it_ends(self, amount, counts) -> None:
        self.some_run(1, "high", "retry", True)
        job, _ = self.leases[-1]
        if job.attempts and job.attempts[-1].state == "open":
            self._settle_one(job, job.attempts[-1], amount, counts=counts)

    @rule(times=st.integers(1, 3))
    def one_crashes_again_and_again(self, times) -> None:
        self._submit(
            "high", {}, None, 9, "b", 9, {}, on_interrupt="retry", fingerprint=""
        )
        job = self.model.jobs[-1]
        for _ in range(times):
            while job.state == "available":
                self.claim(1, {"a"})
            self._end_one(*self.leases[-1], "crash", None, True)
        REACHED["poisoned"] += job.state == "discarded"

    @rule(fingerprint=st.sampled_from(["f", "g"]))
    def one_is_submitted_again(self, fingerprint) -> None:
        for its in ("f", fingerprint):
            self._submit(
                "low", {}, "m", 3, "b", 1, {}, on_interrupt="fail", fingerprint=its
            )

    @rule(most=st.integers(1, 3))
    def one_uses_up_its_attempts(self, most) -> None:
        self._submit(
            "high", {}, None, most, "b", 8, {}, on_interrupt="retry", fingerprint=""
        )
        job = self.model.jobs[-1]
        while job.state == "available":
            self.claim(1, {"a"})
        for _ in range(most + 1):
            self._begin(*self.leases[-1], 40)
            if job.attempts[-1].state == "open":
                self._settle_one(job, job.attempts[-1], 1, counts=True)

    @rule(how=st.sampled_from(["finish", "crash"]), settled=st.booleans())
    def one_is_taken_away_and_its_result_is_late(self, how, settled) -> None:
        self.some_run(1, "high", "retry", True)
        job, lease = self.leases[-1]
        self.now += 10
        self.rescue_expired()
        self._end_one(job, lease, how, 9, True)
        if settled and job.attempts:
            self._settle_one(job, job.attempts[-1], 7, counts=True)

    @precondition(lambda self: self.model.in_state("executing", *OVER))
    @rule(data=st.data())
    def what_runs_is_cancelled_and_what_is_over_begins_anew(self, data) -> None:
        job = data.draw(st.sampled_from(self.model.in_state("executing", *OVER)))
        self._wish(job, Cancel() if job.state == "executing" else Retry())

    @rule()
    def much_later(self) -> None:
        self.now += KEY_KEPT
        self.stage()
        self.prune()

    # Money that is no job's, and the whole.

    @rule(settled=st.booleans(), amount=st.integers(0, 50), many=st.booleans())
    def another_request(self, settled, amount, many) -> None:
        self.others += 1
        entry = LedgerEntry(
            id=f"r{self.others}", provider="p", model="m", at=self.now, reserved=50
        )
        self.call("record", [entry])
        its = ModelAttempt(entry.id, self.now, 50)
        self.model.others.append(its)
        if settled:
            settlement = self._settlement(amount)
            if many:
                self.call("settle_entries", [(entry.id, settlement)] * 2)
            else:
                self.call("settle_entry", entry.id, settlement)
            its.state, its.amount = "settled", amount

    @rule()
    def prune(self) -> None:
        keep = 2 * AGING
        retention = Retention(
            completed=keep, discarded=keep, cancelled=keep, expired=keep, deltas=1e9
        )
        doomed = [
            job
            for job in self.model.in_state(*OVER)
            if (job.finished or 0) <= self.now - keep
            and (job.key is None or job.created <= self.now - KEY_KEPT)
        ]
        pruned = self.call("prune", retention, self.now)
        assert (pruned.jobs, pruned.more) == (len(doomed), False)
        REACHED["pruned"] += len(doomed)
        for job in doomed:
            self.model.jobs.remove(job)
            self.model.forgotten += job.attempts
        self.leases = [(j, lease) for j, lease in self.leases if j not in doomed]

    @precondition(lambda self: self.leases)
    @rule(killed=st.booleans())
    def crash_and_start_again(self, killed) -> None:
        if self.engine.survives:
            self._reopen(killed=killed)
            self.model.forget_turns()
        running = self.model.in_state("executing")
        REACHED["rescued at the start"] += len(running)
        rescued = self.call("rescue_at_start", self.now)
        assert {job.id for job in rescued} == {job.id for job in running}
        for job in running:
            job.crash(self.now)
        for job in self.model.jobs:
            for attempt in job.attempts:
                if attempt.state == "open":
                    attempt.state, job.billed = "lost", True
        for attempt in (*self.model.others, *self.model.forgotten):
            if attempt.state == "open":
                attempt.state = "lost"

    # What must hold.

    @invariant()
    def all_jobs_are_as_they_should_be(self) -> None:
        page = self.call("list_jobs", JobFilter(), limit=1000, oldest_first=True)
        assert page.cursor is None
        assert len(page.jobs) == len(self.model.jobs)
        for job, its in zip(page.jobs, self.model.jobs, strict=True):
            assert (job.id, job.state, job.priority) == (
                its.id,
                its.state,
                its.priority,
            )
            assert (job.attempt, job.crashes) == (its.used, its.crashes)
            assert job.attempt <= job.max_attempts == its.most
            assert (job.cost, job.cost_known) == (its.cost, its.known)
            assert (job.maybe_billed, job.deadline) == (its.billed, its.deadline)
            assert (job.finished_at, job.queued_at) == (its.finished, its.queued)
            assert (job.wait_reason is not None) == (its.state in WAITING)

    @invariant()
    def the_counts_and_the_lanes_agree(self) -> None:
        states = Counter(job.state for job in self.model.jobs)
        counts = self.call("counts")
        assert counts == {state: states.get(state.value, 0) for state in JobState}
        lanes = self.call("lanes")
        assert sum(load.available for load in lanes) == states["available"]

    @invariant()
    def the_ledger_is_the_sum_of_the_attempts(self) -> None:
        ledger = self.model.ledger()
        open_ = {attempt.id for attempt in ledger if attempt.state == "open"}
        assert {entry.id for entry in self.call("open_entries")} == open_
        sums = self.call("sums", LedgerFilter())
        assert sum(one.amount for one in sums) == sum(a.counts_with for a in ledger)
        assert sum(one.entries for one in sums) == len(ledger)
        assert all(one.sure <= one.counted for one in sums)
        tagged = self.call("sums", LedgerFilter(tags={"t": "x"}))
        assert sum(one.entries for one in tagged) == sum("t" in a.tags for a in ledger)

    @rule()
    def look_closely(self) -> None:
        for job in self.model.jobs:
            assert self.call("result", job.id) == job.result
            records = self.call("attempts", job.id)
            assert [(r.id, r.state, r.reserved) for r in records] == [
                (a.id, a.state, a.reserved) for a in job.attempts
            ]
            deltas = self.call("read_deltas", job.id, limit=1000)
            assert [(d.attempt, d.data) for d in deltas.items] == job.stream
            assert [d.id for d in deltas.items] == [*range(1, len(job.stream) + 1)]
            assert deltas.final == (job.state in OVER)

    # Helpers.

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self.portal.call(getattr(self.store, method), *args, **kwargs)

    def ask_under(
        self,
        job: ModelJob,
        lease: Any,
        *args: Any,
        may_fail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Ask for what needs a lease; return None where that is refused, rightly."""
        if not self._valid(job, lease):
            self.is_stale(*args, **kwargs)
            return None
        try:
            return self.call(*args, **kwargs)
        except IllegalTransition:
            assert may_fail
            REACHED["no attempt left"] += 1
            return None

    def is_stale(self, *args: Any, **kwargs: Any) -> None:
        with pytest.raises((StaleLease, NotFound)):
            self.call(*args, **kwargs)

    def _valid(self, job: ModelJob, lease: Any) -> bool:
        return job.state == "executing" and job.claims == lease.number

    def _settlement(self, amount: int | None, *, counts: bool = True) -> Settlement:
        usage = Usage(input_tokens=1)
        return Settlement(outcome="ok", usage=usage, cost=amount, counts=counts)

    def _settled(
        self, job: ModelJob, attempt: ModelAttempt, amount: int | None, *, counts: bool
    ) -> None:
        if attempt.state == "open" and not counts:
            job.used = max(job.before, job.used - 1)
        attempt.state, attempt.amount = "settled", amount

    def _open(self) -> None:
        self.opened = AsyncExitStack()

        async def enter() -> Store:
            return await self.opened.enter_async_context(
                self.engine.open(self.place, float(AGING))
            )

        self.store = self.portal.call(enter)

    def _reopen(self, *, killed: bool) -> None:
        """Open what is on disk; after a kill, what is there before any goodbye."""
        place = self.place
        if killed:
            place = self.places / str(self.lives)
            shutil.copytree(self.place, place)
            self.lives += 1
            REACHED["killed"] += 1
        self.portal.call(self.opened.aclose)
        self.place = place
        self._open()
