"""The tree as a frozen value, and as text."""

from __future__ import annotations

from collections.abc import Iterator

import attrs


@attrs.frozen(kw_only=True)
class ChildInfo:
    """A child, as ``which_children`` tells."""

    id: str
    state: str
    kind: str


@attrs.frozen(kw_only=True)
class ChildCount:
    """How many children a supervisor has."""

    specs: int
    active: int
    supervisors: int
    workers: int


@attrs.frozen(kw_only=True)
class Node:
    """A supervisor or a child, with all that is below it."""

    id: str
    path: str
    """Ids from the root's children down, joined with ``/``; the root's is empty."""
    kind: str
    """``supervisor``, ``dynamic`` or ``worker``."""
    state: str
    """``starting``, ``running``, ``stopping``, ``restarting`` or ``stopped``."""
    restarts: int = 0
    inbox: int = 0
    """Messages that wait."""
    last_crash: str | None = None
    """The type of the last exception; its text may hold a user's data."""
    strategy: str | None = None
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """Iterate over this node and all below it, from the top."""
        yield self
        for child in self.children:
            yield from child.walk()


def format_tree(node: Node) -> str:
    """Return the tree as indented lines, for a log or a terminal."""
    return "\n".join(_lines(node, "", ""))


def _lines(node: Node, first: str, rest: str) -> Iterator[str]:
    strategy = f" ({node.strategy})" if node.strategy else ""
    notes = [] if node.state == "running" else [node.state]
    if node.restarts:
        notes.append(f"restarts={node.restarts}")
    if node.inbox:
        notes.append(f"inbox={node.inbox}")
    if node.last_crash:
        notes.append(f"last_crash={node.last_crash}")
    yield f"{first}{node.id}{strategy}{'  ' if notes else ''}{' '.join(notes)}"
    for child in node.children:
        last = child is node.children[-1]
        yield from _lines(
            child,
            rest + ("└── " if last else "├── "),
            rest + ("    " if last else "│   "),
        )
