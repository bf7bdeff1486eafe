"""What the HTTP server of ours must keep to, whatever bytes come, in whatever pieces."""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Sequence

import attrs
import trio
import trio.testing

from duckservice.errors import InvalidRequest
from duckservice.gateway.chunked import BodyTooLong, ChunkedDecoder, MalformedBody
from duckservice.gateway.connection import Connection, Shared
from duckservice.gateway.limits import ServerLimits
from duckservice.gateway.multipart import MultipartReader, PartBegins
from tests.fuzz.cuts import pieces_of

LIMITS = ServerLimits(head_bytes_max=2048, body_bytes_max=4096)
"""Small enough that a fuzzer finds its way beyond them."""

REFUSALS = frozenset({400, 408, 413, 431})
_ANSWER = re.compile(
    rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?content-length: (\d+)\r\n"
    rb"(?:[^\r\n]+\r\n)*\r\n",
    re.IGNORECASE,
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@attrs.frozen
class Conversation:
    """What came of the bytes of one client."""

    requests: list[tuple[object, ...]]
    """As the application saw them, bodies included."""
    statuses: list[int]
    open: bool
    """Whether the server would read another request."""


def connection(given: bytes) -> None:
    """Every byte is a part of a request or of a refusal, the same in one piece and in many."""
    data, pieces = pieces_of(given)
    if not pieces:
        return
    whole, parted = talk([data]), talk(pieces)
    for each in (whole, parted):
        *answered, last = each.statuses or [200]
        assert set(answered) <= {200}, each
        assert last == 200 or (last in REFUSALS and not each.open), each
    # Where two things are wrong, which is seen first may depend on the pieces.
    assert _alike(whole) == _alike(parted), f"{whole}\n{parted}"


def _alike(its: Conversation) -> Conversation:
    statuses = [status if status == 200 else 400 for status in its.statuses]
    return attrs.evolve(its, statuses=statuses)


def talk(pieces: Sequence[bytes]) -> Conversation:
    """Return what the server makes of these pieces; it must end when the client does."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(functools.partial(_talk, pieces), clock=clock)


async def _talk(pieces: Sequence[bytes]) -> Conversation:
    requests: list[tuple[object, ...]] = []

    async def app(scope, receive, send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        names = ("method", "raw_path", "query_string", "headers", "http_version")
        requests.append((*(scope[name] for name in names), body))
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        served = Connection(ours, Shared(app, LIMITS, lambda: "id"))
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.run)
                ended, answers = await _say(theirs, pieces)
                theirs.close()
        served.close()
    return Conversation(requests, _statuses(answers), not ended)


async def _say(theirs: socket.socket, pieces: Sequence[bytes]) -> tuple[bool, bytes]:
    answers, ended = b"", False
    for piece in pieces:
        if ended:
            break
        theirs.send(piece)
        await trio.testing.wait_all_tasks_blocked()
        more, ended = _hear(theirs)
        answers += more
    return ended, answers


def _hear(theirs: socket.socket) -> tuple[bytes, bool]:
    heard = b""
    while True:
        try:
            data = theirs.recv(1 << 16)
        except BlockingIOError:
            return heard, False
        except OSError:
            return heard, True
        if not data:
            return heard, True
        heard += data


def _statuses(answers: bytes) -> list[int]:
    """Return the status of each answer; there must be nothing between them."""
    statuses: list[int] = []
    while answers:
        if answers.startswith(_CONTINUE):
            answers = answers[len(_CONTINUE) :]
            continue
        found = _ANSWER.match(answers)
        assert found is not None, answers
        statuses.append(int(found[1]))
        end = found.end()
        # Of the answer to HEAD there is a head only.
        if answers[end : end + 2] == b"ok" or statuses[-1] != 200:
            end += int(found[2])
        answers = answers[end:]
    return statuses


def chunked(given: bytes) -> None:
    """A chunked body ends at the same byte, with the same content, however it comes."""
    data, pieces = pieces_of(given)
    whole = _decoded([data])
    assert whole == _decoded(pieces or [b""])
    assert whole == _decoded([data[i : i + 1] for i in range(len(data))] or [b""])


def _decoded(pieces: Sequence[bytes]) -> tuple[object, ...]:
    decoder = ChunkedDecoder(1000)
    body, rest = b"", b""
    try:
        for piece in pieces:
            if decoder.complete:
                rest += piece
                continue
            more, rest = decoder.feed(piece)
            body += more
    except (MalformedBody, BodyTooLong) as error:
        return (type(error).__name__,)
    assert len(body) <= 1000
    assert not rest or decoder.complete
    return body, rest, decoder.complete


def multipart(given: bytes) -> None:
    """A form has the same parts however it comes, in bounded memory, or is refused."""
    data, pieces = pieces_of(given)
    whole = _parts([data])
    assert whole == _parts(pieces)
    assert whole == _parts([data[i : i + 1] for i in range(len(data))])


def _parts(pieces: Sequence[bytes]) -> object:
    reader = MultipartReader.of("multipart/form-data; boundary=duck")
    parts: list[tuple[str, str | None, bytes]] = []
    try:
        for piece in pieces:
            for event in reader.feed(piece):
                if isinstance(event, PartBegins):
                    parts.append((event.name, event.filename, b""))
                else:
                    name, filename, body = parts[-1]
                    parts[-1] = name, filename, body + event.data
        reader.finish()
    except InvalidRequest:
        return "refused"
    return parts
