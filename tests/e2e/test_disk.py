"""What operators see when the disk fails under a real daemon, and how it comes back."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from duckservice.gateway.client import Answer, DaemonClient, DaemonError
from tests.e2e.process import DaemonProcess, starting

pytestmark = pytest.mark.slow

DISK_BYTES = 4 << 20
EXIT_UNAVAILABLE = 69
BIG = "quack " * 20_000
"""The text of a request of 120 kB."""


@pytest.fixture
def folder():
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def disk(folder):
    """A disk of 4 MB, for the state of the daemon."""
    place = folder / "state"
    place.mkdir(mode=0o700)
    options = f"size={DISK_BYTES},mode=0700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
    if (
        os.geteuid()
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("only root can mount a small disk, and not in every container")
    yield place
    subprocess.run(["umount", place], check=True)


def config(state: Path) -> str:
    return f"""
[service]
state_dir = "{state}"
[log]
format = "json"
[providers.mock]
adapter = "mock"
models = ["mock-*"]
"""


def job(text: str = "quack", *, model: str = "mock-echo", **more) -> dict:
    request = {"model": model, "messages": [{"role": "user", "content": text}]}
    return {"request": request, **more}


class Client:
    """Asks over the socket, each time in a thread."""

    def __init__(self, socket: Path) -> None:
        self.client = DaemonClient(socket)
        self.accepted: list[str] = []

    async def __call__(self, method: str, target: str, body=None) -> Answer:
        request = partial(self.client.request, method, target, body, None, 20.0)
        with trio.fail_after(30):
            return await trio.to_thread.run_sync(request, abandon_on_cancel=True)

    async def get(self, target: str):
        return (await self("GET", target)).json()

    async def submit(self, *args, **more) -> str:
        answer = await self("POST", "/v1/jobs", job(*args, **more))
        assert answer.status == 202
        self.accepted.append(answer.json()["id"])
        return self.accepted[-1]

    async def refused(self, method: str, target: str, body=None) -> DaemonError:
        with pytest.raises(DaemonError) as caught:
            await self(method, target, body)
        return caught.value

    async def submit_until_refused(self) -> DaemonError:
        for _ in range(10 * DISK_BYTES // len(BIG)):
            try:
                await self.submit(BIG, hold=True)
            except DaemonError as error:
                return error
        raise AssertionError("the disk is never full")

    async def until_ready(self) -> None:
        with trio.fail_after(20):
            while True:
                try:
                    await self("GET", "/readyz")
                except DaemonError:
                    await trio.sleep(0.05)
                else:
                    return

    async def until_sent(self, job: str) -> None:
        with trio.fail_after(20):
            while True:
                found = await self.get(f"/v1/jobs/{job}/attempts")
                if found["attempts"]:
                    return
                await trio.sleep(0.02)

    async def ended(self, job: str) -> dict:
        with trio.fail_after(20):
            while True:
                found = await self.get(f"/v1/jobs/{job}")
                if found["finished_at"] is not None:
                    return found
                await trio.sleep(0.05)


@asynccontextmanager
async def daemon(folder: Path, state: Path | None = None):
    async with starting(folder, config(state or folder / "state")) as process:
        yield process, Client(process.socket)


async def refuses_to_start(
    folder: Path, state: Path | None = None, *, name: str = "again"
) -> str:
    """Start a daemon that cannot; return what it says."""
    other = folder / name
    other.mkdir(exist_ok=True)
    text = config(state or folder / "state")
    async with starting(other, text, wait=False) as process:
        assert await process.ended() == EXIT_UNAVAILABLE
        [event] = process.events("daemon.cannot_start")
        return event["message"]


@contextmanager
def no_writes(process: DaemonProcess):
    """Have every write to a file fail with an I/O error, EFBIG, at this process."""
    pid = process.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def says_what_is_wrong(ask: Client, process: DaemonProcess, reason: str) -> None:
    """Assert that whoever looks learns that the store fails, and why."""
    submission = await ask.refused("POST", "/v1/jobs", job())
    ready = await ask.refused("GET", "/readyz")
    for error in (submission, ready):
        assert (error.status, error.code) == (503, "unavailable")
        assert reason in error.message
    assert (await ask.get("/healthz"))["status"] == "ok"
    store = (await ask.get("/v1/status"))["store"]
    assert not store["ok"]
    assert reason in store["detail"]
    assert store["may_recover"]
    chat = await ask("POST", "/v1/chat/completions", job()["request"])
    assert chat.status == 200, "who needs no store is served"
    failed = await process.wait_for("store.failed")
    assert reason in failed["reason"]


async def all_is_well(ask: Client, process: DaemonProcess) -> None:
    """Assert that the daemon has recovered by itself, and nothing was lost."""
    await ask.until_ready()
    await process.wait_for("store.recovered")
    assert len(process.events("store.failed")) == 1
    assert (await ask.get("/v1/status"))["store"]["ok"]
    for accepted in ask.accepted:
        assert (await ask.get(f"/v1/jobs/{accepted}"))["id"] == accepted
    done = await ask.ended(await ask.submit())
    assert done["state"] == "completed"


async def test_a_full_disk_refuses_jobs_says_so_loses_none_and_recovers_by_itself(
    folder, disk
):
    # Once there is room, the log is worked in before anything is accepted: for a
    # moment there are two of what is in it.
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES * 5 // 8))
    async with daemon(folder) as (process, ask):
        running = await ask.submit(model="mock-slow")
        await ask.until_sent(running)
        error = await ask.submit_until_refused()
        assert (error.status, error.code) == (503, "unavailable")
        assert "the disk is full: make room" in error.message
        await says_what_is_wrong(ask, process, "the disk is full")
        await trio.sleep(2.5)  # the provider has answered, and nobody can write it
        ballast.unlink()
        await all_is_well(ask, process)
        assert (await ask.ended(running))["state"] == "completed"
        process.signal(signal.SIGKILL)
        await process.process.wait()
    async with daemon(folder) as (_, again):
        for accepted in ask.accepted:
            assert (await again.get(f"/v1/jobs/{accepted}"))["id"] == accepted
        assert (await again.ended(running))["state"] == "completed"


async def test_io_errors_refuse_jobs_and_are_left_behind_when_they_end(folder):
    async with daemon(folder) as (process, ask):
        running = await ask.submit(model="mock-slow")
        await ask.until_sent(running)
        waiting = await ask.submit(hold=True)
        with no_writes(process):
            await says_what_is_wrong(ask, process, "failed to read or write")
            await trio.sleep(2.5)  # the provider has answered meanwhile
            assert (await ask.get(f"/v1/jobs/{running}"))["state"] == "executing"
        await all_is_well(ask, process)
        assert (await ask.ended(running))["state"] == "completed"
        [attempt] = (await ask.get(f"/v1/jobs/{running}/attempts"))["attempts"]
        assert attempt["state"] == "settled"
        assert (await ask.get(f"/v1/jobs/{waiting}"))["state"] == "suspended"


async def test_a_store_that_was_moved_takes_no_jobs_until_it_is_put_back(
    folder,
):
    async with daemon(folder) as (process, ask):
        await ask.submit(hold=True)
        path = Path((await ask.get("/v1/status"))["store"]["path"])
        aside = move(path, path.with_name("aside"))
        await says_what_is_wrong(ask, process, "moved or deleted")
        assert contents(path) is None, "no new one was made"
        move(aside, path)
        await all_is_well(ask, process)


async def test_a_read_only_disk_is_refused_at_the_start_and_nothing_is_lost(
    folder, disk
):
    async with daemon(folder) as (process, ask):
        accepted = await ask.submit(hold=True)
        process.signal(signal.SIGKILL)
        await process.process.wait()
    remount(disk, "ro")
    said = await refuses_to_start(folder)
    assert str(disk) in said
    assert "ead-only" in said
    remount(disk, "rw")
    async with daemon(folder) as (_, ask):
        assert (await ask.get(f"/v1/jobs/{accepted}"))["state"] == "suspended"


async def test_a_disk_that_is_full_at_the_start_is_named(folder, disk):
    (disk / "ballast").write_bytes(bytes(DISK_BYTES - 8192))
    said = await refuses_to_start(folder)
    assert str(disk) in said
    assert "the disk is full: make room" in said
    (disk / "ballast").unlink()
    async with daemon(folder) as (_, ask):
        assert (await ask.ended(await ask.submit()))["state"] == "completed"


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def move(path: Path, to: Path) -> Path:
    return path.rename(to)


def contents(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def overwrite(path: Path, at: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * size)


DAMAGE = {
    "a page in the middle": lambda path: overwrite(path, 3 * 4096, 8 * 4096),
    "its second half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "all of it": lambda path: os.truncate(path, 0),
    "the file": lambda path: path.unlink(),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_damaged_store_is_refused_and_left_as_it_is(folder, what):
    async with daemon(folder) as (process, ask):
        path = Path((await ask.get("/v1/status"))["store"]["path"])
        # More than fits in the log, so that the file itself is of some size.
        for _ in range(24):
            await ask.submit(BIG * 8, hold=True)
        process.signal(signal.SIGKILL)
        await process.process.wait()
    DAMAGE[what](path)
    log = path.with_name(path.name + "-wal")
    before = contents(path), contents(log)
    assert before[1]
    said = await refuses_to_start(folder)
    assert str(path) in said
    assert "put a backup in its place" in said
    assert (contents(path), contents(log)) == before
    assert await refuses_to_start(folder) == said, "it stays refused"


async def test_what_is_no_database_any_more_is_refused_and_left_as_it_is(
    folder,
):
    async with daemon(folder) as (process, ask):
        path = Path((await ask.get("/v1/status"))["store"]["path"])
        await ask.submit(hold=True)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    overwrite(path, 0, 4096)
    before = contents(path)
    said = await refuses_to_start(folder)
    assert str(path) in said
    assert "put a backup in its place" in said
    assert contents(path) == before


async def test_damage_that_is_met_later_stops_jobs_and_says_what_to_do(folder):
    async with daemon(folder) as (process, ask):
        path = Path((await ask.get("/v1/status"))["store"]["path"])
        jobs = [await ask.submit(BIG * 8, hold=True) for _ in range(24)]
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    overwrite(path, 8 << 20, 4 << 20)
    async with daemon(folder) as (process, ask):
        with pytest.raises(DaemonError) as caught:
            for one in jobs:
                await ask("GET", f"/v1/jobs/{one}/request")
        assert (caught.value.status, caught.value.code) == (503, "unavailable")
        failed = await process.wait_for("store.failed")
        assert str(path) in failed["reason"]
        assert "put a backup in its place" in failed["reason"]
        await trio.sleep(1.5)  # it is not tried again
        for where in (("POST", "/v1/jobs", job()), ("GET", "/readyz")):
            error = await ask.refused(*where)
            assert (error.status, error.code) == (503, "unavailable")
            assert "it is damaged" in error.message
        store = (await ask.get("/v1/status"))["store"]
        assert (store["ok"], store["may_recover"]) == (False, False)
        assert (await ask.get("/healthz"))["status"] == "ok"
        assert not process.events("store.recovered")


async def test_a_second_daemon_on_one_store_ends_and_names_the_first(folder):
    async with daemon(folder) as (process, ask):
        await ask.submit(hold=True)
        said = await refuses_to_start(folder)
        assert f"in use by process {process.process.pid}" in said
        assert str(folder / "state") in said
        assert "another store.url" in said
        await ask.until_ready()


async def test_a_second_daemon_on_one_socket_ends_and_names_the_first(folder):
    async with daemon(folder) as (process, ask):
        text = config(folder / "other-state")
        async with starting(folder, text, wait=False) as second:
            assert await second.ended() == EXIT_UNAVAILABLE
            said = second.stderr.decode()
        assert f"{process.socket} is already served" in said
        assert f"process {process.process.pid}" in said
        assert not (folder / "other-state").exists(), "it has touched nothing"
        await ask.until_ready()


async def test_requests_and_stores_over_their_limits_are_refused_by_name(
    folder,
):
    limits = '[store]\nmax_request = "64KiB"\nmax_bytes = "1MiB"\n'
    async with starting(folder, config(folder / "state") + limits) as process:
        ask = Client(process.socket)
        large = await ask.refused("POST", "/v1/jobs", job(BIG))
        assert (large.status, large.code) == (413, "request_too_large")
        assert "store.max_request" in large.message
        with pytest.raises(DaemonError) as caught:
            while True:
                await ask.submit("quack " * 8000, hold=True)
        assert (caught.value.status, caught.value.code) == (503, "unavailable")
        assert "store.max_bytes" in caught.value.message
        assert len(ask.accepted) < 40
        store = (await ask.get("/v1/status"))["store"]
        assert (store["ok"], store["full"]) == (True, True)
        print(json.dumps(store, indent=1))
