"""What `duck doctor` says with a daemon, without one, and of each thing it looks at."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import date

import pytest
import trustme

from duckservice.cli.doctor import (
    config as doctor_config,
    disk as doctor_disk,
    machine as doctor_machine,
    network as doctor_network,
    parts as doctor_parts,
    python as doctor_python,
    runtime as doctor_runtime,
    socket as doctor_socket,
)
from duckservice.cli.doctor.finding import Finding
from duckservice.cli.exits import TRY_AGAIN, Exit
from duckservice.cli.session import Session
from duckservice.config import (
    AuthConfig,
    CaFile,
    Config,
    ProviderConfig,
    Proxy,
    Secret,
    TelemetryConfig,
)
from tests.cli.fake_daemon import PROVIDERS, STATUS, TREE

CANARY = "canary-of-the-doctor-7d41c0"


def found(ended) -> dict:
    findings = json.loads(ended.out)
    by_subject = {f["subject"]: f for f in findings}
    assert len(by_subject) == len(findings), "a subject is told once"
    for finding in findings:
        assert set(finding) == {"subject", "verdict", "detail", "advice"}
        assert finding["verdict"] in ("ok", "warning", "failed", "skipped")
        assert finding["detail"]
        if finding["verdict"] == "failed":
            assert finding["advice"], f"{finding}: and what is to be done?"
    return by_subject


def write_config(duck, text: str, mode: int = 0o600):
    path = duck.directory / ".config" / "duckd" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


# The whole


def test_a_missing_daemon_alone_ends_as_for_every_command_with_what_to_do(duck):
    ended = duck("doctor", "--json")
    assert ended.status == 69
    daemon = found(ended)["daemon"]
    assert "no daemon answers" in daemon["detail"]
    assert daemon["advice"] == "start one with: duckd"
    assert [f for f, its in found(ended).items() if its["verdict"] == "failed"] == [
        "daemon"
    ]


def test_any_other_failure_is_a_1_without_a_daemon_too(duck):
    write_config(duck, "nonsense = 1\n[providers.mock]\n")
    ended = duck("doctor", "--json")
    assert ended.status == 1
    config = found(ended)["config"]
    assert config["verdict"] == "failed"
    assert "nonsense" in config["detail"]


def test_a_person_reads_what_to_do_below_what_was_found_and_a_sum_at_the_end(duck):
    shown = duck("doctor").out
    assert "\n" + " " * 10 in shown
    assert "-> start one with: duckd" in shown
    assert "1 failed" in shown.rstrip().splitlines()[-1]


def test_a_daemon_that_is_well_ends_with_0_though_there_are_warnings(duck, daemon):
    duck.socket.chmod(0o600)
    daemon.answers["GET /readyz"] = {"ready": True}
    daemon.answers["GET /v1/budgets"] = {"budgets": []}
    ended = duck("doctor", "--json")
    told = found(ended)
    assert ended.status == 0
    assert told["daemon"]["verdict"] == told["ready"]["verdict"] == "ok"
    assert told["role"]["detail"].startswith("admin")
    assert told["tree"]["verdict"] == "warning"
    assert "request_queue 2 times" in told["tree"]["detail"]


def test_what_the_daemon_does_not_know_is_skipped_and_no_failure(duck, daemon):
    duck.socket.chmod(0o600)
    ended = duck("doctor", "--json")
    assert ended.status == 0
    assert found(ended)["ready"]["verdict"] == "skipped"
    assert found(ended)["budgets"]["verdict"] == "skipped"


def test_a_daemon_that_is_not_ready_is_a_failure(duck, daemon):
    duck.socket.chmod(0o600)
    daemon.answers["GET /readyz"] = {
        "error": {"code": "unavailable", "message": "the store does not answer"}
    }
    daemon.status["GET /readyz"] = 503
    ended = duck("doctor", "--json")
    assert ended.status == 1
    assert "the store does not answer" in found(ended)["ready"]["detail"]


def test_a_submitter_is_told_its_role_and_nothing_that_it_may_not_know(duck, daemon):
    duck.socket.chmod(0o600)
    daemon.answers["GET /v1/tree"] = {
        "error": {"code": "permission_denied", "message": "only the owner"}
    }
    daemon.status["GET /v1/tree"] = 403
    ended = duck("doctor", "--json")
    assert ended.status == 0
    assert found(ended)["role"]["verdict"] == "skipped"
    assert found(ended)["role"]["detail"].startswith("submitter")
    asked = {question for question, _, _ in daemon.asked}
    assert not asked & {"GET /v1/providers", "GET /v1/budgets"}


def test_a_store_of_the_user_who_runs_the_daemon_is_no_failure_of_a_submitter(
    duck, daemon, monkeypatch
):
    duck.socket.chmod(0o600)
    state = duck.directory / "state"
    state.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(state, 4242, -1)
    store = {"ok": True, "path": str(state / "jobs.sqlite3")}
    store |= {"used_bytes": 1, "max_bytes": 2, "sqlite": "3.52.0"}
    daemon.answers["GET /v1/status"] = STATUS | {"store": store}
    owner = state.stat().st_uid
    monkeypatch.setattr(doctor_disk.os, "geteuid", lambda: owner + 1)
    told = found(duck("doctor", "--json"))
    assert told["state"]["verdict"] == "skipped"
    assert "store file" not in told


def test_nothing_is_changed_by_looking(duck, daemon):
    duck.socket.chmod(0o600)
    assert duck("doctor", "--deep").status == 0
    assert all(question.startswith("GET ") for question, _, _ in daemon.asked)
    assert "check" not in " ".join(question for question, _, _ in daemon.asked)


def test_what_serves_the_socket_and_is_no_duckd_is_told(duck, daemon):
    duck.socket.chmod(0o600)
    daemon.answers["GET /v1/version"] = ["no", "duck"]
    ended = duck("doctor", "--json")
    assert found(ended)["daemon"]["verdict"] == "failed"


# The config and its keys


def test_a_key_s_source_is_named_and_no_key_is_shown(duck):
    key = duck.directory / "key"
    key.write_text(CANARY)
    key.chmod(0o600)
    duck.environ["DUCK_TEST_KEY"] = CANARY
    write_config(
        duck,
        f"""
[providers.a]
adapter = "openai"
api_key = "file:{key}"
[providers.b]
adapter = "openai"
api_keys = ["env:DUCK_TEST_KEY", "env:DUCK_OTHER:{CANARY}"]
[providers.c]
adapter = "openai"
api_key = "{CANARY}"
[providers.d]
adapter = "openai"
api_key = "credential:openai"
""",
    )
    for argv in (["doctor"], ["doctor", "--json"]):
        ended = duck(*argv)
        assert CANARY not in ended.out + ended.err
    told = found(duck("doctor", "--json"))
    assert told["key a"]["detail"] == f"file:{key}: is there"
    assert told["key b[0]"]["detail"] == "env:DUCK_TEST_KEY: is there"
    assert told["key b[1]"]["detail"] == "env:DUCK_OTHER: is there"
    assert "itself" in told["key c"]["detail"]
    assert told["key d"]["verdict"] == "skipped"


@pytest.mark.parametrize(
    ("mode", "verdict", "words"),
    [(0o600, "ok", ""), (0o640, "failed", "0640"), (None, "failed", "No such file")],
)
def test_a_key_file_is_there_and_private_or_is_a_failure(duck, mode, verdict, words):
    key = duck.directory / "key"
    if mode is not None:
        key.write_text(CANARY)
        key.chmod(mode)
    write_config(duck, f'[providers.a]\nadapter = "openai"\napi_key = "file:{key}"\n')
    ended = duck("doctor", "--json")
    finding = found(ended)["key a"]
    assert finding["verdict"] == verdict
    assert words in finding["detail"]
    assert found(ended)["config"]["verdict"] != "failed", "the rest is well"
    assert "state" in found(ended), "and says where the store is"


def test_a_variable_that_is_not_set_here_may_be_set_for_the_daemon(duck):
    write_config(duck, '[providers.a]\nadapter = "openai"\napi_key = "env:DUCK_NO"\n')
    ended = duck("doctor", "--json")
    assert found(ended)["key a"]["verdict"] == "warning"
    assert "service" in found(ended)["key a"]["advice"]


@pytest.mark.parametrize(
    ("mode", "verdict"), [(0o600, "ok"), (0o644, "ok"), (0o664, "failed")]
)
def test_a_config_that_others_can_change_is_a_failure(duck, mode, verdict):
    write_config(duck, '[providers.mock]\nadapter = "mock"\n', mode)
    assert found(duck("doctor", "--json"))["config mode"]["verdict"] == verdict


@pytest.mark.parametrize("text", ["[[[", "providers = 3", "\xff", "[providers]\na = 1"])
def test_no_config_is_so_broken_that_the_doctor_breaks(duck, text):
    path = write_config(duck, "")
    path.write_bytes(text.encode("latin-1"))
    ended = duck("doctor", "--json")
    # The socket is named; without, it would be in the file that nobody can read.
    assert ended.status == 1
    assert found(ended)["config"]["verdict"] == "failed"


def test_the_extras_that_the_config_needs_are_named(monkeypatch):
    config = Config(
        providers={
            "b": ProviderConfig(name="b", adapter="bedrock", region="eu-central-1"),
            "v": ProviderConfig(name="v", adapter="vertex", project="p"),
            "a": ProviderConfig(
                name="a", adapter="azure", auth=AuthConfig(type="entra")
            ),
            "k": ProviderConfig(name="k", adapter="bedrock", api_key=Secret("k")),
        }
    )
    monkeypatch.setattr(
        doctor_machine, "_is_installed", lambda name: name != "botocore"
    )
    finding = doctor_machine.of_extras(config, {})
    assert (finding.verdict, finding.advice) == (
        "failed",
        "pip install 'duckservice[aws]'",
    )
    finding = doctor_machine.of_extras(config, {"AWS_BEARER_TOKEN_BEDROCK": "x"})
    assert finding.verdict == "ok"
    assert finding.detail.startswith("needed, and there: azure, gcp")
    telemetry = TelemetryConfig(otlp_endpoint="http://127.0.0.1:4318")
    traced = Config(providers=config.providers, telemetry=telemetry)
    assert (
        "azure, gcp, otel"
        in doctor_machine.of_extras(traced, {"AWS_BEARER_TOKEN_BEDROCK": "x"}).detail
    )
    proxies = doctor_machine.of_proxies({"HTTPS_PROXY": "x"}, traced)
    assert "library of aws, azure, gcp does" in proxies.detail


# The machine


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 10, 9), "failed"), ((3, 11, 0), "ok"), ((3, 13), "ok")],
)
def test_a_python_that_is_too_old_is_a_failure(version, verdict):
    assert doctor_python.of_python(version).verdict == verdict


def test_packages_are_held_against_what_the_project_asks_for(monkeypatch):
    versions = {"root": "1.0", "good": "2.10", "old": "1.9.9", "new": "1.0.1"}
    needs = ["good>=2.9,<3", "old>=1.10", "new>=0.5,<1", "gone", 'x>=1; extra == "y"']

    def version(name):
        if name not in versions:
            raise importlib_metadata.PackageNotFoundError(name)
        return versions[name]

    import importlib.metadata as importlib_metadata

    monkeypatch.setattr(importlib_metadata, "version", version)
    monkeypatch.setattr(importlib_metadata, "requires", lambda _: needs)
    told = {f.subject: f for f in doctor_python.of_packages("root")}
    assert {s: f.verdict for s, f in told.items()} == {
        "root": "ok",
        "old": "failed",
        "new": "failed",
        "gone": "failed",
        "packages": "ok",
    }
    assert told["packages"].detail == "good 2.10"
    assert told["old"].advice == "pip install 'old>=1.10'"


def test_authorities_that_duckd_does_not_obey_are_told():
    assert doctor_python.of_trust({}).verdict == "ok"
    finding = doctor_python.of_trust({"SSL_CERT_FILE": "/x"})
    assert (finding.verdict, "SSL_CERT_FILE" in finding.detail) == ("warning", True)


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(1024, "warning"), (2048, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_a_limit_of_open_files_below_its_own_connections_is_warned_about(
    limit, verdict
):
    assert doctor_machine.of_open_files(limit, "here").verdict == verdict


def test_the_limit_of_the_daemon_counts_where_there_is_one():
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
    )
    try:
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (777, 777))
        finding = doctor_machine._open_files(child.pid)
    finally:
        child.communicate(b"\n", timeout=20)
    assert (finding.verdict, "777" in finding.detail) == ("warning", True)
    assert doctor_machine._open_files(child.pid).verdict == "skipped", "it has gone"


def test_a_clock_before_the_installation_is_wrong():
    assert doctor_machine.of_clock(2_000_000_000.0, 1_999_999_000.0).verdict == "ok"
    assert doctor_machine.of_clock(86_400.0, 1_999_999_000.0).verdict == "failed"


def test_a_proxy_is_named_by_its_variable_and_not_by_its_url():
    environ = {"HTTPS_PROXY": f"http://me:{CANARY}@proxy.example", "NO_PROXY": "x"}
    finding = doctor_machine.of_proxies(environ, Config.default())
    assert (finding.verdict, CANARY in finding.detail) == ("warning", False)
    assert finding.detail.startswith("HTTPS_PROXY: duckd does not use it")
    assert finding.advice.endswith('proxy = "env:HTTPS_PROXY"')
    assert doctor_machine.of_proxies({"NO_PROXY": "x"}, None).verdict == "ok"


@pytest.mark.parametrize(
    ("as_of", "verdict"),
    [(date(2026, 11, 1), "ok"), (date(2026, 6, 1), "warning"), (None, "warning")],
)
def test_a_price_list_grows_old(as_of, verdict):
    assert doctor_machine.of_prices(as_of, date(2026, 11, 21)).verdict == verdict


# The socket


@pytest.mark.parametrize(
    ("mode", "verdict"),
    [
        (0o700, "ok"),
        (0o755, "ok"),
        (0o770, "failed"),
        (0o1777, "warning"),
        (0o707, "failed"),
    ],
)
def test_a_directory_where_others_could_put_a_socket_is_told(tmp_path, mode, verdict):
    tmp_path.chmod(mode)
    assert doctor_socket.of_directory(tmp_path).verdict == verdict


def test_a_link_in_the_place_of_the_directory_is_a_failure(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    assert doctor_socket.of_directory(tmp_path / "link").verdict == "failed"


def test_a_directory_of_another_user_is_warned_about_by_name(tmp_path, monkeypatch):
    if os.geteuid() == 0:
        os.chown(tmp_path, 4242, -1)
    else:
        monkeypatch.setattr(doctor_socket.os, "geteuid", lambda: os.getuid() + 1)
    finding = doctor_socket.of_directory(tmp_path)
    assert finding.verdict == "warning"
    assert f"user {tmp_path.stat().st_uid}" in finding.detail


def test_a_socket_that_nobody_serves_is_told_from_none_and_from_a_file(duck):
    path = duck.socket
    assert "there is none" in doctor_socket.of_socket(path, answers=False).detail
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    path.chmod(0o600)
    finding = doctor_socket.of_socket(path, answers=False)
    assert (finding.verdict, "nobody answers" in finding.detail) == ("warning", True)
    path.unlink()
    path.write_text("x")
    assert doctor_socket.of_socket(path, answers=False).verdict == "failed"


def test_a_lock_is_told_to_be_held_only_while_somebody_holds_it(tmp_path):
    lock = tmp_path / "x.lock"
    assert list(doctor_socket.of_lock("lock", lock)) == []
    lock.write_text("4242\n")
    assert [f.verdict for f in doctor_socket.of_lock("lock", lock)] == ["ok"]
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (finding,) = doctor_socket.of_lock("lock", lock)
    assert (finding.verdict, "process 4242" in finding.detail) == ("failed", True)
    with lock.open() as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and it was let go


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_stands_in_a_lock_s_place_holds_nobody_up(tmp_path, kind):
    lock = tmp_path / "x.lock"
    if kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(tmp_path / "elsewhere")
    (finding,) = doctor_socket.of_lock("lock", lock)
    assert finding.verdict == ("failed" if kind == "pipe" else "skipped")


def test_the_doctor_goes_on_where_the_config_is_not_toml(duck):
    del duck.environ["DUCK_SOCKET"]
    path = write_config(duck, "[log]\n\nlevel = loud\n")
    ended = duck("doctor", "--json")
    findings = found(ended)
    assert findings["config"]["verdict"] == "failed"
    assert "at line 3, column 9" in findings["config"]["detail"]
    assert {"socket", "socket path", "daemon"} <= set(findings)
    assert ended.err.startswith(f"duck: warning: {path} is not TOML")


def test_the_doctor_goes_on_where_the_config_that_was_named_is_not_there(duck):
    del duck.environ["DUCK_SOCKET"]
    ended = duck("doctor", "--json", "--config", "/nowhere/config.toml")
    findings = found(ended)
    assert findings["config"]["verdict"] == findings["socket"]["verdict"] == "failed"


def test_all_that_is_wrong_in_the_config_is_told_and_its_place_once(duck):
    path = write_config(duck, '[queue]\nmax_sise = 1\n[log]\nlevel = "loud"\n')
    detail = found(duck("doctor", "--json"))["config"]["detail"]
    assert detail.count(str(path)) == 1
    assert "queue.max_sise: an unknown key" in detail
    assert "log.level" in detail


def test_a_daemon_that_does_not_answer_in_time_is_advised_on(duck, monkeypatch):
    def get(*_):
        raise Exit("the daemon did not answer in time", TRY_AGAIN)

    monkeypatch.setattr(Session, "get", get)
    assert "kill -USR1" in found(duck("doctor", "--json"))["daemon"]["advice"]


def test_a_config_that_is_a_pipe_holds_nobody_up(duck):
    path = write_config(duck, "")
    path.unlink()
    os.mkfifo(path)
    ended = duck("doctor", "--json")
    assert ended.status == 1
    assert "no regular file" in found(ended)["config"]["detail"]


def test_a_socket_path_that_the_kernel_cannot_take_is_a_failure(duck):
    duck.environ["DUCK_SOCKET"] = "/tmp/" + "x" * 120
    ended = duck("doctor", "--json")
    assert ended.status == 1
    assert "125 bytes" in found(ended)["socket"]["detail"]


# The disk


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("ext4", "ok"),
        ("btrfs", "ok"),
        ("nfs4", "warning"),
        ("cifs", "warning"),
        ("fuse.sshfs", "warning"),
        ("tmpfs", "warning"),
        ("", "skipped"),
    ],
)
def test_a_file_system_without_locks_to_rely_on_is_warned_about(kind, verdict):
    assert doctor_disk.of_file_system(kind).verdict == verdict


def test_the_innermost_mount_is_the_one_that_counts(tmp_path, monkeypatch):
    inner = tmp_path / "a b"
    inner.mkdir()
    spaced = str(inner).replace(" ", "\\040")
    table = (
        "1 0 8:1 / / rw - ext4 /dev/x rw\n"
        f"3 1 8:1 / {spaced} rw - nfs4 host:/z rw\n"
        f"2 1 8:1 / {tmp_path} rw shared:1 - xfs /dev/y rw\n"
        f"4 1 8:1 / {tmp_path}x rw - cifs host:/z rw\n"
    )
    monkeypatch.setattr(doctor_disk.Path, "read_text", lambda *_: table)
    assert doctor_disk._file_system(inner) == "nfs4"
    assert doctor_disk._file_system(tmp_path) == "xfs"


def database(path, rows=2000):
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (a TEXT)")
    db.executemany("INSERT INTO t VALUES (?)", [("x" * 200,)] * rows)
    db.commit()
    db.close()


def test_a_sound_database_is_read_through_and_not_changed(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    database(path)
    before = path.read_bytes()
    assert doctor_disk.of_content(path, answers=False).verdict == "ok"
    assert path.read_bytes() == before
    # Files of another user beside it would keep duckd from its start.
    assert [its.name for its in tmp_path.iterdir()] == [path.name]


def test_a_damaged_database_is_a_failure_and_left_as_it_is(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    database(path)
    content = bytearray(path.read_bytes())
    content[4096 * 5 : 4096 * 9] = b"\xa5" * 4096 * 4
    path.write_bytes(content)
    finding = doctor_disk.of_content(path, answers=False)
    assert (finding.verdict, "damaged" in finding.detail) == ("failed", True)
    assert path.read_bytes() == bytes(content)


def test_a_database_that_somebody_has_is_not_opened(tmp_path, monkeypatch):
    path = tmp_path / "jobs.sqlite3"
    database(path)
    monkeypatch.setattr(
        sqlite3, "connect", lambda *_, **__: pytest.fail("it was opened")
    )
    assert doctor_disk.of_content(path, answers=True).verdict == "skipped"
    with open(f"{path}.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert doctor_disk.of_content(path, answers=False).verdict == "skipped"


def test_a_log_that_is_still_to_be_worked_in_is_left_to_the_daemon(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    database(path)
    log = tmp_path / "jobs.sqlite3-wal"
    log.write_bytes(b"the newest jobs")
    assert doctor_disk.of_content(path, answers=False).verdict == "skipped"
    assert log.read_bytes() == b"the newest jobs"


# The network


def test_a_host_is_connected_to_and_sent_nothing():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        assert doctor_network.of_host("x", url).verdict == "ok"
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""
    finding = doctor_network.of_host("x", url)
    assert (finding.verdict, "refused" in finding.detail) == ("failed", True)


def test_a_name_that_nobody_knows_is_told_from_a_host_that_is_down():
    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    finding = doctor_network.of_host("x", "https://x.invalid", connect=unknown)
    assert "cannot be looked up" in finding.detail


@contextmanager
def answering(reply: bytes):
    """Yield a proxy that says *reply* to the first request, and what it was asked."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                heads.append(connection.recv(4096))
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = server.getsockname()[1]
            yield (
                Proxy(host="127.0.0.1", port=port, login=Secret(f"me:{CANARY}")),
                heads,
            )
        finally:
            thread.join(20)


@pytest.mark.parametrize(
    ("reply", "verdict", "said"),
    [
        (
            b"HTTP/1.1 200 OK\r\n\r\n",
            "ok",
            "x.example, port 443: the proxy http://127.",
        ),
        (b"HTTP/1.1 407 " + CANARY.encode() + b"\r\n\r\n", "failed", "(407)"),
        (
            b"HTTP/1.1 403 No\r\n\r\n",
            "failed",
            "no tunnel to x.example:443 (status 403)",
        ),
        (b"", "failed", "closed the connection"),
    ],
)
def test_a_proxy_is_asked_for_the_tunnel_and_nothing_goes_through(reply, verdict, said):
    with answering(reply) as (proxy, heads):
        finding = doctor_network.of_proxy("x", "https://x.example/v1", proxy)
    assert (finding.verdict, said in finding.detail) == (verdict, True), finding
    assert CANARY not in f"{finding}"
    assert heads[0].startswith(b"CONNECT x.example:443 HTTP/1.1\r\n")


def test_a_proxy_is_asked_where_the_config_names_one_and_the_host_is_elsewhere(
    monkeypatch,
):
    asked: list[str] = []

    def note(subject, *_):
        asked.append(subject)
        return Finding(subject, "ok", "")

    monkeypatch.setattr(doctor_network, "of_proxy", note)
    proxy = Proxy(host="p", port=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        its = {"far": "https://x.example", "here": here}
        config = Config(
            providers={
                name: ProviderConfig(
                    name=name, adapter="openai", base_url=url, proxy=proxy
                )
                for name, url in its.items()
            }
        )
        verdicts = [its.verdict for its in doctor_network.findings(config)]
    assert (asked, verdicts) == (["network far"], ["ok", "ok"])


def test_certificates_that_are_trusted_are_judged_by_their_dates(tmp_path):
    pem = trustme.CA().cert_pem.bytes().decode()
    file = CaFile(path=tmp_path / "ca.pem", pem=pem)
    its = ProviderConfig(name="up", adapter="openai", ca_file=file)
    config = Config(
        providers={"up": its, "other": ProviderConfig(name="other", adapter="groq")}
    )
    [good] = doctor_config.of_ca_files(config, 1_800_000_000.0)
    assert (good.verdict, good.subject) == ("ok", "ca_file up")
    assert "1 certificate, good until " in good.detail
    [old] = doctor_config.of_ca_files(config, 1e12)
    assert (old.verdict, "1 certificate of 1 expired" in old.detail) == (
        "warning",
        True,
    )


def test_a_proxy_that_only_the_daemon_knows_is_told_as_a_key_is(duck):
    write_config(duck, '[providers.openai]\nproxy = "env:A_PROXY_THAT_IS_NOT_SET"\n')
    told = found(duck("doctor", "--json"))
    assert told["config"]["verdict"] == "ok"
    assert told["key openai.proxy"]["verdict"] == "warning"
    write_config(duck, '[providers.openai]\nproxy = "env:P"\n')
    duck.environ["P"] = f"http://me:{CANARY}@p"
    ended = duck("doctor", "--json")
    assert "without a port" in found(ended)["config"]["detail"]
    assert CANARY not in ended.out


def test_the_network_is_left_alone_unless_asked_for(duck, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(
        doctor_network, "of_host", lambda subject, url: asked.append(url)
    )
    write_config(duck, '[providers.a]\nadapter = "ollama"\n')
    duck("doctor")
    assert asked == []


# What the daemon says


def test_a_tree_of_which_a_part_is_down_is_warned_about():
    finding = doctor_parts.of_tree(TREE)
    assert finding.verdict == "warning"
    assert "not running: providers (restarting)" in finding.detail
    assert "request_queue 2 times" in finding.detail
    well = {"path": "", "state": "running", "restarts": 0}
    assert doctor_parts.of_tree(well).verdict == "ok"


def test_each_provider_is_judged_by_its_breaker_switch_and_keys():
    openai, local = PROVIDERS["providers"]
    resting = {"key": "…abcd", "state": "used_up", "wait_s": 3.0}
    told = {
        name: next(iter(doctor_parts.of_providers({"providers": [its]})))
        for name, its in {
            "well": openai,
            "half": local,
            "off": openai | {"enabled": False},
            "keys": openai | {"keys": [resting]},
            "open": openai | {"breaker": "open", "breaker_wait_s": 29.0},
        }.items()
    }
    assert {name: its.verdict for name, its in told.items()} == {
        "well": "ok",
        "half": "warning",
        "off": "warning",
        "keys": "warning",
        "open": "warning",
    }
    assert "29s more" in told["open"].detail
    assert "…abcd is used up" in told["keys"].detail


def test_no_provider_left_to_ask_is_a_failure():
    openai, _ = PROVIDERS["providers"]
    gone = {"providers": [openai | {"breaker": "open"}, openai | {"enabled": False}]}
    assert [f.verdict for f in doctor_parts.of_providers(gone)][-1] == "failed"


def test_a_budget_that_is_used_up_says_until_when():
    budget = {
        "name": "all",
        "limit_usd": "5",
        "spent_usd": "4.9",
        "reserved_usd": "0.1",
        "until": "2026-11-22T00:00:00+00:00",
    }
    used, left = doctor_parts.of_budgets(
        {"budgets": [budget, budget | {"name": "b", "spent_usd": "1"}]}
    )
    assert (used.verdict, left.verdict) == ("warning", "ok")
    assert "2026-11-22 00:00 UTC" in used.detail


def test_what_went_wrong_in_the_last_hour_is_counted(duck, daemon):
    duck.socket.chmod(0o600)
    types = "request.exception,restart,breaker,store,budget"
    daemon.answers[f"GET /v1/events?since=1h&types={types}"] = [
        json.dumps(event)
        for event in (
            {"type": "request.exception"},
            {"type": "request.exception"},
            {"type": "restart", "what": "crashed"},
            {"type": "restart", "what": "started"},
            {"type": "breaker", "now": "open"},
            {"type": "breaker", "now": "closed"},
        )
    ]
    hour = found(duck("doctor", "--json"))["last hour"]
    assert hour["verdict"] == "warning"
    assert hour["detail"] == "2 x request failed, 1 x crash, 1 x breaker opened"


def test_a_paused_queue_and_a_daemon_that_drains_are_warned_about(duck, daemon):
    duck.socket.chmod(0o600)
    daemon.answers["GET /v1/status"] = STATUS | {"state": "draining"}
    assert found(duck("doctor", "--json"))["state of service"]["verdict"] == "warning"
    queue = STATUS["queue"] | {"paused": True}
    daemon.answers["GET /v1/status"] = STATUS | {"queue": queue}
    told = found(duck("doctor", "--json"))["state of service"]
    assert (told["verdict"], told["advice"]) == ("warning", "duck queue resume")


# systemd


UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "NRestarts": "0",
    "MainPID": "42",
}


@pytest.mark.parametrize(
    ("unit", "pid", "verdict", "words"),
    [
        ({}, 42, "ok", "is active (running)"),
        ({"ActiveState": "failed", "Result": "watchdog"}, None, "failed", "watchdog"),
        ({"NRestarts": "3"}, 42, "warning", "restarted 3 times"),
        ({}, 43, "warning", "another process, 43"),
        ({"LoadState": "not-found"}, 42, "ok", "no unit"),
    ],
)
def test_the_unit_is_judged_by_what_systemd_says(unit, pid, verdict, words):
    def ask(argv):
        its = UNIT | unit if "--system" in argv else {"LoadState": "not-found"}
        return "".join(f"{name}={value}\n" for name, value in its.items())

    finding = doctor_runtime.systemd(pid, ask=ask)
    assert finding.verdict == verdict
    assert words in finding.detail


def test_a_key_with_a_default_shows_no_default():
    finding = doctor_config.of_key("x", f"env:DUCK_NOT_SET:{CANARY}", {})
    assert CANARY not in f"{finding}"
