"""The judge, a process of its own: upstream, clients, their record, and the verdict.

    python -m tests.kills.judge SOCKET RECORD SEED CLIENTS PAUSE

It says where its upstream listens, as a line of JSON, and is told what to do, line
by line: ``go`` starts the clients, ``fault SINCE UNTIL`` is a kill that has happened,
``stop`` ends the clients and is answered when they have; ``judge`` is answered with
the verdict. At the end of its input it ends.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import attrs
import trio

from tests.kills.asking import Caller
from tests.kills.clients import make_clients
from tests.kills.provider import Moody
from tests.kills.reading import drained, get, read_all
from tests.kills.record import Record
from tests.kills.verdict import judge
from tests.upstream import open_upstream

DRAIN_LIMIT = 90.0
STREAMS_EVERY = 10
WRONG_MAX = 40
"""So many of what is wrong are told."""


async def main(socket: Path, path: Path, seed: int, clients: int, pause: float) -> None:
    """Be the judge until told otherwise."""
    record = Record(path)
    script = Moody(record, random.Random(f"{seed}/upstream"))
    async with open_upstream(script, limit=7200) as upstream:
        script.upstream = upstream
        _say({"upstream": upstream.base_url})
        stopped, over = trio.Event(), trio.Event()

        async def run_clients() -> None:
            async with trio.open_nursery() as nursery:
                for client in make_clients(
                    clients, record, socket, seed, pause=pause, stopped=stopped
                ):
                    nursery.start_soon(client.run)
            over.set()

        async with trio.open_nursery() as nursery:
            async for command in _commands():
                match command.split():
                    case ["go"]:
                        nursery.start_soon(run_clients)
                    case ["fault", since, until]:
                        record.fault(float(since), float(until))
                    case ["stop"]:
                        stopped.set()
                        await over.wait()
                        _say({"stopped": True})
                    case ["judge"]:
                        _say(await _verdict(record, socket))
                    case _:
                        record.strange(f"told {command!r}")
            nursery.cancel_scope.cancel()


async def _verdict(record: Record, socket: Path) -> dict[str, object]:
    caller = Caller(socket)
    left = await drained(caller, DRAIN_LIMIT)
    costs = await get(caller, "/v1/costs")
    caller.close()
    jobs = await read_all(socket, streams_every=STREAMS_EVERY)
    verdict = judge(record, jobs, costs)
    if left:
        verdict.wrong.append(f"after {DRAIN_LIMIT:.0f} s there are still {left}")
    told = attrs.asdict(verdict)
    return {**told, "wrong": verdict.wrong[:WRONG_MAX], "wrongs": len(verdict.wrong)}


async def _commands() -> AsyncGenerator[str]:
    pending = b""
    async for data in trio.lowlevel.FdStream(0):
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            yield line.decode()


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    where, kept, *numbers = sys.argv[1:]
    trio.run(
        main,
        Path(where),
        Path(kept),
        int(numbers[0]),
        int(numbers[1]),
        float(numbers[2]),
    )
