"""What the providers' pages must say, made from the data that the adapters are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, cast, get_args

import attrs

from duckservice.config import (
    BASE_URLS,
    AdapterName,
    ConfigError,
    ProviderConfig,
    parse,
)
from duckservice.providers.adapters import adapter_of
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.catalog import make_provider

ADAPTERS: Final[tuple[AdapterName, ...]] = get_args(AdapterName)

ROWS: Final = (
    ("chat", "streaming"),
    ("tools", "parallel_tools"),
    ("tool_choice",),
    ("images_in",),
    ("json_object", "json_schema"),
    ("reasoning", "cached_usage", "cache_control"),
    ("messages_as_written", "hidden_prompt_tokens"),
    ("embeddings", "image_generation"),
    ("list_models", "count_tokens"),
    ("n_max", "stop_max", "temperature_max"),
    ("top_k", "seed", "penalties"),
)
"""Which capabilities stand in one row of a page's table."""

COLUMNS: Final = (
    "images_in",
    "json_schema",
    "embeddings",
    "image_generation",
    "count_tokens",
    "cache_control",
)
"""Which of them stand in the overview: those in which the providers differ most."""

PATTERNS_MAX: Final = 12

_NEEDS: Final[Mapping[AdapterName, str]] = {
    "azure": 'base_url = "https://duck.openai.azure.com"',
    "bedrock": 'region = "eu-central-1"',
    "openai-compatible": 'base_url = "http://127.0.0.1:8080/v1"',
    "vertex": 'project = "duck"',
}


def dialects(adapter: AdapterName) -> dict[str, Capabilities]:
    """Return what the provider can do, by what the config says of its dialect."""
    ways = {"by default": ""}
    if adapter == "ollama":
        ways["`base_url` ends in `/v1`"] = 'base_url = "http://127.0.0.1:11434/v1"'
    if _is_config(adapter, 'api = "responses"'):
        ways['`api = "responses"`'] = 'api = "responses"'
    return {
        title: make_provider(_config(adapter, line)).capabilities
        for title, line in ways.items()
    }


def capability_table(adapter: AdapterName) -> str:
    """Return the table of a page: a row for each group, a column for each dialect."""
    columns = dialects(adapter)
    rows = [["", *columns], *(["---"] * (len(columns) + 1),)]
    for names in ROWS:
        first, *others = (_said(can, names) for can in columns.values())
        head = ", ".join(f"`{name}`" for name in names)
        same = ("the same" if said == first else said for said in others)
        rows.append([head, first, *same])
    return _table(rows)


def facts_table(adapter: AdapterName) -> str:
    """Return where a provider is, what its key goes into, which models it serves."""
    its = adapter_of(adapter)
    header = its.key_header
    key = f"`{header}: Bearer KEY`" if header == "authorization" else f"`{header}: KEY`"
    shape = its.key_shape
    rows = [
        ["", ""],
        ["---", "---"],
        ["adapter", f"`{adapter}`"],
        ["address", f"`{url}`" if (url := BASE_URLS.get(adapter)) else "see below"],
        ["a key goes into", key],
        ["a key looks like", "anything" if shape is None else f"`{shape.pattern}`"],
        ["models by default", _patterns(its.models)],
    ]
    if its.foreign_models:
        rows.append(["but not", _patterns(its.foreign_models)])
    listed = its.price_list
    rows.append(["prices", f"`{listed}` in genai-prices" if listed else "by address"])
    return _table(rows)


def overview_table() -> str:
    """Return the table of all adapters."""
    rows = [["", *(f"`{name}`" for name in COLUMNS)], ["---"] * (len(COLUMNS) + 1)]
    for adapter in ADAPTERS:
        can = dialects(adapter)["by default"]
        cells = [_word(getattr(can, name)) for name in COLUMNS]
        rows.append([f"[{adapter}]({adapter}.md)", *cells])
    return _table(rows)


def _config(adapter: AdapterName, line: str) -> ProviderConfig:
    key = "" if adapter == "mock" else 'api_key = "env:KEY"'
    needs = "" if line.startswith("base_url") else _NEEDS.get(adapter, "")
    text = "\n".join(("[providers.it]", f'adapter = "{adapter}"', key, needs, line))
    config = parse(text, file="page", environ={"KEY": "k" * 40})
    return config.providers["it"]


def _is_config(adapter: AdapterName, line: str) -> bool:
    try:
        _config(adapter, line)
    except ConfigError:
        return False
    return True


def _said(can: Capabilities, names: Iterable[str]) -> str:
    return "; ".join(_word(getattr(can, name)) for name in names)


def _word(value: Any) -> str:
    match value:
        case True:
            return "yes"
        case False:
            return "no"
        case None:
            return "any"
        case frozenset():
            return ", ".join(sorted(cast("frozenset[str]", value))) or "none"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _patterns(globs: Collection[str]) -> str:
    more = len(globs) - PATTERNS_MAX
    shown = " ".join(f"`{glob}`" for glob in list(globs)[:PATTERNS_MAX])
    return f"{shown} and {more} more" if more > 0 else shown


def _table(rows: Iterable[list[str]]) -> str:
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "".join(f"| {line} |\n" for line in lines)


def fields_of_rows() -> set[str]:
    """Return the capabilities that the table of a page shows."""
    return {name for names in ROWS for name in names}


def all_fields() -> set[str]:
    """Return all capabilities that there are."""
    return {field.name for field in attrs.fields(Capabilities)}
