"""Other users of the machine, who are really others: processes with their own uids."""

from __future__ import annotations

import grp
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.e2e.process import DaemonProcess, starting

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

ALICE, BOB, EVE = 61_001, 61_002, 61_003
"""Uids that nobody has; Eve is in no group."""
GROUP = next(its for its in grp.getgrall() if its.gr_gid not in (0, 65_534))
NOBODYS_GROUP = 65_534

AS_ANOTHER = """
import json, os, socket, sys
uid, gid, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
assert os.getresuid() == (uid,) * 3
found = []
for method, target, body in json.load(sys.stdin):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        try:
            sock.connect(path)
        except OSError as error:
            found.append([0, type(error).__name__])
            continue
        form = isinstance(body, str)
        data = (body if form else "" if body is None else json.dumps(body)).encode()
        kind = "multipart/form-data; boundary=xx" if form else "application/json"
        head = f"{method} {target} HTTP/1.1\\r\\nHost: duck\\r\\nConnection: close\\r\\n"
        head += f"Content-Type: {kind}\\r\\n"
        sock.sendall(f"{head}Content-Length: {len(data)}\\r\\n\\r\\n".encode() + data)
        with sock.makefile("rb") as answer:
            head, _, content = answer.read().partition(b"\\r\\n\\r\\n")
        found.append([int(head.split()[1]), content.decode()])
json.dump(found, sys.stdout)
"""


@attrs.frozen
class Answer:
    status: int
    """0: there was no connection."""
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@attrs.frozen
class User:
    socket: Path
    uid: int
    gid: int = GROUP.gr_gid

    async def ask(self, method: str, target: str, body: Any = None) -> Answer:
        [found] = await self.ask_all((method, target, body))
        return found

    async def ask_all(self, *requests: tuple[str, str, Any]) -> list[Answer]:
        """Send each request from a process of this user; a text is a form."""
        command = [sys.executable, "-c", AS_ANOTHER]
        command += [str(self.uid), str(self.gid), str(self.socket)]
        with trio.fail_after(20):
            process = await trio.run_process(
                command,
                stdin=json.dumps(requests).encode(),
                capture_stdout=True,
                cwd="/",
            )
        return [Answer(*found) for found in json.loads(process.stdout)]


@pytest.fixture
def folder() -> Generator[Path]:
    """Return a folder that others can pass through, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


CONFIG = """
[service]
access = {{ mode = "0660", group = "{group}" }}
[queue]
max_size = 100
[providers.mock]
adapter = "mock"
"""


@asynccontextmanager
async def daemon(folder: Path) -> AsyncGenerator[DaemonProcess]:
    async with starting(folder, CONFIG.format(group=GROUP.gr_name)) as process:
        yield process


CHAT = {"model": "mock-echo", "messages": [{"role": "user", "content": "hello"}]}
HELD = {"request": CHAT, "hold": True}
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
FORM = (
    '--xx\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    '--xx\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
    f"\r\n{json.dumps(LINE)}\r\n--xx--\r\n"
)


async def test_a_member_of_the_group_submits_and_sees_its_own_only(folder) -> None:
    async with daemon(folder) as process:
        alice, bob = User(process.socket, ALICE), User(process.socket, BOB)
        root = User(process.socket, 0, 0)
        reply, first = await alice.ask_all(
            ("POST", "/v1/chat/completions", CHAT), ("POST", "/v1/jobs", HELD)
        )
        assert (reply.status, first.status) == (200, 202)
        job = first.json()["id"]
        assert first.json()["submitter"]["uid"] == ALICE
        parts = ["", "/result", "/request", "/attempts", "/stream"]
        actions = ["cancel", "retry", "hold", "release"]
        answers = await bob.ask_all(
            *(("GET", f"/v1/jobs/{job}{part}", None) for part in parts),
            *(("POST", f"/v1/jobs/{job}/{action}", None) for action in actions),
            ("PATCH", f"/v1/jobs/{job}", {"priority": "low"}),
        )
        assert {answer.status for answer in answers} == {404}
        assert (await bob.ask("GET", "/v1/jobs")).json()["jobs"] == []
        [seen] = (await root.ask("GET", "/v1/jobs")).json()["jobs"]
        assert seen["id"] == job
        done = await alice.ask_all(
            ("GET", f"/v1/jobs/{job}", None),
            ("POST", f"/v1/jobs/{job}/cancel", None),
            ("POST", f"/v1/jobs/{job}/retry", None),
        )
        assert [answer.status for answer in done] == [200, 200, 200]


async def test_files_and_batches_belong_to_who_has_made_them(folder) -> None:
    async with daemon(folder) as process:
        alice, bob = User(process.socket, ALICE), User(process.socket, BOB)
        file = (await alice.ask("POST", "/v1/files", FORM)).json()["id"]
        order = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        assert (await bob.ask("POST", "/v1/batches", order)).status == 404
        mine = await alice.ask("POST", "/v1/batches", order)
        assert mine.status == 200
        batch = mine.json()["id"]
        answers = await bob.ask_all(
            ("GET", f"/v1/files/{file}", None),
            ("GET", f"/v1/files/{file}/content", None),
            ("DELETE", f"/v1/files/{file}", None),
            ("GET", f"/v1/batches/{batch}", None),
            ("POST", f"/v1/batches/{batch}/cancel", None),
        )
        assert {answer.status for answer in answers} == {404}
        lists = await bob.ask_all(
            ("GET", "/v1/files", None), ("GET", "/v1/batches", None)
        )
        assert [answer.json()["data"] for answer in lists] == [[], []]


async def test_a_member_of_the_group_changes_nothing_and_looks_at_nobody(
    folder,
) -> None:
    async with daemon(folder) as process:
        alice, root = User(process.socket, ALICE), User(process.socket, 0, 0)
        looks = [
            "/v1/tree",
            "/v1/providers",
            "/v1/costs",
            "/v1/budgets",
        ]
        changes = [
            "/v1/providers/mock/disable",
            "/v1/providers/check",
            "/v1/tree/queue/restart",
            "/v1/queue/pause",
            "/v1/queue/resume",
            "/v1/reload",
            "/v1/drain",
            "/v1/shutdown",
        ]
        answers = await alice.ask_all(
            *(("GET", path, None) for path in looks),
            *(("POST", path, None) for path in changes),
        )
        assert {answer.status for answer in answers} == {403}
        codes = {answer.json()["error"]["code"] for answer in answers}
        assert codes == {"permission_denied"}
        opened = ["/healthz", "/v1/version", "/v1/status", "/v1/queue", "/v1/models"]
        answers = await alice.ask_all(*(("GET", path, None) for path in opened))
        assert {answer.status for answer in answers} == {200}
        answers = await root.ask_all(*(("GET", path, None) for path in looks))
        assert {answer.status for answer in answers} == {200}
        assert (await root.ask("POST", "/v1/shutdown")).status == 200
        assert await process.ended() == 0


async def test_who_is_not_in_the_group_does_not_even_connect(folder) -> None:
    async with daemon(folder) as process:
        eve = User(process.socket, EVE, NOBODYS_GROUP)
        assert await eve.ask("GET", "/healthz") == Answer(0, "PermissionError")


async def test_without_a_group_nobody_else_connects_wherever_the_socket_is(
    folder,
) -> None:
    # As open a place as there can be: what keeps others out is the socket's mode.
    run = folder / "run"
    run.mkdir()
    run.chmod(0o755)
    async with starting(folder) as process:
        for user in (
            User(process.socket, ALICE, 0),
            User(process.socket, EVE, NOBODYS_GROUP),
        ):
            assert await user.ask("GET", "/healthz") == Answer(0, "PermissionError")
