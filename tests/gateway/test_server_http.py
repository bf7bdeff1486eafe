import json
import os

import pytest
import trio
import trio.testing

from duckservice.calls.call import Submitter
from tests.gateway.serving import (
    GET,
    answer,
    echo,
    post,
    serving,
)


@pytest.fixture(params=["unix", "tcp"])
def tcp(request):
    return request.param == "tcp"


async def test_a_request_is_answered_and_the_connection_kept(tcp):
    async with serving(echo, tcp=tcp) as s:
        client = await s.connect()
        first = await client.ask(post(b"one"))
        assert (first.status, first.body) == (200, b"POST / one")
        assert "connection" not in first.headers
        assert (await client.ask(post(b"two"))).body == b"POST / two"


async def test_pipelined_requests_are_answered_in_order():
    async with serving(echo) as s:
        client = await s.connect()
        await client.send(b"".join(post(b"%d" % n) for n in range(50)) + GET)
        for n in range(50):
            assert (await client.response()).body == b"POST / %d" % n
        assert (await client.response()).body == b"GET / "


async def test_the_scope_tells_what_was_asked():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await answer(send)

    async with serving(app) as s:
        client = await s.connect()
        await client.ask(
            b"GET /a%20b/%C3%A4?q=%20 HTTP/1.1\r\nHost: x\r\nX-Two:  a \t\r\n"
            b"x-two: \xe4\r\n\r\n"
        )
        (scope,) = scopes
    assert scope["type"] == "http"
    assert scope["method"] == "GET"
    assert scope["http_version"] == "1.1"
    assert scope["scheme"] == "http"
    assert scope["path"] == "/a b/ä"
    assert scope["raw_path"] == b"/a%20b/%C3%A4"
    assert scope["query_string"] == b"q=%20"
    assert scope["headers"] == [(b"host", b"x"), (b"x-two", b"a"), (b"x-two", b"\xe4")]
    assert scope["state"] == {}
    assert scope["client"] is None
    assert scope["server"] == (str(s.listener.path), None)
    peer = scope["extensions"]["duck.peer"]
    assert peer == Submitter(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())


async def test_over_tcp_the_scope_names_both_ends_and_no_submitter():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await answer(send)

    async with serving(app, tcp=True) as s:
        client = await s.connect()
        await client.ask(GET)
        port = client.stream.socket.getsockname()[1]
        assert scopes[0]["client"] == ("127.0.0.1", port)
        assert scopes[0]["server"] == ("127.0.0.1", s.listener.port)
        assert scopes[0]["extensions"] == {}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://x.example/a?b", "/a", b"b"),
        (b"http://x.example", "/", b""),
        (b"/", "/", b""),
        (b"/a//b/../c?", "/a//b/../c", b""),
        (b"/%zz%00", "/%zz\0", b""),
    ],
)
async def test_targets(target, path, query):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["path"], scope["query_string"]))
        await answer(send)

    async with serving(app) as s:
        client = await s.connect()
        await client.ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert seen == [(path, query)]


async def test_http_1_0_closes_unless_asked_to_stay():
    async with serving(echo) as s:
        client = await s.connect()
        stays = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert stays.headers["connection"] == "keep-alive"
        closes = await client.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert closes.headers["connection"] == "close"
        assert await client.at_end()


async def test_the_client_may_ask_to_close():
    async with serving(echo) as s:
        client = await s.connect()
        reply = await client.ask(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"
        )
        assert reply.headers["connection"] == "close"
        assert await client.at_end()


async def test_a_chunked_body_is_decoded_and_the_connection_kept():
    async with serving(echo) as s:
        client = await s.connect()
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
        reply = await client.ask(
            head + b"3\r\nabc\r\n00A;x=1\r\n0123456789\r\n0\r\nT: 1\r\n\r\n" + GET
        )
        assert reply.body == b"POST / abc0123456789"
        assert (await client.response()).body == b"GET / "


async def test_a_large_body_arrives_whole(tcp):
    body = os.urandom(3_000_000)
    async with serving(echo, tcp=tcp) as s:
        client = await s.connect()
        assert (await client.ask(post(body))).body == b"POST / " + body


async def test_a_body_that_came_with_its_head_is_one_message():
    pieces = []

    async def app(scope, receive, send):
        pieces.append(await receive())
        await answer(send)

    async with serving(app) as s:
        await (await s.connect()).ask(post(b"x" * 1200))
    assert pieces == [{"type": "http.request", "body": b"x" * 1200, "more_body": False}]


async def test_the_client_is_told_to_continue_when_the_body_is_wanted():
    async with serving(echo) as s:
        client = await s.connect()
        head, _, body = post(b"abc", b"Expect: 100-continue").partition(b"\r\n\r\n")
        interim = await client.ask(head + b"\r\n\r\n", head=True)
        assert interim.status == 100
        assert (await client.ask(body)).body == b"POST / abc"


async def test_an_answer_before_the_body_takes_the_place_of_continue():
    async def app(scope, receive, send):
        await answer(send, status=404)

    async with serving(app) as s:
        client = await s.connect()
        head = post(b"abc", b"Expect: 100-continue").removesuffix(b"abc")
        assert (await client.ask(head)).status == 404
        assert await client.at_end()


async def test_head_gets_the_length_and_no_body():
    async def app(scope, receive, send):
        await answer(send, body=b"12345")

    async with serving(app) as s:
        client = await s.connect()
        reply = await client.ask(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", head=True)
        assert reply.headers["content-length"] == "5"
        assert (await client.ask(GET)).body == b"12345"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(status):
    async def app(scope, receive, send):
        await answer(send, status=status)

    async with serving(app) as s:
        client = await s.connect()
        reply = await client.ask(GET)
        assert reply.status == status
        assert "content-length" not in reply.headers
        assert "transfer-encoding" not in reply.headers
        assert (await client.ask(GET)).status == status


async def test_a_small_answer_is_one_write():
    async with serving(echo, tcp=True) as s:
        client = await s.connect()
        await client.send(GET)
        data = await client.stream.receive_some()
        assert data.endswith(b"GET / ")


async def test_pieces_of_a_stream_are_sent_at_once(tcp):
    go_on = trio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        await client.send(GET)
        _, headers = await client.head()
        assert headers["transfer-encoding"] == "chunked"
        assert await client.chunk() == b"one"
        go_on.set()
        assert await client.chunk() == b"two"
        assert await client.chunk() == b""
        assert (await client.ask(GET)).body == b"onetwo"


async def test_a_stream_to_http_1_0_ends_with_the_connection():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with serving(app) as s:
        client = await s.connect()
        reply = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert "transfer-encoding" not in reply.headers
        assert reply.headers["connection"] == "close"
        assert reply.body == b"onetwo"


async def test_a_stream_with_an_announced_length_is_not_chunked():
    async def app(scope, receive, send):
        headers = [(b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with serving(app) as s:
        client = await s.connect()
        reply = await client.ask(GET)
        assert "transfer-encoding" not in reply.headers
        assert reply.body == b"onetwo"


async def test_a_large_answer_arrives_whole(tcp):
    body = os.urandom(5_000_000)

    async def app(scope, receive, send):
        await answer(send, body=body)

    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        assert (await client.ask(GET)).body == body


async def test_a_body_that_the_application_ignored_is_skipped():
    async def app(scope, receive, send):
        await answer(send, body=scope["method"].encode())

    async with serving(app) as s:
        client = await s.connect()
        assert (await client.ask(post(b"ignored" * 100) + GET)).body == b"POST"
        assert (await client.response()).body == b"GET"


async def test_who_is_still_sending_an_ignored_body_can_read_the_answer(tcp):
    async def app(scope, receive, send):
        await answer(send, status=404)

    async with serving(app, tcp=tcp) as s:
        client = await s.connect()
        reply = await client.ask(post(bytes(8_000_000)))
        assert reply.status == 404
        assert reply.headers["connection"] == "close"


async def test_after_its_answer_an_application_receives_disconnect():
    received = []

    async def app(scope, receive, send):
        await answer(send)
        received.append(await receive())

    async with serving(app) as s:
        await (await s.connect()).ask(GET)
        with trio.fail_after(2):
            while not received:
                await trio.lowlevel.checkpoint()
    assert received == [{"type": "http.disconnect"}]


async def test_work_after_the_answer_outlives_the_client():
    hung_up, finished = trio.Event(), trio.Event()

    async def app(scope, receive, send):
        await answer(send)
        await hung_up.wait()
        await trio.lowlevel.checkpoint()
        finished.set()

    async with serving(app) as s:
        client = await s.connect()
        await client.ask(GET)
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        hung_up.set()
        with trio.fail_after(2):
            await finished.wait()


async def test_a_client_may_send_its_body_while_it_reads_the_answer():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send(
                {
                    "type": "http.response.body",
                    "body": message["body"],
                    "more_body": more,
                }
            )

    async with serving(app) as s:
        client = await s.connect()
        await client.send(post(b"x" * 6).removesuffix(b"x" * 6))
        await client.send(b"xx")
        assert (await client.head())[0] == 200
        assert await client.chunk() == b"xx"
        for piece in (b"yy", b"zz", b""):
            await client.send(piece)
            assert await client.chunk() == piece
        assert await client.at_end()


async def test_many_clients_at_once():
    async with serving(echo) as s:

        async def talk(n: int) -> None:
            client = await s.connect()
            for turn in range(3):
                body = b"%d.%d" % (n, turn)
                assert (await client.ask(post(body))).body == b"POST / " + body

        async with trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(talk, n)
        assert s.server.statistics().requests == 600


async def test_an_endless_answer_does_not_stop_the_other_connections():
    async def app(scope, receive, send):
        if scope["path"] == "/":
            await answer(send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async with serving(app) as s:
        for method in (b"GET", b"HEAD"):
            greedy = await s.connect()
            await greedy.send(method + b" /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await greedy.stream.receive_some()
        assert (await (await s.connect()).ask(GET)).status == 200


async def test_an_error_of_the_server_s_own_is_one_in_every_client_s_format():
    async with serving(echo) as s:
        client = await s.connect()
        reply = await client.ask(b"rubbish\r\n\r\n")
        assert reply.headers["content-type"] == "application/json"
        assert json.loads(reply.body) == {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "code": "invalid_request",
                "message": "malformed HTTP request: bad request line",
                "param": None,
            },
        }
