"""The process keeps its keys to itself: no core, no debugger, no variable left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from duckservice.config import Config, parse
from duckservice.host.hardening import scrub

PROJECT = Path(__file__).parents[1]
KEY = "canary-key-of-the-environment-6d0f"

LOOK = """
import ctypes, json, os, resource, sys
from duckservice import process

def look(_main, setting):
    found = {
        "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "environ": dict(os.environ),
        "inherited": os.popen("/usr/bin/env").read(),
        "reread": setting.read_config().providers["openai"].api_key is not None,
    }
    json.dump(found, sys.stdout)
    return 0

process.trio.run = look
process.main(["--config", sys.argv[1]])
"""


def started(tmp_path, **environ):
    """Return what a daemon's process is like, once it has begun."""
    config = tmp_path / "config.toml"
    config.write_text('[providers.openai]\napi_key = "env:MY_KEY"\n')
    result = subprocess.run(
        [sys.executable, "-c", LOOK, str(config)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ},
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return json.loads(result.stdout)


def test_the_daemon_leaves_no_core_and_lets_no_debugger_in(tmp_path) -> None:
    found = started(tmp_path, MY_KEY=KEY)
    assert found["dumpable"] == 0
    assert found["core"] == [0, 0]


CRASH = """
import os, resource
from duckservice.host.hardening import harden
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
harden(os.environ)
os.abort()
"""


@pytest.mark.parametrize(("word", "cores"), [("", 0), ("1", 1)])
def test_a_crash_leaves_a_core_file_only_where_that_is_asked_for(
    tmp_path, word, cores
) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if pattern.startswith(("/", "|")) or limit == 0:
        pytest.skip("this system keeps core files elsewhere, or none")
    environ = {"PYTHONPATH": str(PROJECT), "DUCK_DUMPABLE": word}
    result = subprocess.run(
        [sys.executable, "-c", CRASH],
        cwd=tmp_path,
        env=environ,
        timeout=60,
        check=False,
    )
    assert result.returncode == -signal.SIGABRT
    assert len(list(tmp_path.iterdir())) == cores


def test_for_debugging_it_can_be_left_open(tmp_path) -> None:
    found = started(tmp_path, MY_KEY=KEY, DUCK_DUMPABLE="1")
    assert found["dumpable"] == 1


@pytest.mark.parametrize("word", ["", "0", "yes"])
def test_only_a_one_leaves_it_open(tmp_path, word) -> None:
    assert started(tmp_path, MY_KEY=KEY, DUCK_DUMPABLE=word)["dumpable"] == 0


def test_a_key_is_taken_out_of_the_environment_and_a_reload_still_has_it(
    tmp_path,
) -> None:
    found = started(tmp_path, MY_KEY=KEY, OTHER="stays")
    assert "MY_KEY" not in found["environ"]
    assert found["environ"]["OTHER"] == "stays"
    assert KEY not in found["inherited"]
    assert "OTHER=stays" in found["inherited"]
    assert found["reread"]


def test_all_variables_with_a_key_are_taken_and_no_others() -> None:
    environ = {
        "A": KEY,
        "SAME_KEY_AGAIN": KEY,
        "SECRET": KEY + "-client",
        "HEADER": KEY + "-header",
        "PLAIN_HEADER": "core-team-of-ducks",
        "SHORT": "ollama",
        "AWS_SECRET_ACCESS_KEY": KEY + "-aws",
        "PATH": "/bin",
    }
    config = parse(
        """
        [providers.openai]
        api_key = "env:A"
        headers = { "X-Team" = "core-team-of-ducks", "X-Api-Token" = "HEADER" }
        [providers.local]
        adapter = "openai-compatible"
        base_url = "http://127.0.0.1:1/v1"
        api_key = "env:SHORT"
        [providers.gateway]
        adapter = "openai-compatible"
        base_url = "https://t.example/v1"
        [providers.gateway.auth]
        type = "oauth2"
        token_url = "https://t.example/token"
        client_id = "me"
        client_secret = "env:SECRET"
        [providers.bedrock]
        region = "eu-central-1"
        [providers.bedrock.auth]
        type = "aws"
        access_key_id = "env:A"
        secret_access_key = "env:AWS_SECRET_ACCESS_KEY"
        """.replace("HEADER", environ["HEADER"]),
        file="config.toml",
        environ=environ,
    )
    names = ["A", "SAME_KEY_AGAIN", "SECRET", "HEADER"]
    assert scrub(environ, config) == names
    assert sorted(environ) == sorted(
        ["AWS_SECRET_ACCESS_KEY", "PATH", "PLAIN_HEADER", "SHORT"]
    )


def test_without_keys_nothing_is_taken() -> None:
    environ = {"PATH": "/bin", "EMPTY": ""}
    assert scrub(environ, Config.default()) == []
    assert len(environ) == 2
