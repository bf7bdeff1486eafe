"""The service with its cache: equal requests are answered once.

    look up -> a hit, for which nobody is asked
            -> a miss: ask, and keep the answer if it is whole

With ``cache.coalesce``, a miss that is under way already is waited for; see `flights`.
Nothing is locked: between looking up and joining a call there is no checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from duckservice.cache.flight import Flight, Reader
from duckservice.cache.flights import Flights, Seat, for_another
from duckservice.cache.recording import Recorder
from duckservice.cache.replies import ReplyCache
from duckservice.cache.reply import (
    Kept,
    Recorded,
    Reply,
    embeddings_of,
    stream_of,
    whole_of,
)
from duckservice.cache.streams import Batch, Recording, Replay
from duckservice.calls.call import Answer, Call, CallOptions, CallReport, StreamAnswer
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    Completion,
    EmbeddingRequest,
    Embeddings,
)
from duckservice.config import Config
from duckservice.service import Counters, Service
from duckservice.tree import GATEWAY
from supervisors import ChildSpec, SupervisorSpec, child

T = TypeVar("T")
R = TypeVar("R", ChatRequest, EmbeddingRequest)
W = TypeVar("W", Completion, Embeddings)


@attrs.frozen
class _Asked:
    """A request that the cache is asked for."""

    cache: ReplyCache
    key: bytes
    options: CallOptions
    request: AnyRequest

    async def find(self, read: Callable[[Reply], T | None]) -> tuple[T, Kept] | None:
        """Return what is kept, in the form that *read* gives; None: it is to be asked.

        Who wants a new answer is not given what is kept.
        """
        if self.options.cache != "use":
            return None
        return await self.cache.find(self.key, read)

    def keep(self, reply: Reply | None, report: CallReport) -> None:
        """Keep a whole answer."""
        self.cache.keep(self.key, reply, report)

    def keep_stream(self, chunks: Batch, report: CallReport) -> None:
        """Keep a stream that has come to its end."""
        self.keep(Recorded(tuple(chunks)) if chunks else None, report)


@attrs.define(eq=False)
class CachingService(Service):
    """A service that need not ask twice for the same."""

    _cache: ReplyCache | None = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: ReplyCache.of(self.config), takes_self=True),
    )
    """None: it is not enabled."""
    _flights: Flights = attrs.field(init=False, factory=Flights)

    async def complete(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> Answer[Completion]:
        """Return the completion that is kept, or that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        asked = self._asked(request, options)
        if asked is None:
            return await Service.complete(self, request, options)
        return await self._answered(asked, request, Service.complete, whole_of)

    async def embed(
        self, request: EmbeddingRequest, options: CallOptions | None = None
    ) -> Answer[Embeddings]:
        """Return the embeddings that are kept, or that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        asked = self._asked(request, options)
        if asked is None:
            return await Service.embed(self, request, options)
        return await self._answered(asked, request, Service.embed, embeddings_of)

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> AsyncGenerator[StreamAnswer]:
        """Stream the completion; entered when its first chunks are here.

        One that is kept comes as a stream, too. A stream that breaks off raises a
        typed error, and nothing is repeated.
        """
        asked = self._asked(request, options)
        if asked is None:
            opened = Service.stream(self, request, options)
        elif (found := await asked.find(stream_of)) is not None:
            opened = self._replayed(asked, *found)
        elif self._shares(asked):
            opened = self._shared_stream(asked, request)
        else:
            opened = self._recorded_stream(asked, request)
        async with opened as answer:
            yield answer

    def cache_status(self) -> dict[str, int] | None:
        """Return what is kept, and of what use it was; None: it is not enabled."""
        return None if self._cache is None else self._cache.status()

    def refresh(self, config: Config) -> None:
        """Go by another config from now on."""
        self.config = config
        self.planner.refresh()
        if self._cache is not None:
            self._cache.renew(config)

    def with_cache(
        self, spec: SupervisorSpec, state_dir: Path | None
    ) -> SupervisorSpec:
        """Add to the tree what the cache needs; it starts before the gateway."""
        its, added = self.config.cache, list[ChildSpec]()
        if self._cache is not None and its.persist and state_dir is not None:
            file = self._cache.open_file(self.config, state_dir, self.seams)
            added.append(child("cache_file", file.run))
        if self._cache is not None and its.coalesce:
            added.append(child("flights", self._flights.run))
        ids = [its.id for its in spec.children]
        at = ids.index(GATEWAY) if GATEWAY in ids else len(ids)
        children = [*spec.children[:at], *added, *spec.children[at:]]
        return attrs.evolve(spec, children=children)

    def _asked(self, request: AnyRequest, options: CallOptions | None) -> _Asked | None:
        """Return what to look for; None if the cache has no part in this request."""
        cache, options = self._cache, options or CallOptions()
        # A job's record says what was sent for it: its answer must have been.
        if cache is None or options.cache == "off" or options.watch is not None:
            return None
        key = cache.key_of(request)
        return None if key is None else _Asked(cache, key, options, request)

    def _shares(self, asked: _Asked) -> bool:
        """Say whether *asked* may wait for a call that others wait for, too.

        Who wants a new answer does not want one that was asked for earlier.
        """
        may = self.config.cache.coalesce and asked.options.cache == "use"
        return may and self._flights.ready

    # Answers that come whole.

    async def _answered(
        self,
        asked: _Asked,
        request: R,
        ask: Callable[[Service, R, CallOptions], Awaitable[Answer[W]]],
        read: Callable[[Reply], W | None],
    ) -> Answer[W]:
        found = await asked.find(read)
        if found is not None:
            value, kept = found
            with self._call(asked.options, asked.request) as call:
                await trio.lowlevel.checkpoint()
                asked.cache.hits += 1
                return Answer(value, _hit(call.report, kept.provider, kept.model))
        if self._shares(asked):
            return await self._shared_answer(asked, request, ask)
        asked.cache.misses += 1
        answer = await ask(self, request, asked.options)
        answer.report.cache = "miss"
        asked.keep(answer.value, answer.report)
        return answer

    async def _shared_answer(
        self,
        asked: _Asked,
        request: R,
        ask: Callable[[Service, R, CallOptions], Awaitable[Answer[W]]],
    ) -> Answer[W]:
        with self._call(asked.options, asked.request) as call:

            async def carry(flight: Flight[W]) -> None:
                asked.cache.misses += 1
                answer = await ask(self._uncounted(), request, _carried(call))
                answer.report.cache = "miss"
                asked.keep(answer.value, answer.report)
                flight.add(answer.value)
                flight.open(answer.report)

            what, priority = ("whole", asked.key), asked.options.priority
            async with self._flights.joined(what, priority, carry) as seat:
                return Answer(seat.flight.items[0], _report(asked.cache, call, seat))

    # Answers that are streams.

    @asynccontextmanager
    async def _replayed(
        self, asked: _Asked, chunks: Batch, kept: Kept
    ) -> AsyncGenerator[StreamAnswer]:
        with self._call(asked.options, asked.request) as call:
            await trio.lowlevel.checkpoint()
            asked.cache.hits += 1
            report = _hit(call.report, kept.provider, kept.model)
            yield StreamAnswer(Replay(chunks), report)

    @asynccontextmanager
    async def _recorded_stream(
        self, asked: _Asked, request: ChatRequest
    ) -> AsyncGenerator[StreamAnswer]:
        asked.cache.misses += 1
        async with Service.stream(self, request, asked.options) as answer:
            report = answer.report
            report.cache = "miss"

            def keep(chunks: Batch) -> None:
                asked.keep_stream(chunks, report)

            recorder = Recorder(asked.cache.max_bytes)
            yield StreamAnswer(Recording(answer.batches, recorder, keep), report)

    @asynccontextmanager
    async def _shared_stream(
        self, asked: _Asked, request: ChatRequest
    ) -> AsyncGenerator[StreamAnswer]:
        with self._call(asked.options, asked.request) as call:

            async def carry(flight: Flight[Batch]) -> None:
                asked.cache.misses += 1
                recorder = Recorder(asked.cache.max_bytes)
                twin, options = self._uncounted(), _carried(call)
                async with Service.stream(twin, request, options) as answer:
                    answer.report.cache = "miss"
                    flight.open(answer.report)
                    async for batch in answer.batches:
                        recorder.add(batch)
                        flight.add(batch)
                asked.keep_stream(recorder.chunks(), answer.report)

            what, priority = ("stream", asked.key), asked.options.priority
            async with self._flights.joined(what, priority, carry) as seat:
                report = _report(asked.cache, call, seat)
                reader = Reader(seat.flight, _same if seat.leads else for_another)
                yield StreamAnswer(reader, report)

    def _uncounted(self) -> Service:
        """Return this service, for a call whose requests are counted already.

        They were accepted: that we drain since then does not concern them.
        """
        twin = copy.copy(self)
        twin.counters, twin.draining = Counters(), False
        return twin


def _hit(report: CallReport, provider: str, model: str) -> CallReport:
    """Return *report*, of a request for which nobody was asked."""
    report.provider, report.model = provider, model
    report.cost = 0
    report.cache = "hit"
    return report


def _report(cache: ReplyCache, call: Call, seat: Seat[Any]) -> CallReport:
    """Return the account of one who waits for a call; its costs are the first one's."""
    report = seat.flight.report
    assert report is not None, "it is known when the first of the reply is here"
    if seat.leads:
        return report
    cache.coalesced += 1
    return _hit(call.report, report.provider, report.model)


def _carried(call: Call) -> CallOptions:
    """Return the options of a call that may outlive the request that it is made for.

    It has no deadline: each who waits has one, and the last to leave ends it.
    """
    report = call.report
    return attrs.evolve(
        call.options, deadline=None, job=report.job, request_id=report.request_id
    )


def _same(error: Exception) -> Exception:
    return error
