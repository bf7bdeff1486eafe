"""A kept reply as JSON, for a file: written, and read with a check of every type; pure.

["o", "TextPart", {"text": ["s", "quack"], ...}]    a value of ours
["t", [...]]   a tuple      ["l", [...]]   a list      ["m", {...}]   a mapping
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import attrs
import msgspec

from duckservice import completion
from duckservice.cache import reply as cache_reply
from duckservice.cache.reply import Kept

_TYPES: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Kept,
        cache_reply.Recorded,
        completion.Completion,
        completion.Choice,
        completion.Usage,
        completion.Embeddings,
        completion.TextPart,
        completion.ImagePart,
        completion.ReasoningPart,
        completion.RefusalPart,
        completion.ToolCall,
        completion.ToolResult,
        completion.OpaquePart,
        completion.Started,
        completion.TextDelta,
        completion.ReasoningDelta,
        completion.RefusalDelta,
        completion.ToolCallDelta,
        completion.Finished,
        completion.UsageReport,
    )
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def encode_kept(kept: Kept) -> bytes | None:
    """Return *kept* as JSON; None if JSON has no words for some of it."""
    try:
        return _encode(_plain(kept))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def decode_kept(body: bytes) -> Kept | None:
    """Return what `encode_kept` was given; None if *body* is nothing of the kind."""
    try:
        value = _value(_decode(body))
    except (AttributeError, TypeError, ValueError, LookupError, RecursionError):
        return None
    return value if isinstance(value, Kept) else None


def _plain(value: object) -> object:
    match value:
        case None | str() | int() | float():
            return value
        case tuple() | list():
            items = cast("tuple[object, ...] | list[object]", value)
            tag = "t" if isinstance(value, tuple) else "l"
            return [tag, [_plain(item) for item in items]]
        case Mapping():
            pairs = cast("Mapping[object, object]", value).items()
            return ["m", {key: _plain(its) for key, its in pairs}]
        case _:
            kind = type(value)
            if _TYPES.get(kind.__name__) is not kind:
                msg = f"a {kind.__name__} is no part of a reply"
                raise TypeError(msg)
            fields = attrs.fields(kind)
            return [
                "o",
                kind.__name__,
                {f.name: _plain(getattr(value, f.name)) for f in fields},
            ]


def _value(plain: Any) -> Any:
    if plain is None or isinstance(plain, str | int | float):
        return plain
    # Whatever is of another form raises one of the errors of `decode_kept`.
    tag, *rest = cast("list[Any]", plain)
    match tag:
        case "t":
            return tuple(map(_value, _only(rest)))
        case "l":
            return list(map(_value, _only(rest)))
        case "m":
            return {key: _value(its) for key, its in _only(rest).items()}
        case "o":
            name, fields = rest
            return _TYPES[name](**{key: _value(its) for key, its in fields.items()})
        case _:
            msg = "no part of a reply"
            raise ValueError(msg)


def _only(rest: list[Any]) -> Any:
    (value,) = rest
    return value
