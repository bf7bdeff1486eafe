import json
import time

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.gateway.serving import (
    GET,
    Hanging,
    answer,
    echo,
    post,
    read_body,
    serving,
    until,
)

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["unix", "tcp"])
def tcp(request):
    return request.param == "tcp"


def assert_refused(reply, status, code):
    assert reply.status == status
    assert reply.headers["connection"] == "close"
    assert json.loads(reply.body)["error"]["code"] == code
    assert_of_no_use_to_pages(reply.headers)


def assert_of_no_use_to_pages(headers):
    """Assert what keeps a page from running, framing or keeping an answer."""
    policy = headers["content-security-policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


async def test_a_head_over_the_limit_is_refused(tcp):
    async with serving(echo, tcp=tcp, head_bytes_max=1000) as s:
        exact = GET[:-2] + b"X: " + b"y" * (1000 - len(GET) - 5) + b"\r\n\r\n"
        assert len(exact) == 1000
        client = await s.connect()
        assert (await client.ask(exact)).status == 200
        too_long = exact[:-4] + b"y\r\n\r\n"
        assert_refused(await client.ask(too_long), 431, "request_too_large")


async def test_an_endless_head_is_refused_before_it_ends(tcp):
    async with serving(echo, tcp=tcp) as s:
        client = await s.connect()
        reply = await client.ask(GET[:-2] + b"X: " + b"y" * 70_000)
        assert_refused(reply, 431, "request_too_large")


async def test_an_endless_row_of_small_headers_is_refused(tcp):
    async with serving(echo, tcp=tcp) as s:
        client = await s.connect()
        reply = await client.ask(GET[:-2] + b"X: y\r\n" * 20_000)
        assert_refused(reply, 431, "request_too_large")


async def test_half_a_head_and_then_silence_is_a_timeout(tcp):
    async with serving(echo, tcp=tcp, head_time=0.1) as s:
        client = await s.connect()
        assert_refused(await client.ask(GET[:-4]), 408, "timeout")
        await client.stream.send_eof()
        assert await client.at_end()


async def test_a_head_that_drips_is_a_timeout_all_the_same():
    async with serving(echo, head_time=0.2) as s:
        client = await s.connect()

        async def drip():
            with trio.move_on_after(5):
                for byte in GET[:-2] + b"X: " + b"y" * 10_000:
                    await client.send(bytes([byte]))
                    await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert_refused(await client.response(), 408, "timeout")
            nursery.cancel_scope.cancel()


async def test_the_rest_of_a_pipelined_head_is_timed_too():
    async with serving(echo, head_time=0.1) as s:
        client = await s.connect()
        assert (await client.ask(GET + GET[:-4])).status == 200
        assert_refused(await client.response(), 408, "timeout")


async def test_a_large_length_is_refused_before_the_body_is_read(tcp):
    app = Hanging()
    async with serving(app, tcp=tcp, body_bytes_max=1000) as s:
        client = await s.connect()
        reply = await client.ask(post(bytes(1001))[:-1001])
        assert_refused(reply, 413, "request_too_large")
    assert not app.started.is_set()


async def test_a_body_of_the_limit_is_allowed():
    async with serving(echo, body_bytes_max=1000) as s:
        client = await s.connect()
        assert (await client.ask(post(bytes(1000)))).status == 200
        chunked = CHUNKED + b"1f4\r\n" + bytes(500) + b"\r\n"
        chunked += b"1f4\r\n" + bytes(500) + b"\r\n0\r\n\r\n"
        assert (await client.ask(chunked)).status == 200


async def test_who_is_sending_40_megabytes_gets_to_read_the_refusal(tcp):
    async with serving(echo, tcp=tcp) as s:
        client = await s.connect()
        reply = await client.ask(post(bytes(40_000_000)))
        assert_refused(reply, 413, "request_too_large")


async def test_chunks_are_counted_while_they_come(tcp):
    async with serving(echo, tcp=tcp, body_bytes_max=1000) as s:
        client = await s.connect()
        await client.send(CHUNKED + b"1f4\r\n" + bytes(500) + b"\r\n")
        await client.send(b"1f4\r\n" + bytes(500) + b"\r\n1\r\n")
        assert_refused(await client.response(), 413, "request_too_large")


async def test_silence_within_a_body_is_a_timeout(tcp):
    async with serving(echo, tcp=tcp, body_silence=0.1) as s:
        client = await s.connect()
        assert_refused(await client.ask(post(b"abc")[:-1]), 408, "timeout")
        client = await s.connect()
        assert_refused(await client.ask(CHUNKED + b"3\r\nab"), 408, "timeout")


async def test_a_slow_body_without_silence_is_served():
    async with serving(echo, body_silence=0.5) as s:
        client = await s.connect()
        request = post(b"0123456789")
        await client.send(request[:-10])
        for n in range(10):
            await client.send(b"%d" % n)
            await trio.sleep(0.06)
        assert (await client.response()).body == b"POST / 0123456789"


async def test_a_body_that_is_too_late_cancels_the_application():
    ended = []

    async def app(scope, receive, send):
        try:
            await read_body(receive)
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async with serving(app, body_silence=0.05) as s:
        reply = await (await s.connect()).ask(post(b"abc")[:-1])
        assert_refused(reply, 408, "timeout")
    assert ended == ["cancelled"]


async def test_a_limit_broken_after_the_answer_began_aborts_it():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await read_body(receive)

    async with serving(app, body_silence=0.05) as s:
        client = await s.connect()
        with pytest.raises(EOFError):
            await client.ask(post(b"abc")[:-1])


async def test_one_connection_too_many_is_told_so(tcp):
    async with serving(echo, tcp=tcp, connections_max=2) as s:
        first, second = await s.connect(), await s.connect()
        assert (await first.ask(GET)).status == 200
        assert (await second.ask(GET)).status == 200
        third = await s.connect()
        assert_refused(await third.ask(GET), 503, "unavailable")
        assert s.server.statistics().refused == 1
        await first.stream.aclose()
        await until(lambda: s.server.statistics().connections == 1)
        assert (await (await s.connect()).ask(GET)).status == 200


async def test_a_flood_of_connections_leaves_those_there_are_alone():
    async with serving(echo, connections_max=2) as s:
        client = await s.connect()
        assert (await client.ask(GET)).status == 200
        for _ in range(200):
            await s.connect()
        assert (await client.ask(GET)).status == 200
        assert s.server.statistics().connections == 2


async def test_an_idle_connection_is_closed(tcp):
    async with serving(echo, tcp=tcp, idle_time=0.1) as s:
        client = await s.connect()
        assert (await client.ask(GET)).status == 200
        assert await client.at_end()
        silent = await s.connect()
        assert await silent.at_end()


async def test_work_and_its_stream_are_not_idle():
    async def app(scope, receive, send):
        await trio.sleep(0.2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await trio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"y"})

    async with serving(app, idle_time=0.05, head_time=0.05, body_silence=0.05) as s:
        assert (await (await s.connect()).ask(GET)).body == b"xy"


async def test_a_client_that_stops_reading_is_given_up(tcp):
    cancelled = trio.Event()

    async def app(scope, receive, send):
        try:
            await answer(send, body=bytes(50_000_000))
        except trio.Cancelled:
            cancelled.set()
            raise

    async with serving(app, tcp=tcp, send_stall=0.1) as s:
        client = await s.connect()
        await client.send(GET)
        with trio.fail_after(5):
            await cancelled.wait()
        await s.disconnected()


async def test_a_slow_reader_that_goes_on_reading_gets_everything():
    async def app(scope, receive, send):
        await answer(send, body=bytes(2_000_000))

    async with serving(app, send_stall=0.5) as s:
        client = await s.connect()
        await client.send(GET)
        received = 0
        while received < 2_000_000:
            received += len(await client.stream.receive_some(100_000))
            await trio.sleep(0.02)


async def test_waiting_for_a_slow_reader_keeps_nobody_else_waiting():
    async def app(scope, receive, send):
        await answer(send, body=bytes(50_000_000 if scope["path"] == "/big" else 1))

    async with serving(app) as s:
        slow = await s.connect()
        await slow.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(20):
            assert (await (await s.connect()).ask(GET)).status == 200


async def test_a_refused_client_that_never_stops_sending_is_cut_off():
    async with serving(echo, linger_time=60.0, linger_bytes_max=1_000_000) as s:
        client = await s.connect()
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
            await client.send(b"rubbish\r\n\r\n")
            while True:
                await client.send(bytes(100_000))


async def test_a_refused_client_that_stays_is_cut_off():
    async with serving(echo, linger_time=0.1) as s:
        client = await s.connect()
        assert (await client.ask(b"rubbish\r\n\r\n")).status == 400
        await s.disconnected()


async def test_a_body_of_many_tiny_chunks_is_served():
    async with serving(echo) as s:
        client = await s.connect()
        began = time.process_time()
        reply = await client.ask(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
        assert len(reply.body) == 100_000 + len("POST / ")
        print(f"{(time.process_time() - began) * 10:.1f} µs a chunk")


async def test_limits_are_no_errors_in_the_log():
    with capture_logs() as logs:
        async with serving(echo, head_time=0.05, idle_time=0.05) as s:
            await (await s.connect()).ask(b"GET")
            await (await s.connect()).rest()
    assert logs == []
