"""OpenAI's chat completions, whole and streamed, read into completions and chunks.

It reads what the many servers that speak the format really send: reasoning
under two names, content as a list, tool calls without an index or an id,
arguments as an object, usage with the last words or after them or twice.

A stream, state by state:

    fresh ──first chunk──▶ running ──[DONE]──▶ complete
                              │
                              ├──error event, undecodable event──▶ failed
                              └──end of the bytes──▶ failed, or complete where
                                  the server is one that may leave out [DONE]
                                  and every choice has its finish reason
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast, final

import attrs
import msgspec

from duckservice.completion import (
    NOTHING,
    Choice,
    Chunk,
    Completion,
    Finished,
    FinishReason,
    Part,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    RefusalPart,
    Started,
    TextDelta,
    TextPart,
    Usage,
    UsageReport,
)
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.openai_calls import (
    CallsInPieces,
    WireCall,
    WireFunction,
    whole_call,
)
from duckservice.providers.openai_thoughts import seals_of, thoughts_of
from duckservice.providers.openai_variant import DETAILS, EXTRA_CONTENT, Billed
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    number_or,
    text_or,
    token_count,
    usage_of,
)

CHOICES_MAX: Final = 128
"""What is beyond is an attack on our memory, not an answer."""

_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "model_length": "length",
    "max_tokens": "length",
}
"""What is missing here (``eos``, ``eos_token``, ...) is a kind of ``stop``."""


class _Message(msgspec.Struct, gc=False):
    """A message, or the next piece of one: the fields are the same."""

    content: Any = None
    tool_calls: list[WireCall] | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    function_call: WireFunction | None = None
    annotations: Any = None
    audio: Any = None
    images: Any = None
    extra_content: Any = None
    reasoning_details: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    error: Any = None


class _Body(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    created: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    x_groq: Any = None


_body: Final = msgspec.json.Decoder(_Body)
_encode: Final = msgspec.json.Encoder().encode


def decode(
    body: bytes,
    errors: Classifier,
    origin: Origin = NAMELESS,
    *,
    billed: Billed | None = None,
) -> Completion:
    """Return the completion that *body* is.

    Its usage is marked as estimated, and 0, where the server does not say, or says
    that it is 0; *billed* finds in it what the server charges.
    Raises `BadProviderResponse` for what is none, and the fitting error for
    one that came with status 200.
    """
    try:
        answer = _body.decode(body)
        _raise_error_in(answer, body, errors)
        if not answer.choices:
            raise Malformed("JSON without choices")
        answer_id = _text(answer.id) or origin.answer_id
        return Completion(
            id=answer_id,
            model=_text(answer.model) or origin.model,
            created=number_or(answer.created, 0),
            choices=tuple(_choice(choice, answer_id) for choice in answer.choices),
            usage=_usage(answer, billed) or Usage(estimated=True),
            extra=_answer_extra(answer),
        )
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


@final
class ChatEvents:
    """What the events of one streamed completion mean: an `EventDecoder`.

    *done_required* says that only ``[DONE]`` ends a stream.
    """

    __slots__ = (
        "_billed",
        "_calls",
        "_done_required",
        "_errors",
        "_id",
        "_origin",
        "_reasons",
        "_started",
        "_told",
        "_usage",
        "complete",
        "reply_characters",
    )

    def __init__(
        self,
        errors: Classifier,
        origin: Origin = NAMELESS,
        *,
        done_required: bool,
        billed: Billed | None = None,
    ) -> None:
        self._errors = errors
        self._billed = billed
        self._done_required = done_required
        self._started = False
        self._origin = origin
        self._id = origin.answer_id
        self._reasons: dict[int, str | None] = {}
        """Each choice that was seen, and its finish reason so far."""
        self._told = False
        """Whether the reasons have been passed on. They wait for the end, because
        some servers (Together) write one behind every tool call."""
        self._calls: dict[int, CallsInPieces] = {}
        self._usage: Usage | None = None
        self.complete = False
        self.reply_characters = 0

    @property
    def usage_seen(self) -> bool:
        """Whether the server has said what the answer has used."""
        return self._usage is not None

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what an event means to *chunks*."""
        if data[:1] == b"{":
            self._chunk(_body.decode(data), data, chunks)
        elif data.strip() == b"[DONE]":
            self._done(chunks)
        else:
            raise Malformed("neither a JSON object nor [DONE]")

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:
        """Say whether the answer counts as complete without ``[DONE]``."""
        if self._done_required or not self._all_finished():
            return False
        self._done(chunks)
        return True

    def _chunk(self, chunk: _Body, data: bytes, chunks: list[Chunk]) -> None:
        if not self._started and (chunk.choices or chunk.id):
            self._start(chunk, chunks)
        if chunk.choices:
            for choice in chunk.choices:
                self._choice(choice, chunk, chunks)
        if chunk.error or not self._started:
            _raise_error_in(chunk, data, self._errors)
            if chunk.choices is None:
                raise Malformed("JSON without choices")
        if chunk.usage is not None or chunk.x_groq is not None:
            usage = _usage(chunk, self._billed)
            if usage is not None and usage != self._usage:
                self._usage = usage
                if self._all_finished():
                    self._tell_reasons(chunks)
                chunks.append(UsageReport(usage=usage))

    def _choice(self, choice: _Choice, chunk: _Body, chunks: list[Chunk]) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            self._delta(choice, delta, chunks)
        if choice.error:
            raise self._errors.in_band({"error": choice.error})
        if choice.finish_reason and not chunk.error:
            if choice.finish_reason == "error":
                raise self._errors.in_band({})
            self._reasons[choice.index] = choice.finish_reason

    def _done(self, chunks: list[Chunk]) -> None:
        if not self._reasons:
            raise Malformed("a stream without choices")
        self._tell_reasons(chunks)
        self.complete = True

    def _all_finished(self) -> bool:
        return bool(self._reasons) and None not in self._reasons.values()

    def _tell_reasons(self, chunks: list[Chunk]) -> None:
        if self._told:
            return
        self._told = True
        for choice, native in self._reasons.items():
            # Some never say why they have stopped.
            reason = _REASONS.get(native or "stop", "stop")
            chunks.append(Finished(reason=reason, native_reason=native, choice=choice))

    def _start(self, chunk: _Body, chunks: list[Chunk]) -> None:
        self._started = True
        self._id = _text(chunk.id) or self._origin.answer_id
        chunks.append(
            Started(
                id=self._id,
                model=_text(chunk.model) or self._origin.model,
                created=number_or(chunk.created, 0),
                extra=_answer_extra(chunk),
            )
        )

    def _delta(self, choice: _Choice, delta: _Message, chunks: list[Chunk]) -> None:
        index = choice.index
        if index not in self._reasons:
            if len(self._reasons) >= CHOICES_MAX:
                raise Malformed("too many choices")
            self._reasons[index] = None
        thought = _thought(delta)
        if thought:
            self.reply_characters += len(thought)
            chunks.append(ReasoningDelta(text=thought, choice=index))
        if delta.reasoning_details:
            chunks += _details(delta.reasoning_details, index)
        has_extra = _has_extra(choice, delta)
        if type(delta.content) is str and not has_extra:  # nearly every one
            if delta.content:
                self.reply_characters += len(delta.content)
                chunks.append(TextDelta(text=delta.content, choice=index))
        elif delta.content or has_extra:
            self._content(choice, delta, chunks)
        if delta.refusal:
            self.reply_characters += len(delta.refusal)
            chunks.append(RefusalDelta(text=delta.refusal, choice=index))
        if delta.tool_calls or delta.function_call:
            self._tool_calls(index, delta, chunks)

    def _content(self, choice: _Choice, delta: _Message, chunks: list[Chunk]) -> None:
        extra = _choice_extra(choice, delta)
        index = choice.index
        for part in _parts_of(delta.content):
            match part:
                case TextPart(text=text):
                    chunks.append(TextDelta(text=text, choice=index, extra=extra))
                    extra = NOTHING
                case ReasoningPart(text=text):
                    chunks.append(ReasoningDelta(text=text, choice=index))
                case RefusalPart(text=text):
                    chunks.append(RefusalDelta(text=text, choice=index))
                case _:
                    continue
            self.reply_characters += len(text)
        if extra:
            chunks.append(TextDelta(text="", choice=index, extra=extra))

    def _tool_calls(self, choice: int, delta: _Message, chunks: list[Chunk]) -> None:
        calls = self._calls.get(choice)
        if calls is None:
            calls = self._calls[choice] = CallsInPieces(self._id, choice)
        for piece in _tool_deltas(delta):
            made = calls.add(piece)
            if made is not None:
                self.reply_characters += len(made.arguments) + len(made.name or "")
                chunks.append(made)


def _choice(choice: _Choice, answer: str) -> Choice:
    message = choice.message or choice.delta
    if message is None:
        if not choice.finish_reason:
            raise Malformed("a choice without a message")
        message = _Message()  # filtered away
    native = choice.finish_reason or None
    return Choice(
        index=choice.index,
        parts=tuple(_parts(message, answer, choice.index)),
        finish_reason=_REASONS.get(native or "stop", "stop"),
        native_finish_reason=native,
        extra=_choice_extra(choice, message, message.reasoning_details),
    )


def _parts(message: _Message, answer: str, choice: int) -> list[Part]:
    parts: list[Part] = [*thoughts_of(_thought(message), message.reasoning_details)]
    parts += _parts_of(message.content)
    if message.refusal:
        parts.append(RefusalPart(text=message.refusal))
    for index, call in enumerate(_tool_deltas(message)):
        parts.append(whole_call(call, answer, choice, index))
    return parts


def _parts_of(content: Any) -> list[Part]:
    """Return the parts of a content: a text, a list of parts, or JSON as asked for."""
    match content:
        case None | "":
            return []
        case str():
            return [TextPart(text=content)]
        case list():
            items: list[Any] = content  # pyright: ignore[reportUnknownVariableType]  # any JSON
            return [part for item in items for part in _part_of(item)]
        case dict():  # Cloudflare's way with a response_format
            return [TextPart(text=_encode(content).decode())]
        case _:
            raise Malformed("content that is neither text nor a list")


def _part_of(item: Any) -> list[Part]:
    match item:
        case str():
            return [TextPart(text=item)]
        case {"type": "text" | "output_text", "text": str(text)}:
            return [TextPart(text=text)]
        case {"type": "thinking"}:
            thoughts = _parts_of(mapping_or_empty(item).get("thinking"))
            texts = (part.text for part in thoughts if isinstance(part, TextPart))
            return [ReasoningPart(text="".join(texts))]
        case {"type": "refusal", "refusal": str(text)}:
            return [RefusalPart(text=text)]
        case _:
            return []  # references and the like; the text stands beside them


def _thought(message: _Message) -> str:
    # Some send both names with the same words.
    thought = message.reasoning_content or message.reasoning
    return thought if type(thought) is str else ""


def _details(details: object, choice: int) -> list[Chunk]:
    """Return the chunks of what belongs to the reasoning beside its text.

    For clients of OpenAI's format it goes on as it is, to come back so; for others
    the seals are told.
    """
    chunks: list[Chunk] = [
        ReasoningDelta(signature=seal.signature, redacted=seal.redacted, choice=choice)
        for seal in seals_of(details)
    ]
    if (listed := _list_or_none(details)) is not None:
        chunks.append(TextDelta(text="", choice=choice, extra={DETAILS: listed}))
    return chunks


def _list_or_none(value: object) -> list[object] | None:
    return cast("list[object]", value) if isinstance(value, list) else None


def _tool_deltas(message: _Message) -> list[WireCall]:
    if message.tool_calls:
        return message.tool_calls
    function = message.function_call
    if function is None or not (function.name or function.arguments):
        return []
    return [WireCall(index=0, function=function)]


def _has_extra(choice: _Choice, message: _Message) -> bool:
    return bool(
        choice.logprobs
        or message.annotations
        or message.audio
        or message.images
        or message.extra_content
    )


def _choice_extra(
    choice: _Choice, message: _Message, details: object = None
) -> Mapping[str, Any]:
    listed = _list_or_none(details)
    if not listed and not _has_extra(choice, message):
        return NOTHING
    extra = {
        "logprobs": choice.logprobs,
        "annotations": message.annotations,
        "audio": message.audio,
        "images": message.images,
        EXTRA_CONTENT: message.extra_content,
        DETAILS: listed,
    }
    return {key: value for key, value in extra.items() if value}


def _answer_extra(answer: _Body) -> Mapping[str, Any]:
    extra = {
        "service_tier": answer.service_tier,
        "system_fingerprint": answer.system_fingerprint,
    }
    return {key: value for key, value in extra.items() if value is not None}


def _usage(answer: _Body, billed: Billed | None) -> Usage | None:
    usage = mapping_or_empty(answer.usage)
    if not usage:
        usage = mapping_or_empty(mapping_or_empty(answer.x_groq).get("usage"))
    if not usage:
        return None
    prompt = mapping_or_empty(usage.get("prompt_tokens_details"))
    completion = mapping_or_empty(usage.get("completion_tokens_details"))
    sent = token_count(usage.get("prompt_tokens"))
    written = token_count(usage.get("completion_tokens"))
    reasoning = token_count(completion.get("reasoning_tokens"))
    if reasoning and usage.get("total_tokens") == sent + written + reasoning:
        written += reasoning  # xAI leaves it out
    its = usage_of(
        input_tokens=sent,
        output_tokens=written,
        cached=prompt.get("cached_tokens") or usage.get("prompt_cache_hit_tokens"),
        cache_write=prompt.get("cache_write_tokens"),
        reasoning=reasoning,
    )
    charged = None if billed is None else billed(usage)
    if charged is not None:
        return attrs.evolve(its, billed=charged)
    # Nothing was asked and nothing said: some write zeros where they do not count.
    return its if its.total_tokens else None


def _raise_error_in(answer: _Body, body: bytes, errors: Classifier) -> None:
    if answer.error:
        raise errors.in_band({"error": answer.error})
    if answer.choices is None and body[:1] == b"{":
        # {"message", "code"} and {"detail"} are errors too.
        value = mapping_or_empty(msgspec.json.decode(body))
        if value.get("message") or value.get("detail"):
            raise errors.in_band(value)


def _text(value: object) -> str:
    return text_or(value, "") if not isinstance(value, int) else str(value)
