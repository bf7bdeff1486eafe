"""/v1/jobs: what goes in, what comes out, what may be changed."""

from __future__ import annotations

import json

import pytest
import trio

from duckservice.config import RetryConfig
from duckservice.providers.mock_script import MockScript
from tests.gateway.job_service import (
    NEVER,
    BrokenStore,
    job_app,
    ndjson,
    submission,
)
from tests.jobs.conftest import EPOCH

STATES = {
    *("suspended", "scheduled", "available", "executing", "retryable"),
    *("completed", "discarded", "cancelled", "expired"),
}
FIELDS = {
    *("id", "kind", "state", "priority", "tags", "submitter", "attempt"),
    *("max_attempts", "wait_reason", "errors", "provider", "model", "usage"),
    *("cost_usd", "created_at", "started_at", "finished_at", "maybe_billed"),
}


async def test_a_job_is_in_the_store_when_it_is_answered(autojump_clock) -> None:
    async with job_app() as (service, ask):
        reply = await ask("POST", "/v1/jobs", submission(**NEVER))
        assert reply.status == 202
        job = reply.json()
        assert set(job) >= FIELDS
        assert reply.headers["location"] == f"/v1/jobs/{job['id']}"
        assert reply.headers["duck-job"] == job["id"]
        assert reply.headers["x-request-id"].startswith("req_")
        assert (await service.jobs.store.get(job["id"])).state == "suspended"
        assert (await ask("GET", reply.headers["location"])).json() == job


async def test_a_job_is_followed_to_its_result(autojump_clock) -> None:
    async with job_app() as (_, ask):
        reply = await ask("POST", "/v1/jobs", submission("quack"))
        path = reply.headers["location"]
        done = await ask("GET", path, headers=[("Prefer", "wait=10")])
        assert done.status == 200
        job = done.json()
        assert (job["state"], job["attempt"], job["provider"]) == ("completed", 1, "a")
        assert float(job["cost_usd"]) > 0
        result = await ask("GET", f"{path}/result")
        assert result.json()["choices"][0]["message"]["content"] == "quack"
        assert result.headers["duck-provider"] == "a"
        assert result.headers["duck-cost-usd"] == job["cost_usd"]
        attempts = (await ask("GET", f"{path}/attempts")).json()["attempts"]
        assert [(a["number"], a["outcome"]) for a in attempts] == [(1, "ok")]


async def test_the_request_is_kept_byte_for_byte(autojump_clock) -> None:
    raw = b'{ "messages":[{"content":"\\u00e9 \xc3\xa9","role":"user"}],\t"model":"mock-1"}'
    async with job_app() as (_, ask):
        body = b'{"request":%b,"hold":true}' % raw
        path = (await ask("POST", "/v1/jobs", body)).headers["location"]
        assert (await ask("GET", f"{path}/request")).body == raw


async def test_who_prefers_to_wait_gets_the_end_or_what_is_known_by_then(
    autojump_clock,
) -> None:
    async with job_app(MockScript(latency=5.0)) as (_, ask):
        for wait, status, state in (("7", 200, "completed"), ("2", 202, "executing")):
            prefer = [("Prefer", f"respond-async, wait={wait}")]
            before = trio.current_time()
            reply = await ask("POST", "/v1/jobs", submission(), prefer)
            assert (reply.status, reply.json()["state"]) == (status, state)
            assert trio.current_time() - before <= float(wait)


@pytest.mark.parametrize("value", ["wait", "wait=", "wait=soon", "wait=-1", "wait=1e9"])
async def test_a_wait_that_is_no_number_is_refused(autojump_clock, value) -> None:
    async with job_app() as (service, ask):
        reply = await ask("POST", "/v1/jobs", submission(), [("Prefer", value)])
        assert reply.status == 400
        assert "Prefer" in reply.json()["error"]["message"]
        assert not sum((await service.jobs.counts()).values())


async def test_the_same_key_with_the_same_body_is_the_same_job(autojump_clock) -> None:
    key = [("Idempotency-Key", "k-1")]
    async with job_app() as (service, ask):
        first = await ask("POST", "/v1/jobs", submission("a", **NEVER), key)
        again = await ask("POST", "/v1/jobs", submission("a", **NEVER), key)
        assert (again.status, again.json()) == (202, first.json())
        other = await ask("POST", "/v1/jobs", submission("b", **NEVER), key)
        assert other.status == 409
        assert other.json()["error"]["code"] == "conflict"
        assert sum((await service.jobs.counts()).values()) == 1


async def test_a_repetition_after_the_end_is_answered_with_the_end(
    autojump_clock,
) -> None:
    headers = [("Idempotency-Key", "k-1"), ("Prefer", "wait=9")]
    async with job_app() as (_, ask):
        first = await ask("POST", "/v1/jobs", submission(), headers)
        again = await ask("POST", "/v1/jobs", submission(), headers[:1])
        assert (first.status, again.status) == (200, 200)
        assert again.json() == first.json()


async def test_the_headers_say_what_the_body_does_not(autojump_clock) -> None:
    headers = [
        ("Duck-Priority", "low"),
        ("Duck-Tags", "team=core,app=x"),
        ("Duck-Max-Cost-Usd", "0.5"),
        ("Duck-Deadline", "60"),
        ("X-Request-Id", "mine"),
    ]
    async with job_app() as (_, ask):
        await trio.sleep(100)
        # A limit of its cost needs a job whose cost has a bound.
        bounded = submission(**NEVER)
        bounded["request"]["max_tokens"] = 9
        reply = await ask("POST", "/v1/jobs", bounded, headers)
        job = reply.json()
        assert reply.headers["x-request-id"] == "mine"
        assert (job["priority"], job["max_cost_usd"]) == ("low", "0.5")
        assert job["tags"] == {"team": "core", "app": "x"}
        assert job["deadline"] == pytest.approx(EPOCH + trio.current_time() + 60, abs=1)
        body = bounded | {"priority": "high", "tags": {"app": "y"}}
        job = (await ask("POST", "/v1/jobs", body, headers)).json()
        assert job["priority"] == "high"
        assert job["tags"] == {"team": "core", "app": "y"}


async def test_a_job_has_as_many_attempts_as_is_configured(autojump_clock) -> None:
    async with job_app(retry=RetryConfig(max_attempts=7)) as (_, ask):
        lines = ndjson(submission(**NEVER), submission(max_attempts=2, **NEVER))
        await ask("POST", "/v1/jobs:bulk", lines)
        await ask("POST", "/v1/jobs", submission(**NEVER))
        jobs = (await ask("GET", "/v1/jobs")).json()["jobs"]
        assert sorted(job["max_attempts"] for job in jobs) == [2, 7, 7]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"no", 400, "not valid JSON"),
        ({}, 400, "request"),
        (submission(knd="chat"), 400, "knd"),
        (submission(kind="poem"), 400, "kind"),
        (submission(model="gpt-9"), 404, "gpt-9"),
        ({"request": {"model": "mock-1", "messages": 7}}, 400, "request: messages"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_it_is_stored(
    autojump_clock, body, status, said
) -> None:
    async with job_app() as (service, ask):
        reply = await ask("POST", "/v1/jobs", body, [("X-Request-Id", "r-1")])
        assert reply.status == status
        assert said in reply.json()["error"]["message"]
        assert reply.headers["x-request-id"] == "r-1"
        assert not sum((await service.jobs.counts()).values())


async def test_a_list_is_filtered_and_goes_on_at_its_cursor(autojump_clock) -> None:
    async with job_app() as (_, ask):
        ids = []
        for number in range(5):
            tags = {"n": str(number), "odd": str(number % 2)}
            body = submission(model=f"mock-{number % 2}", tags=tags, **NEVER)
            ids.append((await ask("POST", "/v1/jobs", body)).json()["id"])
            await trio.sleep(10)
        await ask("POST", f"/v1/jobs/{ids[0]}/cancel")

        async def listed(query):
            reply = await ask("GET", "/v1/jobs", query=query)
            assert reply.status == 200, reply.body
            return [ids.index(job["id"]) for job in reply.json()["jobs"]]

        assert await listed(b"") == [4, 3, 2, 1, 0]
        assert await listed(b"state=suspended&state=available") == [4, 3, 2, 1]
        assert await listed(b"state=cancelled,expired") == [0]
        assert await listed(b"tag=odd=1") == [3, 1]
        assert await listed(b"tag=odd=1&tag=n=3") == [3]
        assert await listed(b"model=mock-0") == [4, 2, 0]
        assert await listed(b"since=25s") == [4, 3]
        assert await listed(b"batch=none") == []
        seen, query = [], b"limit=2"
        while query:
            page = (await ask("GET", "/v1/jobs", query=query)).json()
            seen += [ids.index(job["id"]) for job in page["jobs"]]
            cursor = page["cursor"]
            query = f"limit=2&cursor={cursor}".encode() if cursor else None
        assert seen == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "query",
    [
        *("stat=available", "state=done", "tag=team", "limit=0", "limit=x"),
        *("state=", "limit=1001", "cursor=nonsense", "since=soon", "model=a&model=b"),
    ],
)
async def test_a_filter_that_cannot_be_kept_is_refused(autojump_clock, query) -> None:
    async with job_app() as (_, ask):
        reply = await ask("GET", "/v1/jobs", query=query.encode())
        assert reply.status == 400
        assert query.split("=")[0].split("&")[0] in reply.json()["error"]["message"]


async def test_a_job_is_held_released_cancelled_and_begun_anew(autojump_clock) -> None:
    async with job_app() as (_, ask):
        later = submission(not_before=3600)
        path = (await ask("POST", "/v1/jobs", later)).headers["location"]
        for action, state in (
            ("hold", "suspended"),
            ("release", "scheduled"),
            ("cancel", "cancelled"),
            ("retry", "available"),
        ):
            reply = await ask("POST", f"{path}/{action}")
            assert (reply.status, reply.json()["state"]) == (200, state)
        end = await ask("GET", path, headers=[("Prefer", "wait=9")])
        assert end.json()["state"] == "completed"


@pytest.mark.parametrize("action", ["cancel", "retry", "hold", "release"])
async def test_an_illegal_change_is_a_conflict_that_names_the_state(
    autojump_clock, action
) -> None:
    async with job_app() as (_, ask):
        prefer = [("Prefer", "wait=9")]
        done = (await ask("POST", "/v1/jobs", submission(), prefer)).json()
        reply = await ask("POST", f"/v1/jobs/{done['id']}/{action}")
        assert reply.status == 409
        error = reply.json()["error"]
        assert error["code"] == "conflict"
        assert "is completed" in error["message"]
        assert (await ask("GET", f"/v1/jobs/{done['id']}")).json() == done


async def test_a_result_that_is_not_there_is_a_conflict_that_names_the_state(
    autojump_clock,
) -> None:
    async with job_app() as (_, ask):
        job = (await ask("POST", "/v1/jobs", submission(**NEVER))).json()
        reply = await ask("GET", f"/v1/jobs/{job['id']}/result")
        assert reply.status == 409
        assert "suspended" in reply.json()["error"]["message"]


async def test_priority_and_deadline_may_be_changed(autojump_clock) -> None:
    async with job_app() as (_, ask):
        path = (await ask("POST", "/v1/jobs", submission(**NEVER))).headers["location"]
        reply = await ask("PATCH", path, {"priority": "high", "deadline": "90"})
        assert reply.status == 200
        assert reply.json()["priority"] == "high"
        expected = EPOCH + trio.current_time() + 90
        assert reply.json()["deadline"] == pytest.approx(expected, abs=1)
        await trio.sleep(95)
        assert (await ask("GET", path)).json()["state"] == "expired"
        assert (await ask("PATCH", path, {"priority": "low"})).status == 409


@pytest.mark.parametrize(
    "body",
    [
        *({"state": "completed"}, {"priority": "urgent"}, {"priority": None}),
        *({"deadline": 0}, {"deadline": "yesterday"}, {"deadline": 1e300}),
        *({"deadline": True}, {"deadline": "1999-01-01T00:00:00Z"}),
    ],
)
async def test_a_patch_that_makes_no_sense_is_refused(autojump_clock, body) -> None:
    async with job_app() as (_, ask):
        job = (await ask("POST", "/v1/jobs", submission(**NEVER))).json()
        path = f"/v1/jobs/{job['id']}"
        reply = await ask("PATCH", path, body)
        assert reply.status == 400
        assert next(iter(body)) in reply.json()["error"]["message"]
        assert (await ask("GET", path)).json() == job


async def test_a_deadline_may_be_a_time_of_day(autojump_clock) -> None:
    async with job_app() as (_, ask):
        path = (await ask("POST", "/v1/jobs", submission(**NEVER))).headers["location"]
        reply = await ask("PATCH", path, {"deadline": "1970-01-20T00:00:00+00:00"})
        assert reply.json()["deadline"] == 19 * 86_400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/v1/jobs/no"), ("PATCH", "/v1/jobs/no")),
        *(("GET", f"/v1/jobs/no/{w}") for w in ("result", "attempts", "stream")),
        *(("POST", f"/v1/jobs/no/{w}") for w in ("cancel", "retry", "hold", "release")),
        ("POST", "/v1/jobs/no/explode"),
    ],
)
async def test_what_does_not_exist_is_not_found(autojump_clock, method, path) -> None:
    async with job_app() as (_, ask):
        reply = await ask(method, path, {})
        assert (reply.status, reply.json()["error"]["code"]) == (404, "not_found")


async def test_a_daemon_that_drains_takes_nothing_and_keeps_nobody_waiting(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        job = (await ask("POST", "/v1/jobs", submission(**NEVER))).json()
        replies = []

        async def wait():
            prefer = [("Prefer", "wait=600")]
            replies.append(await ask("GET", f"/v1/jobs/{job['id']}", headers=prefer))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(5)
            service.drain()
        assert trio.current_time() < 6
        assert replies[0].json()["state"] == "suspended"
        reply = await ask("POST", "/v1/jobs", submission())
        assert (reply.status, reply.json()["error"]["code"]) == (503, "draining")


async def test_who_waited_until_the_drain_is_told_how_it_stands_then(
    autojump_clock,
) -> None:
    async with job_app(MockScript(latency=60)) as (service, ask):
        replies = []

        async def submit():
            prefer = [("Prefer", "wait=600")]
            replies.append(await ask("POST", "/v1/jobs", submission(), prefer))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            await trio.sleep(5)
            service.drain()
        assert trio.current_time() < 6
        assert (replies[0].status, replies[0].json()["state"]) == (202, "executing")


async def test_a_store_that_cannot_write_takes_no_job_and_is_not_ready(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        assert (await ask("GET", "/readyz")).status == 200
        works = service.jobs.store
        service.jobs.store = BrokenStore()
        for method, path in (
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs"),
            ("GET", "/readyz"),
        ):
            reply = await ask(method, path, submission())
            assert (reply.status, reply.json()["error"]["code"]) == (503, "unavailable")
        status = await ask("GET", "/v1/status")
        assert (status.status, status.json()["jobs"]) == (200, None)
        service.jobs.store = works
        assert (await ask("GET", "/readyz")).status == 200


async def test_a_job_that_was_accepted_is_never_answered_with_an_error(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        works = service.jobs.store

        class Failing:
            def __getattr__(self, name):
                return getattr(BrokenStore() if name == "wait_final" else works, name)

        service.jobs.store = Failing()
        prefer = [("Prefer", "wait=9")]
        reply = await ask("POST", "/v1/jobs", submission(), prefer)
        assert (reply.status, reply.json()["state"]) == (202, "available")


async def test_the_status_counts_the_jobs_by_state(autojump_clock) -> None:
    async with job_app() as (_, ask):
        await ask("POST", "/v1/jobs", submission(**NEVER))
        await ask("POST", "/v1/jobs", submission(), [("Prefer", "wait=9")])
        counts = (await ask("GET", "/v1/status")).json()["jobs"]
        assert set(counts) == STATES
        assert {s: n for s, n in counts.items() if n} == {
            "suspended": 1,
            "completed": 1,
        }


async def test_a_method_that_is_not_there_is_told_from_a_path_that_is_not(
    autojump_clock,
) -> None:
    async with job_app() as (_, ask):
        reply = await ask("DELETE", "/v1/jobs")
        assert reply.status == 405
        assert json.loads(reply.body)["error"]["code"] == "invalid_request"
        assert "POST" in reply.headers["allow"]
