"""docs/configuration.md says what the code reads, and says it of every key."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from duckservice.config import Config
from tests import config_meanings, config_pages


def rows() -> list[list[str]]:
    cells = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in lines("| `")]
    assert all(len(row) == 4 for row in cells)
    return cells


def lines(start: str) -> list[str]:
    text = config_pages.tables()
    return [line for line in text.splitlines() if line.startswith(start)]


def keys(cls: Any = Config, path: str = "") -> list[str]:
    """Return the paths of all keys, in the page's words."""
    found: list[str] = []
    for field in config_pages._fields(cls):
        kind = config_pages._kind(cls, field.name)
        if str(kind).startswith("collections.abc.Mapping"):
            inner = kind.__args__[1]
            kind = inner if attrs.has(inner) else kind
        where = f"{path}{field.name}"
        found += [where] if path else []
        if attrs.has(kind):
            found += keys(kind, f"{where}.")
    return found


def test_the_page_is_up_to_date() -> None:
    text = config_pages.PAGE.read_text()
    assert config_pages.page(text) == text, "run: python -m tests.config_pages"


def test_every_key_has_a_row() -> None:
    assert len(rows()) == len(keys()) > 90


def test_every_row_says_what_its_key_means() -> None:
    assert [row for row in rows() if not row[3].strip()] == []


def test_nothing_is_said_of_keys_that_are_not_there() -> None:
    assert set(config_meanings.MORE) - set(keys()) == set()
    headings = {line.strip("#[] ").removesuffix(".NAME") for line in lines("#")}
    assert (set(config_pages.SEE) | set(config_pages.ABOUT)) - headings == set()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("queue.aging", "a waiting request rises one priority level per this long"),
        ("log.level", "debug, info, warning or error"),
        ("providers.model_map", "alias -> the provider's own model id; default: none"),
        ("routing.sticky", "default: none"),
    ],
)
def test_comments_are_read_whole(key: str, text: str) -> None:
    assert config_meanings.comments()[key].endswith(text)
