"""Over TCP nobody comes in without the listener's name and the token."""

from __future__ import annotations

import contextlib
import json
import os
import socket

import attrs
import pytest
import structlog.testing
import trio

from duckservice.calls.call import Submitter
from duckservice.config import Secret, ServiceConfig
from duckservice.gateway.app.exchange import peer
from duckservice.gateway.http_listener import open_http
from duckservice.gateway.loopback_door import LOG_PERIOD, LoopbackDoor
from duckservice.gateway.server import Server, ServerLimits
from duckservice.gateway.tcp_socket import bind_tcp
from duckservice.gateway.unix_socket import bind_unix
from duckservice.loopback import loopback_address
from duckservice.paths import StartupError
from tests.gateway.fake_service import ask
from tests.gateway.serving import RawClient, answer, read_body
from tests.gateway.test_server_limits import assert_of_no_use_to_pages

TOKEN = "token-of-the-door-93b1c07e"
ME = Submitter(uid=os.geteuid(), gid=os.getegid(), pid=0)


class Inside:
    """The application behind the door; it keeps who came in."""

    def __init__(self):
        self.peers = []

    async def __call__(self, scope, receive, send):
        self.peers.append(peer(scope))
        await read_body(receive)
        await answer(send, body=b"inside")


@attrs.define
class Doorway:
    inside: Inside
    port: int
    address: str
    clients: contextlib.AsyncExitStack

    async def connect(self) -> RawClient:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        return RawClient(await self.clients.enter_async_context(stream))

    async def ask(self, *headers: str, path="/v1/status", method="GET", host=None):
        client = await self.connect()
        host = f"127.0.0.1:{self.port}" if host is None else host
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
        return await client.ask("\r\n".join(lines).encode(), head=method == "HEAD")


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture
async def doorway(token_file, tmp_path):
    inside = Inside()
    config = ServiceConfig(http="127.0.0.1:0", token_file=token_file)
    with open_http(config) as http, bind_unix(tmp_path / "r" / "s") as unix:
        server = Server(
            http.guarded(inside),
            [unix, *http.listeners],
            limits=ServerLimits(tcp_connections_max=20, linger_time=0.1),
        )
        async with (
            contextlib.AsyncExitStack() as clients,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(server.serve)
            [listener] = http.listeners
            yield Doorway(inside, listener.port, http.address, clients)
            nursery.cancel_scope.cancel()


BEARER = f"Authorization: Bearer {TOKEN}"


@pytest.mark.parametrize(
    "header",
    [
        BEARER,
        f"authorization: bearer {TOKEN}",
        f"AUTHORIZATION: BEARER {TOKEN}",
        f"x-api-key: {TOKEN}",
        f"X-API-Key: {TOKEN}",
    ],
)
async def test_who_has_the_token_is_taken_for_its_owner(doorway, header) -> None:
    reply = await doorway.ask(header)
    assert (reply.status, reply.body) == (200, b"inside")
    assert doorway.inside.peers == [ME]


@pytest.mark.parametrize(
    "header",
    [
        "X: y",
        "Authorization: Bearer ",
        "Authorization:",
        f"Authorization: Bearer {TOKEN[:-1]}",
        f"Authorization: Bearer {TOKEN}x",
        f"Authorization: Bearer {TOKEN.upper()}",
        f"Authorization: Basic {TOKEN}",
        f"Authorization: {TOKEN}",
        "x-api-key:",
        "x-api-key: wrong",
        f"Cookie: token={TOKEN}",
        f"Proxy-Authorization: Bearer {TOKEN}",
    ],
)
@pytest.mark.parametrize("path", ["/v1/status", "/healthz", "/nothing", "/v1/messages"])
async def test_without_the_token_there_is_nothing_not_even_health(
    doorway, header, path
) -> None:
    reply = await doorway.ask(header, path=path)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["connection"] == "close"
    assert json.loads(reply.body)["error"]["code"] == "permission_denied"
    assert TOKEN.encode() not in reply.body
    assert doorway.inside.peers == []


async def test_a_token_in_the_query_is_none(doorway) -> None:
    reply = await doorway.ask(path=f"/v1/status?token={TOKEN}&key={TOKEN}")
    assert reply.status == 401


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
async def test_the_listener_goes_by_the_names_of_this_machine(doorway, name) -> None:
    reply = await doorway.ask(BEARER, host=f"{name}:{doorway.port}")
    assert reply.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{}",
        "127.0.0.1.evil.example:{}",
        "localhost.evil.example:{}",
        "evil.example",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.:{}",
        "127.1:{}",
        "2130706433:{}",
        "0.0.0.0:{}",
        "[::ffff:127.0.0.1]:{}",
        "",
    ],
)
async def test_a_name_that_was_made_to_lead_here_is_refused_even_with_the_token(
    doorway, host
) -> None:
    reply = await doorway.ask(BEARER, host=host.format(doorway.port))
    assert reply.status == 403
    assert "Host" in json.loads(reply.body)["error"]["message"]
    assert doorway.inside.peers == []


async def test_no_name_at_all_is_refused(doorway) -> None:
    client = await doorway.connect()
    request = f"GET / HTTP/1.0\r\n{BEARER}\r\n\r\n"
    assert (await client.ask(request.encode())).status == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:{}",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        "http://localhost.evil.example:{}",
        "null",
        "",
        "file://",
        "http://127.0.0.1:{}/",
    ],
)
async def test_a_page_of_another_site_is_refused_even_with_the_token(
    doorway, origin
) -> None:
    header = f"Origin: {origin.format(doorway.port)}"
    for method in ("GET", "POST", "OPTIONS", "HEAD"):
        reply = await doorway.ask(BEARER, header, method=method)
        assert reply.status == 403
    assert doorway.inside.peers == []


async def test_a_page_of_its_own_passes(doorway) -> None:
    reply = await doorway.ask(BEARER, f"Origin: {doorway.address}")
    assert reply.status == 200


async def test_a_browser_is_never_told_that_it_may_go_on(doorway) -> None:
    preflight = [
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization",
        "Access-Control-Request-Private-Network: true",
    ]
    for origin in ([], ["Origin: http://evil.example"], [f"Origin: {doorway.address}"]):
        reply = await doorway.ask(*origin, *preflight, method="OPTIONS")
        assert reply.status in (401, 403)
        assert not any(name.startswith("access-control") for name in reply.headers)


async def test_each_request_of_a_connection_shows_the_token(doorway) -> None:
    client = await doorway.connect()
    head = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{doorway.port}\r\n"
    assert (await client.ask(f"{head}{BEARER}\r\n\r\n".encode())).status == 200
    assert (await client.ask(f"{head}\r\n".encode())).status == 401
    assert doorway.inside.peers == [ME]


async def test_over_the_unix_socket_the_kernel_says_who_asks(doorway, tmp_path) -> None:
    async with await trio.open_unix_socket(tmp_path / "r" / "s") as stream:
        request = b"GET / HTTP/1.1\r\nHost: evil.example\r\nOrigin: null\r\n\r\n"
        assert (await RawClient(stream).ask(request)).status == 200
    [client] = doorway.inside.peers
    assert client == attrs.evolve(ME, pid=os.getpid())


async def test_who_only_takes_up_connections_takes_none_from_the_unix_socket(
    doorway, tmp_path
) -> None:
    silent = [await doorway.connect() for _ in range(20)]
    for _ in range(3):
        late = await doorway.connect()
        assert (await late.response()).status == 503
        assert await late.at_end()
    async with await trio.open_unix_socket(tmp_path / "r" / "s") as stream:
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await RawClient(stream).ask(request)).status == 200
    await silent.pop().stream.aclose()
    with trio.fail_after(5):
        while (await doorway.ask(BEARER)).status == 503:  # noqa: ASYNC110 - no event tells
            await trio.sleep(0.01)


async def test_refusals_are_logged_but_do_not_flood_the_log(autojump_clock) -> None:
    door = LoopbackDoor(
        Inside(), host="127.0.0.1", port=1, token=Secret(TOKEN), owner=ME
    )

    async def over_tcp(scope, receive, send):
        await door({**scope, "client": ("127.0.0.1", 50000)}, receive, send)

    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            await ask(over_tcp, "GET", "/", headers=[("Host", "evil.example")])
        await trio.sleep(LOG_PERIOD)
        await ask(over_tcp, "GET", "/", headers=[("Host", "evil.example")])
    assert [event["refused"] for event in logs] == [1, 100]
    assert TOKEN not in repr(door) + str(logs)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_nobody_on_another_interface_reaches_the_listener(token_file, host) -> None:
    config = ServiceConfig(http=f"{host}:0", token_file=token_file)
    with open_http(config) as http:
        [listener] = http.listeners
        assert listener.socket.getsockname()[0] == host.strip("[]")
        assert http.address == f"http://{host}:{listener.port}"


def test_nothing_listens_unless_it_is_asked_for(token_file) -> None:
    inside = Inside()
    for config in (ServiceConfig(), ServiceConfig(token_file=token_file)):
        with open_http(config) as http:
            assert (http.listeners, http.address) == ((), None)
            assert http.guarded(inside) is inside


def test_a_listener_without_a_private_token_does_not_start(token_file) -> None:
    token_file.chmod(0o644)
    for config in (
        ServiceConfig(http="127.0.0.1:0"),
        ServiceConfig(http="127.0.0.1:0", token_file=token_file),
        ServiceConfig(http="0.0.0.0:0", token_file=token_file),
    ):
        with pytest.raises(StartupError, match=r"service\."), open_http(config):
            pass


def test_a_port_that_is_taken_is_said(token_file) -> None:
    with bind_tcp("127.0.0.1", 0) as taken, socket.socket():
        config = ServiceConfig(http=f"127.0.0.1:{taken.port}", token_file=token_file)
        with pytest.raises(StartupError, match="in use"), open_http(config):
            pass


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8731", ("127.0.0.1", 8731)),
        ("[::1]:1", ("::1", 1)),
        ("127.0.0.1:٣", None),
        ("127.0.0.1:8731 ", None),
        ("127.000.000.001:1", None),
    ],
)
def test_an_address_is_what_it_looks_like(text, address) -> None:
    assert loopback_address(text) == address


@pytest.mark.parametrize(
    ("name", "status"),
    [("evil.example", 403), ("127.0.0.1", 200), ("me@127.0.0.1", 400)],
)
async def test_a_name_in_the_request_s_target_counts_and_not_the_one_in_host(
    doorway, name, status
) -> None:
    client = await doorway.connect()
    lines = [
        f"GET http://{name}:{doorway.port}/ HTTP/1.1",
        f"Host: 127.0.0.1:{doorway.port}",
        BEARER,
    ]
    reply = await client.ask("\r\n".join([*lines, "", ""]).encode())
    assert reply.status == status
    lines[0] = f"GET http://127.0.0.1:{doorway.port}/ HTTP/1.1"
    lines[1] = "Host: evil.example"
    reply = await (await doorway.connect()).ask("\r\n".join([*lines, "", ""]).encode())
    assert reply.status == 200, "Host is nothing, where the target says it"


async def test_no_page_makes_anything_of_an_answer_without_the_token(doorway) -> None:
    replies = [
        await doorway.ask(),
        await doorway.ask(BEARER, host="evil.example"),
        await doorway.ask("X: " + "y" * 70_000),
        await doorway.ask("Content-Length: 99999999999", method="POST"),
        await (await doorway.connect()).ask(b"what is this?\r\n\r\n"),
    ]
    async with contextlib.AsyncExitStack() as more:
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", doorway.port)
            await more.enter_async_context(stream)
        replies.append(await doorway.ask())
    assert [reply.status for reply in replies] == [401, 403, 431, 413, 400, 503]
    for reply in replies:
        assert_of_no_use_to_pages(reply.headers)
