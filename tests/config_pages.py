"""What docs/configuration.md must say, made from the values that config.toml is read into.

    python -m tests.config_pages        writes the tables of the page anew

What is allowed are the markers of the fields; `config_meanings` knows what keys mean.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs

from duckservice import config as values
from duckservice.config import CaFile, Config, ProviderConfig, Proxy, Secret
from duckservice.config_toml.structure import keys_of
from tests.config_meanings import ROOT, meaning, sentence

PAGE: Final = ROOT / "docs" / "configuration.md"
BEGIN: Final = "<!-- made by tests/config_pages.py -->"
END: Final = "<!-- end -->"

SEE: Final[Mapping[str, str]] = {
    "store": "store.md",
    "providers": "providers/README.md",
    "providers.auth": "providers/README.md",
    "providers.limits": "limits.md",
    "providers.breaker": "breaker.md",
    "routing": "routing.md",
    "cache": "cache.md",
    "budgets": "budgets.md",
    "telemetry": "opentelemetry.md",
}
"""Where more is said of a table."""

ABOUT: Final[Mapping[str, str]] = {
    "providers.limits": "What the provider allows in every window of 60 s; absent: any.",
    "providers.key_limits": "The same for each of several keys.",
}
"""Of tables of which the code says it in Python's words."""


def tables() -> str:
    """Return all tables of the page, each with its heading."""
    parts = [_section(name, _kind(Config, name)) for name in keys_of(Config)]
    return "\n".join(part for section in parts for part in section)


def page(old: str) -> str:
    """Return the page with its tables as they are to be."""
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _section(name: str, kind: Any) -> Iterator[str]:
    """Yield a table of the file, and the tables within it."""
    if get_origin(kind) is Mapping:
        kind = get_args(kind)[1]
        yield f"## [{name}.NAME]\n"
    else:
        yield f"## [{name}]\n"
    yield from _table(name, kind)


def _table(path: str, cls: Any) -> Iterator[str]:
    see = f" More: [{path}]({SEE[path]})." if path in SEE else ""
    yield sentence(ABOUT.get(path) or cls.__doc__ or "") + see + "\n"
    yield "| key | value | default | |\n| --- | --- | --- | --- |"
    inner = list[tuple[str, Any]]()
    for field in _fields(cls):
        where = f"{path}.{field.name}"
        kind = _kind(cls, field.name)
        if attrs.has(kind) and kind not in (CaFile, Proxy):
            inner.append((where, kind))
            link = where.replace(".", "")
            value, default = f"[a table](#{link})", ""
        else:
            value, default = said(kind), written(kind, field.default)
        if where == "providers.adapter":
            default = "the table's name, if it is one"
        told = meaning(cls, where)
        cells = (f"`{field.name}`", _shorter(value, told), default, told)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for where, kind in inner:
        yield f"### {where}\n"
        yield from _table(where, kind)


def _shorter(value: str, told: str) -> str:
    """Return *value*, without the words that *told* has, too."""
    words = re.findall(r'`"([^"]+)"`', value)
    if len(words) < 3 or not all(word in told for word in words):
        return value
    return "a list of words" if value.startswith("a list") else "a word"


def _fields(cls: Any) -> list[attrs.Attribute[Any]]:
    known = set(keys_of(cls)) - ({"name"} if cls is ProviderConfig else set())
    return [field for field in attrs.fields(cls) if field.name in known]


def _kind(cls: Any, name: str) -> Any:
    """Return the kind of a field, without the None that stands for its absence."""
    kind = inspect.get_annotations(cls, eval_str=True)[name]
    if get_origin(kind) in {Union, UnionType}:
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    return kind


def said(kind: Any) -> str:
    """Return in words what may be given."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated and isinstance(kind.__metadata__[0], values.AtLeastOne):
        return said(arguments[0]).replace("a list:", "a list of at least one:")
    if origin is Annotated:
        return _marked(kind.__metadata__[0])
    if origin is Literal:
        return ", ".join(f'`"{word}"`' for word in arguments)
    if origin is tuple:
        return f"a list: {said(arguments[0])}"
    if origin is Mapping:
        return f"a table: {said(arguments[0])} = {said(arguments[1])}"
    words = {bool: "true or false", Secret: "a [secret](#secrets)"}
    words |= {CaFile: "a path, absolute or from `~/`"}
    words |= {Proxy: "a URL; with a login: a [secret](#secrets)"}
    words |= {Path: "a path, absolute or from `~/`", str: "text"}
    return words[kind]


_PLAIN: Final[Mapping[type, str]] = {
    values.Money: "US dollars",
    values.HeaderName: "text",
    values.HeaderValue: "text",
    values.HeaderSecret: "a [secret](#secrets)",
    values.BaseUrl: "a URL",
}


def _marked(marker: Any) -> str:
    match marker:
        case values.Whole(least=least, most=most):
            return f"{least} to {most:,}"
        case values.Number(most=most):
            return f"more than 0, up to {most:,}"
        case values.Duration(zero=zero):
            return "a [duration](#values), or 0" if zero else "a [duration](#values)"
        case values.Size(least=least, most=most):
            return f"a [size](#values), {_bytes(least)} to {_bytes(most)}"
        case values.OctalMode(modes=modes):
            return " or ".join(f'`"{mode:04o}"`' for mode in modes)
        case values.Text(chars_max=256, empty=False):
            return "text"
        case values.Text(chars_max=most):
            return f"text of up to {most:,} characters"
        case _:
            return _PLAIN[type(marker)]


def written(kind: Any, default: Any) -> str:
    """Return a default as the file has it; nothing, where nothing is given."""
    if default is attrs.NOTHING:
        return "required"
    if (factory := getattr(default, "factory", None)) is not None:
        default = factory()
    if default is None or default in ("", (), {}):
        return ""
    marker = kind.__metadata__[0] if get_origin(kind) is Annotated else None
    match marker, default:
        case values.Duration(), _:
            return f"`{_seconds(default)}`"
        case values.Size(), _:
            return f'`"{_bytes(default)}"`'
        case values.OctalMode(), _:
            return f'`"{default:04o}"`'
        case _, bool():
            return f"`{str(default).lower()}`"
        case _, str() | PurePath():
            return f'`"{default}"`'
        case _:
            return f"`{default}`"


def _seconds(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and not seconds % size:
            return f'"{seconds / size:g}{unit}"'
    return f'"{seconds:g}s"' if seconds else '"0s"'


def _bytes(count: int) -> str:
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if not count % (1 << shift):
            return f"{count >> shift}{unit}"
    return str(count)


def main() -> None:
    """Write the page's tables anew."""
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
