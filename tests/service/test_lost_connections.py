"""What is billed, or may be, when a connection is lost."""

from __future__ import annotations

import attrs
import pytest

from duckservice.config import BudgetConfig, Config, PriceConfig, RetryConfig
from duckservice.errors import ProviderError
from duckservice.running import open_running
from tests.upstream import FIN, RESET, answer, open_upstream

from .conftest import chat
from .test_timeouts import provider_config

JSON = b"content-type: application/json"


@pytest.mark.parametrize(
    ("script", "counts"),
    [
        ([RESET], True),
        ([FIN], True),
        ([answer(b"{}", JSON, status=b"500 x")], False),
        ([answer(b"{}", JSON, status=b"400 x")], False),
    ],
)
async def test_what_a_provider_may_have_worked_on_counts_in_full(script, counts):
    async with open_upstream([script]) as upstream:
        its = attrs.evolve(
            provider_config("p", upstream.base_url),
            price=PriceConfig(input="1", output="1"),
        )
        config = Config(
            providers={"p": its},
            retry=RetryConfig(max_attempts=1),
            budgets={"all": BudgetConfig(limit_usd="1", window="total")},
        )
        async with open_running(config) as service:
            with pytest.raises(Exception) as caught:  # noqa: PT011 - 400 or 502
                await service.complete(chat(model="m", max_tokens=1000))
            assert isinstance(caught.value, ProviderError) or not counts
            (budget,) = service.budgets()
            assert budget["reserved_usd"] == "0"
            # The whole reply that it was allowed, and not what was heard of it.
            assert (float(budget["spent_usd"]) > 0.001) is counts
            assert (budget["spent_usd"] == "0") is not counts
