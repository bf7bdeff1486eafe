"""From the name of a response header to which rate limit it is about, in all dialects.

x-ratelimit-{limit,remaining,reset}-{requests,tokens}     OpenAI, Azure, Groq, xAI
x-ratelimit-...-tokens-usage-based, ...-project-tokens    OpenAI: one more limit
x-ratelimit-renewalperiod-{requests,tokens}               Azure: seconds
x-ratelimit-...-{req,tokens}-{minute,10-second,month}     Mistral
x-ratelimit-...-{requests,tokens}-{minute,hour,day}       Cerebras
x-ratelimit-...-tokens-{prompt,generated}                 Fireworks
x-ratelimit-{requests,tokens}                             proxies: the limit
x-ratelimit-{limit,remaining,reset}                       OpenRouter, Together
x-ratelimit-...-{second,minute,hour,day}                  Kong, at many providers
x-tokenlimit-{limit,remaining}                            Together
ratelimitbysize-{limit,remaining,reset}                   Mistral, once: tokens
x-trial-endpoint-call-{limit,remaining}                   Cohere: requests
anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,...}
ratelimit-{limit,remaining,reset}                         IETF, the early drafts
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import attrs

Kind: TypeAlias = Literal["requests", "tokens", "input_tokens", "output_tokens"]
Field: TypeAlias = Literal["limit", "remaining", "reset", "window"]

UNNAMED: Final = "unnamed"
"""The scope of what says neither what it counts nor over which time."""

_MINUTE: Final = 60.0
_NAME_CHARACTERS_MAX: Final = 64
_NAMES_KEPT_MAX: Final = 256


@attrs.frozen
class Meaning:
    """What a header is about."""

    kind: Kind
    scope: str
    """What makes it a limit of its own, apart from its kind."""
    field: Field
    window: float | None
    """Seconds; None where the name does not tell."""


@functools.lru_cache(maxsize=_NAMES_KEPT_MAX)
def meaning_of(name: str) -> Meaning | None:
    """Return what the header *name* (in lower case) is about; None: no limit of ours."""
    if len(name) > _NAME_CHARACTERS_MAX:
        return None
    name = name.replace("_", "-").replace("rate-limit", "ratelimit")
    found = _PREFIX.match(name)
    if found is None:
        return None
    words = name[found.end() :].split("-")
    fields = [word for word in words if word in _FIELDS]
    scope = [word for word in words if word in _SCOPES]
    named, window = _window(words)
    rest = tuple(w for w in words if w not in {*fields, *scope, *named})
    if len(fields) > 1 or not (fields or rest):
        return None
    field = _FIELDS[fields[0]] if fields else "limit"
    if found["whole"] is not None:
        # The prefix tells all that the others tell by their words.
        kind, unit = _WHOLE[found["whole"]]
        return None if rest else Meaning(kind, "" if unit else UNNAMED, field, unit)
    if not rest:
        return Meaning("requests", "-".join(named) or UNNAMED, field, window)
    if rest not in _KINDS:
        return None
    if found["anthropic"]:
        window = _MINUTE
    return Meaning(_KINDS[rest], "-".join([*scope, *named]), field, window)


def _window(words: Sequence[str]) -> tuple[Sequence[str], float | None]:
    """Return the words that name a window, and its seconds."""
    for at, word in enumerate(words):
        if word in _WINDOWS:
            before = words[at - 1] if at else ""
            if _AMOUNT.fullmatch(before) and int(before):
                return (before, word), int(before) * _WINDOWS[word]
            return (word,), _WINDOWS[word]
    return (), None


_PREFIX: Final = re.compile(
    r"(?P<whole>x-tokenlimit|ratelimitbysize|x-trial-endpoint-call)-"
    r"|(?:x-|(?P<anthropic>anthropic-))?ratelimit-",
    re.ASCII,
)
_WHOLE: Final[Mapping[str, tuple[Kind, float | None]]] = {
    "x-tokenlimit": ("tokens", None),
    "ratelimitbysize": ("tokens", _MINUTE),
    "x-trial-endpoint-call": ("requests", _MINUTE),
}
_FIELDS: Final[Mapping[str, Field]] = {
    "limit": "limit",
    "remaining": "remaining",
    "reset": "reset",
    "renewalperiod": "window",
}
_KINDS: Final[Mapping[tuple[str, ...], Kind]] = {
    ("requests",): "requests",
    ("req",): "requests",
    ("tokens",): "tokens",
    ("input", "tokens"): "input_tokens",
    ("output", "tokens"): "output_tokens",
    ("tokens", "prompt"): "input_tokens",
    ("tokens", "generated"): "output_tokens",
}
_AMOUNT: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_WINDOWS: Final = {
    "second": 1.0,
    "minute": _MINUTE,
    "hour": 3_600.0,
    "day": 86_400.0,
    "month": 30 * 86_400.0,
}
_SCOPES: Final = frozenset({"usage", "based", "project"})
