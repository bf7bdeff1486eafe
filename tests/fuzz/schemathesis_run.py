"""Schemathesis against a real daemon: what our OpenAPI document allows, and what it does not.

    pip install schemathesis && python -m tests.fuzz.schemathesis_run --examples 50

A `duckd` of its own with the mock provider is asked over its Unix socket, through a
loopback port that ends with this program. What would end the fun is left out
(`LEFT_OUT`), and what only takes time is made short (`made_quick`). The exit code is
Schemathesis'; the daemon must have logged no traceback, and must stop in order.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from duckservice import __version__
from duckservice.gateway.app.openapi.document import make_document

ROOT: Final = Path(__file__).parents[2]

CONFIG: Final = """
[log]
format = "json"

[providers.mock]
models = ["mock-echo", "mock-*"]
breaker = { failure_threshold = 1000000 }

[retry]
max_attempts = 1

[budgets.ever]
limit_usd = 1000000.0
match = { tag = "bound=yes" }
"""

LEFT_OUT: Final = (
    r"/v1/(drain|shutdown|reload|queue/pause|events|tree/.*|jobs/.*/stream)$"
)
"""They end the daemon, stop all others, or last as long as it or a job that waits."""

CHECKS_LEFT_OUT: Final = (
    # 502 and 504 are answers of providers and deadlines; a 500 leaves a traceback.
    "not_a_server_error",
    # More than a schema says decides it: whether a model takes a body, a job is at an
    # end, a batch's file has lines. `--strict` shows what is left of it.
    "positive_data_acceptance",
    "negative_data_rejection",
)

MODELS: Final = ("mock-echo", "mock-tools", "mock-cut", "mock-fail")
_SAYING: Final = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"const": "user"}, "content": {"type": "string"}},
        "additionalProperties": False,
    },
}
_PIECE: Final = 1 << 16


def made_quick() -> dict[str, Any]:
    """Return the document with models that there are, and without long waits.

    So most requests get past the reading of their bodies, to where more can go wrong.
    """
    document = make_document(__version__)
    components = document["components"]
    schemas = components["schemas"]
    for name in (name for name in schemas if name.endswith("Request")):
        properties = schemas[name]["properties"]
        properties["model"] = {"type": "string", "enum": list(MODELS)}
        properties["stream"] = {"type": "boolean"}
        if "messages" in properties:
            properties["messages"] = _SAYING
            properties["max_tokens"] = {"type": "integer", "minimum": 1}
        if "input" in properties:
            properties["input"] = {"type": "string", "minLength": 1}
        schemas[name]["additionalProperties"] = False
    for name in ("Submission", "BulkLine"):
        schemas[name]["properties"]["request"] = {
            "$ref": "#/components/schemas/ChatRequest"
        }
    prefer = components["parameters"]["Prefer"]
    prefer["schema"] = {"type": "string", "pattern": r"^wait=0(\.0[0-9])?$"}
    return document


@contextmanager
def daemon(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Run `duckd` for the length of a block; it must end in order. Yield its socket and log."""
    path, socket_, log = folder / "config.toml", folder / "d.sock", folder / "log"
    path.write_text(CONFIG)
    command = [sys.executable, "-m", "duckservice"]
    command += ["--config", str(path), "--socket", str(socket_)]
    environ = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, env=environ, stderr=stderr)
    try:
        until = time.monotonic() + 20
        while not socket_.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        yield socket_, log
        print(
            f"duckd takes {_rss_mib(process.pid):.0f} MiB, has {_fds(process.pid)} fds"
        )
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        if code:
            raise RuntimeError(f"duckd ended with {code}")
    finally:
        process.kill()
        process.wait()


@contextmanager
def loopback(path: Path) -> Iterator[int]:
    """Pass bytes between a loopback port and the socket at *path*; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener, path), daemon=True).start()
        yield port


def _accept(listener: socket.socket, path: Path) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # the listener was closed
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(str(path))
        for source, sink in ((client, ours), (ours, client)):
            threading.Thread(target=_pass, args=(source, sink), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(_PIECE):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # One side has gone: the other is to notice.
        for each in (source, sink):
            each.close()


def tracebacks(log: Path) -> list[dict[str, Any]]:
    """Return what a bug has left in the log."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in map(json.loads, lines) if "exception" in line]


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def _fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print what was found, and return Schemathesis' exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=20, help="for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strict", action="store_true", help="all checks")
    parser.add_argument("rest", nargs="*", help="further options of `schemathesis run`")
    its = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        document = folder / "openapi.json"
        document.write_text(json.dumps(made_quick()))
        path, log = stack.enter_context(daemon(folder))
        port = stack.enter_context(loopback(path))
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(document)),
            *("--url", f"http://127.0.0.1:{port}", "--request-timeout", "10"),
            *("--max-examples", str(its.examples), "--seed", str(its.seed)),
            *("--exclude-path-regex", LEFT_OUT),
            *its.rest,
        ]
        if not its.strict:
            command += ["--exclude-checks", ",".join(CHECKS_LEFT_OUT)]
        environ = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.fuzz.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
        }
        # It leaves files behind where it works.
        run = subprocess.run(command, env=environ, cwd=folder, check=False)
        code = run.returncode
        found = tracebacks(log)
        for line in found:
            print(line["event"], line.get("path"), line["exception"], sep="\n")
        print(f"tracebacks in duckd's log: {len(found)}")
    return code or bool(found)


if __name__ == "__main__":
    sys.exit(main())
