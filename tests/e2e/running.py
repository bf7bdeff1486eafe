"""A whole daemon on a real socket, the official SDKs at it, its log in hand.

    async with open_upstream([[answer(b"...")]]) as upstream:
        async with open_duck(provider("up", "openai", upstream)) as duck:
            reply = await duck.openai(lambda sdk: sdk.chat.completions.create(...))

The SDKs know asyncio and threads only, so they run in threads; what they raise
comes out of the await. A thread cannot be cancelled: each SDK has its own
timeout, which no test relies on.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import ssl
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import attrs
import httpx2
import openai
import structlog
import trio

from duckservice import log
from duckservice.config import (
    Config,
    LogConfig,
    PriceConfig,
    ProviderConfig,
    RetryConfig,
    Secret,
)
from duckservice.daemon import Daemon, open_daemon
from duckservice.gateway.server import ServerLimits
from duckservice.providers.base import Provider
from tests.gateway.serving import RawClient
from tests.upstream import Upstream, answer

T = TypeVar("T")

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Empty: to load the list of authorities takes 20 ms a client, for no use."""

KEY = "configured-key-5c1e94b07d"
"""What the daemon shows its upstreams."""

CLIENT_KEY = "client-key-that-stays-here"
"""What the clients show the daemon."""

SDK_TIMEOUT = 20.0

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


def provider(
    name: str, adapter: str, upstream: Upstream | str, **more: Any
) -> ProviderConfig:
    """Return the config of a provider at *upstream*, which serves every model."""
    url = upstream if isinstance(upstream, str) else upstream.base_url
    return ProviderConfig(
        **{
            "name": name,
            "adapter": adapter,
            "api_key": Secret(KEY),
            "base_url": url if adapter == "anthropic" else f"{url}/v1",
            "models": ("*",),
            "price": PriceConfig(input="2", output="8"),
            **more,
        }
    )


@attrs.define
class Reply:
    """An answer of the daemon to a request that no SDK would send."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The contract's word for the error, in whichever shape it came."""
        return self.json()["error"]["code"]


@attrs.define(slots=False)
class Duck:
    """A daemon that runs, and its clients."""

    daemon: Daemon
    socket: Path
    written: io.StringIO
    """The log."""
    closing: ExitStack
    """Closes the SDKs that were used."""

    async def openai(self, use: Callable[[openai.OpenAI], T]) -> T:
        """Return what *use* returns, called in a thread with OpenAI's SDK."""
        return await trio.to_thread.run_sync(use, self.openai_sdk)

    @functools.cached_property
    def openai_sdk(self) -> openai.OpenAI:
        """OpenAI's SDK; it sends nothing twice by itself."""
        sdk = openai.OpenAI(
            base_url="http://duck/v1",
            api_key=CLIENT_KEY,
            max_retries=0,
            timeout=SDK_TIMEOUT,
            http_client=openai.DefaultHttpxClient(transport=self.transport()),
        )
        return self.closing.enter_context(sdk)

    async def anthropic(self, use: Callable[[anthropic.Anthropic], T]) -> T:
        """Return what *use* returns, called in a thread with Anthropic's SDK."""
        return await trio.to_thread.run_sync(use, self.anthropic_sdk)

    @functools.cached_property
    def anthropic_sdk(self) -> anthropic.Anthropic:
        """Anthropic's SDK; it sends nothing twice by itself."""
        sdk = anthropic.Anthropic(
            base_url="http://duck",
            api_key=CLIENT_KEY,
            max_retries=0,
            timeout=SDK_TIMEOUT,
            http_client=anthropic.DefaultHttpxClient(transport=self.transport()),
        )
        return self.closing.enter_context(sdk)

    def transport(self) -> httpx2.HTTPTransport:
        """Return what takes an SDK's requests to the socket."""
        return httpx2.HTTPTransport(uds=str(self.socket), verify=_NO_TLS)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[RawClient]:
        """Connect, to send any bytes."""
        async with await trio.open_unix_socket(self.socket) as stream:
            yield RawClient(stream)

    async def send(self, data: bytes) -> Reply:
        """Send the bytes of one request, on a connection of its own."""
        async with self.connection() as client:
            reply = await client.ask(data)
            return Reply(reply.status, reply.headers, reply.body)

    async def post(self, path: str, body: Any = b"", *headers: bytes) -> Reply:
        """POST bytes, or a value as JSON."""
        return await self.send(post(path, body, *headers))

    async def get(self, path: str) -> Any:
        """GET what is there, which must be JSON with status 200."""
        request = f"GET {path} HTTP/1.1\r\nhost: duck\r\n\r\n"
        reply = await self.send(request.encode())
        assert reply.status == 200, reply
        return reply.json()

    async def restart(self, path: str) -> None:
        """Crash an actor."""
        reply = await self.post(f"/v1/tree/{path}/restart")
        assert reply.status == 200, reply

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of that name."""
        lines = (json.loads(line) for line in self.written.getvalue().splitlines())
        return [line for line in lines if line["event"] == name]

    def crashes(self) -> list[dict[str, Any]]:
        """Return what a bug would have left in the log."""
        lines = (json.loads(line) for line in self.written.getvalue().splitlines())
        return [line for line in lines if "exception" in line]

    async def at_rest(self) -> None:
        """Wait until nothing runs and nothing waits; it must come to that."""
        with trio.fail_after(5):
            while not await self._is_at_rest():  # noqa: ASYNC110 - no event tells
                await trio.sleep(0.001)

    async def _is_at_rest(self) -> bool:
        service = self.daemon.service
        queue = await service.queue()
        states = await service.providers()
        return (
            queue["running"] == queue["waiting"] == 0
            and service.counters.in_flight == 0
            and all(state["in_flight"] == 0 for state in states)
            and all(state["limiter"]["waiting"] == 0 for state in states)
        )


def post(path: str, body: Any = b"", *headers: bytes) -> bytes:
    """Return the bytes of a POST of bytes, or of a value as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        b"POST %b HTTP/1.1" % path.encode(),
        b"host: duck",
        b"content-length: %d" % len(data),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", data])


@asynccontextmanager
async def open_duck(
    *providers: ProviderConfig,
    instances: Mapping[str, Provider] | None = None,
    limits: ServerLimits | None = None,
    limit: float = 30.0,
    may_crash: bool = False,
    state_dir: Path | None = None,
    **more: Any,
) -> AsyncGenerator[Duck]:
    """Run a daemon with these providers; *more* are further parts of its config.

    Failed requests are sent again without a pause. The block fails with
    `trio.TooSlowError` after *limit* seconds, and, unless it *may_crash*, if the
    log has a traceback.
    """
    config = Config(
        **{
            "providers": {its.name: its for its in providers},
            "retry": RetryConfig(base_delay=0.0, max_delay=0.0),
            **more,
        }
    )
    with tempfile.TemporaryDirectory() as folder, _log() as written:
        socket = Path(folder, "d", "duckd.sock")
        with trio.fail_after(limit), ExitStack() as closing:
            async with open_daemon(
                config,
                socket,
                providers=instances,
                limits=limits,
                state_dir=state_dir,
            ) as daemon:
                duck = Duck(daemon, socket, written, closing)
                yield duck
                # First the clients go: what they still hold would be drained.
                closing.close()
            assert may_crash or not duck.crashes(), duck.crashes()


@contextmanager
def _log() -> Generator[io.StringIO]:
    """Catch the log as the daemon writes it, and leave no set-up behind."""
    written = io.StringIO()
    handlers = list(logging.getLogger().handlers)
    log.setup(LogConfig(format="json"), written)
    # A logger that has been kept would write here for ever.
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield written
    finally:
        logging.getLogger().handlers[:] = handlers
        structlog.reset_defaults()


# What upstreams say.


def json_answer(value: Any, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a whole answer of JSON."""
    body = json.dumps(value).encode()
    return answer(body, b"content-type: application/json", *headers, status=status)


def sse_answer(*events: bytes) -> bytes:
    """Return a whole answer of server-sent events."""
    return answer(b"".join(events), b"content-type: text/event-stream")


def openai_chat(text: str | None = "Hello!", **more: Any) -> dict[str, Any]:
    """Return OpenAI's answer to a chat; *more* are fields of the message."""
    finish = "tool_calls" if "tool_calls" in more else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **more},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }


def openai_stream(*deltas: Mapping[str, Any], finish: str = "stop") -> list[bytes]:
    """Return OpenAI's stream of *deltas*, usage at the end, event by event."""
    head = {
        "id": "chatcmpl-2",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
    }
    choices = [
        *({"index": 0, "delta": delta, "finish_reason": None} for delta in deltas),
        {"index": 0, "delta": {}, "finish_reason": finish},
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return [
        *(_data({**head, "choices": [choice], "usage": None}) for choice in choices),
        _data({**head, "choices": [], "usage": usage}),
        b"data: [DONE]\n\n",
    ]


def anthropic_message(*content: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return Anthropic's answer with these blocks; *more* are further fields."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(content or [{"type": "text", "text": "Hello!"}]),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 3},
        **more,
    }


def anthropic_stream(
    *blocks: tuple[Mapping[str, Any], list[Mapping[str, Any]]],
    stop: str = "end_turn",
) -> list[bytes]:
    """Return Anthropic's stream: each block is its start and its deltas."""
    message = anthropic_message() | {"content": [], "stop_reason": None}
    events = [_named("message_start", message=message), _named("ping")]
    for index, (start, deltas) in enumerate(blocks):
        events.append(_named("content_block_start", index=index, content_block=start))
        events += [
            _named("content_block_delta", index=index, delta=delta) for delta in deltas
        ]
        events.append(_named("content_block_stop", index=index))
    delta = {"stop_reason": stop, "stop_sequence": None}
    end = _named("message_delta", delta=delta, usage={"output_tokens": 3})
    return [*events, end, _named("message_stop")]


def _data(value: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def _named(name: str, **fields: Any) -> bytes:
    return b"event: %b\n" % name.encode() + _data({"type": name, **fields})
