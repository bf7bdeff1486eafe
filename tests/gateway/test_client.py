import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import outcome
import pytest
import trio

from duckservice.gateway.client import (
    Answer,
    DaemonClient,
    DaemonError,
    DaemonNotRunning,
    DaemonUnreachable,
    Event,
)
from tests.gateway.serving import Hanging, answer, echo, read_body, serving, until

JSON = [(b"content-type", b"application/json")]


async def ask(app, *args, **kwargs):
    """Send one request from a thread to a server of *app*."""
    return await using(app, lambda client: client.request(*args, **kwargs))


async def stream(app, *args, **kwargs):
    return await using(app, lambda client: [*client.stream(*args, **kwargs)])


async def using(app, talk):
    async with serving(app) as s:
        result = await trio.to_thread.run_sync(
            outcome.capture, talk, DaemonClient(s.listener.path)
        )
    # Outside of the server's nursery, which would wrap an error into a group.
    return result.unwrap()


def streaming(content_type: bytes, *pieces: bytes):
    async def app(scope, receive, send):
        headers = [(b"content-type", content_type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


def failing(status: int, body: bytes, headers=()):
    async def app(scope, receive, send):
        await answer(send, status, body, headers)

    return app


async def test_an_answer_has_status_headers_and_body():
    async def app(scope, receive, send):
        await read_body(receive)
        await answer(send, 202, b'{"id": 1}', [*JSON, (b"Duck-Job", b"j")])

    reply = await ask(app, "POST", "/v1/jobs", {"kind": "chat"})
    assert isinstance(reply, Answer)
    assert reply.status == 202
    assert reply.headers["duck-job"] == "j"
    assert reply.json() == {"id": 1}


async def test_a_body_is_sent_as_json_or_as_it_is():
    sent = []

    async def app(scope, receive, send):
        headers = dict(scope["headers"])
        sent.append((headers.get(b"content-type"), await read_body(receive)))
        await answer(send)

    await ask(app, "POST", "/", {"ü": [1, None]})
    await ask(app, "POST", "/", b"raw", {"Content-Type": "text/plain"})
    await ask(app, "GET", "/")
    assert json.loads(sent[0][1]) == {"ü": [1, None]}
    assert sent[0][0] == b"application/json"
    assert sent[1:] == [(b"text/plain", b"raw"), (None, b"")]


async def test_nobody_at_the_socket_is_said_with_a_hint(tmp_path):
    for name in ("missing", "no/such/directory"):
        with pytest.raises(DaemonNotRunning, match=name) as caught:
            DaemonClient(tmp_path / name).request("GET", "/")
        assert "duckd" in caught.value.hint
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(stale))
    with pytest.raises(DaemonNotRunning):
        [*DaemonClient(stale).stream("GET", "/")]


@pytest.mark.parametrize(
    ("status", "error", "code", "retry_after"),
    [
        (
            429,
            {"code": "queue_full", "message": "m", "retry_after": 2.5},
            "queue_full",
            2.5,
        ),
        (404, {"code": "not_found", "message": "m", "job": "j1"}, "not_found", None),
        (
            400,
            {"type": "invalid_request_error", "message": "m"},
            "invalid_request_error",
            None,
        ),
        (400, {"type": "t", "code": "c", "message": "m"}, "c", None),
    ],
)
async def test_an_error_is_decoded(status, error, code, retry_after):
    body = json.dumps({"error": error}).encode()
    with pytest.raises(DaemonError) as caught:
        await ask(failing(status, body, JSON), "GET", "/")
    found = caught.value
    assert (found.code, found.message, found.status) == (code, "m", status)
    assert found.retry_after == retry_after
    assert found.job == error.get("job", "")
    with pytest.raises(DaemonError):
        await stream(failing(status, body, JSON), "GET", "/")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b"\xff"])
async def test_an_error_in_another_form_is_still_one(body):
    with pytest.raises(DaemonError) as caught:
        await ask(failing(503, body, [(b"retry-after", b"7")]), "GET", "/")
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)
    assert caught.value.code == "internal_error"


async def test_redirects_are_not_followed():
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        await answer(send, 307, b"", [(b"location", b"/elsewhere")])

    with pytest.raises(DaemonError) as caught:
        await ask(app, "GET", "/")
    assert caught.value.status == 307
    assert asked == ["/"]


@pytest.mark.parametrize("patience", [0, 64_000_000])
async def test_the_refusal_of_a_body_that_is_too_large_is_read(patience):
    limits = {"body_bytes_max": 1000, "linger_bytes_max": patience}
    async with serving(echo, **limits) as s:
        client = DaemonClient(s.listener.path)
        with pytest.raises(DaemonError) as caught:
            await trio.to_thread.run_sync(client.request, "POST", "/", bytes(5_000_000))
    assert (caught.value.code, caught.value.status) == ("request_too_large", 413)


async def test_a_silent_daemon_is_unreachable_after_the_timeout():
    app = Hanging()
    with pytest.raises(DaemonUnreachable, match="in time"):
        await ask(app, "GET", "/", timeout=0.05)


async def test_a_daemon_that_ends_before_it_answers_is_said_to_have_ended():
    with tempfile.TemporaryDirectory(prefix="duck-") as folder:
        path = Path(folder, "duckd.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def take_and_close():
                taken, _ = listener.accept()
                taken.recv(4096)
                taken.close()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, take_and_close)
                client = DaemonClient(path)
                told = await trio.to_thread.run_sync(
                    outcome.capture, client.request, "GET", "/"
                )
    with pytest.raises(DaemonUnreachable, match="the daemon ended before it answered"):
        told.unwrap()


async def test_an_answer_that_is_cut_off_is_no_answer():
    async def app(scope, receive, send):
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        raise ValueError

    with pytest.raises(DaemonUnreachable):
        await ask(app, "GET", "/")
    with pytest.raises(DaemonUnreachable):
        await stream(app, "GET", "/")


async def test_a_stream_that_is_cut_off_ends_with_an_error():
    async def app(scope, receive, send):
        await streaming(b"text/event-stream", b"data: 1\n\n")(
            scope, receive, send_some(send)
        )
        raise ValueError

    events = []
    with pytest.raises(DaemonUnreachable):
        await using(app, lambda client: events.extend(client.stream("GET", "/")))
    assert events == [Event("1")]


def send_some(send):
    """Leave out the message that ends the answer."""

    async def sending(message):
        if message.get("body") != b"":
            await send(message)

    return sending


async def test_events_of_a_stream():
    events = streaming(
        b"text/event-stream; charset=utf-8",
        b": comment\n\ndata: one\n\n",
        b"event: del",
        b"ta\r\nid: 7\r\ndata:two\r\ndata:  three\r\n\r\n",
        b'data: {"\xc3\xa4": 1}\nretry: 5\n\ndata: [DONE]\n\ndata: cut off',
    )
    assert await stream(events, "POST", "/", {}) == [
        Event("one"),
        Event("two\n three", "delta", "7"),
        Event('{"ä": 1}', "message", "7"),
        Event("[DONE]", "message", "7"),
    ]


async def test_lines_of_what_is_no_event_stream():
    lines = streaming(b"application/x-ndjson", b'{"a"', b": 1}\n{}\nlast")
    assert await stream(lines, "GET", "/") == [
        Event('{"a": 1}'),
        Event("{}"),
        Event("last"),
    ]


async def test_events_are_yielded_as_they_come_and_closing_hangs_up():
    ended = trio.Event()

    async def app(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        event = {
            "type": "http.response.body",
            "body": b"data: 1\n\n",
            "more_body": True,
        }
        await send(event)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    def first_event(path):
        events = DaemonClient(path).stream("GET", "/")
        event = next(events)
        events.close()
        return event

    async with serving(app) as s:
        event = await trio.to_thread.run_sync(first_event, s.listener.path)
        assert event == Event("1")
        await until(ended.is_set)


def test_it_is_imported_without_what_makes_imports_slow():
    program = (
        "import sys, duckservice.gateway.client\n"
        "print({'trio', 'httpx', 'attrs', 'msgspec', 'starlette', 'asyncio', 'rich',"
        " 'structlog'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
