"""Tells of one request's beginning and end, whatever its end is."""

from __future__ import annotations

from typing import Self, assert_never, final

import attrs
import trio

from duckservice.calls.call import Call
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
)
from duckservice.errors import DuckError, InternalError
from duckservice.events import EventSink, RequestEnded, RequestStarted


@final
@attrs.define(eq=False)
class RequestStory:
    """One request, as `RequestStarted` and `RequestEnded` tell of it."""

    _emit: EventSink
    _call: Call
    _begin: RequestStarted | None
    """None: somebody else tells of it."""
    _since: float

    @classmethod
    def begun(cls, emit: EventSink, call: Call, request: AnyRequest | None) -> Self:
        """Tell that *call* has come in, for *request* where that is known already."""
        options, report = call.options, call.report
        begin = None
        # One that has a job's id and no watch is made for requests that wait for it
        # together, each of which has a story of its own.
        if options.watch is not None or not options.job:
            by = options.submitter
            begin = RequestStarted(
                job=report.job,
                request_id=report.request_id,
                operation="" if request is None else operation_of(request),
                model="" if request is None else request.model,
                priority=options.priority,
                submitter=None if by is None else by.uid,
                runs_job=options.watch is not None,
                traceparent=options.traceparent,
            )
            emit(begin)
        return cls(emit, call, begin, trio.current_time())

    def end(self, error: BaseException | None) -> None:
        """Tell that it is over, because of *error* unless that is None."""
        begin, report = self._begin, self._call.report
        if begin is None:
            return
        self._emit(
            RequestEnded(
                job=begin.job,
                request_id=begin.request_id,
                operation=begin.operation,
                model=begin.model,
                priority=begin.priority,
                outcome=_outcome(error),
                duration=trio.current_time() - self._since,
                queued=report.queued,
                provider=report.provider,
                served_model=report.model,
                attempts=report.attempts,
                cost=report.cost,
                estimated=report.cost_estimated,
                cache=report.cache,
            )
        )


def operation_of(request: AnyRequest) -> str:
    """Return what *request* wants, in the words of OpenTelemetry where it has some."""
    match request:
        case ChatRequest():
            return "chat"
        case EmbeddingRequest():
            return "embeddings"
        case ImageRequest():
            return "image_generation"
        case _:
            assert_never(request)


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "ok"
        case DuckError():
            return error.code
        case Exception():
            return InternalError.code  # a bug
        case _:
            return "cancelled"
