"""What a config that is read again changes, and what has to wait for a restart."""

from pathlib import Path

import attrs

from duckservice.config import (
    AuthConfig,
    BreakerConfig,
    BudgetConfig,
    CacheConfig,
    CaFile,
    Config,
    LimitsConfig,
    LogConfig,
    PriceConfig,
    ProviderConfig,
    Proxy,
    QueueConfig,
    RateLimitConfig,
    RetryConfig,
    RoutingConfig,
    Secret,
    ServiceConfig,
    StoreConfig,
    TimeoutConfig,
)
from duckservice.reloading.changes import ASIDE, WAY, WHERE, changes

UP = ProviderConfig(
    name="up", adapter="openai", api_key=Secret("a"), base_url="https://x"
)
OLD = Config(providers={"up": UP})

OTHER = {
    "adapter": "groq", "api": "responses", "api_version": "2", "organization": "o",
    "project": "p", "location": "l", "region": "r", "base_url": "https://y",
    "models": ("m",), "model_map": {"a": "b"}, "priority": 9, "weight": 9,
    "max_concurrency": 9, "leave_out": ("seed",), "timeout": TimeoutConfig(total=1.0),
    "rate_limit": RateLimitConfig(capacity=1, refill_rate=1.0),
    "limits": LimitsConfig(requests_per_minute=1),
    "key_limits": LimitsConfig(tokens_per_minute=1),
    "breaker": BreakerConfig(failure_threshold=1),
    "api_key": Secret("b"), "api_keys": (Secret("c"),), "auth": AuthConfig(type="entra"),
    "ca_file": CaFile(path=Path("/ca.pem"), pem="new"),
    "proxy": Proxy(host="proxy", port=3128, login=Secret("me:canary")),
    "headers": {"X-Team": "core"}, "price": PriceConfig(input="1", output="2"),
}  # fmt: skip
"""Another value for each key of a provider."""


def with_up(**fields) -> Config:
    return attrs.evolve(OLD, providers={"up": attrs.evolve(UP, **fields)})


def test_each_key_of_a_provider_is_taken_over_and_named():
    assert {field.name for field in attrs.fields(ProviderConfig)} == {*OTHER, "name"}
    for key, value in OTHER.items():
        new = with_up(**{key: value})
        found = changes(OLD, new)
        [path] = found.changed
        assert path.startswith(f"providers.up.{key}")
        assert found.needs_restart == ()
        assert found.config == new
        assert found.tuned == ("up",)
        assert found.moved == (("up",) if key in WHERE else ())
        assert found.renewed == (("up",) if key not in WHERE | ASIDE else ())
        assert found.rerouted == (("up",) if key in WAY else ())
        again = changes(found.config, new)
        assert (again.changed, again.tuned, again.needs_restart) == ((), (), ())


def test_who_is_elsewhere_with_another_key_gets_new_connections():
    more = {"api_key": Secret("b"), "proxy": Proxy(host="proxy", port=3128)}
    found = changes(OLD, with_up(base_url="https://y", **more))
    assert found.moved == ("up",)
    assert (found.renewed, found.rerouted) == ((), ())


def test_what_can_be_taken_over_is_named_down_to_its_key():
    new = attrs.evolve(
        OLD,
        queue=QueueConfig(max_size=5, max_jobs=6),
        budgets={"daily": BudgetConfig(limit_usd="5")},
        providers={"up": UP, "more": UP},
        routing=RoutingConfig(strategy="cheapest", fallbacks={"a": ("b",)}),
        retry=RetryConfig(max_attempts=9),
        warnings=("not a key",),
    )
    found = changes(OLD, new)
    assert found.changed == (
        "queue.max_size",
        "queue.max_jobs",
        "providers.more",
        "retry.max_attempts",
        "routing.strategy",
        "routing.fallbacks",
        "budgets.daily",
    )
    assert (found.added, found.removed, found.tuned) == (("more",), (), ())
    assert found.new_paths == ("providers.more", "budgets.daily")
    assert found.gone_paths == ()
    assert found.needs_restart == ()
    assert found.config == new
    back = changes(new, OLD)
    assert (back.added, back.removed, back.tuned) == ((), ("more",), ())
    assert back.gone_paths == ("providers.more", "budgets.daily")
    assert back.config == OLD
    later = attrs.evolve(new, budgets={"daily": BudgetConfig(limit_usd="6")})
    assert changes(new, later).changed == ("budgets.daily.limit_usd",)


def test_what_the_daemon_was_started_with_needs_a_restart_and_is_kept():
    new = attrs.evolve(
        OLD,
        service=ServiceConfig(drain_grace=1.0),
        store=StoreConfig(url="memory"),
        cache=CacheConfig(enabled=True),
        log=LogConfig(level="debug"),
        queue=QueueConfig(aging=1.0, max_size=7),
    )
    found = changes(OLD, new)
    assert found.needs_restart == (
        "service.drain_grace",
        "store.url",
        "queue.aging",
        "cache.enabled",
        "log.level",
    )
    assert found.changed == ("queue.max_size",)
    assert found.config == attrs.evolve(OLD, queue=QueueConfig(max_size=7))


def test_no_path_holds_a_secret():
    found = changes(OLD, with_up(api_key=Secret("canary"), headers={"X": "canary"}))
    assert "canary" not in f"{found}"
