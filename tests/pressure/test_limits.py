"""The limits that pressure has shown to be missing: slow bodies, and too much at once."""

from __future__ import annotations

import json

import trio
import trio.testing

from tests.gateway.serving import echo, post, read_body, serving


async def test_a_body_that_trickles_on_for_ever_is_a_408():
    async with serving(echo, body_grace=0.3, body_silence=10) as s:
        client = await s.connect()
        await client.send(post(b"x" * 10_000)[:-10_000])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_trickle, client)
            reply = await client.response()
            nursery.cancel_scope.cancel()
        assert reply.status == 408
        assert json.loads(reply.body)["error"]["code"] == "timeout"
        assert await client.at_end()


async def _trickle(client) -> None:
    while True:
        await client.send(b"x")
        await trio.sleep(0.02)


async def test_a_body_that_comes_fast_enough_is_served_however_long_it_takes():
    async with serving(echo, body_grace=0.1, body_rate_min=100) as s:
        client = await s.connect()
        request = post(b"x" * 100)
        await client.send(request[:-100])
        for _ in range(10):
            await client.send(b"x" * 10)
            await trio.sleep(0.03)
        assert (await client.response()).status == 200


async def test_large_bodies_that_are_too_much_together_are_a_503_and_small_ones_are_not():
    gate = trio.Event()

    async def app(scope, receive, send):
        body = await read_body(receive)
        if scope["path"] == "/wait":
            await gate.wait()
        await echo_size(send, body)

    async with serving(app, bodies_bytes_max=5000, body_bytes_small=100) as s:
        first, second = await s.connect(), await s.connect()
        await first.send(post(b"x" * 4000).replace(b"/ ", b"/wait ", 1))
        await trio.testing.wait_all_tasks_blocked()
        reply = await second.ask(post(b"x" * 2000))
        assert reply.status == 503
        error = json.loads(reply.body)["error"]
        assert error["code"] == "unavailable"
        assert "large" in error["message"]
        assert await second.at_end()
        third = await s.connect()
        assert (await third.ask(post(b"x" * 1001))).status == 503
        small = await s.connect()
        for _ in range(50):
            assert (await small.ask(post(b"x" * 100))).status == 200
        gate.set()
        assert (await first.response()).body == b"4000"
        # What was answered, refused or cut off does not count any more.
        assert (await small.ask(post(b"x" * 4999))).body == b"4999"


async def echo_size(send, body: bytes) -> None:
    text = b"%d" % len(body)
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
