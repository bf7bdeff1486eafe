"""How the parts of durable jobs are put together: the store, what runs jobs, `Jobs`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import attrs

from duckservice.actors.dispatcher import Dispatcher, waker, watch_store
from duckservice.actors.job_board import JobBoard, RunningJob
from duckservice.actors.store_keeper import StoreKeeper
from duckservice.config import Config
from duckservice.core.cost_sums import CostSums, Sum
from duckservice.jobs.jobs import PAUSED, Jobs
from duckservice.jobs.outlook import UNSERVED_MAX, Outlook
from duckservice.jobs.run import JobRun
from duckservice.service import Service
from duckservice.store import open_store
from duckservice.store.base import LedgerFilter, Store
from duckservice.store_room import StoreRoom
from duckservice.store_slot import StoreSlot
from duckservice.tree import MAX_INBOX, JobChildren, Seams, patient
from supervisors import (
    ActorRef,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Restart,
    Strategy,
    actor,
    child,
    dynamic_supervisor,
    supervisor,
)

REOPEN = Backoff(first=0.1, limit=5.0)
"""How long restarts of the store wait: a full disk must not end the daemon."""


@attrs.frozen
class Durable:
    """Durable jobs: what clients use, and what the tree runs."""

    jobs: Jobs
    slot: StoreSlot
    children: JobChildren
    tasks: DynamicSupervisor
    """Of which each job that runs has one."""

    def refresh(self, config: Config) -> None:
        """Take note that the config is another one."""
        self.tasks.max_children = _tasks_max(config)
        self.jobs.board.wake()


def make_durable(
    service: Service, open_: Callable[[], AbstractAsyncContextManager[Store]]
) -> Durable:
    """Put together what durable jobs need, around *service*; nothing runs yet."""
    seams = service.seams
    slot = StoreSlot(open_, seams.emit)
    room = StoreRoom(service.config.store)
    board = JobBoard()
    outlook = Outlook(service, board)
    jobs = Jobs(service, slot.store, board, outlook, room)
    ref = ActorRef[Dispatcher]("dispatcher", max_inbox=MAX_INBOX)
    board.wake_up = waker(ref, board, seams.emit)
    tasks = DynamicSupervisor("jobs", max_children=_tasks_max(service.config))

    def task_of(running: RunningJob) -> ChildSpec:
        run = JobRun(running, service, slot.store, board)
        return attrs.evolve(child(running.job.id, run.run), restart=Restart.TEMPORARY)

    async def prepare() -> None:
        flags = await slot.store.flags()
        # A pause that the store could not take down holds as long as we live.
        board.paused = board.paused or PAUSED in flags
        if board.paused:
            service.parts.board.paused = True
        await service.parts.budgets.load(slot.store, service.parts.own_name)
        await load_costs(slot.store, service.parts.sums)

    dispatcher = attrs.evolve(
        actor(
            ref,
            Dispatcher.start,
            ref,
            slot.store,
            board,
            tasks,
            outlook,
            task_of,
            seams.wall_clock,
        ),
        id="dispatcher",
    )
    news = child("news", watch_store, slot.store, board)
    subtree = patient(
        [dynamic_supervisor(tasks), dispatcher, news], Strategy.REST_FOR_ONE
    )
    keep = cast("Callable[..., Awaitable[None]]", slot.run)
    store = attrs.evolve(child("store", keep, prepare), backoff=REOPEN)
    service.parts.ledger.store = slot.store
    service.parts.ledger.emit = seams.emit
    service.parts.budgets.alerts.emit = seams.emit
    service.parts.budgets.alerts.remember = service.parts.ledger.remember
    ledger = child("ledger", service.parts.ledger.run, slot.store)
    return Durable(
        jobs,
        slot,
        JobChildren(
            store=store,
            store_keeper=_keeper(slot, room, seams),
            ledger=ledger,
            dispatcher=supervisor("dispatcher", subtree),
        ),
        tasks,
    )


def _keeper(slot: StoreSlot, room: StoreRoom, seams: Seams) -> ChildSpec:
    ref = ActorRef[StoreKeeper]("store_keeper", max_inbox=MAX_INBOX)
    start = StoreKeeper.start
    spec = actor(ref, start, ref, slot, room, seams.wall_clock, seams.emit)
    return attrs.evolve(spec, id="store_keeper")


async def load_costs(store: Store, sums: CostSums) -> None:
    """Add what earlier lives of the daemon have spent; nothing, if that was done.

    An attempt that is open or lost counts with what was reserved for it.
    """
    if sums.loaded:
        return
    for each in await store.sums(LedgerFilter()):
        usage = each.usage
        one = Sum(
            requests=each.entries,
            failures=each.failures,
            unpriced=each.unpriced,
            estimated=each.estimated,
            cost=each.amount + each.reserved,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        )
        sums.add_sum(each.hour, each.provider, each.model, one)
    sums.loaded = True


@asynccontextmanager
async def open_opener(
    config: Config, state_dir: Path | None, store: Store | None
) -> AsyncGenerator[Callable[[], AbstractAsyncContextManager[Store]]]:
    """Return what opens the configured store, as often as it is asked.

    A store in memory outlives the child that keeps it: it is opened here. That holds
    for a *store* that is given, and where nobody says in which *state_dir* to keep one.
    """
    url, aging = config.store.url, config.queue.aging
    if store is not None:
        yield lambda: _opened(store)
    elif forgets(config, state_dir):
        async with open_store("memory", state_dir=Path(), aging=aging) as made:
            yield lambda: _opened(made)
    else:
        directory = state_dir or Path()
        yield lambda: open_store(url, state_dir=directory, aging=aging)


def forgets(config: Config, state_dir: Path | None) -> bool:
    """Say whether the configured store lives in memory only."""
    url = config.store.url
    return url == "memory" or (url == "sqlite" and state_dir is None)


@asynccontextmanager
async def _opened(store: Store) -> AsyncGenerator[Store]:
    yield store


def _tasks_max(config: Config) -> int:
    """Return how many jobs can run: all turns, one in each line, and the hopeless."""
    providers = config.providers.values()
    return sum(its.max_concurrency + 1 for its in providers) + UNSERVED_MAX
