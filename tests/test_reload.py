"""What a config that is read again changes, and what has to wait for a restart."""

import attrs
import pytest

from duckservice.config import (
    AuthConfig,
    BudgetConfig,
    Config,
    PriceConfig,
    ProviderConfig,
    QueueConfig,
    Secret,
    TimeoutConfig,
)
from duckservice.reload import RELOADED, changes

UP = ProviderConfig(
    name="up", adapter="openai", api_key=Secret("a"), base_url="https://x"
)
OLD = Config(providers={"up": UP})


def with_up(**fields) -> Config:
    return attrs.evolve(OLD, providers={"up": attrs.evolve(UP, **fields)})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_key", Secret("b")),
        ("api_key", None),
        ("api_keys", (Secret("b"),)),
        ("auth", AuthConfig(type="entra")),
        ("headers", {"X-Team": "core"}),
        ("price", PriceConfig(input="1", output="2")),
    ],
)
def test_what_can_be_taken_over_is_in_the_config_from_then_on(key, value):
    new = with_up(**{key: value})
    found = changes(OLD, new)
    assert found.changed == (f"providers.up.{key}",)
    assert found.providers == ("up",)
    assert found.needs_restart == ()
    assert found.config == new
    again = changes(found.config, new)
    assert (again.changed, again.providers, again.needs_restart) == ((), (), ())


def test_every_other_key_of_a_provider_needs_a_restart():
    other = {
        "adapter": "groq", "api": "responses", "api_version": "2", "organization": "o",
        "project": "p", "location": "l", "region": "r", "base_url": "https://y",
        "models": ("m",), "model_map": {"a": "b"}, "priority": 9, "weight": 9,
        "max_concurrency": 9, "leave_out": ("seed",), "timeout": TimeoutConfig(total=1.0), "rate_limit": None,
        "limits": None, "key_limits": None, "breaker": None,
    }  # fmt: skip
    known = {field.name for field in attrs.fields(ProviderConfig)}
    assert known == {*other, *RELOADED, "name"}
    for key, value in other.items():
        if getattr(UP, key) == value:
            continue
        found = changes(OLD, with_up(**{key: value}))
        assert found.changed == ()
        assert found.config == OLD
        [path] = found.needs_restart
        assert path.startswith(f"providers.up.{key}")


@pytest.mark.parametrize(
    "where",
    [
        {"base_url": "https://y"},
        {"adapter": "groq"},
        {"region": "r"},
        {"location": "l"},
    ],
)
def test_the_key_of_a_new_address_is_not_for_the_old_one(where):
    found = changes(OLD, with_up(api_key=Secret("b"), **where))
    assert found.changed == ()
    assert found.config == OLD
    assert "providers.up.api_key" in found.needs_restart


def test_what_is_not_a_provider_is_named_down_to_its_key():
    new = attrs.evolve(
        OLD,
        queue=QueueConfig(max_size=5),
        budgets={"daily": BudgetConfig(limit_usd="5")},
        providers={"up": UP, "more": UP},
        warnings=("not a key",),
    )
    found = changes(OLD, new)
    assert found.needs_restart == ("queue.max_size", "budgets.daily", "providers.more")
    assert found.config == OLD
    back = changes(new, OLD)
    assert back.needs_restart == ("queue.max_size", "budgets.daily", "providers.more")
    later = attrs.evolve(new, budgets={"daily": BudgetConfig(limit_usd="6")})
    assert changes(new, later).needs_restart == ("budgets.daily.limit_usd",)


def test_no_path_holds_a_secret():
    found = changes(OLD, with_up(api_key=Secret("canary"), headers={"X": "canary"}))
    assert "canary" not in f"{found}"
