"""What Ollama's errors mean: ``{"error": "text"}``, with a status or in a stream.

There is no code: only the status and the text tell them apart.
"""

from __future__ import annotations

from typing import Final

from duckservice.errors import ContextLengthExceeded, ProviderError, QuotaExceeded
from duckservice.providers.failures import rule

RULES: Final = (
    # Ollama's cloud counts by the hour and by the week; neither passes soon.
    rule(
        QuotaExceeded,
        402,
        403,
        429,
        says="usage limit|requires a subscription|usage credits",
        retryable=False,
    ),
    rule(
        ContextLengthExceeded,
        400,
        500,
        says=r"exceeds? (the |maximum |available )*context|prompt (is )?too long",
    ),
    # The machine is too small for the model, and stays so.
    rule(ProviderError, 500, says="more system memory", retryable=False),
)
"""What Ollama's own words mean."""
