"""What operators do to a running daemon, and what must not hurt it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.e2e.process import DaemonProcess, starting
from tests.e2e.running import CHAT, post
from tests.gateway.serving import RawClient

pytestmark = pytest.mark.slow

DUCK = (sys.executable, "-c", "from duckservice.cli import main; exit(main())")
GET_STATUS = b"GET /v1/status HTTP/1.1\r\nhost: duck\r\n\r\n"
ASK = post(
    CHAT,
    {"model": "mock-echo", "messages": [{"role": "user", "content": "canary-prompt"}]},
)
CONFIG = """
[providers.mock]
adapter = "mock"
[log]
level = "debug"
format = "json"
"""


@pytest.fixture
def folder():
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


async def duck(daemon: DaemonProcess, *argv: str) -> subprocess.CompletedProcess[bytes]:
    environ = {
        "PATH": os.environ["PATH"],
        "DUCK_SOCKET": str(daemon.socket),
        "HOME": str(daemon.socket.parents[1]),
    }
    with trio.fail_after(30):
        return await trio.run_process(
            [*DUCK, *argv],
            env=environ,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


# SIGUSR1.


async def test_sigusr1_writes_down_what_all_tasks_do_and_nothing_else_stops(folder):
    async with starting(folder) as daemon:
        async with daemon.connection() as client:
            assert (await client.ask(ASK)).status == 200
            daemon.signal(signal.SIGUSR1)
            told = await daemon.wait_for("daemon.dumped")
            assert (await client.ask(ASK)).status == 200
        path = trio.Path(told["path"])
        assert str(path) == f"{folder}/.local/state/duckd/dump.txt"
        assert stat.S_IMODE((await path.stat()).st_mode) == 0o600
        text = await path.read_text()
        for line in ("├── request_queue", "└── gateway", "# Tasks: ", "Server.serve"):
            assert line in text
        assert "canary" not in text


async def test_a_dump_that_cannot_be_written_is_in_the_log(folder):
    config = CONFIG + '[store]\nurl = "memory"\n'
    async with starting(folder, config) as daemon:
        (folder / ".local/state").mkdir(parents=True)
        (folder / ".local/state/duckd").touch()
        daemon.signal(signal.SIGUSR1)
        told = await daemon.wait_for("daemon.dump_failed")
        assert "├── request_queue" in told["dump"]


async def test_what_the_watchdog_ends_tells_where_it_was(folder):
    async with starting(folder) as daemon:
        async with daemon.connection() as client:
            assert (await client.ask(ASK)).status == 200
        daemon.signal(signal.SIGABRT)
        assert await daemon.ended() == -signal.SIGABRT
    said = daemon.stderr.decode()
    assert "Fatal Python error: Aborted" in said
    assert "duckservice/process.py" in said
    assert "canary" not in said


# Whoever reads the log, or does not.


@asynccontextmanager
async def unread(folder: Path, stderr: int) -> AsyncGenerator[trio.Process]:
    """Start a daemon whose log goes to *stderr*; wait until it answers."""
    config = trio.Path(folder / "config.toml")
    await config.write_text(CONFIG)
    socket = folder / "run" / "duckd.sock"
    command = [sys.executable, "-m", "duckservice", "--socket", str(socket)]
    process = await trio.lowlevel.open_process(
        [*command, "--config", str(config)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stderr=stderr,
    )
    os.close(stderr)
    try:
        await there(socket)
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def there(path: Path) -> None:
    with trio.fail_after(20):
        while not await trio.Path(path).exists():  # noqa: ASYNC110 - nobody tells us
            await trio.sleep(0.02)


async def many_requests(folder: Path) -> None:
    # A debug line of 300 bytes for each, and more: 64 KiB are full long before.
    with trio.fail_after(60):
        async with await trio.open_unix_socket(folder / "run" / "duckd.sock") as stream:
            client = RawClient(stream)
            for _ in range(600):
                assert (await client.ask(ASK)).status == 200


async def ended(process: trio.Process) -> int:
    process.send_signal(signal.SIGTERM)
    with trio.fail_after(20):
        return await process.wait()


async def test_a_log_that_nobody_reads_stops_nobody(folder):
    reader, writer = os.pipe()
    async with unread(folder, writer) as process:
        await many_requests(folder)
        log = bytearray(os.read(reader, 1 << 20))
        assert len(log) > 48 * 1024, "the pipe was full"
        assert await ended(process) == 0
    while data := os.read(reader, 1 << 20):
        log += data
    os.close(reader)
    events = [json.loads(line)["event"] for line in log.splitlines()[:-1]]
    assert events.count("attempt") > 60


async def test_a_log_whose_reader_has_gone_stops_nobody(folder):
    reader, writer = os.pipe()
    os.close(reader)
    async with unread(folder, writer) as process:
        await many_requests(folder)
        assert await ended(process) == 0


@pytest.mark.parametrize("redirection", ["2>&-", "0<&- 1>&- 2>&-"])
async def test_a_daemon_without_standard_streams_works(folder, redirection):
    run = f'exec "$0" "$@" {redirection}'
    program = ("sh", "-c", run, sys.executable, "-m", "duckservice")
    async with starting(folder, CONFIG, program=program, wait=False) as daemon:
        await there(daemon.socket)
        async with daemon.connection() as client:
            assert (await client.ask(ASK)).status == 200
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert not daemon.stderr


async def test_a_second_daemon_on_one_store_says_so_in_plain_words(folder):
    other = folder / "other"
    other.mkdir()
    async with starting(folder, CONFIG):
        home = {"HOME": str(folder)}
        async with starting(other, CONFIG, environ=home, wait=False) as second:
            assert await second.ended() == 69
    (told,) = second.events("daemon.cannot_start")
    assert "is in use by process" in told["message"]
    assert b"Traceback" not in second.stderr


# The end.


async def test_a_shutdown_can_be_waited_for(folder):
    async with starting(folder) as daemon:
        done = await duck(daemon, "shutdown", "--wait", "--timeout", "20s", "--json")
        assert daemon.process.poll() is not None or await daemon.ended() == 0
        assert json.loads(done.stdout) == {"state": "stopped"}
        assert done.returncode == 0


async def test_a_shutdown_that_lasts_too_long_says_so(folder):
    async with starting(folder) as daemon, daemon.connection() as client:
        # A request that is never finished keeps the daemon from its end.
        await client.send(ASK[:-5])
        done = await duck(daemon, "shutdown", "--wait", "--timeout", "0.2s")
        assert done.returncode == 75
        assert b"still drains" in done.stderr


#: Ctrl-C at the moment when a module is looked for.
INTERRUPTED = """
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[-1]:
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from duckservice.cli import main
sys.exit(main(["status"]))
"""


@pytest.mark.parametrize(
    "module",
    [
        "duckservice.cli.program",
        "duckservice.paths",
        "duckservice.cli.output",
        "duckservice.cli.parser",
        "duckservice.gateway.client",
    ],
)
def test_ctrl_c_while_it_starts_leaves_no_traceback(folder, module):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, b"")
