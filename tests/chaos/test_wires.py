"""Every adapter understands the upstream that stands in for its provider."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.chaos import faults
from duckservice.chaos.rehearsal import rehearse
from duckservice.chaos.scenarios import SCENARIOS, Scenario
from duckservice.chaos.single import run_single
from duckservice.config import Config, ProviderConfig

HEALTHY = Scenario(name="healthy", title="all is well")

ADAPTERS = (
    "openai",
    "anthropic",
    "gemini",
    "azure",
    "vertex",
    "bedrock",
    "groq",
    "openrouter",
    "cohere",
    "mistral",
    "deepseek",
    "xai",
    "together",
    "huggingface",
    "ollama",
    "openai-compatible",
)
MORE = {
    "azure": {"base_url": "https://name.openai.azure.com"},
    "vertex": {"project": "p"},
    "bedrock": {"region": "eu-central-1"},
    "openai-compatible": {"base_url": "http://192.0.2.1/v1"},
}


def rehearsed(adapter, **more):
    fields = {"name": "only", "adapter": adapter, "models": ("model-1", "claude-1")}
    its = ProviderConfig(**{**fields, **MORE.get(adapter, {}), **more})
    return rehearse(Config(providers={"only": its}))


async def run(scenario, rehearsal, folder, *, stream, model="model-1"):
    with trio.fail_after(20):
        return await run_single(scenario, rehearsal, model, folder, stream=stream)


def test_every_adapter_with_a_network_is_here():
    names = attrs.fields_dict(ProviderConfig)["adapter"].type
    assert "mock" in str(names)
    from typing import get_args

    from duckservice.config import AdapterName

    assert set(ADAPTERS) == set(get_args(AdapterName)) - {"mock"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_healthy_upstream_is_understood(quiet, tmp_path, adapter, stream):
    found = await run(HEALTHY, rehearsed(adapter), tmp_path, stream=stream)
    assert found.verdict.outcome == "rescued", found.verdict
    assert found.calls == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("adapter", "more", "model"),
    [
        ("openai", {"api": "responses"}, "model-1"),
        ("vertex", {}, "claude-1"),
        ("ollama", {"base_url": "http://127.0.0.1:11434/v1"}, "model-1"),
        ("azure", {"api_version": "2024-10-21"}, "model-1"),
    ],
    ids=["responses", "claude-at-vertex", "ollama-as-openai", "old-azure"],
)
async def test_so_is_each_other_format(quiet, tmp_path, adapter, more, model, stream):
    rehearsal = rehearsed(adapter, **more)
    found = await run(HEALTHY, rehearsal, tmp_path, stream=stream, model=model)
    assert found.verdict.outcome == "rescued", found.verdict


NAMED = [its for its in SCENARIOS if its.name in ("429-quota", "wrong-key", "context", "filter")]  # fmt: skip


@pytest.mark.parametrize("scenario", NAMED, ids=lambda its: its.name)
@pytest.mark.parametrize(
    "adapter", ["openai", "anthropic", "gemini", "cohere", "ollama", "bedrock"]
)
async def test_a_refusal_in_a_formats_own_words_gets_its_right_name(
    quiet, tmp_path, adapter, scenario
):
    found = await run(scenario, rehearsed(adapter), tmp_path, stream=False)
    assert found.verdict.outcome == "safe", found.verdict


def test_a_faults_half_is_never_a_whole_answer():
    from duckservice.chaos.faults import Asked, healthy
    from duckservice.chaos.wires import wire_of

    for target in ("/v1/chat/completions", "/v1/messages", "/v2/chat", "/api/chat"):
        for is_stream in (False, True):
            asked = Asked(
                wire=wire_of(target), words=["a ", "b ", "c "], is_stream=is_stream
            )
            right = b"".join(healthy(asked))
            for fault in (faults.stall, faults.cut_by_reset, faults.cut_in_order):
                sent = b"".join(a for a in fault(asked) if isinstance(a, bytes))
                assert b"c " not in sent or not is_stream
                assert len(sent) < len(right)
