"""The kernel says whose process is at the other end of a connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from duckservice.dashboard import door
from duckservice.dashboard.same_user import is_same_user
from duckservice.gateway.connection import Connection
from tests.gateway.serving import until

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
)
CLIENT, SERVER = ("127.0.0.1", 50000), ("127.0.0.1", 8731)


LOCAL, REMOTE = "0100007F:C350", "0100007F:221B"
MAPPED = "0000000000000000FFFF0000"
OTHER = 65_534
STATES = {
    "SYN_SENT": "02",
    "SYN_RECV": "03",
    "FIN_WAIT1": "04",
    "FIN_WAIT2": "05",
    "TIME_WAIT": "06",
    "CLOSE": "07",
    "CLOSE_WAIT": "08",
    "LAST_ACK": "09",
    "LISTEN": "0A",
    "CLOSING": "0B",
}


def table(path, uid, *, local=LOCAL, remote=REMOTE, state="01", inode=9):
    rest = f"{state} 00000000:00000000 00:00000000 00000000  {uid}  0 {inode}"
    path.write_text(f"{HEAD}\n   1: {local} {remote} {rest} 2 0000 20 0 0 10 -1\n")
    return path


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_process_of_our_own_is_known(family) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = "127.0.0.1" if family == socket.AF_INET else "::ffff:127.0.0.1"
        with socket.socket(family) as client:
            try:
                client.connect((host, server.getsockname()[1]))
            except OSError:
                pytest.skip("there is no IPv6 here")
            with server.accept()[0] as accepted:
                its = accepted.getpeername(), accepted.getsockname()
                assert is_same_user(*its)


def test_another_user_is_not(tmp_path) -> None:
    mine, other = os.geteuid(), os.geteuid() + 1
    file = tmp_path / "tcp"
    assert is_same_user(CLIENT, SERVER, tables=[table(file, mine)])
    assert is_same_user(CLIENT, SERVER, tables=[table(file, 0)])
    assert not is_same_user(CLIENT, SERVER, tables=[table(file, other)])


def test_our_own_end_of_the_connection_says_nothing(tmp_path) -> None:
    ours = table(
        tmp_path / "tcp", os.geteuid(), local="0100007F:221B", remote="0100007F:C350"
    )
    assert not is_same_user(CLIENT, SERVER, tables=[ours])


def test_where_the_kernel_shows_nothing_the_token_has_to_do(tmp_path) -> None:
    assert is_same_user(CLIENT, SERVER, tables=[tmp_path / "none"])


def test_a_connection_that_is_not_listed_is_nobodys(tmp_path) -> None:
    file = table(tmp_path / "tcp", os.geteuid(), local="0100007F:C351")
    assert not is_same_user(CLIENT, SERVER, tables=[tmp_path / "none", file])


@pytest.mark.parametrize("mapped", ["", MAPPED])
@pytest.mark.parametrize("state", STATES)
def test_a_socket_that_is_not_open_both_ways_is_nobodys(
    tmp_path, state, mapped
) -> None:
    ends = {"local": mapped + LOCAL, "remote": mapped + REMOTE}
    file = table(tmp_path / "tcp", os.geteuid(), **ends)
    assert is_same_user(CLIENT, SERVER, tables=[file])
    for uid, inode in ((0, 0), (0, 9), (os.geteuid(), 9)):
        more = {"state": STATES[state], "inode": inode}
        file = table(tmp_path / "tcp", uid, **ends, **more)
        assert not is_same_user(CLIENT, SERVER, tables=[file])


@pytest.mark.parametrize("mapped", ["", MAPPED])
def test_a_socket_that_no_process_holds_is_nobodys(tmp_path, mapped) -> None:
    ends = {"local": mapped + LOCAL, "remote": mapped + REMOTE}
    file = table(tmp_path / "tcp", 0, **ends, inode=0)
    assert not is_same_user(CLIENT, SERVER, tables=[file])


def test_who_is_found_in_one_table_is_not_looked_for_in_the_next(tmp_path) -> None:
    gone = table(tmp_path / "tcp", 0, state="06", inode=0)
    other = table(tmp_path / "tcp6", 0)
    assert not is_same_user(CLIENT, SERVER, tables=[gone, other])
    assert is_same_user(CLIENT, SERVER, tables=[other, gone])


def test_a_table_that_cannot_be_read_for_once_says_no(tmp_path) -> None:
    assert not is_same_user(CLIENT, SERVER, tables=[tmp_path])


@pytest.mark.parametrize("how", [socket.SHUT_WR, None])
def test_a_client_that_has_shut_down_or_closed_is_nobodys(how) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        its = accepted.getpeername(), accepted.getsockname()
        assert is_same_user(*its)
        if how is None:
            client.close()
        else:
            client.shutdown(how)
        assert accepted.recv(1) == b""  # the kernel has taken note
        assert not is_same_user(*its)


def as_other_user(port, data) -> None:
    """Have a process of another user send *data* and close; return behind that."""
    if os.geteuid():
        pytest.skip("only root may start a process of another user")
    code = (
        # The codec is for the address; the other user may not read where it is.
        "import encodings.idna, os, socket, struct, sys; data = sys.stdin.buffer.read();"
        f" os.setuid({OTHER}); its = socket.create_connection(('127.0.0.1', {port}));"
        " its.sendall(data);"
        # It lingers until the kernel has taken the end, too, and made the socket root's.
        " how = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 10);"
        " its.setsockopt(*how); its.close()"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", code], input=data, timeout=20, check=True
    )


def test_another_user_who_has_closed_at_once_is_not_taken_for_root() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        as_other_user(server.getsockname()[1], b"quack")
        with server.accept()[0] as accepted:
            its = accepted.getpeername(), accepted.getsockname()
            assert accepted.recv(10) == b"quack"
            assert not is_same_user(*its)


async def test_an_action_of_another_user_who_has_closed_at_once_is_not_done(
    stage, monkeypatch
) -> None:
    said = list[bool]()
    # Else it may be seen to have gone before it is even asked who it is.
    monkeypatch.setattr(Connection, "hang_up", lambda _: None)

    def listening(*its):
        said.append(is_same_user(*its))
        return said[-1]

    monkeypatch.setattr(door, "is_same_user", listening)
    headers = [f"Origin: {stage.browser.origin}", "Duck-Dashboard: 1"]
    action = stage.browser.head("POST", "/v1/queue/pause", headers, None, None)
    # In this thread, so that nothing is accepted before it has closed.
    as_other_user(stage.dashboard.port, action)
    await until(lambda: said)
    assert said == [False]
    assert not (await stage.ask("GET", "/v1/queue"))["paused"]


async def test_the_kernel_is_asked_once_for_each_connection(stage, monkeypatch) -> None:
    asked = list[tuple]()

    def counting(*its):
        asked.append(its)
        return True

    monkeypatch.setattr(door, "is_same_user", counting)
    head = stage.browser.head("GET", "/", [], None, None)
    for connections in (1, 2):
        client = await stage.browser.connect()
        for _ in range(3):
            assert (await client.ask(head)).status == 200
        assert len(asked) == connections
    assert asked[0] != asked[1]


async def test_what_the_kernel_says_of_one_connection_says_nothing_of_another(
    stage, monkeypatch
) -> None:
    says = iter([True, False])
    monkeypatch.setattr(door, "is_same_user", lambda *_: next(says))
    head = stage.browser.head("GET", "/", [], None, None)
    ours, theirs = await stage.browser.connect(), await stage.browser.connect()
    assert (await ours.ask(head)).status == 200
    refused = await theirs.ask(head)
    assert (refused.status, b"open both ways" in refused.body) == (403, True)
    assert [(await its.ask(head)).status for its in (ours, theirs)] == [200, 403]


async def test_nobody_waits_while_the_kernel_is_asked_for_another(
    stage, monkeypatch
) -> None:
    asked, answer = threading.Event(), threading.Event()
    client, other = await stage.browser.connect(), await stage.browser.connect()
    head = stage.browser.head("GET", "/", [], None, None)
    assert (await other.ask(head)).status == 200

    def slow(*_):
        asked.set()
        assert answer.wait(20)
        return True

    monkeypatch.setattr(door, "is_same_user", slow)
    try:
        await client.send(head)
        await until(asked.is_set)
        assert (await other.ask(head)).status == 200
    finally:
        answer.set()
    assert (await client.response()).status == 200
