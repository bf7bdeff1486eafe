"""What every adapter needs to read an answer: no trust, and normalised usage."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from duckservice.completion import Usage

TOKENS_MAX: Final = 2**40
"""A count beyond this is no count of tokens: a million times what any model reads."""


class Malformed(Exception):
    """The provider's words make no sense; the text says why without quoting them."""


UNREADABLE: Final = (Malformed, msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding a hostile body can raise."""


def why_unreadable(error: BaseException) -> str:
    """Say what was wrong with a body, free of its content."""
    match error:
        case RecursionError():
            return "JSON that is nested too deeply"
        case UnicodeError():
            return "text that is not UTF-8"
        case _:
            return str(error)


def usage_of(
    *,
    input_tokens: object,
    output_tokens: object,
    cached: object = 0,
    cache_write: object = 0,
    hour_write: object = 0,
    reasoning: object = 0,
) -> Usage:
    """Return the usage of counts from the wire, each part clamped to its whole.

    Counts that are no natural numbers (null, negative, text, fractions) are 0. Where
    a total is beyond `TOKENS_MAX`, the provider has not said what it has used: then
    it is the empty usage, marked as estimated. The reply is paid for, and stays one.
    """
    whole_input = token_count(input_tokens)
    whole_output = token_count(output_tokens)
    if max(whole_input, whole_output) > TOKENS_MAX:
        return Usage(estimated=True)
    read = min(token_count(cached), whole_input)
    written = min(token_count(cache_write), whole_input - read)
    return Usage(
        input_tokens=whole_input,
        output_tokens=whole_output,
        cached_tokens=read,
        cache_write_tokens=written,
        hour_write_tokens=min(token_count(hour_write), written),
        reasoning_tokens=min(token_count(reasoning), whole_output),
    )


def token_count(value: object) -> int:
    """Return *value* if it is a natural number, else 0; see `usage_of`.

    One beyond `TOKENS_MAX` stays just beyond it, and so does any sum with it.
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        return 0
    return min(value, TOKENS_MAX + 1)


def whole_count(value: object) -> int:
    """Return the count that is all there is in an answer, as `token_count` does.

    Raises:
        Malformed: it is beyond `TOKENS_MAX`.
    """
    count = token_count(value)
    if count > TOKENS_MAX:
        raise Malformed("a token count that is beyond all reason")
    return count


def number_or(value: object, default: int) -> int:
    """Return *value* as a whole number (some send floats), or *default*."""
    match value:
        case bool():
            return default
        case int() | float():
            return int(value)
        case _:
            return default


def text_or(value: object, default: str) -> str:
    """Return *value* if it is a text, or *default*."""
    return value if isinstance(value, str) else default


def mapping_or_empty(value: Any) -> dict[str, Any]:
    """Return *value* if it is a JSON object, or an empty one."""
    if not isinstance(value, dict):
        return {}
    return cast("dict[str, Any]", value)
