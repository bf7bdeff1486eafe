"""Where a key may come from, and that no message shows it."""

from __future__ import annotations

import os

import pytest

from duckservice.config import Secret
from duckservice.config_toml.refused import Refused
from duckservice.config_toml.secrets import Sources, resolve

CANARY = "canary-4f1b9c-key"


def sources(*, literal=False, **environ):
    return Sources(environ=environ, literal=literal)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(CANARY + "\n")
    path.chmod(0o600)
    return path


def refused(where, value):
    with pytest.raises(Refused) as refusal:
        resolve(where, value)
    error = refusal.value
    everything = f"{error} {error.found} {error.allowed} {error.hint} {error!r}"
    assert CANARY not in everything
    return everything


def test_a_secret_never_prints():
    secret = Secret(CANARY)
    assert CANARY not in f"{secret} {secret!r} {[secret]} {secret:}"
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY) != Secret("other")


def test_a_key_comes_from_a_variable():
    assert resolve(sources(KEY=CANARY), "env:KEY") == Secret(CANARY)


def test_a_variable_that_is_missing_is_named():
    message = refused(sources(), "env:KEY")
    assert "KEY is not set" in message
    assert '"env:KEY:"' in message


def test_an_empty_variable_counts_as_missing():
    assert "KEY is empty" in refused(sources(KEY=""), "env:KEY")
    assert resolve(sources(KEY=""), "env:KEY:default") == Secret("default")


def test_a_default_stands_in_and_an_empty_one_means_no_key():
    assert resolve(sources(), "env:KEY:a:b") == Secret("a:b")
    assert resolve(sources(), "env:KEY:") is None
    assert resolve(sources(KEY=CANARY), "env:KEY:") == Secret(CANARY)


@pytest.mark.parametrize("name", ["", "1A", "A B", CANARY, "A-B", "A" * 200])
def test_what_is_no_name_of_a_variable_is_not_shown(name):
    refused(sources(), f"env:{name}")


def test_a_key_in_place_of_a_variable_name_is_not_shown():
    assert "AIza" not in refused(sources(), "env:AIzaSyA1234567890abcdefghijklm")


def test_a_key_comes_from_a_file_without_its_newline(key_file):
    assert resolve(sources(), f"file:{key_file}") == Secret(CANARY)
    home = str(key_file.parent)
    assert resolve(sources(HOME=home), "file:~/key") == Secret(CANARY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_reach_is_refused(key_file, mode):
    key_file.chmod(mode)
    assert f"{mode:04o}" in refused(sources(), f"file:{key_file}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(key_file):
    os.chown(key_file, 12345, 12345)
    assert "12345" in refused(sources(), f"file:{key_file}")


def test_only_a_regular_file_is_read(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    assert "not a regular file" in refused(sources(), f"file:{fifo}")
    refused(sources(), f"file:{tmp_path}")
    refused(sources(), f"file:{tmp_path}/absent")
    refused(sources(), "file:relative")
    refused(sources(), "file:")


@pytest.mark.parametrize("end", ["\n\n", "\r\n", " ", "\0", "ü", "\x1b[2J"])
def test_a_key_is_printable_ascii_without_spaces(key_file, end):
    key_file.write_text(CANARY + end)
    refused(sources(), f"file:{key_file}")


def test_an_empty_or_endless_file_holds_no_key(key_file):
    key_file.write_text("\n")
    refused(sources(), f"file:{key_file}")
    key_file.write_text("x" * 100_000)
    refused(sources(), f"file:{key_file}")


def test_a_credential_is_read_where_systemd_put_it(key_file):
    key_file.chmod(0o440)
    where = sources(CREDENTIALS_DIRECTORY=str(key_file.parent))
    assert resolve(where, "credential:key") == Secret(CANARY)
    assert "CREDENTIALS_DIRECTORY" in refused(sources(), "credential:key")


@pytest.mark.parametrize("name", ["", ".", "..", "../key", "a/b", "/key", "a\0"])
def test_a_credential_has_a_plain_name(key_file, name):
    where = sources(CREDENTIALS_DIRECTORY=str(key_file.parent))
    refused(where, f"credential:{name}")


def test_a_literal_key_needs_a_private_file():
    assert "0600" in refused(sources(), CANARY)
    assert resolve(sources(literal=True), CANARY) == Secret(CANARY)
    refused(sources(literal=True), CANARY + "\n")
    refused(sources(literal=True), "")


@pytest.mark.parametrize("value", [5, True, [CANARY], {"env": CANARY}])
def test_a_key_that_is_no_string_is_not_shown(value):
    refused(sources(literal=True), value)
