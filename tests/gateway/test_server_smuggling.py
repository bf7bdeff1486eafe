"""What two parsers could read in two ways is read by nobody."""

import json

import pytest
import trio

from tests.gateway.serving import GET, answer, echo, serving

HOST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED_HEADS = {
    "length and chunked": HOST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and length": HOST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "two lengths": HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "one length twice": HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "list of lengths": HOST + b"Content-Length: 3, 3\r\n\r\n",
    "signed length": HOST + b"Content-Length: +3\r\n\r\n",
    "negative length": HOST + b"Content-Length: -3\r\n\r\n",
    "hexadecimal length": HOST + b"Content-Length: 0x3\r\n\r\n",
    "length with a space": HOST + b"Content-Length: 3 4\r\n\r\n",
    "length with an underscore": HOST + b"Content-Length: 1_0\r\n\r\n",
    "empty length": HOST + b"Content-Length:\r\n\r\n",
    "overflowing length": HOST + b"Content-Length: 18446744073709551620\r\n\r\n",
    "other coding": HOST + b"Transfer-Encoding: gzip\r\n\r\n",
    "identity": HOST + b"Transfer-Encoding: identity\r\n\r\n",
    "two codings": HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "not quite chunked": HOST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked twice": HOST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked, then identity": HOST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "vertical tab before chunked": HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "folded line": HOST + b"X: a\r\n b\r\n\r\n",
    "folded first line": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "bare LF after a header": HOST + b"X: a\nY: b\r\n\r\n",
    "bare LFs only": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "bare CR": HOST + b"X: a\rY: b\r\n\r\n",
    "NUL in a value": HOST + b"X: a\0b\r\n\r\n",
    "NUL in a name": HOST + b"X\0: a\r\n\r\n",
    "control in a value": HOST + b"X: a\x01b\r\n\r\n",
    "space before the colon": HOST + b"Content-Length : 3\r\n\r\n",
    "tab before the colon": HOST + b"Content-Length\t: 3\r\n\r\n",
    "no colon": HOST + b"Content-Length 3\r\n\r\n",
    "empty name": HOST + b": 3\r\n\r\n",
    "name outside ASCII": HOST + b"X\xe9: 3\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "Host with a space": b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "Host with a user": b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "space at the end": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "leading space": b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03",
    "RTSP": b"GET / RTSP/1.0\r\nHost: x\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "target without slash": b"GET a HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
    "target outside ASCII": b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab in the target": b"GET /\t HTTP/1.1\r\nHost: x\r\n\r\n",
}

REFUSED_BODIES = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "prefixed size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "underscore": b"1_0\r\nabc\r\n0\r\n\r\n",
    "overflowing size": b"FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
    "no number": b"xyz\r\nabc\r\n0\r\n\r\n",
    "longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "shorter than its size": b"4\r\nabc\r\n0\r\n\r\n",
    "bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "bare LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "bare LF at the end": b"3\r\nabc\r\n0\r\n\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": b"3;\0\r\nabc\r\n0\r\n\r\n",
    "endless extension": b"3;" + b"a" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    "many extensions": b"1;"
    + b"\r\nx\r\n1;".join([b"a" * 4000] * 5)
    + b"\r\nx\r\n0\r\n\r\n",
    "malformed trailer": b"3\r\nabc\r\n0\r\nX : y\r\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
    "many trailers": b"3\r\nabc\r\n0\r\n" + b"X: yyyyyyyyyy\r\n" * 2000 + b"\r\n",
}


class Recorder:
    def __init__(self):
        self.paths = []

    async def __call__(self, scope, receive, send):
        self.paths.append(scope["path"])
        await echo(scope, receive, send)


async def refusal_of(app, data: bytes) -> None:
    async with serving(app) as s:
        client = await s.connect()
        reply = await client.ask(data)
        assert reply.status == 400
        assert reply.headers["connection"] == "close"
        error = json.loads(reply.body)["error"]
        assert error["code"] == "invalid_request"
        await client.stream.send_eof()
        assert await client.at_end()


@pytest.mark.parametrize("name", REFUSED_HEADS)
async def test_an_ambiguous_head_is_refused_and_nothing_after_it_served(name):
    app = Recorder()
    await refusal_of(app, REFUSED_HEADS[name] + HIDDEN)
    assert app.paths == []


@pytest.mark.parametrize("name", REFUSED_BODIES)
async def test_an_ambiguous_body_is_refused_and_nothing_after_it_served(name):
    app = Recorder()
    await refusal_of(app, CHUNKED + REFUSED_BODIES[name] + HIDDEN)
    assert app.paths == ["/"]


@pytest.mark.parametrize(
    "name", ["bare LFs only", "bare LF after a header", "NUL in a value", "TLS"]
)
async def test_what_can_never_become_a_head_is_refused_without_waiting(name):
    await refusal_of(Recorder(), REFUSED_HEADS[name].removesuffix(b"\r\n\r\n"))


async def test_what_was_sent_before_an_ambiguous_request_is_answered():
    async with serving(echo) as s:
        client = await s.connect()
        await client.send(GET + GET + b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
        assert [(await client.response()).status for _ in range(3)] == [200, 200, 400]


async def test_a_row_of_empty_lines_before_a_request_is_allowed():
    async with serving(echo) as s:
        client = await s.connect()
        assert (await client.ask(b"\r\n\r\n" + GET)).status == 200
        assert (await client.ask(b"\r\n" + GET)).status == 200


async def test_an_offer_to_upgrade_is_ignored():
    async with serving(echo) as s:
        client = await s.connect()
        request = GET[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
        assert (await client.ask(request + GET)).status == 200
        assert (await client.response()).status == 200


@pytest.mark.parametrize(
    "header",
    [
        (b"x-echo", b"a\r\nset-cookie: b"),
        (b"x-echo", b"a\nb"),
        (b"x-echo", b"a\rb"),
        (b"x-echo", b"a\0b"),
        (b"x\r\ny", b"a"),
    ],
)
async def test_a_header_that_would_split_the_answer_fails_it(header):
    async def app(scope, receive, send):
        await answer(send, headers=[header])

    async with serving(app) as s:
        reply = await (await s.connect()).ask(GET)
        assert reply.status == 500
        assert "x-echo" not in reply.headers
        assert "set-cookie" not in reply.headers


async def test_an_application_cannot_choose_the_transfer_encoding():
    async def app(scope, receive, send):
        await answer(send, headers=[(b"transfer-encoding", b"chunked")])

    async with serving(app) as s:
        assert (await (await s.connect()).ask(GET)).status == 500


async def test_upper_case_chunk_sizes_and_extensions_are_understood():
    async with serving(echo) as s:
        client = await s.connect()
        with trio.fail_after(5):
            body = b'A;name="quoted; value"\r\n0123456789\r\n000\r\nX: y\r\n\r\n'
            assert (await client.ask(CHUNKED + body)).body == b"POST / 0123456789"
