import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from duckservice.paths import (
    ConfigPath,
    StartupError,
    checked_socket_path,
    config_path,
    socket_path,
    state_dir,
)

HOME = {"HOME": "/home/u"}
RUNTIME = {"XDG_RUNTIME_DIR": "/run/user/1"}
STATE = {"XDG_STATE_HOME": "/home/u/state"}
CONFIG = {"XDG_CONFIG_HOME": "/home/u/conf"}
FROM_HOME = Path("/home/u/.local/state/duckd/duckd.sock")
FROM_RUNTIME = Path("/run/user/1/duckd/duckd.sock")


@pytest.mark.parametrize(
    ("environ", "flag", "configured", "expected"),
    [
        ({"DUCK_SOCKET": "/e", **RUNTIME, **HOME}, "/f", Path("/c"), "/f"),
        ({"DUCK_SOCKET": "/e", **RUNTIME, **HOME}, None, Path("/c"), "/e"),
        (RUNTIME | HOME, None, Path("/c"), "/c"),
        (RUNTIME | HOME, None, None, FROM_RUNTIME),
        (HOME, None, None, FROM_HOME),
        (HOME | STATE, None, None, FROM_HOME),
        ({"DUCK_SOCKET": "", "XDG_RUNTIME_DIR": "", **HOME}, None, None, FROM_HOME),
        ({"XDG_RUNTIME_DIR": "run", **HOME}, None, None, FROM_HOME),
        (HOME, "~/x", None, "/home/u/x"),
        (HOME, None, Path("~/x"), "/home/u/x"),
        (HOME, "x", None, "x"),
        (HOME, Path("~x/y"), None, "~x/y"),
    ],
)
def test_where_the_socket_is(environ, flag, configured, expected):
    assert socket_path(environ, flag=flag, configured=configured) == Path(expected)


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        (STATE | HOME, Path("/c"), "/c"),
        (STATE | HOME, Path("~/c"), "/home/u/c"),
        (STATE | HOME, None, "/home/u/state/duckd"),
        ({"XDG_STATE_HOME": "relative", **HOME}, None, "/home/u/.local/state/duckd"),
        (HOME, None, "/home/u/.local/state/duckd"),
    ],
)
def test_where_the_state_is(environ, configured, expected):
    assert state_dir(environ, configured=configured) == Path(expected)


@pytest.mark.parametrize(
    ("environ", "flag", "expected"),
    [
        ({"DUCK_CONFIG": "/e", **CONFIG, **HOME}, "/f", ConfigPath(Path("/f"), True)),
        ({"DUCK_CONFIG": "/e", **CONFIG, **HOME}, None, ConfigPath(Path("/e"), True)),
        (
            CONFIG | HOME,
            None,
            ConfigPath(Path("/home/u/conf/duckd/config.toml"), False),
        ),
        (HOME, None, ConfigPath(Path("/home/u/.config/duckd/config.toml"), False)),
        ({}, None, None),
    ],
)
def test_where_the_configuration_is(environ, flag, expected):
    assert config_path(environ, flag=flag) == expected


def test_without_a_home_one_is_told_what_to_set():
    with pytest.raises(StartupError, match="DUCK_SOCKET") as caught:
        socket_path({})
    assert caught.value.exit_code == 78
    with pytest.raises(StartupError, match=r"service\.state_dir"):
        state_dir({})


@pytest.mark.parametrize("text", ["/" + "x" * 106, "/" + "ä" * 53])
def test_107_bytes_are_the_limit_of_a_socket_path(text):
    assert len(os.fsencode(text)) == 107
    assert checked_socket_path(Path(text)) == Path(text)
    for where in ({"DUCK_SOCKET": text + "x"}, {"XDG_RUNTIME_DIR": text}):
        with pytest.raises(StartupError, match="107"):
            socket_path(where)


paths = st.sampled_from(["", "/a", "/b/c", "relative", "/tmp/x"])
names = ["DUCK_SOCKET", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME"]


@given(st.dictionaries(st.sampled_from(names), paths))
def test_nothing_is_put_into_tmp_unless_somebody_says_so(environ):
    try:
        found = [socket_path(environ), state_dir(environ)]
    except StartupError:
        return
    for path in found:
        assert path.parts[:2] != ("/", "tmp") or "/tmp/x" in environ.values()
