"""What the keys of config.toml mean, for the page about them.

It is said in `MORE`, else by the comment at the key in config.toml, else by the text
under the field in `duckservice.config`.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

NAMES: Final = {"providers": "openai", "budgets": "daily"}
"""Which table of config.toml speaks for the tables of any name."""

MORE: Final[Mapping[str, str]] = {
    "service.access": "who may connect",
    "service.access.mode": 'of the socket; `"0660"` opens it to the group',
    "service.access.group": "whose members may connect; this machine must have it",
    "providers.adapter": "what is spoken there; see the [pages](providers/README.md)",
    "providers.api_key": "your key at the provider",
    "providers.timeout": "how long it may take",
    "providers.rate_limit": "a bucket of requests",
    "providers.rate_limit.capacity": "how many requests may come at once",
    "providers.limits": "what it allows in every window of 60 s",
    "providers.limits.requests_per_minute": "requests",
    "providers.limits.tokens_per_minute": "tokens, of prompts and replies",
    "providers.key_limits": "what it allows each of several keys",
    "providers.key_limits.requests_per_minute": "requests",
    "providers.key_limits.tokens_per_minute": "tokens, of prompts and replies",
    "providers.timeout.connect": "until the connection is made, TLS included",
    "providers.timeout.first_byte": "until the answer begins",
    "providers.timeout.idle": "between two pieces of an answer",
    "providers.breaker": "when it gets a rest, and how it comes back",
    "providers.breaker.failure_threshold": "failures in a row that open it",
    "providers.breaker.reset_timeout": "how long it stays open",
    "providers.breaker.success_threshold": "successes in a row that close it again",
    "providers.breaker.half_open_max": "probes at a time, while it finds out",
    "providers.price.input": "of the prompt",
    "providers.price.output": "of the reply",
    "budgets.limit_usd": "what may be spent in the window",
    "budgets.match": "which requests it binds; absent: all",
    **{
        f"store.retention.{state}": f"of jobs that are {state}"
        for state in ("completed", "discarded", "cancelled", "expired")
    },
}
"""Of keys whose comment speaks of several, or that have none."""

PROPER: Final = ("Google", "AWS", "OpenAI", "Azure", "USD", "US")


def meaning(cls: Any, path: str) -> str:
    """Return what a key means: its comment, else its text, else what stands in `MORE`."""
    name = path.rpartition(".")[2]
    found = MORE.get(path) or comments().get(path) or field_texts(cls).get(name, "")
    text = sentence(found).rstrip(".")
    return text if text.startswith(PROPER) else text[:1].lower() + text[1:]


def sentence(text: str) -> str:
    """Return *text* on one line, as Markdown shows it."""
    plain = " ".join(text.replace("``", "`").split())
    return re.sub(r"(?<!`)\*", r"\\*", plain)


@cache
def field_texts(cls: Any) -> dict[str, str]:
    """Return the texts that stand under the fields of a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = text
            case _:
                pass
    return found


_HEAD: Final = re.compile(r"(?:# )?\[([a-z.-]+)\]")
_KEY: Final = re.compile(r"(?:# )?([a-z_]+) = (.*)")
_GOES_ON: Final = re.compile(r"#? +# (.*)")


@cache
def comments() -> dict[str, str]:
    """Return the comments at the keys of config.toml, by the keys' paths."""
    found: dict[str, str] = {}
    table = key = ""
    speaking = {f"{many}.{one}": many for many, one in NAMES.items()}
    for line in (ROOT / "config.toml").read_text().splitlines():
        if (head := _HEAD.match(line)) is not None:
            table, key = speaking.get(head[1], head[1]), ""
        elif (its := _KEY.match(line)) is not None:
            key = f"{table}.{its[1]}"
            found[key] = _comment(its[1], its[2])
        elif key and (more := _GOES_ON.fullmatch(line)) is not None:
            found[key] += f" {more[1].strip()}"
        else:
            key = ""
    return found


def _comment(key: str, text: str) -> str:
    """Return what stands behind the value that *text* begins with."""
    for at in (place.start() for place in re.finditer(" #", text)):
        try:
            tomllib.loads(f"{key} = {text[:at]}")
        except tomllib.TOMLDecodeError:
            continue
        return text[at + 2 :].strip()
    return ""
