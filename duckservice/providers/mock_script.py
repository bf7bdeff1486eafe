"""What the mock provider is told to do, as values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs
from attrs.validators import and_, ge, le, optional

from duckservice.completion import FinishReason, ToolCall
from duckservice.errors import DuckError

_NO_ERRORS: Mapping[int, DuckError] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class MockReply:
    """One reply. Its tool calls are made only to a request that offers tools."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    """None: what follows from the rest."""


@attrs.frozen(kw_only=True)
class MockScript:
    """How the mock provider behaves. Calls are completions, streams and embeddings."""

    replies: tuple[MockReply, ...] = ()
    """Given in turn; afterwards, and by default, the last user text is echoed."""
    latency: float = attrs.field(default=0.0, validator=ge(0))
    """Seconds before anything is answered, an error included."""
    chunk_interval: float = attrs.field(default=0.0, validator=ge(0))
    """Seconds before each word of a stream but the first."""
    failure_rate: float = attrs.field(default=0.0, validator=and_(ge(0), le(1)))
    """Which share of the calls fails, by the provider's `random`."""
    errors: Mapping[int, DuckError] = _NO_ERRORS
    """What the calls of these numbers raise; the first call is number 1."""
    cut_after: int | None = attrs.field(default=None, validator=optional(ge(0)))
    """After how many words a stream breaks off."""
    call_tools: bool = False
    """Whether to call the first tool that a request offers, without arguments."""


MODEL_SCRIPTS: Final[Mapping[str, MockScript]] = MappingProxyType(
    {
        "mock-echo": MockScript(),
        "mock-slow": MockScript(latency=2.0, chunk_interval=0.1),
        "mock-fail": MockScript(failure_rate=1.0),
        "mock-flaky": MockScript(failure_rate=0.5),
        "mock-cut": MockScript(cut_after=3),
        "mock-tools": MockScript(call_tools=True),
    }
)
"""Models that behave by their own script, for those who have only a config file.

``model_map = { "gpt-4o" = "mock-slow" }`` gives any model such a behaviour.
"""
