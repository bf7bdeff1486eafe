"""The application in front of a real service whose jobs are kept in memory."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial

from duckservice.calls.call import Submitter
from duckservice.gateway.app import make_app
from duckservice.providers.mock_script import MockScript
from duckservice.store.base import StoreUnavailable
from tests.gateway.fake_service import OWNER, ask
from tests.jobs.conftest import mock, running, wall_clock
from tests.service.conftest import mock_config

ROOT = Submitter(uid=0, gid=0, pid=1)
STRANGER = Submitter(uid=4712, gid=4712, pid=2)
NEVER = {"hold": True}
"""A job that waits until it is released."""


def submission(text="hello", *, model="mock-1", stream=False, **more):
    request = {"model": model, "messages": [{"role": "user", "content": text}]}
    if stream:
        request["stream"] = True
    return {"request": request, **more}


def ndjson(*lines) -> bytes:
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
        for line in lines
    )


@asynccontextmanager
async def job_app(script: MockScript | None = None, **config):
    """Yield the service, and what sends one request to its application."""
    provider = mock("a", script)
    async with running(mock_config("a", **config), a=provider) as (service, _):
        app = make_app(service, owner_uid=OWNER.uid, wall_clock=wall_clock)
        yield service, partial(ask, app)


class BrokenStore:
    """Cannot do anything."""

    def __init__(self, *, may_recover=True):
        self.may_recover = may_recover

    def __getattr__(self, name):
        async def fail(*args, **kwargs):
            raise StoreUnavailable("the disk is full", may_recover=self.may_recover)

        return fail
