"""The key of a request: equal for equal requests, and for no others; pure.

A digest of the request's canonical form. That is everything that the request says,
with the names of its types and fields; each text has its length before it, so no two
requests have the same form. The order of a mapping's keys does not matter, that of a
sequence does. In a JSON schema, wherever one is, it matters: models write the properties
of an answer in the order of the schema's. What is not of the request (who asks, with
which key, tag or priority) is not in it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

import attrs

from duckservice.completion import AnyRequest

VERSION = b"2"
"""Of the canonical form: keys that are kept in files must not outlive a change."""

IN_ORDER: Final = frozenset(
    {
        *("schema", "json_schema", "parameters", "input_schema", "output_schema"),
        *("inputSchema", "responseSchema", "response_schema", "responseJsonSchema"),
        *("parametersJsonSchema", "guided_json", "properties", "$defs", "definitions"),
        *("examples", "input_examples"),
    }
)
"""Names of fields, ours and of JSON, whose content a model sees in its order."""


def key_of(request: AnyRequest) -> bytes | None:
    """Return the key of *request*; None if it holds what has no canonical form.

    That is what does not come from JSON, or is nested too deeply.
    """
    try:
        return digest(request)
    except (TypeError, RecursionError):
        return None


def digest(value: object) -> bytes:
    """Return the SHA-256 of the canonical form of any value of ours.

    Raises:
        TypeError: some of it is no plain data, nor a value of ours.
        RecursionError: it is nested too deeply.
    """
    return hashlib.sha256(VERSION + canonical(value)).digest()


def canonical(value: object) -> bytes:
    """Return the canonical form of *value*.

    Raises:
        TypeError: some of it is no plain data, nor a value of ours.
        RecursionError: it is nested too deeply.
    """
    pieces = list[bytes]()
    _write(value, pieces)
    return b"".join(pieces)


def _write(value: object, out: list[bytes], *, in_order: bool = False) -> None:
    """Add the form of *value* to *out*; it is called for every field of a request."""
    kind: Any = type(value)
    if kind is str or value is None:
        _write_scalar(value, out)
    elif kind is tuple or kind is list:
        _write_sequence(cast("Sequence[object]", value), out, in_order=in_order)
    elif (layout := _layout(kind)) is not None:
        head, fields = layout
        out.append(head)
        for title, field in fields:
            out.append(title)
            _write(getattr(value, field), out, in_order=in_order or field in IN_ORDER)
    else:
        match value:
            case bool() | int() | float() | str():
                _write_scalar(value, out)
            case tuple() | list():
                items = cast("Sequence[object]", value)
                _write_sequence(items, out, in_order=in_order)
            case Mapping():
                pairs = cast("Mapping[object, object]", value)
                _write_mapping(pairs, out, in_order=in_order)
            case _:
                msg = f"a {kind.__name__} has no canonical form"
                raise TypeError(msg)


def _write_scalar(value: object, out: list[bytes]) -> None:
    match value:
        case None:
            out.append(b"n")
        case str():
            # A lone surrogate comes in as an escape in JSON.
            text = value.encode("utf-8", "surrogatepass")
            out += (b"s%d:" % len(text), text)
        case bool():
            out.append(b"t" if value else b"f")
        case int():
            # Of any length: decimal digits have a limit.
            out.append(b"i%x;" % value)
        case _:
            out.append(b"d" + struct.pack(">d", value))


def _write_sequence(
    value: Sequence[object], out: list[bytes], *, in_order: bool
) -> None:
    """Write a JSON array, whether a tuple holds it here or a list."""
    out.append(b"l%d:" % len(value))
    for item in value:
        _write(item, out, in_order=in_order)


def _write_mapping(
    value: Mapping[object, object], out: list[bytes], *, in_order: bool
) -> None:
    out.append(b"%b%d:" % (b"M" if in_order else b"m", len(value)))
    if not value:
        return
    items = [(canonical(key), key, its) for key, its in value.items()]
    for written, key, its in items if in_order else sorted(items, key=_first):
        out.append(written)
        _write(its, out, in_order=in_order or key in IN_ORDER)


def _first(item: tuple[bytes, object, object]) -> bytes:
    return item[0]


@cache
def _layout(
    kind: type[Any],
) -> tuple[bytes, tuple[tuple[bytes, str], ...]] | None:
    """Return the head of a value of ours, and its fields with theirs."""
    if not attrs.has(kind):
        return None
    fields = tuple(field.name for field in attrs.fields(kind))
    name = kind.__name__.encode()
    head = b"o%d:%b%d:" % (len(name), name, len(fields))
    return head, tuple((b"%d:%b" % (len(f), f.encode()), f) for f in fields)
