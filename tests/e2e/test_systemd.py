"""The daemon as systemd runs it: told when it is ready, watched, given its socket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.e2e.notify_socket import NotifySocket, open_notify_socket
from tests.e2e.process import starting
from tests.e2e.running import post
from tests.gateway.serving import RawClient

pytestmark = pytest.mark.slow

GET_STATUS = b"GET /v1/status HTTP/1.1\r\nhost: duck\r\n\r\n"
JOB = {
    "kind": "chat",
    "request": {"model": "mock-echo", "messages": [{"role": "user", "content": "hi"}]},
}
EXIT_UNAVAILABLE, EXIT_CONFIG = 69, 78
ACTIVATE = shutil.which("systemd-socket-activate")
#: What systemd does between fork and exec.
LAUNCH = """
import os, sys
number, count, *rest = sys.argv[1:]
if number != "none":
    os.dup2(int(number), 3)
os.environ.update(LISTEN_FDS=count, LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "duckservice", *rest])
"""


@pytest.fixture
def folder():
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def environ(told: NotifySocket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": told.address, **more}


async def status_of(path: Path) -> dict:
    async with await trio.open_unix_socket(path) as stream:
        with trio.fail_after(20):
            reply = await RawClient(stream).ask(GET_STATUS)
    assert reply.status == 200
    return json.loads(reply.body)


# What it tells.


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_it_is_ready_only_when_a_client_is_answered_and_says_when_it_stops(
    folder, kind
):
    name = f"@duck-test-{os.getpid()}" if kind == "abstract" else f"{folder}/notify"
    with open_notify_socket(name) as told:
        async with starting(folder, environ=environ(told), wait=False) as daemon:
            ready = await told.next("READY")
            assert (await status_of(daemon.socket))["state"] == "running"
            assert ready["READY"] == "1"
            assert str(daemon.socket) in ready["STATUS"]
            assert "mock" in ready["STATUS"]
            daemon.signal(signal.SIGTERM)
            stopping = await told.next("STOPPING")
            assert stopping["STATUS"].startswith("stopping: 0 requests and 0 jobs")
            assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 30e6, "drain_grace fits"
            assert await daemon.ended() == 0
        assert not [m for m in told.waiting() if "WATCHDOG" in m], "nobody has asked"


async def test_a_reload_is_told_with_its_time_and_then_that_it_is_over(folder):
    with open_notify_socket(f"{folder}/notify") as told:
        config = "[providers.mock]\nadapter = 'mock'\n"
        async with starting(folder, config, environ=environ(told)) as daemon:
            await told.next("READY")
            before = time.monotonic_ns() // 1000
            daemon.signal(signal.SIGHUP)
            reloading = await told.next("RELOADING")
            assert int(reloading["MONOTONIC_USEC"]) >= before
            assert "refused" not in (await told.next("READY"))["STATUS"]
            (folder / "config.toml").write_text("colour = 'red'")
            daemon.signal(signal.SIGHUP)
            await told.next("RELOADING")
            assert "refused" in (await told.next("READY"))["STATUS"]
            assert (await status_of(daemon.socket))["state"] == "running"


async def test_a_drain_over_the_socket_is_shown_as_status(folder):
    with open_notify_socket(f"{folder}/notify") as told:
        async with starting(folder, environ=environ(told)) as daemon:
            await told.next("READY")
            async with daemon.connection() as client:
                await client.ask(b"POST /v1/drain HTTP/1.1\r\nhost: duck\r\n\r\n")
            assert (await told.next("STATUS"))["STATUS"].startswith("draining")


async def test_the_watchdog_is_told_again_and_again_but_not_all_the_time(folder):
    # How often exactly is for tests/operations/test_watchdog.py, on a clock of its own.
    with open_notify_socket(f"{folder}/notify") as told:
        asked = environ(told, WATCHDOG_USEC="3000000")
        async with starting(folder, environ=asked):
            await told.next("WATCHDOG")
            since = time.monotonic()
            await told.next("WATCHDOG")
            await told.next("WATCHDOG")
            assert time.monotonic() - since > 1.0


async def test_a_daemon_that_is_stopped_in_its_tracks_tells_nothing(folder):
    with open_notify_socket(f"{folder}/notify") as told:
        asked = environ(told, WATCHDOG_USEC="200000")
        async with starting(folder, environ=asked) as daemon:
            await told.next("WATCHDOG")
            daemon.signal(signal.SIGSTOP)
            await trio.sleep(0.1)
            before = len(told.waiting())
            await trio.sleep(0.4)
            assert len(told.waiting()) == before
            daemon.signal(signal.SIGCONT)
            await told.next("WATCHDOG")


async def test_a_service_manager_that_has_gone_does_not_matter(folder):
    asked = {"NOTIFY_SOCKET": f"{folder}/nobody", "WATCHDOG_USEC": "200000"}
    async with starting(folder, environ=asked) as daemon:
        assert (await status_of(daemon.socket))["state"] == "running"
        await daemon.wait_for("systemd.not_told")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert len(daemon.events("systemd.not_told")) == 1, "it is said once"


# The socket that it is given.


@contextmanager
def listening(path: Path, kind: int = socket.SOCK_STREAM, mode: int = 0o600):
    """A socket as of a .socket unit."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(os.fspath(path))
        path.chmod(mode)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock


def activated(folder: Path, sock: socket.socket | None, count="1", **more):
    number = "none" if sock is None else str(sock.fileno())
    return starting(
        folder,
        program=(sys.executable, "-c", LAUNCH, number, count),
        pass_fds=() if sock is None else (sock.fileno(),),
        **more,
    )


async def test_it_serves_the_socket_that_it_is_given_and_leaves_it_behind(folder):
    path = folder / "given.sock"
    with listening(path) as sock:
        async with activated(folder, sock) as daemon:
            assert daemon.events("daemon.ready")[0]["socket"] == str(path)
            assert daemon.events("daemon.socket_inherited")[0]["mode"] == "0600"
            assert (await status_of(path))["state"] == "running"
            assert not daemon.socket.exists(), "--socket is not made beside it"
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
        assert path.exists(), "it is systemd's"


async def test_whoever_connects_while_it_restarts_is_served_by_the_next_one(folder):
    path = folder / "given.sock"
    with listening(path) as sock:
        async with activated(folder, sock) as first:
            first.signal(signal.SIGTERM)
            assert await first.ended() == 0
        async with await trio.open_unix_socket(path) as stream:
            client = RawClient(stream)
            await client.send(GET_STATUS)
            async with activated(folder, sock) as second:
                with trio.fail_after(20):
                    reply = await client.response()
                assert json.loads(reply.body)["pid"] == second.process.pid


async def test_the_kernel_still_tells_who_connects_to_it(folder):
    path = folder / "given.sock"
    with listening(path, mode=0o666) as sock:
        async with activated(folder, sock) as daemon:
            await daemon.wait_for("daemon.socket_open_to_all")
            async with await trio.open_unix_socket(path) as stream:
                reply = await RawClient(stream).ask(post("/v1/jobs", JOB))
            submitter = json.loads(reply.body)["submitter"]
            assert submitter["uid"] == os.getuid()
            assert submitter["pid"] == os.getpid()


async def test_a_variable_that_was_meant_for_another_process_is_ignored(folder):
    asked = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    async with starting(folder, environ=asked) as daemon:
        assert (await status_of(daemon.socket))["state"] == "running"


@pytest.mark.skipif(ACTIVATE is None, reason="systemd-socket-activate is not here")
async def test_systemds_own_tool_starts_it_when_somebody_connects(folder):
    path = folder / "given.sock"
    program = (str(ACTIVATE), "-l", str(path), sys.executable, "-m", "duckservice")
    async with starting(folder, program=program, wait=False) as daemon:
        with trio.fail_after(20):
            while b"Listening on" not in daemon.stderr:  # noqa: ASYNC110 - nobody tells us
                await trio.sleep(0.02)
        assert not daemon.events("daemon.ready"), "nobody has asked yet"
        assert (await status_of(path))["pid"] == daemon.process.pid


@contextmanager
def a_tcp_socket(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@contextmanager
def an_accepted_connection(folder: Path):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs


@contextmanager
def an_abstract_socket(folder: Path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0duck-test-given-{os.getpid()}")
        sock.listen()
        yield sock


@contextmanager
def a_datagram_socket(folder: Path):
    with listening(folder / "given.sock", socket.SOCK_DGRAM) as sock:
        yield sock


@contextmanager
def a_file(folder: Path):
    with open(os.devnull, "rb") as file:
        yield file


@pytest.mark.parametrize(
    ("open_other", "complaint"),
    [
        (a_tcp_socket, "AF_INET"),
        (a_datagram_socket, "SOCK_DGRAM"),
        (an_accepted_connection, "Accept=no"),
        (an_abstract_socket, "no path"),
        (a_file, "is no socket"),
    ],
)
async def test_a_socket_of_another_kind_is_refused_with_what_to_change(
    folder, open_other, complaint
):
    with open_other(folder) as given:
        async with activated(folder, given, wait=False) as daemon:
            assert await daemon.ended() == EXIT_CONFIG
    said = daemon.stderr.decode()
    assert said.startswith("duckd: the service manager must hand on")
    assert complaint in said
    assert "in the .socket unit" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("count", ["2", "0", "-1", "many"])
async def test_any_number_of_sockets_but_one_is_refused(folder, count):
    with listening(folder / "given.sock") as sock:
        async with activated(folder, sock, count=count, wait=False) as daemon:
            assert await daemon.ended() == EXIT_CONFIG
    assert "$LISTEN_FDS" in daemon.stderr.decode()


async def test_the_store_is_locked_for_one_daemon_whatever_socket_each_is_given(folder):
    with listening(folder / "a.sock") as one, listening(folder / "b.sock") as other:
        async with (
            activated(folder, one),
            activated(folder, other, wait=False) as second,
        ):
            assert await second.ended() == EXIT_UNAVAILABLE
    assert "in use by process" in second.stderr.decode()
    assert "Traceback" not in second.stderr.decode()
