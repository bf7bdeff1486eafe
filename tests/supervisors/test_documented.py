"""The examples of docs/supervisors.md run, and print what the page says."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import types
from collections.abc import AsyncGenerator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

import supervisors

PAGE = (Path(__file__).parents[2] / "docs" / "supervisors.md").read_text()
EXAMPLES = [
    pytest.param(match.start(), id=f"line-{PAGE.count(chr(10), 0, match.start()) + 2}")
    for match in re.finditer("```python\n", PAGE)
]
BLOCK = re.compile(r"```python\n(.*?)```\n(?:```text\n(.*?)```)?", re.DOTALL)


def scope() -> dict[str, object]:
    """Return the names that the page says are in scope."""
    names = {
        "__name__": "page",
        "attrs": attrs,
        "trio": trio,
        "asynccontextmanager": contextlib.asynccontextmanager,
        "AsyncGenerator": AsyncGenerator,
    }
    return names | {
        name: value
        for name, value in vars(supervisors).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def definitions_before(position: int) -> str:
    """Return the classes and functions of the examples above, without what runs."""
    above = list[str]()
    for match in BLOCK.finditer(PAGE, 0, position):
        module = ast.parse(match[1], mode="exec")
        above += [
            ast.unparse(node)
            for node in module.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    return "\n".join(above)


@pytest.mark.parametrize("position", EXAMPLES)
def test_an_example_prints_what_the_page_says(
    position: int, capsys: pytest.CaptureFixture[str]
) -> None:
    match = BLOCK.match(PAGE, position)
    assert match is not None
    names = scope()
    exec(definitions_before(position), names)
    code = compile(match[1], "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:

        async def run() -> None:
            await eval(code, names)

        trio.run(run, clock=MockClock(autojump_threshold=0))
    else:
        # It has a loop of its own.
        exec(code, names)
    assert capsys.readouterr().out == (match[2] or "")


def test_every_public_name_is_on_the_page() -> None:
    public = [name for name in scope() if name in vars(supervisors)]
    missing = [name for name in public if not re.search(rf"\b{name}\b", PAGE)]
    assert missing == []
