"""/v1/jobs: durable jobs over HTTP, submitted, looked at, waited for and changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Literal, TypeAlias, assert_never, final

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.calls.call import CallOptions
from duckservice.errors import DuckError, InvalidRequest, NotFound
from duckservice.gateway.app.api import ServiceApi
from duckservice.gateway.app.job_bulk import BulkSubmission, LineReader
from duckservice.gateway.app.job_query import (
    read_changes,
    read_last_id,
    read_listing,
    read_wait,
)
from duckservice.gateway.app.job_stream import JobStream
from duckservice.gateway.app.owners import owner_of, whose
from duckservice.gateway.app.replies import json_bytes, json_value
from duckservice.gateway.wire.headers import Header, header_value, read_options, usd
from duckservice.jobs.as_json import attempt_fields, job_fields, read_submission
from duckservice.jobs.jobs import Jobs, JobView

_Action: TypeAlias = Literal["cancel", "retry", "hold", "release"]
_ACTIONS: Final[tuple[_Action, ...]] = ("cancel", "retry", "hold", "release")

_LINES: Final = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/json",
    }
)


@final
@attrs.frozen
class JobApi:
    """Everything under /v1/jobs."""

    service: ServiceApi
    owner_uid: int
    wall_clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        one, get = "/v1/jobs/{id}", ["GET"]
        return [
            Route("/v1/jobs", self.collection, methods=["GET", "POST"]),
            Route("/v1/jobs:bulk", self.bulk, methods=["POST"]),
            Route(one, self.member, methods=["GET", "PATCH"]),
            Route(f"{one}/result", self.result, methods=get),
            Route(f"{one}/request", self.request, methods=get),
            Route(f"{one}/attempts", self.attempts, methods=get),
            Route(f"{one}/stream", self.stream, methods=get),
            *(
                Route(f"{one}/{action}", partial(self.change, action), methods=["POST"])
                for action in _ACTIONS
            ),
        ]

    # Into the store.

    async def collection(self, request: Request) -> Response:
        """Take a job, or answer with a list of them."""
        if request.method == "POST":
            return await self._submit(request)
        return await self._list(request)

    async def _submit(self, request: Request) -> Response:
        options = self._options(request, _headers(request))
        try:
            view = await self._submitted(request, options)
        except DuckError as error:
            error.request_id = options.request_id
            raise
        response = json_value(job_fields(view))
        response.status_code = 200 if view.job.state.final else 202
        response.raw_headers += [
            (b"location", f"/v1/jobs/{view.job.id}".encode()),
            (b"x-request-id", header_value(options.request_id)),
            *_about(view),
        ]
        return response

    async def _submitted(self, request: Request, options: CallOptions) -> JobView:
        wait = read_wait(_headers(request))
        body = await request.body()
        submission = read_submission(
            body,
            now=self.wall_clock(),
            max_attempts=self._max_attempts,
            options=options,
            options_at=trio.current_time(),
            idempotency_key=request.headers.get("idempotency-key"),
        )
        submitted = await self._jobs.submit(submission)
        view = self._jobs.view(submitted.job)
        if wait is not None:
            # It is committed: whatever happens to the waiting, it was accepted.
            with suppress(DuckError):
                view = await self._waited(view, wait)
        return view

    async def bulk(self, request: Request) -> BulkSubmission:
        """Take many jobs, line by line."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind and kind.lower() not in _LINES:
            msg = "header Content-Type: must be application/x-ndjson, or absent"
            raise InvalidRequest(msg, param="Content-Type")
        headers = [h for h in _headers(request) if h[0] != b"content-type"]
        reader = LineReader(
            options=self._options(request, headers),
            idempotency_key=request.headers.get("idempotency-key"),
            submitter=owner_of(request.scope),
            max_attempts=self._max_attempts,
            wall_clock=self.wall_clock,
        )
        return BulkSubmission(self._jobs, reader)

    # Out of it.

    async def _list(self, request: Request) -> Response:
        listing = read_listing(
            request.query_params, now=self.wall_clock(), submitter=self._only(request)
        )
        page = await self._jobs.list_jobs(
            listing.which, limit=listing.limit, cursor=listing.cursor
        )
        jobs = [job_fields(view) for view in page.jobs]
        return json_value({"jobs": jobs, "cursor": page.cursor})

    async def member(self, request: Request) -> Response:
        """Answer with a job, with ``Prefer: wait`` once it is over; or change it."""
        view = await self._allowed(request)
        if request.method == "PATCH":
            changes = read_changes(await request.body(), now=self.wall_clock())
            view = await self._jobs.patch(
                view.job.id, priority=changes.priority, deadline=changes.deadline
            )
        else:
            view = await self._waited(view, read_wait(_headers(request)))
        return json_value(job_fields(view))

    async def result(self, request: Request) -> Response:
        """Answer with what the provider has answered, as an OpenAI body."""
        view = await self._allowed(request)
        response = json_bytes(await self._jobs.result(view.job.id))
        response.raw_headers += _about(view)
        return response

    async def request(self, request: Request) -> Response:
        """Answer with the request as it was submitted, byte for byte."""
        view = await self._allowed(request)
        return json_bytes(await self._jobs.request(view.job.id))

    async def attempts(self, request: Request) -> Response:
        """Answer with each request to a provider that was made for the job."""
        view = await self._allowed(request)
        records = await self._jobs.attempts(view.job.id)
        return json_value({"attempts": [attempt_fields(each) for each in records]})

    async def stream(self, request: Request) -> JobStream:
        """Follow the job."""
        after = read_last_id(_headers(request))
        view = await self._allowed(request)
        only_head = request.method == "HEAD"
        return JobStream(
            self._jobs, self.service.until_draining, view.job.id, after, only_head
        )

    # Changing.

    async def change(self, action: _Action, request: Request) -> Response:
        """Do *action* to the job; answer with what it is then."""
        job = (await self._allowed(request)).job.id
        match action:
            case "cancel":
                view = self._jobs.view(await self._jobs.cancel(job))
            case "retry":
                view = await self._jobs.retry(job)
            case "hold":
                view = await self._jobs.hold(job)
            case "release":
                view = await self._jobs.release(job)
            case _:
                assert_never(action)
        return json_value(job_fields(view))

    # Helpers.

    @property
    def _jobs(self) -> Jobs:
        return self.service.jobs

    @property
    def _max_attempts(self) -> int:
        return self._jobs.service.config.retry.max_attempts

    def _options(self, request: Request, headers: list[Header]) -> CallOptions:
        options = read_options(
            headers,
            submitter=owner_of(request.scope),
            now_wall=self.wall_clock(),
            now_trio=trio.current_time(),
            new_request_id=self.service.new_request_id,
        )
        # The server names the request so in its log.
        request.scope.get("state", {})["request_id"] = options.request_id
        return options

    def _only(self, request: Request) -> int | None:
        """Return whose jobs alone the client may see; None: everybody's."""
        return whose(request.scope, self.owner_uid)

    async def _allowed(self, request: Request) -> JobView:
        """Return the job that the path names, if the client may see it."""
        id_: str = request.path_params["id"]
        only = self._only(request)
        view = await self._jobs.get(id_)
        submitter = view.job.submitter
        if only is not None and (submitter is None or submitter.uid != only):
            raise NotFound(f"there is no job {id_}")
        return view

    async def _waited(self, view: JobView, seconds: float | None) -> JobView:
        """Return the job when it is over; as it is then, if that takes too long."""
        if seconds is None or view.job.state.final:
            return view
        with self.service.until_draining() as scope:
            view = await self._jobs.wait(view.job.id, seconds)
        if scope.cancelled_caught:
            # Jobs wait for the next daemon now, and their clients are to do so too.
            view = await self._jobs.get(view.job.id)
        return view


def _headers(request: Request) -> list[Header]:
    headers: list[Header] = request.scope["headers"]
    return headers


def _about(view: JobView) -> list[Header]:
    """Return what the headers say of a job, as they do of any answered request."""
    job = view.job
    headers = [
        (b"duck-job", header_value(job.id)),
        (b"duck-attempts", b"%d" % job.attempt),
    ]
    if job.provider is not None:
        headers.append((b"duck-provider", header_value(job.provider)))
        if job.cost_known:
            headers.append((b"duck-cost-usd", usd(job.cost).encode()))
    return headers
