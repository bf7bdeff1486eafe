import fcntl
import grp
import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

from duckservice.gateway.tcp_socket import bind_tcp
from duckservice.gateway.unix_socket import AlreadyRunning, bind_unix
from duckservice.paths import StartupError


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path / "run" / "d.sock"


def mode_of(path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_the_listener_can_be_connected_to_and_leaves_nothing_but_its_lock(path):
    with bind_unix(path) as listener:
        assert not listener.socket.getblocking()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))
    assert os.listdir(path.parent) == ["d.sock.lock"]
    assert listener.socket.fileno() == -1
    listener.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_mode_is_the_asked_one_whatever_the_umask(path, umask, mode):
    old = os.umask(umask)
    try:
        with bind_unix(path, mode):
            assert mode_of(path) == mode
            assert os.umask(umask) == umask
        assert mode_of(path.parent) == 0o700
        assert mode_of(f"{path}.lock") & 0o077 == 0
    finally:
        os.umask(old)


def test_the_socket_has_its_mode_from_its_first_moment(path, monkeypatch):
    modes = []

    class Watched(socket.socket):
        def bind(self, address):
            super().bind(address)
            modes.append(mode_of(address))

    monkeypatch.setattr(socket, "socket", Watched)
    old = os.umask(0)
    try:
        bind_unix(path).close()
        group = grp.getgrgid(os.getgid()).gr_name
        with bind_unix(path, 0o660, group):
            assert mode_of(path) == 0o660
    finally:
        os.umask(old)
    assert modes == [0o600, 0o600]


def test_a_group_may_pass_through_a_directory_made_for_it(path):
    group = grp.getgrgid(os.getgid())
    with bind_unix(path, 0o660, group.gr_name):
        assert os.lstat(path).st_gid == group.gr_gid
        assert mode_of(path.parent) == 0o710


def test_an_unknown_group_is_refused(path):
    with pytest.raises(StartupError, match="no-such-group"):
        bind_unix(path, 0o660, "no-such-group")


def test_a_path_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(StartupError, match="107") as caught:
        bind_unix(tmp_path / ("x" * 108))
    assert caught.value.exit_code == 78
    assert os.listdir(tmp_path) == []


def test_a_second_listener_is_told_who_has_the_first(path):
    with bind_unix(path):
        with pytest.raises(AlreadyRunning) as caught:
            bind_unix(path)
        assert caught.value.exit_code == 69
        assert caught.value.pid == os.getpid()
        assert str(path) in str(caught.value)
        assert str(os.getpid()) in str(caught.value)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))
    bind_unix(path).close()


def test_of_many_that_start_at_once_one_listens(path):
    path.parent.mkdir(mode=0o700)
    listeners, refused = [], []
    barrier = threading.Barrier(16)

    def start():
        barrier.wait()
        try:
            listeners.append(bind_unix(path))
        except AlreadyRunning as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(listeners), len(refused)) == (1, 15)
    listeners[0].close()


def test_the_lock_dies_with_its_process_and_not_before(path):
    program = (
        "import sys, pathlib, duckservice.gateway.unix_socket as u\n"
        "listener = u.bind_unix(pathlib.Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, os.fspath(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(AlreadyRunning) as caught:
            bind_unix(path)
        assert caught.value.pid == other.pid
        other.kill()
        other.wait()
    assert path.exists(), "it was killed, and left its socket"
    with bind_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


def test_a_live_socket_without_a_lock_is_left_alone(path):
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(path))
        other.listen(0)
        inode = os.lstat(path).st_ino
        with pytest.raises(AlreadyRunning):
            bind_unix(path)
        # That attempt's connection fills the backlog, and nobody accepts.
        with pytest.raises(AlreadyRunning):
            bind_unix(path)
        assert os.lstat(path).st_ino == inode


def test_a_stale_socket_is_replaced(path):
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(path))
    with bind_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_what_is_not_a_socket_is_left_alone(path, kind):
    path.parent.mkdir(mode=0o700)
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to("precious")
    with pytest.raises(StartupError, match="not a socket"):
        bind_unix(path)
    assert os.path.lexists(path)


def test_a_socket_that_is_not_ours_any_more_is_not_removed(path):
    listener = bind_unix(path)
    path.unlink()
    path.write_text("somebody else's")
    listener.close()
    assert path.read_text() == "somebody else's"


def test_a_directory_behind_a_symbolic_link_is_refused(tmp_path, path):
    (tmp_path / "real").mkdir(mode=0o700)
    path.parent.symlink_to("real")
    with pytest.raises(StartupError, match="symbolic link"):
        bind_unix(path)
    path.parent.unlink()
    path.parent.symlink_to("nowhere")
    with pytest.raises(StartupError, match="symbolic link"):
        bind_unix(path)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_may_write_is_refused(path, mode):
    path.parent.mkdir()
    path.parent.chmod(mode)
    with pytest.raises(StartupError, match="written by other users"):
        bind_unix(path)
    path.parent.chmod(mode | stat.S_ISVTX)
    bind_unix(path).close()


def test_a_directory_of_another_user_is_refused(path, monkeypatch):
    path.parent.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(path.parent, 12345, -1)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(StartupError, match="another user"):
        bind_unix(path)


def test_a_file_in_place_of_the_directory_is_refused(path):
    path.parent.write_text("")
    with pytest.raises(StartupError, match="not a directory"):
        bind_unix(path)


def test_a_lock_file_that_is_a_link_is_not_followed(path):
    path.parent.mkdir(mode=0o700)
    victim = path.parent / "victim"
    victim.write_text("precious")
    os.symlink(victim, f"{path}.lock")
    with pytest.raises(StartupError):
        bind_unix(path)
    assert victim.read_text() == "precious"


def test_a_lock_file_of_another_kind_is_refused(path):
    path.parent.mkdir(mode=0o700)
    os.mkfifo(f"{path}.lock")
    with pytest.raises(StartupError, match="not a lock file"):
        bind_unix(path)


def test_after_a_failed_start_the_lock_is_free_and_no_file_is_open(path):
    path.parent.mkdir(mode=0o700)
    path.write_text("in the way")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StartupError):
            bind_unix(path)
    assert len(os.listdir("/proc/self/fd")) == before
    lock = os.open(f"{path}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def test_neither_socket_nor_lock_is_inherited_by_children(path):
    with bind_unix(path) as listener:
        assert not os.get_inheritable(listener.socket.fileno())
        assert not os.get_inheritable(listener._lock)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "localhost", ""])
def test_tcp_is_for_loopback_addresses_only(host):
    with pytest.raises(StartupError, match=r"service\.http"):
        bind_tcp(host, 0)


def test_a_tcp_port_in_use_is_refused_and_port_0_is_a_free_one():
    with (
        bind_tcp("127.0.0.1", 0) as listener,
        pytest.raises(StartupError, match="in use"),
    ):
        bind_tcp("127.0.0.1", listener.port)
