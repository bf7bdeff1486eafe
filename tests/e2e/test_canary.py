"""No secret of the config is in any byte that the daemon writes, whatever happens to it.

A real daemon has a canary in every place of its config where a secret may stand, and
upstreams that say back all that they are sent, whole and in pieces, plain and encoded,
in bodies, headers, status lines, streams and redirects. Its actors are crashed, its
config is reloaded, broken and reloaded again, it dumps its tasks, is looked at
through every endpoint and command, dies of a fatal signal, and starts again. Then all that it wrote is searched: its log, every
byte that its sockets sent, every file below its home, what its commands printed.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from pathlib import Path
from urllib.parse import quote

import attrs
import pytest
import trio

from duckservice.gateway.app import make_app
from tests.e2e import canaries
from tests.e2e.canaries import ALL, ENVIRON, FAULTS, PROVIDERS, Echo, found_in
from tests.e2e.process import PROJECT, DaemonProcess, starting
from tests.gateway.fake_service import FakeService
from tests.upstream import open_upstream

pytestmark = pytest.mark.slow

LOOKS = (
    *("/healthz", "/readyz", "/metrics", "/openapi.json", "/nothing"),
    *("/v1/version", "/v1/status", "/v1/tree", "/v1/providers", "/v1/queue"),
    *("/v1/costs", "/v1/costs?by=model", "/v1/budgets", "/v1/config", "/v1/models"),
    *("/v1/models?details=true", "/v1/jobs", "/v1/jobs?limit=500", "/v1/files"),
    *("/v1/batches", "/v1/performance"),
)
COMMANDS = (
    *(
        ["doctor"],
        ["doctor", "--json"],
        ["doctor", "--network"],
        ["status"],
        ["status", "--json"],
        ["tree"],
    ),
    *(["providers"], ["providers", "--json"], ["jobs"], ["cost"], ["models"]),
    *(["config", "check"], ["config", "show"], ["config", "show", "--json"]),
)


UNLIMITED = (
    *("/bin/sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh"),
    *(sys.executable, "-m", "duckservice"),
)
"""A daemon that may leave a core file, as far as its surroundings are concerned."""


@attrs.define
class Run:
    """A daemon, and all that it has written so far."""

    daemon: DaemonProcess
    folder: Path
    config: str
    written: dict[str, bytearray] = attrs.field(factory=dict)

    def keep(self, label: str, data: bytes) -> None:
        self.written.setdefault(label, bytearray()).extend(data + b"\n")

    async def ask(
        self, method: str, path: str, body: object = None, *headers: str, port: int = 0
    ) -> bytes:
        """Send one request, and keep and return every byte of what comes back."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: localhost:{port}",
            "Connection: close",
            f"Content-Length: {len(data)}",
            *headers,
        ]
        got = bytearray()
        with trio.move_on_after(5):
            async with await self.connected(port) as stream:
                await stream.send_all("\r\n".join([*lines, "", ""]).encode() + data)
                try:
                    async for piece in stream:
                        got += piece
                except trio.BrokenResourceError:
                    got += b"\n(reset)"
        self.keep(f"{method} {path}", bytes(got))
        return bytes(got)

    async def connected(self, port: int) -> trio.SocketStream:
        if port:
            return await trio.open_tcp_stream("127.0.0.1", port)
        return await trio.open_unix_socket(self.daemon.socket)

    async def watch(self) -> None:
        """Read the events, and keep them, until nobody listens any more."""
        request = b"GET /v1/events HTTP/1.1\r\nHost: duck\r\n\r\n"
        while True:
            try:
                async with await self.connected(0) as stream:
                    await stream.send_all(request)
                    async for piece in stream:
                        self.keep("GET /v1/events", piece)
            except OSError:
                return
            except trio.BrokenResourceError:
                await trio.sleep(0.01)

    async def command(self, *words: str) -> None:
        """Run ``duck``, and keep what it prints."""
        result = await trio.run_process(
            [
                *(sys.executable, "-m", "duckservice.cli", *words),
                *("--socket", str(self.daemon.socket)),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "DUCK_CONFIG": str(self.folder / "config.toml"),
                **environ(self.folder),
            },
            cwd=PROJECT,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        assert result.stdout + result.stderr
        self.keep(f"duck {' '.join(words)}", result.stdout + result.stderr)

    def leaks(self) -> dict[str, dict[str, bytes]]:
        """Return where canaries were found, in all that was written."""
        written = {label: bytes(data) for label, data in self.written.items()}
        written["the log"] = bytes(self.daemon.stderr)
        given = {"config.toml", "google.json", *canaries.FILES}
        for file in self.folder.rglob("*"):
            name = str(file.relative_to(self.folder))
            if file.is_file() and name not in given:
                written[name] = file.read_bytes()
        return {
            label: hits for label, its in written.items() if (hits := found_in(its))
        }


def environ(folder: Path) -> dict[str, str]:
    return {**ENVIRON, "CREDENTIALS_DIRECTORY": str(folder / "credentials")}


def chat(model: str, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": model, "messages": messages, "max_tokens": 9, **more}


async def all_faults(run: Run, *names: str) -> None:
    """Put each provider through each fault: a reply, a stream, and a job."""
    for fault in FAULTS:
        async with trio.open_nursery() as nursery:
            for name in names or PROVIDERS:
                nursery.start_soon(one_fault, run, f"{name}-fault-{fault}")


async def one_fault(run: Run, model: str) -> None:
    await run.ask("POST", "/v1/chat/completions", chat(model))
    await run.ask("POST", "/v1/chat/completions", chat(model, stream=True))
    await run.ask("POST", "/v1/messages", chat(model))
    embedding = {"model": model, "input": "hello"}
    await run.ask("POST", "/v1/embeddings", embedding)
    job = {"request": chat(model), "max_attempts": 1}
    reply = await run.ask(
        "POST", "/v1/jobs", {"request": job["request"]}, "Prefer: wait=1"
    )
    if (found := reply.partition(b'"id":"')[2]).startswith(b"job"):
        name = found.partition(b'"')[0].decode()
        for part in ("", "/result", "/attempts", "/request"):
            await run.ask("GET", f"/v1/jobs/{name}{part}")
        await run.ask("POST", f"/v1/jobs/{name}/cancel")
        await run.ask("GET", f"/v1/jobs/{name}/stream")


async def looked_at(run: Run) -> None:
    for path in LOOKS:
        await run.ask("GET", path)


async def crashed(run: Run) -> None:
    """Crash each actor, one after the other."""
    tree = json.loads((await run.ask("GET", "/v1/tree")).partition(b"\r\n\r\n")[2])

    def leaves(node: dict) -> list[str]:
        inner = node.get("children")
        return [node["path"]] if not inner else [x for n in inner for x in leaves(n)]

    paths = leaves(tree)
    assert len(paths) > 3 * len(PROVIDERS)
    for path in paths:
        reply = await run.ask("POST", f"/v1/tree/{quote(path)}/restart")
        # What is temporary, a job's run, may have come to its end.
        assert reply.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404")), reply
        await trio.sleep(0.01)


async def reloaded(run: Run) -> None:
    """Read good configs and bad ones, with secrets where none belong."""
    secret = ALL["CANARY_API_KEY"]
    config = run.folder / "config.toml"
    for bad in (
        f'api_key = "{secret}"',
        f'[providers."{secret}"]',
        f'[providers.new]\nadapter = "{secret}"',
        f'[providers.new]\nadapter = "openai"\n{secret} = 1',
        f'[providers.new]\nadapter = "openai"\nbase_url = "http://u:{secret}@h/"',
        f'[providers.new]\nadapter = "openai"\napi_key = "env:{secret}"',
        f'[providers.new]\nadapter = "openai"\napi_key = ["{secret}"]',
        f'[providers.new]\nadapter = "openai"\nheaders = {{ "a b" = "{secret}" }}',
        f'[providers.new]\nadapter = "openai"\nproxy = "http://u:{secret}@h/x"',
        f'[providers.new]\nadapter = "openai"\nca_file = "/{secret}"',
        f'[store]\nurl = "postgresql://u:{secret}@h/d"',
        f"this is no TOML {secret}",
        f'x = "{secret}',
    ):
        config.write_text(f"{run.config}\n{bad}\n")
        reply = await run.ask("POST", "/v1/reload")
        assert reply.startswith(b"HTTP/1.1 400"), reply
        run.daemon.signal(signal.SIGHUP)
        await run.command("config", "check")
    config.write_text(run.config)
    reply = await run.ask("POST", "/v1/reload")
    assert reply.startswith(b"HTTP/1.1 200"), reply
    run.daemon.signal(signal.SIGHUP)
    await run.daemon.wait_for("daemon.reloaded", 2)


async def asked_over_tcp(run: Run) -> None:
    """Come to the other listener, with and without its token."""
    [ready] = run.daemon.events("daemon.ready")
    port, token = int(ready["http"].rpartition(":")[2]), ALL["token.txt"]
    bearer = f"Authorization: Bearer {token}"
    encoded = base64.b64encode(token.encode()).decode()
    for headers in (
        [bearer],
        [f"x-api-key: {token}"],
        [f"{bearer}x"],
        [f"Authorization: Basic {encoded}"],
        [bearer, f"Origin: http://{token}"],
        [],
    ):
        for path in ("/v1/status", f"/v1/status?token={quote(token)}", f"/{token}"):
            await run.ask("GET", path, None, *headers, port=port)
    reply = await run.ask("GET", "/v1/status", None, bearer, port=port)
    assert reply.startswith(b"HTTP/1.1 200")


async def all_that_happens(run: Run) -> None:
    await all_faults(run)
    for fault in FAULTS:
        await one_fault(run, f"proxied-{fault}")
    await looked_at(run)
    await crashed(run)
    await all_faults(run, "keys", "oauth")
    await asked_over_tcp(run)
    await reloaded(run)
    await looked_at(run)
    for words in COMMANDS:
        await run.command(*words)
    for part in ("cmdline", "status", "limits"):
        place = f"/proc/{run.daemon.process.pid}/{part}"
        run.keep(place, await trio.Path(place).read_bytes())
    run.daemon.signal(signal.SIGUSR1)
    await run.daemon.wait_for("daemon.dumped")


async def test_no_secret_of_the_config_is_in_any_byte_that_the_daemon_writes(
    tmp_path,
) -> None:
    canaries.write_secrets(tmp_path)
    (tmp_path / "config.toml").touch(0o600)
    before = set(PROJECT.glob("core*"))
    async with open_upstream([[b"HTTP/1.1 200 OK\r\n\r\n"]], limit=120) as elsewhere:
        echo = Echo(elsewhere.base_url)
        async with open_upstream(echo, limit=120) as echo.upstream:
            config = canaries.config(tmp_path, echo.upstream.base_url)
            its = {"environ": environ(tmp_path), "program": UNLIMITED}
            async with starting(tmp_path, config, **its) as first:
                run = Run(first, tmp_path, config)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run.watch)
                    await all_that_happens(run)
                    nursery.cancel_scope.cancel()
                first.signal(signal.SIGABRT)
                assert await first.ended() == -signal.SIGABRT
                run.keep("the log of a crash", bytes(first.stderr))
            async with starting(tmp_path, config, **its) as run.daemon:
                await looked_at(run)
                run.daemon.signal(signal.SIGTERM)
                await run.daemon.ended()
            assert elsewhere.requests == [], "a redirect was followed"
    every_secret_was_sent(echo)
    everywhere = {(name, fault) for name in PROVIDERS for fault in FAULTS}
    assert everywhere <= echo.faults
    assert echo.tokens > 4
    assert echo.tunnels > len(FAULTS)
    assert echo.exports > len(FAULTS)
    assert len(first.events("attempt")) > 5 * len(everywhere)
    assert run.leaks() == {}
    assert set(PROJECT.glob("core*")) == before


def every_secret_was_sent(echo: Echo) -> None:
    """Assert that the upstreams were told the secrets, so that they could tell."""
    assert echo.upstream is not None
    sent = b"".join(its.head + its.body for its in echo.upstream.requests)
    found = set(found_in(sent))
    # A secret that signs is never sent; the listener's token is asked for here.
    assert set(ALL) - found == {"CANARY_AWS_SECRET", "token.txt"}


PLANTED = """
import sys
import duckservice.{module} as module
{leak}
from duckservice.start import main
sys.argv[0] = "duckd"
main()
"""

SHOWING = """
def announce(config, *_):
    key = config.providers["keys"].api_key.reveal()
    sys.stderr.write(key[3:15] + "\\n")
    module.log.info("daemon.ready")
module._announce = announce
"""

LEAKS = {
    "an error that is passed on as it is": (
        "providers.redaction",
        "module.Redactor.__call__ = lambda self, text: text",
        "POST /v1/chat/completions",
    ),
    "a reply that is passed on as it is": (
        "providers.redaction",
        "module.BodyMask.feed = lambda self, piece: piece",
        "POST /v1/chat/completions",
    ),
    "twelve characters in the log": (
        "process",
        SHOWING,
        "the log",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
async def test_a_leak_that_was_planted_is_found(tmp_path, name) -> None:
    module, leak, where = LEAKS[name]
    canaries.write_secrets(tmp_path)
    (tmp_path / "config.toml").touch(0o600)
    program = (sys.executable, "-c", PLANTED.format(module=module, leak=leak))
    echo = Echo("http://127.0.0.1:1")
    async with open_upstream(echo, limit=60) as echo.upstream:
        config = canaries.config(tmp_path, echo.upstream.base_url)
        async with starting(
            tmp_path, config, environ=environ(tmp_path), program=program
        ) as daemon:
            run = Run(daemon, tmp_path, config)
            for fault in ("good", "broken"):
                await one_fault(run, f"keys-fault-{fault}")
            assert where in run.leaks()


def test_every_endpoint_that_shows_something_is_looked_at() -> None:
    routes = make_app(FakeService()).routes
    shown = {r.path for r in routes if "GET" in r.methods and "{" not in r.path}
    assert shown - {path.partition("?")[0] for path in LOOKS} <= {"/v1/events"}


@pytest.mark.parametrize("name", ALL)
def test_the_detector_finds_each_canary_in_every_form(name) -> None:
    secret = ALL[name]
    for start in range(len(secret) - canaries.PIECE + 1):
        piece = secret[start : start + canaries.PIECE]
        assert name in found_in(b"...%b..." % piece.encode())
    for before in (b"", b"a", b"ab", b"abc"):
        data = before + secret.encode() + b":"
        for coded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
            assert name in found_in(b"..." + coded)
    assert name in found_in(quote(secret, safe="").encode())


def test_the_detector_finds_nothing_in_what_is_none() -> None:
    assert found_in(b"") == found_in(b"short") == {}
    assert found_in(Path(__file__).read_bytes()) == {}
