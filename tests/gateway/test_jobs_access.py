"""Whose jobs a client sees: its own; and who runs the daemon, all."""

from __future__ import annotations

import pytest

from duckservice.gateway.app import make_app
from tests.gateway.fake_service import OWNER, FakeService, ask as ask_app
from tests.gateway.job_service import NEVER, ROOT, STRANGER, job_app, ndjson, submission


@pytest.mark.parametrize(
    ("method", "what"),
    [
        *(("GET", ""), ("PATCH", ""), ("GET", "/result"), ("GET", "/request")),
        *(("GET", "/attempts"), ("GET", "/stream"), ("POST", "/cancel")),
        *(("POST", "/retry"), ("POST", "/hold"), ("POST", "/release")),
    ],
)
async def test_the_jobs_of_others_are_not_there(autojump_clock, method, what) -> None:
    async with job_app() as (_, ask):
        job = (await ask("POST", "/v1/jobs", submission(**NEVER))).json()
        path = f"/v1/jobs/{job['id']}{what}"
        body = {"priority": "low"}
        reply = await ask(method, path, body, peer=STRANGER)
        assert reply.status == 404
        missing = await ask(method, f"/v1/jobs/no{what}", body, peer=STRANGER)
        assert reply.body.replace(job["id"].encode(), b"no") == missing.body
        assert (await ask("GET", f"/v1/jobs/{job['id']}")).json() == job


async def test_everybody_has_jobs_of_their_own(autojump_clock) -> None:
    async with job_app() as (_, ask):
        path = (
            await ask("POST", "/v1/jobs", submission(**NEVER), peer=STRANGER)
        ).headers["location"]
        mine = await ask("GET", path, peer=STRANGER)
        assert mine.json()["submitter"] == {"uid": 4712, "gid": 4712, "pid": 2}
        assert (await ask("POST", f"{path}/release", peer=STRANGER)).status == 200
        prefer = [("Prefer", "wait=9")]
        done = await ask("GET", path, headers=prefer, peer=STRANGER)
        assert done.json()["state"] == "completed"
        assert (await ask("GET", f"{path}/result", peer=STRANGER)).status == 200


async def test_a_list_holds_what_its_reader_may_see(autojump_clock) -> None:
    async with job_app() as (_, ask):
        for peer in (OWNER, STRANGER, ROOT):
            await ask("POST", "/v1/jobs", submission(**NEVER), peer=peer)
        line = ndjson(submission(**NEVER))
        await ask("POST", "/v1/jobs:bulk", line, peer=STRANGER)
        for peer, uids in (
            (OWNER, {OWNER.uid, STRANGER.uid, 0}),
            (ROOT, {OWNER.uid, STRANGER.uid, 0}),
            (STRANGER, {STRANGER.uid}),
        ):
            jobs = (await ask("GET", "/v1/jobs", peer=peer)).json()["jobs"]
            assert {job["submitter"]["uid"] for job in jobs} == uids


async def test_a_key_of_one_is_no_key_of_another(autojump_clock) -> None:
    key = [("Idempotency-Key", "1")]
    async with job_app() as (_, ask):
        ids = {
            (await ask("POST", "/v1/jobs", submission(**NEVER), key, peer=peer)).json()[
                "id"
            ]
            for peer in (OWNER, STRANGER)
        }
        assert len(ids) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("POST", "/v1/jobs:bulk")),
        *(("GET", "/v1/jobs/no"), ("POST", "/v1/jobs/no/cancel")),
    ],
)
async def test_who_is_nobody_has_no_jobs(method, path) -> None:
    # The service has no jobs either: whatever looked for some would fail.
    app = make_app(FakeService(), owner_uid=OWNER.uid)
    reply = await ask_app(app, method, path, submission(), peer=None)
    assert (reply.status, reply.json()["error"]["code"]) == (403, "permission_denied")
