"""A client that hangs up cancels the work for it, whatever that waits for."""

import contextlib
import socket
import struct

import pytest
import trio
from structlog.testing import capture_logs

from tests.gateway.serving import GET, Hanging, post, read_body, serving, until


@pytest.fixture(params=["unix", "tcp"])
def tcp(request):
    return request.param == "tcp"


async def close(client):
    await client.stream.aclose()


async def half_close(client):
    await client.stream.send_eof()


async def reset(client):
    linger = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    await client.stream.aclose()


@pytest.mark.parametrize("leave", [close, half_close, reset])
async def test_hanging_up_cancels_the_application(tcp, leave, record_property):
    app = Hanging()
    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        await client.send(post(b"abc"))
        with trio.fail_after(2):
            await app.started.wait()
            began = trio.current_time()
            await leave(client)
            await app.stopped.wait()
            took = trio.current_time() - began
            record_property("milliseconds", took * 1000)
            print(f"cancelled after {took * 1000:.2f} ms")
            await s.disconnected()


async def test_pipelined_bytes_do_not_hide_the_hang_up(tcp):
    app = Hanging()
    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        await client.send(GET)
        with trio.fail_after(2):
            await app.started.wait()
            await client.send(GET * 1000)
            await client.stream.aclose()
            await app.stopped.wait()


async def test_requests_behind_a_hang_up_are_not_begun():
    begun = []

    async def app(scope, receive, send):
        begun.append(scope["path"])
        await trio.sleep_forever()

    async with serving(app) as s:
        client = await s.connect()
        await client.send(GET * 10)
        await client.stream.aclose()
        await s.disconnected()
    assert len(begun) <= 1


async def test_hanging_up_within_a_body_cancels_the_application(tcp):
    started, ended = trio.Event(), trio.Event()

    async def app(scope, receive, send):
        started.set()
        try:
            await read_body(receive)
        except trio.Cancelled:
            ended.set()
            raise

    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        await client.send(post(b"abc")[:-1])
        await started.wait()
        await client.stream.aclose()
        with trio.fail_after(2):
            await ended.wait()


async def test_hanging_up_within_a_stream_cancels_it(tcp):
    ended = trio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                piece = {"type": "http.response.body", "body": b"x", "more_body": True}
                await send(piece)
                await trio.sleep(0.001)
        finally:
            ended.set()

    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        await client.send(GET)
        assert await client.stream.receive_some()
        await client.stream.aclose()
        with trio.fail_after(2):
            await ended.wait()


async def test_hanging_up_while_the_answer_is_stuck_cancels_it(tcp):
    ended = trio.Event()

    async def app(scope, receive, send):
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(50_000_000)})
        finally:
            ended.set()

    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        await client.send(GET)
        assert await client.stream.receive_some()
        await client.stream.aclose()
        with trio.fail_after(2):
            await ended.wait()


async def test_tasks_of_the_application_are_cancelled_with_it():
    started, ended = trio.Event(), trio.Event()

    async def work():
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def app(scope, receive, send):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            nursery.start_soon(receive)

    async with serving(app) as s:
        client = await s.connect()
        await client.send(GET)
        await started.wait()
        await client.stream.aclose()
        with trio.fail_after(2):
            await ended.wait()


async def test_one_hang_up_among_many_cancels_only_its_own_work():
    working, cancelled, go_on = [], [], trio.Event()

    async def app(scope, receive, send):
        name = scope["path"]
        working.append(name)
        try:
            await go_on.wait()
        except trio.Cancelled:
            cancelled.append(name)
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as s:
        clients = [await s.connect() for _ in range(20)]
        for n, client in enumerate(clients):
            await client.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
        with trio.fail_after(2):
            await until(lambda: len(working) == 20)
            await clients[7].stream.aclose()
            await until(lambda: cancelled)
        go_on.set()
        for n, client in enumerate(clients):
            if n != 7:
                assert (await client.response()).status == 200
    assert cancelled == ["/7"]


async def test_hang_ups_are_no_errors_in_the_log():
    app = Hanging()
    with capture_logs() as logs:
        async with serving(app) as s:
            client = await s.connect()
            await client.send(GET)
            await app.started.wait()
            await client.stream.aclose()
            await s.disconnected()
    assert logs == []


async def test_a_shielded_application_is_not_left_waiting_for_a_client_that_is_gone():
    raised = []

    started = trio.Event()

    async def app(scope, receive, send):
        started.set()
        with trio.CancelScope(shield=True):
            try:
                await read_body(receive)
            except trio.BrokenResourceError as error:
                raised.append(error)

    async with serving(app) as s:
        client = await s.connect()
        await client.send(post(b"abc")[:-1])
        await started.wait()
        await client.stream.aclose()
        await s.disconnected()
    assert len(raised) == 1
