"""The loopback listener of a real daemon: the SDKs as they come, and nobody else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import openai
import psutil
import pytest
import trio

from tests.e2e.process import PROJECT, DaemonProcess, starting

pytestmark = pytest.mark.slow

TOKEN = "token-of-the-listener-41b7d2"
HELLO = [{"role": "user", "content": "hello"}]


def listening(folder: Path, *, mode: int = 0o600) -> str:
    """Return a config with a listener, and write the token that it asks for."""
    file = folder / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(mode)
    return f"""
        [service]
        http = "127.0.0.1:0"
        token_file = "{file}"
        [log]
        level = "debug"
    """


@asynccontextmanager
async def daemon(folder: Path) -> AsyncGenerator[tuple[DaemonProcess, str]]:
    async with starting(folder, listening(folder)) as process:
        [ready] = process.events("daemon.ready")
        yield process, ready["http"]
        assert TOKEN.encode() not in process.stderr


async def test_the_sdks_need_a_base_url_and_an_api_key_and_nothing_else(
    tmp_path,
) -> None:
    async with daemon(tmp_path) as (_, url):

        def use() -> tuple[str | None, list[str], str]:
            with openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN) as sdk:
                whole = sdk.chat.completions.create(model="mock-echo", messages=HELLO)
                stream = sdk.chat.completions.create(
                    model="mock-echo", messages=HELLO, stream=True
                )
                texts = [c.choices[0].delta.content or "" for c in stream if c.choices]
            with anthropic.Anthropic(base_url=url, api_key=TOKEN) as claude:
                message = claude.messages.create(
                    model="mock-echo", messages=HELLO, max_tokens=50
                )
            return whole.choices[0].message.content, texts, message.content[0].text

        with trio.fail_after(20):
            whole, texts, message = await trio.to_thread.run_sync(use)
    assert whole == "".join(texts) == message == "hello"


async def test_the_sdks_say_what_is_wrong_with_a_wrong_token(tmp_path) -> None:
    async with daemon(tmp_path) as (_, url):

        def use() -> None:
            with (
                openai.OpenAI(base_url=f"{url}/v1", api_key="wrong") as sdk,
                pytest.raises(openai.AuthenticationError, match="token_file"),
            ):
                sdk.models.list()
            with (
                anthropic.Anthropic(base_url=url, api_key="wrong") as claude,
                pytest.raises(anthropic.AuthenticationError, match="token_file"),
            ):
                claude.models.list()

        with trio.fail_after(20):
            await trio.to_thread.run_sync(use)


async def test_who_has_the_token_is_the_owner(tmp_path) -> None:
    async with daemon(tmp_path) as (process, url):
        port = int(url.rpartition(":")[2])
        body = json.dumps({"request": {"model": "mock-echo", "messages": HELLO}})
        job = json.loads(await over_tcp(port, "POST", "/v1/jobs", body))
        assert job["submitter"] == {"uid": os.geteuid(), "gid": os.getegid(), "pid": 0}
        assert json.loads(await over_tcp(port, "GET", "/v1/tree"))["name"]
        await over_tcp(port, "POST", "/v1/shutdown")
        assert await process.ended() == 0


async def test_there_is_no_port_unless_it_is_asked_for(tmp_path) -> None:
    # Without that only root could look.
    async with starting(tmp_path, environ={"DUCK_DUMPABLE": "1"}) as process:
        [ready] = process.events("daemon.ready")
        assert ready["http"] is None
        its = psutil.Process(process.process.pid)
        assert its.net_connections("inet") == []


async def test_a_token_that_others_can_read_keeps_the_daemon_from_starting(
    tmp_path,
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(listening(tmp_path, mode=0o644))
    result = await trio.run_process(
        [sys.executable, "-m", "duckservice", "--config", str(config)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=PROJECT,
        capture_stderr=True,
        check=False,
    )
    assert result.returncode == 78
    assert b"service.token_file" in result.stderr
    assert b"chmod 600" in result.stderr
    assert TOKEN.encode() not in result.stderr


async def over_tcp(port: int, method: str, path: str, body: str = "") -> bytes:
    """Ask with the token, and return the body of the answer, which must be good."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    request = "\r\n".join([*lines, "", body]).encode()
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            answer = b"".join([data async for data in stream])
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")), answer
    return content
