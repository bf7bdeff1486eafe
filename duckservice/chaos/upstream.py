"""A provider on loopback that answers, or fails, as it is told, and logs every call."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final, assert_never, cast

import attrs
import trio

from duckservice.chaos.faults import Action, Asked, End, Fault, Pause, healthy
from duckservice.chaos.http_in import RequestIn
from duckservice.chaos.wire import Json
from duckservice.chaos.wires import wire_of

HOST: Final = "127.0.0.1"

_NONCE: Final = re.compile(rb"duck-chaos-[0-9a-f]{8,}")
_KEY_HEADERS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


@attrs.define(kw_only=True)
class Call:
    """One chat that has reached a provider."""

    provider: str
    nonce: str
    """Of the request that it is for."""
    at: float
    key: str = attrs.field(repr=False)
    sick: bool
    """Whether a fault was its answer."""
    foreign_key: bool = False
    """Whether it showed the key of another provider."""
    spoke_at: float | None = None
    """When the first part of an answer was sent."""


@attrs.define(kw_only=True)
class Stage:
    """All upstreams of one run: who is sick, and what was asked of whom.

    Who gets the first call is the sick one, whatever the routing: so the fault is
    where it hurts.
    """

    fault: Fault | None = None
    """None: all are well."""
    everywhere: bool = False
    """Whether all are sick."""
    once: bool = False
    """Whether the fault is over after one call."""
    sick: str | None = None
    calls: list[Call] = attrs.field(factory=list[Call])

    def fault_for(self, provider: str) -> Fault | None:
        """Return what is to befall a call that has reached *provider* now."""
        if self.fault is None:
            return None
        if self.sick is None:
            self.sick = provider
        if not self.everywhere and provider != self.sick:
            return None
        fault = self.fault
        if self.once:
            self.fault = None
        return fault


def words_of(nonce: str) -> list[str]:
    """Return the right answer to the request with that *nonce*, in words."""
    return ["The ", "answer ", "to ", nonce, " ", "is ", "a ", "duck."]


@attrs.define(eq=False)
class Upstream:
    """One provider's server."""

    provider: str
    stage: Stage
    first_byte: float
    """Seconds that the daemon waits for it."""
    keys: Callable[[str], str | None]
    """Whose stand-in a key is."""
    latency: float = 0.0
    """Seconds before any answer."""
    port: int = 0
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _ended: trio.Event = attrs.field(factory=trio.Event)
    _refusing: socket.socket | None = None
    """Has the port once `refuse` was called."""

    async def serve(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on a port of the system's choice until cancelled or `refuse`."""
        [listener] = await trio.open_tcp_listeners(0, host=HOST)
        self.port = cast("int", listener.socket.getsockname()[1])
        try:
            with self._scope:
                task_status.started()
                await trio.serve_listeners(self._serve_one, [listener])
        finally:
            self._ended.set()

    async def refuse(self) -> None:
        """Refuse connections from now on, and end those that are open."""
        self._scope.cancel()
        await self._ended.wait()
        # Bound and not listened to, the port refuses, and nobody else gets it.
        self._refusing = socket.socket()
        self._refusing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._refusing.bind((HOST, self.port))

    def close(self) -> None:
        """Give the port back that `refuse` has kept."""
        if self._refusing is not None:
            self._refusing.close()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        # Closed at once, without trio's courtesy: a reset must be one.
        with closing(stream.socket):
            try:
                while await self._answer_next(stream):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the daemon has hung up, which is its right

    async def _answer_next(self, stream: trio.SocketStream) -> bool:
        """Answer one request; say whether the connection goes on."""
        request = RequestIn()
        if not await request.read(stream):
            return False
        target = request.target.decode("latin-1")
        wire = wire_of(target)
        found = _NONCE.search(request.body)
        if wire is None or found is None or request.method != "POST":
            await stream.send_all(_NOT_FOUND)
            return True
        body = cast("Json", json.loads(request.body))
        nonce, key = found[0].decode(), _key(request)
        call, fault = self._note(nonce, key)
        asked = Asked(
            wire=wire,
            words=words_of(nonce),
            is_stream=wire.is_stream(target, body),
            key=key,
            first_byte=self.first_byte,
        )
        await trio.sleep(self.latency)
        return await _act(stream, call, (fault or healthy)(asked))

    def _note(self, nonce: str, key: str) -> tuple[Call, Fault | None]:
        """Write the call down; return it, and what is to befall it."""
        fault = self.stage.fault_for(self.provider)
        call = Call(
            provider=self.provider,
            nonce=nonce,
            at=trio.current_time(),
            key=key,
            sick=fault is not None,
            foreign_key=self.keys(key) not in (None, self.provider),
        )
        self.stage.calls.append(call)
        return call, fault


def _key(request: RequestIn) -> str:
    for name in _KEY_HEADERS:
        if value := request.headers.get(name):
            return value.removeprefix("Bearer ")
    return ""


async def _act(
    stream: trio.SocketStream, call: Call, actions: Sequence[Action]
) -> bool:
    for action in actions:
        match action:
            case bytes():
                await stream.send_all(action)
                call.spoke_at = call.spoke_at or trio.current_time()
            case Pause(seconds):
                await trio.sleep(seconds)
            case End.HANG:
                while await stream.receive_some():
                    pass
                return False
            case End.RESET:
                stream.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
                )
                return False
            case End.FIN:
                return False
            case _:
                assert_never(action)
    return True
