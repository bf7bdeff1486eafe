"""The daemon as its users run it: a process with a config file, signals, exit codes.

``DUCK_LONG=1`` sends 20,000 requests where it is otherwise 2,000.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path

import pytest
import trio

from tests.e2e.process import DaemonProcess, starting
from tests.e2e.running import CHAT, json_answer, openai_chat, openai_stream, post
from tests.gateway.serving import RawClient
from tests.upstream import HANG, Upstream, chunked, head, open_upstream

pytestmark = pytest.mark.slow

KEY = "canary-key-5d0c2b97ae31"
FILE_KEY = "canary-file-77b1e0945c22"
HEADER_KEY = "canary-header-90aa31fd6c7e"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "canary prompt"}]}
ASK = post(CHAT, HELLO)
GET_STATUS = b"GET /v1/status HTTP/1.1\r\nhost: duck\r\n\r\n"
REQUESTS = 20_000 if os.environ.get("DUCK_LONG") else 2_000
WARM_UP = 400
EXIT_UNAVAILABLE, EXIT_CONFIG = 69, 78


@pytest.fixture
def folder():
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def config(upstream: Upstream | str = "http://127.0.0.1:9", **more: str) -> str:
    url = upstream if isinstance(upstream, str) else upstream.base_url
    lines = [
        "[service]",
        f'drain_grace = "{more.get("grace", "30s")}"',
        "[providers.up]",
        'adapter = "openai"',
        f'base_url = "{url}/v1"',
        'api_key = "env:UP_KEY"',
        'models = ["gpt-*"]',
        "price = { input = 2.5, output = 10.0 }",
        f'headers = {{ "X-Secret-Token" = "{HEADER_KEY}" }}',
        "[retry]",
        "max_attempts = 1",
        '[log]\nformat = "json"',
    ]
    return "\n".join(lines)


ENVIRON = {"UP_KEY": KEY}


@contextlib.asynccontextmanager
async def running(folder: Path, *script, **more: str):
    """Run an upstream of that script, and a daemon in front of it."""
    async with open_upstream(list(script), limit=300) as upstream:
        text = config(upstream, **more)
        (folder / "config.toml").touch(0o600)
        async with starting(folder, text, environ=ENVIRON) as daemon:
            yield upstream, daemon


async def gone(client: RawClient) -> None:
    """Wait until the daemon closes the connection."""
    with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(20):
        while await client.stream.receive_some():
            pass


async def refuses_more(daemon: DaemonProcess) -> None:
    """Assert that a new request finds no listener, or is told why it comes too late.

    A connection that the kernel had queued is reset when the listener closes.
    """
    try:
        async with daemon.connection() as client:
            reply = await client.ask(ASK)
    except (OSError, EOFError, trio.BrokenResourceError):
        return
    assert reply.status == 503
    assert json.loads(reply.body)["error"]["code"] == "draining"


@pytest.mark.parametrize("name", ["duckd", "python -m duckservice"])
async def test_it_gets_ready_and_serves_its_owner_alone(folder, name):
    script = Path(sys.executable).with_name("duckd")
    if name == "duckd" and not script.exists():
        pytest.skip("duckd is not installed beside this Python")
    command = (
        (str(script),) if name == "duckd" else (sys.executable, "-m", "duckservice")
    )
    since = time.perf_counter()
    async with starting(folder, program=command) as daemon:
        took = time.perf_counter() - since
        ready = daemon.events("daemon.ready")[0]
        assert ready["socket"] == str(daemon.socket)
        assert ready["providers"] == ["mock"]
        assert daemon.events("daemon.no_config"), "it says that it has no config"
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) & 0o077 == 0
        async with daemon.connection() as client:
            reply = await client.ask(GET_STATUS)
            assert json.loads(reply.body)["state"] == "running"
            reply = await client.ask(post(CHAT, {**HELLO, "model": "mock-echo"}))
            assert reply.status == 200
        print(f"\n{name}: ready after {took:.2f} s, {daemon.rss_mib():.1f} MiB")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0


async def test_it_starts_and_grows_little_with_real_providers(folder):
    answer = json_answer(openai_chat())
    since = time.perf_counter()
    async with running(folder, [answer]) as (_, daemon):
        took = time.perf_counter() - since
        idle = daemon.rss_mib()
        async with daemon.connection() as client:
            assert (await client.ask(ASK)).status == 200
        print(f"\nready after {took:.2f} s with a provider, {idle:.1f} MiB idle")


async def test_sigterm_answers_all_that_is_under_way_and_takes_nothing_new(folder):
    gate = trio.Event()
    async with running(folder, [gate, json_answer(openai_chat())]) as (up, daemon):
        replies = []

        async def ask() -> None:
            async with daemon.connection() as client:
                await client.send(ASK)
                with trio.fail_after(30):
                    replies.append(await client.response())

        async with daemon.connection() as idle, trio.open_nursery() as nursery:
            assert (await idle.ask(GET_STATUS)).status == 200
            for _ in range(20):
                nursery.start_soon(ask)
            await up.wait_for_requests(20)
            daemon.signal(signal.SIGTERM)
            draining = await daemon.wait_for("daemon.draining")
            assert draining["in_flight"] == 20
            await refuses_more(daemon)
            await gone(idle)
            gate.set()
        assert [reply.status for reply in replies] == [200] * 20
        assert all(b"Hello!" in reply.body for reply in replies)
        assert await daemon.ended() == 0
        assert not daemon.socket.exists()
        assert daemon.events("daemon.stopped")[0]["exit_code"] == 0


async def test_sigterm_lets_a_stream_run_to_its_end(folder):
    gate = trio.Event()
    events = openai_stream({"content": "Hel"}, {"content": "lo!"})
    begun = head(b"content-type: text/event-stream", b"transfer-encoding: chunked")
    first, rest = chunked(events[0], end=False), chunked(b"".join(events[1:]))
    async with running(folder, [begun + first, gate, rest]) as (_, daemon):
        async with daemon.connection() as client:
            await client.send(post(CHAT, {**HELLO, "stream": True}))
            await client.head()
            got = await client.chunk()
            daemon.signal(signal.SIGTERM)
            await daemon.wait_for("daemon.draining")
            gate.set()
            while chunk := await client.chunk():
                got += chunk
        assert got.endswith(b"data: [DONE]\n\n")
        assert await daemon.ended() == 0


async def test_a_second_sigterm_ends_it_at_once(folder):
    async with running(folder, [HANG]) as (upstream, daemon):
        async with daemon.connection() as client:
            await client.send(ASK)
            await upstream.wait_for_requests(1)
            daemon.signal(signal.SIGTERM)
            await daemon.wait_for("daemon.draining")
            daemon.signal(signal.SIGTERM)
            await gone(client)
        assert await daemon.ended() == 1
        assert not daemon.socket.exists()
        await upstream.wait_all_closed()


async def test_what_is_not_answered_in_the_grace_is_cut_off_and_said(folder):
    async with running(folder, [HANG], grace="100ms") as (upstream, daemon):
        async with daemon.connection() as client:
            await client.send(ASK)
            await upstream.wait_for_requests(1)
            daemon.signal(signal.SIGTERM)
            await gone(client)
        assert await daemon.ended() == 1
        assert daemon.events("daemon.cut_off")[0]["in_flight"] == 1


async def test_sigint_is_as_good_as_sigterm(folder):
    async with running(folder, [HANG]) as (_, daemon):
        daemon.signal(signal.SIGINT)
        assert await daemon.ended() == 0
        assert not daemon.socket.exists()


async def test_a_shutdown_over_the_socket_ends_it_too(folder):
    async with starting(folder) as daemon:
        async with daemon.connection() as client:
            reply = await client.ask(post("/v1/shutdown"))
            assert reply.status == 200
        assert await daemon.ended() == 0


async def test_after_a_kill_it_starts_again_on_the_socket_that_was_left(folder):
    async with starting(folder) as killed:
        killed.signal(signal.SIGKILL)
        await killed.ended()
        assert killed.socket.exists(), "nobody could remove it"
        async with starting(folder) as daemon, daemon.connection() as client:
            assert (await client.ask(GET_STATUS)).status == 200


async def test_a_second_daemon_on_the_same_socket_says_so_and_harms_nobody(folder):
    async with starting(folder) as daemon:
        async with starting(folder, wait=False) as second:
            assert await second.ended() == EXIT_UNAVAILABLE
        message = second.stderr.decode().splitlines()[-1]
        assert str(daemon.socket) in message
        assert message.startswith("duckd: ")
        async with daemon.connection() as client:
            assert (await client.ask(GET_STATUS)).status == 200


BAD = f"""
[service]
drain_grace = "soon"
colour = "red"
[providers.up]
adapter = "openia"
api_key = "env:NO_SUCH_KEY"
priority = "{KEY}"
[queue]
max_size = -1
"""


async def test_a_bad_config_is_refused_with_all_that_is_wrong_in_it(folder):
    async with starting(folder, BAD, wait=False) as daemon:
        assert await daemon.ended() == EXIT_CONFIG
    said = daemon.stderr.decode()
    for key in (
        "service.drain_grace",
        "service.colour",
        "providers.up.adapter",
        "providers.up.priority",
        "queue.max_size",
    ):
        assert key in said
    assert str(folder / "config.toml") in said
    assert "Traceback" not in said
    assert not daemon.socket.exists()


async def test_a_key_that_is_not_in_the_environment_is_named(folder):
    async with starting(folder, config(), wait=False) as daemon:
        assert await daemon.ended() == EXIT_CONFIG
    said = daemon.stderr.decode()
    assert "UP_KEY" in said
    assert "providers.up.api_key" in said
    assert HEADER_KEY not in said


@pytest.mark.parametrize("text", ["[providers", "\x00", "= 5", "a = [" * 2000])
async def test_a_config_that_is_no_toml_is_refused(folder, text):
    async with starting(folder, text, wait=False) as daemon:
        assert await daemon.ended() == EXIT_CONFIG
    assert "Traceback" not in daemon.stderr.decode()


async def test_a_config_that_is_not_there_is_refused(folder):
    command = (sys.executable, "-m", "duckservice", "--config", str(folder / "none"))
    async with starting(folder, program=command, wait=False) as daemon:
        assert await daemon.ended() == EXIT_CONFIG


async def test_no_secret_and_no_prompt_is_in_the_log_or_in_any_answer(folder):
    (folder / "key").touch(0o600)
    (folder / "key").write_text(FILE_KEY)
    shown = {"error": {"message": f"bad keys: {KEY} {HEADER_KEY}"}}
    of_second = {"error": {"message": f"bad key: {FILE_KEY}"}}
    script = [
        [json_answer(shown, status=b"400 Bad")],
        [json_answer(shown, status=b"500 Bad")],
        [json_answer(of_second, status=b"500 Bad")],
        [json_answer(openai_chat("canary reply"))],
    ]
    answers = bytearray()
    async with open_upstream(script, limit=60) as upstream:
        text = config(upstream) + (
            "\n[providers.second]\n"
            'adapter = "openai"\n'
            f'base_url = "{upstream.base_url}/v1"\n'
            f'api_key = "file:{folder / "key"}"\n'
            'models = ["other"]\n'
        )
        text = text.replace('format = "json"', 'format = "json"\nlevel = "debug"')
        (folder / "config.toml").touch(0o600)
        async with starting(folder, text, environ=ENVIRON) as daemon:
            async with daemon.connection() as client:
                for model in ("gpt-4o", "gpt-4o", "other", "gpt-4o"):
                    reply = await client.ask(post(CHAT, {**HELLO, "model": model}))
                    answers += repr(reply.headers).encode() + reply.body
                refused = b"authorization: Bearer " + KEY.encode()
                reply = await client.ask(post(CHAT, b'{"' + KEY.encode(), refused))
                answers += reply.body
            async with daemon.connection() as client:
                for path in ("status", "tree", "providers", "costs", "queue", "models"):
                    reply = await client.ask(
                        GET_STATUS.replace(b"status", path.encode())
                    )
                    assert reply.status == 200
                    answers += reply.body
                reply = await client.ask(post("/v1/tree/providers/up/client/restart"))
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
    assert upstream.requests[0].header("authorization") == f"Bearer {KEY}"
    assert upstream.requests[0].header("x-secret-token") == HEADER_KEY
    assert upstream.requests[2].header("authorization") == f"Bearer {FILE_KEY}"
    log = daemon.stderr.decode()
    assert '"event":"attempt"' in log
    for secret in (KEY, FILE_KEY, HEADER_KEY):
        assert secret not in log
        assert secret.encode() not in answers
    assert "canary prompt" not in log
    assert "canary reply" not in log


async def test_thousands_of_requests_leave_no_memory_behind(folder):
    answer = json_answer(openai_chat())
    async with running(folder, [answer]) as (upstream, daemon):
        await _many(daemon, WARM_UP, upstream)
        before = daemon.rss_mib()
        await _many(daemon, REQUESTS, upstream)
        after = daemon.rss_mib()
        async with daemon.connection() as client:
            status = json.loads((await client.ask(GET_STATUS)).body)
        assert status["requests"]["completed"] == REQUESTS + WARM_UP
        assert status["requests"]["in_flight"] == 0
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    print(f"\n{REQUESTS} requests: {before:.1f} MiB before, {after:.1f} MiB after")
    assert after - before < 16


async def _many(daemon: DaemonProcess, count: int, upstream: Upstream) -> None:
    clients = 8

    async def ask() -> None:
        async with daemon.connection() as client:
            for _ in range(count // clients):
                reply = await client.ask(ASK)
                assert reply.status == 200
                upstream.requests.clear()  # they are in this process, not in duckd

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(ask)
