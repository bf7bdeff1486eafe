"""A whole daemon in front of a real inference server: llama.cpp's, with a tiny model.

``$DUCK_LLAMA_SERVER`` (or ``llama-server`` on the path) is started with a model that
the `gguf` package writes, whose table of next tokens we choose; the tests are skipped
where either is absent.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest
import trio

from duckservice.config import PriceConfig, ProviderConfig
from tests.e2e.running import CHAT, Duck, open_duck, post
from tests.e2e.tiny_gguf import write_model

SERVER = os.environ.get("DUCK_LLAMA_SERVER") or shutil.which("llama-server")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SERVER is None, reason="no llama-server is installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("gguf") is None,
        reason="the gguf package, which writes the model, is not installed",
    ),
]

SAYS = ("Hello", " from", " a", " tiny", " model", ".")
TEXT = "".join(SAYS)
HELLO = [{"role": "user", "content": "hi"}]
START_LIMIT = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def llama(folder: Path, *options: str) -> AsyncGenerator[str]:
    """Run the server; yield its origin once it answers."""
    assert SERVER is not None
    model = folder / "tiny.gguf"
    write_model(model, SAYS)
    port = free_port()
    command = [SERVER, "-m", str(model), "--port", str(port), "--jinja", *options]
    log = (folder / "llama.log").open("wb")
    run = functools.partial(
        trio.lowlevel.open_process, command, stdout=log, stderr=subprocess.STDOUT
    )
    process = await run()
    try:
        with trio.fail_after(START_LIMIT):
            while not await _answers(port):
                assert process.poll() is None, (folder / "llama.log").read_text()
                await trio.sleep(0.05)  # another program: nothing else tells
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        log.close()


async def _answers(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    async with stream:
        await stream.send_all(b"GET /health HTTP/1.0\r\n\r\n")
        return b" 200 " in await stream.receive_some()


@asynccontextmanager
async def duck_at(folder: Path, *options: str) -> AsyncGenerator[Duck]:
    async with llama(folder, *options) as origin:
        config = ProviderConfig(
            name="local",
            adapter="openai-compatible",
            base_url=f"{origin}/v1",
            price=PriceConfig(input="1", output="1"),
        )
        async with open_duck(config) as duck:
            yield duck


async def test_openais_sdk_talks_to_a_real_model(tmp_path):
    async with duck_at(tmp_path) as duck:
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.create(model="tiny", messages=HELLO)
        )
        assert reply.choices[0].message.content == TEXT
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.completion_tokens >= len(SAYS)
        cut = await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model="tiny", messages=HELLO, max_tokens=2
            )
        )
        assert cut.choices[0].finish_reason == "length"
        assert cut.choices[0].message.content == "Hello from"


async def test_a_stream_of_a_real_model_comes_token_by_token(tmp_path):
    async with duck_at(tmp_path) as duck:

        def stream(sdk: openai.OpenAI):
            return list(
                sdk.chat.completions.create(
                    model="tiny",
                    messages=HELLO,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )

        chunks = await duck.openai(stream)
        words = [c.choices[0].delta.content for c in chunks if c.choices]
        assert "".join(word or "" for word in words) == TEXT
        assert len([word for word in words if word]) == len(SAYS)
        assert chunks[-1].usage.completion_tokens >= len(SAYS)


async def test_anthropics_sdk_and_the_responses_api_talk_to_it_too(tmp_path):
    async with duck_at(tmp_path) as duck:
        message = await duck.anthropic(
            lambda sdk: sdk.messages.create(model="tiny", messages=HELLO, max_tokens=50)
        )
        assert message.content[0].text == TEXT
        assert message.stop_reason == "end_turn"
        response = await duck.openai(
            lambda sdk: sdk.responses.create(model="tiny", input="hi")
        )
        assert response.output_text == TEXT
        assert response.status == "completed"


async def test_a_real_grammar_keeps_to_the_schema_and_to_the_tool(tmp_path):
    async with duck_at(tmp_path) as duck:
        schema = {
            "type": "object",
            "properties": {"answer": {"const": "yes"}},
            "required": ["answer"],
            "additionalProperties": False,
        }
        wanted = {"name": "verdict", "schema": schema, "strict": True}
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model="tiny",
                messages=HELLO,
                max_tokens=200,
                response_format={"type": "json_schema", "json_schema": wanted},
            )
        )
        assert json.loads(reply.choices[0].message.content) == {"answer": "yes"}


async def test_embeddings_models_and_health_are_those_of_the_server(tmp_path):
    async with duck_at(tmp_path, "--embeddings", "--pooling", "mean") as duck:
        found = await duck.openai(
            lambda sdk: sdk.embeddings.create(model="tiny", input=["a", "b"])
        )
        assert len(found.data) == 2
        assert len(found.data[0].embedding) == len(found.data[1].embedding) > 100
        listed = await duck.get("/v1/models")
        assert any("tiny" in model["id"] for model in listed["data"])
        report = await duck.post("/v1/providers/local/check")
        assert report.json()["healthy"] is True


async def test_a_prompt_that_is_too_long_is_said_to_be(tmp_path):
    async with duck_at(tmp_path, "-c", "256") as duck:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 4000}]}
        reply = await duck.send(post(CHAT, body))
        assert reply.status == 400
        assert reply.code == "context_length_exceeded"
