"""A new user's first ten minutes, typed as docs/getting-started.md has them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from duckservice.config import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "getting-started.md").read_text()
BLOCKS = re.findall(r"```(sh|toml)\n(.*?)```", PAGE, re.DOTALL)
PRELUDE = """
set -eux
duck() {  # people are slower than a daemon starts
    for _ in $(seq 100); do test -S "$XDG_RUNTIME_DIR/duckd/duckd.sock" && break; sleep 0.1; done
    command duck "$@"
}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
mkdir -p ~/.config/duckd
"""


def script() -> str:
    """Return all that is typed after the installation, up to the user's own keys."""
    parts = [PRELUDE]
    (_, install), *others = BLOCKS
    assert "pip install -e ." in install
    *others, (kind, _) = others
    assert kind == "toml"
    for kind, text in others:
        if kind == "toml":
            parts.append(f"cat > ~/.config/duckd/config.toml <<'END'\n{text}END\n")
        else:
            parts.append(text)
    return "".join(parts)


@pytest.mark.slow
def test_the_first_ten_minutes_go_as_they_are_written(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("h")  # tmp_path's name is too long for a socket
    run = home / "run"
    run.mkdir(mode=0o700)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(run), "PATH": path}
    typed = subprocess.run(
        ["bash"],
        input=script(),
        cwd=home,
        env=environ,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    out = typed.stdout
    assert out.count("Why do ducks quack?") >= 3
    assert "duck-provider: mock" in out
    assert "provider_error 1" in out
    assert "1 restart  last crash: RestartRequested" in out
    assert len((home / "answers.jsonl").read_text().splitlines()) == 2
    assert (home / "openapi.json").read_text().startswith('{"openapi":"3.1')


def test_the_configurations_are_accepted() -> None:
    keys = {
        "OPENAI_API_KEY": "sk-" + "a" * 40,
        "ANTHROPIC_API_KEY": "sk-ant-" + "b" * 90,
    }
    texts = [text for kind, text in BLOCKS if kind == "toml"]
    assert len(texts) == 2
    for text in texts:
        config = parse(text, file="getting-started.md", environ=keys)
        assert config.warnings == ()
