"""Recorded answers are understood as the providers' own SDKs understood them.

`tests.replay` does it; here it must find nothing, and must be able to find something.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys

import attrs
import pytest
import trio

from duckservice.completion import Finished
from duckservice.errors import BadProviderResponse, DuckError
from duckservice.providers.anthropic import AnthropicDialect
from duckservice.providers.failures import Classifier
from tests.recordings import FOLDER, Record, load, needs_recordings, response_parts
from tests.replay import Replayer, Verdict, replay
from tests.replaying import bodies
from tests.replaying.asking import asked
from tests.replaying.setting import setting_of
from tests.replaying.upstream import open_stage

pytestmark = needs_recordings

#: How many exchanges of each must pass, so that none cannot pass for all.
LEAST = {
    "anthropic": 243,
    "azure": 75,
    "bedrock": 115,
    "cohere": 70,
    "deepseek": 115,
    "gemini": 215,
    "groq": 53,
    "huggingface": 24,
    "llamacpp": 72,
    "mistral": 130,
    "ollama": 87,
    "openai": 425,
    "openai_compat": 67,
    "openrouter": 223,
    "together": 9,
    "vertex": 90,
    "xai": 72,
}

BYTEWISE_MAX = 200_000 if os.environ.get("DUCK_LONG") else 6_000
"""Larger bodies are not served byte by byte."""


def understood(records, chunk: int = 0) -> list[Verdict]:
    verdicts: list[Verdict] = []
    trio.run(replay, records, verdicts.append, chunk)
    return verdicts


def differing(verdicts: list[Verdict]) -> list[str]:
    return [
        f"{verdict.record!r}: {difference}"
        for verdict in verdicts
        for difference in verdict.differences
    ]


@pytest.mark.parametrize("provider", LEAST)
def test_every_recorded_answer_is_understood_as_by_the_providers_own_sdk(provider):
    verdicts = understood(load(provider))
    assert differing(verdicts) == []
    assert len([v for v in verdicts if not v.skipped]) >= LEAST[provider]


@pytest.mark.slow
@pytest.mark.parametrize("provider", LEAST)
def test_any_way_to_cut_the_bytes_is_understood_alike(provider):
    streams = [record for record in load(provider) if record.streaming]
    small = [r for r in streams if len(response_parts(r)[2]) <= BYTEWISE_MAX]
    assert differing(understood(streams, chunk=7)) == []
    assert differing(understood(small, chunk=1)) == []


@pytest.mark.parametrize("provider", LEAST)
async def test_a_recorded_stream_cut_short_is_never_taken_for_complete(provider):
    chance, judged = random.Random(0), 0
    async with open_stage() as stage:
        replayer = Replayer(stage)
        for record in load(provider):
            setting = setting_of(record)
            if isinstance(setting, str) or not record.streaming:
                continue
            if not record.expected["ok"]:
                continue
            dialect = replayer._provider(record.provider, setting).dialect  # type: ignore[attr-defined]
            body = response_parts(record)[2]
            for _ in range(3):
                judge_the_start(dialect, body[: chance.randrange(len(body))], record)
                judged += 1
        await replayer.aclose()
    assert judged >= 3


def judge_the_start(dialect, start: bytes, record: Record) -> None:
    """Feed the beginning of a stream: it is complete with its last words, or not at all."""
    stream = dialect.open_stream()
    chunks = []
    try:
        chunks += stream.feed(start)
        chunks += stream.close()
    except BadProviderResponse:
        return
    except DuckError as error:
        raise AssertionError(record) from error
    finished = {c.choice for c in chunks if isinstance(c, Finished)}
    spoken = {c.choice for c in chunks if hasattr(c, "choice")}
    assert finished, record
    assert spoken <= finished, record


def test_the_requests_of_openais_and_anthropics_clients_go_on_as_they_came():
    least = {"openai": 165, "anthropic": 195, "mistral": 60, "openrouter": 100}
    for provider, count in least.items():
        verdicts = understood(load(provider))
        assert len([v for v in verdicts if v.request == "same"]) >= count, provider


def test_an_answer_ends_with_its_end_whatever_comes_behind_it():
    ends = []
    for record in load("anthropic"):
        text = record.response.get("body_text", "")
        if record.id == "22b6736ba4" or text.count("event: message_start") < 2:
            continue
        errors = Classifier("anthropic")
        stream = AnthropicDialect(provider="anthropic", errors=errors).open_stream()
        chunks = [*stream.feed(text.encode()), *stream.close()]
        ends += [c.native_reason for c in chunks if isinstance(c, Finished)]
    assert ends == ["tool_use"] * 3


def test_a_difference_is_found():
    record = next(r for r in load("openai") if r.operation == "chat")
    [verdict] = understood([record])
    assert verdict.differences == ()
    for wrong in (
        {"choices": [{"text": "something else", "finish_reason": "stop"}]},
        {"choices": []},
        {"usage": {"input_tokens": 1, "output_tokens": 1}},
        {"ok": False, "error": {"exception": "BadRequestError"}},
    ):
        spoilt = attrs.evolve(record, expected={**record.expected, **wrong})
        [verdict] = understood([spoilt])
        assert verdict.differences, wrong
    other = {**record.request, "body": {**record.request["body"], "seed": 4711}}
    assert asked(attrs.evolve(record, request=other)).request.seed == 4711
    sent = record.request["body"]
    assert bodies.differences(sent, {**sent, "seed": 1}) == ["seed is not sent"]


def test_the_program_says_what_differs_and_counts_it(tmp_path):
    file = FOLDER / "together.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        fields = [json.loads(line) for line in lines]
    spoilt = next(f for f in fields if f.get("expected", {}).get("choices"))
    spoilt["expected"]["choices"][0]["text"] = "something else"
    with gzip.open(tmp_path / "together.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(f) + "\n" for f in fields)
    good, bad = (
        subprocess.run(
            [sys.executable, "-m", "tests.replay", *options],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for options in (
            (str(FOLDER), "--provider", "together"),
            (str(tmp_path), "--chunk", "7"),
        )
    )
    assert good.returncode == 0, good.stdout + good.stderr
    assert re.fullmatch(r"\d+ passed, 0 failed, 1 skipped", last_line(good.stdout))
    assert bad.returncode == 1
    assert re.fullmatch(r"\d+ passed, 1 failed, 1 skipped", last_line(bad.stdout))
    assert f"{spoilt['id']}: text: " in bad.stdout


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
