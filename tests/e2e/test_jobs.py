"""Durable jobs at the real daemon: over its socket, with `duck`, across its death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio

from duckservice.gateway.client import DaemonClient, DaemonError
from tests.e2e.process import starting

pytestmark = pytest.mark.slow

CONFIG = """
[log]
format = "json"
[providers.mock]
adapter = "mock"
models = ["mock-*"]
"""
DUCK = (sys.executable, "-c", "from duckservice.cli import main; exit(main())")
WORDS = " ".join(f"word-{number}" for number in range(12))


@pytest.fixture
def folder(tmp_path_factory):
    # Not tmp_path: its name may be too long for a socket.
    return tmp_path_factory.mktemp("d")


def job(text="quack", *, model="mock-echo", **more):
    request = {"model": model, "messages": [{"role": "user", "content": text}]}
    return {"request": request, **more}


class Client:
    """A client in a thread of its own."""

    def __init__(self, socket: Path) -> None:
        self.client = DaemonClient(socket)

    async def __call__(self, method, target, body=None, headers=None):
        request = partial(self.client.request, method, target, body, headers, 30.0)
        with trio.fail_after(40):
            return await trio.to_thread.run_sync(request, abandon_on_cancel=True)


@asynccontextmanager
async def daemon(folder):
    async with starting(folder, CONFIG) as process:
        yield process, Client(process.socket)


@asynccontextmanager
async def duck(folder, *argv):
    """Run `duck` for the length of a block."""
    process = await trio.lowlevel.open_process(
        [*DUCK, *argv],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DUCK_SOCKET": str(folder / "run" / "duckd.sock"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


async def read(stream) -> str:
    with trio.fail_after(40):
        return b"".join([piece async for piece in stream]).decode()


async def read_until(stream, text) -> str:
    said = ""
    with trio.fail_after(40):
        while text not in said:
            piece = await stream.receive_some()
            assert piece, said
            said += piece.decode()
    return said


async def run_duck(folder, *argv):
    async with duck(folder, *argv) as process:
        out = await read(process.stdout)
        err = await read(process.stderr)
        with trio.fail_after(40):
            return await process.wait(), out, err


async def test_a_job_that_was_accepted_outlives_the_daemon(folder) -> None:
    body = b'{"request":%b, "idempotency_key_is_a_header":1}'
    raw = b'{ "model":"mock-echo","messages":[{"role":"user","content":"\xc3\xa9"}]}'
    key = {"Idempotency-Key": "k-1"}
    async with daemon(folder) as (process, ask):
        await ask("POST", "/v1/queue/pause")
        with pytest.raises(DaemonError, match="idempotency_key_is_a_header"):
            await ask("POST", "/v1/jobs", body % raw)
        body = b'{"request":%b}' % raw
        answer = await ask("POST", "/v1/jobs", body, key)
        assert answer.status == 202
        accepted = answer.json()
        process.signal(signal.SIGKILL)
    async with daemon(folder) as (_, ask):
        target = f"/v1/jobs/{accepted['id']}"
        assert (await ask("GET", f"{target}/request")).body == raw
        assert (await ask("GET", target)).json()["wait_reason"] == "paused"
        again = await ask("POST", "/v1/jobs", body, key)
        assert again.json()["id"] == accepted["id"]
        await ask("POST", "/v1/queue/resume")
        done = await ask("GET", target, headers={"Prefer": "wait=20"})
        assert done.json()["state"] == "completed"
        result = (await ask("GET", f"{target}/result")).json()
        assert result["choices"][0]["message"]["content"] == "é"


async def test_many_jobs_at_once_all_end(folder) -> None:
    lines = [json.dumps(job(f"n {n}")) for n in range(300)]
    lines[7] = "nonsense"
    async with daemon(folder) as (_, ask):
        answer = await ask("POST", "/v1/jobs:bulk", "\n".join(lines).encode())
        outcomes = [json.loads(line) for line in answer.body.splitlines()]
        assert [o["line"] for o in outcomes] == list(range(1, 301))
        assert [o["line"] for o in outcomes if "error" in o] == [8]
        for outcome in outcomes:
            if "id" in outcome:
                target = f"/v1/jobs/{outcome['id']}"
                done = await ask("GET", target, headers={"Prefer": "wait=20"})
                assert done.json()["state"] == "completed"
        counts = (await ask("GET", "/v1/status")).json()["jobs"]
        assert counts["completed"] == 299


async def test_the_commands_do_what_they_say(folder) -> None:
    run = partial(run_duck, folder)
    async with daemon(folder):
        status, out, err = await run("submit", "quack", "quack")
        assert (status, err) == (0, "")
        id_ = out.strip()
        assert await run("wait", id_) == (0, f"{id_} completed\n", "")
        assert await run("follow", id_) == (0, "quack quack\n", "")
        assert await run("result", id_) == (0, "quack quack\n", "")
        assert (await run("submit", "-m", "mock-fail", "--wait", "x"))[0] == 1
        held = (await run("submit", "--hold", "-t", "a=b", "x"))[1].strip()
        assert (await run("wait", "--timeout", "100s", id_, "no"))[0] == 1
        assert (await run("wait", "--timeout", "0.1s", held))[0] == 75
        shown = json.loads((await run("show", held, "--json"))[1])
        assert (shown["wait_reason"], shown["attempts"]) == ("held", [])
        assert "waits for" in (await run("show", held))[1]
        listed = json.loads((await run("ls", "--tag", "a=b", "--json"))[1])
        assert [each["id"] for each in listed["jobs"]] == [held]
        assert held in (await run("jobs", "--state", "suspended"))[1]
        for action, state in (
            ("cancel", "cancelled"),
            ("retry", "available"),
        ):
            assert await run(action, held) == (0, f"{held} {state}\n", "")
        assert (await run("wait", held))[0] == 0
        status, _, err = await run("hold", held)
        assert status == 1
        assert "is completed" in err
        assert json.loads((await run("queue", "pause", "--json"))[1])["paused"]
        waiting = (await run("submit", "x"))[1].strip()
        assert "paused" in (await run("show", waiting))[1]
        assert (await run("queue", "resume"))[0] == 0
        assert (await run("wait", waiting))[0] == 0
    assert (await run("submit", "x"))[0] == 69


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_follow_goes_on_when_the_daemon_is_started_anew(folder, number) -> None:
    slow = job(WORDS, model="mock-slow")
    slow["request"]["stream"] = True
    async with AsyncExitStack() as follows:
        async with daemon(folder) as (process, ask):
            id_ = (await ask("POST", "/v1/jobs", slow)).json()["id"]
            follower = await follows.enter_async_context(duck(folder, "follow", id_))
            said = await read_until(follower.stdout, "word-3")
            process.signal(number)
            if number == signal.SIGTERM:
                # The second one: it does not wait for the reply.
                await process.wait_for("daemon.draining")
                process.signal(number)
            await process.process.wait()
        async with daemon(folder):
            said += await read(follower.stdout)
            err = await read(follower.stderr)
            with trio.fail_after(20):
                assert await follower.wait() == 0
    # What the first attempt had said, and then the whole of the second.
    first, whole = said.strip().split("\n")
    assert whole == WORDS
    assert WORDS.startswith(first.strip())
    assert "begins anew" in err


async def connected(command) -> None:
    its = psutil.Process(command.pid)
    with trio.fail_after(20):
        while not its.net_connections("unix"):  # noqa: ASYNC110 - no event tells
            await trio.sleep(0.01)


async def test_those_who_wait_keep_no_daemon_from_ending(folder) -> None:
    async with AsyncExitStack() as commands:
        async with daemon(folder) as (process, ask):
            held = (await ask("POST", "/v1/jobs", job(hold=True))).json()["id"]
            waiting = [
                await commands.enter_async_context(duck(folder, *command, held))
                for command in (["follow"], ["wait"])
            ]
            for command in waiting:
                await connected(command)
            await ask("GET", f"/v1/jobs/{held}")
            process.signal(signal.SIGTERM)
            with trio.fail_after(8):
                assert await process.ended() == 0
        async with daemon(folder) as (_, ask):
            await ask("POST", f"/v1/jobs/{held}/release")
            assert await read(waiting[0].stdout) == "quack\n"
            assert await read(waiting[1].stdout) == f"{held} completed\n"
            for command in waiting:
                assert await command.wait() == 0


async def test_ctrl_c_leaves_the_job_running(folder) -> None:
    async with daemon(folder) as (_, ask):
        over = (await ask("POST", "/v1/jobs", job())).json()["id"]
        late = job("late", model="mock-slow")
        late = (await ask("POST", "/v1/jobs", late)).json()["id"]
        async with duck(folder, "wait", over, late) as waiting:
            await read_until(waiting.stdout, "completed")
            waiting.send_signal(signal.SIGINT)
            assert f"duck wait {late}" in await read(waiting.stderr)
            assert await waiting.wait() == 130
        done = await ask("GET", f"/v1/jobs/{late}", headers={"Prefer": "wait=20"})
        assert done.json()["state"] == "completed"
