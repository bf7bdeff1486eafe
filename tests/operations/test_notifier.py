"""What is sent to systemd, byte by byte, and what is taken from the environment."""

from __future__ import annotations

import os

import pytest

from duckservice.host.systemd import STATUS_CHARS_MAX, Notifier
from tests.e2e.notify_socket import open_notify_socket


@pytest.fixture
def told(tmp_path):
    with open_notify_socket(f"{tmp_path}/notify") as its:
        yield its


def test_nothing_of_it_is_left_for_child_processes():
    environ = {
        "NOTIFY_SOCKET": "@there",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }
    notifier = Notifier.take(environ)
    assert environ == {"HOME": "/root"}
    assert (notifier.address, notifier.watchdog) == ("@there", 30.0)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "5000", "WATCHDOG_PID": "1"},
    ],
)
def test_a_watchdog_that_is_not_ours_is_none(environ):
    assert Notifier.take(dict(environ), pid=42).watchdog is None


def test_without_a_service_manager_all_is_told_to_nobody():
    notifier = Notifier.take({})
    assert notifier.ready("here")
    assert notifier.alive()


def test_a_status_cannot_smuggle_in_another_message(told):
    Notifier(told.address).status("not ready: a\nSTOPPING=1\rREADY=1")
    assert told.waiting() == [{"STATUS": "not ready: a STOPPING=1 READY=1"}]


def test_a_status_is_short(told):
    Notifier(told.address).status("x" * 100_000)
    assert told.waiting() == [{"STATUS": "x" * STATUS_CHARS_MAX}]


def test_a_full_socket_makes_nobody_wait(told):
    notifier = Notifier(told.address)
    sent = [notifier.alive() for _ in range(2000)]
    assert sent[0]
    assert not sent[-1], "the queue of the socket is bounded"
    assert len(told.waiting()) == sum(sent)
    assert notifier.alive(), "there is room again"


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative", "@", "\0", "/a" * 99])
def test_an_address_that_cannot_be_used_is_survived(address):
    assert not Notifier(address).alive()
