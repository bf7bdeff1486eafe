"""config.toml as frozen values. All durations are seconds, as floats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, final

import attrs

AdapterName: TypeAlias = Literal["openai", "anthropic", "openai-compatible", "mock"]


@final
class Secret:
    """A string that never prints; ``reveal()`` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself; call this only where it leaves for its owner."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('…')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


@attrs.frozen(kw_only=True)
class AccessConfig:
    mode: int = 0o600
    group: str = ""


@attrs.frozen(kw_only=True)
class ServiceConfig:
    socket: Path | None = None
    state_dir: Path | None = None
    access: AccessConfig = attrs.field(factory=AccessConfig)
    http: str = ""
    token_file: Path | None = None
    drain_grace: float = 30.0


@attrs.frozen(kw_only=True)
class StoreConfig:
    url: str = "sqlite"


@attrs.frozen(kw_only=True)
class QueueConfig:
    max_size: int = 1000
    max_jobs: int = 1_000_000
    aging: float = 30.0


@attrs.frozen(kw_only=True)
class TimeoutConfig:
    connect: float = 5.0
    first_byte: float = 60.0
    idle: float = 30.0
    total: float = 600.0


@attrs.frozen(kw_only=True)
class RateLimitConfig:
    capacity: int
    refill_rate: float


@attrs.frozen(kw_only=True)
class LimitsConfig:
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@attrs.frozen(kw_only=True)
class BreakerConfig:
    failure_threshold: int = 5
    reset_timeout: float = 60.0
    success_threshold: int = 3
    half_open_max: int = 1


@attrs.frozen(kw_only=True)
class PriceConfig:
    """USD per million tokens, exact."""

    input: str
    output: str


@attrs.frozen(kw_only=True)
class ProviderConfig:
    name: str
    adapter: AdapterName
    api_key: Secret | None = None
    base_url: str = ""
    models: tuple[str, ...] = ()
    model_map: Mapping[str, str] = attrs.field(factory=dict[str, str])
    priority: int = 1
    weight: int = 1
    max_concurrency: int = 64
    timeout: TimeoutConfig = attrs.field(factory=TimeoutConfig)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    rate_limit: RateLimitConfig | None = None
    limits: LimitsConfig = attrs.field(factory=LimitsConfig)
    breaker: BreakerConfig = attrs.field(factory=BreakerConfig)
    price: PriceConfig | None = None


@attrs.frozen(kw_only=True)
class RetryConfig:
    max_attempts: int = 3
    base_delay: float = 1.0
    max_delay: float = 10.0
    jitter: bool = True


@attrs.frozen(kw_only=True)
class RoutingConfig:
    strategy: Literal["priority", "cheapest", "fastest", "least_busy", "weighted"] = "priority"
    fallbacks: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict[str, tuple[str, ...]])


@attrs.frozen(kw_only=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    debug_bodies: bool = False


@attrs.frozen(kw_only=True)
class Config:
    service: ServiceConfig = attrs.field(factory=ServiceConfig)
    store: StoreConfig = attrs.field(factory=StoreConfig)
    queue: QueueConfig = attrs.field(factory=QueueConfig)
    providers: Mapping[str, ProviderConfig] = attrs.field(factory=dict[str, ProviderConfig])
    retry: RetryConfig = attrs.field(factory=RetryConfig)
    routing: RoutingConfig = attrs.field(factory=RoutingConfig)
    log: LogConfig = attrs.field(factory=LogConfig)
