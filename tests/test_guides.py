"""The guides are true: their examples run, their picture is the tree, the map has all pages."""

from __future__ import annotations

import re
from typing import Any

import pytest

from duckservice.gateway.app.openapi.document import operations
from tests.openapi.tour import touring
from tests.test_docs import ROOT, python_blocks, run_block

DOCS = ROOT / "docs"
EMBEDDING = python_blocks((DOCS / "embedding.md").read_text(), "import")
SAID = [
    "Why do ducks quack?",
    "Quack!",
    "Secret('…')\n1 complaint\n64",
    "Why do ducks quack?\n1 vector\nmock 0.00000435 USD\nmock mock-echo 0.00001335 USD",
    "model_not_found 404",
    "completed 1\nQuack?\ncompleted",
    "1 1",
    "Because. second 2",
]
"""What each example of embedding.md prints."""


def test_every_example_of_embedding_is_tried() -> None:
    assert len(EMBEDDING) == len(SAID)
    assert (DOCS / "embedding.md").read_text().count("```python") == len(SAID)


@pytest.mark.parametrize(("block", "said"), list(zip(EMBEDDING, SAID, strict=False)))
async def test_an_example_of_embedding_runs(
    block: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_block(block)
    assert capsys.readouterr().out == f"{said}\n"


def drawn(text: str) -> list[tuple[int, str]]:
    """Return the parts of a tree that is drawn: how deep each is, and its name."""
    (block,) = re.findall(r"```text\n(root .*?)```", text, re.DOTALL)
    found = [re.match(r"([│├└─ ]*)([\w<>]+)", line) for line in block.splitlines()]
    return [(len(its[1]) // 4, its[2]) for its in found if its is not None]


def grown(node: dict[str, Any], depth: int = 0) -> list[tuple[int, str]]:
    """Return the same of a tree that runs; of several providers, the first."""
    name = "<name>" if node["path"].startswith("providers/") and depth == 2 else ""
    below = node.get("children", [])
    below = below[:1] if node["path"] == "providers" else below
    inside = [part for child in below for part in grown(child, depth + 1)]
    return [(depth, name or node["name"]), *inside]


async def test_the_tree_in_how_it_works_is_the_one_that_runs() -> None:
    async with touring() as tour:
        tree = (await tour.get("/v1/tree")).json()
    assert drawn((DOCS / "how-it-works.md").read_text()) == grown(tree)


def test_the_map_has_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", (DOCS / "README.md").read_text()))
    assert {path.name for path in DOCS.glob("*.md")} - linked == {"README.md"}


def test_the_page_of_the_http_api_names_every_path() -> None:
    text = (DOCS / "http.md").read_text().replace("\\", "")
    text = re.sub(r"\[/content\]|\[/cancel\]", "", text)
    for its in operations():
        head, _, last = its.path.rpartition("/")
        word = r"\w+" if last.startswith("{") else rf"\b{re.escape(last)}\b"
        together = rf"{re.escape(head)}/\{{[\w|]*{word}"
        assert its.path in text or re.search(together, text), its.path
