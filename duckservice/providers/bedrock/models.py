"""What a model's id says about it: its maker, its region, what it is called elsewhere.

anthropic.claude-sonnet-4-5-20250929-v1:0         a model of one region
us.anthropic.claude-sonnet-4-5-20250929-v1:0      a profile over several regions
arn:aws:bedrock:...:inference-profile/us.anthropic.claude-...   the same, in full
arn:aws:bedrock:...:application-inference-profile/k3x9w2        says nothing
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

Family: TypeAlias = Literal[
    "claude", "nova", "nova-2", "gpt", "gpt-oss", "kimi", "cohere", "other"
]
"""Models that share the names of their own parameters."""

Embedder: TypeAlias = Literal["titan", "nova", "cohere"]

_MAKERS: Final = (
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "moonshotai",
    "nvidia",
    "openai",
    "qwen",
    "writer",
    "zai",
)
_REGIONS: Final = ("us", "eu", "apac", "global", "us-gov", "jp", "au", "ca", "in", "sa")

MODELS: Final = (
    *(f"{maker}.*" for maker in _MAKERS),
    *(f"{region}.{maker}.*" for region in _REGIONS for maker in _MAKERS),
    "arn:aws*:bedrock:*",
)

_REGION: Final = re.compile(rf"(?:{'|'.join(_REGIONS)})\.(?=(?:{'|'.join(_MAKERS)})\.)")
_CLAUDE: Final = re.compile(r"anthropic\.(claude-.+?)(?:-v[0-9]+)?(?::[0-9]+)?")
_FAMILIES: Final[tuple[tuple[str, Family], ...]] = (
    ("anthropic.claude-", "claude"),
    ("amazon.nova-2-", "nova-2"),
    ("amazon.nova-", "nova"),
    ("openai.gpt-oss-", "gpt-oss"),
    ("openai.", "gpt"),
    ("moonshot", "kimi"),
    ("cohere.command-r", "cohere"),
)
_EMBEDDERS: Final[tuple[tuple[str, Embedder], ...]] = (
    ("amazon.titan-embed-", "titan"),
    ("amazon.nova-", "nova"),
    ("cohere.embed-", "cohere"),
)


def without_region(model: str) -> str:
    """Return the model of a profile over several regions; an ARN stays one."""
    return _REGION.sub("", model, count=1) if _REGION.match(model) else model


def family_of(model: str) -> Family:
    """Return which models *model* is one of; ``other`` where its id does not say."""
    name = _name(model)
    for start, family in _FAMILIES:
        if name.startswith(start):
            return family
    return "other"


def embedder_of(model: str) -> Embedder | None:
    """Return in whose format *model* makes embeddings; None if it is not known to."""
    name = _name(model)
    return next((maker for start, maker in _EMBEDDERS if name.startswith(start)), None)


def anthropic_name(model: str) -> str:
    """Return what Anthropic calls a Claude model; empty for any other."""
    found = _CLAUDE.fullmatch(_name(model))
    return found[1] if found else ""


def _name(model: str) -> str:
    return without_region(model.rpartition("/")[2] if model[:4] == "arn:" else model)
