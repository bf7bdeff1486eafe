"""Two upstreams, one killed under load, the official SDK as client: who notices?

    python -m tests.e2e.failover [--requests N] [--clients N] [--how kill|hang|500]

The upstreams and ``duckd`` are processes of their own. The first upstream is killed
with SIGKILL (or stopped with SIGSTOP: it hangs; or told to answer 500) while it has
requests in its hands. The SDK repeats nothing itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import httpx2
import openai
import trio

from tests.e2e.process import starting
from tests.e2e.running import openai_chat

LATENCY = 0.05
"""Seconds that an upstream takes for an answer."""

CONFIG = """
[providers.first]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{first}/v1"
models = ["*"]
priority = 1
timeout = {{ first_byte = "1s" }}
breaker = {{ reset_timeout = "2s" }}

[providers.second]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{second}/v1"
models = ["*"]
priority = 2
"""


@attrs.frozen
class Asked:
    """One request, as its client saw it."""

    since: float
    until: float
    provider: str
    """Empty where it failed."""
    attempts: int = 1
    error: str = ""


@attrs.frozen
class Report:
    """What the clients saw."""

    asked: list[Asked]
    struck_at: float

    @property
    def failed(self) -> list[Asked]:
        """Those that had no answer."""
        return [one for one in self.asked if one.error]

    @property
    def caught(self) -> list[Asked]:
        """Those that were under way when it happened, and were served all the same."""
        return [
            one
            for one in self.asked
            if one.since < self.struck_at < one.until and one.attempts > 1
        ]

    @property
    def before(self) -> float:
        """The median latency until then, in seconds."""
        return statistics.median(
            one.until - one.since for one in self.asked if one.until < self.struck_at
        )

    @property
    def failover(self) -> float:
        """The longest time from the strike to the answer of one that was caught."""
        return max((one.until - self.struck_at for one in self.caught), default=0.0)

    @property
    def worst(self) -> float:
        """The longest that a request took that was begun after the strike."""
        later = [one for one in self.asked if one.since >= self.struck_at]
        return max((one.until - one.since for one in later), default=0.0)


async def run(requests: int, clients: int, how: str) -> Report:
    """Have *clients* ask *requests* times in all; strike when a third is done."""
    asked = list[Asked]()
    struck: list[float] = []
    async with _upstream() as first, _upstream() as second:
        config = CONFIG.format(first=first.port, second=second.port)
        with tempfile.TemporaryDirectory() as folder:
            async with starting(Path(folder), config) as duckd:
                transport = httpx2.HTTPTransport(uds=str(duckd.socket))
                with openai.OpenAI(
                    base_url="http://duck/v1",
                    api_key="any",
                    max_retries=0,
                    timeout=30,
                    http_client=openai.DefaultHttpxClient(transport=transport),
                ) as sdk:
                    left = iter(range(requests))

                    async def client() -> None:
                        for _ in left:
                            asked.append(await trio.to_thread.run_sync(_ask, sdk))
                            if not struck and len(asked) >= requests // 3:
                                struck.append(time.perf_counter())
                                first.strike(how)

                    async with trio.open_nursery() as nursery:
                        for _ in range(clients):
                            nursery.start_soon(client)
                # The upstream that hangs would be waited for.
                first.process.kill()
    return Report(asked, struck[0])


def _ask(sdk: openai.OpenAI) -> Asked:
    since = time.perf_counter()
    try:
        raw = sdk.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "user", "content": "quack?"}]
        )
        assert raw.parse().choices[0].message.content == "Hello!"
    except openai.OpenAIError as error:
        return Asked(since, time.perf_counter(), "", error=str(error))
    return Asked(
        since,
        time.perf_counter(),
        raw.headers["duck-provider"],
        int(raw.headers["duck-attempts"]),
    )


# The upstreams.


@attrs.frozen
class UpstreamProcess:
    """An upstream in a process of its own."""

    process: trio.Process
    port: int

    def strike(self, how: str) -> None:
        """Take it down."""
        numbers = {
            "kill": signal.SIGKILL,
            "hang": signal.SIGSTOP,
            "500": signal.SIGUSR1,
        }
        self.process.send_signal(numbers[how])


@asynccontextmanager
async def _upstream() -> AsyncGenerator[UpstreamProcess]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.e2e.failover", "--upstream"],
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield UpstreamProcess(process, int(await process.stdout.receive_some()))
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _serve() -> None:
    body = json.dumps(openai_chat()).encode()
    head = (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    well = head % (b"200 OK", len(body)) + body
    ill = head % (b"500 Internal Server Error", 2) + b"{}"
    is_ill = False

    async def turn_ill() -> None:
        nonlocal is_ill
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            async for _ in signals:
                is_ill = True

    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        while (more := await stream.receive_some()) != b"":
            data += more
            head, end, rest = data.partition(b"\r\n\r\n")
            if end and len(rest) >= int(
                head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            ):
                data = b""
                await trio.sleep(LATENCY)
                await stream.send_all(ill if is_ill else well)

    async def careful(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(turn_ill)
        await trio.lowlevel.checkpoint()
        print(listeners[0].socket.getsockname()[1], flush=True)
        nursery.start_soon(trio.serve_listeners, careful, listeners)


def main() -> None:
    """Run it, and print what the clients saw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--how", choices=["kill", "hang", "500"], default="kill")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        trio.run(_serve)
        return
    report = trio.run(partial(run, options.requests, options.clients, options.how))
    served = Counter(one.provider or "nobody" for one in report.asked)
    attempts = sum(one.attempts for one in report.asked)
    print(
        f"requests            {len(report.asked)}, by {options.clients} clients at once"
    )
    print(f"served by           {dict(served)}")
    print(f"failed              {len(report.failed)}")
    print(
        f"attempts            {attempts}, {attempts - len(report.asked)} of them again"
    )
    print(f"under way, rescued  {len(report.caught)}")
    print(
        f"failover            {report.failover * 1000:.0f} ms from the strike to the last rescued answer"
    )
    print(
        f"median before       {report.before * 1000:.0f} ms; the worst begun after: {report.worst * 1000:.0f} ms"
    )
    for one in report.failed[:5]:
        print(f"  {one.error}")


if __name__ == "__main__":
    main()
