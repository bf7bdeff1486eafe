"""POST /v1/jobs:bulk: an outcome for every line, while lines still come."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from duckservice.config import QueueConfig
from duckservice.gateway.app import job_bulk, make_app
from tests.gateway.fake_service import OWNER
from tests.gateway.job_service import BrokenStore, job_app, ndjson, submission
from tests.gateway.serving import serving
from tests.jobs.conftest import wall_clock

BULK = "/v1/jobs:bulk"
KIND = [("Content-Type", "application/x-ndjson")]


def held(text="hello", **more):
    return submission(text, hold=True, **more)


def outcomes_of(body: bytes) -> list[dict]:
    return [json.loads(line) for line in body.splitlines()]


class Counting:
    """A store that counts its insertions."""

    def __init__(self, store):
        self.store = store
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def insert(self, jobs, **more):
        self.sizes.append(len(jobs))
        return await self.store.insert(jobs, **more)


async def test_every_line_has_an_outcome_and_bad_ones_stop_nothing(
    autojump_clock,
) -> None:
    lines = (
        ndjson(
            held("1"),
            b"nonsense",
            b"",
            held("4", priority="low"),
            held("5", model="nobody-serves-it"),
            b'"\xff"',
            held("7", knd="x"),
            b'{"request":' + b"[" * 5000,
        )
        + json.dumps(held("9")).encode()
    )
    async with job_app() as (_, ask):
        reply = await ask("POST", BULK, lines, KIND)
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/x-ndjson"
        outcomes = outcomes_of(reply.body)
        assert [o["line"] for o in outcomes] == [1, 2, 4, 5, 6, 7, 8, 9]
        good = [o for o in outcomes if "error" not in o]
        assert [o["line"] for o in good] == [1, 4, 9]
        assert {(o["state"], o["created"]) for o in good} == {("suspended", True)}
        for outcome, line in zip(good, ("1", "4", "9"), strict=True):
            body = (await ask("GET", f"/v1/jobs/{outcome['id']}/request")).json()
            assert body["messages"][0]["content"] == line
        for outcome in outcomes:
            if "error" in outcome:
                assert outcome["error"]["code"] in {
                    "invalid_request",
                    "model_not_found",
                }
                assert outcome["error"]["message"]
        assert outcomes[3]["error"]["code"] == "model_not_found"
        assert "knd" in outcomes[5]["error"]["message"]


async def test_what_arrives_together_is_one_commit(autojump_clock) -> None:
    async with job_app() as (service, ask):
        store = service.jobs.store = Counting(service.jobs.store)
        many = ndjson(*[held()] * (job_bulk.GROUP_LINES_MAX + 10))
        reply = await ask("POST", BULK, pieces=[ndjson(held(), held()), many])
        assert store.sizes == [2, job_bulk.GROUP_LINES_MAX, 10]
        assert len(outcomes_of(reply.body)) == sum(store.sizes)


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_lines_may_be_cut_anywhere(autojump_clock, size) -> None:
    body = ndjson(held("a"), b"", b"no", held("b")) + json.dumps(held("c")).encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    async with job_app() as (_, ask):
        outcomes = outcomes_of((await ask("POST", BULK, pieces=pieces)).body)
        assert [("error" in o, o["line"]) for o in outcomes] == [
            (False, 1),
            (True, 3),
            (False, 4),
            (False, 5),
        ]


async def test_nothing_in_is_nothing_out(autojump_clock) -> None:
    async with job_app() as (_, ask):
        reply = await ask("POST", BULK, b"\n \r\n")
        assert (reply.status, reply.body) == (200, b"")


async def test_a_repetition_under_the_same_key_makes_no_second_jobs(
    autojump_clock,
) -> None:
    lines = ndjson(held("a"), held("b"), held("c", idempotency_key="own"))
    key = [*KIND, ("Idempotency-Key", "import-7")]
    async with job_app() as (service, ask):
        first = outcomes_of((await ask("POST", BULK, lines, key)).body)
        again = outcomes_of((await ask("POST", BULK, lines, key)).body)
        assert [o["created"] for o in first + again] == [True] * 3 + [False] * 3
        assert [o["id"] for o in again] == [o["id"] for o in first]
        other = ndjson(held("a"), held("x"), held("y", idempotency_key="own"))
        told = outcomes_of((await ask("POST", BULK, other, key)).body)
        codes = [o.get("error", {}).get("code") for o in told]
        assert codes == [None, "conflict", "conflict"]
        own = [("Idempotency-Key", "own")]
        single = await ask("POST", "/v1/jobs", held("c"), own)
        assert single.json()["id"] == first[2]["id"]
        assert sum((await service.jobs.counts()).values()) == 3


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, 7])
async def test_a_key_that_is_none_is_refused(autojump_clock, key) -> None:
    async with job_app() as (_, ask):
        body = ndjson(held(idempotency_key=key))
        [outcome] = outcomes_of((await ask("POST", BULK, body)).body)
        assert "idempotency_key" in outcome["error"]["message"]


async def test_the_headers_hold_for_every_line_that_does_not_say_otherwise(
    autojump_clock,
) -> None:
    headers = [*KIND, ("Duck-Priority", "low"), ("Duck-Tags", "import=7")]
    async with job_app() as (_, ask):
        body = ndjson(held(), held(priority="high"))
        told = outcomes_of((await ask("POST", BULK, body, headers)).body)
        jobs = [(await ask("GET", f"/v1/jobs/{o['id']}")).json() for o in told]
        assert [job["priority"] for job in jobs] == ["low", "high"]
        assert [job["tags"] for job in jobs] == [{"import": "7"}] * 2


async def test_another_kind_of_body_is_refused(autojump_clock) -> None:
    async with job_app() as (_, ask):
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            headers = [("Content-Type", kind)]
            reply = await ask("POST", BULK, ndjson(held()), headers)
            assert reply.status == 400
            assert "application/x-ndjson" in reply.json()["error"]["message"]


async def test_what_is_too_much_is_told_line_by_line(autojump_clock) -> None:
    async with job_app(queue=QueueConfig(max_jobs=2)) as (_, ask):
        told = outcomes_of((await ask("POST", BULK, ndjson(*[held()] * 4))).body)
        codes = [o.get("error", {}).get("code") for o in told]
        assert codes == [None, None, "queue_full", "queue_full"]


async def test_a_store_that_fails_in_the_middle_is_told_line_by_line(
    autojump_clock,
) -> None:
    async with job_app() as (service, ask):
        works = service.jobs.store

        class Failing(Counting):
            async def insert(self, jobs, **more):
                self.store = works if not self.sizes else BrokenStore()
                return await super().insert(jobs, **more)

        service.jobs.store = Failing(works)
        pieces = [ndjson(held("a"), b"no"), ndjson(held("b"), b"no", held("c"))]
        told = outcomes_of((await ask("POST", BULK, pieces=pieces)).body)
        codes = [o.get("error", {}).get("code") for o in told]
        assert codes == [
            *(None, "invalid_request"),
            *("unavailable", "invalid_request", "unavailable"),
        ]
        service.jobs.store = works
        assert sum((await service.jobs.counts()).values()) == 1


# Both directions at once, over a real server.


async def test_an_outcome_is_there_before_the_next_line_is_sent() -> None:
    async with bulk_connection() as client:
        for number in range(1, 4):
            await send_chunk(client, ndjson(held(str(number))))
            if number == 1:
                status, _ = await client.head()
                assert status == 200
            [outcome] = outcomes_of(await client.chunk())
            assert (outcome["line"], outcome["created"]) == (number, True)
        await send_chunk(client, b"")
        assert await client.chunk() == b""


async def test_a_client_may_send_everything_before_it_reads_anything() -> None:
    # More than the kernel keeps in either direction: with no buffer between, both
    # sides would wait for ever.
    bad, count = (b"x" * 99 + b"\n") * 1000, 40_000
    async with bulk_connection() as client:
        with trio.fail_after(30):
            for _ in range(count // 1000):
                await send_chunk(client, bad)
            await send_chunk(client, b"")
            await client.head()
            told = []
            while chunk := await client.chunk():
                told += outcomes_of(chunk)
        assert [outcome["line"] for outcome in told] == list(range(1, count + 1))


async def test_who_never_reads_is_not_read_from_either(
    autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr(job_bulk, "OUTCOMES_BYTES_MAX", 64 * 1024)
    pieces = [b"x\n" * 100] * 50
    left, told = list(pieces), bytearray()
    reads = trio.Event()

    async def receive():
        piece = left.pop()
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message):
        await reads.wait()
        told.extend(message.get("body", b""))

    async with job_app() as (service, _):
        app = make_app(service, owner_uid=OWNER.uid, wall_clock=wall_clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app, bulk_scope(), receive, send)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert 40 < len(left) < 50
            reads.set()
    assert len(outcomes_of(told)) == 100 * len(pieces)


def bulk_scope():
    return {
        "type": "http",
        "method": "POST",
        "path": BULK,
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "extensions": {"duck.peer": OWNER},
        "state": {},
    }


async def send_chunk(client, data: bytes) -> None:
    await client.send(b"%x\r\n%b\r\n" % (len(data), data))


@asynccontextmanager
async def bulk_connection():
    async with job_app() as (service, _):
        app = make_app(service, owner_uid=OWNER.uid, wall_clock=wall_clock)
        async with serving(app) as served:
            client = await served.connect()
            await client.send(
                b"POST /v1/jobs:bulk HTTP/1.1\r\nHost: x\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            yield client
