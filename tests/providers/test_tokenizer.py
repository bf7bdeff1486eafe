from __future__ import annotations

import base64
import hashlib
import os
import socket
import sys
from types import FunctionType, ModuleType

import attrs
import pytest

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    ResponseFormat,
    TextPart,
    Tool,
    Usage,
)
from duckservice.config import ProviderConfig, Secret
from duckservice.providers import tokenizer
from duckservice.providers.catalog import make_provider
from duckservice.providers.estimate import estimated_prompt
from duckservice.providers.tokenizer import may_know, prompt_usage

URL = "https://data.example/encodings/o200k_base.tiktoken"
RANKS = {b"quack": 0, b" ": 1, b"user": 2, b"system": 3, b"duck": 4}
DATA = b"".join(
    base64.b64encode(token) + b" %d\n" % rank for token, rank in RANKS.items()
)
FILE = hashlib.sha1(URL.encode()).hexdigest()

HELLO = ChatRequest(model="gpt-4o", messages=(Message.of("user", "quack duck"),))
COUNTED = 3 + (3 + 1 + 3)
"""The start of the reply; what is around a message, its role, three tokens."""


class Encoding:
    """As tiktoken's, but a token that it does not know is one character."""

    def __init__(self, name, *, mergeable_ranks, special_tokens):
        self.ranks = mergeable_ranks

    def encode_ordinary(self, text):
        tokens = []
        while text:
            known = [t for t in self.ranks if text.encode().startswith(t)]
            tokens.append(text[: len(known[0]) if known else 1])
            text = text[len(tokens[-1]) :]
        return tokens


def downloads(url, expected_hash=None):
    pytest.fail("it downloads")


@pytest.fixture
def tiktoken(monkeypatch, tmp_path):
    """Put a library of tiktoken's shape in place of tiktoken, with an empty cache."""
    model = ModuleType("tiktoken.model")
    known = {"gpt-4o": "o200k_base", "gpt-5": "o200k_base", "gpt-oss": "o200k_harmony"}
    model.encoding_name_for_model = known.__getitem__
    public = ModuleType("tiktoken_ext.openai_public")
    public.load_tiktoken_bpe = downloads
    digest = hashlib.sha256(DATA).hexdigest()
    source = f"""
def o200k_base():
    ranks = load_tiktoken_bpe({URL!r}, expected_hash={digest!r})
    return {{"name": "o200k_base", "mergeable_ranks": ranks, "special_tokens": {{}}}}
"""
    exec(source, public.__dict__)
    public.ENCODING_CONSTRUCTORS = {"o200k_base": public.o200k_base}
    library = ModuleType("tiktoken")
    library.Encoding = Encoding
    monkeypatch.setitem(sys.modules, "tiktoken", library)
    monkeypatch.setitem(sys.modules, "tiktoken.model", model)
    monkeypatch.setitem(sys.modules, "tiktoken_ext", ModuleType("tiktoken_ext"))
    monkeypatch.setitem(sys.modules, "tiktoken_ext.openai_public", public)
    monkeypatch.setattr(tokenizer, "is_installed", lambda: True)
    monkeypatch.setattr(tokenizer, "_encodings", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert isinstance(public.o200k_base, FunctionType)
    return tmp_path


@pytest.fixture
def cached(tiktoken):
    (tiktoken / FILE).write_bytes(DATA)
    return tiktoken


def test_a_prompt_is_counted_with_what_stands_around_its_messages(cached):
    assert prompt_usage(HELLO) == Usage(input_tokens=COUNTED)
    more = attrs.evolve(HELLO, messages=(Message.of("system", "duck"), *HELLO.messages))
    assert prompt_usage(more).input_tokens == COUNTED + 3 + 1 + 1
    named = Message(role="user", parts=(TextPart(text="quack duck"),), name="duck")
    assert prompt_usage(attrs.evolve(HELLO, messages=(named,))).input_tokens == (
        COUNTED + 1 + 1
    )


def test_a_models_maker_may_stand_before_its_name(cached):
    request = attrs.evolve(HELLO, model="openai/gpt-4o")
    assert prompt_usage(request) == Usage(input_tokens=COUNTED)


PICTURE = Message(role="user", parts=(ImagePart(url="https://p.example/1"),))
GUESSED = {
    "newer models": attrs.evolve(HELLO, model="gpt-5"),
    "open models": attrs.evolve(HELLO, model="gpt-oss"),
    "tools": attrs.evolve(HELLO, tools=(Tool(name="quack"),)),
    "pictures": attrs.evolve(HELLO, messages=(PICTURE,)),
    "schemas": attrs.evolve(HELLO, response_format=ResponseFormat(type="json_object")),
}


@pytest.mark.parametrize("guessed", GUESSED)
def test_what_nobody_has_published_is_counted_and_marked(cached, guessed):
    usage = prompt_usage(GUESSED[guessed])
    assert usage.estimated
    assert usage.input_tokens >= 3 + 3 + 1
    assert usage != estimated_prompt(GUESSED[guessed])


def test_without_its_data_the_size_is_estimated(tiktoken):
    assert prompt_usage(HELLO) == estimated_prompt(HELLO)
    assert list(tiktoken.iterdir()) == []


def test_data_that_comes_later_is_used(tiktoken):
    assert prompt_usage(HELLO).estimated
    (tiktoken / FILE).write_bytes(DATA)
    assert not prompt_usage(HELLO).estimated


@pytest.mark.parametrize("data", [b"", DATA + b"x", b"\0" * 100])
def test_data_that_is_not_what_it_should_be_is_neither_used_nor_deleted(tiktoken, data):
    (tiktoken / FILE).write_bytes(data)
    assert prompt_usage(HELLO) == estimated_prompt(HELLO)
    assert (tiktoken / FILE).read_bytes() == data


def test_data_that_is_no_file_holds_nobody_up(tiktoken):
    os.mkfifo(tiktoken / FILE)
    assert prompt_usage(HELLO) == estimated_prompt(HELLO)
    (tiktoken / FILE).unlink()
    (tiktoken / FILE).mkdir()
    assert prompt_usage(HELLO) == estimated_prompt(HELLO)


def test_data_that_is_too_large_is_not_read(tiktoken):
    with (tiktoken / FILE).open("wb") as file:
        file.truncate(tokenizer.DATA_BYTES_MAX + 1)
    assert prompt_usage(HELLO) == estimated_prompt(HELLO)


def test_the_cache_is_where_tiktoken_has_it(cached, monkeypatch, tmp_path):
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(cached))
    assert not prompt_usage(HELLO).estimated
    monkeypatch.setattr(tokenizer, "_encodings", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # tiktoken's word for: none
    assert prompt_usage(HELLO).estimated
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.delenv("DATA_GYM_CACHE_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert prompt_usage(HELLO).estimated
    (tmp_path / "data-gym-cache").mkdir()
    (tmp_path / "data-gym-cache" / FILE).write_bytes(DATA)
    assert not prompt_usage(HELLO).estimated


def test_a_prompt_that_is_too_long_is_estimated(cached, monkeypatch):
    monkeypatch.setattr(tokenizer, "PROMPT_CHARACTERS_MAX", 5)
    assert prompt_usage(HELLO) == estimated_prompt(HELLO)


def test_a_model_that_it_does_not_know_is_estimated(cached):
    request = attrs.evolve(HELLO, model="gpt-17")
    assert prompt_usage(request) == estimated_prompt(request)


@pytest.mark.parametrize("model", ["gpt-4o", "o3", "openai/gpt-5", "ft:gpt-4o:x"])
def test_models_of_openai_may_be_known(tiktoken, model):
    assert may_know(model)
    assert not may_know(f"x/{model}")


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "llama3", "olmo", ""])
def test_models_of_others_are_not(tiktoken, model):
    assert not may_know(model)


def test_without_tiktoken_nothing_is_known(monkeypatch):
    monkeypatch.setattr(tokenizer, "is_installed", lambda: False)
    assert not may_know("gpt-4o")


async def test_a_provider_without_an_endpoint_counts_by_it(cached):
    config = ProviderConfig(
        name="up",
        adapter="openai",
        api_key=Secret("sk-0123456789abcdef"),
        model_map={"fast": "gpt-4o"},
    )
    provider = make_provider(config)
    fast = attrs.evolve(HELLO, model="fast")
    assert await provider.count_tokens(fast) == Usage(input_tokens=COUNTED)
    other = attrs.evolve(HELLO, model="llama3")
    assert await provider.count_tokens(other) == estimated_prompt(other)
    await provider.aclose()


def test_the_real_library_downloads_and_deletes_nothing(monkeypatch, tmp_path):
    public = pytest.importorskip("tiktoken_ext.openai_public")

    def connect(*_):
        pytest.fail("it connects")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(tokenizer, "_encodings", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for model in ("gpt-4o", "gpt-4", "gpt-5", "gpt-oss-20b", "gpt2", "no-such-model"):
        request = attrs.evolve(HELLO, model=model)
        assert prompt_usage(request) == estimated_prompt(request)
    assert list(tmp_path.iterdir()) == []
    # What it would look for is what tiktoken itself looks for.
    wanted = []
    monkeypatch.setattr(tokenizer, "_cached", lambda name: wanted.append(name) or b"")
    assert prompt_usage(HELLO).estimated
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    assert wanted == [hashlib.sha1(url.encode()).hexdigest()]
    assert "o200k_base" in public.ENCODING_CONSTRUCTORS
