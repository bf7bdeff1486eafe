"""`duck chaos`: your own config against providers that fail in every known way.

The bench itself is `duckservice.chaos`; this shows what it finds.
"""

from __future__ import annotations

import argparse
import os
import signal
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

_CALLS: Final = (
    "calls: at providers; of the whole answer + of the stream; under load, of all"
)
_NOT_ALL: Final = " that were done; interrupted before the others"

_NAMES_MAX: Final = 20
"""Models that are named where one is asked for that nobody serves."""

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
    results: list[Result] = []
    try:
        _run(session, rehearsal, reaches[:_REACHES_MAX], scenarios, results)
    except KeyboardInterrupt:
        if results:
            _show(session, told, results, interrupted=True)
        raise
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
        raise Exit(_not_served(rehearsal, model), USAGE)
    return found


def _not_served(rehearsal: Rehearsal, model: str | None) -> str:
    from duckservice.chaos.reach import names_of
    from duckservice.config_toml.refused import did_you_mean

    if model is None:
        return "no provider serves any model"
    names = names_of(rehearsal.config)
    hint = did_you_mean(model, names)
    more = len(names) - _NAMES_MAX
    shown = ", ".join(names[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
    return f"no provider serves {model}; {hint + ' ' if hint else ''}there are: {shown}"


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


def _run(
    session: Session,
    rehearsal: Rehearsal,
    reaches: Sequence[Reach],
    scenarios: Sequence[Scenario],
    results: list[Result],
) -> None:
    """Fill *results*, in their order; if it is interrupted, with those that there are."""
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

        async def stop_at_ctrl_c(all_of_it: trio.CancelScope) -> None:
            # Else it may be raised in the midst of the daemon, which runs here too:
            # it would be restarted, and the scenario told to have failed.
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                async for _ in signals:
                    all_of_it.cancel(reason="interrupted")

        async def run() -> list[Result]:
            found: list[Result] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_at_ctrl_c, nursery.cancel_scope)
                found += await bench.run()
                nursery.cancel_scope.cancel(reason="all is done")
            if not found:
                raise KeyboardInterrupt
            return found

        try:
            results += trio.run(run)
        except KeyboardInterrupt:
            results += _in_order(progress.results, reaches, scenarios)
            raise
        except BaseExceptionGroup as group:
            results += _in_order(progress.results, reaches, scenarios)
            if group.subgroup(KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def _in_order(
    results: Sequence[Result], reaches: Sequence[Reach], scenarios: Sequence[Scenario]
) -> list[Result]:
    rows = [(reach.model, its.name) for reach in reaches for its in scenarios]
    return sorted(results, key=lambda its: rows.index((its.model, its.scenario.name)))


class _Progress:
    """Says how far it is: in one line, or, on stderr, in one for each result."""

    def __init__(self, session: Session, total: int) -> None:
        self.results: list[Result] = []
        """As they came."""
        self._total = total
        self._update: Callable[[str], object] = lambda _: None
        self._stop: Callable[[], object] = lambda: None
        if session.options.json:
            return
        if session.out.on_terminal:
            status = session.out.console().status("")
            status.start()
            self._update, self._stop = status.update, status.stop
        elif session.out.shows_progress:
            self._update = session.out.note

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def step(self, result: Result) -> None:
        """Take note of a result."""
        self.results.append(result)
        so_far = f"{len(self.results)}/{self._total}"
        outcome = result.verdict.outcome
        self._update(f"{so_far} {result.scenario.name}: {outcome}")


def _show(
    session: Session,
    told: Sequence[str],
    results: Sequence[Result],
    *,
    interrupted: bool = False,
) -> int:
    from duckservice.chaos.result import tally

    counts = tally(results)
    if session.options.json:
        session.out.json(
            {
                "about": list(told),
                "results": [result.as_json() for result in results],
                **counts,
                "total": len(results),
                **({"interrupted": True} if interrupted else {}),
            }
        )
    else:
        session.out.show(_table(results, session.out.console().width))
        session.out.data("")
        session.out.data(_CALLS)
        words = ", ".join(f"{name} {number}" for name, number in counts.items())
        session.out.data(f"{words} of {len(results)}{_NOT_ALL if interrupted else ''}")
    return FAILED if counts["failed"] else OK


def _table(results: Sequence[Result], width: int) -> Any:
    from duckservice.cli.narrow import fitted_table
    from duckservice.cli.output import cell

    several = len({result.model for result in results}) > 1
    columns = ["scenario", "what happens", "verdict", "calls", "took", "why"]
    rows = list[list[Any]]()
    for result in results:
        outcome = result.verdict.outcome
        runs = result.runs.values()
        rows.append(
            [
                *([cell(result.model)] if several else []),
                cell(result.scenario.name),
                cell(result.scenario.title),
                cell(outcome, _STYLES[outcome]),
                cell("+".join(str(run.calls) for run in runs)),
                cell(f"{max(run.took for run in runs):.1f}s"),
                cell(_why(result)),
            ]
        )
    return fitted_table(
        [*(["model"] if several else []), *columns],
        rows,
        width,
        dispensable=("what happens",),
        whole=("scenario", "verdict", "calls", "took"),
        numbers=("took",),
        wraps="why",
    )


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
