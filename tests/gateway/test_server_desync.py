"""Where one request ends and the next begins, nobody but the server decides.

`test_server_smuggling` has the requests that are refused. Here are those that are
served: whatever stands in a body, or behind it, is what its framing says that it is,
however the bytes are cut.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.gateway.serving import answer, read_body, serving

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
HOST = b"Host: x\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /first HTTP/1.1", b"Host: x", *headers, b"", body]
    return b"\r\n".join(lines)


def sized(body: bytes, *headers: bytes) -> bytes:
    return post(body, b"Content-Length: %d" % len(body), *headers)


def chunked(*chunks: bytes, trailer: bytes = b"", extension: bytes = b"") -> bytes:
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
    return post(coded + b"0\r\n" + trailer + b"\r\n", b"Transfer-Encoding: chunked")


class Witness:
    """Answers with the path, and keeps what came: paths and bodies."""

    def __init__(self, *, reads: bool = True) -> None:
        self.came: list[tuple[str, bytes]] = []
        self.reads = reads

    async def __call__(self, scope, receive, send) -> None:
        body = await read_body(receive) if self.reads else b""
        self.came.append((scope["path"], body))
        await answer(send, body=scope["path"].encode())


SERVED = {
    "a request in a body": (sized(HIDDEN), HIDDEN),
    "a request in a chunk": (chunked(HIDDEN), HIDDEN),
    "a request over many chunks": (chunked(*(bytes([b]) for b in HIDDEN)), HIDDEN),
    "an end of chunks in a body": (sized(b"0\r\n\r\n" + HIDDEN), b"0\r\n\r\n" + HIDDEN),
    "an end of chunks in a chunk": (
        chunked(b"0\r\n\r\n" + HIDDEN),
        b"0\r\n\r\n" + HIDDEN,
    ),
    "a request in a trailer's value": (
        chunked(b"a", trailer=b"X: GET /hidden HTTP/1.1\r\n"),
        b"a",
    ),
    "a length in a trailer": (chunked(b"a", trailer=b"Content-Length: 500\r\n"), b"a"),
    "a host in a trailer": (chunked(b"a", trailer=b"Host: y\r\n"), b"a"),
    "a chunk's extension": (chunked(b"a", extension=b";x=y"), b"a"),
    "a quoted extension": (chunked(b"a", extension=b';x="GET /hidden"'), b"a"),
    "a length with noughts before it": (post(b"abc", b"Content-Length: 003"), b"abc"),
    "a header that only looks like a length": (
        sized(b"abc", b"Content_Length: 500", b"X-Content-Length: 500"),
        b"abc",
    ),
    "a header that only looks like a coding": (
        sized(b"abc", b"Transfer_Encoding: chunked", b"TE: chunked"),
        b"abc",
    ),
    "a length that the connection takes away": (
        sized(HIDDEN, b"Connection: content-length"),
        HIDDEN,
    ),
    "another method by header": (
        sized(b"abc", b"X-HTTP-Method-Override: DELETE", b"X-Method: GET"),
        b"abc",
    ),
    "no body at all": (post(b"", b"Content-Length: 0"), b""),
    "upper-case coding": (
        post(b"1\r\na\r\n0\r\n\r\n", b"TRANSFER-ENCODING: CHUNKED"),
        b"a",
    ),
}


@pytest.mark.parametrize("name", SERVED)
async def test_a_body_is_a_body_and_the_next_request_the_next(name) -> None:
    request, body = SERVED[name]
    app = Witness()
    async with serving(app) as s:
        client = await s.connect()
        await client.send(request + b"GET /second HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.response()).body == b"/first"
        assert (await client.response()).body == b"/second"
    assert app.came == [("/first", body), ("/second", b"")]


@pytest.mark.parametrize("name", SERVED)
async def test_a_body_that_nobody_has_read_is_no_request_either(name) -> None:
    app = Witness(reads=False)
    async with serving(app, linger_time=0.1) as s:
        client = await s.connect()
        await client.send(SERVED[name][0] + HIDDEN.replace(b"hidden", b"second"))
        reply = await client.response()
        await client.stream.send_eof()
        await client.rest()
    # It may be too much to skip: then the connection ends, and says so.
    ends = reply.headers.get("connection") == "close"
    assert app.came == [("/first", b"")] + ([] if ends else [("/second", b"")])


@pytest.mark.parametrize("name", SERVED)
async def test_it_does_not_matter_where_the_bytes_are_cut(name) -> None:
    request, body = SERVED[name]
    app = Witness()
    async with serving(app) as s:
        for cut in range(1, len(request), max(1, len(request) // 24)):
            client = await s.connect()
            await client.send(request[:cut])
            await trio.testing.wait_all_tasks_blocked()
            await client.send(request[cut:])
            assert (await client.response()).body == b"/first"
            await client.stream.aclose()
    assert set(app.came) == {("/first", body)}


REFUSED_CODINGS = [
    *(b"chunked,", b",chunked", b"chunked, chunked", b"chunked;q=1", b'"chunked"'),
    *(b"chunked\x0c", b"chunke", b"chunked gzip", b"cow", b"", b"chun\tked"),
]


@pytest.mark.parametrize("coding", REFUSED_CODINGS)
async def test_a_coding_that_another_server_might_know_is_refused(coding) -> None:
    app = Witness()
    async with serving(app) as s:
        client = await s.connect()
        body = b"0\r\n\r\n" + HIDDEN
        await client.send(post(body, b"Transfer-Encoding: " + coding))
        assert (await client.response()).status == 400
        await client.stream.send_eof()
        assert await client.at_end()
    assert app.came == []


@pytest.mark.parametrize(
    "garbage",
    [b"garbage", b"\0\0\0", b"abc\r\n\r\n", b"POST /hidden\r\n\r\n", b"\r\n \r\n"],
)
async def test_what_follows_a_body_and_is_no_request_ends_the_connection(
    garbage,
) -> None:
    app = Witness()
    async with serving(app) as s:
        for request in (sized(b"abc"), chunked(b"abc")):
            client = await s.connect()
            await client.send(request + garbage + HIDDEN)
            assert (await client.response()).status == 200
            assert (await client.response()).status == 400
            await client.stream.send_eof()
            assert await client.at_end()
    assert app.came == [("/first", b"abc")] * 2


async def test_a_body_that_is_too_large_is_never_read_as_a_request() -> None:
    for request in (
        post(HIDDEN * 20, b"Content-Length: 5000000"),
        chunked(b"a" * 600, HIDDEN * 20),
        post(b"ffffff\r\n" + HIDDEN * 20, b"Transfer-Encoding: chunked"),
    ):
        app = Witness()
        async with serving(app, body_bytes_max=500, linger_time=0.1) as s:
            client = await s.connect()
            await client.send(request)
            assert (await client.response()).status == 413
            await client.stream.send_eof()
            assert await client.at_end()
        assert app.came == []


async def test_an_answer_that_came_before_the_body_ends_the_connection() -> None:
    # The rest of the body may look like a request: it must not become one.
    app = Witness(reads=False)
    async with serving(app, linger_time=0.1) as s:
        client = await s.connect()
        await client.send(post(b"", b"Content-Length: %d" % len(HIDDEN)))
        reply = await client.response()
        assert reply.headers["connection"] == "close"
        await client.send(HIDDEN)
        await client.stream.send_eof()
        assert await client.at_end()
    assert app.came == [("/first", b"")]


async def test_whoever_waits_for_100_and_sends_a_request_instead_of_a_body() -> None:
    app = Witness()
    async with serving(app) as s:
        client = await s.connect()
        expects = b"Expect: 100-continue"
        await client.send(post(b"", b"Content-Length: %d" % len(HIDDEN), expects))
        assert (await client.head())[0] == 100
        await client.send(HIDDEN + HIDDEN.replace(b"hidden", b"second"))
        assert (await client.response()).body == b"/first"
        assert (await client.response()).body == b"/second"
    assert app.came == [("/first", HIDDEN), ("/second", b"")]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
async def test_a_body_where_none_is_usual_is_a_body_all_the_same(method) -> None:
    app = Witness()
    async with serving(app) as s:
        client = await s.connect()
        request = sized(HIDDEN).replace(b"POST", method, 1)
        await client.send(request + sized(b"", b"X: y"))
        assert (await client.response(head=method == b"HEAD")).status == 200
        assert (await client.response()).status == 200
    assert app.came == [("/first", HIDDEN), ("/first", b"")]


async def test_a_thousand_pipelined_requests_are_answered_in_their_order() -> None:
    app = Witness()
    async with serving(app) as s:
        client = await s.connect()
        requests = [
            sized(b"%d" % n).replace(b"/first", b"/%d" % n) for n in range(1000)
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, b"".join(requests))
            for n in range(1000):
                assert (await client.response()).body == b"/%d" % n
    assert app.came == [(f"/{n}", b"%d" % n) for n in range(1000)]
