import contextlib
import socket
import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing

from duckservice.gateway.server import Server, serve
from duckservice.gateway.tcp_socket import bind_tcp
from duckservice.gateway.unix_socket import bind_unix
from tests.gateway.serving import GET, Hanging, RawClient, answer, echo, serving, until


@pytest.fixture(params=["unix", "tcp"])
def tcp(request):
    return request.param == "tcp"


async def test_requests_in_flight_are_answered_and_new_clients_refused(tcp):
    working, go_on = [], trio.Event()

    async def app(scope, receive, send):
        working.append(scope)
        await go_on.wait()
        await answer(send, body=scope["path"].encode())

    async with serving(app, tcp=tcp) as s:
        clients = [await s.connect() for _ in range(20)]
        for n, client in enumerate(clients):
            await client.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
        await until(lambda: len(working) == 20)
        s.server.drain()
        assert s.server.statistics().draining
        with pytest.raises(OSError):  # noqa: PT011 - which one differs by family
            await s.connect()
        go_on.set()
        for n, client in enumerate(clients):
            reply = await client.response()
            assert reply.body == b"/%d" % n
            assert reply.headers["connection"] == "close"
            assert await client.at_end()
        await s.disconnected()


async def test_idle_connections_are_closed_at_once(tcp):
    async with serving(echo, tcp=tcp) as s:
        used, fresh = await s.connect(), await s.connect()
        await used.ask(GET)
        await trio.testing.wait_all_tasks_blocked()
        s.server.drain()
        assert await used.at_end()
        assert await fresh.at_end()


async def test_a_request_that_has_arrived_is_answered(tcp):
    async with serving(echo, tcp=tcp) as s:
        known = await s.connect()
        await known.ask(GET)
        # Both requests are in the kernel, and no task of the server has run yet.
        known.stream.socket._sock.send(GET)
        new = socket.socket(s.listener.socket.family)
        new.connect(s.listener.socket.getsockname())
        new.send(GET)
        s.server.drain()
        async with trio.SocketStream(trio.socket.from_stdlib_socket(new)) as stream:
            for client in (known, RawClient(stream)):
                assert (await client.response()).headers["connection"] == "close"


async def test_half_a_request_may_be_finished():
    async with serving(echo) as s:
        client = await s.connect()
        await client.send(GET[:-4])
        await trio.testing.wait_all_tasks_blocked()
        s.server.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.ask(GET[-4:])).headers["connection"] == "close"


async def test_a_stream_that_runs_goes_on_to_its_end():
    go_on = trio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with serving(app) as s:
        client = await s.connect()
        await client.send(GET)
        await client.head()
        s.server.drain()
        go_on.set()
        assert [await client.chunk() for _ in range(3)] == [b"one", b"two", b""]
        assert await client.at_end()


async def test_serve_returns_when_the_last_connection_is_closed():
    go_on = trio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await answer(send)

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "s")
        server = Server(app, [bind_unix(path)])
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve)
                stream = await trio.open_unix_socket(path)
                await stream.send_all(GET)
                await until(lambda: server.statistics().busy)
                server.drain()
                server.drain()
                with pytest.raises(FileNotFoundError):
                    await trio.open_unix_socket(path)
                go_on.set()
            await server.wait_idle()
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            await stream.aclose()


async def test_draining_before_serving_ends_it_at_once():
    with tempfile.TemporaryDirectory() as directory:
        server = Server(echo, [bind_unix(Path(directory, "s"))])
        server.drain()
        with trio.fail_after(5):
            await server.serve()


async def test_draining_a_server_that_has_ended_turns_away_who_waits(tcp):
    with contextlib.ExitStack() as stack:
        if tcp:
            listener = stack.enter_context(bind_tcp("127.0.0.1", 0))
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            listener = stack.enter_context(bind_unix(Path(directory, "s")))
        async with trio.open_nursery() as nursery:
            server = await nursery.start(_serve, echo, listener)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with socket.socket(listener.socket.family) as waiting:
            waiting.connect(listener.socket.getsockname())
            server.drain()
            assert listener.socket.fileno() == -1
            assert server.statistics().connections == 0
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)


async def test_cancellation_aborts_at_once_and_leaves_the_listener_to_a_successor():
    app = Hanging()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "s")
        with bind_unix(path) as listener, trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(_serve, app, listener)
                first = await trio.open_unix_socket(path)
                await first.send_all(GET)
                await app.started.wait()
                nursery.cancel_scope.cancel()
            assert app.stopped.is_set()
            assert server.statistics().connections == 0
            assert await first.receive_some() == b""
            second = await trio.open_unix_socket(path)
            await second.send_all(GET)
            async with trio.open_nursery() as nursery:
                await nursery.start(_serve, echo, listener)
                assert (await second.receive_some()).startswith(b"HTTP/1.1 200")
                nursery.cancel_scope.cancel()
            await first.aclose()
            await second.aclose()


async def _serve(app, listener, *, task_status):
    await serve(app, [listener], task_status=task_status)


async def test_one_server_serves_several_listeners():
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, name) for name in "ab"]
        with bind_unix(paths[0]) as one, bind_unix(paths[1]) as two:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, echo, [one, two])
                for path in paths:
                    stream = await trio.open_unix_socket(path)
                    await stream.send_all(GET)
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
                    await stream.aclose()
                nursery.cancel_scope.cancel()
