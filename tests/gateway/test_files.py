"""/v1/files over HTTP: whose they are, and how they grow."""

from __future__ import annotations

import pytest
import trio

from tests.gateway.job_service import STRANGER, job_app

EMPTY = {"purpose": "batch"}
JSON = [("content-type", "application/json")]


async def test_a_piece_that_is_sent_twice_at_once_is_added_once(autojump_clock) -> None:
    async with job_app() as (_, ask):
        file = (await ask("POST", "/v1/files", EMPTY, headers=JSON)).json()["id"]
        replies = []

        async def send() -> None:
            path = f"/v1/files/{file}/content"
            replies.append(await ask("POST", path, b"line\n", query=b"offset=0"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(send)
        assert sorted(reply.status for reply in replies) == [200, 409]
        assert (await ask("GET", f"/v1/files/{file}")).json()["bytes"] == 5


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/{file}"),
        ("GET", "/v1/files/{file}/content"),
        ("DELETE", "/v1/files/{file}"),
        ("GET", "/v1/batches"),
    ],
)
async def test_whoever_is_not_known_sees_no_files(autojump_clock, method, path) -> None:
    async with job_app() as (_, ask):
        file = (await ask("POST", "/v1/files", EMPTY, headers=JSON)).json()["id"]
        body = EMPTY if method == "POST" else None
        reply = await ask(method, path.format(file=file), body, headers=JSON, peer=None)
        assert reply.status == 403
        reply = await ask("GET", f"/v1/files/{file}", peer=STRANGER)
        assert reply.status == 404
