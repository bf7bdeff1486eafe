"""A bad network between the daemon and a healthy upstream: what its clients see.

    python -m tests.pressure.toxics

A proxy on loopback does to the bytes what Toxiproxy does, by its names. Each toxic is
tried with one provider, and with a second one behind a good network; for a whole answer
and for a stream. The provider's limits are 3 s to the first byte, 2 s of silence and 8 s
in all; each request has a deadline of 10 s.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from tests.pressure.site import CHAT, Site, chat, exchange, open_site, request
from tests.pressure.upstream import TEXT, open_upstream

DEADLINE: Final = 10.0
SLACK: Final = 1.0


@attrs.frozen(kw_only=True)
class Toxic:
    """What is done to what the upstream says."""

    latency: float = 0.0
    """Seconds that each piece is late."""
    jitter: float = 0.0
    rate: float = 0.0
    """Bytes a second; 0: no limit."""
    reset_after: float | None = None
    """Seconds after the first byte, at which the connection is reset."""
    black_hole: bool = False
    """Nothing comes through, and nothing is closed."""
    slice_bytes: int = 65536
    limit: int | None = None
    """Bytes, after which the connection is closed."""
    slow_close: float = 0.0
    model: str = "m-quick"


TOXICS: Final[Mapping[str, Toxic]] = {
    "none": Toxic(),
    "latency 300 ms, jitter 200 ms": Toxic(latency=0.3, jitter=0.2),
    "latency 5 s": Toxic(latency=5.0),
    "bandwidth 1 KB/s": Toxic(rate=1000),
    "bandwidth 1 KB/s, 2 MB": Toxic(rate=1000, model="m-long"),
    "slow_close 3 s": Toxic(slow_close=3.0, limit=10_000),
    "reset_peer in the head": Toxic(limit=20, reset_after=0.0),
    "reset_peer in mid-answer": Toxic(rate=1000, reset_after=0.3),
    "timeout (black hole)": Toxic(black_hole=True),
    "slicer, 1 byte": Toxic(slice_bytes=1),
    "limit_data 20 B": Toxic(limit=20),
    "limit_data 300 B": Toxic(limit=300),
}


@attrs.frozen(kw_only=True)
class Seen:
    """What a client has seen."""

    outcome: str
    seconds: float

    def __str__(self) -> str:
        """Return both."""
        return f"{self.outcome} ({self.seconds:.1f} s)"


@attrs.frozen(kw_only=True)
class Row:
    """One toxic, with so many providers."""

    toxic: str
    providers: int
    whole: Seen
    stream: Seen

    @property
    def hangs(self) -> bool:
        return max(self.whole.seconds, self.stream.seconds) > DEADLINE + SLACK


@asynccontextmanager
async def proxy(toxic: Toxic, port: int) -> AsyncGenerator[int]:
    """Stand before the upstream at *port*; yield a port of our own."""
    async with trio.open_nursery() as nursery:

        async def serve(client: trio.SocketStream) -> None:
            upstream = await trio.open_tcp_stream("127.0.0.1", port)
            async with client, upstream, trio.open_nursery() as both:
                both.start_soon(_pass, client, upstream)
                await _poison(toxic, upstream, client)
                both.cancel_scope.cancel()

        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _pass(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def _poison(
    toxic: Toxic, source: trio.SocketStream, sink: trio.SocketStream
) -> None:
    rng = random.Random(1)
    left = toxic.limit
    reset_at = None
    try:
        async for data in source:
            if toxic.black_hole:
                continue
            if reset_at is None and toxic.reset_after is not None:
                reset_at = trio.current_time() + toxic.reset_after
            if toxic.latency:
                late = toxic.latency + toxic.jitter * rng.uniform(-1, 1)
                await trio.sleep(late)
            for piece in _pieces(data, toxic, left):
                await sink.send_all(piece)
                if toxic.rate:
                    await trio.sleep(len(piece) / toxic.rate)
                if reset_at is not None and trio.current_time() >= reset_at:
                    linger = struct.pack("ii", 1, 0)
                    sink.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
            if left is not None and (left := left - len(data)) <= 0:
                return
        await trio.sleep(toxic.slow_close)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


def _pieces(data: bytes, toxic: Toxic, left: int | None) -> list[bytes]:
    data = data if left is None else data[:left]
    size = 100 if toxic.rate else toxic.slice_bytes
    return [data[at : at + size] for at in range(0, len(data), size)]


def _config(ports: Sequence[int]) -> str:
    tables = [
        f"""
[providers.p{number}]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["m-*"]
priority = {number}
timeout = {{ connect = "2s", first_byte = "3s", idle = "2s", total = "8s" }}
"""
        for number, port in enumerate(ports, 1)
    ]
    return "".join(tables) + '[retry]\nmax_attempts = 2\nbase_delay = "100ms"\n'


async def measure(names: Sequence[str] = tuple(TOXICS)) -> list[Row]:
    """Try each toxic with one provider and with two."""
    rows = list[Row]()
    async with open_upstream() as healthy:
        for name in names:
            toxic = TOXICS[name]
            async with proxy(toxic, healthy.port) as port:
                for ports in ([port], [port, healthy.port]):
                    async with open_site({}, _config(ports)) as site:
                        # Two daemons, in effect: the breaker must not know of the other.
                        whole = await _see(site, toxic.model, _whole, stream=False)
                        stream = await _see(site, toxic.model, _stream, stream=True)
                        row = Row(
                            toxic=name, providers=len(ports), whole=whole, stream=stream
                        )
                    assert not site.tracebacks()
                    rows.append(row)
    return rows


async def _see(
    site: Site, model: str, read: Callable[[bytes, str], str], *, stream: bool
) -> Seen:
    data = request(
        "POST", CHAT, chat(model, stream=stream), Duck_Deadline=f"{DEADLINE:g}"
    )
    started = time.monotonic()
    outcome = "HANGS"
    with trio.move_on_after(DEADLINE + 10):
        async with site.client() as client:
            reply = await exchange(client, data)
            if reply.status == 200:
                outcome = read(reply.body, model)
            else:
                code = json.loads(reply.body)["error"]["code"]
                outcome = f"{reply.status} {code}"
    return Seen(outcome=outcome, seconds=time.monotonic() - started)


def _whole(body: bytes, model: str) -> str:
    text = json.loads(body)["choices"][0]["message"]["content"]
    return "whole" if text == TEXT or model == "m-long" else "WRONG"


def _stream(body: bytes, model: str) -> str:
    events = [e.removeprefix(b"data: ") for e in body.split(b"\n\n") if e]
    if events[-1] == b"[DONE]":
        values = [json.loads(event) for event in events[:-1]]
        deltas = (v["choices"][0]["delta"] for v in values if v["choices"])
        text = "".join(delta.get("content") or "" for delta in deltas)
        return "whole" if text == TEXT or model == "m-long" else "WRONG"
    last = json.loads(events[-1])
    if "error" not in last:
        return "CUT WITHOUT A WORD"
    return f"{len(events) - 1} pieces, then {last['error']['code']}"


def main() -> None:
    """Measure and print a table for the documentation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--toxic", action="append", choices=list(TOXICS))
    its = parser.parse_args()
    rows = trio.run(lambda: measure(its.toxic or tuple(TOXICS)))
    print("| toxic | providers | a whole answer | a stream |")
    print("| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.toxic} | {row.providers} | {row.whole} | {row.stream} |")
    print(f"beyond their deadline: {sum(row.hangs for row in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
