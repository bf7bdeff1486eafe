"""Backup and restore, by the very words of docs/operations.md, under load."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.e2e.process import PROJECT, DaemonProcess, starting
from tests.e2e.running import post

pytestmark = pytest.mark.slow

CONFIG = """
[providers.mock]
adapter = "mock"
[log]
format = "json"
"""
DUCK = f"""#!/bin/sh
exec {sys.executable} -c 'from duckservice.cli import main; exit(main())' "$@"
"""
BEFORE, WRITERS = 300, 4
STATE = Path(".local/state/duckd")


@pytest.fixture
def folder():
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def commands(heading: str) -> str:
    """Return the commands under that heading of the page; systemd has no part here."""
    page = (PROJECT / "docs" / "operations.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line for line in block.splitlines() if not line.startswith("systemctl")]
    return "\n".join(["set -e", *lines])


@attrs.define
class Home:
    """A user's home directory, and a shell in it."""

    path: Path
    socket: Path

    @classmethod
    def made(cls, folder: Path, name: str) -> Home:
        home = cls(folder / name, folder / name / "run" / "duckd.sock")
        programs = home.path / "bin"
        programs.mkdir(parents=True)
        (programs / "duck").write_text(DUCK)
        (programs / "duck").chmod(0o755)
        return home

    async def run(self, script: str) -> subprocess.CompletedProcess[bytes]:
        environ = {
            "HOME": str(self.path),
            "PATH": f"{self.path}/bin:{os.environ['PATH']}",
            "DUCK_SOCKET": str(self.socket),
        }
        with trio.fail_after(60):
            return await trio.run_process(
                ["sh", "-c", script],
                env=environ,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )


async def submit(daemon: DaemonProcess, text: str) -> str:
    body = {
        "kind": "chat",
        "request": {
            "model": "mock-echo",
            "messages": [{"role": "user", "content": text}],
        },
    }
    async with daemon.connection() as client:
        reply = await client.ask(post("/v1/jobs", body))
    assert reply.status == 202, reply.body
    return json.loads(reply.body)["id"]


async def get(daemon: DaemonProcess, target: str) -> Any:
    async with daemon.connection() as client:
        await client.send(f"GET {target} HTTP/1.1\r\nhost: duck\r\n\r\n".encode())
        return json.loads((await client.response()).body)


async def submit_for_ever(daemon: DaemonProcess, ids: list[str]) -> None:
    while True:
        ids.append(await submit(daemon, f"under load {len(ids)}"))


async def states(daemon: DaemonProcess, ids: list[str]) -> dict[str, str]:
    return {id_: (await get(daemon, f"/v1/jobs/{id_}")).get("state") for id_ in ids}


async def completed(daemon: DaemonProcess, ids: list[str]) -> dict[str, str]:
    """Wait until all of these jobs are over."""
    with trio.fail_after(60):
        while True:
            found = await states(daemon, ids)
            if set(found.values()) == {"completed"}:
                return found
            await trio.sleep(0.2)


async def test_a_backup_under_load_is_restored_with_every_job_that_was_accepted(folder):
    one, other = Home.made(folder, "one"), Home.made(folder, "two")
    ids = list[str]()
    async with starting(one.path, CONFIG) as daemon, trio.open_nursery() as nursery:
        for number in range(BEFORE):
            ids.append(await submit(daemon, f"before {number}"))
        for _ in range(WRITERS):
            nursery.start_soon(submit_for_ever, daemon, ids)
        await trio.sleep(0.3)
        accepted = list(ids)
        done = await one.run(commands("Backup"))
        assert done.returncode == 0, done.stderr
        after = len(ids)
        await trio.sleep(0.2)
        assert len(accepted) < after < len(ids), "requests went on all the time"
        nursery.cancel_scope.cancel()
    copy = one.path / "duckd.sqlite3"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert not list(one.path.glob("duckd.sqlite3?*")), "it is one file"

    # The other machine has jobs of its own, which are put aside.
    async with starting(other.path, CONFIG) as daemon:
        replaced = await submit(daemon, "of the other machine")
        daemon.process.kill()  # so that there is a -wal too
        await daemon.ended()
    copy.rename(other.path / "duckd.sqlite3")
    script, show = commands("Restore").rsplit("\n", 1)
    done = await other.run(script)
    assert done.returncode == 0, done.stderr
    async with starting(other.path, CONFIG) as daemon:
        found = await states(daemon, [*ids, replaced])
        there = [id_ for id_, state in found.items() if state is not None]
        assert set(accepted) <= set(there) < set(ids), "one moment of what was accepted"
        assert replaced not in there
        assert await completed(daemon, there)
        assert (await get(daemon, f"/v1/jobs/{accepted[0]}/result"))["choices"][0][
            "message"
        ]["content"] == "before 0"
        done = await other.run(show)
        assert done.returncode == 0, done.stderr
        assert there[-1] in done.stdout.decode()
    assert (other.path / STATE / "replaced/jobs.sqlite3").exists()


async def test_a_backup_replaces_no_file_and_leaves_none_when_it_fails(folder):
    home = Home.made(folder, "one")
    async with starting(home.path, CONFIG) as daemon:
        await submit(daemon, "hello")
        there = trio.Path(home.path / "there")
        await there.write_text("precious")
        done = await home.run("duck backup ~/there")
        assert done.returncode == 2
        assert b"it is not overwritten" in done.stderr
        assert await there.read_text() == "precious"
        done = await home.run("duck backup ~/no/such/place")
        assert done.returncode == 1
        assert b"No such file or directory" in done.stderr
        done = await home.run("duck backup ~/new --json")
        told = json.loads(done.stdout)
        assert told["jobs"] == 1
        daemon.process.kill()
        await daemon.ended()
    assert {path.name for path in home.path.iterdir()} == {
        *(".local", "bin", "config.toml", "new", "run", "there"),
    }
    with closing(sqlite3.connect(home.path / "new")) as db:
        assert db.execute("SELECT count(*) FROM job").fetchone() == (1,)


async def test_without_a_store_in_a_file_there_is_nothing_to_copy(folder):
    home = Home.made(folder, "one")
    async with starting(home.path, CONFIG + '[store]\nurl = "memory"\n') as daemon:
        done = await home.run("duck backup ~/new")
        assert done.returncode == 1
        assert b"in memory" in done.stderr
        daemon.process.kill()
        await daemon.ended()
    assert (await home.run("duck backup ~/new")).returncode == 69


async def test_a_pause_is_in_the_backup(folder):
    home = Home.made(folder, "one")
    async with starting(home.path, CONFIG) as daemon:
        done = await home.run("duck queue pause && duck backup ~/duckd.sqlite3")
        assert done.returncode == 0, done.stderr
        job = await submit(daemon, "hello")
        await home.run("duck queue resume")
        await completed(daemon, [job])
        daemon.process.kill()
        await daemon.ended()
    done = await home.run(commands("Restore").rsplit("\n", 1)[0])
    assert done.returncode == 0, done.stderr
    async with starting(home.path, CONFIG) as daemon:
        assert (await get(daemon, "/v1/queue"))["paused"] is True
        job = await submit(daemon, "hello")
        assert (await states(daemon, [job]))[job] == "available"
