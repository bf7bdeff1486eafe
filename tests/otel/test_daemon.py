"""A daemon that sends telemetry, and one that does not, as processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.e2e.process import starting
from tests.otel.collector import collecting
from tests.otel.test_traces import CLIENT, TRACEPARENT

SECRET = "a-secret-that-is-only-for-the-collector"
EXIT_CONFIG = 78

CONFIG = """
[log]
format = "json"
[providers.mock]
adapter = "mock"
[telemetry]
export_interval = "50ms"
"""

OFF = """
import sys, trio
from duckservice.completion import ChatRequest, Message
from duckservice.config import Config
from duckservice.running import open_running
from duckservice.tree import Seams

async def main():
    seams = Seams(emit=lambda _: None)
    async with open_running(Config.default(), seams=seams) as duck:
        request = ChatRequest(model="mock-1", messages=(Message.of("user", "hi"),))
        await duck.complete(request)
        assert "telemetry" not in {its["name"] for its in duck.tree()["children"]}

trio.run(main)
print(*sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""

WITHOUT = """
import sys
from duckservice.config_toml import telemetry_rules
telemetry_rules.find_spec = lambda _: None
from duckservice.start import main
sys.argv[0] = "duckd"
main()
"""


def body() -> bytes:
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": "mock-1", "messages": messages}).encode()


def post(*headers: str) -> bytes:
    data = body()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        *("Host: duck", f"Content-Length: {len(data)}"),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


def test_where_it_is_off_nothing_of_opentelemetry_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", OFF], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.slow
async def test_the_environment_alone_has_a_daemon_send_what_it_does(tmp_path) -> None:
    async with collecting(limit=60.0) as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET}",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        async with starting(tmp_path, CONFIG, environ=environ) as daemon:
            async with daemon.connection() as client:
                reply = await client.ask(post(f"traceparent: {TRACEPARENT}"))
                assert reply.status == 200
                reply = await client.ask(post("traceparent: nonsense"))
                assert reply.status == 200
            await collector.wait_until(lambda: len(collector.spans()) == 4)
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
        [theirs] = [its for its in collector.roots() if its.parent]
        assert (theirs.trace, theirs.parent) == CLIENT
        assert {its.kind for its in collector.roots()} == {"SERVER"}
        for request in collector.upstream.requests:
            assert request.header("authorization") == f"Bearer {SECRET}"
        [resource] = {str(sorted(its.items())) for its in collector.resources()}
        assert "deployment.environment.name" in resource
        assert SECRET.encode() not in daemon.stderr


@pytest.mark.slow
async def test_without_the_extra_a_daemon_says_what_to_install(tmp_path) -> None:
    config = f'{CONFIG}otlp_endpoint = "http://127.0.0.1:4318"\n'
    program = (sys.executable, "-c", WITHOUT)
    async with starting(tmp_path, config, program=program, wait=False) as daemon:
        assert await daemon.ended() == EXIT_CONFIG
        assert b"pip install 'duckservice[otel]'" in daemon.stderr


@pytest.mark.slow
async def test_a_collector_that_is_away_is_one_line_in_the_log(tmp_path) -> None:
    config = f'{CONFIG}otlp_endpoint = "http://127.0.0.1:9"\nmetrics = false\n'
    environ = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.05"}
    async with starting(tmp_path, config, environ=environ) as daemon:
        async with daemon.connection() as client:
            for _ in range(5):
                assert (await client.ask(post())).status == 200
        await daemon.wait_for("telemetry.export_failed")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert len(daemon.events("telemetry.export_failed")) == 1
        assert daemon.events("library") == []
