"""The names that traces and metrics use: OpenTelemetry's for generative AI, and ours.

They are written down here, and taken from no package: the conventions are still in
development, have moved house, and a collector's dashboards should not break with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duckservice.config import AdapterName

SCOPE: Final = "duckservice"
"""The instrumentation scope."""
SERVICE: Final = "duckd"
"""The service's name, where neither config nor environment give one."""

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - the name of an attribute
ERROR: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"
ADDRESS: Final = "server.address"
PORT: Final = "server.port"

DURATION_METRIC: Final = "gen_ai.client.operation.duration"
TOKENS_METRIC: Final = "gen_ai.client.token.usage"
FIRST_CHUNK_METRIC: Final = "gen_ai.client.operation.time_to_first_chunk"
PER_CHUNK_METRIC: Final = "gen_ai.client.operation.time_per_output_chunk"

SECONDS_BOUNDS: Final = tuple(0.01 * 2**n for n in range(14))
"""10 ms to 82 s."""
TOKENS_BOUNDS: Final = tuple(float(4**n) for n in range(14))
"""1 to 67,108,864."""

PROVIDER_NAMES: Final[Mapping[AdapterName, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "azure": "azure.ai.openai",
    "vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "groq": "groq",
    "cohere": "cohere",
    "mistral": "mistral_ai",
    "deepseek": "deepseek",
    "xai": "x_ai",
}
"""What the conventions call them; the others are called as their adapters are."""
