"""`duck chaos`: your own config against providers that fail in every known way.

The bench itself is `duckservice.chaos`; this shows what it finds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from duckservice.cli.exits import BAD_CONFIG, FAILED, OK, USAGE, Exit
from duckservice.cli.session import Session

if TYPE_CHECKING:
    from duckservice.chaos.reach import Reach
    from duckservice.chaos.rehearsal import Rehearsal
    from duckservice.chaos.result import Result
    from duckservice.chaos.scenarios import Scenario

_REACHES_MAX: Final = 3
"""Models that are tried by themselves: each takes a quarter of a minute."""

_STYLES: Final = {"rescued": "green", "safe": "yellow", "failed": "bold red"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be tried."""
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="run this scenario only; may be said several times",
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        help="the model to ask for (default: those that reach all providers)",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the scenarios, and run none"
    )


def run(session: Session) -> int:
    """Run the bench; it has failed if one verdict is `failed`."""
    scenarios = _chosen(session.options.only)
    if session.options.list:
        return _list(session, scenarios)
    rehearsal = _rehearsal(session)
    reaches = _reaches(rehearsal, session.options.model)
    told = _about(rehearsal, reaches, len(scenarios))
    if not session.options.json:
        for line in told:
            session.out.note(line)
    results = _results(session, rehearsal, reaches[:_REACHES_MAX], scenarios)
    return _show(session, told, results)


def _chosen(names: Sequence[str]) -> list[Scenario]:
    from duckservice.chaos.scenarios import SCENARIOS

    known = {its.name for its in SCENARIOS}
    for name in names:
        if name not in known:
            raise Exit(f"no scenario {name!r}; `duck chaos --list` has all", USAGE)
    return [its for its in SCENARIOS if not names or its.name in names]


def _list(session: Session, scenarios: Sequence[Scenario]) -> int:
    from duckservice.cli.output import cell, table

    if session.options.json:
        session.out.json([{"name": its.name, "title": its.title} for its in scenarios])
        return OK
    rows = table("scenario", "what happens")
    for its in scenarios:
        rows.add_row(cell(its.name), cell(its.title))
    session.out.show(rows)
    return OK


def _rehearsal(session: Session) -> Rehearsal:
    from duckservice.chaos.rehearsal import rehearse
    from duckservice.chaos.stand_ins import load
    from duckservice.config import ConfigError

    place = session.config_path()
    found = place is not None and (place.explicit or place.path.exists())
    try:
        config = load(place.path if place and found else None, session.environ)
    except ConfigError as error:
        raise Exit(f"the configuration is refused\n{error}", BAD_CONFIG) from error
    return rehearse(config)


def _reaches(rehearsal: Rehearsal, model: str | None) -> Sequence[Reach]:
    from duckservice.chaos.reach import reach_of, reaches

    try:
        if model is None:
            found = reaches(rehearsal.config)
        else:
            found = (reach_of(model, rehearsal.config),)
    except ValueError as error:
        raise Exit(f"a provider cannot be made: {error}", BAD_CONFIG) from error
    if not found or not found[0].providers:
        raise Exit(f"no provider serves {model or 'any model'}", USAGE)
    return found


def _about(rehearsal: Rehearsal, reaches: Sequence[Reach], scenarios: int) -> list[str]:
    """Return what is to be known of the run, in lines."""
    lines = [f"duck chaos: {scenarios} scenarios, each over a daemon's own socket"]
    if rehearsal.is_ours:
        lines.append("no config names a provider: two of ours are tried")
    tried = reaches[:_REACHES_MAX]
    lines += [f"model {its.model}: {', '.join(its.providers)}" for its in tried]
    covered = {name for each in tried for name in each.providers}
    if others := [name for name in rehearsal.config.providers if name not in covered]:
        lines.append(f"not covered: {', '.join(others)}; try others with --model")
    if left_out := rehearsal.left_out:
        lines.append(f"not covered: {', '.join(left_out)}, asked without a network")
    lines.append(rehearsal.times)
    lines.append(
        "limits, budgets and the cache are off; every key is a stand-in, and"
        " nothing leaves this machine"
    )
    return lines


def _results(
    session: Session,
    rehearsal: Rehearsal,
    reaches: Sequence[Reach],
    scenarios: Sequence[Scenario],
) -> list[Result]:
    # Here: no other command needs trio and the service.
    import trio

    from duckservice import log
    from duckservice.chaos.bench import Bench
    from duckservice.config import LogConfig

    total = len(reaches) * len(scenarios)
    # The faults are the show; the log would tell each of them once more.
    with open(os.devnull, "w") as nowhere, _Progress(session, total) as progress:
        log.setup(LogConfig(), nowhere)
        bench = Bench(rehearsal, reaches, scenarios, progress.step)
        try:
            return trio.run(bench.run)
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


class _Progress:
    """A line on a terminal that says how far it is; nothing elsewhere."""

    def __init__(self, session: Session, total: int) -> None:
        self._total = total
        self._done = 0
        self._update: Callable[[str], object] = lambda _: None
        self._stop: Callable[[], object] = lambda: None
        if session.out.on_terminal and not session.options.json:
            status = session.out.console().status("")
            status.start()
            self._update, self._stop = status.update, status.stop

    def __enter__(self) -> Self:
        self._update(f"0/{self._total}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def step(self, result: Result) -> None:
        """Take note of a result."""
        self._done += 1
        self._update(f"{self._done}/{self._total} {result.scenario.title}")


def _show(session: Session, told: Sequence[str], results: Sequence[Result]) -> int:
    from duckservice.chaos.result import tally

    counts = tally(results)
    if session.options.json:
        session.out.json(
            {
                "about": list(told),
                "results": [result.as_json() for result in results],
                **counts,
                "total": len(results),
            }
        )
    else:
        session.out.show(_table(results))
        session.out.data("")
        words = ", ".join(f"{name} {number}" for name, number in counts.items())
        session.out.data(f"{words} of {len(results)}")
    return FAILED if counts["failed"] else OK


def _table(results: Sequence[Result]) -> Any:
    from duckservice.cli.output import cell, table

    several = len({result.model for result in results}) > 1
    columns = ["scenario", "what happens", "verdict", "calls", "took", "why"]
    rows = table(
        *(["model"] if several else []), *columns, numbers=("took",), wraps="why"
    )
    for result in results:
        outcome = result.verdict.outcome
        runs = result.runs.values()
        rows.add_row(
            *([cell(result.model)] if several else []),
            cell(result.scenario.name),
            cell(result.scenario.title),
            cell(outcome, _STYLES[outcome]),
            cell("+".join(str(run.calls) for run in runs)),
            cell(f"{max(run.took for run in runs):.1f}s"),
            cell(_why(result)),
        )
    return rows


def _why(result: Result) -> str:
    """Say what decided; of forms that ended differently, how each did."""
    outcomes = {run.verdict.outcome for run in result.runs.values()}
    if len(outcomes) == 1:
        return result.verdict.reason
    return "; ".join(
        f"{form}: {_short(run.verdict.outcome, run.verdict.reason)}"
        for form, run in result.runs.items()
    )


def _short(outcome: str, reason: str) -> str:
    return outcome if outcome == "rescued" else reason
