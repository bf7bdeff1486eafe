"""The way of a request, from top to bottom.

The caller's own task carries it: plan which providers to ask, in which order
(`planning`); ask one after the other (`pursuit`), or two at once (`racing`): get the
permissions (`attempt`), send, and settle; answer. Nothing here holds state between
requests.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from functools import partial
from typing import TypeVar

import attrs
import trio

from duckservice.calls.attempt import Attempt, settled
from duckservice.calls.call import Answer, Call, CallOptions, CallReport, StreamAnswer
from duckservice.calls.planning import Planner
from duckservice.calls.pursuit import Pursuit
from duckservice.calls.racing import Race
from duckservice.calls.story import RequestStory
from duckservice.calls.streaming import RelayedStream, background, open_stream, relay
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    Completion,
    EmbeddingRequest,
    Embeddings,
    ImageRequest,
    Images,
    Usage,
)
from duckservice.config import Config
from duckservice.core.retry import RetryPolicy
from duckservice.errors import (
    DeadlineExceeded,
    Draining,
    DuckError,
    ProviderError,
    RequestError,
)
from duckservice.tree import Guarded, Parts, Seams

T = TypeVar("T")
R = TypeVar("R", ChatRequest, EmbeddingRequest, ImageRequest)
W = TypeVar("W", Completion, Embeddings, Images)


@attrs.define(eq=False)
class Counters:
    """Requests of clients since the start."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    in_flight: int = 0


@attrs.define(eq=False)
class Service:
    """Carries requests to providers."""

    config: Config
    parts: Parts
    seams: Seams
    counters: Counters = attrs.field(factory=Counters)
    draining: bool = False
    planner: Planner = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: Planner(self.parts, self.seams, lambda: self.config),
            takes_self=True,
        ),
    )
    _last_id: int = 0

    async def complete(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> Answer[Completion]:
        """Return the completion that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return await self._answer(request, options, _complete)

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> AsyncGenerator[StreamAnswer]:
        """Stream the completion; entered when its first chunks are here.

        Until then a failing provider is replaced unseen. From then on it is not:
        a stream that breaks off raises a typed error, and nothing is repeated.
        """
        routing = self.config.routing
        with self._call(options or CallOptions(), request) as call:
            # A job's stream is kept, and a job is repeated anyway.
            is_job = call.options.watch is not None
            if is_job or (routing.hedge_after is None and not routing.commit_window):
                opened = await self._first_answer(
                    call, request, open_stream, _forget, streaming=True
                )
                async with opened:
                    yield StreamAnswer(opened, call.report)
                return
            async with background() as nursery:
                send = partial(relay, nursery, routing.commit_window)
                relayed = await self._first_answer(
                    call, request, send, RelayedStream.leave, streaming=True
                )
                yield StreamAnswer(relayed, call.report)

    async def embed(
        self, request: EmbeddingRequest, options: CallOptions | None = None
    ) -> Answer[Embeddings]:
        """Return the embeddings that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return await self._answer(request, options, _embed)

    async def generate_images(
        self, request: ImageRequest, options: CallOptions | None = None
    ) -> Answer[Images]:
        """Return the pictures that the first able provider makes.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return await self._answer(request, options, _draw)

    async def count_tokens(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> Usage:
        """Return the prompt's size, from the first provider that can say.

        Raises:
            DuckError: the last one's failure, or nobody could be asked.
        """
        with self._call(options or CallOptions()):
            *others, last = self.planner.plan(request, CallOptions())
            for step in others:
                with suppress(ProviderError), step.guarded.client.used() as provider:
                    return await provider.count_tokens(step.request)
            with last.guarded.client.used() as provider:
                return await provider.count_tokens(last.request)

    def new_id(self) -> str:
        """Return an id that sorts by time, and within a millisecond by order."""
        milliseconds = int(self.seams.wall_clock() * 1000)
        number = milliseconds << 64 | self.seams.random.getrandbits(64)
        if number >> 64 == self._last_id >> 64:
            number = self._last_id + 1
        self._last_id = number
        return f"{number:028x}"

    # The call.

    async def _answer(
        self,
        request: R,
        options: CallOptions | None,
        send: Callable[[Attempt, R], Awaitable[T]],
    ) -> Answer[T]:
        with self._call(options or CallOptions(), request) as call:
            value = await self._first_answer(call, request, send, _forget)
        return Answer(value, call.report)

    @contextmanager
    def _call(
        self, options: CallOptions, request: AnyRequest | None = None
    ) -> Generator[Call]:
        """Count a request in and out, tell of it, and hold it to its deadline."""
        id_ = self.new_id()
        request_id = options.request_id or f"req_{id_}"
        job = options.job or f"job_{id_}"
        call = Call(options, CallReport(job=job, request_id=request_id))
        counters = self.counters
        counters.total += 1
        counters.in_flight += 1
        completed = False
        story = RequestStory.begun(self.seams.emit, call, request)
        try:
            self.must_not_have_ended()
            if self.draining and not options.job:
                msg = "the daemon is about to stop, and takes no new requests"
                raise Draining(msg, retry_after=1.0)
            with _held_to(options.deadline):
                yield call
            completed = True
        except DuckError as error:
            error.job, error.request_id = call.report.job, request_id
            raise
        finally:
            counters.in_flight -= 1
            counters.completed += completed
            counters.failed += not completed
            story.end(None if completed else sys.exc_info()[1])

    def must_not_have_ended(self) -> None:
        """Raise `Unavailable`, not to be repeated, if the service is gone for good."""

    # The plan, and its attempts.

    def check(self, request: AnyRequest) -> None:
        """Find out whether anybody here could ever serve *request*.

        Raises:
            ModelNotFound: nobody serves the model, nor one of its fallbacks.
            InvalidRequest: nobody who serves it can translate the request.
        """
        self.planner.check(request)

    def candidates(self, model: str) -> list[Guarded]:
        """Return who serves *model* or its fallbacks, as they would be asked now.

        Those that rest after failures come last.
        """
        return self.planner.candidates(model)

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often and how soon a failed request is tried again."""
        its = self.config.retry
        return RetryPolicy(
            max_attempts=its.max_attempts,
            base_delay=its.base_delay,
            max_delay=its.max_delay,
            jitter=its.jitter,
        )

    def _pursuit(
        self,
        call: Call,
        request: R,
        streaming: bool,
    ) -> Pursuit[R]:
        policy, watch = self.retry_policy, call.options.watch
        if watch is not None:
            most = max(1, watch.attempts_max)
            policy = attrs.evolve(policy, max_attempts=most)
        return Pursuit(
            parts=self.parts,
            emit=self.seams.emit,
            planner=self.planner,
            policy=policy,
            chance=self.seams.random.random,
            call=call,
            plan=self.planner.plan(request, call.options, streaming=streaming),
            streaming=streaming,
        )

    async def _first_answer(
        self,
        call: Call,
        request: R,
        send: Callable[[Attempt, R], Awaitable[T]],
        drop: Callable[[T], None],
        *,
        streaming: bool = False,
    ) -> T:
        """Return the first answer to *request*; *drop* is for one that comes second.

        Raises:
            DuckError: what has become of all attempts, as one error.
        """
        pursuit = self._pursuit(call, request, streaming)
        hedge = self.config.routing.hedge_after
        alone = call.options.watch is not None or not pursuit.others
        try:
            # A picture takes its time, and two of them are paid twice.
            if hedge is None or alone or isinstance(request, ImageRequest):
                won = await pursuit.run(send)
            else:
                won = await Race(pursuit, send, hedge, drop).run()
        except DuckError as error:
            self._name_who_could_not(error, request)
            raise
        call.report.provider = won.step.provider
        call.report.model = won.step.request.model
        self.planner.served(won.step, call.options)
        return won.value

    def _name_who_could_not(self, error: DuckError, request: AnyRequest) -> None:
        """Add to a failure who was not even asked, because of which field.

        Else nobody sees that a request has no stand-in where others have one.
        """
        if not isinstance(error, RequestError):
            for refusal in self.planner.refusals(request):
                error.message += f"; {refusal.provider} was not asked: {refusal}"
            error.args = (error.message,)


def _held_to(deadline: float | None) -> AbstractContextManager[None]:
    # Nearly no request has one, and a scope for nothing takes 8 µs.
    return nullcontext() if deadline is None else _until(deadline)


@contextmanager
def _until(deadline: float) -> Generator[None]:
    with trio.CancelScope(deadline=deadline) as scope:
        yield
    if scope.cancelled_caught:
        msg = "the request's deadline has passed"
        raise DeadlineExceeded(msg)


# What is sent.


async def _complete(attempt: Attempt, request: ChatRequest) -> Completion:
    return await _whole(attempt, attempt.provider.complete, request)


async def _embed(attempt: Attempt, request: EmbeddingRequest) -> Embeddings:
    return await _whole(attempt, attempt.provider.embed, request)


async def _draw(attempt: Attempt, request: ImageRequest) -> Images:
    return await _whole(attempt, attempt.provider.generate_images, request)


async def _whole(attempt: Attempt, ask: Callable[[R], Awaitable[W]], request: R) -> W:
    with settled(attempt):
        await attempt.begin()
        reply = await ask(request)
        attempt.answered()
        attempt.meter.model = reply.model
        attempt.succeeded(reply.usage)
    return reply


def _forget(_: object) -> None:
    """Drop a whole answer that came second: it is paid for, and nobody wants it."""
