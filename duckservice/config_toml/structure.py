"""Tables to values, by the annotations of `duckservice.config`; all errors at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from duckservice import config as values
from duckservice.config import (
    AdapterName,
    CaFile,
    Config,
    ProviderConfig,
    Proxy,
    Secret,
)
from duckservice.config_toml import rules, scalars, secrets, ways_out
from duckservice.config_toml.refused import Refused, did_you_mean, one_of, shown

Hook = Callable[[Any, Any], Any]

_SCALARS: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    values.Whole: scalars.whole,
    values.Number: scalars.number,
    values.Money: scalars.money,
    values.Duration: scalars.duration,
    values.Size: scalars.size,
    values.OctalMode: scalars.octal_mode,
    values.Text: scalars.text,
    values.HeaderName: scalars.header_name,
    values.HeaderValue: scalars.header_value,
    values.BaseUrl: scalars.base_url,
}
_PROVIDER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ADAPTERS: Final[tuple[str, ...]] = get_args(AdapterName)


def structure(tables: Mapping[str, Any], sources: secrets.Sources) -> Config:
    """Return the values in *tables*.

    Raises:
        ExceptionGroup: with a `Refused` in it for everything that is wrong.
    """
    converter = _converter(sources)
    config: Config = converter.structure(tables, Config)
    return config


def _converter(sources: secrets.Sources) -> Converter:
    converter = Converter(detailed_validation=True)

    def header_secret(value: Any, _: Any) -> Secret | None:
        return secrets.resolve(sources, value, blanks=True)

    def header_secret_hook(_kind: Any, _: Converter) -> Hook:
        return header_secret

    for is_kind, factory in (
        (attrs.has, _class_hook),
        (_is_array, _array_hook),
        (_is_mapping, _mapping_hook),
        (_is_literal, _literal_hook),
        (_is_marked, _scalar_hook),
        (_is_header_secret, header_secret_hook),
        (_is_never_empty, _never_empty_hook),
    ):
        converter.register_structure_hook_factory(is_kind, factory)

    def secret(value: Any, _: Any) -> Secret | None:
        return secrets.resolve(sources, value)

    def proxy(value: Any, _: Any) -> Proxy | None:
        return ways_out.proxy(sources, value)

    converter.register_structure_hook(Secret, secret)
    converter.register_structure_hook(Proxy, proxy)
    converter.register_structure_hook(CaFile, lambda value, _: ways_out.ca_file(value))
    converter.register_structure_hook(bool, lambda value, _: scalars.boolean(value))
    converter.register_structure_hook(Path, lambda value, _: scalars.path(value))
    return converter


def _is_marked(kind: Any) -> bool:
    return any(type(m) in _SCALARS for m in getattr(kind, "__metadata__", ()))


def _scalar_hook(kind: Any, _: Converter) -> Hook:
    marker = kind.__metadata__[0]
    check = _SCALARS[type(marker)]
    return lambda value, _kind: check(marker, value)


def _is_never_empty(kind: Any) -> bool:
    its = getattr(kind, "__metadata__", ())
    return any(isinstance(marker, values.AtLeastOne) for marker in its)


def _never_empty_hook(kind: Any, converter: Converter) -> Hook:
    array = get_args(kind)[0]

    def never_empty(value: Any, _kind: Any) -> Any:
        if value == []:
            raise Refused(
                "an empty array",
                "at least one name or glob",
                hint="without this key it is what the adapter serves by default",
            )
        return converter.structure(value, array)

    return never_empty


def _is_header_secret(kind: Any) -> bool:
    its = getattr(kind, "__metadata__", ())
    return any(isinstance(marker, values.HeaderSecret) for marker in its)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _literal_hook(kind: Any, _: Converter) -> Hook:
    names: tuple[str, ...] = get_args(kind)

    def choose(value: Any, _kind: Any) -> str:
        if isinstance(value, str) and value in names:
            return value
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise Refused(shown(value), one_of(names), hint=hint)

    return choose


def _is_array(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _array_hook(kind: Any, converter: Converter) -> Hook:
    item = get_args(kind)[0]

    def array(value: Any, _kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Refused(shown(value), "an array of strings")
        items = cast("Sequence[Any]", value)
        found = _each(enumerate(items), lambda _, v: converter.structure(v, item))
        # A reference with an empty default stands for no key.
        return tuple(each for each in found if each is not None)

    return array


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _mapping_hook(kind: Any, converter: Converter) -> Hook:
    key_kind, value_kind = get_args(kind)

    def pair(key: str, value: Any) -> tuple[Any, Any]:
        return converter.structure(key, key_kind), converter.structure(
            value, value_kind
        )

    def provider(name: str, value: Any) -> tuple[str, ProviderConfig]:
        table = _provider_table(name, value)
        found = converter.structure(table, ProviderConfig)
        return name, rules.with_defaults(found)

    read = provider if value_kind is ProviderConfig else pair

    def mapping(value: Any, _kind: Any) -> dict[Any, Any]:
        found = _each(_table(value).items(), read)
        # As in an array: there is no such header.
        return {key: its for key, its in found if its is not None}

    return mapping


def _provider_table(name: str, value: Any) -> dict[str, Any]:
    """Return a provider's table with what its name says."""
    if not _PROVIDER_NAME.fullmatch(name):
        raise Refused(
            "this name of a provider",
            "1 to 64 of the characters A-Z a-z 0-9 _ . -",
        )
    table = _table(value)
    if "name" in table:
        raise _unknown("name", ProviderConfig)
    return ({"adapter": name} if name in _ADAPTERS else {}) | table | {"name": name}


def _each(
    items: Iterable[tuple[Any, Any]], read: Callable[[Any, Any], Any]
) -> list[Any]:
    """Read each item; the errors of all of them are raised together."""
    results: list[Any] = []
    errors: list[Exception] = []
    for key, value in items:
        try:
            results.append(read(key, value))
        except (Refused, ExceptionGroup) as error:
            error.add_note(IterableValidationNote("", key, None))
            errors.append(error)
    if errors:
        raise ExceptionGroup("in an array or a table", errors)
    return results


def _class_hook(cls: Any, converter: Converter) -> Hook:
    keys = keys_of(cls)
    read = make_dict_structure_fn(cls, converter, _cattrs_detailed_validation=True)

    def structure_class(value: Any, kind: Any) -> Any:
        table = _table(value)
        errors: list[Exception] = [
            _unknown(key, cls) for key in table if key not in keys
        ]
        known = {key: table[key] for key in keys if key in table}
        try:
            result = read(known, kind)
        except ClassValidationError as error:
            errors.extend(error.exceptions)
            errors.extend(_of_the_rest(known, error, kind))
            raise ExceptionGroup(cls.__name__, errors) from None
        errors.extend(rules.check(result))
        if errors:
            raise ExceptionGroup(cls.__name__, errors)
        return result

    def _of_the_rest(
        known: dict[str, Any], error: ClassValidationError, kind: Any
    ) -> Iterable[Exception]:
        """Return what the rules find in the keys that are not refused themselves."""
        refused = _refused_keys(error)
        rest = {key: value for key, value in known.items() if key not in refused}
        try:
            return list(rules.check(read(rest, kind), refused))
        except ClassValidationError:
            return ()  # a key that is required is among the refused

    return structure_class


def _refused_keys(error: ClassValidationError) -> frozenset[str]:
    return frozenset(
        note.name
        for inner in error.exceptions
        for note in getattr(inner, "__notes__", ())
        if isinstance(note, AttributeValidationNote)
    )


def keys_of(cls: Any) -> list[str]:
    """Return the keys of the table that *cls* is read from."""
    return [f.name for f in attrs.fields(cls) if "not_a_key" not in f.metadata]


def _unknown(key: str, cls: Any) -> Refused:
    keys = [k for k in keys_of(cls) if (cls, k) != (ProviderConfig, "name")]
    return Refused(
        "an unknown key", one_of(keys), hint=did_you_mean(key, keys), key=(key,)
    )


def _table(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise Refused(shown(value), "a table")
