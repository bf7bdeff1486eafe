"""Batches: many requests in a file, run as durable jobs, their results in files.

    batches.starter          starts what an earlier life left unfinished, and the new
    batches.runs.<id>        one batch, see `batches.run`; restarted if it crashes

All of a batch's state is in the store: it goes on where it was, whatever dies.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, final

import attrs
import trio

from duckservice.batches.lines import BatchEndpoint
from duckservice.batches.run import BatchRun
from duckservice.batches.values import (
    ENDED,
    RESULTS_KEPT,
    BatchDetails,
    Tally,
    details_of,
    moved,
    with_details,
)
from duckservice.calls.call import CallOptions
from duckservice.errors import Conflict, Draining
from duckservice.jobs.jobs import Jobs
from duckservice.store.base import Batch, Store, StoreUnavailable
from duckservice.tree import patient
from supervisors import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Restart,
    Strategy,
    SupervisionError,
    child,
    dynamic_supervisor,
    supervisor,
)

STORE_PAUSE: Final = 1.0
"""Seconds before a store that cannot do its work is asked again."""
_PAGE: Final = 100


@attrs.frozen(kw_only=True)
class BatchOrder:
    """What a client asks for."""

    input_file: str
    endpoint: BatchEndpoint
    completion_window: str
    window: float
    """The same in seconds."""
    metadata: dict[str, str] | None = None
    model: str | None = None
    skip_bad: bool = False
    results_kept: float = RESULTS_KEPT
    """Seconds that the results are kept after the window."""
    idempotency_key: str | None = None
    options: CallOptions = attrs.field(factory=CallOptions)


@attrs.frozen
class BatchView:
    """A batch, and how far it has come at this moment."""

    batch: Batch
    details: BatchDetails
    tally: Tally


@final
@attrs.define(eq=False)
class Batches:
    """The batches of a service."""

    jobs: Jobs
    _runs: dict[str, BatchRun] = attrs.field(factory=dict[str, BatchRun])
    _new: deque[str] = attrs.field(factory=deque[str])
    _news: trio.Event = attrs.field(factory=trio.Event)
    _tasks: DynamicSupervisor = attrs.field(
        factory=lambda: DynamicSupervisor("runs", max_restarts=100, max_seconds=10.0)
    )

    @property
    def store(self) -> Store:
        """Where batches and files are kept."""
        return self.jobs.store

    async def create(self, order: BatchOrder) -> BatchView:
        """Take a batch; when this returns it is committed, and will be run.

        The same key with the same order returns the old batch.

        Raises:
            NotFound: there is no such input file.
            Conflict: the key was used for another order.
            Draining: the daemon is about to stop.
        """
        if self.jobs.service.draining:
            msg = "the daemon is about to stop, and takes no new batches"
            raise Draining(msg, retry_after=1.0)
        await self.store.get_file(order.input_file)
        batch = self._batch(order)
        try:
            # Shielded: whoever is cancelled here would not know whether it is stored.
            with trio.CancelScope(shield=True):
                await self.store.create_batch(batch)
        except Conflict:
            return await self._known(batch)
        finally:
            # Whatever went wrong, it may be stored, and then it is run.
            self._new.append(batch.id)
            self._news.set()
        return self.view(batch)

    async def get(self, batch: str) -> BatchView:
        """Return a batch.

        Raises:
            NotFound: there is none of that id.
        """
        return self.view(await self.store.get_batch(batch))

    async def list_batches(
        self, *, submitter: int | None, limit: int, after: str | None
    ) -> tuple[BatchView, ...]:
        """Return batches (of that uid), the newest first.

        Raises:
            NotFound: there is no batch of the id *after*.
        """
        found = await self.store.list_batches(
            submitter=submitter, limit=limit, after=after
        )
        return tuple(self.view(batch) for batch in found)

    async def cancel(self, batch: str) -> BatchView:
        """Give up what has no result yet; it is ``cancelled`` when all of it has ended.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has ended already.
        """
        updated = await self.update(batch, self._cancelling)
        if (run := self._runs.get(batch)) is not None:
            run.cancel()
        return self.view(updated)

    def uses(self, file: str) -> bool:
        """Say whether a batch that runs reads or writes *file*."""
        return any(file in run.files for run in self._runs.values())

    def view(self, batch: Batch) -> BatchView:
        """Return *batch* with how far it has come."""
        details = details_of(batch)
        run = self._runs.get(batch.id)
        live = run is not None and run.ready and batch.status not in ENDED
        return BatchView(batch, details, run.tally if run and live else details.tally)

    async def update(self, batch: str, change: Callable[[Batch], Batch]) -> Batch:
        """Change a batch, whoever else does so at the same time.

        Raises:
            NotFound: there is none of that id.
        """
        while True:
            its = await self.store.get_batch(batch)
            wanted = change(its)
            if wanted == its:
                return its
            try:
                return await self.store.update_batch(wanted)
            except Conflict:
                await trio.lowlevel.checkpoint()

    # In the tree.

    def child(self) -> ChildSpec:
        """Return what the tree runs."""
        children = [dynamic_supervisor(self._tasks), child("starter", self._start_all)]
        return supervisor("batches", patient(children, Strategy.REST_FOR_ONE))

    async def _start_all(self) -> None:
        await self._start_unfinished()
        while True:
            while self._new:
                await self._start(self._new[0])
                self._new.popleft()
            self._news = trio.Event()
            await self._news.wait()

    async def _start_unfinished(self) -> None:
        after: str | None = None
        while True:
            try:
                page = await self.store.list_batches(limit=_PAGE, after=after)
            except StoreUnavailable:
                await trio.sleep(STORE_PAUSE)
                continue
            for batch in page:
                if batch.status not in ENDED:
                    await self._start(batch.id)
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _start(self, batch: str) -> None:
        spec = attrs.evolve(
            child(batch, self._run, batch),
            restart=Restart.TRANSIENT,
            backoff=Backoff(first=1.0, limit=60.0),
        )
        # If the supervisor goes down here, so do we, and both begin anew.
        with suppress(SupervisionError):
            await self._tasks.start_child(spec)

    async def _run(self, batch: str) -> None:
        if batch in self._runs:
            return
        run = self._runs[batch] = BatchRun(batch, self.jobs, self.update)
        try:
            await run.run()
        finally:
            del self._runs[batch]

    # Values.

    def _batch(self, order: BatchOrder) -> Batch:
        now, its = self._now(), order.options
        uid = None if its.submitter is None else its.submitter.uid
        details = BatchDetails(
            endpoint=order.endpoint,
            completion_window=order.completion_window,
            expires_at=now + order.window,
            metadata=order.metadata,
            model=order.model,
            priority=its.priority,
            tags=its.tags,
            submitter=its.submitter,
            max_cost=its.max_cost,
            skip_bad=order.skip_bad,
            results_kept=order.results_kept,
            fingerprint=_fingerprint(order),
        )
        key = order.idempotency_key
        id_ = self.jobs.service.new_id() if key is None else _id_of(uid, key)
        batch = Batch(
            id=f"batch_{id_}",
            created_at=now,
            status="validating",
            submitter=uid,
            input_file=order.input_file,
        )
        return with_details(batch, details)

    async def _known(self, batch: Batch) -> BatchView:
        earlier = await self.get(batch.id)
        if earlier.details.fingerprint != details_of(batch).fingerprint:
            msg = "the idempotency key was used for another batch"
            raise Conflict(msg)
        return earlier

    def _cancelling(self, batch: Batch) -> Batch:
        if batch.status == "cancelling":
            return batch
        if batch.status in ENDED:
            msg = f"batch {batch.id} is {batch.status}: cannot cancel it"
            raise Conflict(msg)
        return moved(batch, "cancelling", self._now())

    def _now(self) -> float:
        return self.jobs.service.seams.wall_clock()


def _id_of(uid: int | None, key: str) -> str:
    return hashlib.blake2b(f"{uid}:{key}".encode(), digest_size=14).hexdigest()


def _fingerprint(order: BatchOrder) -> str:
    its = order.options
    said = repr(
        (
            order.input_file,
            order.endpoint,
            order.completion_window,
            sorted((order.metadata or {}).items()),
            order.model,
            order.skip_bad,
            order.results_kept,
            its.priority,
            sorted(its.tags.items()),
            its.max_cost,
        )
    )
    return hashlib.sha256(said.encode()).hexdigest()
