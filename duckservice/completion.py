"""The shared values: requests, completions, chunks, usage.

They are the one language between the gateway, the service and the providers.
Every adapter translates from and to them; nothing else does.

A message is a role and a tuple of parts, in the order in which they were
written, because that is what every wire format can be read into without loss.
Fields that only one wire format knows travel in ``extra`` together with the
name of that format: an adapter of the same format sends them on as they are,
any other refuses them by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import attrs

WireFormat: TypeAlias = Literal["openai", "anthropic", "responses"]
"""The wire formats in which a client may speak to us."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""An empty, immutable mapping: the default of every ``extra``."""


@attrs.frozen(kw_only=True)
class TextPart:
    """Plain text."""

    text: str
    extra: Mapping[str, Any] = NOTHING
    """Fields of the origin's format, e.g. Anthropic's ``cache_control``."""


@attrs.frozen(kw_only=True)
class ImagePart:
    """An image: either a URL, or base64 ``data`` with its ``media_type``."""

    url: str | None = None
    """An http(s) URL. We never fetch it; the provider may."""
    data: str | None = None
    """Base64, without a ``data:`` prefix."""
    media_type: str | None = None
    """Set when ``data`` is, e.g. ``image/png``."""
    detail: str | None = None
    """OpenAI's ``low``, ``high`` or ``auto``."""
    extra: Mapping[str, Any] = NOTHING


@attrs.frozen(kw_only=True)
class ReasoningPart:
    """What the model thought. ``signature`` must go back to the provider as it was."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    """Anthropic's encrypted ``redacted_thinking`` data, in place of text."""


@attrs.frozen(kw_only=True)
class RefusalPart:
    """The model's refusal, where the provider marks it as one."""

    text: str


@attrs.frozen(kw_only=True)
class ToolCall:
    """The model asks for a function to be called."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it; it may be invalid."""
    extra: Mapping[str, Any] = NOTHING


@attrs.frozen(kw_only=True)
class ToolResult:
    """What a called function returned."""

    tool_call_id: str
    content: tuple[TextPart | ImagePart | OpaquePart, ...]
    is_error: bool = False
    extra: Mapping[str, Any] = NOTHING


@attrs.frozen(kw_only=True)
class OpaquePart:
    """A part that only one wire format knows (audio, files, documents, ...)."""

    format: WireFormat
    value: Mapping[str, Any]
    """The part as it was written, ``type`` included."""


Part: TypeAlias = (
    TextPart
    | ImagePart
    | ReasoningPart
    | RefusalPart
    | ToolCall
    | ToolResult
    | OpaquePart
)


@attrs.frozen(kw_only=True)
class Message:
    """One turn of the conversation."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        """Return a message of one text part."""
        return cls(role=role, parts=(TextPart(text=text),))


@attrs.frozen(kw_only=True)
class Tool:
    """A function that the model may ask to be called."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    """A JSON schema."""
    strict: bool | None = None
    extra: Mapping[str, Any] = NOTHING


@attrs.frozen(kw_only=True)
class ToolChoice:
    """Which tools the model must, may or must not use."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None
    """The one tool to use, with mode ``tool``."""


@attrs.frozen(kw_only=True)
class ResponseFormat:
    """The shape that the reply must have."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


@attrs.frozen(kw_only=True)
class Reasoning:
    """How much the model shall think before it answers."""

    effort: str | None = None
    """OpenAI's ``reasoning_effort``: none, minimal, low, medium, high, xhigh."""
    budget_tokens: int | None = None
    """Anthropic's ``thinking.budget_tokens``."""
    mode: str | None = None
    """Anthropic's ``thinking.type``: enabled, disabled or adaptive."""


@attrs.frozen(kw_only=True)
class ChatRequest:
    """A request for a chat completion, in no provider's words.

    ``None`` means that the caller did not say; the provider's default holds.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    user: str | None = None
    format: WireFormat = "openai"
    """The format in which the client wrote it; says how to read ``extra``."""
    extra: Mapping[str, Any] = NOTHING
    """Top-level fields that only ``format`` knows."""
    betas: tuple[str, ...] = ()
    """Features that an Anthropic client asks for by header (``anthropic-beta``).

    Other formats ignore them: the fields that they would enable are refused by
    name themselves.
    """


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens of one request, normalised: totals include their parts.

    Providers differ in what they count where; adapters bring it to this form.
    """

    input_tokens: int = 0
    """All of the prompt, cached tokens included."""
    output_tokens: int = 0
    """All of the reply, reasoning tokens included."""
    cached_tokens: int = 0
    """Of the input: read from the provider's cache."""
    cache_write_tokens: int = 0
    """Of the input: written to the provider's cache."""
    hour_write_tokens: int = 0
    """Of those written: kept for an hour, which costs more than the usual minutes."""
    reasoning_tokens: int = 0
    """Of the output: spent on reasoning."""
    image_tokens: int = 0
    """Of the output: pictures, which some models price apart."""
    estimated: bool = False
    """Whether we counted, because the provider did not say."""
    billed: int | None = None
    """Picodollars (1e-12 USD) that the provider says it charges, where it says so."""
    billed_input_tokens: int | None = None
    """The tokens that the provider says it charges, where they are not all of them:
    Cohere's own prompt, say, is read and not charged. They have no cheaper part."""
    billed_output_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@attrs.frozen(kw_only=True)
class Choice:
    """One of the replies."""

    index: int = 0
    parts: tuple[Part, ...] = ()
    finish_reason: FinishReason = "stop"
    native_finish_reason: str | None = None
    """The provider's own word."""
    stop_sequence: str | None = None
    extra: Mapping[str, Any] = NOTHING
    """E.g. ``logprobs``."""

    @property
    def text(self) -> str:
        """The text parts as one string."""
        return "".join(p.text for p in self.parts if isinstance(p, TextPart))

    @property
    def reasoning(self) -> str:
        """The reasoning parts as one string."""
        return "".join(p.text for p in self.parts if isinstance(p, ReasoningPart))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the model asks for."""
        return tuple(p for p in self.parts if isinstance(p, ToolCall))


@attrs.frozen(kw_only=True)
class Completion:
    """A whole reply."""

    id: str
    model: str
    """The provider's own name of the model that answered."""
    choices: tuple[Choice, ...]
    usage: Usage
    created: int = 0
    """Seconds since the epoch; 0 where the provider does not say."""
    extra: Mapping[str, Any] = NOTHING
    """E.g. ``system_fingerprint``, ``service_tier``."""

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.choices[0].text if self.choices else ""


@attrs.frozen(kw_only=True)
class Started:
    """The first chunk of every stream."""

    id: str
    model: str
    created: int = 0
    extra: Mapping[str, Any] = NOTHING


@attrs.frozen(kw_only=True)
class TextDelta:
    """More text."""

    text: str
    choice: int = 0
    extra: Mapping[str, Any] = NOTHING
    """E.g. ``logprobs``."""


@attrs.frozen(kw_only=True)
class ReasoningDelta:
    """More reasoning, or the signature of the reasoning so far."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    choice: int = 0


@attrs.frozen(kw_only=True)
class RefusalDelta:
    """More of a refusal."""

    text: str
    choice: int = 0


@attrs.frozen(kw_only=True)
class ToolCallDelta:
    """More of the tool call number ``index`` of that choice.

    The first delta of a call has its ``id`` and ``name``; ``arguments`` are to
    be concatenated.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0
    extra: Mapping[str, Any] = NOTHING
    """What must go back with the call, e.g. Gemini's ``extra_content``."""


@attrs.frozen(kw_only=True)
class Finished:
    """One choice is complete. A stream without it has been cut off."""

    reason: FinishReason
    native_reason: str | None = None
    stop_sequence: str | None = None
    choice: int = 0


@attrs.frozen(kw_only=True)
class UsageReport:
    """What the stream has used; the last one counts. At most one reaches a user."""

    usage: Usage


Chunk: TypeAlias = (
    Started
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | Finished
    | UsageReport
)
"""One piece of a streamed completion, in this order: ``Started``, deltas, a
``Finished`` per choice, ``UsageReport``."""


@attrs.frozen(kw_only=True)
class EmbeddingRequest:
    """A request for the embeddings of some texts."""

    model: str
    input: tuple[str | tuple[int, ...], ...]
    """Texts, or texts as token ids."""
    dimensions: int | None = None
    user: str | None = None
    extra: Mapping[str, Any] = NOTHING


@attrs.frozen(kw_only=True)
class Embeddings:
    """One vector for each input, in the order of the inputs."""

    model: str
    vectors: tuple[tuple[float, ...], ...]
    usage: Usage


@attrs.frozen(kw_only=True)
class ImageRequest:
    """A request for pictures of what a text says."""

    model: str
    prompt: str
    n: int | None = None
    size: str | None = None
    """``WIDTHxHEIGHT`` in pixels, or ``auto``."""
    quality: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = None
    extra: Mapping[str, Any] = NOTHING
    """Fields that only OpenAI's format knows."""


@attrs.frozen(kw_only=True)
class GeneratedImage:
    """One picture: base64 ``data``, or a URL from which the client can fetch it."""

    data: str | None = None
    url: str | None = None
    media_type: str | None = None
    revised_prompt: str | None = None
    """What the provider made of the prompt."""


@attrs.frozen(kw_only=True)
class Images:
    """The pictures that were asked for."""

    model: str
    images: tuple[GeneratedImage, ...]
    usage: Usage
    created: int = 0
    extra: Mapping[str, Any] = NOTHING


AnyRequest: TypeAlias = ChatRequest | EmbeddingRequest | ImageRequest
"""Whatever a provider may be asked for."""


@attrs.frozen(kw_only=True)
class ModelInfo:
    """A model that a provider serves."""

    id: str
    created: int = 0
    owned_by: str = ""


@attrs.frozen(kw_only=True)
class HealthReport:
    """What a health check found; it spends no tokens."""

    healthy: bool
    latency: float
    """Seconds."""
    detail: str = ""
