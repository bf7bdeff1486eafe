"""`ca_file` and `proxy`: what may stand there, and what is said of what may not."""

import os

import pytest
import trustme

from duckservice.config import CaFile, ConfigError, ProviderConfig, parse
from duckservice.config_toml.ways_out import CA_BYTES_MAX
from duckservice.redaction import secrets_of

CANARY = "canary-5f1b9e02c7"
PROXY = f"http://me:{CANARY}@proxy.example:3128"


def read(*lines, private=False, **environ):
    text = "\n".join(["[providers.openai]", "headers.authorization = 'x'", *lines])
    return parse(text, file="c", environ=environ, private=private)


def openai(*lines, **more) -> ProviderConfig:
    return read(*lines, **more).providers["openai"]


def refused(*lines, **more) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*lines, **more)
    [complaint] = caught.value.complaints
    assert CANARY not in str(complaint)
    return str(complaint)


@pytest.fixture(name="pem")
def _pem(tmp_path):
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


# The file.


def test_a_file_is_read_with_the_config_and_shown_by_its_path(pem):
    pem.write_text(f"# Société de certification\n{pem.read_text()}", encoding="utf-8")
    config = read(f"ca_file = '{pem}'")
    its = config.providers["openai"].ca_file
    assert its == CaFile(path=pem, pem=its.pem)
    assert "BEGIN CERTIFICATE" in its.pem
    assert config.redacted()["providers"]["openai"]["ca_file"] == str(pem)
    assert "BEGIN" not in repr(config)


def test_another_file_at_the_same_path_is_another_config(pem):
    before = openai(f"ca_file = '{pem}'")
    assert openai(f"ca_file = '{pem}'") == before
    trustme.CA().cert_pem.write_to_path(str(pem))
    assert openai(f"ca_file = '{pem}'") != before


def test_a_file_in_the_home_is_found(pem, monkeypatch):
    monkeypatch.setenv("HOME", str(pem.parent))
    assert openai("ca_file = '~/ca.pem'").ca_file is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no certificate in PEM"),
        (b"hello", "holds no certificate in PEM"),
        (b"\x30\x82\x01\x0a", "openssl x509 -inform der"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot"),
        (b"-----BEGIN CERTIFICATE-----\n\xff", "a certificate that cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no cert"),
        (b"x" * (CA_BYTES_MAX + 1), "at most 1 MiB"),
    ],
)
def test_what_is_no_file_of_certificates_is_refused_by_its_path(
    tmp_path, content, said
):
    file = tmp_path / "ca.pem"
    file.write_bytes(content)
    told = refused(f"ca_file = '{file}'")
    assert told.startswith(f"c: providers.openai.ca_file: found {file}, ")
    assert said in told


def test_a_file_that_cannot_be_read_is_refused_and_not_waited_for(tmp_path):
    assert "No such file" in refused(f"ca_file = '{tmp_path}/none'")
    assert "not a regular file" in refused(f"ca_file = '{tmp_path}'")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(f"ca_file = '{tmp_path}/pipe'")
    assert "an absolute path" in refused("ca_file = 'ca.pem'")


# The proxy.


def test_a_proxy_without_a_login_may_stand_in_any_config():
    config = read("proxy = 'http://proxy.example:3128'")
    its = config.providers["openai"].proxy
    assert (its.host, its.port, its.login) == ("proxy.example", 3128, None)
    shown = config.redacted()["providers"]["openai"]["proxy"]
    assert shown == str(its) == "http://proxy.example:3128"
    assert not config.warnings
    assert str(openai("proxy = 'http://[::1]:1/'").proxy) == "http://[::1]:1"


def test_a_login_comes_as_keys_do_and_is_never_shown(tmp_path):
    file = tmp_path / "proxy"
    file.touch(0o600)
    file.write_text(f"{PROXY}\n")
    for where in ("env:P", "env:NOT_SET:" + PROXY, f"file:{file}"):
        config = read(f"proxy = '{where}'", P=PROXY)
        its = config.providers["openai"].proxy
        assert its.login.reveal() == f"me:{CANARY}"
        assert CANARY not in f"{config!r} {its} {config.redacted()} {config.warnings}"
        shown = config.redacted()["providers"]["openai"]["proxy"]
        assert shown == "http://…@proxy.example:3128"
        known = {secret.reveal() for secret in secrets_of(config)}
        assert {CANARY, f"me:{CANARY}"} <= known


def test_a_login_that_urls_escape_is_meant_as_it_was():
    its = openai(
        "proxy = 'env:P'", P="http://d%5Cme:p%40ss%3A%2F@proxy.example:1"
    ).proxy
    assert its.login.reveal() == "d\\me:p@ss:/"


def test_a_literal_login_needs_a_private_config_and_is_warned_about():
    assert "needs a config file with mode 0600" in refused(f"proxy = '{PROXY}'")
    config = read(f"proxy = '{PROXY}'", private=True)
    [warning] = config.warnings
    assert warning.startswith("providers.openai.proxy is a literal key")
    assert CANARY not in warning


def test_an_empty_default_means_no_proxy():
    assert openai("proxy = 'env:NOT_SET:'").proxy is None
    assert "NOT_SET is not set" in refused("proxy = 'env:NOT_SET'")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"https://me:{CANARY}@proxy:1", "another scheme"),
        (f"socks5://me:{CANARY}@proxy:1", "another scheme"),
        ("proxy:3128", "another scheme"),
        (f"http://me:{CANARY}@proxy", "without a port"),
        (f"http://me:{CANARY}@:1", "without a host"),
        (f"http://me:{CANARY}@proxy:99999", "malformed"),
        (f"http://me:{CANARY}@proxy:1/path", "more than host and port"),
        (f"http://me:{CANARY}@proxy:1?x=y", "more than host and port"),
        (f"http://me:{CANARY}@pro'xy:1", "malformed host"),
        (f"http://me:{CANARY}%0d%0aX: y@proxy:1", "printable"),
        (f"http://me:{CANARY}%0d%0aX:y@proxy:1", "no header can carry"),
        (f"http://:{CANARY}@proxy:1", "no header can carry"),
        (f"http://me%3Ayou:{CANARY}@proxy:1", "no header can carry"),
        (f"http://me:{CANARY * 99}@proxy:1", "longer login"),
    ],
)
def test_what_is_no_url_of_a_proxy_is_refused_unseen(url, said):
    told = refused("proxy = 'env:P'", P=url)
    assert told.startswith("c: providers.openai.proxy: found ")
    assert said in told


def test_what_would_go_through_in_clear_is_refused():
    url = "base_url = 'http://10.0.0.1/v1'"
    told = refused("proxy = 'http://p:1'", url)
    assert told.startswith("c: providers.openai.base_url")
    assert "through a proxy" in told


def test_a_mock_goes_no_way():
    with pytest.raises(ConfigError, match="connects to nobody"):
        parse("[providers.mock]\nproxy = 'http://p:1'", file="c", environ={})
