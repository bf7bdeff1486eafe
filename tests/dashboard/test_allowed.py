"""What is forwarded is a list; nothing that a browser writes gets beside it."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given, strategies as st

from duckservice.dashboard.allowed import Forward, NotForwarded, verdict

GETS = [
    "/v1/status", "/v1/tree", "/v1/providers", "/v1/queue", "/v1/budgets",
    "/v1/version", "/v1/costs", "/v1/jobs", "/v1/jobs/job_1",
    "/v1/jobs/job_1/attempts", "/v1/jobs/job_1/request", "/v1/jobs/job_1/result",
]  # fmt: skip
POSTS = [
    *(f"/v1/jobs/job_1/{action}" for action in ("cancel", "retry", "hold", "release")),
    *(f"/v1/providers/p/{to}" for to in ("enable", "disable", "reset", "check")),
    "/v1/queue/pause", "/v1/queue/resume",
    "/v1/tree/gateway/restart", "/v1/tree/providers/my%20one/client/restart",
]  # fmt: skip
WORDS = [
    "jobs", "jobs", "tree", "providers", "queue", "restart", "cancel", "..", ".", "",
    "%2e%2e", "%2F", "%252f", "a", "config", "drain", "pause", "\\", "%00", "costs",
]  # fmt: skip


@pytest.mark.parametrize("path", GETS)
def test_what_the_page_shows_is_forwarded_as_it_is(path) -> None:
    assert verdict("GET", path.encode(), b"") == Forward("GET", path)
    for method in ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        its = verdict(method, path.encode(), b"")
        assert isinstance(its, NotForwarded)
        assert (its.status, its.allow) == (405, "GET")


@pytest.mark.parametrize("path", POSTS)
def test_what_the_page_does_is_forwarded_as_it_is(path) -> None:
    its = verdict("POST", path.encode(), b"")
    assert isinstance(its, Forward)
    assert its.target == path
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        its = verdict(method, path.encode(), b"")
        assert isinstance(its, NotForwarded)
        assert (its.status, its.allow) == (405, "POST")


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(["GET", "POST"]))
def test_no_path_of_tricks_becomes_another_one(words, method) -> None:
    path = "/".join(["", "v1", *words])
    its = verdict(method, path.encode(), b"")
    if isinstance(its, Forward):
        assert path.startswith("/v1/")
        # The daemon takes apart what we did, and finds the same.
        assert its.target == quote(unquote(path), safe="/")
        assert not {"..", ".", ""} & set(its.target.split("/")[1:])
        plain = [path for path in GETS if method == "GET"] + POSTS * (method == "POST")
        ends = {path.split("/")[-1] for path in plain}
        assert its.target.split("/")[-1] in ends or its.target.startswith("/v1/jobs/")


@given(st.binary(max_size=40))
def test_bytes_of_any_kind_break_nothing(raw) -> None:
    assert isinstance(verdict("GET", b"/v1/jobs/" + raw, raw), Forward | NotForwarded)


def test_parameters_are_a_list_too() -> None:
    jobs = "state=completed&state=discarded&tag=a%3Db&limit=50&cursor=x%2By"
    its = verdict("GET", b"/v1/jobs", jobs.encode())
    assert isinstance(its, Forward)
    assert its.target == f"/v1/jobs?{jobs}"
    assert verdict("GET", b"/v1/costs", b"by=day&since=24h") == Forward(
        "GET", "/v1/costs?by=day&since=24h"
    )
    for path, query in (
        (b"/v1/jobs", b"nonsense=1"),
        (b"/v1/jobs", b"state"),
        (b"/v1/jobs", b"tag=%ff"),
        (b"/v1/jobs", b"state=\xff"),
        (b"/v1/jobs", b"tag=" + b"x" * 3000),
        (b"/v1/jobs/job_1", b"limit=1"),
        (b"/v1/status", b"x=y"),
    ):
        its = verdict("GET", path, query)
        assert isinstance(its, NotForwarded), query
        assert its.status == 400


def test_asking_a_provider_may_take_longer() -> None:
    quick = verdict("POST", b"/v1/providers/p/reset", b"")
    slow = verdict("POST", b"/v1/providers/p/check", b"")
    assert isinstance(quick, Forward)
    assert isinstance(slow, Forward)
    assert quick.patience == 10
    assert slow.patience == 60


@pytest.mark.parametrize(
    "part", ["", ".", "..", "%2e", "%2E%2e", "a%2Fb", "%5c", "%0a"]
)
def test_no_part_of_a_path_means_another_place(part) -> None:
    for method, path in (
        ("GET", f"/v1/jobs/{part}"),
        ("GET", f"/v1/jobs/{part}/result"),
        ("POST", f"/v1/providers/{part}/check"),
        ("POST", f"/v1/tree/a/{part}/restart"),
    ):
        its = verdict(method, path.encode(), b"")
        assert isinstance(its, NotForwarded)
        assert its.status == 404
