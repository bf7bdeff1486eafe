"""Anthropic's SDK and our Anthropic adapter send requests that mean the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from duckservice.errors import InvalidRequest
from tests.e2e.makers import ANTHROPIC
from tests.sdks.meaning import differences
from tests.sdks.sending import KEY, Sent, sent_by_sdk, sent_by_us
from tests.sdks.talks import TALKS, sayable

anthropic = pytest.importorskip("anthropic", reason="anthropic is not installed")

pytestmark = pytest.mark.slow

MODEL = "claude-haiku-4-5"

NO_WORDS = ("penalties",)
"""Anthropic has neither a seed nor penalties."""


def using(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with the SDK's client of an upstream."""

    def at(url: str) -> None:
        with anthropic.Anthropic(
            api_key=KEY, base_url=url, timeout=20, max_retries=0
        ) as sdk:
            use(sdk)

    return at


def asked(name: str) -> dict[str, Any]:
    """Return what is to be said, which Anthropic's format says in these words itself."""
    said = TALKS[name].anthropic
    if name == "effort":  # as tokens, which this model takes
        said = TALKS["budget"].anthropic
    return {"model": MODEL, **(said or {})}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    for turn in body["messages"]:
        content = turn["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1]["content"] += content  # as Anthropic itself does
        else:
            turns.append({**turn, "content": content})
    return {**body, "messages": turns}


def key_in_its_own_header(sent: Sent) -> Sent:
    """Return *sent* with the key where the API's documents want it, as we have it.

    The SDK shows it as a bearer's since its version 2, and names a later version of
    the API, of which nothing is recorded.
    """
    assert sent.key in ((("authorization", "Bearer KEY"),), (("x-api-key", "KEY"),))
    return attrs.evolve(sent, key=(("x-api-key", "KEY"),))


@pytest.mark.parametrize(("name", "form"), sayable(*NO_WORDS))
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(ANTHROPIC, request, ANTHROPIC.text)
    native = asked(name)
    # Gone from the SDK's arguments, not from its API.
    extra = {key: native.pop(key) for key in ("temperature", "top_p") if key in native}
    theirs = await sent_by_sdk(
        ANTHROPIC.text,
        using(lambda sdk: sdk.messages.create(**native, extra_body=extra)),
    )
    assert not differences(ours, key_in_its_own_header(theirs), normal)
    assert ours.request.header("anthropic-version") == "2023-06-01"


async def test_what_the_sdk_has_no_words_for_is_refused_by_name():
    request = TALKS["penalties"].request("openai", MODEL)
    with pytest.raises(ExceptionGroup) as raised:
        await sent_by_us(ANTHROPIC, request, ANTHROPIC.text)
    assert raised.group_contains(InvalidRequest, match="seed")


async def test_a_request_for_a_stream_is_what_the_sdk_sends():
    request = TALKS["greeting"].request("openai", MODEL)
    ours = await sent_by_us(ANTHROPIC, request, ANTHROPIC.text_stream, stream=True)
    theirs = await sent_by_sdk(
        ANTHROPIC.text_stream,
        using(lambda sdk: list(sdk.messages.create(**asked("greeting"), stream=True))),
    )
    assert not differences(ours, key_in_its_own_header(theirs), normal)
