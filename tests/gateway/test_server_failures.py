"""What a failing application costs: its own client an error, nobody else anything."""

import errno
import json
import os
import resource
import socket

import pytest
import trio
from structlog.testing import capture_logs

from tests.gateway.serving import GET, answer, echo, post, serving, until


class Boom(Exception):
    pass


START = {"type": "http.response.start", "status": 200, "headers": []}


async def fails_before(scope, receive, send):
    raise Boom("secret detail")


async def fails_after_start(scope, receive, send):
    await send(START)
    raise Boom("secret detail")


async def fails_in_a_group(scope, receive, send):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_before, scope, receive, send)
        nursery.start_soon(trio.sleep_forever)


async def does_not_answer(scope, receive, send):
    pass


async def only_starts(scope, receive, send):
    await send(START)


async def starts_twice(scope, receive, send):
    await send(START)
    await send(START)


async def sends_a_body_first(scope, receive, send):
    await send({"type": "http.response.body", "body": b"x"})


async def sends_something_else(scope, receive, send):
    await send({"type": "websocket.accept"})


async def announces_too_much(scope, receive, send):
    await answer(send, body=b"x", headers=[(b"content-length", b"2")])


async def announces_too_little(scope, receive, send):
    await answer(send, body=b"xyz", headers=[(b"content-length", b"2")])


@pytest.mark.parametrize(
    "app",
    [
        fails_before,
        fails_after_start,
        fails_in_a_group,
        does_not_answer,
        only_starts,
        starts_twice,
        sends_a_body_first,
        sends_something_else,
        announces_too_much,
        announces_too_little,
    ],
)
async def test_a_failure_before_the_answer_is_an_internal_error(app):
    with capture_logs() as logs:
        async with serving(app) as s:
            client = await s.connect()
            reply = await client.ask(post(b"abc", b"X-Request-Id: req-7"))
            assert reply.status == 500
            assert reply.headers["connection"] == "close"
            assert reply.headers["x-request-id"] == "req-7"
            error = json.loads(reply.body)["error"]
            assert error["code"] == "internal_error"
            assert "req-7" in error["message"]
            assert "secret" not in error["message"]
    (log,) = logs
    assert log["event"] == "gateway.request_failed"
    assert log["request_id"] == "req-7"


async def test_the_log_has_the_failures_type_and_place_but_no_locals():
    async def app(scope, receive, send):
        prompt = "the prompt"
        raise Boom(len(prompt))

    with capture_logs() as logs:
        async with serving(app) as s:
            await (await s.connect()).ask(GET)
    (log,) = logs
    assert log["error"] == "Boom"
    assert "raise Boom(len(prompt))" in log["traceback"]
    assert "the prompt" not in str(log).replace('prompt = "the prompt"', "")


async def test_the_applications_own_request_id_is_preferred():
    async def app(scope, receive, send):
        scope["state"]["request_id"] = "own-1"
        raise Boom

    async with serving(app) as s:
        reply = await (await s.connect()).ask(GET)
        assert reply.headers["x-request-id"] == "own-1"


async def test_a_request_id_that_is_none_is_replaced():
    async with serving(fails_before) as s:
        client = await s.connect()
        reply = await client.ask(GET[:-2] + b"X-Request-Id: a b\r\n\r\n")
        assert reply.headers["x-request-id"] not in ("", "a b")


async def test_a_failure_to_answer_head_has_no_body():
    async with serving(fails_before) as s:
        client = await s.connect()
        await client.send(GET.replace(b"GET", b"HEAD"))
        reply = await client.response(head=True)
        assert reply.status == 500
        assert await client.at_end()


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_failure_within_a_stream_never_looks_like_its_end(tcp):
    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        raise Boom

    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        await client.send(GET)
        await client.head()
        assert await client.chunk() == b"one"
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await client.chunk()


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"50000000")]])
@pytest.mark.parametrize("last", [b"", b"event: error"])
async def test_nothing_follows_a_piece_that_was_torn_by_a_cancellation(
    tcp, headers, last
):
    piece = bytes(50_000_000 - len(last))
    deadlines = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with trio.CancelScope() as deadline:
            deadlines.append(deadline)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": last})

    with capture_logs() as logs:
        async with serving(app, tcp=tcp) as s:
            client = await s.connect()
            await client.send(GET + GET)
            await client.head()
            deadlines[0].cancel()
            torn = await client.rest()
            await s.disconnected()
    assert len(torn) < len(piece)
    assert not torn.removeprefix(b"%x\r\n" % len(piece)).strip(b"\0")
    assert len(deadlines) == 1
    assert logs == []


async def test_a_failure_within_a_stream_to_http_1_0_resets_a_tcp_connection():
    go_on = trio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        raise Boom

    async with serving(app, tcp=True) as s:
        client = await s.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.head()
        go_on.set()
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()


async def test_a_body_shorter_than_announced_never_looks_whole():
    async def app(scope, receive, send):
        headers = [(b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as s:
        client = await s.connect()
        with pytest.raises(EOFError):
            await client.ask(GET)


async def test_one_failure_leaves_the_other_connections_alone():
    async def app(scope, receive, send):
        if scope["path"] != "/":
            raise Boom
        await echo(scope, receive, send)

    async with serving(app) as s:
        good, bad = await s.connect(), await s.connect()
        assert (await good.ask(GET)).status == 200
        assert (await bad.ask(GET.replace(b"/ ", b"/bad ", 1))).status == 500
        assert (await good.ask(GET)).status == 200


async def test_a_keyboard_interrupt_is_not_swallowed():
    async def app(scope, receive, send):
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(app) as s:
            await (await s.connect()).send(GET)
            await trio.sleep(5)
    assert caught.group_contains(KeyboardInterrupt)


async def test_messages_after_the_answer_are_refused_and_harm_no_later_request():
    sends = []

    async def app(scope, receive, send):
        sends.append(send)
        await answer(send, body=scope["path"].encode())

    async with serving(app) as s:
        client = await s.connect()
        await client.ask(GET)
        with pytest.raises(RuntimeError):
            await sends[0]({"type": "http.response.body", "body": b"late"})
        assert (await client.ask(GET)).body == b"/"


async def test_no_file_descriptors_left_is_survived():
    with capture_logs() as logs:
        async with serving(echo) as s:
            client = await s.connect()
            assert (await client.ask(GET)).status == 200
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            waiting = socket.socket(socket.AF_UNIX)
            waiting.setblocking(False)
            next_free = os.dup(waiting.fileno())
            os.close(next_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
            try:
                waiting.connect(os.fspath(s.listener.path))
                await until(lambda: logs)
                assert (await client.ask(GET)).status == 200
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            waiting.send(GET)
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(waiting)
            assert waiting.recv(100).startswith(b"HTTP/1.1 200")
            waiting.close()
    assert {log["event"] for log in logs} == {"gateway.accept_failed"}
    assert os.strerror(errno.EMFILE) in logs[0]["error"]


async def test_repr_and_statistics_tell_the_state():
    async with serving(echo) as s:
        client = await s.connect()
        await client.ask(GET)
        assert repr(s.server) == "<Server serving, 1 connections>"
        found = s.server.statistics()
        assert (found.connections, found.busy, found.requests) == (1, 0, 1)
