"""Runs scenarios: those of one request side by side, those under load alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import attrs
import trio

from duckservice.chaos.judge import Verdict
from duckservice.chaos.load import run_load
from duckservice.chaos.reach import Reach
from duckservice.chaos.rehearsal import Rehearsal
from duckservice.chaos.result import Result, Run
from duckservice.chaos.scenarios import Scenario
from duckservice.chaos.single import run_single
from duckservice.chaos.site import OpenDaemon
from duckservice.daemon import open_daemon
from duckservice.paths import StartupError
from supervisors import SupervisionError

_AT_ONCE: Final = 4
"""They mostly wait, and must not wait for each other's work."""


@attrs.define(eq=False)
class Bench:
    """All that is to be run."""

    rehearsal: Rehearsal
    reaches: Sequence[Reach]
    scenarios: Sequence[Scenario]
    on_result: Callable[[Result], object] = lambda _: None
    """Called for each, as it ends."""
    daemon: OpenDaemon = open_daemon
    _results: dict[tuple[str, str], Result] = attrs.field(
        factory=dict[tuple[str, str], Result]
    )
    _numbers: count[int] = attrs.field(factory=count)

    async def run(self) -> list[Result]:
        """Run everything, and return the results in the order of the scenarios."""
        with tempfile.TemporaryDirectory(prefix="duck-chaos-") as folder:
            await self._run_singles(Path(folder))
            for reach, scenario in self._rows():
                if _is_load(scenario):
                    run = await self._run(reach, scenario, Path(folder), None)
                    self._note(reach, scenario, {"load": run})
        return [self._results[r.model, s.name] for r, s in self._rows()]

    def _rows(self) -> list[tuple[Reach, Scenario]]:
        return [(reach, its) for reach in self.reaches for its in self.scenarios]

    async def _run_singles(self, folder: Path) -> None:
        places = trio.CapacityLimiter(_AT_ONCE)

        async def run(reach: Reach, scenario: Scenario) -> None:
            async with places:
                runs = {
                    name: await self._run(reach, scenario, folder, name)
                    for name in ("whole", "stream")
                }
            self._note(reach, scenario, runs)

        async with trio.open_nursery() as nursery:
            for reach, scenario in self._rows():
                if not _is_load(scenario):
                    nursery.start_soon(run, reach, scenario)

    async def _run(
        self, reach: Reach, scenario: Scenario, folder: Path, form: str | None
    ) -> Run:
        own = folder / str(next(self._numbers))
        own.mkdir()
        its, model, daemon = self.rehearsal, reach.model, self.daemon
        try:
            if form is None:
                return await run_load(scenario, its, model, own, daemon=daemon)
            stream = form == "stream"
            return await run_single(
                scenario, its, model, own, stream=stream, daemon=daemon
            )
        except* (StartupError, SupervisionError, ValueError) as errors:
            reason = f"the daemon did not run: {errors.exceptions[0]}"
        return Run(verdict=Verdict("failed", reason), took=0.0, calls=0, wasted=0)

    def _note(self, reach: Reach, scenario: Scenario, runs: dict[str, Run]) -> None:
        result = Result(scenario=scenario, model=reach.model, runs=runs)
        self._results[reach.model, scenario.name] = result
        self.on_result(result)


def _is_load(scenario: Scenario) -> bool:
    return scenario.kind in ("outage", "recovery")
