"""The verdict about a scenario, given here or in a process that may be killed."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeAlias

import attrs

from tests.otp.compare import first_difference
from tests.otp.grammar import unknown
from tests.otp.normalise import normalise
from tests.otp.play import play

Json: TypeAlias = Any
Judge: TypeAlias = Callable[[Json], str | None]

START_SECONDS = 60
"""How long a new process may take for its imports."""


def difference(scenario: Json, *, reports: bool = True) -> str | None:
    """Play *scenario*; say where its trace first differs from OTP's, or None."""
    try:
        found = _difference(scenario, reports=reports)
    except Exception as error:  # noqa: BLE001 - a failure to play is a difference
        found = f"cannot be played: {error!r}"
    if found is None:
        return None
    strange = next(_unknown(scenario), None)
    return found if strange is None else f"not understood: {strange}; {found}"


def _difference(scenario: Json, *, reports: bool) -> str | None:
    played = play({key: scenario[key] for key in scenario if key != "trace"})
    # Through JSON, for tuples and lists are the same there.
    got = json.loads(json.dumps(normalise(scenario, played)))
    wanted = normalise(scenario, scenario["trace"])
    return first_difference(scenario, wanted, got, reports=reports)


def _unknown(scenario: Json) -> Iterator[str]:
    try:
        yield from unknown(scenario)
    except Exception as error:  # noqa: BLE001 - whatever this is, it is no scenario
        yield f"its shape ({error!r})"


def judge_apart(
    judge: Judge, scenarios: Iterable[Json], *, seconds: float
) -> Iterator[str | None]:
    """Yield the verdict about each scenario, given in a process of its own.

    One that takes longer than *seconds*, or takes the process down, has failed;
    the next one gets a new process.
    """
    worker: _Worker | None = None
    try:
        for scenario in scenarios:
            worker = worker or _Worker.start(judge)
            yield worker.judge(scenario, seconds)
            if not worker.process.is_alive():
                worker.end()
                worker = None
    finally:
        if worker is not None:
            worker.end()


@attrs.frozen
class _Worker:
    """The other process, and the line to it."""

    process: SpawnProcess
    line: Connection

    @classmethod
    def start(cls, judge: Judge) -> _Worker:
        # Not forked: nothing of this process is to be seen there.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, judge), daemon=True)
        process.start()
        theirs.close()
        worker = cls(process, ours)
        if not ours.poll(START_SECONDS):
            worker.end()
            raise RuntimeError("the process that plays scenarios does not start")
        ours.recv()
        return worker

    def judge(self, scenario: Json, seconds: float) -> str | None:
        try:
            self.line.send(scenario)
            if self.line.poll(seconds):
                verdict: str | None = self.line.recv()
                return verdict
        except (EOFError, OSError):
            self.process.join()
            return f"ended the process, with exit code {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        return f"still running after {seconds:g} s"

    def end(self) -> None:
        self.line.close()
        self.process.kill()
        self.process.join()


def _serve(line: Connection, judge: Judge) -> None:
    line.send("ready")
    while True:
        try:
            scenario = line.recv()
        except EOFError:
            return
        line.send(judge(scenario))
