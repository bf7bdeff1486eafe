"""What stands in for another model, and can never do so, is warned about."""

from __future__ import annotations

import pytest

from duckservice.config import parse

PROVIDERS = """
[providers.a]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:1/v1"
models = ["gpt-4o", "claude-*"]
model_map = { "fast" = "gpt-4o" }
"""
ANY = """
[providers.openai]
api_key = "env:KEY"
"""


def warnings(routing: str, providers: str = PROVIDERS) -> tuple[str, ...]:
    text = f"{providers}\n[routing]\n{routing}"
    return parse(text, file="f", environ={"KEY": "sk-" + "x" * 40}).warnings


@pytest.mark.parametrize("key", ["fallbacks", "context_fallbacks", "content_fallbacks"])
def test_a_stand_in_that_nobody_serves_is_warned_about(key):
    (told,) = warnings(f'{key} = {{ "gpt-4o" = ["calude-3", "claude-3", "fast"] }}')
    assert told == f'routing.{key}."gpt-4o": no provider serves "calude-3"'


def test_a_stand_in_for_itself_and_an_empty_list_are_warned_about():
    (itself,) = warnings('fallbacks = { "gpt-4o" = ["gpt-4o"] }')
    assert itself.endswith("names itself, which has no effect")
    (empty,) = warnings('fallbacks = { "gpt-4o" = [] }')
    assert empty.endswith("is empty: nothing stands in")


def test_nothing_is_said_where_a_provider_lists_no_models():
    assert not warnings('fallbacks = { "gpt-4o" = ["calude-3"] }', ANY)
