"""How `duck demo` looks: live on a terminal; elsewhere the summary says it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from duckservice.cli.output import Output, cell, table
from duckservice.cli.session import Session
from duckservice.cli.status import providers_table
from duckservice.cli.text import count, money, plural
from duckservice.cli.tree import picture as tree_picture

if TYPE_CHECKING:
    from duckservice.cli.demo_stage import Picture, Tally

_TITLE = (
    "duck demo: three mock providers, one of them failing; actors crash all the time"
)
_LINE_EVERY = 8
"""Looks a printed line."""


def picture_for(session: Session) -> Picture:
    """Return what fits where stdout goes, and stderr."""
    out = session.out
    if session.options.json:
        return _Nothing()
    if out.on_terminal:
        return _LivePicture(out)
    return _Lines(out) if out.shows_progress else _Nothing()


def summary(tally: Tally) -> RenderableType:
    """Return how it ended."""
    rows = table("", "")
    rows.show_header = False
    by_priority = ", ".join(f"{n} {p}" for p, n in sorted(tally.by_priority.items()))
    by_provider = ", ".join(f"{n} {p}" for p, n in sorted(tally.by_provider.items()))
    restarts = sum(tally.restarts.values())
    for name, text, style in (
        ("submitted", count(tally.submitted), ""),
        ("completed", f"{count(tally.completed)} ({by_priority})", ""),
        ("lost", count(tally.lost), "bold red" if tally.lost else "bold green"),
        ("answered by", by_provider, ""),
        ("failovers", count(tally.failovers), ""),
        ("asked again", count(tally.asked_again), ""),
        ("crashes", count(tally.crashes), ""),
        ("restarts", count(restarts), ""),
        *(("", f"{n} {path}", "dim") for path, n in sorted(tally.restarts.items())),
        ("spend", f"{money(tally.spend)} (play money)", ""),
        ("took", f"{tally.seconds:.1f} s", ""),
    ):
        rows.add_row(cell(name, "bold"), cell(text, style))
    return rows


@final
class _LivePicture:
    """Draws the state over itself."""

    def __init__(self, out: Output) -> None:
        self._live = Live(console=out.console(), auto_refresh=False, transient=True)
        self._live.start()

    def show(
        self, tally: Tally, total: int, status: dict[str, Any], tree: dict[str, Any]
    ) -> None:
        """Draw the present state."""
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=total, completed=tally.completed, width=40),
            Text(f"{tally.completed}/{total}", style="bold"),
            Text(_facts(tally)),
        )
        parts = (
            Text(_TITLE, style="bold"), "", bar, "",
            providers_table(status["providers"], {}), "", tree_picture(tree),
        )  # fmt: skip
        self._live.update(Group(*parts), refresh=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()


@final
class _Lines:
    """Writes a line now and then to stderr, where only that is a terminal."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._looks = 0
        out.note(_TITLE)

    def show(
        self,
        tally: Tally,
        total: int,
        status: dict[str, Any],
        tree: dict[str, Any],  # noqa: ARG002 - drawn on a terminal only
    ) -> None:
        """Write how far it is."""
        self._looks += 1
        if self._looks % _LINE_EVERY:
            return
        running = sum(p["in_flight"] for p in status["providers"].values())
        state = f"{status['queue']['waiting']} waiting, {running} at a provider"
        self._out.note(f"{so_far(tally, total)}, {state}")

    def close(self) -> None:
        """Nothing is open."""


@final
class _Nothing:
    """Leaves it to the summary."""

    def show(self, *_: object) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is open."""


def so_far(tally: Tally, total: int) -> str:
    """Return how far it is, in a line."""
    return f"{tally.completed}/{total} answered, {_facts(tally)}"


def _facts(tally: Tally) -> str:
    failovers = plural(tally.failovers, "failover")
    return f"{plural(tally.crashes, 'actor')} crashed, {failovers}, {tally.lost} lost"
