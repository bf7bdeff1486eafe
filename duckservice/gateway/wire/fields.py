"""Reading one field of a decoded JSON object, with complaints that name the field.

Every reader takes the object, the key and *where* the object stands in the
body (``messages[2].content[0]``, empty for the body itself). ``null`` reads as
absent everywhere, because the SDKs send it for what was not given. A complaint
says where, what was found and what is allowed; it never quotes a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet
from typing import Any, TypeAlias, TypeGuard

import msgspec

from duckservice.completion import NOTHING
from duckservice.errors import InvalidRequest

Fields: TypeAlias = dict[str, Any]
"""A decoded JSON object."""

DEPTH_MAX = 500
"""Levels of nesting. More could be decoded here, and then be too deep for an
encoder that runs further down the stack: Python allows 1,000 for both."""

INTEGER_MAX = 2**63 - 1
QUOTE_CHARS_MAX = 40

_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "an array",
    type(None): "null",
}

_CHILDREN: dict[type, Callable[[Any], Iterable[Any]]] = {
    dict: dict[str, Any].values,
    list: iter,
}

_decode = msgspec.json.Decoder().decode


def decode_object(body: bytes) -> Fields:
    """Decode a JSON object; raise `InvalidRequest` for anything else.

    Of a key that is given twice the last one holds, as with Python's ``json``.
    NaN, numbers beyond a float and lone surrogates are no JSON.
    """
    if not body:
        raise InvalidRequest("the body is empty; expected a JSON object")
    try:
        value: Any = _decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {_reason(error)}") from None
    if not is_object(value):
        raise InvalidRequest(f"the body: expected an object, got {_kind(value)}")
    # Counting brackets is a hundred times cheaper than walking the values, and
    # settles it for nearly every request.
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > DEPTH_MAX and is_deeper_than(value, DEPTH_MAX):
        raise _too_deep()
    return value


def is_deeper_than(value: Any, levels: int) -> bool:
    """Say whether decoded JSON nests deeper than *levels* objects and arrays."""
    level: list[Any] = [value]
    for _ in range(levels):
        level = [
            child
            for parent in level
            for child in _CHILDREN[type(parent)](parent)
            if type(child) in _CHILDREN
        ]
        if not level:
            return False
    return True


def is_object(value: Any) -> TypeGuard[Fields]:
    """Say whether *value* is a JSON object."""
    return type(value) is dict


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Say whether *value* is a JSON array."""
    return type(value) is list


def as_object(value: Any, where: str) -> Fields:
    """Return what stands at *where* if it is an object."""
    if is_object(value):
        return value
    raise wrong(where, "an object", value)


def as_array(value: Any, where: str) -> list[Any]:
    """Return what stands at *where* if it is an array."""
    if is_array(value):
        return value
    raise wrong(where, "an array", value)


def at(where: str, key: str) -> str:
    """Return the path of *key* in the object that stands at *where*."""
    return f"{where}.{key}" if where else key


def wrong(path: str, expected: str, value: object) -> InvalidRequest:
    """Return the complaint that *value* is of the wrong kind."""
    return InvalidRequest(
        f"{path}: expected {expected}, got {_kind(value)}", param=path
    )


def refused(path: str, reason: str) -> InvalidRequest:
    """Return the complaint that what stands at *path* cannot be accepted."""
    return InvalidRequest(f"{path}: {reason}", param=path)


def unknown(path: str, value: object, allowed: str) -> InvalidRequest:
    """Return the complaint that *value* is none of the *allowed* words."""
    if type(value) is not str:
        return wrong(path, f"one of {allowed}", value)
    shown = value if len(value) <= QUOTE_CHARS_MAX else value[:QUOTE_CHARS_MAX] + "…"
    return refused(path, f"{shown!r} is not supported; allowed: {allowed}")


def text(fields: Fields, key: str, where: str) -> str | None:
    """Return a string, None if there is none."""
    value = fields.get(key)
    if value is None or type(value) is str:
        return value
    raise wrong(at(where, key), "a string", value)


def required_text(fields: Fields, key: str, where: str) -> str:
    """Return a string that must be there; it may be empty."""
    value = fields.get(key)
    if type(value) is str:
        return value
    raise _absent_or_wrong(fields, key, where, "a string")


def required_name(fields: Fields, key: str, where: str) -> str:
    """Return a string that must be there and not be empty."""
    value = required_text(fields, key, where)
    if not value:
        raise refused(at(where, key), "must not be empty")
    return value


def integer(
    fields: Fields,
    key: str,
    where: str,
    *,
    least: int = -INTEGER_MAX - 1,
    most: int = INTEGER_MAX,
) -> int | None:
    """Return a whole number within its bounds, None if there is none."""
    value = fields.get(key)
    if value is None:
        return None
    if type(value) is not int:
        raise wrong(at(where, key), "a whole number", value)
    if not least <= value <= most:
        raise refused(at(where, key), f"must be from {least} to {most}")
    return value


def number(fields: Fields, key: str, where: str) -> float | None:
    """Return a number, None if there is none. JSON has no NaN and no infinity."""
    value = fields.get(key)
    if value is None or type(value) is float:
        return value
    if type(value) is int and -INTEGER_MAX <= value <= INTEGER_MAX:
        return value
    raise wrong(at(where, key), "a number", value)


def flag(fields: Fields, key: str, where: str) -> bool | None:
    """Return a boolean, None if there is none."""
    value = fields.get(key)
    if value is None or type(value) is bool:
        return value
    raise wrong(at(where, key), "a boolean", value)


def mapping(fields: Fields, key: str, where: str) -> Fields | None:
    """Return an object, None if there is none."""
    value = fields.get(key)
    if value is None:
        return None
    return as_object(value, at(where, key))


def required_mapping(fields: Fields, key: str, where: str) -> Fields:
    """Return an object that must be there."""
    value = fields.get(key)
    if is_object(value):
        return value
    raise _absent_or_wrong(fields, key, where, "an object")


def items(fields: Fields, key: str, where: str) -> list[Any]:
    """Return an array's values, none if there is no array."""
    value = fields.get(key)
    if value is None:
        return []
    return as_array(value, at(where, key))


def objects(fields: Fields, key: str, where: str) -> list[tuple[str, Fields]]:
    """Return an array's objects, each with its own place."""
    path = at(where, key)
    return [
        (place := f"{path}[{index}]", as_object(value, place))
        for index, value in enumerate(items(fields, key, where))
    ]


def texts(fields: Fields, key: str, where: str) -> tuple[str, ...]:
    """Return an array of strings as a tuple, empty if there is none."""
    values = items(fields, key, where)
    for index, value in enumerate(values):
        if type(value) is not str:
            raise wrong(f"{at(where, key)}[{index}]", "a string", value)
    return tuple(values)


def extras(fields: Fields, understood: AbstractSet[str]) -> Mapping[str, Any]:
    """Return the fields that nobody here understands, without the nulls."""
    if fields.keys() <= understood:
        return NOTHING
    extra = {
        key: value
        for key, value in fields.items()
        if key not in understood and value is not None
    }
    return extra or NOTHING


def refuse_extras(fields: Fields, understood: AbstractSet[str], where: str) -> None:
    """Raise `InvalidRequest` for the first field that is not understood."""
    for key in extras(fields, understood):
        allowed = ", ".join(sorted(understood))
        raise refused(at(where, key), f"unknown field; allowed: {allowed}")


def _absent_or_wrong(
    fields: Fields, key: str, where: str, expected: str
) -> InvalidRequest:
    if key not in fields:
        return refused(at(where, key), f"is required: {expected}")
    return wrong(at(where, key), expected, fields[key])


def _kind(value: object) -> str:
    return _KINDS[type(value)]


def _reason(error: Exception) -> str:
    # A UnicodeDecodeError's text quotes the byte; msgspec's gives a position.
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _too_deep() -> InvalidRequest:
    return InvalidRequest(
        f"the body is nested too deeply; at most {DEPTH_MAX} levels are allowed"
    )


def data_url(url: str, path: str) -> tuple[str, str]:
    """Return media type and base64 data of a ``data:`` URL; *path* names its field."""
    head, comma, data = url.partition(",")
    media_type, *parameters = head[len("data:") :].split(";")
    if not comma or not data or "/" not in media_type or "base64" not in parameters:
        raise refused(path, "a data: URL must read data:<media type>;base64,<data>")
    return media_type.lower(), data
