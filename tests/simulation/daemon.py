"""The real thing as a policy: the whole tree, in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from duckservice.calls.call import CallOptions
from duckservice.core.job import JobState
from duckservice.core.pricing import pico
from duckservice.errors import Unavailable
from duckservice.events import AttemptEnded, Event
from duckservice.jobs.as_json import read_submission
from duckservice.running import RunningService, open_running
from duckservice.store.base import LedgerFilter
from duckservice.store.memory import MemoryStore
from duckservice.tree import Seams
from tests.simulation.load import Order
from tests.simulation.policy import Book, Client, Ledger, Setting, wall_clock


@asynccontextmanager
async def open_daemon(setting: Setting) -> AsyncGenerator[Client]:
    """Run the service for the length of a block."""
    store, attempts = MemoryStore(), Attempts()

    def emit(event: Event) -> None:
        attempts.add(event)
        setting.emit(event)

    seams = Seams(wall_clock=wall_clock, random=setting.random, emit=emit)
    async with open_running(
        setting.config, providers=setting.providers, seams=seams, store=store
    ) as service:
        yield _Daemon(service, store, attempts)


@attrs.define(eq=False)
class Attempts:
    """What the service says of each attempt, as it would go into the log."""

    exact: int = 0
    """Picodollars of those whose replies came whole."""
    guessed: int = 0

    def add(self, event: Event) -> None:
        """Take note of an attempt's cost."""
        if isinstance(event, AttemptEnded) and event.cost_usd is not None:
            if event.outcome == "ok":
                self.exact += pico(event.cost_usd)
            else:
                self.guessed += pico(event.cost_usd)


@attrs.define(eq=False)
class _Daemon:
    service: RunningService
    store: MemoryStore
    attempts: Attempts

    async def ask(self, order: Order) -> None:
        """See `Client.ask`."""
        if order.source.durable:
            await self._job(order)
            return
        source = order.source
        options = CallOptions(
            priority=source.priority, tags=source.tags, deadline=order.deadline
        )
        if order.stream:
            async with self.service.stream(order.request, options) as answer:
                async for _ in answer.batches:
                    pass
        else:
            await self.service.complete(order.request, options)

    async def _job(self, order: Order) -> None:
        request = order.request
        [part] = request.messages[0].parts
        body: dict[str, Any] = {
            "kind": "chat",
            "request": {
                "model": request.model,
                "messages": [{"role": "user", "content": part.text}],  # type: ignore[union-attr]
                "max_tokens": request.max_tokens,
            },
            "priority": order.source.priority,
            "tags": dict(order.source.tags),
        }
        if order.deadline is not None:
            body["deadline"] = order.deadline - trio.current_time()
        submission = read_submission(json.dumps(body).encode(), now=wall_clock())
        submitted = await self.service.jobs.submit(submission)
        view = await self.service.jobs.wait(submitted.job.id)
        if view.job.state is not JobState.COMPLETED:
            errors = "; ".join(error.code for error in view.job.errors)
            msg = f"the job ended {view.job.state}: {errors}"
            raise Unavailable(msg)

    def books(self) -> Sequence[Book]:
        """See `Client.books`."""
        if not self.service.config.budgets:
            return ()
        return [
            Book(
                name=its["name"],
                limit=pico(its["limit_usd"]),
                spent=pico(its["spent_usd"]),
                reserved=pico(its["reserved_usd"]),
            )
            for its in self.service.budgets()
        ]

    async def ledger(self) -> Ledger | None:
        """See `Client.ledger`."""
        sums = await self.store.sums(LedgerFilter())
        return Ledger(
            amount=sum(one.amount for one in sums),
            exact=self.attempts.exact,
            guessed=self.attempts.guessed,
            open=sum(one.open for one in sums),
            estimated=sum(one.estimated for one in sums),
        )
