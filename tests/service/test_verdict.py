"""The one error that a caller gets for all attempts."""

from __future__ import annotations

import pytest

from duckservice.calls.verdict import QUOTED_MAX, verdict
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    ContextLengthExceeded,
    ModelNotFound,
    NoAvailableProvider,
    ProviderError,
    ProviderTimeout,
    RateLimited,
)

DOWN = ProviderError("a: 500: boom", provider="a")
LATE = ProviderTimeout("no answer within 1 s", provider="b")
RESTS = CircuitOpen("'a' is left alone", provider="a", retry_after=8.0)
LACKS = ModelNotFound("no such model", provider="a")


@pytest.mark.parametrize(
    ("errors", "its"),
    [
        ([DOWN], 0),
        ([DOWN, ContextLengthExceeded("too long", provider="b")], 1),
        ([DOWN, DOWN, RESTS], 1),
        ([RESTS], 0),
        ([LACKS], 0),
        ([RESTS, CircuitOpen("'b' is", provider="b", retry_after=3.0)], 1),
        ([RESTS, CircuitOpen("'b' is", provider="b")], 0),
        ([DOWN, BudgetExceeded("a budget of all")], 1),
        (
            [
                BudgetExceeded("never", provider="a", retryable=False),
                BudgetExceeded("later", provider="b", retryable=True, retry_after=9.0),
            ],
            1,
        ),
    ],
)
def test_one_error_is_told_as_it_is(errors, its):
    assert verdict(errors) is errors[its]


def test_of_several_providers_all_are_told_each_once():
    told = verdict([DOWN, LATE, DOWN])
    assert isinstance(told, NoAvailableProvider)
    assert str(told) == (
        "no provider could serve the request"
        " (a: provider_error: 500: boom; b: timeout: no answer within 1 s)"
    )


@pytest.mark.parametrize("order", [1, -1])
def test_that_one_provider_lacks_the_model_does_not_hide_that_another_may_come_back(
    order,
):
    elsewhere = CircuitOpen("'b' is left alone", provider="b", retry_after=8.0)
    told = verdict([LACKS, elsewhere][::order])
    assert isinstance(told, NoAvailableProvider)
    assert told.retryable
    assert told.retry_after == 8.0


def test_a_long_message_is_cut_and_what_quotes_a_provider_says_so():
    long = RateLimited("x" * 1000, provider="b")
    long.quotes_provider = True
    told = verdict([DOWN, long])
    assert len(str(told)) < 2 * QUOTED_MAX
    assert told.quotes_provider
    assert not verdict([DOWN, LATE]).quotes_provider
