"""The tokens of OpenAI's models, counted by tiktoken where it is here with its data.

tiktoken downloads the data of an encoding unless it is in its cache. Here nothing is
ever downloaded, deleted or written: its own table of encodings is read with another
loader than its own, which takes what is in the cache and has the right digest.

    tiktoken not installed, model unknown, no data, wrong data    the rule of thumb
    gpt-3.5, gpt-4 and what follows from them, texts only         counted
    newer models, tools, pictures                                 counted, as a guess
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from duckservice.completion import ChatRequest, Message, TextPart, Usage
from duckservice.providers.estimate import (
    TextSize,
    estimated_prompt,
    part_tokens,
    tools_tokens,
)

PROMPT_CHARACTERS_MAX: Final = 1 << 20
"""Of a longer prompt the size is estimated: to count it takes too long."""

DATA_BYTES_MAX: Final = 32 << 20
"""Of an encoding; the largest has 4 MB."""

_MAKER: Final = "openai/"
"""What some put before OpenAI's names."""

_OPENAI: Final = re.compile(r"(?:openai/)?(?:ft:)?(?:gpt-|chatgpt-|o[1-9])")

_WELL_KNOWN: Final = re.compile(r"(?:ft:)?gpt-(?:3\.5-turbo|35-turbo|4)")
"""Models of which OpenAI has published what stands around a message."""

_PER_MESSAGE: Final = 3
_PER_NAME: Final = 1
_REPLY_BEGINS: Final = 3


class NoData(Exception):
    """The data of an encoding is not in the cache, or is not what it should be."""


def may_know(model: str) -> bool:
    """Say whether `prompt_usage` may do better than the rule of thumb."""
    return _OPENAI.match(model) is not None and is_installed()


@cache
def is_installed() -> bool:
    """Say whether tiktoken is."""
    return find_spec("tiktoken") is not None


def prompt_usage(request: ChatRequest) -> Usage:
    """Return the size of *request*'s prompt, marked where it is a guess.

    It blocks: for up to a second the first time, and for a long prompt.
    """
    if _characters(request) > PROMPT_CHARACTERS_MAX:
        return estimated_prompt(request)
    model = request.model.removeprefix(_MAKER)
    try:
        encoding = _encoding(_name_of_encoding(model))
    except (NoData, KeyError):
        return estimated_prompt(request)

    def size(text: str) -> int:
        return len(encoding.encode_ordinary(text))

    tokens = _REPLY_BEGINS + tools_tokens(request, size)
    tokens += sum(_message(message, size) for message in request.messages)
    is_sure = _is_plain(request) and _WELL_KNOWN.match(model) is not None
    return Usage(input_tokens=tokens, estimated=not is_sure)


def _message(message: Message, size: TextSize) -> int:
    tokens = _PER_MESSAGE + size(message.role)
    if message.name is not None:
        tokens += _PER_NAME + size(message.name)
    return tokens + sum(part_tokens(part, size) for part in message.parts)


def _is_plain(request: ChatRequest) -> bool:
    return (
        not request.tools
        and request.response_format is None
        and all(
            isinstance(part, TextPart)
            for message in request.messages
            for part in message.parts
        )
    )


def _characters(request: ChatRequest) -> int:
    return sum(
        part_tokens(part, len) for message in request.messages for part in message.parts
    )


# The encoding.

_LOADER: Final = "load_tiktoken_bpe"
"""What tiktoken's table of encodings calls, which is replaced. An encoding that is
loaded by another function, as GPT-2's, is not counted by."""

_LIKE: Final = {"o200k_harmony": "o200k_base"}
"""The same but for special tokens, which no text of a prompt has."""

_encodings: dict[str, Any] = {}
"""Those that were loaded. What is not there may come later."""


def _name_of_encoding(model: str) -> str:
    name: str = import_module("tiktoken.model").encoding_name_for_model(model)
    return _LIKE.get(name, name)


def _encoding(name: str) -> Any:
    """Return an encoding, from the cache.

    Raises:
        NoData: it is not there.
        KeyError: tiktoken knows no such encoding.
    """
    if name not in _encodings:
        constructors = import_module("tiktoken_ext.openai_public").ENCODING_CONSTRUCTORS
        known: FunctionType = constructors[name]
        if _LOADER not in known.__code__.co_names:
            raise NoData
        ours = FunctionType(known.__code__, {**known.__globals__, _LOADER: _ranks})
        _encodings[name] = import_module("tiktoken").Encoding(**ours())
    return _encodings[name]


def _ranks(url: str, expected_hash: str | None = None) -> Mapping[bytes, int]:
    """Return the ranks of all tokens; in place of tiktoken's own loader."""
    data = _cached(hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest())
    if hashlib.sha256(data).hexdigest() != expected_hash:
        raise NoData
    pairs = (line.split() for line in data.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _cached(name: str) -> bytes:
    """Read a file of the cache; anybody may write to the default one."""
    folder = _cache_folder()
    if folder is None:
        raise NoData
    try:
        # What is no regular file may never answer.
        file = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            its = os.fstat(file)
            if not stat.S_ISREG(its.st_mode) or its.st_size > DATA_BYTES_MAX:
                raise NoData
            with open(file, "rb", closefd=False) as opened:
                return opened.read()
        finally:
            os.close(file)
    except OSError as error:
        raise NoData from error


def _cache_folder() -> Path | None:
    """Return where tiktoken keeps what it has downloaded, None if it keeps nothing."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            folder = os.environ[variable]
            return Path(folder) if folder else None
    return Path(tempfile.gettempdir(), "data-gym-cache")
