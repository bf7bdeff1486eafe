"""The kernel says whose process is at the other end of a connection."""

from __future__ import annotations

import os
import socket

import pytest

from duckservice.dashboard.same_user import is_same_user

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
)
CLIENT, SERVER = ("127.0.0.1", 50000), ("127.0.0.1", 8731)


def table(path, uid, *, local="0100007F:C350", remote="0100007F:221B"):
    row = (
        f"   1: {local} {remote} 01 00000000:00000000 00:00000000 00000000  {uid}  0 9"
    )
    path.write_text(f"{HEAD}\n{row}\n")
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
