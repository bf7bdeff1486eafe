"""The examples of the guides and of the README are right to a type checker."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.test_docs import ROOT

IMPORTS = """\
import attrs, trio, trio.testing
from contextlib import asynccontextmanager
from collections.abc import AsyncGenerator
from supervisors import *
"""
"""What the page on supervisors has in scope."""
PAGES = {
    "README.md": "",
    "docs/embedding.md": "",
    "docs/supervisors.md": IMPORTS,
}


def checkable(block: str, before: str, known: dict[str, str]) -> str:
    """Return *block*, which may wait at its top level, as a module.

    *known* is what earlier blocks have defined, and learns what this one does.
    """
    own = {
        node.name: ast.unparse(node)
        for node in ast.parse(block).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    # Only what it names: others may need variables of the block that they are of.
    words = set(re.findall(r"\w+", block)) - own.keys()
    earlier = [text for name, text in known.items() if name in words]
    known.update(own)
    body = textwrap.indent(block, "    ")
    return "\n".join([before, *earlier, "async def example() -> None:", body])


@pytest.mark.slow  # mypy reads the whole package first
def test_the_examples_have_no_mistake_that_mypy_sees(tmp_path: Path) -> None:
    files = list[Path]()
    for page, before in PAGES.items():
        blocks = re.findall(
            r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL
        )
        assert blocks, page
        known = dict[str, str]()
        for number, block in enumerate(blocks, 1):
            name = re.sub(r"\W", "_", page)
            files.append(tmp_path / f"{name}_{number}.py")
            files[-1].write_text(checkable(block, before, known if before else {}))
    command = [sys.executable, "-m", "mypy", "--check-untyped-defs", "--config-file="]
    found = subprocess.run(
        [*command, "--enable-error-code=possibly-undefined", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert found.returncode == 0, found.stdout + found.stderr
