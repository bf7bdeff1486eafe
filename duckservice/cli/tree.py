"""`duck tree`: the supervision tree, with what crashed and how often."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from duckservice.cli import styles
from duckservice.cli.exits import OK
from duckservice.cli.session import Session
from duckservice.cli.text import plural
from duckservice.terminal import escape_controls

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_CRASH_CHARS_MAX = 120


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Print the tree."""
    root = session.get("/v1/tree")
    if session.options.json:
        session.out.json(root)
    else:
        session.out.show(picture(root))
    return OK


def picture(root: Mapping[str, Any]) -> Tree:
    """Return the tree of `/v1/tree` as it is drawn."""
    from rich.tree import Tree

    tree = Tree(_label(root), guide_style="dim")
    _grow(tree, root)
    return tree


def _grow(branch: Tree, node: Mapping[str, Any]) -> None:
    for child in node.get("children", ()):
        _grow(branch.add(_label(child)), child)


def _label(node: Mapping[str, Any]) -> Text:
    from rich.text import Text

    state = node["state"]
    is_supervisor = node["kind"] != "worker"
    label = Text(escape_controls(node["name"]), style="bold" if is_supervisor else "")
    if node.get("strategy"):
        label.append(f" ({escape_controls(node['strategy'])})", "dim")
    label.append(f"  {escape_controls(state)}", styles.of(state))
    if node["inbox"]:
        label.append(f"  {plural(node['inbox'], 'message')} waiting")
    if node["restarts"]:
        label.append(f"  {plural(node['restarts'], 'restart')}", "yellow")
    if node["last_crash"]:
        crash = escape_controls(node["last_crash"])[:_CRASH_CHARS_MAX]
        label.append(f"  last crash: {crash}", "dim")
    return label
