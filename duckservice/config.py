"""config.toml as frozen values. All durations are seconds, as floats.

The values say themselves what is allowed: the markers in their annotations
(`Whole`, `Number`, `Duration`, ...) are what `duckservice.config_toml` checks a
file against, and what its complaints quote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, final

import attrs

AdapterName: TypeAlias = Literal[
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
    "mock",
]
Api: TypeAlias = Literal["chat", "responses"]
AuthType: TypeAlias = Literal["oauth2", "google", "entra", "aws"]
Option: TypeAlias = Literal[
    "n",
    "stop",
    "seed",
    "top_k",
    "top_p",
    "temperature",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
    "reasoning_effort",
    "names",
    "image_detail",
    "extra",
]
Strategy: TypeAlias = Literal[
    "priority", "cheapest", "fastest", "least_busy", "weighted"
]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "json", "console"]
Window: TypeAlias = Literal["hour", "day", "month", "total"]
BreakerScope: TypeAlias = Literal["provider", "model"]


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


_ONE_KEY: Final = {"not_a_key": True}
"""Of the fields of a value that is one key in the file, and no table."""


@final
@attrs.frozen(kw_only=True)
class Proxy:
    """An HTTP proxy, through which requests leave; ``str`` is without its login."""

    host: str = attrs.field(metadata=_ONE_KEY)
    port: int = attrs.field(metadata=_ONE_KEY)
    login: Secret | None = attrs.field(default=None, metadata=_ONE_KEY)
    """``user:password``."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret in it."""
        if self.login is None:
            return ()
        _, _, password = self.login.reveal().partition(":")
        return (self.login, Secret(password)) if password else (self.login,)


@final
@attrs.frozen(kw_only=True)
class CaFile:
    """A file of certificates that are trusted beside the usual ones, as it was read."""

    path: Path = attrs.field(metadata=_ONE_KEY)
    pem: str = attrs.field(repr=False, metadata=_ONE_KEY)


@attrs.frozen
class Whole:
    """A whole number, both bounds allowed."""

    least: int
    most: int


@attrs.frozen
class Number:
    """A finite number of more than 0."""

    most: int


@attrs.frozen
class Money:
    """An exact, finite number of US dollars, 0 or more, kept as decimal text."""


@attrs.frozen
class Duration:
    """A length of time: "500ms", "5s", "1h30m", or a number of seconds."""

    zero: bool = False
    """Whether 0 is allowed."""


@attrs.frozen
class Size:
    """A number of bytes: "512KiB", "64MiB", "1GB", or a whole number of them."""

    least: int
    most: int


@attrs.frozen
class OctalMode:
    """A file mode, written as octal text; one of these."""

    modes: tuple[int, ...]


@attrs.frozen
class Text:
    """Some text without control characters."""

    chars_max: int
    empty: bool = False
    """Whether it may be empty."""


@attrs.frozen
class AtLeastOne:
    """A list that is not empty where it is given; a default may be."""


@attrs.frozen
class HeaderName:
    """The name of an HTTP header."""


@attrs.frozen
class HeaderValue:
    """The value of an HTTP header; it may hold a secret, so it is never shown."""


@attrs.frozen
class HeaderSecret:
    """The value of an HTTP header that is a secret; there may be blanks in it."""


@attrs.frozen
class BaseUrl:
    """An http or https URL without user, query or fragment."""

    exact: bool = False
    """Whether a slash at its end belongs to it."""


Seconds: TypeAlias = Annotated[float, Duration()]
SecondsOrZero: TypeAlias = Annotated[float, Duration(zero=True)]
Dollars: TypeAlias = Annotated[str, Money()]
ModelName: TypeAlias = Annotated[str, Text(chars_max=256)]

BASE_URLS: Final[Mapping[AdapterName, str]] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "groq": "https://api.groq.com/openai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "cohere": "https://api.cohere.com",
    "mistral": "https://api.mistral.ai/v1",
    "deepseek": "https://api.deepseek.com",
    "xai": "https://api.x.ai/v1",
    "together": "https://api.together.xyz/v1",
    "huggingface": "https://router.huggingface.co/v1",
    "ollama": "http://127.0.0.1:11434",
}
"""Where an adapter's provider listens, if it is the same for all of its users."""

MOCK_MODELS: Final = ("mock-echo", "mock-*")
"""What the mock adapter serves by default; the first is what `duck ask` asks."""


def not_a_key(default: Any) -> Any:
    """Declare a field that says something about the file, and is no key in it."""
    return attrs.field(default=default, metadata={"not_a_key": True}, eq=False)


@attrs.frozen(kw_only=True)
class AccessConfig:
    """Who may connect to the socket."""

    mode: Annotated[int, OctalMode((0o600, 0o660))] = 0o600
    group: Annotated[str, Text(chars_max=64, empty=True)] = ""


@attrs.frozen(kw_only=True)
class ServiceConfig:
    """Where the daemon lives, and how it ends."""

    socket: Path | None = None
    state_dir: Path | None = None
    access: AccessConfig = attrs.field(factory=AccessConfig)
    http: Annotated[str, Text(chars_max=256, empty=True)] = ""
    token_file: Path | None = None
    drain_grace: SecondsOrZero = 30.0


@attrs.frozen(kw_only=True)
class RetentionConfig:
    """How long a job is kept once it is over, by how it ended.

    One with an idempotency key is kept for 7 days in any case.
    """

    completed: Seconds = 7 * 86400.0
    discarded: Seconds = 30 * 86400.0
    cancelled: Seconds = 7 * 86400.0
    expired: Seconds = 7 * 86400.0
    streams: Seconds = 86400.0
    """The recorded stream of a job that is over, which is kept itself."""


@attrs.frozen(kw_only=True)
class StoreConfig:
    """Where durable jobs are kept, how long, and how large they may be."""

    url: Annotated[str, Text(chars_max=4096)] = "sqlite"
    retention: RetentionConfig = attrs.field(factory=RetentionConfig)
    max_bytes: Annotated[int, Size(1 << 20, 1 << 47)] = 64 << 30
    """Of all that is kept; a store that is fuller takes no new jobs."""
    max_request: Annotated[int, Size(1 << 10, 1 << 28)] = 32 << 20
    """Of one job's request."""
    max_result: Annotated[int, Size(1 << 10, 1 << 28)] = 64 << 20
    """Of one job's result, and of its recorded stream."""


@attrs.frozen(kw_only=True)
class QueueConfig:
    """How much may wait, and for how long behind others."""

    max_size: Annotated[int, Whole(1, 1_000_000)] = 1000
    max_jobs: Annotated[int, Whole(1, 1_000_000_000)] = 1_000_000
    aging: Seconds = 30.0


@attrs.frozen(kw_only=True)
class TimeoutConfig:
    """How long a provider may take."""

    connect: Seconds = 5.0
    first_byte: Seconds = 60.0
    idle: Seconds = 30.0
    total: Seconds = 600.0
    """Of the provider's time: what a slow reader of the answer takes is not counted."""


@attrs.frozen(kw_only=True)
class RateLimitConfig:
    """A token bucket of requests."""

    capacity: Annotated[int, Whole(1, 1_000_000)]
    refill_rate: Annotated[float, Number(1_000_000)]
    """Requests a second."""


@attrs.frozen(kw_only=True)
class LimitsConfig:
    """What the provider allows in every window of 60 s; None is no limit."""

    requests_per_minute: Annotated[int, Whole(1, 1_000_000_000)] | None = None
    tokens_per_minute: Annotated[int, Whole(1, 1_000_000_000_000)] | None = None


@attrs.frozen(kw_only=True)
class BreakerConfig:
    """When a failing provider gets a rest, and how it comes back."""

    failure_threshold: Annotated[int, Whole(1, 1_000_000)] = 5
    reset_timeout: Seconds = 60.0
    success_threshold: Annotated[int, Whole(1, 1_000_000)] = 3
    half_open_max: Annotated[int, Whole(1, 1_000_000)] = 1
    failure_rate: Annotated[float, Number(1)] | None = None
    """So large a part of the requests in the window that fail opens it, too."""
    slow_call: Seconds | None = None
    """A request that has not begun to be answered by then is slow."""
    slow_rate: Annotated[float, Number(1)] = 0.5
    """So large a part of the requests in the window that are slow opens it."""
    window: Seconds = 60.0
    """What the rates are taken over."""
    min_requests: Annotated[int, Whole(1, 1_000_000)] = 20
    """With fewer requests in the window there is no rate."""
    scope: BreakerScope = "provider"
    """Whether all models of the provider are judged together, or each by itself."""


@attrs.frozen(kw_only=True)
class PriceConfig:
    """USD per million tokens, exact."""

    input: Dollars
    output: Dollars


@attrs.frozen(kw_only=True)
class AuthConfig:
    """How a provider is shown whose requests these are, where it takes no key."""

    type: AuthType
    """Decides which of the other keys have a meaning."""
    token_url: Annotated[str, BaseUrl(exact=True)] = ""
    """oauth2, and entra in other clouds: where tokens are fetched."""
    client_id: Annotated[str, Text(chars_max=256, empty=True)] = ""
    """oauth2, entra."""
    client_secret: Secret | None = None
    """oauth2, entra."""
    refresh_token: Secret | None = None
    """oauth2: with it, tokens are a user's and not the client's own."""
    scope: Annotated[str, Text(chars_max=1024, empty=True)] = ""
    """oauth2, google, entra: what a token is to allow; several, apart by blanks."""
    audience: Annotated[str, Text(chars_max=1024, empty=True)] = ""
    """oauth2: whom a token is for; some servers want it."""
    tenant_id: Annotated[str, Text(chars_max=64, empty=True)] = ""
    """entra: the directory."""
    credentials_file: Path | None = None
    """google: of a service account or a user; else what the environment has."""
    profile: Annotated[str, Text(chars_max=256, empty=True)] = ""
    """aws: of its own config files; else what the environment has."""
    access_key_id: Secret | None = None
    """aws."""
    secret_access_key: Secret | None = None
    """aws."""
    session_token: Secret | None = None
    """aws: of keys that expire."""

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret in it."""
        its = (
            self.client_secret,
            self.refresh_token,
            self.access_key_id,
            self.secret_access_key,
            self.session_token,
        )
        return tuple(secret for secret in its if secret is not None)


@attrs.frozen(kw_only=True)
class ProviderConfig:
    """One provider: where it is, what it serves, how much it is given to do."""

    name: str
    """The name of its table."""
    adapter: AdapterName
    api_key: Secret | None = None
    api_keys: tuple[Secret, ...] = ()
    """More keys of the same provider, taken when one is refused or used up."""
    auth: AuthConfig | None = None
    """In place of keys: tokens, or signatures."""
    api: Api = "chat"
    """Which of OpenAI's two APIs is spoken: Chat Completions, or Responses."""
    api_version: Annotated[str, Text(chars_max=64, empty=True)] = ""
    """Azure's, for its deployments' paths; Anthropic's."""
    organization: Annotated[str, Text(chars_max=256, empty=True)] = ""
    """OpenAI's."""
    project: Annotated[str, Text(chars_max=256, empty=True)] = ""
    """OpenAI's, or Google Cloud's."""
    location: Annotated[str, Text(chars_max=64, empty=True)] = ""
    """Google Cloud's region, e.g. ``europe-west4``, or ``global``."""
    region: Annotated[str, Text(chars_max=64, empty=True)] = ""
    """AWS's, e.g. ``eu-central-1``."""
    base_url: Annotated[str, BaseUrl()] = ""
    """Without a slash at its end; empty only for `mock`, and in values made in Python."""
    ca_file: CaFile | None = None
    """Of a CA of one's own, trusted beside the usual ones; None: these alone."""
    proxy: Proxy | None = None
    """The way to other machines, for who has no other; None: none is used."""
    models: Annotated[tuple[ModelName, ...], AtLeastOne()] = ()
    """Exact names or globs; empty, in values made in Python: what the adapter serves by default."""
    model_map: Mapping[ModelName, ModelName] = attrs.field(factory=dict[str, str])
    leave_out: tuple[Option, ...] = ()
    """Options that are left out, and not refused, where this provider lacks them."""
    priority: Annotated[int, Whole(0, 1_000_000)] = 1
    weight: Annotated[int, Whole(1, 1_000_000)] = 1
    max_concurrency: Annotated[int, Whole(1, 100_000)] = 64
    timeout: TimeoutConfig = attrs.field(factory=TimeoutConfig)
    headers: Mapping[Annotated[str, HeaderName()], Annotated[str, HeaderValue()]] = (
        attrs.field(factory=dict[str, str], repr=False)
    )
    rate_limit: RateLimitConfig | None = None
    limits: LimitsConfig = attrs.field(factory=LimitsConfig)
    key_limits: LimitsConfig = attrs.field(factory=LimitsConfig)
    """Of each of the keys, beside those of all together."""
    breaker: BreakerConfig = attrs.field(factory=BreakerConfig)
    price: PriceConfig | None = None


def keys_of(provider: ProviderConfig) -> tuple[Secret, ...]:
    """Return the provider's keys, each once, in the order in which they are tried."""
    first = () if provider.api_key is None else (provider.api_key,)
    return tuple(dict.fromkeys((*first, *provider.api_keys)))


def base_url_of(provider: ProviderConfig) -> str:
    """Return where *provider* listens; empty where it is for the config to say."""
    return provider.base_url or BASE_URLS.get(provider.adapter, "")


@attrs.frozen(kw_only=True)
class RetryConfig:
    """How often and how soon a failed request is tried again."""

    max_attempts: Annotated[int, Whole(1, 100)] = 3
    base_delay: SecondsOrZero = 1.0
    max_delay: SecondsOrZero = 10.0
    jitter: bool = True


@attrs.frozen(kw_only=True)
class RoutingConfig:
    """Which provider is tried first, and which models stand in for others."""

    strategy: Strategy = "priority"
    fallbacks: Mapping[ModelName, tuple[ModelName, ...]] = attrs.field(
        factory=dict[str, tuple[str, ...]]
    )
    context_fallbacks: Mapping[ModelName, tuple[ModelName, ...]] = attrs.field(
        factory=dict[str, tuple[str, ...]]
    )
    """Models to try for a request that does not fit a model's context window."""
    content_fallbacks: Mapping[ModelName, tuple[ModelName, ...]] = attrs.field(
        factory=dict[str, tuple[str, ...]]
    )
    """Models to try for a request that a provider's content filter refuses."""
    sticky: Annotated[str, Text(chars_max=64, empty=True)] = ""
    """The key of the tag whose value decides, as long as it can, who is asked."""
    spill_after: SecondsOrZero = 1.0
    """Who would have to wait longer for a provider's limit asks another before."""
    hedge_after: Seconds | None = None
    """A second provider is asked as well if the first has not begun by then."""
    commit_window: SecondsOrZero = 0.0
    """So long the first of a stream is held back: if it fails, another takes over."""


@attrs.frozen(kw_only=True)
class CacheConfig:
    """Replies kept for equal requests."""

    enabled: bool = False
    ttl: Seconds = 300.0
    max_entries: Annotated[int, Whole(1, 100_000_000)] = 10_000
    max_bytes: Annotated[int, Size(1 << 10, 1 << 40)] = 64 << 20
    """Of all replies together, in memory."""
    persist: bool = False
    """Whether replies are kept in the state directory, too, and outlive the daemon."""
    coalesce: bool = False
    """Whether equal requests that are under way at once become one."""


@attrs.frozen(kw_only=True)
class BudgetMatch:
    """Which requests a budget binds."""

    tag: Annotated[str, Text(chars_max=256)] | None = None
    """``key=value``."""
    submitter: Annotated[int, Whole(0, (1 << 32) - 1)] | None = None
    """The uid of the process that made the request."""
    provider: Annotated[str, Text(chars_max=64)] | None = None
    """A provider's name."""
    model: ModelName | None = None
    """What a provider is asked for; exact or a glob."""


@attrs.frozen(kw_only=True)
class BudgetConfig:
    """What may be spent in a window of time."""

    limit_usd: Dollars
    window: Window = "day"
    match: BudgetMatch | None = None


@attrs.frozen(kw_only=True)
class LogConfig:
    """What is logged, and how."""

    level: LogLevel = "info"
    format: LogFormat = "auto"
    debug_bodies: bool = False


@attrs.frozen(kw_only=True)
class TelemetryConfig:
    """Where traces and metrics are sent, by OpenTelemetry's protocol."""

    otlp_endpoint: Annotated[str, BaseUrl()] = ""
    """Empty: nowhere, unless the environment names one."""
    headers: Mapping[
        Annotated[str, HeaderName()], Annotated[Secret, HeaderSecret()]
    ] = attrs.field(factory=dict[str, Secret])
    service_name: Annotated[str, Text(chars_max=256, empty=True)] = ""
    """Empty: what the environment says, else ``duckd``."""
    traces: bool = True
    metrics: bool = True
    sample_ratio: Annotated[float, Number(1)] | None = None
    """Which part of the traces that no client has begun is sent."""
    export_interval: Seconds = 10.0

    @property
    def enabled(self) -> bool:
        """Whether anything is sent."""
        return bool(self.otlp_endpoint) and (self.traces or self.metrics)


@attrs.frozen(kw_only=True)
class Config:
    """The whole of config.toml."""

    service: ServiceConfig = attrs.field(factory=ServiceConfig)
    store: StoreConfig = attrs.field(factory=StoreConfig)
    queue: QueueConfig = attrs.field(factory=QueueConfig)
    providers: Mapping[str, ProviderConfig] = attrs.field(
        factory=dict[str, ProviderConfig]
    )
    retry: RetryConfig = attrs.field(factory=RetryConfig)
    routing: RoutingConfig = attrs.field(factory=RoutingConfig)
    cache: CacheConfig = attrs.field(factory=CacheConfig)
    budgets: Mapping[str, BudgetConfig] = attrs.field(factory=dict[str, BudgetConfig])
    log: LogConfig = attrs.field(factory=LogConfig)
    telemetry: TelemetryConfig = attrs.field(factory=TelemetryConfig)
    warnings: tuple[str, ...] = not_a_key(())
    """What was accepted, but should be known; free of secrets."""
    is_default: bool = not_a_key(default=False)
    """Whether there was no file, so that only the mock provider answers."""

    @classmethod
    def default(cls) -> Config:
        """Return what holds without any file: one mock provider, named "mock"."""
        mock = ProviderConfig(name="mock", adapter="mock", models=MOCK_MODELS)
        return cls(providers={"mock": mock}, is_default=True)

    def redacted(self) -> dict[str, Any]:
        """Return the effective config in the file's shape, every secret as "…"."""
        # Here, so that whoever makes values in Python does not pay for parsing.
        from duckservice.config_toml.redacted import redacted  # noqa: PLC0415

        return redacted(self)


@attrs.frozen(kw_only=True)
class Complaint:
    """One thing that is wrong in a config file. It holds no secret."""

    file: str
    key: str
    """The path of the key, e.g. ``providers.openai.priority``; empty for the file."""
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}: found {self.found}; allowed: {self.allowed}{hint}"


class ConfigError(Exception):
    """The config is refused; ``str`` has every complaint, one a line.

    Programs end with exit code 78; a reload keeps the config it had.
    """

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__("\n".join(map(str, complaints)))
        self.complaints = tuple(complaints)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Return the config in the file at *path*, or the default without a path.

    Reads secrets from *environ* and from the files that the config names.

    Raises:
        ConfigError: with everything that is wrong in the file.
    """
    if path is None:
        return Config.default()
    # Here, because cattrs costs more to import than all of this module.
    from duckservice.config_toml.load import load_file  # noqa: PLC0415

    return load_file(path, environ)


def parse(
    text: str, *, file: str, environ: Mapping[str, str], private: bool = False
) -> Config:
    """Return the config that *text* says; *file* is its name in complaints.

    *private* says that nobody but its owner can read the text, so that a key may
    stand in it.

    Raises:
        ConfigError: with everything that is wrong in the text.
    """
    from duckservice.config_toml.load import parse_text  # noqa: PLC0415

    return parse_text(text, file=file, environ=environ, private=private)
