"""What the documents say is true: their examples run, their tables are complete."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from duckservice import errors

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def python_blocks(text: str, word: str) -> list[str]:
    return [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if word in b]


async def run_block(source: str) -> None:
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, {"__name__": "readme"})
    if inspect.iscoroutine(result):
        await result


async def test_the_readmes_embedding_example_runs(capsys) -> None:
    (block,) = python_blocks(README, "open_service")
    await run_block(block)
    assert capsys.readouterr().out == "Why do ducks quack?\n" + "Why do ducks quack?"


async def test_the_readmes_supervisors_example_runs(capsys) -> None:
    (block,) = python_blocks(README, "open_supervisor")
    await run_block(block)
    assert capsys.readouterr().out == "5\nroot (one_for_one)\n└── counter\n"


def test_the_readme_has_the_two_setup_commands() -> None:
    for command in (
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/duck demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ):
        assert command in README


def test_every_file_that_the_documents_link_to_exists() -> None:
    for document in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
    ]:
        # In Python, `ActorRef[Counter]("counter")` looks like a link.
        prose = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_test_that_the_promises_name_exists() -> None:
    text = (ROOT / "docs" / "promises.md").read_text()
    for path in re.findall(r"`(tests/[^`: ]+)", text):
        assert (ROOT / path).exists(), path


def all_errors(
    cls: type[errors.DuckError] = errors.DuckError,
) -> list[type[errors.DuckError]]:
    return [
        sub
        for c in cls.__subclasses__()
        if c.__module__ == errors.__name__  # other tests have errors of their own
        for sub in (c, *all_errors(c))
    ]


@pytest.mark.parametrize("cls", all_errors(), ids=lambda c: c.__name__)
def test_the_table_of_errors_is_complete(cls: type[errors.DuckError]) -> None:
    if cls in {errors.RequestError, errors.ServiceError}:
        return  # bases only; nobody raises them
    row = f"| `{cls.code}` | {cls.status} | `{cls.__name__}` |"
    assert row in (ROOT / "docs" / "errors.md").read_text()
