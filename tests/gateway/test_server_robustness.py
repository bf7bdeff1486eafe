"""Whatever bytes come, in whatever pieces: the server goes on and leaks nothing."""

import contextlib
import os

import httptools
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given, settings, strategies as st

from duckservice.gateway.chunked import BodyTooLong, ChunkedDecoder, MalformedBody
from tests.gateway.serving import GET, answer, echo, post, read_body, serving

CHUNKED = (
    b"POST /c?d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nT: u\r\n\r\n"
)
REQUESTS = [
    post(b"hello"),
    GET,
    b"\r\n" + GET,
    CHUNKED,
    post(b"x" * 3000),
    b"HEAD / HTTP/1.1\r\nHost: x\r\nX: \xff\r\n\r\n",
]


def cuts_of(data: bytes):
    return st.lists(st.integers(1, len(data) - 1), unique=True, max_size=12).map(sorted)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@st.composite
def conversations(draw):
    data = b"".join(draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=5)))
    return split(data, draw(cuts_of(data)))


async def seen_by_application(pieces: list[bytes]):
    seen = []

    async def app(scope, receive, send):
        facts = {
            key: scope[key] for key in ("method", "raw_path", "query_string", "headers")
        }
        seen.append((facts, await read_body(receive)))
        await answer(send)

    async with serving(app) as s:
        client = await s.connect()
        for piece in pieces:
            await client.send(piece)
            # Let the server run, so that it gets the pieces one by one.
            await trio.testing.wait_all_tasks_blocked()
        await client.send(GET.replace(b"/ ", b"/last ", 1))
        with trio.fail_after(5):
            while not seen or seen[-1][0]["raw_path"] != b"/last":
                await trio.lowlevel.checkpoint()
    return seen


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_requests_mean_the_same_in_whatever_pieces_they_come(pieces):
    whole = trio.run(seen_by_application, [b"".join(pieces)])
    assert trio.run(seen_by_application, pieces) == whole


garbage = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [
                GET,
                post(b"x"),
                b"GET ",
                b"/ ",
                b"HTTP/1.1",
                b"\r\n",
                b"\n",
                b"\r",
                b"\0",
                b"Host: x",
                b":",
                b" ",
                b"Content-Length: 5",
                b"Transfer-Encoding: chunked",
                b"5",
                b"ffffffff",
                b"0\r\n\r\n",
                b"\xff" * 20,
                b"Connection: close",
                b"Expect: 100-continue",
                b"A" * 70_000,
            ]
        ),
        max_size=15,
    ).map(b"".join),
)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(garbage, st.booleans()), min_size=1, max_size=4))
def test_garbage_never_stops_the_server_nor_leaks_a_connection(rubbish):
    async def main():
        async with serving(echo, body_bytes_max=10_000, linger_time=0.05) as s:
            before = open_files()
            for data, waits in rubbish:
                client = await s.connect()
                with contextlib.suppress(trio.BrokenResourceError):
                    await client.send(data)
                if waits:
                    await trio.testing.wait_all_tasks_blocked()
                await client.stream.aclose()
            client = await s.connect()
            assert (await client.ask(GET)).status == 200
            await client.stream.aclose()
            await s.disconnected()
            assert open_files() == before

    trio.run(main)


def decoded(data: bytes, cuts: list[int]):
    decoder = ChunkedDecoder(1000)
    body, rest = b"", b""
    try:
        for piece in split(data, cuts):
            if decoder.complete:
                rest += piece
            else:
                part, rest = decoder.feed(piece)
                body += part
    except (MalformedBody, BodyTooLong) as error:
        return type(error)
    return (body, rest) if decoder.complete else None


chunkish = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"\r\n",
                b"0",
                b"1",
                b"3",
                b"A",
                b";x",
                b"abc",
                b"X: y",
                b"\n",
                b"0\r\n\r\n",
                b"3\r\nabc\r\n",
                b"a\r\n0123456789\r\n",
                b"fff",
            ]
        ),
        st.binary(max_size=4),
    ),
    min_size=2,
    max_size=12,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_chunked_body_means_the_same_in_whatever_pieces_it_comes(data):
    body = data.draw(chunkish.filter(lambda body: len(body) > 1))
    assert decoded(body, data.draw(cuts_of(body))) == decoded(body, [])


class Llhttp:
    """An independent decoder of chunked bodies."""

    def __init__(self):
        self.body = b""
        self.complete = False

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.complete = True


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), chunkish)
def test_llhttp_reads_every_body_that_is_accepted_in_the_same_way(chunks, tail):
    encoded = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks if c) + tail
    ours = decoded(encoded, [])
    if not isinstance(ours, tuple):
        return
    body, rest = ours
    theirs = Llhttp()
    parser = httptools.HttpRequestParser(theirs)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.feed_data(encoded[: len(encoded) - len(rest)])
    assert theirs.complete
    assert theirs.body == body
